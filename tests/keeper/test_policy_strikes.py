"""Strikes: what counts as one, what is done at each, how often, and by which remedy."""

from __future__ import annotations

import pytest
from rota_agents.home_keeper.messages import Observed, Unrecorded
from rota_agents.home_keeper.words import Target

from rota.keeper_rules import Override
from rota.quantity import USEC

from .kit import AT_ONCE, HOUR, MINUTE, NOON, WEB, House, finding, rules

# Strikes.


def test_first_noted_then_acted_on_then_a_person_is_told() -> None:
    house = House()
    house.fails()
    assert (house.verdict(), house.acts, house.case().strikes) == (("note", "strike"), [], 1)
    house.wait(29)
    assert house.acts == []
    house.wait(1)
    assert (house.verdict(), house.at()) == (("act", "strike"), 30)
    assert str(house.acts[0][1].remedy) == "restart-unit"
    house.wait(5)
    house.ends()
    assert house.verdict() == ("hold", "proving")
    house.wait(29)
    assert house.told == []
    house.wait(1)
    assert house.verdict() == ("escalate", "escalated")
    (_, told), *_ = house.told
    assert (told.hands_off, told.tried, told.findings) == (
        True,
        ("restart-unit: failed, the finding is still there",),
        ("unit:web.service is failed",),
    )
    house.wait(24 * HOUR)
    assert len(house.acts) == 1


def test_what_comes_again_is_the_next_strike_at_once() -> None:
    house = House()
    house.fails()
    house.wait(1)
    house.heals()
    house.wait(5 * MINUTE)
    house.fails()
    assert (house.at(), house.case().strikes) == (301, 2)


def test_a_remedy_that_heals_is_told_of_once() -> None:
    house = House(rules(strikes=AT_ONCE))
    house.fails()
    house.wait(2)
    house.works()
    house.wait(29)
    assert house.data("remedy-judged") == []
    house.wait(HOUR)
    assert house.data("remedy-judged") == [
        {"id": 1, "remedy": "restart-unit", "verdict": "healed", "recovered": 2 * USEC}
    ]
    assert house.data("recovered") == [
        {"since": NOON, "took": 2 * USEC, "told": False, "tried": ["restart-unit: healed"]}
    ]
    assert house.told == []


def test_a_failure_within_settle_of_a_remedy_is_the_remedys() -> None:
    house = House(rules(strikes=("act", "escalate")))
    house.fails()
    house.works()
    house.wait(29)
    house.fails()
    assert [item["verdict"] for item in house.data("remedy-judged")] == ["failed"]
    assert house.verdict() == ("escalate", "escalated")
    assert house.case().strikes == 2


def test_a_failure_after_settle_is_not_the_remedys_but_a_strike_all_the_same() -> None:
    house = House(rules(strikes=("act", "escalate")))
    house.fails()
    house.works()
    house.wait(31)
    house.fails()
    assert [item["verdict"] for item in house.data("remedy-judged")] == ["healed"]
    assert house.case().strikes == 2


@pytest.mark.parametrize(("seen_after", "verdict"), [(99, "healed"), (101, "failed")])
def test_a_remedy_is_not_judged_before_its_check_can_have_seen_what_it_did(
    seen_after: float, verdict: str
) -> None:
    house = House(rules(Override("disk:/"), strikes=("act", "escalate"), settle=30 * USEC))
    house.fails("disk:/", "space", lag=70)
    house.ends()
    house.wait(seen_after)
    house.heals("disk:/")
    house.wait(HOUR)
    assert [item["verdict"] for item in house.data("remedy-judged")] == [verdict]


def test_a_remedy_that_says_it_failed_is_a_strike_at_once() -> None:
    house = House(rules(strikes=("act", "escalate")))
    house.fails()
    house.wait(1)
    house.ends("failed", "job canceled")
    assert house.verdict() == ("escalate", "escalated")
    assert house.told[0][1].tried == ("restart-unit: failed, job canceled",)


def test_trouble_while_the_remedy_is_under_way_is_one_strike_not_two() -> None:
    house = House(rules(strikes=AT_ONCE, cooldown=0))
    house.fails()
    house.heals()
    house.fails()
    assert (house.case().strikes, len(house.acts)) == (1, 1)
    house.ends("failed")
    assert (house.case().strikes, len(house.acts)) == (2, 2)


def test_another_problem_of_what_is_in_trouble_is_no_strike() -> None:
    house = House()
    house.fails()
    house.step(Observed("units", Target.parse(WEB), (finding(), finding(problem="restart-loop"))))
    assert house.case().strikes == 1
    house.fails(problem="restart-loop")
    assert (house.case().strikes, sorted(house.case().open)) == (1, ["restart-loop"])


def test_info_is_no_strike_until_it_is_more() -> None:
    house = House()
    house.fails(severity="info")
    house.wait(HOUR)
    assert (house.case().strikes, house.case().decision) == (0, None)
    house.fails()
    assert house.case().strikes == 1
    assert house.kinds("finding-opened", "finding-changed") == ["finding-opened", "finding-changed"]


