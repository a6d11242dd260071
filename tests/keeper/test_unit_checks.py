"""What is wrong with a unit, case by case: also all that looks wrong and is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rota_agents.home_keeper.checks.units import BY_REQUEST, Past, Unit, Verdict, judge
from rota_agents.home_keeper.words import PROBLEMS, Target

from rota.unit_watches import Units

S = 1_000_000
MINUTE = 60 * S
NOW = 1_800_000_000 * S
RULES = Units(running=("web.service", "tick.timer", "once.service"))
LONG = {"age": 10 * MINUTE, "since": NOW - 10 * MINUTE}


def found(verdict: Verdict) -> list[tuple[str, str]]:
    return [(one.problem, one.severity) for one in verdict.findings]


def look(name: str, active: str, sub: str = "", rules: Units = RULES, **more: Any) -> list[tuple[str, str]]:
    return found(judge(Unit(name, active, sub, **more), Past(), rules, NOW))


NOTHING: list[tuple[str, str]] = []
FAILED, STUCK = [("failed", "warning")], [("stuck-activating", "warning")]
LOST = [("inactive", "critical")]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (Unit("a.service", "active", "running"), NOTHING),
        (Unit("a.service", "failed", "failed"), FAILED),
        (Unit("a.mount", "failed", "failed"), FAILED),
        (Unit("web.service", "failed", "failed"), [("failed", "critical")]),
        # stopped, or ended: of no concern, unless it is to be running
        (Unit("a.service", "inactive", "dead"), NOTHING),
        (Unit("web.service", "inactive", "dead"), LOST),
        (Unit("web.service", "inactive", "dead", stopped=BY_REQUEST), [("inactive", "info")]),
        (Unit("web.service", "inactive", "dead", stopped="db.service"), LOST),
        (Unit("web.service", "inactive", "dead", queued=True), NOTHING),
        (Unit("web.service", "inactive", "dead", condition=False), [("inactive", "info")]),
        (Unit("web.service", "inactive", "dead", "masked"), [("inactive", "info")]),
        (Unit("web.service", "inactive", "dead", "not-found"), [("inactive", "warning")]),
        (Unit("web.service", "inactive", "dead", "bad-setting"), [("inactive", "warning")]),
        (Unit("web.service", "reloading", "reload"), NOTHING),
        (Unit("once.service", "inactive", "dead", kind="oneshot"), NOTHING),
        # removed or masked: what is left of it in memory is nobody's concern
        (Unit("a.service", "failed", "failed", "masked"), NOTHING),
        (Unit("a.service", "failed", "failed", "not-found"), NOTHING),
        (Unit("a.timer", "inactive", "dead", "masked", wanted=True), NOTHING),
        # between two restarts, which may take as long as RestartSec= says
        (Unit("a.service", "activating", "auto-restart", **LONG), NOTHING),
        (Unit("a.service", "activating", "auto-restart-queued", **LONG), NOTHING),
        (Unit("a.service", "failed", "failed-before-auto-restart"), NOTHING),
        (Unit("web.service", "inactive", "dead-before-auto-restart"), NOTHING),
        # on the way for long
        (Unit("a.service", "activating", "start", kind="notify", **LONG), STUCK),
        (Unit("a.service", "deactivating", "stop", **LONG), STUCK),
        (Unit("a.service", "deactivating", "stop", kind="oneshot", **LONG), STUCK),
        (Unit("a.service", "reloading", "reload", **LONG), STUCK),
        (Unit("a.mount", "activating", "mounting", **LONG), STUCK),
        (Unit("a.service", "activating", "start", kind="notify", age=5 * MINUTE - 1), NOTHING),
        (Unit("a.service", "activating", "start", kind="oneshot", **LONG), NOTHING),
        (Unit("a.service", "activating", "start", kind="notify", limit=30 * MINUTE, **LONG), NOTHING),
        (Unit("a.service", "activating", "start", kind="oneshot", limit=MINUTE, **LONG), STUCK),
        # timers
        (Unit("a.timer", "inactive", "dead", wanted=True), [("timer-stopped", "warning")]),
        (Unit("a.timer", "inactive", "dead", wanted=True, stopped=BY_REQUEST), [("timer-stopped", "info")]),
        (Unit("a.timer", "inactive", "dead", wanted=True, queued=True), NOTHING),
        (Unit("a.timer", "inactive", "dead", wanted=True, condition=False), NOTHING),
        (Unit("a.timer", "inactive", "dead"), NOTHING),
        (Unit("a.timer", "failed", "failed", wanted=True), FAILED),
        (Unit("tick.timer", "inactive", "dead", wanted=True), LOST),
    ],
    ids=lambda value: f"{value.name}-{value.sub}-{value.load}" if isinstance(value, Unit) else "",
)
def test_what_is_wrong(unit: Unit, expected: list[tuple[str, str]]) -> None:
    assert found(judge(unit, Past(), RULES, NOW)) == expected


def test_what_was_stopped_may_be_a_finding() -> None:
    rules = replace(RULES, stopped="finding")
    assert look("web.service", "inactive", "dead", rules, stopped=BY_REQUEST) == LOST
    assert look("a.timer", "inactive", "dead", rules, stopped=BY_REQUEST, wanted=True) == [
        ("timer-stopped", "warning")
    ]
    assert look("a.timer", "inactive", "dead", replace(RULES, timers=False), wanted=True) == NOTHING


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        ({"result": "exit-code", "code": 1, "status": 3}, "it exited with status 3"),
        ({"result": "exit-code"}, "one of its control processes failed"),
        ({"result": "exit-code", "code": 1}, "one of its control processes failed"),
        ({"result": "signal", "code": 2, "status": 9}, "it was killed by SIGKILL"),
        ({"result": "signal", "code": 2, "status": 99}, "it was killed by signal 99"),
        ({"result": "signal"}, "one of its control processes was killed"),
        ({"result": "core-dump", "code": 3, "status": 11}, "it crashed with SIGSEGV"),
        ({"result": "timeout"}, "it took longer than it may"),
        ({"result": "watchdog", "code": 2, "status": 6}, "it no longer told systemd that it is alive"),
        ({"result": "brand-new"}, "brand-new"),
        ({"result": "exit-code", "code": 1, "status": 1, "restarts": 5}, "restarted it 5 times before"),
        ({}, "a.service failed; look at journalctl -u a.service"),
    ],
)
def test_how_it_failed_is_told(unit: dict[str, Any], told: str) -> None:
    (one,) = judge(Unit("a.service", "failed", "failed", **unit), Past(), RULES, NOW).findings
    assert told in one.summary


def test_a_unit_of_another_machine_has_its_name_before_it() -> None:
    (one,) = judge(Unit("a.service", "failed", "failed"), Past(), RULES, NOW, "nas").findings
    assert one.target == Target("unit", "nas/a.service")
    assert one.target.remote
    assert one.summary.startswith("a.service on nas failed")


def restarts(*counts: int | None, step: int = 10 * S, sub: str = "auto-restart") -> list[Verdict]:
    past, verdicts = Past(), []
    for index, count in enumerate(counts):
        unit = Unit("a.service", "activating", sub, restarts=count)
        verdicts.append(judge(unit, past, RULES, NOW + index * step))
        past = verdicts[-1].past
    return verdicts


def test_a_loop_is_so_many_restarts_within_a_time() -> None:
    verdicts = restarts(100, 101, 102, 103, 104, 105, 106)
    assert [bool(one.findings) for one in verdicts] == [False] * 5 + [True] * 2
    first, second = (one.findings[0] for one in verdicts[-2:])
    assert first.problem == "restart-loop"
    assert first.since == NOW + 10 * S
    assert first == second, "told once, however long it goes on"


def test_restarts_that_nobody_saw_count() -> None:
    assert found(restarts(3, 9)[-1]) == [("restart-loop", "warning")]


def test_a_rare_restart_is_no_loop() -> None:
    assert not any(one.findings for one in restarts(*range(50), step=3 * MINUTE))


def test_a_loop_is_over_when_it_was_started_anew_or_gave_up_or_calmed_down() -> None:
    past = restarts(0, 6)[-1].past
    at = NOW + 20 * S
    assert judge(Unit("a.service", "active", "running", restarts=0), past, RULES, at).findings == ()
    gave_up = judge(Unit("a.service", "failed", "failed", restarts=6), past, RULES, at)
    assert found(gave_up) == FAILED
    runs = Unit("a.service", "active", "running", restarts=6)
    verdict = judge(runs, past, RULES, at)
    assert found(verdict) == [("restart-loop", "warning")]
    assert verdict.again == NOW + 10 * S + RULES.within
    assert judge(runs, verdict.past, RULES, verdict.again).findings == ()


def test_a_stuck_unit_is_looked_at_when_it_will_be_stuck() -> None:
    unit = Unit("a.service", "activating", "start", since=NOW - MINUTE, age=MINUTE)
    verdict = judge(unit, Past(), RULES, NOW)
    assert verdict.again == NOW + 4 * MINUTE
    later = judge(replace(unit, age=5 * MINUTE), verdict.past, RULES, verdict.again)
    assert found(later) == STUCK
    assert later.again is None
    assert later.findings[0].since == NOW - MINUTE


def test_a_unit_that_does_not_say_since_when_is_timed_by_what_was_seen() -> None:
    unit = Unit("a.service", "activating", "start", kind="notify")
    past = judge(unit, Past(), RULES, NOW).past
    assert found(judge(unit, past, RULES, NOW + 5 * MINUTE)) == STUCK
    other = replace(unit, sub="start-post")
    assert found(judge(other, past, RULES, NOW + 5 * MINUTE)) == NOTHING


def test_a_clock_that_is_set_makes_no_unit_older() -> None:
    unit = Unit("a.service", "activating", "start", kind="notify", since=NOW, age=2 * S)
    past = judge(unit, Past(), RULES, NOW).past
    verdict = judge(replace(unit, age=4 * S), past, RULES, NOW + 60 * MINUTE)
    assert found(verdict) == NOTHING
    assert verdict.again == NOW + 65 * MINUTE - 4 * S


def test_what_is_watched() -> None:
    rules = Units(ignore=("*.mount", "noisy.service"))
    assert rules.watches("a.service")
    assert not rules.watches("srv.mount")
    assert not rules.watches("noisy.service")
    assert not rules.watches("rota-backup.service"), "of agents rotad knows more"
    assert rules.watches("rotad.service")
    assert not Units(watch=False).watches("a.service")


ACTIVE = ("active", "reloading", "inactive", "failed", "activating", "deactivating", "maintenance")
SUBS = ("dead", "running", "start", "auto-restart", "failed-before-auto-restart", "stop-sigterm")
units = st.builds(
    Unit,
    name=st.sampled_from(["web.service", "a.service", "a.timer", "tick.timer", "srv.mount"]),
    active=st.sampled_from(ACTIVE),
    sub=st.sampled_from(SUBS),
    load=st.sampled_from(["loaded", "masked", "not-found", "error"]),
    since=st.integers(0, NOW),
    age=st.integers(0, 2**50),
    queued=st.booleans(),
    condition=st.booleans(),
    kind=st.sampled_from(["", "simple", "oneshot"]),
    limit=st.none() | st.integers(0, 2**50),
    result=st.text(max_size=20),
    code=st.integers(0, 6),
    status=st.integers(-1, 300),
    restarts=st.none() | st.integers(0, 50),
    wanted=st.booleans(),
    stopped=st.sampled_from(["", BY_REQUEST, "db.service"]),
)


@given(st.lists(st.tuples(units, st.integers(0, 20 * MINUTE)), max_size=30))
def test_whatever_is_seen_of_a_unit(seen: list[tuple[Unit, int]]) -> None:
    past, now = Past(), NOW
    for unit, step in seen:
        now += step
        verdict = judge(unit, past, RULES, now)
        past = verdict.past
        problems = [one.problem for one in verdict.findings]
        assert len(problems) == len(set(problems))
        assert set(problems) <= PROBLEMS["unit"]
        assert len(past.moments) <= RULES.restarts
        assert verdict.again is None or now < verdict.again
        assert all("\n" not in one.summary and len(one.summary) <= 300 for one in verdict.findings)
        if unit.active == "active" and not past.looping:
            assert problems == []
        if past.looping:
            assert past.looping <= now
