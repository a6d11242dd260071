"""What the runs of an agent come to since the store began: sums that only grow, for metrics; pure.

`totals` corrects itself when the journal tells later how a run ended, and is forgotten by the day. A counter
of Prometheus must do neither: what falls is taken for a restart from nothing, and counted again. So here each
run is counted once, as it was when it was filed first.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rota.events import NOTHING_RAN, Run

_SECOND = 1_000_000

BOUNDS = tuple(
    round(seconds * _SECOND)
    for seconds in (
        *(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        *(60, 150, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400),
    )
)
"""Upper bounds of the buckets that durations are counted in, in microseconds; exact, and inclusive."""

BEYOND = 2**63 - 1
"""Of the last bucket, for what is longer than all of them."""


def bucket(usec: int) -> int:
    """Return the upper bound of the bucket that a duration falls into."""
    index = bisect_left(BOUNDS, usec)
    return BOUNDS[index] if index < len(BOUNDS) else BEYOND


def _ended(run: Run) -> int:
    return 0 if run.state in NOTHING_RAN else run.ended or 0


def _served(run: Run) -> bool:
    return run.late is not None and run.state not in NOTHING_RAN


_SUMS: Mapping[str, Callable[[Run], int]] = {
    "took_usec": lambda run: run.duration or 0,
    "cpu_usec": lambda run: run.cpu_usec or 0,
    "served": lambda run: int(_served(run)),
    "late_usec": lambda run: (run.late or 0) if _served(run) else 0,
}
"""Added up, by name, with what a run adds."""

_LATEST: Mapping[str, Callable[[Run], int]] = {
    "last_run": _ended,
    "last_success": lambda run: _ended(run) if run.state == "succeeded" else 0,
}
"""Moments of which the latest counts, microseconds since 1970; 0 for none."""


@dataclass(slots=True)
class Lifetime:
    """What a number of runs comes to.

    Attributes:
        results: how many ended in each state; of `missed`, how many slots.
        durations: how many took how long: by the upper bounds of buckets, not cumulative.
        numbers: those of `_SUMS` and `_LATEST`, by name; 0 is left out.
        sample: of those whose duration is known the one filed last: its id, that duration, and when it ended.
    """

    results: Counter[str] = field(default_factory=Counter)
    durations: Counter[int] = field(default_factory=Counter)
    numbers: dict[str, int] = field(default_factory=dict)
    sample: tuple[str, int, int] | None = None

    def add(self, run: Run) -> None:
        """Count a run that is filed."""
        one = Lifetime(Counter({run.state: run.slots or 1}))
        one.numbers = {name: value for name, of in {**_SUMS, **_LATEST}.items() if (value := of(run))}
        took = run.duration
        if took is not None:
            one.durations[bucket(took)] += 1
            one.sample = (run.id, took, _ended(run))
        self.merge(one)

    def merge(self, later: Lifetime) -> None:
        """Add runs that were filed later."""
        self.results.update(later.results)
        self.durations.update(later.durations)
        for name, value in later.numbers.items():
            known = self.numbers.get(name, 0)
            self.numbers[name] = known + value if name in _SUMS else max(known, value)
        self.sample = later.sample or self.sample

    def table(self) -> dict[str, Any]:
        """Return it as others see it: what is not in it is 0, or is not known."""
        known = zip(("run", "took", "ended"), self.sample or (), strict=False)
        return {
            "results": dict(self.results),
            "durations": {str(bound): count for bound, count in self.durations.items()},
            **self.numbers,
            "sample": dict(known) or None,
        }

    def to_json(self) -> str:
        """Return it as the store keeps it."""
        table = {"results": self.results, "durations": self.durations, **self.numbers}
        return json.dumps(table | {"sample": self.sample}, separators=(",", ":"))


def from_json(text: str) -> Lifetime:
    """Return what `Lifetime.to_json` wrote."""
    table: Mapping[str, Any] = json.loads(text)
    return Lifetime(
        Counter(table["results"]),
        Counter({int(bound): count for bound, count in table["durations"].items()}),
        {name: table[name] for name in (*_SUMS, *_LATEST) if name in table},
        tuple(table["sample"]) if table["sample"] else None,
    )


def gains(before: Mapping[str, Run], after: Mapping[str, Run]) -> dict[str, Lifetime]:
    """Return what has to be added for each agent when runs change: those that are filed now, and were not.

    Args:
        before: the runs as they were, by id; new ones are not in it.
        after: as they are.
    """
    found: dict[str, Lifetime] = {}
    for name, run in after.items():
        known = before.get(name)
        if run.filed and not (known is not None and known.filed):
            found.setdefault(run.agent, Lifetime()).add(run)
        elif known is not None and run.state == "missed" and (run.slots or 1) > (known.slots or 1):
            # The row of missed slots goes on.
            more = Counter({run.state: (run.slots or 1) - (known.slots or 1)})
            found.setdefault(run.agent, Lifetime()).merge(Lifetime(more))
    return found