def test_what_one_check_found_another_does_not_heal() -> None:
    house = House()
    house.fails()
    house.fails(problem="inactive", check="endpoints")
    house.heals(check="endpoints")
    assert list(house.case().open) == ["failed"]
    house.heals()
    assert not house.case().open


def test_a_finding_keeps_since_when_it_was_seen_first() -> None:
    house = House()
    house.fails()
    house.step(
        Observed(
            "units",
            Target.parse(WEB),
            (finding().__class__(Target.parse(WEB), "failed", "warning", NOON + 99, "still"),),
        )
    )
    kept = house.case().open["failed"].finding
    assert (kept.since, kept.summary) == (NOON, "still")


def test_steps_that_are_used_up_are_told_of_though_no_step_says_so() -> None:
    house = House(rules(strikes=("note",)))
    house.fails()
    house.wait(30)
    assert house.told[0][1].why == "all 1 steps are used up"
    assert house.case().hands_off is not None


def test_an_escalation_that_is_not_the_last_step_does_not_let_it_be() -> None:
    house = House(rules(strikes=("escalate", "act", "escalate")))
    house.fails()
    assert (len(house.told), house.case().hands_off) == (1, None)
    house.wait(30)
    assert len(house.acts) == 1


# Attempts, cooldown, health, the house.


def test_cooldown_grows_to_its_limit() -> None:
    house = House(rules(strikes=("act",) * 9, attempts=9, cooldown=100 * USEC, max_cooldown=300 * USEC))
    house.fails()
    began = []
    for _ in range(4):
        began.append(house.at())
        house.ends("failed")
        house.wait(300)
    assert began == [0, 100, 500, 900]
    rests = [item["again"] for item in house.data("decided") if item["reason"] == "cooldown"]
    assert [(at - NOON) / USEC for at in rests] == [100, 500, 900, 1200]


def test_cooldown_holds_what_would_be_next() -> None:
    house = House(rules(strikes=AT_ONCE, cooldown=100 * USEC))
    house.fails()
    house.ends("failed")
    assert house.verdict() == ("hold", "cooldown")
    assert house.allowed() == (100, "cooldown")
    house.wait(99)
    assert len(house.acts) == 1
    house.wait(1)
    assert len(house.acts) == 2


def test_attempts_used_up_within_the_window_are_told_of() -> None:
    house = House(rules(strikes=("act",) * 9, attempts=2, cooldown=0))
    house.fails()
    house.ends("failed")
    house.ends("failed")
    assert len(house.acts) == 2
    assert house.told[0][1].why == "2 of 2 attempts within 1h are used up"
    assert house.case().hands_off is not None


def test_attempts_count_even_after_health_and_a_person() -> None:
    house = House(rules(strikes=AT_ONCE, attempts=2, window=HOUR * USEC))
    for _ in range(2):
        house.fails()
        house.works()
        house.wait(15 * MINUTE)
    assert (house.case().strikes, len(house.acts)) == (0, 2)
    house.fails()
    assert house.told[0][1].why.startswith("2 of 2 attempts")
    house.resume()
    assert (len(house.acts), len(house.told)) == (2, 2)
    said = f"Resumed: {WEB}. Attempts on {WEB} are used up: nothing is done before 2026-11-21 13:00:00."
    assert house.replies[-1].text == said
    house.wait(HOUR)
    house.resume()
    assert len(house.acts) == 3


def test_sustained_health_begins_anew() -> None:
    house = House()
    house.fails()
    house.heals()
    house.wait(10 * MINUTE)
    assert (house.state.cases, house.kinds("reset")) == ({}, ["reset"])
    house.fails()
    assert house.case().strikes == 1


def test_the_house_has_a_limit_an_hour() -> None:
    named = [Override(f"unit:{name}.service") for name in "abc"]
    house = House(rules(*named, strikes=AT_ONCE, actions_per_hour=2))
    for item in named:
        house.fails(item.pattern)
        house.wait(60)
    assert len(house.acts) == 2
    assert house.verdict("unit:c.service") == ("hold", "house")
    house.wait(HOUR - 181)
    assert len(house.acts) == 2
    assert house.allowed("unit:c.service") == (1, "house")
    house.wait(1)
    assert len(house.acts) == 3


def test_an_action_that_could_not_be_filed_is_no_attempt_and_is_tried_again() -> None:
    house = House(rules(strikes=AT_ONCE))
    house.fails()
    house.step(Unrecorded(1, "no room"))
    case = house.case()
    assert (case.attempts, case.acted, case.underway, house.state.actions) == ((), 0, None, ())
    assert house.verdict() == ("hold", "unrecorded")
    house.wait(60)
    assert len(house.acts) == 2


