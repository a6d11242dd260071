"""`python -m rota_agents NAME`: the same as `rota-agent NAME`."""

import sys

from . import main

sys.exit(main())
