"""An agent of the storm, inside the machine: notes what is to become of it, then sees to that.

It knows nothing of rota. What becomes of its Nth run is drawn by N, its name and a seed. Arguments: seed,
name, outcomes with their weights; with --gate first, it is asked whether it shall run (ExecCondition=).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from random import Random
from types import FrameType
from typing import NoReturn

LEDGER = Path(os.environ.get("STATE_DIRECTORY", ".")) / "ledger"
RUN = os.environ.get("INVOCATION_ID", "")
LONG = 300


def note(what: str, **more: str) -> None:
    """Append a line to the ledger, and let it reach the disk."""
    at, monotonic = time.time_ns() // 1000, time.monotonic_ns() // 1000
    line = json.dumps({"run": RUN, "what": what, "at": at, "monotonic": monotonic, **more}) + "\n"
    file = os.open(LEDGER, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(file, line.encode())
    os.fsync(file)
    os.close(file)


def ended(number: int, frame: FrameType | None) -> NoReturn:
    """Take a SIGTERM: of a stop, or when the time is up."""
    note("end")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit


def main() -> int:
    """Do what was drawn, and return the exit status."""
    gate = sys.argv[1] == "--gate"
    seed, name, *weighted = sys.argv[2 if gate else 1 :]
    told = LEDGER.read_text(encoding="ascii") if LEDGER.exists() else ""
    number = told.count('"what": "start"')
    chance = Random(f"{seed} {name} {number}")  # noqa: S311  (the same storm for the same seed)
    choices = [item.split("=") for item in weighted]
    outcome = chance.choices([key for key, _ in choices], [int(weight) for _, weight in choices])[0]
    if gate:
        if outcome == "condition":
            note("start", outcome=outcome)
            note("end")
        return int(outcome == "condition")
    signal.signal(signal.SIGTERM, ended)
    status = chance.randint(1, 99)
    note("start", outcome=f"exit {status}" if outcome == "exit" else outcome)
    time.sleep(LONG if outcome in ("timeout", "stop", "rota-stop") else chance.random() ** 2 / 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    note("end")
    if outcome in ("kill", "core", "term"):
        numbers = {"kill": signal.SIGKILL, "core": signal.SIGABRT, "term": signal.SIGTERM}
        os.kill(os.getpid(), numbers[outcome])
        time.sleep(LONG)
    return status if outcome == "exit" else 0


if __name__ == "__main__":
    sys.exit(main())
