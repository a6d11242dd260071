"""Keeps out what libraries import in passing and rota never uses; import it before them.

dbus-next takes GLib along where PyGObject is installed, and asyncio OpenSSL: together a third of
rotad's memory at rest and of the time `rota list` takes to start.
"""

from __future__ import annotations

import sys

for _name in ("gi", "ssl"):
    if _name not in sys.modules:
        sys.modules[_name] = None  # type: ignore[assignment]  # makes `import` raise ImportError
