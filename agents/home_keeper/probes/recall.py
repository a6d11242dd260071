"""What a probe takes up of what was open when the keeper ended, where it knows that by what it has seen."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ..words import Finding


def of_this_boot(findings: Iterable[Finding], problem: str) -> list[Finding]:
    """Return those with a problem that began since the machine was booted.

    What was lost before may have been taken away meanwhile, and is nobody's trouble.
    """
    booted = (time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1000
    return [one for one in findings if one.problem == problem and one.since >= booted]
