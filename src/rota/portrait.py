"""What `rota show` draws of an agent: its last results at a glance, and how open its sandbox is."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rota import analyze, output
from rota.errors import RotaError

RUNS, SHOWN = 30, 5
"""How many runs are drawn, and how many are listed."""

_LEVELS = "▁▂▃▅▇"


def exposure(unit: str) -> tuple[float | None, str]:
    """Return what `systemd-analyze security` gives a unit, 0 (safest) to 10; or None, and why not."""
    try:
        return analyze.exposure(Path(unit)).score, ""
    except (RotaError, OSError) as error:
        return None, f"not known: {error.message if isinstance(error, RotaError) else error.strerror}"


def sparkline(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return runs as a character each, oldest first: how long they took by height, their result by colour.

    Without colour, or where the terminal cannot show it, the marks of `rota list`.

    Args:
        runs: newest first, with the fields of a run.
    """
    over = [run for run in reversed(runs) if run["state"] not in ("activated", "running")]
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if not output.colour(sys.stdout) or encoding != "utf8":
        return "".join(mark for mark, _ in output.trend(run["state"] for run in over))
    heights = levels([run.get("took") for run in over])
    return "".join(
        output.painted(mark if height is None else _LEVELS[height], style)
        for height, (mark, style) in zip(heights, output.trend(run["state"] for run in over), strict=True)
    )


def levels(durations: Sequence[int | None]) -> list[int | None]:
    """Return durations (microseconds) as levels from the shortest to the longest, by their logarithm."""
    known = [math.log2(max(took, 1)) for took in durations if took]
    low, high = min(known, default=0.0), max(known, default=0.0)
    # Less than a factor of two apart is much the same.
    spread = max(high - low, 1.0)
    top = len(_LEVELS) - 1
    return [round((math.log2(took) - low) / spread * top) if took else None for took in durations]
