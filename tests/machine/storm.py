"""What a storm is judged by: the agents' own ledger against rota's record; pure.

The ledger is what agents wrote down themselves (storm_agent.py). They know nothing of rota, and rota nothing
of the ledger. A loss is a span of time whose entries the journal may have lost before rotad read them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Table = Mapping[str, Any]

SECOND = 1_000_000
_CLOCK = 50_000
"""Microseconds by which a program may see its own start before or after systemd does."""
_HANDLING = 15 * SECOND
"""Longer than systemd takes to start and to bury a process, on a machine that has much to do."""
_ASKED = SECOND
"""rotad asks systemd how a process ended in less time, unless the unit's next run is begun by then."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A run, as the agent itself tells it. Times are microseconds.

    Attributes:
        run: $INVOCATION_ID, "" of a start that came to no process.
        agent: whose run.
        outcome: a key of `EXPECTED`, or "exit N".
        start: when it began, since 1970.
        end: when it was about to end, since 1970; None if it did not get so far.
        span: from start to end by the monotonic clock.
    """

    run: str
    agent: str
    outcome: str
    start: int
    end: int | None = None
    span: int | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A span of time, microseconds since 1970, of which the journal may have lost entries."""

    begin: int
    end: int
    why: str

    def holds(self, moment: int) -> bool:
        """Tell whether a moment lies in it."""
        return self.begin <= moment <= self.end


# What is recorded of an outcome: fields of a run, and the values each may have.
EXPECTED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "ok": {"state": ("succeeded",), "status": (0, None), "signal": (None,)},
    "kill": {"state": ("killed",), "reason": ("signal",), "signal": ("SIGKILL",)},
    "core": {"state": ("killed",), "reason": ("signal", "core-dump"), "signal": ("SIGABRT",)},
    "term": {"state": ("killed",), "reason": ("signal",), "signal": ("SIGTERM",)},
    "timeout": {"state": ("timed-out",), "reason": ("timeout",)},
    "stop": {"state": ("killed",), "reason": ("stopped",)},
    "rota-stop": {"state": ("killed",), "reason": ("stopped",)},
    "condition": {"state": ("skipped",), "reason": ("exec-condition",)},
    "paused": {"state": ("skipped",), "reason": ("paused",)},
}


def expected(outcome: str) -> Mapping[str, tuple[Any, ...]]:
    """Return what must be recorded of an outcome."""
    if outcome.startswith("exit "):
        return {"state": ("failed",), "reason": ("exit-code",), "status": (int(outcome[5:]),)}
    return EXPECTED[outcome]


def read_ledger(agent: str, text: str) -> list[Entry]:
    """Return what an agent wrote down, in its order; a last line that was cut off does not count."""
    found: dict[str, Entry] = {}
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        said = json.loads(line)
        run = said["run"]
        if said["what"] == "start":
            found[run] = Entry(run, agent, said["outcome"], said["at"], span=-said["monotonic"])
        else:
            begun = found[run]
            span = said["monotonic"] + (begun.span or 0)
            found[run] = Entry(run, agent, begun.outcome, begun.start, said["at"], span)
    return [entry if entry.end is not None else _cut(entry) for entry in found.values()]


def _cut(entry: Entry) -> Entry:
    return Entry(entry.run, entry.agent, entry.outcome, entry.start)


def _lost(losses: Iterable[Loss], moment: int) -> bool:
    return any(loss.holds(moment) for loss in losses)


def _all_lost(losses: Iterable[Loss], entry: Entry) -> bool:
    """Tell whether the journal may have lost a run as a whole."""
    return any(loss.holds(entry.start) and (entry.end is None or loss.holds(entry.end)) for loss in losses)


def _lost_end(losses: Iterable[Loss], entry: Entry) -> bool:
    return entry.end is not None and _lost(losses, entry.end)


def _overtaken(ledger: Iterable[Entry], entry: Entry) -> bool:
    """Tell whether the unit's next run began before systemd could be asked about this one."""
    end = entry.end or 0
    return any(next_.agent == entry.agent and end <= next_.start < end + _ASKED for next_ in ledger)


