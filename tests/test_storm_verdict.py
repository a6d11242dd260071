"""The storm's verdict (tests/machine/storm.py): a record without fault, and each fault it must object to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.machine.storm import (
    EXPECTED,
    Entry,
    Loss,
    added_up,
    expected,
    kept,
    read_ledger,
    rebuilt,
    replay,
    verdict,
)

SECOND = 1_000_000
BEGIN = 1_795_000_000 * SECOND
LOSS = Loss(BEGIN + 10 * SECOND, BEGIN + 20 * SECOND, "vacuumed")
OUTCOMES = [*(outcome for outcome in EXPECTED if outcome != "paused"), "exit 7"]


def entry(outcome: str = "ok", at: float = 0, took: float | None = 1, run: str = "a" * 32) -> Entry:
    start = BEGIN + int(at * SECOND)
    if took is None:
        return Entry(run, "x", outcome, start)
    span = int(took * SECOND)
    return Entry(run, "x", outcome, start, start + span, span)


def record(of: Entry, **other: Any) -> dict[str, Any]:
    """Return what rota should have recorded of a run, changed; None takes a field away."""
    run: dict[str, Any] = {"id": of.run, "agent": of.agent, "started": of.start - 60_000, "archived": True}
    run |= {field: values[0] for field, values in expected(of.outcome).items()}
    if of.span is not None and run["state"] != "skipped":
        run["took"] = of.span + 80_000
    return {key: value for key, value in {**run, **other}.items() if value is not None}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_is_recorded_right(outcome: str) -> None:
    assert verdict([entry(outcome)], [record(entry(outcome))], []) == []


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("other", OUTCOMES)
def test_a_result_for_another_is_wrong(outcome: str, other: str) -> None:
    """Whichever two: but a stop is a stop, by whichever of the two ways."""
    faults = verdict([entry(outcome)], [record(replace(entry(other)))], [])
    alike = outcome == other or {outcome, other} == {"stop", "rota-stop"}
    assert bool(faults) is not alike


LOST = record(entry(), state="unknown", reason="the machine went down", took=None)
CASES: dict[str, tuple[list[Entry], list[dict[str, Any]], list[Loss], str]] = {
    "lost": ([entry()], [], [], "lost"),
    "lost, another time": ([entry()], [], [LOSS], "lost"),
    "lost though its start was before the loss": ([entry(at=5, took=8)], [], [LOSS], "lost"),
    "lost though it ended after the loss": ([entry(at=15, took=8)], [], [LOSS], "lost"),
    "doubled": ([entry()], [record(entry())] * 2, [], "2 times"),
    "another agent's": ([entry()], [record(entry(), agent="y")], [], "recorded of y"),
    "another status": ([entry("exit 7")], [record(entry("exit 7"), status=8)], [], "status is 8"),
    "green though it died": (
        [entry("term")],
        [record(entry("term"), state="succeeded", reason=None, status=0, signal=None)],
        [],
        "state is 'succeeded'",
    ),
    "unknown without reason": ([entry()], [LOST], [], "unknown"),
    "unknown, another time": ([entry()], [LOST], [LOSS], "unknown"),
    "cut off, and given a result": (
        [entry(at=15, took=None)],
        [record(entry(at=15))],
        [LOSS],
        "never came to",
    ),
    "still under way": ([entry()], [record(entry(), state="running")], [], "state is 'running'"),
    "never was": ([], [record(entry())], [], "no such run"),
    "never was, in a loss": ([], [record(entry(at=15))], [LOSS], "no such run"),
    "took no time": ([entry()], [record(entry(), took=0)], [], "took 0"),
    "took too long": ([entry()], [record(entry(), took=60 * SECOND)], [], "took 60000000"),
    "took nobody knows": ([entry()], [record(entry(), took=None)], [], "nobody knows"),
    "began too late": ([entry()], [record(entry(), started=BEGIN + SECOND)], [], "started at"),
    "a pause is not recorded": ([entry("paused", run="")], [], [], "0 starts while paused, of 1"),
    "a pause is doubled": (
        [entry("paused", run="")],
        [record(entry("paused", run=name * 32)) for name in "bc"],
        [],
        "2 starts while paused, of 1",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_it_objects_to(name: str) -> None:
    ledger, runs, losses, said = CASES[name]
    faults = verdict(ledger, runs, losses)
    assert [fault for fault in faults if said in fault], faults


ALLOWED: dict[str, tuple[list[Entry], list[dict[str, Any]]]] = {
    "lost as a whole": ([entry(at=12)], []),
    "its end lost": ([entry(at=5, took=10)], [record(entry(at=5), state="unknown", took=None)]),
    "its beginning lost": ([entry(at=15, took=10)], [record(entry(at=15, took=10), took=None)]),
    "cut off": ([entry(at=15, took=None)], [record(entry(at=15, took=None), state="unknown")]),
    "cut off before it wrote a word": ([], [record(entry(at=15), state="unknown")]),
    "a pause lost": ([entry("paused", at=15, run="")], []),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_loss_excuses(name: str) -> None:
    ledger, runs = ALLOWED[name]
    assert verdict(ledger, runs, [LOSS]) == []
    assert verdict(ledger, runs, []) != []


@pytest.mark.parametrize(("outcome", "field"), [("exit 7", "status"), ("kill", "signal")])
@pytest.mark.parametrize(("after", "of", "excused"), [(0.3, "x", True), (1.5, "x", False), (0.3, "y", False)])
def test_a_status_is_unknown_only_where_the_next_run_came_at_once(
    outcome: str, field: str, after: float, of: str, *, excused: bool
) -> None:
    """Where the journal lost the entry that tells it, systemd is asked: of the unit's last run alone."""
    one = entry(outcome, at=12)
    following = replace(entry(at=13 + after, run="b" * 32), agent=of)
    runs = [record(one, **{field: None}), record(following)]
    assert (verdict([one, following], runs, [LOSS]) == []) is excused
    assert verdict([one, following], runs, []) != []
    assert verdict([one, following], [record(one, state="unknown", took=None), runs[1]], [LOSS]) == []
    assert verdict([one, following], [record(one, **{field: 9}), runs[1]], [LOSS]) != []


