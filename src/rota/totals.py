"""Runs of a day added up: how many of each result, how long they took, what they used; pure.

Durations are kept as a histogram of logarithmic buckets, eight to the octave, so that totals of days and
agents can be added up and still tell percentiles, to within 9 %.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rota import events
from rota.events import Run

DAY = 86_400_000_000
"""Microseconds of a day; days are UTC's."""

_PER_OCTAVE = 8


class Counted(NamedTuple):
    """What is counted of a run: fields of events.Run."""

    state: str
    started: int | None
    ended: int | None
    took: int | None
    cpu_usec: int | None
    memory_peak: int | None
    late: int | None = None
    slots: int | None = None

    @property
    def duration(self) -> int | None:
        """How long it took, in microseconds; None if that is not known, or nothing ran."""
        return events.duration(self.state, self.started, self.ended, self.took)


def counted(run: Run) -> Counted:
    """Return what is counted of a run."""
    return Counted(*(getattr(run, name) for name in Counted._fields))


def _bucket(usec: int) -> int:
    return round(math.log2(max(usec, 1)) * _PER_OCTAVE)


def _percentile(buckets: Counter[int], share: float) -> int | None:
    wanted = math.ceil(buckets.total() * share)
    seen = 0
    for bucket, count in sorted(buckets.items()):
        seen += count
        if seen >= wanted:
            return round(2 ** (bucket / _PER_OCTAVE))
    return None


@dataclass(slots=True)
class Totals:
    """What a number of runs comes to.

    Attributes:
        states: how many runs ended in each state; of `missed`, how many slots.
        took: durations in microseconds: how many are in each bucket.
        took_usec: sum of them.
        cpu_usec: processor time of all, in microseconds.
        memory_peak: most memory that one had, in bytes; 0 where it is not known.
        last_success: when the last one that succeeded ended, microseconds since 1970; 0 if none did.
        late: how late runs of a slot began, in microseconds: how many are in each bucket.
    """

    states: Counter[str] = field(default_factory=Counter)
    took: Counter[int] = field(default_factory=Counter)
    took_usec: int = 0
    cpu_usec: int = 0
    memory_peak: int = 0
    last_success: int = 0
    late: Counter[int] = field(default_factory=Counter)

    def add(self, run: Counted, times: int = 1) -> None:
        """Count a run that is over and filed; with times -1, take back what it was counted as."""
        # Slots that were missed are counted one by one, not by rows.
        self.states[run.state] += times * (run.slots or 1)
        if run.late is not None and run.state not in events.NOTHING_RAN:
            self.late[_bucket(run.late)] += times
        if run.duration is not None:
            self.took[_bucket(run.duration)] += times
            self.took_usec += run.duration * times
        self.cpu_usec += (run.cpu_usec or 0) * times
        self.memory_peak = max(self.memory_peak, run.memory_peak or 0)
        if run.state == "succeeded":
            self.last_success = max(self.last_success, run.ended or 0)

    def merge(self, other: Totals) -> None:
        """Add others up with these."""
        for state, count in other.states.items():
            self.states[state] += count
        for bucket, count in other.took.items():
            self.took[bucket] += count
        for bucket, count in other.late.items():
            self.late[bucket] += count
        self.took_usec += other.took_usec
        self.cpu_usec += other.cpu_usec
        self.memory_peak = max(self.memory_peak, other.memory_peak)
        self.last_success = max(self.last_success, other.last_success)

    @property
    def runs(self) -> int:
        """Runs that were started: without those that were skipped, and slots that were missed."""
        return self.states.total() - sum(self.states[state] for state in events.NOTHING_RAN)

    def percentile(self, share: float) -> int | None:
        """Return the duration that this share of runs did not exceed, in microseconds; None without runs."""
        return _percentile(self.took, share)

    def lateness(self, share: float) -> int | None:
        """Return how late this share of runs was at most, in microseconds; None without runs of a slot."""
        return _percentile(self.late, share)

    def to_json(self) -> str:
        """Return them as the store keeps them."""
        table: dict[str, Any] = {"states": self.states, "took": self.took}
        table |= {"late": self.late} if self.late else {}
        table |= {name: getattr(self, name) for name in _SUMS if getattr(self, name)}
        return json.dumps(table, separators=(",", ":"))


_SUMS = ("took_usec", "cpu_usec", "memory_peak", "last_success")


def from_json(text: str) -> Totals:
    """Return what `Totals.to_json` wrote."""
    table: Mapping[str, Any] = json.loads(text)
    took = Counter({int(bucket): count for bucket, count in table["took"].items()})
    sums = {name: table[name] for name in _SUMS if name in table}
    late = Counter({int(bucket): count for bucket, count in table.get("late", {}).items()})
    return Totals(states=Counter(table["states"]), took=took, late=late, **sums)


def day_of(run: Run) -> int:
    """Return the day a run is counted in: that of its end, else of its start; days since 1970."""
    return (run.ended or run.started or 0) // DAY


def changes(before: Mapping[str, Run], after: Mapping[str, Run]) -> dict[tuple[str, int], Totals]:
    """Return what has to be added to the totals of agents and days when runs change.

    Args:
        before: the runs as they were, by id; new ones are not in it.
        after: as they are.
    """
    found: dict[tuple[str, int], Totals] = {}
    for name, run in after.items():
        for state, times in ((before.get(name), -1), (run, 1)):
            if state is not None and state.filed:
                found.setdefault((state.agent, day_of(state)), Totals()).add(counted(state), times)
    return found