def verdict(ledger: Sequence[Entry], runs: Sequence[Table], losses: Sequence[Loss]) -> list[str]:
    """Return what is wrong with the record of a storm that is over; nothing, if all is well.

    Args:
        ledger: every run as the agents tell it.
        runs: every run as rota tells it, as in `rota --json runs`.
        losses: when the journal lost entries; only then may a run be `unknown`, or missing altogether.
    """
    faults = [f"{run}: recorded {count} times" for run, count in Counter(_ids(runs)).items() if count > 1]
    recorded = {run["id"]: run for run in runs}
    told = {entry.run for entry in ledger if entry.run}
    for entry in ledger:
        if not entry.run:
            continue
        if entry.run in recorded:
            unasked = _lost_end(losses, entry) and _overtaken(ledger, entry)
            faults += _compare(entry, recorded[entry.run], losses, unasked=unasked)
        elif not _all_lost(losses, entry):
            faults.append(f"{entry.run}: lost: {entry.agent} ran ({entry.outcome})")
    faults += _paused(ledger, runs, losses)
    for run in runs:
        if run["id"] not in told and run.get("reason") != "paused":
            faults += _unheard_of(run, losses)
    return faults


def _ids(runs: Iterable[Table]) -> Iterator[str]:
    return (run["id"] for run in runs)


def _compare(entry: Entry, run: Table, losses: Sequence[Loss], *, unasked: bool) -> Iterator[str]:
    """Yield how a run's record differs from the agent's word.

    `unasked` is a run whose exit status only a lost entry told: then none is recorded.
    """
    name = f"{entry.run} ({entry.agent})"
    if run["agent"] != entry.agent:
        yield f"{name}: recorded of {run['agent']}"
    if run["state"] == "unknown":
        if entry.end is not None and not _lost_end(losses, entry):
            yield f"{name}: unknown, but the journal lost nothing of {entry.outcome}"
        if entry.end is None and not losses:
            yield f"{name}: unknown, but nothing was lost"
        return
    if entry.end is None and entry.outcome != "kill":
        yield f"{name}: {run['state']}, but it never came to its end"
        return
    if entry.outcome == "term" and run["state"] == "succeeded" and not run.keys() & {"status", "signal"}:
        return  # systemd's word; rotad was away while it could have asked how the process ended
    for field, values in expected(entry.outcome).items():
        if unasked and field in ("status", "signal") and run.get(field) is None:
            continue
        if run.get(field) not in values:
            yield f"{name}: {field} is {run.get(field)!r} of {entry.outcome}, in state {run['state']}"
    yield from _times(name, entry, run, losses)


def _times(name: str, entry: Entry, run: Table, losses: Sequence[Loss]) -> Iterator[str]:
    """Yield what is wrong with when a run began and how long it took."""
    if run["state"] == "skipped" or entry.span is None:
        return
    if not _lost(losses, entry.start) and not entry.start - _HANDLING < run["started"] < entry.start + _CLOCK:
        yield f"{name}: started at {run['started']}, by its own account at {entry.start}"
    took = run.get("took")
    if took is None:
        if not _lost(losses, entry.start):
            yield f"{name}: nobody knows how long it took"
    elif not entry.span - _CLOCK < took < entry.span + _HANDLING:
        yield f"{name}: took {took}, by its own account {entry.span}"


def _paused(ledger: Iterable[Entry], runs: Iterable[Table], losses: Sequence[Loss]) -> Iterator[str]:
    """Yield agents whose starts while paused are not all recorded, or are more than there were."""
    tried = Counter(entry.agent for entry in ledger if entry.outcome == "paused")
    sure = Counter(
        entry.agent for entry in ledger if entry.outcome == "paused" and not _lost(losses, entry.start)
    )
    found = Counter(run["agent"] for run in runs if run.get("reason") == "paused")
    for agent in tried | found:
        if not sure[agent] <= found[agent] <= tried[agent]:
            yield f"{agent}: {found[agent]} starts while paused, of {sure[agent]} to {tried[agent]}"


def _unheard_of(run: Table, losses: Sequence[Loss]) -> Iterator[str]:
    """Yield what is wrong with a run that no agent knows: right only if a loss cut it off at its start."""
    if run["state"] != "unknown" or not _lost(losses, run["started"]):
        yield f"{run['id']} ({run['agent']}): {run['state']}, but no such run is in the ledger"


