"""What holds the keeper back: a question, the night, maintenance, a check that is blind."""

from __future__ import annotations

from typing import Any

from rota_agents.home_keeper import policy
from rota_agents.home_keeper.messages import Observed, Tick
from rota_agents.home_keeper.words import Target

from rota.keeper_rules import Override
from rota.quantity import USEC

from .kit import AT_ONCE, DATABASE, HOUR, MINUTE, NOON, WEB, House, finding, moment, rules

CONTAINER = "container:web"

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


def test_denied_after_all_as_long_as_nothing_is_done() -> None:
    house = House(rules(Override(WEB, mode="ask"), strikes=AT_ONCE, cooldown=100 * USEC))
    house.fails()
    house.answer(True)
    house.ends("failed")
    house.answer(True)
    house.answer(False)
    assert house.replies[-1].text.endswith("is denied; it is let be until it is well again.")
    house.wait(HOUR)
    assert (len(house.acts), house.verdict()) == (1, ("hold", "hands-off"))


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


def test_what_is_approved_is_what_was_asked() -> None:
    """The policy, or what is wrong, is another by now."""
    house = House(rules(Override(CONTAINER, mode="ask"), strikes=("act", "escalate")))
    house.fails(CONTAINER, "unhealthy")
    asked = house.case(CONTAINER).ask
    assert asked is not None
    assert asked.remedy == "restart-container"
    house.rules = rules(Override(CONTAINER, mode="ask", remedy="command:wipe"), strikes=("act", "escalate"))
    house.answer(True, asked.id)
    assert (house.replies[-1].done, house.acts) == (False, [])
    assert house.replies[-1].text == (
        "Question 1 was whether to restart-container; "
        "by now it would be run-command wipe: that is asked anew."
    )
    anew = house.case(CONTAINER).ask
    assert anew is not None
    assert (anew.remedy, anew.id) == ("run-command wipe", 2)
    assert [item["answer"] for item in house.data("answered")] == ["withdrawn"]
    house.answer(True, 1)
    assert house.acts == []
    house.answer(True, 2)
    assert [str(action.remedy) for _, action in house.acts] == ["run-command wipe"]


def test_what_was_approved_and_waits_is_asked_anew_if_it_would_be_something_else() -> None:
    steps: dict[str, Any] = {"strikes": AT_ONCE, "cooldown": 100 * USEC}
    house = House(rules(Override(CONTAINER, mode="ask"), **steps))
    house.fails(CONTAINER, "exited")
    house.answer(True, 1)
    house.ends("failed")
    asked = house.case(CONTAINER).ask
    assert asked is not None
    house.answer(True, asked.id)
    assert house.verdict(CONTAINER) == ("hold", "cooldown")
    house.fails(CONTAINER, "restart-loop")
    house.wait(100)
    assert len(house.acts) == 1
    assert house.verdict(CONTAINER) == ("ask", "asked")


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


QUIET = rules(quiet="22:30-07:00", strikes=("escalate",))
NIGHT = moment("2026-11-21 23:00:00")
TOLD = ("trouble", "trouble-over", "escalated")


def test_nobody_hears_of_anything_in_quiet_hours_unless_it_is_critical() -> None:
    """What people hear of are events, whoever reads them."""
    house = House(QUIET, NIGHT)
    house.fails()
    house.wait(8 * HOUR - 1)
    assert house.kinds(*TOLD) == []
    house.wait(1)
    assert house.kinds(*TOLD) == ["trouble", "escalated"]
    assert house.data("trouble")[0]["since"] == NOON
    house.wait(24 * HOUR)
    assert house.kinds(*TOLD) == ["trouble", "escalated"]
    critical = House(QUIET, NIGHT)
    critical.fails(severity="critical")
    assert critical.kinds(*TOLD) == ["trouble", "escalated"]
    critical.heals()
    critical.wait(30)
    assert critical.kinds(*TOLD) == [*TOLD[:1], "escalated", "trouble-over"]


def test_what_gets_critical_in_quiet_hours_is_told_at_once_and_once() -> None:
    house = House(QUIET, NIGHT)
    house.fails()
    house.wait(60)
    house.fails(severity="critical")
    assert house.kinds(*TOLD) == ["trouble", "escalated"]
    house.acknowledge()
    house.wait(12 * HOUR)
    assert [item["severity"] for item in house.data("trouble") + house.data("escalated")] == ["critical"] * 2


