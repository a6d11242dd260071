"""What people may want to hear of: each run once, recoveries after failures only; and of the keeper."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.events import BAD, Run
from rota.routes import Facts, Happening
from rota.telling import Standing, from_keeper, gap, judge, own_unit

S = 1_000_000
BASE = Run(
    "ab" * 16, "backup-check", "failed", "exit-code", started=100 * S, ended=103 * S, took=3 * S, status=3
)
NONE = Facts()


def told(run: Run, standing: Standing | None = None, facts: Facts = NONE) -> Happening:
    found, _ = judge(run, standing, facts)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "failed: exit status 3 after 3s"),
        ({"status": 203, "status_name": "EXEC", "took": 10}, "failed: exit status 203 (EXEC)"),
        (
            {"state": "timed-out", "reason": "timeout", "status": None},
            "timed out: took longer than its timeout after 3s",
        ),
        (
            {"state": "killed", "reason": "signal", "signal": "SIGKILL", "status": None},
            "killed: SIGKILL after 3s",
        ),
        (
            {"state": "killed", "reason": "oom-kill", "signal": "SIGKILL"},
            "killed: the kernel killed it for want of memory after 3s",
        ),
        ({"state": "failed", "reason": "dependency", "status": None, "took": 0}, "failed: dependency"),
        ({"state": "unknown", "reason": "host-down", "took": 0}, "unknown: the machine was down"),
    ],
)
def test_a_failure(changes: dict[str, Any], title: str) -> None:
    happening = told(BASE._replace(**changes))
    assert (happening.kinds, happening.severity, happening.title) == (("failure",), "warning", title)
    assert happening.command == "rota logs abababababab"
    assert happening.since is None


def test_failures_in_a_row_and_the_recovery() -> None:
    standing = None
    for number in range(1, 13):
        run = BASE._replace(id=f"{number:032x}", ended=number * 60 * S)
        happening, standing = judge(run, standing, NONE)
    assert happening is not None
    assert happening.title.endswith(", for the 12th time in a row")
    assert (happening.since, standing) == (60 * S, Standing(60 * S, 12, f"{12:032x}"))
    well = BASE._replace(state="succeeded", reason=None, status=0, ended=13 * 60 * S)
    recovery, after = judge(well, standing, NONE)
    assert recovery is not None
    assert (recovery.kinds, after) == (("recovery", "success"), None)
    assert recovery.title == "is well again, after 12 failures in 12min"
    assert recovery.severity == happening.severity, "who heard of the one is to hear of the other"
    assert told(well).kinds == ("success",)
    assert told(well).severity == "info"


def test_of_critical_priority() -> None:
    critical = Facts(critical=True)
    assert told(BASE, facts=critical).critical
    assert told(BASE._replace(state="succeeded"), Standing(1, 1, "x"), critical).critical
    assert not told(BASE._replace(state="succeeded"), None, critical).critical


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "killed", "reason": "stopped"},
        {"state": "killed", "reason": "signal", "stopped_by": "ada"},
        {"state": "skipped", "reason": "paused"},
        {"state": "running"},
    ],
)
def test_what_nobody_is_told_of(changes: dict[str, Any]) -> None:
    for standing in (None, Standing(5, 2, "x")):
        assert judge(BASE._replace(**changes), standing, NONE) == (None, standing)


def test_missed_slots() -> None:
    row = BASE._replace(state="missed", reason="host-down", slot=60 * S, slot_until=120 * S, slots=2)
    happening, standing = judge(row, Standing(5, 2, "x"), NONE)
    assert happening is not None
    assert (happening.title, happening.kinds) == ("missed 2 slots: the machine was down", ("missed",))
    assert (happening.command, happening.since) == ("rota why backup-check", 60 * S)
    assert standing == Standing(5, 2, "x"), "a slot that was missed is neither"
    assert told(row._replace(slots=1)).title == "missed its slot: the machine was down"


def test_lost_first_and_filed_later_is_one_failure() -> None:
    lost = BASE._replace(state="unknown", reason="lost")
    first, standing = judge(lost, None, NONE)
    assert first is not None
    assert judge(lost._replace(archived=True), standing, NONE) == (None, standing)


@given(
    st.lists(st.sampled_from(["succeeded", "failed", "killed", "timed-out", "unknown", "skipped", "missed"]))
)
def test_recoveries_are_the_first_success_after_a_failure(states: list[str]) -> None:
    standing, bad = None, 0
    for number, state in enumerate(states):
        run = BASE._replace(id=f"{number:032x}", state=state, reason="x", slot=1, slot_until=1)
        happening, standing = judge(run, standing, NONE)
        if state == "succeeded":
            assert happening is not None
            assert (happening.kind == "recovery") is (bad > 0)
            bad = 0
        elif state in BAD:
            bad += 1
            assert happening is not None
            assert happening.times == bad
        assert (standing is None) is (bad == 0)


EVENT = {
    "seq": 7,
    "at": 5,
    "kind": "escalated",
    "data": {
        "target": "unit:nginx.service",
        "problem": "failed",
        "severity": "critical",
        "summary": "exit status 1",
        "since": 3,
        "tried": ["restarted 3 times in 10min"],
    },
}


def test_from_the_keeper() -> None:
    found = from_keeper("s", EVENT)
    assert found is not None
    assert (found.kinds, found.critical, found.agent) == (("escalation",), True, "")
    assert found.title == "needs a person: exit status 1"
    assert found.tried == ("restarted 3 times in 10min",)
    assert found.command == "rota keeper explain unit:nginx.service"
    assert from_keeper("s", EVENT | {"kind": "acted"}) is None
    agent = from_keeper("s", EVENT | {"kind": "healed", "data": {"target": "agent:backup-check"}})
    assert agent is not None
    assert (agent.agent, agent.kinds) == ("backup-check", ("recovery",))


UNIT = {"target": "unit:a.service", "problem": "failed", "severity": "warning", "since": 3}
SAID = "a.service failed: it exited with status 1; look at journalctl -u a.service"


def keepers(kind: str, **data: Any) -> Happening:
    found = from_keeper("s", {"seq": 7, "at": 5 * S, "kind": kind, "data": UNIT | data})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("target", "summary", "title"),
    [
        ("unit:a.service", SAID, "failed: it exited with status 1"),
        ("unit:nas/a.service", "a.service on nas failed: it was killed", "failed: it was killed"),
        ("container:web", "web is unhealthy", "is unhealthy"),
        ("container:podman/web", "web is unhealthy", "is unhealthy"),
        ("disk:/srv", "/srv is 97 % full", "is 97 % full"),
        ("disk:/srv", "srvx is 97 % full", ": srvx is 97 % full"),
        ("query:heat", "heat: 3 is too much", ": 3 is too much"),
        ("host:clock", "the clock is behind", ": the clock is behind"),
    ],
)
def test_a_title_says_each_thing_once(target: str, summary: str, title: str) -> None:
    found = keepers("found", target=target, summary=summary)
    assert (found.title, found.kinds) == (title, ("failure",))


def test_where_to_look_is_a_line_of_its_own() -> None:
    assert keepers("found", summary=SAID).lines == ("Look:   journalctl -u a.service",)
    escalated = keepers("escalated", summary=SAID, why="strike 2 of 2", also=["a.service loops; look at b"])
    assert escalated.title == "needs a person: it failed: it exited with status 1"
    assert escalated.lines == (
        "Why:    strike 2 of 2",
        "Also:   a.service loops",
        "Look:   journalctl -u a.service",
    )


def test_a_recovery_says_what_it_was_and_for_how_long() -> None:
    healed = keepers("healed", summary=SAID, took=90 * S, tried=["restart-unit: healed"], left=[])
    assert (healed.title, healed.tried) == ("is well again", ("restart-unit: healed",))
    assert healed.lines == ("Was:    failed: it exited with status 1", "For:    1min 30s")
    assert keepers("healed", summary=SAID, took=0, left=["slow"]).title == "is well again, but for: slow"


def test_what_a_health_check_said_is_output() -> None:
    found = keepers("found", target="container:web", summary="web is unhealthy: no route", said="no route")
    assert (found.title, found.last_line) == ("is unhealthy", "no route")


def test_a_question() -> None:
    found = keepers("asked", summary=SAID, id=2, remedy="restart-unit", expires=9 * S)
    assert found.kinds == ("escalation",)
    assert found.title == "needs an answer: a person is asked whether to restart-unit"
    assert found.answers == ("rota keeper approve 2", "rota keeper deny 2")
    assert (found.until, found.lines[0]) == (9 * S, "What:   failed: it exited with status 1")


def test_whose_output_says_more() -> None:
    assert own_unit(keepers("found")) == own_unit(keepers("escalated")) == "a.service"
    assert own_unit(keepers("found", target="unit:nas/a.service")) == "", "of another machine"
    assert own_unit(keepers("healed")) == own_unit(keepers("found", target="host:cpu")) == ""
    assert own_unit(told(BASE)) == ""


def test_a_gap() -> None:
    assert "events 5 to 16 were forgotten" in gap("rotad", "s", 4, 17, 1).title
