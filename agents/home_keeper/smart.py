"""rotad-smart: asks drives for their own diagnosis, as root, and leaves what they said for the keeper.

As rotad-smart.service, which a timer starts: it reads no configuration, and takes nothing from anybody. What
smartctl(8) prints is not read here but by the keeper, which has no privileges.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from .checks.words import Malformed
from .probes.disks import said_by_drives

RUNTIME = "RUNTIME_DIRECTORY"
REPORT = "drives.json"


def leave(file: Path, said: dict[str, str]) -> None:
    """Write down what drives said, by their nodes, whole or not at all."""
    boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"boottime": boottime, "drives": said}), encoding="utf-8")
    beside.chmod(0o640)
    beside.replace(file)


def main() -> int:
    """Run rotad-smart; return its exit status."""
    where = os.environ.get(RUNTIME)
    if not where:
        sys.stderr.write("rotad-smart: run by rotad-smart.service only, which says where to write\n")
        return 2
    try:
        leave(Path(where, REPORT), asyncio.run(said_by_drives()))
    except (Malformed, OSError) as error:
        sys.stderr.write(f"rotad-smart: {error}\n")
        return 1
    return 0