def line(what: str, at: int, **more: Any) -> str:
    return json.dumps({"run": "r", "what": what, "at": at, "monotonic": at - 5, **more}) + "\n"


def test_the_ledger_is_read() -> None:
    whole = line("start", 100, outcome="ok") + line("end", 160)
    assert read_ledger("x", whole) == [Entry("r", "x", "ok", 100, 160, 60)]
    for cut in (whole[:-1], line("start", 100, outcome="ok")):
        assert read_ledger("x", cut) == [Entry("r", "x", "ok", 100)]
    assert read_ledger("x", whole[:10]) == []


def events(*numbers: int, kind: str = "archived") -> list[dict[str, Any]]:
    return [{"seq": number, "run": "r", "kind": kind} for number in numbers]


@pytest.mark.parametrize(
    ("every", "followed", "said"),
    [
        (events(1, 3), events(1, 3), "gaps"),
        (events(2, 3), events(2, 3), "gaps"),
        (events(1, 2, kind="failed"), events(1, 2, kind="failed"), "failed 2 times"),
        (events(1, 2, 3), events(1, 2), "only 2 of 3"),
        (events(1, 2, 3), events(1, 3), "once, in order"),
        (events(1, 2, 3), events(1, 2, 2, 3), "once, in order"),
        (events(1, 2), events(1) + events(2, kind="lost"), "told otherwise"),
    ],
)
def test_a_replay_that_is_not_right(
    every: list[dict[str, Any]], followed: list[dict[str, Any]], said: str
) -> None:
    assert [fault for fault in replay(every, followed) if said in fault]
    assert replay(events(1, 2, 3), events(1, 2, 3)) == []


def test_totals_must_agree() -> None:
    runs = [record(entry()), record(entry("condition")), record(entry("kill"))]
    right = [{"agent": "x", "runs": 2, "succeeded": 1, "skipped": 1, "killed": 1, "p50": 5}]
    assert added_up(runs, right) == []
    assert added_up(runs, [{**right[0], "runs": 3}])
    assert added_up(runs, [{**right[0], "succeeded": 2}])
    assert added_up(runs, [])
    assert added_up(runs, [*right, {"agent": "y", "runs": 1, "failed": 1}])


def test_what_was_recorded_stays() -> None:
    run = record(entry())
    assert kept([run], [run]) == []
    assert kept([run], [])
    assert kept([run], [{**run, "state": "unknown"}])
    assert kept([{**run, "state": "unknown"}], [run]) == []
    assert kept([{**run, "output_filed": False}], [{**run, "output_filed": True, "last_line": "bye"}]) == []
    assert kept([{**run, "output_filed": True}], [{**run, "output_filed": True, "last_line": "bye"}])


def test_a_rebuilt_record() -> None:
    run = record(entry())
    whole, earlier = (
        [Loss(BEGIN - 9 * SECOND, BEGIN - SECOND, "")],
        [Loss(BEGIN + SECOND, BEGIN + SECOND, "")],
    )
    assert rebuilt([run], [run], whole) == []
    assert rebuilt([run], [], earlier) == []
    assert rebuilt([run], [{**run, "state": "unknown"}], earlier) == []
    assert rebuilt([run], [], whole)
    assert rebuilt([run], [{**run, "took": 5}], whole)
    assert rebuilt([run], [{**run, "state": "killed"}], earlier)
    assert rebuilt([run], [run, run], whole)
    assert rebuilt([{**run, "output_filed": False}], [{**run, "output_filed": True}], whole) == []
    assert rebuilt([{**run, "output_filed": True}], [{**run, "output_filed": False}], whole)


def test_a_run_that_only_the_rebuilt_record_has_was_in_a_loss() -> None:
    run = record(entry(at=15))
    assert rebuilt([], [run], [LOSS]) == []
    assert rebuilt([], [run], [])
    assert rebuilt([], [record(entry(at=25))], [LOSS])
    assert rebuilt([], [record(entry(at=5))], [LOSS])