# In the life of a run these happen once.
_ONCE = ("activated", "running", "exited", "failed", "deactivated", "skipped", "not-started", "lost")


def replay(events: Sequence[Table], followed: Sequence[Table]) -> list[str]:
    """Return what is wrong with numbered events, and with what a follower saw of them.

    Args:
        events: all there are, as in `rota --json events --since 0`.
        followed: what somebody got who followed, and came back after each interruption.
    """
    numbers = [event["seq"] for event in events]
    faults = []
    if numbers != list(range(1, len(numbers) + 1)):
        faults.append(f"numbers of {len(numbers)} events have gaps or begin at {numbers[:1]}")
    steps = Counter((event["run"], event["kind"]) for event in events if event["kind"] in _ONCE)
    faults += [f"{run}: {kind} {count} times" for (run, kind), count in steps.items() if count > 1]
    seen = [event["seq"] for event in followed]
    if seen != numbers[: len(seen)]:
        first = next((pair for pair in zip(numbers, seen, strict=False) if pair[0] != pair[1]), None)
        faults.append(f"the follower did not see each event once, in order: {first} (is, should be)")
    elif len(seen) < len(numbers):
        faults.append(f"the follower saw only {len(seen)} of {len(numbers)} events")
    by_number = {event["seq"]: event for event in events}
    faults += [f"event {e['seq']} was told otherwise" for e in followed if by_number.get(e["seq"]) != e]
    return faults


def added_up(runs: Iterable[Table], stats: Iterable[Table]) -> list[str]:
    """Return where `rota stats` and the runs themselves disagree."""
    states: dict[str, Counter[str]] = {}
    for run in runs:
        states.setdefault(run["agent"], Counter())[run["state"]] += 1
    told = {item["agent"]: item for item in stats}
    faults = []
    for agent in sorted(states.keys() | told.keys()):
        counted, item = states.get(agent, Counter()), told.get(agent, {})
        found = {state: item[state] for state in item if state in STATES}
        ran = counted.total() - counted["skipped"]
        if found != dict(counted) or item.get("runs") != ran:
            faults.append(f"{agent}: stats say {item.get('runs')} {found}, runs {ran} {dict(counted)}")
    return faults


STATES = ("succeeded", "failed", "timed-out", "killed", "skipped", "unknown")


_SAID = ("output_filed", "first_line", "last_line", "result", "result_error")


def _to_be(run: Table, now: Table | None) -> Table:
    """Return what must be recorded of a run that was filed: what it said may be filed later."""
    if now is None or run.get("output_filed", True):
        return run
    return {**run, **{key: now[key] for key in _SAID if key in now}}


def kept(before: Iterable[Table], after: Iterable[Table]) -> list[str]:
    """Return which runs that were over and filed are not what they were."""
    now = {run["id"]: run for run in after}
    return [
        f"{run['id']} ({run['agent']}): was {run}, is {now.get(run['id'])}"
        for run in before
        if run["state"] in STATES and run["state"] != "unknown" and run["archived"]
        if now.get(run["id"]) != _to_be(run, now.get(run["id"]))
    ]


def rebuilt(before: Sequence[Table], after: Sequence[Table], losses: Sequence[Loss]) -> list[str]:
    """Return what is wrong with a record made again from the journal.

    Args:
        before: the runs of the old record.
        after: those of the new one.
        losses: when the journal lost entries. After the last of them it is whole; of what is in one, a
            damaged file may give away more to who reads it from its head than to who goes on in it.
    """
    reach = max((loss.end for loss in losses), default=0)
    faults = [f"{run}: rebuilt {count} times" for run, count in Counter(_ids(after)).items() if count > 1]
    old, new = ({run["id"]: run for run in runs} for runs in (before, after))
    faults += [
        f"{name}: only in the rebuilt record"
        for name, run in new.items()
        if name not in old and not _lost(losses, run["started"])
    ]
    for run in before:
        again = new.get(run["id"])
        if run["started"] >= reach and again != _to_be(run, again):
            faults.append(f"{run['id']} ({run['agent']}): was {run}, is rebuilt as {again}")
        elif again is not None and again["state"] not in (run["state"], "unknown"):
            faults.append(f"{run['id']} ({run['agent']}): was {run['state']}, rebuilt {again['state']}")
    return faults
