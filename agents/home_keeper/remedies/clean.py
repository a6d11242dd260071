"""Remedy `clean`: has rota-clean@.service, which is root's, free room on a disk, and reads what it did."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rota.clean_rules import CLEAN_UNIT
from rota.errors import RotaError

from ..checks.words import share, size
from ..cleaner.names import escaped
from ..words import Action
from .jobs import Jobs

RUNTIME = Path("/run/rota-clean")
_LONGEST = 200
_LARGEST = 1024 * 1024

Remedy = Callable[[Action], Awaitable[Mapping[str, Any]]]


def remedies(jobs: Jobs, runtime: Path = RUNTIME) -> Mapping[str, Remedy]:
    """Return this remedy, by its word."""

    async def clean(action: Action) -> Mapping[str, Any]:
        return await clean_disk(action.target.name, jobs, runtime)

    return {"clean": clean}


def unit_of(path: str) -> str:
    """Return the unit that cleans the disk mounted at a path.

    Raises:
        RotaError: no unit can have its name.
    """
    if not path.startswith("/"):
        raise RotaError(f'"{path}" is no path where a disk is mounted')
    unit = CLEAN_UNIT.format(escaped(path))
    if len(unit) > _LONGEST:
        raise RotaError(f"{path} is too long for the name of a unit")
    return unit


@dataclass(frozen=True, slots=True)
class _Start:
    """When a start was asked for: microseconds since boot, and since 1970."""

    boottime: int
    real: int

    @staticmethod
    def now() -> _Start:
        return _Start(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000, time.time_ns() // 1000)

    def before(self, report: Mapping[str, Any]) -> bool:
        """Tell whether a report is of what was waited for: it ended since, or was killed and began since."""
        if report.get("boottime") is None:
            return bool(report.get("began", 0) >= self.real)
        return bool(report["boottime"] >= self.boottime)


def _read(file: Path, path: str) -> dict[str, Any]:
    """Return what was written down; {} where there is nothing that can be read."""
    try:
        with file.open(encoding="utf-8") as opened:
            found = json.loads(opened.read(_LARGEST))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("target") == path else {}


async def clean_disk(path: str, jobs: Jobs, runtime: Path = RUNTIME) -> Mapping[str, Any]:
    """Clean the disk mounted at a path; return the report of rota-clean.

    Where it is being cleaned already, the end of that is waited for.

    Raises:
        RotaError: it could not be cleaned, or is still too full; what was freed is in the message.
    """
    unit, start = unit_of(path), _Start.now()
    done = await jobs.run(unit)
    report = _read(runtime / f"{escaped(path)}.json", path)
    fresh = bool(report) and start.before(report)
    freed = f"{size(report.get('freed', 0))} freed" if fresh else "nothing is known to be freed"
    if not done.good:
        raise RotaError(f"{unit} failed: {done.why()}; {freed}", f"See journalctl -u '{unit}'.")
    if not fresh or report.get("boottime") is None:
        raise RotaError(f"{unit} ended without a report", f"See journalctl -u '{unit}'.")
    if not report.get("enough"):
        full = share(report["after"]["used_percent"])
        errors = [f"{row['step']}: {row['error']}" for row in report["steps"] if "error" in row]
        more = f"; {'; '.join(errors)}" if errors else ""
        raise RotaError(
            f"{freed}, and {path} is still {full} full{more}",
            f"See journalctl -u '{unit}'; what else may go, [keeper.clean] says.",
        )
    return report
