"""Events add up to runs: every sample of the journal, what only rotad tells, and any order of events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.events import BAD, KINDS, OVER, Event, Run, fold, signal_name
from tests.test_journal import KINDS_OF, entries, events

RUN = "0123456789abcdef0123456789abcdef"

OK = ("succeeded", None, None, None, None)
FAILED_3 = ("failed", "exit-code", 3, "NOTIMPLEMENTED", None)
FAILED_1 = ("failed", "exit-code", 1, "FAILURE", None)

# case: for each run its state, reason, status, the status's name, signal.
RUNS_OF: dict[str, list[tuple[str, str | None, int | None, str | None, str | None]]] = {
    "ok": [OK],
    "exec": [OK],
    "simple": [OK],
    "okshort": [OK],
    "successstatus": [OK],
    "cpu": [OK],
    "vm-cpu": [OK],
    "tmr": [OK],
    "fail": [FAILED_3, FAILED_3],
    "missing": [("failed", "exit-code", 203, "EXEC", None)],
    "baduser": [("failed", "exit-code", 217, "USER", None)],
    "signal": [("killed", "signal", None, None, "SIGABRT")],
    "killed": [("killed", "signal", None, None, "SIGKILL")],
    "vm-oom": [("killed", "oom-kill", None, None, "SIGKILL")],
    "timeout": [("timed-out", "timeout", None, None, "SIGTERM")],
    "timeoutabort": [("timed-out", "timeout", None, None, "SIGKILL")],
    "runtimemax": [("timed-out", "timeout", None, None, None)],
    "stopped": [("killed", "stopped", None, None, "SIGTERM")],
    "cond": [("skipped", "exec-condition", None, None, None)],
    "condfail": [("failed", "exit-code", None, None, None)],
    "condpath": [("skipped", "ConditionPathExists=/nonexistent", None, None, None)],
    "dep": [("failed", "dependency", None, None, None)],
    "assert": [("failed", "assert", None, None, None)],
    "limit": [OK, OK, OK],
    "kept": [OK, OK, ("skipped", "start-limit-hit", None, None, None)],
    "restart": [FAILED_1, FAILED_1, FAILED_1],
    "onfail": [],
}


def folded(found: Iterable[Event]) -> list[Run]:
    """Return the runs that events add up to, by their first event."""
    runs: dict[str, Run] = {}
    for event in found:
        runs[event.run] = fold(runs.get(event.run), event)
    return list(runs.values())


def event(kind: str, at: int = 1000, **data: Any) -> Event:
    return Event(kind, "a", RUN, at, data)


def run_of(*found: Event) -> Run:
    (run,) = folded(found)
    return run


def test_every_sample_has_its_runs() -> None:
    assert set(RUNS_OF) == set(KINDS_OF)


@pytest.mark.parametrize("case", RUNS_OF)
def test_runs_of_a_sample(case: str) -> None:
    found = events(case)
    runs = folded(found)
    assert [(run.state, run.reason, run.status, run.status_name, run.signal) for run in runs] == RUNS_OF[case]
    assert all(run.over for run in runs)
    nothing_to_file = {run.id for run in runs if run.state == "skipped"}
    assert {run.id for run in runs if run.archived} == nothing_to_file
    assert all(run.agent == case.removeprefix("vm-") for run in runs)


def dated(case: str, *messages: str) -> list[int]:
    """Return when systemd logged each entry of a sample whose message says so."""
    return [
        int(entry["_SOURCE_REALTIME_TIMESTAMP"])
        for entry in entries(case)
        if "UNIT" in entry and any(message in entry["MESSAGE"] for message in messages)
    ]


@pytest.mark.parametrize(
    ("case", "started", "ended"),
    [
        ("ok", "Starting", "Deactivated"),
        ("exec", "Starting", "Deactivated"),
        ("simple", "Started", "Deactivated"),
        ("fail", "Starting", "Failed with result"),
        ("timeout", "Starting", "Failed with result"),
        ("runtimemax", "Starting", "Failed with result"),
        ("stopped", "Starting", "Failed with result"),
        ("killed", "Starting", "Failed with result"),
        ("cond", "Starting", "Skipped due"),
        ("condpath", "skipped, unmet", "skipped, unmet"),
        ("dep", "Dependency failed", "Dependency failed"),
        ("limit", "Starting", "Deactivated"),
    ],
)
def test_when_a_run_began_and_ended(case: str, started: str, ended: str) -> None:
    runs = folded(events(case))
    assert [run.started for run in runs] == dated(case, started)
    assert [run.ended for run in runs] == dated(case, ended)


def test_an_end_told_again_does_not_move_the_end() -> None:
    """Having given up restarting, systemd logs the last failure once more, under the last run's id."""
    last = folded(events("restart"))[-1]
    twice = dated("restart", "Failed with result")[-2:]
    assert last.ended == twice[0] < twice[1]


