"""Each rule of the keeper's policy."""

from __future__ import annotations

from typing import Any

import pytest
from rota_agents.home_keeper.messages import Anew, Observed, Started, Tick, Unrecorded
from rota_agents.home_keeper.policy import RETELL
from rota_agents.home_keeper.state import State
from rota_agents.home_keeper.words import Target

from rota.keeper_rules import Override
from rota.quantity import USEC

from .kit import DATABASE, HOUR, MINUTE, NOON, WEB, House, finding, moment, rules

AT_ONCE = ("act", "act", "act", "act", "escalate")


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


# Asking.


def asking(**more: Any) -> House:
    house = House(rules(Override(WEB, mode="ask"), strikes=("act", "escalate"), **more))
    house.fails()
    return house


def test_asked_and_approved() -> None:
    house = asking()
    assert (house.verdict(), house.acts) == (("ask", "asked"), [])
    house.wait(5 * MINUTE)
    house.answer(True)
    assert (house.at(), house.acts[0][1].by, house.replies[-1].done) == (300, "ada", True)
    house.answer(True, 1)
    assert house.replies[-1].text == "There is no open question 1; `rota keeper` lists those there are."


def test_approved_but_cooling_down() -> None:
    house = House(rules(Override(WEB, mode="ask"), strikes=AT_ONCE, cooldown=100 * USEC))
    house.fails()
    house.answer(True)
    house.ends("failed")
    assert house.verdict() == ("ask", "asked")
    house.answer(True)
    assert house.verdict() == ("hold", "cooldown")
    house.answer(True)
    assert house.replies[-1].text == "Question 3 was approved by ada already."
    house.wait(100)
    assert len(house.acts) == 2


def test_asked_and_denied_lets_it_be_until_it_is_well() -> None:
    house = asking()
    house.answer(False)
    house.wait(2 * HOUR)
    assert (house.acts, house.told, house.verdict()) == ([], [], ("hold", "hands-off"))
    house.heals()
    house.wait(30)
    assert house.case().hands_off is None


def test_asked_and_not_answered_is_a_strike() -> None:
    house = asking()
    house.wait(HOUR)
    assert [item["answer"] for item in house.data("answered")] == ["expired"]
    assert house.verdict() == ("escalate", "escalated")
    house.answer(True, 1)
    assert not house.replies[-1].done


def test_a_question_is_withdrawn_when_it_is_well_and_is_used_up() -> None:
    house = asking()
    house.heals()
    assert [item["answer"] for item in house.data("answered")] == ["healed"]
    house.fails()
    assert house.verdict() == ("escalate", "escalated")


def test_a_question_is_withdrawn_when_the_mode_is_observe_by_now() -> None:
    house = asking()
    house.rules = rules(Override(WEB, mode="observe"), strikes=("act", "escalate"))
    house.wait(HOUR - 1)
    house.answer(True)
    assert house.acts == []
    assert [item["answer"] for item in house.data("answered")] == ["approved", "withdrawn"]


# Quiet hours.


def test_quiet_hours_hold_what_is_not_critical() -> None:
    night = moment("2026-11-21 23:00:00")
    house = House(rules(quiet="22:30-07:00", strikes=AT_ONCE), night)
    house.fails()
    assert house.verdict() == ("hold", "quiet")
    assert house.decision().why == "it is quiet until 2026-11-22 07:00:00"
    assert house.allowed() == (8 * HOUR, "quiet")
    house.wait(8 * HOUR)
    assert len(house.acts) == 1
    critical = House(rules(quiet="22:30-07:00", strikes=AT_ONCE), night)
    critical.fails(severity="critical")
    assert len(critical.acts) == 1


def test_what_waits_in_quiet_hours_is_not_used_up() -> None:
    house = House(rules(quiet="22:30-07:00"), moment("2026-11-21 23:00:00"))
    for _ in range(5):
        house.fails()
        house.wait(60)
        house.heals()
        house.wait(60)
    assert (house.told, house.case().strikes) == ([], 1)
    house.fails()
    house.wait(8 * HOUR)
    assert len(house.acts) == 1


def test_messages_wait_for_the_morning_unless_they_are_critical() -> None:
    for severity, count in (("warning", 0), ("critical", 1)):
        house = House(rules(quiet="22:30-07:00", strikes=("escalate",)), moment("2026-11-21 23:00:00"))
        house.fails(severity=severity)
        assert len(house.told) == count
        house.acknowledge() if count else None
        house.wait(8 * HOUR)
        assert len(house.told) == 1


