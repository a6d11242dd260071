"""What remedies and recoveries come to since the ledger began: sums that only grow, for metrics. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

from rota.quantity import USEC

from .messages import Event

BOUNDS = tuple(USEC * seconds for seconds in (1, 5, 10, 30, 60, 150, 300, 600, 1800, 3600, 21_600, 86_400))
"""Upper bounds (microseconds, inclusive) of the buckets in which times to recover are counted."""
BEYOND = 2**63 - 1
"""Upper bound of the last bucket."""
BY = ("remedy", "itself")
"""By what something got well: after something was done, or without."""
RESULTS = ("healed", "failed", "unknown", "not-begun")
"""What came of remedies."""

Sum = tuple[str, str, int]
"""What is counted, its label, and by how much it grows."""


def gains(event: Event) -> Iterator[Sum]:
    """Yield what grows with an event."""
    data = event.data
    if event.kind == "remedy-judged" or (event.kind == "remedy-ended" and data["outcome"] == "not-begun"):
        word = str(data["remedy"]).partition(" ")[0]
        yield "remedies", f"{word} {data.get('verdict', 'not-begun')}", 1
    elif event.kind == "recovered":
        by, took = BY[0] if data["tried"] else BY[1], int(data["took"])
        index = bisect_left(BOUNDS, took)
        yield "recoveries", f"{by} {BOUNDS[index] if index < len(BOUNDS) else BEYOND}", 1
        yield "recovered", by, took


def table(sums: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """Return sums for metrics: `remedies` (remedy, result, count), `recoveries` (by what, buckets, sum).

    Args:
        sums: by what and label.
    """
    remedies = [
        {"remedy": label.partition(" ")[0], "result": label.partition(" ")[2], "count": count}
        for (what, label), count in sorted(sums.items())
        if what == "remedies"
    ]
    recoveries = [
        {
            "by": by,
            "buckets": [[bound, sums.get(("recoveries", f"{by} {bound}"), 0)] for bound in (*BOUNDS, BEYOND)],
            "usec": sums.get(("recovered", by), 0),
        }
        for by in BY
    ]
    return {"remedies": remedies, "recoveries": recoveries}
