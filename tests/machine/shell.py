"""`make shell`: a root shell in a booted machine with rota installed; the machine goes away on exit."""

from __future__ import annotations

import sys
import time

from tests.machine.install import install_rota
from tests.machine.machine import Machine
from tests.machine.rootfs import MachineError, say


def main() -> int:
    """Boot, install, and hand the terminal over."""
    try:
        started = time.monotonic()
        with Machine() as machine:
            install_rota(machine)
            say(f"ready after {time.monotonic() - started:.1f} s; `exit` removes the machine")
            return machine.shell()
    except MachineError as error:
        print(f"machine: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