def test_questions_are_not_put_in_quiet_hours_but_may_be_answered() -> None:
    house = House(
        rules(Override(WEB, mode="ask"), quiet="22:30-07:00", strikes=("act",)), moment("2026-11-21 22:00:00")
    )
    house.fails()
    house.wait(45 * MINUTE)
    house.answer(True)
    assert len(house.acts) == 1
    late = House(house.rules, moment("2026-11-21 23:00:00"))
    late.fails()
    assert late.verdict() == ("hold", "quiet")
    late.wait(8 * HOUR)
    assert late.verdict() == ("ask", "asked")


# Maintenance.


def test_in_maintenance_nothing_is_counted() -> None:
    house = House(rules(strikes=AT_ONCE))
    house.maintain(seconds=HOUR)
    house.fails()
    house.wait(HOUR - 1)
    assert (house.verdict(), house.case().strikes) == (("hold", "maintenance"), 0)
    house.wait(1)
    assert house.verdict() == ("hold", "settling")
    house.wait(30)
    assert (house.at(), house.case().strikes) == (HOUR + 30, 1)
    assert house.kinds("maintenance-begun", "maintenance-ended") == ["maintenance-begun", "maintenance-ended"]


def test_maintenance_of_a_pattern_and_its_end_by_hand() -> None:
    from rota_agents.home_keeper.messages import EndMaintenance

    house = House(rules(Override("unit:*"), strikes=AT_ONCE))
    house.maintain("unit:web*")
    house.fails()
    house.fails(DATABASE)
    assert [str(action.target) for _, action in house.acts] == [DATABASE]
    house.step(EndMaintenance(7, "ada"))
    assert house.replies[-1].text == "There is no maintenance 7; `rota keeper` lists what there is."
    house.step(EndMaintenance(None, "ada"))
    assert house.replies[-1].text == "Maintenance 1 is over."
    house.wait(30)
    assert len(house.acts) == 2


def test_a_remedy_under_way_when_maintenance_begins_is_not_judged() -> None:
    house = House(rules(strikes=AT_ONCE))
    house.fails()
    house.maintain()
    house.ends()
    assert house.verdict() == ("hold", "maintenance")
    assert [item["verdict"] for item in house.data("remedy-judged")] == ["unknown"]
    assert house.case().strikes == 1


def test_what_waited_when_maintenance_began_waits_on() -> None:
    house = House(rules(strikes=AT_ONCE, cooldown=100 * USEC))
    house.fails()
    house.ends("failed")
    house.maintain(seconds=50)
    house.wait(79)
    assert (len(house.acts), house.case().strikes) == (1, 2)
    house.wait(21)
    assert (house.at(), house.case().strikes) == (100, 2)


# What needs others.


CLIENTS = [f"unit:app-{number}.service" for number in range(12)]


def needing(**more: Any) -> House:
    app = Override("unit:app-*.service", after=(DATABASE,))
    return House(rules(app, Override(DATABASE), strikes=AT_ONCE, **more))


def test_the_database_is_restarted_not_its_twelve_clients() -> None:
    house = needing()
    for name in CLIENTS:
        house.fails(name)
    house.wait(3)
    house.fails(DATABASE)
    house.wait(20)
    assert [str(action.target) for _, action in house.acts] == [DATABASE]
    assert {house.verdict(name) for name in CLIENTS} == {("hold", "dependency")}
    assert house.decision(CLIENTS[0]).why == f"it needs {DATABASE}, which is to be well first"
    house.works(DATABASE)
    for name in CLIENTS[1:]:
        house.heals(name)
    house.wait(29)
    assert house.verdict(CLIENTS[0]) == ("hold", "dependency")
    house.wait(1)
    assert house.verdict(CLIENTS[0]) == ("hold", "settling")
    house.wait(30)
    assert [str(action.target) for _, action in house.acts] == [DATABASE, CLIENTS[0]]


def test_clients_wait_as_long_as_the_database_is_let_be() -> None:
    house = needing(attempts=1)
    house.fails(DATABASE)
    house.ends("failed")
    house.wait(60)
    assert house.case(DATABASE).hands_off is not None
    house.fails(CLIENTS[0])
    house.wait(24 * HOUR)
    assert len(house.acts) == 1


def test_through_others() -> None:
    chain = (Override("unit:a", after=("unit:b",)), Override("unit:b", after=("unit:c",)), Override("unit:c"))
    house = House(rules(*chain, strikes=AT_ONCE))
    for name in "cba":
        house.fails(f"unit:{name}")
    house.wait(10)
    assert [str(action.target) for _, action in house.acts] == ["unit:c"]


def test_two_that_need_each_other_do_not_wait_for_ever() -> None:
    pair = (Override("unit:a", after=("unit:b",)), Override("unit:b", after=("unit:a*",)))
    house = House(rules(*pair, strikes=AT_ONCE))
    house.fails("unit:a")
    house.fails("unit:b")
    house.wait(10)
    assert len(house.acts) == 2