# Modes, never, remedies.


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("unit:other.service", "observe"),
        ("unit:sshd@3-10.0.0.1:22-10.0.0.2:5.service", "never"),
        ("unit:nas/dbus.service", "never"),
        ("unit:mine.service", "never"),
        ("unit:nas/web.service", "no-remedy"),
        ("host:memory", "no-remedy"),
    ],
)
def test_what_is_not_acted_on_is_noted_and_then_told(target: str, reason: str) -> None:
    named = [
        Override(f"{kind}:{name}")
        for kind in ("unit", "host")
        for name in ("nas/*", "memory", "ssh*", "mine*")
    ]
    house = House(rules(*named, never=("unit:mine.*",)))
    house.fails(target, "failed" if target.startswith("unit") else "memory")
    house.wait(30)
    assert house.verdict(target) == ("note", reason)
    house.wait(30)
    assert house.verdict(target) == ("escalate", "escalated")
    assert house.acts == []
    assert house.allowed(target)[0] is None
    # Nothing was done, so nobody needs to resume: it begins anew when it was well.
    house.heals(target)
    house.wait(HOUR)
    assert house.state.cases == {}


def test_where_nothing_is_done_steps_that_act_do_not_put_off_telling() -> None:
    house = House(rules(mode="observe", strikes=("act", "act", "act", "note", "escalate")))
    house.fails()
    assert house.verdict() == ("note", "observe")
    house.wait(30)
    assert house.verdict() == ("note", "strike")
    house.wait(30)
    assert len(house.told) == 1


def test_observe_says_what_it_would_do() -> None:
    house = House(rules(mode="observe"))
    house.fails()
    house.wait(30)
    assert house.decision().why == "strike 2 of 3: its mode is observe; restart-unit would be next"


@pytest.mark.parametrize(
    ("target", "problem", "declared", "remedy"),
    [
        ("unit:a.service", "failed", "restart", "restart-unit"),
        ("unit:a.service", "inactive", "restart", "start-unit"),
        ("unit:a.timer", "timer-stopped", "restart", "start-unit"),
        ("unit:a.service", "failed", "reset-failed", "reset-failed"),
        ("container:a", "unhealthy", "restart", "restart-container"),
        ("container:a", "exited", "restart", "start-container"),
        ("disk:/srv", "space", "restart", "clean"),
        ("host:memory", "memory", "agent:tidy", "run-agent tidy"),
        ("unit:nas/a.service", "failed", "command:wake", "run-command wake"),
    ],
)
def test_remedies(target: str, problem: str, declared: str, remedy: str) -> None:
    house = House(rules(Override(target), strikes=("act",), remedy=declared))
    house.fails(target, problem)
    assert str(house.acts[0][1].remedy) == remedy


@pytest.mark.parametrize(
    ("problem", "declared"), [("read-only", "restart"), ("space", "none"), ("space", "start")]
)
def test_no_remedy(problem: str, declared: str) -> None:
    house = House(rules(Override("disk:/srv"), strikes=("act", "escalate"), remedy=declared))
    house.fails("disk:/srv", problem)
    assert house.verdict("disk:/srv") == ("note", "no-remedy")


def test_labels_of_containers() -> None:
    house = House(rules(strikes=("note", "act", "escalate")))
    house.fails("container:a", "unhealthy", label="restart")
    house.fails("container:b", "unhealthy", label="escalate")
    house.fails("container:c", "unhealthy")
    house.wait(30)
    assert [str(action.target) for _, action in house.acts] == ["container:a"]
    assert [str(item.target) for _, item in house.told] == ["container:b"]
    assert house.verdict("container:c") == ("note", "observe")


def test_an_action_is_about_what_it_can_help_with() -> None:
    """And not about what is worse, and nothing can be done about."""
    disk = "disk:/srv"
    house = House(rules(Override(disk), strikes=("act", "escalate")))
    found = (finding(disk, "read-only", "critical"), finding(disk, "space"))
    house.step(Observed("disks", Target.parse(disk), found))
    ((_, action),) = house.acts
    assert (action.problem, str(action.remedy)) == ("space", "clean")
    assert action.why == "strike 1 of 2: disk:/srv is space"


@pytest.mark.parametrize("mode", ["observe", "act"])
def test_a_person_is_told_once_more_if_what_is_let_be_gets_worse(mode: str) -> None:
    house = House(rules(Override(WEB, mode=mode), strikes=("escalate",)))
    house.fails()
    assert len(house.data("escalated")) == 1
    house.maintain(seconds=HOUR)
    house.fails(severity="critical")
    assert len(house.data("escalated")) == 1, "somebody works on it"
    house.wait(HOUR)
    assert [item["severity"] for item in house.data("escalated")] == ["warning", "critical"]
    assert house.case().hands_off is not None
    house.fails()
    house.fails(severity="critical")
    house.wait(HOUR)
    assert (len(house.data("escalated")), house.acts) == (2, [])


def test_who_denied_is_told_nothing_more() -> None:
    house = House(rules(Override(WEB, mode="ask"), strikes=("act", "escalate")))
    house.fails()
    house.answer(False)
    house.fails(severity="critical")
    house.wait(HOUR)
    assert house.data("escalated") == []
