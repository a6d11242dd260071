"""rotad-smart: asks drives for their own diagnosis, as root, and leaves what they said for the keeper.

As rotad-smart.service, which a timer starts: it reads no configuration, and takes nothing from anybody. What
smartctl(8) prints is not read here but by the keeper, which has no privileges.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from rota import program
from rota.errors import Exit, RotaError

from .checks.words import Malformed
from .probes.disks import said_by_drives

log = logging.getLogger("rotad-smart")

RUNTIME = "RUNTIME_DIRECTORY"
REPORT = "drives.json"


def leave(file: Path, said: dict[str, str]) -> None:
    """Write down what drives said, by their nodes, whole or not at all."""
    boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"boottime": boottime, "drives": said}), encoding="utf-8")
    beside.chmod(0o640)
    beside.replace(file)


async def _main(where: str | None) -> None:
    if not where:
        hint = "It is run by rotad-smart.service, which says where to write."
        raise RotaError("there is no runtime directory", hint, Exit.USAGE)
    try:
        leave(Path(where, REPORT), await said_by_drives())
    except Malformed as error:
        raise RotaError(str(error)) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run rotad-smart; return its exit code."""
    program.parser("rotad-smart", "Asks drives for their own diagnosis, as root").parse_args(argv)
    return program.run(log, _main(os.environ.get(RUNTIME)))
