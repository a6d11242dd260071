"""What the runs of an agent come to since the store began: sums that only grow, for metrics; pure.

`totals` corrects itself when the journal tells later how a run ended, and is forgotten by the day. A counter
of Prometheus must do neither: what falls is taken for a restart from nothing, and counted again. So here each
run is counted once, by the result with which it was filed first, and what is measured of it once, when it is
known. Of slots that were missed, a row grows: what it grows by is counted.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from rota.events import NOTHING_RAN, Run
from rota.quantity import USEC


def _microseconds(*seconds: float) -> tuple[int, ...]:
    return tuple(round(one * USEC) for one in seconds)


BEYOND = 2**63 - 1
"""Upper bound of the last bucket, for what is larger than all bounds."""


class Histogram(NamedTuple):
    """Something that is measured of a run, and counted in buckets.

    Attributes:
        bounds: upper bounds of the buckets, in microseconds; exact, and inclusive.
        total: the name of its sum.
        of: gives it, in microseconds; None if it is not known.
    """

    bounds: tuple[int, ...]
    total: str
    of: Callable[[Run], int | None]

    def bucket(self, usec: int) -> int:
        """Return the upper bound of the bucket that a value falls into."""
        index = bisect_left(self.bounds, usec)
        return self.bounds[index] if index < len(self.bounds) else BEYOND


HISTOGRAMS: Mapping[str, Histogram] = {
    "durations": Histogram(
        _microseconds(
            *(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150, 300, 600),
            *(1800, 3600, 7200, 14_400, 43_200, 86_400),
        ),
        "took_usec",
        lambda run: run.duration,
    ),
    "lateness": Histogram(
        _microseconds(0.1, 0.5, 1, 5, 30, 60, 300, 900, 3600, 21_600, 86_400),
        "late_usec",
        lambda run: None if run.state in NOTHING_RAN else run.late,
    ),
}

_SUMS: Mapping[str, Callable[[Run], int | None]] = {"cpu_usec": lambda run: run.cpu_usec}
"""What else is added up, by name."""


def _ended(run: Run) -> int:
    return 0 if run.state in NOTHING_RAN else run.ended or 0


_LATEST: Mapping[str, Callable[[Run], int]] = {
    "last_run": _ended,
    "last_success": lambda run: _ended(run) if run.state == "succeeded" else 0,
}
"""Moments of which the latest counts, microseconds since 1970; 0 for none."""

_ADDED = (*_SUMS, *(one.total for one in HISTOGRAMS.values()))
_COUNTED = attrgetter("state", "late", "slots", "duration", "cpu_usec")


def _no_buckets() -> dict[str, Counter[int]]:
    return {name: Counter() for name in HISTOGRAMS}


@dataclass(slots=True)
class Lifetime:
    """What a number of runs comes to.

    Attributes:
        results: how many ended in each state; of `missed`, how many slots.
        buckets: by the names of `HISTOGRAMS`: how many are in each bucket, by upper bounds; not cumulative.
        numbers: sums, and the moments of `_LATEST`, by name; 0 is left out.
        sample: of those whose duration is known the one filed last: its id, that duration, and when it ended.
    """

    results: Counter[str] = field(default_factory=Counter)
    buckets: dict[str, Counter[int]] = field(default_factory=_no_buckets)
    numbers: dict[str, int] = field(default_factory=dict)
    sample: tuple[str, int, int] | None = None

    def add(self, run: Run, known: Run | None = None) -> None:
        """Count a run that is filed.

        Args:
            run: the run.
            known: as it was counted before; None if it was not.
        """
        if run.state == "missed":
            counted = 0 if known is None else known.slots or 1
            self.results["missed"] += max((run.slots or 1) - counted, 0)
            return
        if known is None:
            self.results[run.state] += 1
        for name, histogram in HISTOGRAMS.items():
            value = histogram.of(run)
            if value is not None and (known is None or histogram.of(known) is None):
                self.buckets[name][histogram.bucket(value)] += 1
                self._sum(histogram.total, value)
                if name == "durations":
                    self.sample = (run.id, value, _ended(run))
        for name, of in _SUMS.items():
            value = of(run)
            if value is not None and (known is None or of(known) is None):
                self._sum(name, value)
        for name, moment in _LATEST.items():
            self._latest(name, moment(run))

    def _sum(self, name: str, value: int) -> None:
        if value:
            self.numbers[name] = self.numbers.get(name, 0) + value

    def _latest(self, name: str, at: int) -> None:
        if at > self.numbers.get(name, 0):
            self.numbers[name] = at

    def merge(self, later: Lifetime) -> None:
        """Add runs that were filed later."""
        self.results.update(later.results)
        for name, counts in later.buckets.items():
            self.buckets[name].update(counts)
        for name, value in later.numbers.items():
            (self._sum if name in _ADDED else self._latest)(name, value)
        self.sample = later.sample or self.sample

    def table(self) -> dict[str, Any]:
        """Return it as others see it: what is not in it is 0, or is not known."""
        known = zip(("run", "took", "ended"), self.sample or (), strict=False)
        buckets = {
            name: {str(bound): count for bound, count in counts.items()}
            for name, counts in self.buckets.items()
        }
        return {"results": dict(self.results), **buckets, **self.numbers, "sample": dict(known) or None}

    def to_json(self) -> str:
        """Return it as the store keeps it."""
        return json.dumps(self.table(), separators=(",", ":"))


def from_json(text: str) -> Lifetime:
    """Return what `Lifetime.to_json` wrote."""
    table: Mapping[str, Any] = json.loads(text)
    sample = table["sample"]
    return Lifetime(
        Counter(table["results"]),
        {
            name: Counter({int(bound): count for bound, count in table.get(name, {}).items()})
            for name in HISTOGRAMS
        },
        {name: table[name] for name in (*_ADDED, *_LATEST) if name in table},
        (sample["run"], sample["took"], sample["ended"]) if sample else None,
    )


def gains(before: Mapping[str, Run], after: Mapping[str, Run]) -> dict[str, Lifetime]:
    """Return what has to be added for each agent when runs change.

    Args:
        before: the runs as they were, by id; a new one is not in it.
        after: as they are.
    """
    found: dict[str, Lifetime] = {}
    for name, run in after.items():
        known = before.get(name)
        if known is not None and not known.filed:
            known = None
        if run.filed and (known is None or _COUNTED(run) != _COUNTED(known)):
            found.setdefault(run.agent, Lifetime()).add(run, known)
    return found
