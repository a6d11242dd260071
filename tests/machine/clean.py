"""`make clean`, its first step: remove machines left behind, and refuse while one is running."""

from __future__ import annotations

import sys

from tests.machine.machine import MACHINES, sweep

if __name__ == "__main__":
    sweep()
    running = [path.name for path in MACHINES.iterdir()]
    if running:
        sys.exit(f"clean: {', '.join(running)} still running here; end what uses it, then clean again")
