"""What drives said of themselves: read from the report of rotad-smart.service, which may ask them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..checks.disks import Drive, parse_smart
from ..checks.words import SECOND, Malformed, span
from . import Unavailable
from .disks import smartctl

REPORT = Path("/run/rotad-smart/drives.json")
_LARGEST = 64 * 1024 * 1024
_PATIENCE = 600 * SECOND
"""How long a look at all drives takes at most, and how late the first may be."""


def boottime() -> int:
    """Return microseconds since boot: no report is older than that, and nobody sets this clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Reported:
    """The latest report, and what the drives had to tell that are no longer in it."""

    def __init__(
        self,
        interval: int,
        file: Path = REPORT,
        *,
        now: Callable[[], int] = boottime,
        program: Callable[[], str | None] = smartctl,
    ) -> None:
        """Prepare to read.

        Args:
            interval: from one report to the next, microseconds.
            file: where it is.
            now: returns microseconds since boot.
            program: returns the path of smartctl, None where it is not.
        """
        self._interval = interval
        self._file = file
        self._now = now
        self._program = program
        self._made = now()
        self._seen: tuple[int, int] | None = None
        self._drives: dict[str, Drive] = {}

    async def __call__(self) -> tuple[Drive, ...]:
        """Return the drives; none where smartctl is not installed.

        Raises:
            Unavailable: there is no report, or an old one.
            Malformed: it is not as expected.
        """
        try:
            found = self._file.stat()
        except FileNotFoundError:
            found = None
        if found is not None and (found.st_ino, found.st_mtime_ns) != self._seen:
            self._made, drives = _read(self._file)
            self._drives = drives | {
                one.device: replace(one, unanswered="it is not there any more")
                for one in self._drives.values()
                if one.problems and one.device not in drives
            }
            self._seen = found.st_ino, found.st_mtime_ns
        age = self._now() - self._made
        if age > self._interval + 2 * _PATIENCE and self._program() is not None:
            raise Unavailable(f"rotad-smart.service has left nothing for {span(age)}; see its journal")
        return tuple(self._drives.values())


def _read(file: Path) -> tuple[int, dict[str, Drive]]:
    """Return when a report was made, microseconds since boot, and the drives by their nodes."""
    with file.open(encoding="utf-8") as opened:
        text = opened.read(_LARGEST)
    try:
        raw = json.loads(text)
        made, said = int(raw["boottime"]), dict(raw["drives"])
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(f"{file} is not as expected: {error}") from None
    return made, {str(device): parse_smart(str(device), str(answer)) for device, answer in said.items()}