def test_a_night_of_flapping_is_told_in_the_morning_as_one_trouble() -> None:
    house = House(rules(Override(WEB, mode="observe"), quiet="22:30-07:00"), NIGHT)
    for _ in range(100):
        house.fails()
        house.wait(60)
        house.heals()
        house.wait(120)
    assert house.kinds(*TOLD) == []
    house.wait(12 * HOUR)
    assert house.kinds(*TOLD) == ["trouble", "trouble-over"]
    assert (house.state.cases, house.state.escalations) == ({}, ())


def test_that_it_is_over_waits_for_the_morning_too() -> None:
    house = House(QUIET, moment("2026-11-21 22:00:00"))
    house.fails()
    house.acknowledge()
    house.wait(HOUR)
    house.heals()
    house.wait(HOUR)
    house.fails()
    house.wait(HOUR)
    house.heals()
    house.wait(HOUR)
    assert house.kinds("trouble", "trouble-over") == ["trouble"]
    house.wait(5 * HOUR)
    assert house.kinds("trouble", "trouble-over") == ["trouble", "trouble-over"]


def test_who_sleeps_until_it_is_quiet_tells_nothing_then() -> None:
    house = House(QUIET, moment("2026-11-21 22:29:00"))
    house.fails()
    house.acknowledge()
    house.heals()
    assert policy.wake(house.state, house.rules) == house.now + 30 * USEC
    house.now += 3600 * USEC
    house.step(Tick())
    assert house.kinds("trouble", "trouble-over") == ["trouble"]
    house.wait(8 * HOUR)
    assert house.kinds("trouble", "trouble-over") == ["trouble", "trouble-over"]


def test_what_is_let_be_since_the_night_is_escalated_in_the_morning_unless_somebody_resumed() -> None:
    for resumed in (False, True):
        house = House(QUIET, NIGHT)
        house.fails()
        house.wait(60)
        house.heals()
        house.wait(HOUR)
        if resumed:
            house.resume()
        house.wait(12 * HOUR)
        assert len(house.data("escalated")) == len(house.told[:1]) == (0 if resumed else 1)


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


def test_maintenance_within_the_proof_of_a_remedy_leaves_its_check_the_time_it_takes() -> None:
    """A disk that was cleaned is seen to be so by the next look at it: within its findings' lag."""
    disk = "disk:/srv"
    house = House(rules(Override(disk), strikes=("act", "escalate"), settle=30 * USEC))
    house.fails(disk, "space", lag=70)
    house.ends()
    house.wait(5)
    house.maintain(seconds=10)
    house.wait(10)
    assert house.verdict(disk) == ("hold", "settling")
    assert house.decision(disk).why == "it has 1min 40s to get well by itself"
    house.wait(99)
    house.heals(disk)
    house.wait(HOUR)
    assert (len(house.acts), house.told) == (1, [])


def test_what_waited_when_maintenance_began_waits_on() -> None:
    house = House(rules(strikes=AT_ONCE, cooldown=100 * USEC))
    house.fails()
    house.ends("failed")
    house.maintain(seconds=50)
    house.wait(79)
    assert (len(house.acts), house.case().strikes) == (1, 2)
    house.wait(21)
    assert (house.at(), house.case().strikes) == (100, 2)


# What a blind check found.


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


def test_so_does_what_a_check_found_that_cannot_look_for_a_moment() -> None:
    """That is noted, and nobody is told: an engine of containers may be started anew."""
    house = House(rules(strikes=("note", "act", "escalate"), settle=30 * USEC))
    house.fails()
    house.wait(25)
    blind = finding("check:units", "blind", "info")
    house.step(Observed("units", Target("check", "units"), (blind,)))
    assert house.verdict() == ("hold", "blind")
    house.wait(8)
    house.heals("check:units")
    assert (house.verdict(), house.acts) == (("hold", "settling"), [])
    house.wait(30)
    assert len(house.acts) == 1
    assert [event.target for event in house.events if event.kind == "trouble"] == [WEB]