def test_who_needs_others_is_given_the_time_in_which_theirs_is_found() -> None:
    house = needing()
    house.fails(CLIENTS[0])
    assert house.verdict(CLIENTS[0]) == ("hold", "grace")
    house.wait(5)
    assert len(house.acts) == 1


def test_what_a_blind_check_found_stands_still() -> None:
    house = House()
    house.fails()
    house.step(Observed("units", Target("check", "units"), (finding("check:units", "blind"),)))
    assert house.verdict() == ("hold", "blind")
    house.wait(20)
    house.heals("check:units")
    house.wait(30)
    assert (house.case().strikes, house.verdict()) == (1, ("hold", "settling"))
    house.wait(30)
    assert len(house.acts) == 1


# Hands off.


def let_be() -> House:
    house = House(rules(strikes=("act", "escalate")))
    house.fails()
    house.ends("failed")
    assert house.case().hands_off is not None
    return house


def test_hands_off_lasts_through_health_until_a_person_resumes() -> None:
    house = let_be()
    for _ in range(5):
        house.heals()
        house.wait(HOUR)
        house.fails()
        house.wait(HOUR)
    assert len(house.acts) == 1
    assert len({item.id for _, item in house.told}) == 1
    house.resume("unit:w*")
    assert len(house.acts) == 2
    assert house.replies[-1].text == "Resumed: unit:web.service."
    house.resume("unit:w*")
    assert house.replies[-1].text == "Nothing like unit:w* is let be; `rota keeper` lists what is."


def test_recovery_after_an_escalation_is_told_once() -> None:
    house = let_be()
    for _ in range(3):
        house.heals()
        house.wait(HOUR)
        house.fails()
    assert [item["told"] for item in house.data("recovered")] == [True, False, False]
    assert house.state.escalations[0].recovered is not None


def test_an_escalation_is_told_until_it_is_acknowledged() -> None:
    house = let_be()
    house.wait(RETELL / USEC * 2)
    assert len(house.told) == 3
    house.step(Started(frozenset(("units",))))
    assert len(house.told) == 4
    house.acknowledge()
    house.wait(HOUR)
    assert (len(house.told), house.state.escalations) == (4, ())


# Starting.


def test_what_was_found_before_the_start_counts_when_it_is_seen_again() -> None:
    house = House()
    house.fails()
    house.step(Started(frozenset(("units",))))
    house.wait(HOUR)
    assert (house.verdict(), house.acts) == (("hold", "unseen"), [])
    house.fails()
    house.wait(30)
    assert len(house.acts) == 1


def test_what_was_under_way_at_the_start_was_an_attempt_and_is_not_repeated() -> None:
    house = House(rules(strikes=("act", "escalate")))
    house.fails()
    house.step(Started(frozenset(("units",))))
    assert house.data("remedy-ended")[0]["outcome"] == "unknown"
    house.fails()
    assert len(house.case().attempts) == 1
    house.wait(30)
    assert (len(house.acts), house.verdict()) == (1, ("escalate", "escalated"))


def test_findings_of_checks_that_are_gone_are_closed() -> None:
    house = House()
    house.fails()
    house.step(Started(frozenset(("others",))))
    assert not house.case().open


def test_an_end_of_what_is_not_under_way_changes_nothing() -> None:
    house = House(rules(strikes=AT_ONCE))
    house.fails()
    house.ends()
    before = house.state
    house.ends("failed")
    house.step(Unrecorded(1, ""))
    assert house.state == before


def test_a_ledger_begun_anew_is_told_of() -> None:
    house = House()
    house.step(Anew("it is kept as x"))
    assert house.told[0][1].why == "its ledger was damaged and is begun anew: it is kept as x"


# Clocks.


def test_set_back_spans_go_on_from_there() -> None:
    house = House(rules(strikes=AT_ONCE, cooldown=100 * USEC))
    house.fails()
    house.ends("failed")
    house.wait(40)
    house.now -= 24 * HOUR * USEC
    house.step(Tick())
    # The last step was 40 s before: what has passed since then nobody knows.
    assert house.data("clock-set") == [{"by": (40 - 24 * HOUR) * USEC}]
    assert house.allowed() == (100, "cooldown")
    house.wait(99)
    assert len(house.acts) == 1
    house.wait(1)
    assert len(house.acts) == 2


def test_a_little_before_the_last_step_is_the_same_moment() -> None:
    house = House()
    house.fails()
    house.now -= 1000
    house.step(Tick())
    assert (house.state.at, house.data("clock-set")) == (NOON, [])


def test_nothing_is_remembered_of_what_is_well() -> None:
    house = House()
    house.heals()
    assert house.state == State(at=NOON)
