"""Readings against limits: what opens a finding, what closes it, and why neither happens at the limit itself.

A check turns facts into readings and decides nothing about time. `settle` does, for all checks alike: a
finding opens when its reading has been bad for as long as its limit says, and closes when it is good, which
is further away than not bad. In between it stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rota.watches import Limit

from ..words import SEVERITIES, Finding, Target


def when_true(severity: str, hold: int = 0, calm: int = 0) -> tuple[Limit, ...]:
    """Return the limits of what is either so (1) or not (0)."""
    return (Limit(severity, 1, 0, hold, calm),)


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing measured, and what is to be said if it is bad.

    Attributes:
        target: of what.
        problem: which finding it may open.
        value: what was measured; None if that is not known, which opens nothing and closes nothing.
        limits: any number of them, each of another severity.
        summary: one line for people.
        details: what json.dumps takes.
    """

    target: Target
    problem: str
    value: float | None
    limits: tuple[Limit, ...]
    summary: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """What is remembered of a limit between readings.

    Attributes:
        open: whether its finding is open.
        since: when the bad time began that opened it; 0 if it is not open.
        turning: since when the value has been where it must stay for `hold` or `calm`; None if it is not.
        seen: when there was a value last.
    """

    open: bool
    since: int
    turning: int | None
    seen: int


NEW = Mark(open=False, since=0, turning=None, seen=0)
Key = tuple[Target, str, str]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a check remembers from one time to the next.

    Attributes:
        marks: by target, problem and severity.
        findings: those that are open, by target and problem.
    """

    marks: Mapping[Key, Mark] = field(default_factory=dict)
    findings: Mapping[tuple[Target, str], Finding] = field(default_factory=dict)


def recalled(findings: Iterable[Finding]) -> Memory:
    """Return what a check remembers of its findings that were open when the keeper ended.

    They close as others do: when the value is good, and not because it is not yet known to be bad.
    """
    found = sorted(findings, key=lambda one: (one.target, one.problem))
    marks = {
        (one.target, one.problem, severity): Mark(open=True, since=one.since, turning=None, seen=0)
        for one in found
        for severity in SEVERITIES[: SEVERITIES.index(one.severity) + 1]
    }
    return Memory(marks, {(one.target, one.problem): one for one in found})


def step(limit: Limit, mark: Mark, value: float, now: int, patience: int) -> Mark:
    """Return what is remembered after a value.

    Args:
        limit: what the value is held against.
        mark: what was remembered.
        value: what was measured.
        now: when, microseconds since 1970.
        patience: values further apart than so many microseconds do not make one span: the machine was asleep,
            its clock was set, or the probe was blind.
    """
    turns = limit.good(value) if mark.open else limit.bad(value)
    if not turns:
        return Mark(mark.open, mark.since, None, now)
    unbroken = mark.turning is not None and 0 <= now - mark.seen <= patience
    turning = mark.turning if mark.turning is not None and unbroken else now
    if now - turning < (limit.calm if mark.open else limit.hold):
        return Mark(mark.open, mark.since, turning, now)
    return Mark(not mark.open, 0 if mark.open else turning, None, now)


def settle(
    memory: Memory, readings: Iterable[Reading], now: int, patience: int = 2**62, late: int = 0
) -> tuple[Memory, tuple[Finding, ...]]:
    """Return what is remembered after `readings`, and all findings that are open then, sorted.

    What is no longer read at all is forgotten, and its findings with it: a disk that is not mounted any more
    is not full.

    Args:
        memory: what was remembered.
        readings: all of a check, each target and problem once.
        now: when they were made, microseconds since 1970.
        patience: see `step`.
        late: how much later than `calm` a finding may close, because of when looks are.
    """
    marks: dict[Key, Mark] = {}
    findings: dict[tuple[Target, str], Finding] = {}
    for reading in readings:
        name = (reading.target, reading.problem)
        keys = {limit: (*name, limit.severity) for limit in reading.limits}
        before = {limit: memory.marks.get(key, NEW) for limit, key in keys.items()}
        if reading.value is None:
            marks |= {keys[limit]: mark for limit, mark in before.items()}
            if name in memory.findings:
                findings[name] = memory.findings[name]
            continue
        after = {limit: step(limit, before[limit], reading.value, now, patience) for limit in keys}
        marks |= {keys[limit]: mark for limit, mark in after.items()}
        if is_open := {limit: mark for limit, mark in after.items() if mark.open}:
            was = memory.findings.get(name)
            findings[name] = Finding(
                target=reading.target,
                problem=reading.problem,
                severity=max((limit.severity for limit in is_open), key=SEVERITIES.index),
                since=was.since if was else min(mark.since for mark in is_open.values()),
                summary=reading.summary,
                details=reading.details,
                lag=max(limit.calm for limit in is_open) + late,
            )
    ordered = dict(sorted(findings.items()))
    return Memory(marks, ordered), tuple(ordered.values())
