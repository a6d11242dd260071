"""Readings against limits: what opens, what closes, and that nothing flaps at the limit."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rota_agents.home_keeper.checks import readings
from rota_agents.home_keeper.checks.readings import Memory, Reading, settle, when_true
from rota_agents.home_keeper.words import PROBLEMS, Finding, Target

from rota.watches import Limit

S = 1_000_000
FULL = Target("disk", "/srv")
HIGH = Limit("warning", opens=90, closes=85, hold=30 * S, calm=10 * S)
LOW = Limit("warning", opens=20, closes=25, hold=30 * S, calm=10 * S)
NOTHING: tuple[Finding, ...] = ()


def reading(value: float | None, *limits: Limit) -> Reading:
    return Reading(FULL, "space", value, limits, f"{value}")


def play(limits: tuple[Limit, ...], *values: tuple[int, float | None], patience: int = 60 * S) -> list[str]:
    """Return the severities after each value, each at a second."""
    memory, found = Memory(), []
    for at, value in values:
        memory, findings = settle(memory, [reading(value, *limits)], at * S, patience)
        found.append(findings[0].severity if findings else "")
    return found


@pytest.mark.parametrize(
    ("limit", "values", "told"),
    [
        # it must be bad for as long as hold says, at every look
        (HIGH, [(0, 95), (15, 95), (30, 95)], ["", "", "warning"]),
        (HIGH, [(0, 95), (15, 89), (30, 95), (45, 95), (60, 95)], ["", "", "", "", "warning"]),
        (HIGH, [(0, 90), (30, 90)], ["", "warning"]),
        # in between nothing changes; it closes beyond the other threshold, and after calm
        (HIGH, [(0, 95), (30, 95), (45, 86), (60, 85), (65, 84), (70, 84)], ["", *["warning"] * 4, ""]),
        (HIGH, [(0, 95), (30, 95), (45, 84), (50, 86), (60, 84), (70, 84)], ["", *["warning"] * 4, ""]),
        (LOW, [(0, 15), (30, 20), (45, 24), (60, 25), (70, 30)], ["", "warning", "warning", "warning", ""]),
        # what is not known opens nothing, closes nothing, and does not count as time
        (HIGH, [(0, 95), (30, 95), (45, None), (50, None)], ["", *["warning"] * 3]),
        (HIGH, [(0, None), (30, None)], ["", ""]),
        # asleep for an hour between two bad looks; a clock that is set back, and forth
        (HIGH, [(0, 95), (3600, 95), (3630, 95)], ["", "", "warning"]),
        (HIGH, [(3600, 95), (0, 95), (30, 95)], ["", "", "warning"]),
        (replace(HIGH, hold=0, calm=0), [(0, 90), (1, 85)], ["warning", ""]),
        (when_true("critical")[0], [(0, 1), (1, 0), (2, 1)], ["critical", "", "critical"]),
        (HIGH, [(0, float("nan")), (30, float("nan"))], ["", ""]),
    ],
)  # fmt: skip
def test_when_a_finding_opens_and_closes(
    limit: Limit, values: list[tuple[int, float]], told: list[str]
) -> None:
    assert play((limit,), *values) == told


def test_the_worst_severity_counts_and_since_stays() -> None:
    worse = Limit("critical", 97, 92, 0, 0)
    memory, found = settle(Memory(), [reading(91, replace(HIGH, hold=0), worse)], 10 * S)
    assert [(one.severity, one.since) for one in found] == [("warning", 10 * S)]
    memory, found = settle(memory, [reading(98, replace(HIGH, hold=0), worse)], 20 * S)
    assert [(one.severity, one.since) for one in found] == [("critical", 10 * S)]
    memory, found = settle(memory, [reading(91, replace(HIGH, hold=0), worse)], 30 * S)
    assert [(one.severity, one.since, one.summary) for one in found] == [("warning", 10 * S, "91")]


def test_since_is_when_the_bad_time_began() -> None:
    memory, _ = settle(Memory(), [reading(95, HIGH)], 100 * S)
    _, found = settle(memory, [reading(95, HIGH)], 130 * S)
    assert found[0].since == 100 * S


def test_severity_of_what_is_so_may_change_without_a_new_finding() -> None:
    memory, _ = settle(Memory(), [reading(1, *when_true("warning"))], 10 * S)
    _, found = settle(memory, [reading(1, *when_true("critical"))], 20 * S)
    assert [(one.severity, one.since) for one in found] == [("critical", 10 * S)]


def test_what_is_not_read_any_more_is_no_finding() -> None:
    memory, found = settle(Memory(), [reading(1, *when_true("warning"))], S)
    assert found
    assert settle(memory, [], 2 * S) == (Memory(), ())


limits = st.builds(
    lambda opens, margin, low, hold, calm: Limit(
        "warning", opens, opens + margin if low else opens - margin, hold, calm
    ),
    st.integers(10, 90), st.integers(1, 9), st.booleans(), st.integers(0, 5), st.integers(0, 5),
)  # fmt: skip
series = st.lists(st.one_of(st.integers(0, 100), st.none()), max_size=60)


@settings(deadline=None)
@given(limits, series)
def test_at_most_one_opening_and_closing_for_each_crossing_of_both(
    limit: Limit, values: list[int | None]
) -> None:
    """However a value wanders: bad since the last closing, good since the last opening."""
    states = [bool(found) for found in play((limit,), *enumerate(values))]
    crossings, side = 0, False
    for value in values:
        if value is not None and (limit.good(value) if side else limit.bad(value)):
            side, crossings = not side, crossings + 1
    changes = sum(one != other for one, other in zip([False, *states], states, strict=False))
    assert changes <= crossings


@settings(deadline=None)
@given(limits, series)
def test_nothing_changes_between_the_thresholds(limit: Limit, values: list[int | None]) -> None:
    memory, was = Memory(), False
    for at, value in enumerate(values):
        memory, found = settle(memory, [reading(value, limit)], at)
        if value is None or not (limit.bad(value) or limit.good(value)):
            assert bool(found) is was
        was = bool(found)


@settings(deadline=None)
@given(limits, series)
def test_an_open_finding_has_been_bad_for_as_long_as_hold_says(
    limit: Limit, values: list[int | None]
) -> None:
    known = [(at, value) for at, value in enumerate(values) if value is not None]
    memory, was = Memory(), False
    for at, value in enumerate(values):
        memory, found = settle(memory, [reading(value, limit)], at)
        if found and not was:
            span = [one for when, one in known if found[0].since <= when <= at]
            assert all(map(limit.bad, span))
            assert at - found[0].since >= limit.hold
        was = bool(found)


@settings(deadline=None)
@given(limits)
def test_nothing_is_bad_and_good(limit: Limit) -> None:
    assert not any(limit.bad(value) and limit.good(value) for value in range(101))


def test_every_problem_is_a_word_of_its_kind() -> None:
    """By the source: a target that is written out has its kind in it, another is of any of them."""
    folder = Path(str(readings.__file__)).parent
    seen = set()
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "Reading":
                continue
            target, problem = node.args[0], ast.literal_eval(node.args[1])
            kinds = [ast.literal_eval(target.args[0])] if isinstance(target, ast.Call) else list(PROBLEMS)
            assert any(problem in PROBLEMS[kind] for kind in kinds), (file.name, node.lineno, problem)
            seen.add(problem)
    assert len(seen) > 20
