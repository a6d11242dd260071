"""Runs of a day added up: how many of each result, how long they took, what they used; pure.

Durations are kept as a histogram of logarithmic buckets, eight to the octave, so that totals of days and
agents can be added up and still tell percentiles, to within 9 %.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rota.events import DURATION, NOTHING_RAN, Run

DAY = 86_400_000_000
"""Microseconds of a day; days are UTC's."""

_PER_OCTAVE = 8


class Group(NamedTuple):
    """Runs of an agent that ended in the same state, as far as they are counted.

    Attributes:
        state: the state.
        slots: how many they are; of `missed`, how many slots, not rows.
        cpu_usec: processor time of all, in microseconds.
        memory_peak: most memory that one had, in bytes.
        ended: when the last one ended, microseconds since 1970.
        took: how long each took whose duration is known, in microseconds.
        late: how late each began that served a slot, in microseconds.
    """

    state: str
    slots: int
    cpu_usec: int
    memory_peak: int
    ended: int
    took: Iterable[int]
    late: Iterable[int]


GROUP = f"""state, sum(coalesce(slots, 1)), coalesce(sum(cpu_usec), 0), coalesce(max(memory_peak), 0),
    coalesce(max(ended), 0), json_group_array({DURATION}), json_group_array(late)"""
"""A group in SQL, from runs grouped by agent and state; `group` takes it."""


def group(row: Sequence[Any]) -> Group:
    """Return a group that SQL selected."""
    *numbers, took, late = row
    known = ([value for value in json.loads(values) if value is not None] for values in (took, late))
    return Group(*numbers, *known)


def alone(run: Run) -> Group:
    """Return a run as a group of one."""
    took, late = ([] if value is None else [value] for value in (run.duration, run.late))
    return Group(
        run.state, run.slots or 1, run.cpu_usec or 0, run.memory_peak or 0, run.ended or 0, took, late
    )


def _bucket(usec: int) -> int:
    return round(math.log2(max(usec, 1)) * _PER_OCTAVE)


def _count(buckets: Counter[int], values: Iterable[int], times: int) -> int:
    """Count values in buckets, and return their sum."""
    total = 0
    for value in values:
        buckets[_bucket(value)] += times
        total += value
    return total


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

    def add(self, group: Group, times: int = 1) -> None:
        """Count runs that are over and filed; with times -1, take back what they were counted as."""
        self.states[group.state] += times * group.slots
        if group.state not in NOTHING_RAN:
            _count(self.late, group.late, times)
            self.took_usec += times * _count(self.took, group.took, times)
        self.cpu_usec += times * group.cpu_usec
        self.memory_peak = max(self.memory_peak, group.memory_peak)
        if group.state == "succeeded":
            self.last_success = max(self.last_success, group.ended)

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
        return self.states.total() - sum(self.states[state] for state in NOTHING_RAN)

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
                found.setdefault((state.agent, day_of(state)), Totals()).add(alone(state), times)
    return found