def test_where_a_run_was_and_what_it_used() -> None:
    first = entries("vm-cpu")[0]
    (run,) = folded(events("vm-cpu"))
    assert (run.boot, run.cursor) == (first["_BOOT_ID"], first["__CURSOR"])
    assert (run.cpu_usec, run.memory_peak, run.io_read) == (2_911_760, 108_126_208, None)


TOLD: dict[str, tuple[list[Event], dict[str, Any]]] = {
    "begins": (
        [event("activated", 5, boot="b", cursor="c")],
        {"state": "activated", "started": 5, "boot": "b"},
    ),
    "runs": ([event("activated"), event("running")], {"state": "running", "ended": None}),
    "who asked": (
        [event("activated"), event("triggered", trigger="person", by="ada")],
        {"trigger": "person", "requested_by": "ada", "state": "activated"},
    ),
    "a timer": ([event("triggered", trigger="timer")], {"trigger": "timer", "requested_by": None}),
    "archived with a status": (
        [
            event("deactivated", 9),
            event("archived", code="exited", status=0, cpu_usec=7, io_read=1, io_write=2, memory_peak=3),
        ],
        {"state": "succeeded", "status": 0, "archived": True, "cpu_usec": 7, "io_read": 1, "io_write": 2}
        | {"memory_peak": 3, "ended": 9},
    ),
    "a success that was SIGTERM": (
        [event("deactivated", 9), event("archived", code="killed", status=15)],
        {"state": "killed", "reason": "signal", "signal": "SIGTERM", "status": None, "ended": 9},
    ),
    "archived does not know better than the journal": (
        [
            event("exited", command="ExecStart", code="exited", status=3, status_name="NOTIMPLEMENTED"),
            event("failed", result="exit-code"),
            event("archived", code="exited", status=0),
        ],
        {"state": "failed", "status": 3, "status_name": "NOTIMPLEMENTED"},
    ),
    "another command's exit is not the run's": (
        [event("exited", command="ExecStopPost", code="exited", status=1), event("deactivated")],
        {"state": "succeeded", "status": None},
    ),
    "stopped by a person, cleanly": (
        [
            event("running"),
            event("stop-requested", by="ada"),
            event("stopping"),
            event("deactivated", 8),
            event("stopped", 9),
        ],
        {"state": "killed", "reason": "stopped", "stopped_by": "ada", "ended": 8},
    ),
    "stopped, with an exit status": (
        [event("running"), event("stopping"), event("failed", 8, result="exit-code"), event("stopped", 9)],
        {"state": "killed", "reason": "stopped", "ended": 8},
    ),
    "too slow to stop": (
        [event("running"), event("stopping"), event("failed", result="timeout"), event("stopped")],
        {"state": "killed", "reason": "stopped"},
    ),
    "only its stop is known": ([event("stopped", 9)], {"state": "killed", "reason": "stopped", "ended": 9}),
    "a stop after a failure": (
        [event("failed", result="core-dump"), event("stopping"), event("deactivated")],
        {"state": "killed", "reason": "core-dump"},
    ),
    "lost": (
        [event("running"), event("lost", reason="the machine went down")],
        {"state": "unknown", "reason": "the machine went down", "ended": None},
    ),
    "lost, and found": (
        [event("running"), event("lost", reason="?"), event("failed", 9, result="watchdog")],
        {"state": "timed-out", "reason": "watchdog", "ended": 9},
    ),
    "not lost": ([event("deactivated"), event("lost", reason="?")], {"state": "succeeded", "reason": None}),
    "resources that are not known": ([event("resources", ip=5)], {"cpu_usec": None, "state": "activated"}),
    "a result of a later systemd": (
        [event("failed", result="brand-new")],
        {"state": "failed", "reason": "brand-new"},
    ),
    "restarted": (
        [event("failed", result="signal"), event("restart-scheduled")],
        {"state": "killed", "reason": "signal"},
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told(name: str) -> None:
    found, expected = TOLD[name]
    run = run_of(*found)
    assert {key: getattr(run, key) for key in expected} == expected


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM"), (99, "SIG99"), (0, "SIG0")])
def test_signal_names(number: int, name: str) -> None:
    assert signal_name(number) == name


def test_bad_ends_are_ends() -> None:
    assert BAD < OVER


# What events of each kind may carry; enough of them to reach each branch of fold.
_WORDS = st.sampled_from(
    ["exit-code", "signal", "timeout", "oom-kill", "exec-condition", "start-limit-hit", "x"]
)
_ENDS = st.fixed_dictionaries(
    {}, optional={"code": st.sampled_from(["exited", "killed", "dumped"]), "status": st.integers(0, 255)}
)
_DATA: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "exited": st.builds(
        lambda command, end: {"command": command, **end},
        st.sampled_from(["ExecStart", "ExecStopPost"]),
        _ENDS,
    ),
    "failed": st.fixed_dictionaries({"result": _WORDS}),
    "not-started": st.fixed_dictionaries({"result": st.sampled_from(["failed", "dependency", "assert"])}),
    "skipped": st.fixed_dictionaries({"reason": _WORDS}),
    "lost": st.fixed_dictionaries({"reason": _WORDS}),
    "resources": st.fixed_dictionaries(
        {}, optional={"cpu_usec": st.integers(0), "memory_peak": st.integers(0)}
    ),
    "archived": _ENDS,
    "triggered": st.fixed_dictionaries(
        {"trigger": st.sampled_from(["timer", "person"])}, optional={"by": _WORDS}
    ),
    "stop-requested": st.fixed_dictionaries({"by": _WORDS}),
    "served": st.fixed_dictionaries({"slot": st.integers(0, 2**60), "late": st.integers(0, 2**60)}),
    "output": st.fixed_dictionaries(
        {}, optional={"first_line": _WORDS, "last_line": _WORDS, "result": _WORDS}
    ),
}
# What is told of missed slots has an id of its own, which is no run's.
_EVENT = st.sampled_from(sorted(set(KINDS) - {"missed"})).flatmap(
    lambda kind: st.builds(
        lambda at, data: Event(kind, "a", RUN, at, data), st.integers(1, 2**60), _DATA.get(kind, st.just({}))
    )
)
_MANY = st.lists(_EVENT, min_size=1, max_size=10)


@settings(max_examples=60)
@given(_MANY)
def test_a_run_that_is_over_stays_over_and_its_end_stays(found: Sequence[Event]) -> None:
    run = fold(None, found[0])
    for step in found[1:]:
        before, run = run, fold(run, step)
        assert (run.id, run.agent, run.started) == (before.id, before.agent, before.started)
        assert run.over or not before.over
        assert run.archived or not before.archived
        assert run.ended == before.ended or before.ended is None or step.kind == "skipped"
        assert run.status is None or run.signal is None
    assert run.state in OVER | {"activated", "running"}
    assert run.ended is None or run.over


@settings(max_examples=50)
@given(_MANY, st.integers(0, 10))
def test_where_a_batch_ends_makes_no_difference(found: Sequence[Event], cut: int) -> None:
    whole = run_of(*found)
    run: Run | None = None
    for step in found[:cut]:
        run = fold(run, step)
    kept = Run(*run) if run else None  # as the store would give it back
    for step in found[cut:]:
        kept = fold(kept, step)
    assert kept == whole


@settings(max_examples=50)
@given(st.sampled_from(sorted(KINDS_OF)), st.data())
def test_a_journal_that_lost_entries_still_gives_runs(case: str, data: st.DataObject) -> None:
    found = events(case)
    kept = data.draw(st.permutations([event for event in found if data.draw(st.booleans())]))
    for run in folded(kept):
        assert run.state in OVER | {"activated", "running"}


def test_a_run_of_which_the_journal_has_but_the_filing_is_unknown() -> None:
    run = run_of(event("archived", result="success", code="exited", status=0))
    assert (run.state, run.reason, run.status) == ("unknown", "the journal does not say how it ended", 0)
    assert run.archived


def test_how_long_a_run_took_is_not_known_without_its_beginning() -> None:
    end = Event("deactivated", "a", RUN, 9000, {}, monotonic=900)
    begun = run_of(Event("activated", "a", RUN, 1000, {}, monotonic=100), end)
    assert (begun.state, begun.took) == ("succeeded", 800)
    lost = run_of(Event("exited", "a", RUN, 8000, {"command": "ExecStart"}, monotonic=800), end)
    assert (lost.state, lost.took) == ("succeeded", None)
