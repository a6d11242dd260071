"""What holds the keeper back: a question, the night, maintenance, and what a target needs."""

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


def observed(*more: Override, **keys: Any) -> House:
    """Return a house whose clients are healed, and whose database only a person heals."""
    return House(rules(Override("unit:app-*.service", after=(DATABASE,)), *more, **keys))


def test_what_waits_for_what_nobody_heals_is_told_of_and_healed_when_that_is_well() -> None:
    house, (app, *_) = observed(), CLIENTS
    house.fails(DATABASE)
    house.fails(app)
    house.wait(59)
    assert (house.verdict(app), house.told) == (("hold", "dependency"), [])
    house.wait(1)
    assert {str(item.target): item.why for _, item in house.told} == {
        DATABASE: "strike 3 of 3",
        app: f"it waits for {DATABASE}, which nobody heals",
    }
    assert house.verdict(app) == ("escalate", "unhealed")
    assert house.allowed(app) == (None, "unhealed")
    assert f"Stands still, uncounted: it waits for {DATABASE}, which nobody heals." in house.sentences(app)
    house.acknowledge()
    house.wait(24 * HOUR)
    assert (house.kinds("escalated"), house.acts) == (["escalated"] * 2, [])
    house.heals(DATABASE)
    house.wait(2 * MINUTE)
    assert [str(action.target) for _, action in house.acts] == [app]
    house.works(app)
    house.wait(HOUR)
    assert [item["told"] for item in house.data("recovered")] == [True, True]


def test_who_comes_to_wait_later_has_the_time_that_its_own_steps_would_take() -> None:
    house, (app, *_) = observed(Override(CLIENTS[0], strikes=("note", "note", "act"))), CLIENTS
    house.fails(DATABASE)
    house.wait(HOUR)
    house.acknowledge()
    house.fails(app)
    house.wait(89)
    assert (house.verdict(app), house.decision(app).again) == (("hold", "unhealed"), house.now + USEC)
    assert house.kinds("escalated") == ["escalated"]
    house.wait(1)
    assert str(house.told[-1][1].target) == app


def test_who_waits_through_others_is_told_of_too() -> None:
    others = (Override("unit:a", after=("unit:b",)), Override("unit:b", after=("unit:c",)))
    house = House(rules(*others))
    for name in "abc":
        house.fails(f"unit:{name}")
    house.wait(HOUR)
    assert {str(item.target): item.why for _, item in house.told} == {
        "unit:a": "it waits for unit:c, which nobody heals",
        "unit:b": "it waits for unit:c, which nobody heals",
        "unit:c": "strike 3 of 3",
    }
    assert house.kinds("escalated") == ["escalated"] * 3


def test_who_waits_for_what_was_escalated_waits_for_the_person_who_was_told_of_that() -> None:
    """What that one needs besides is nothing new: it is let be, whatever becomes of the other."""
    others = (
        Override("unit:a", after=("unit:b",)),
        Override("unit:b", after=("unit:c",), strikes=("escalate",)),
    )
    house = House(rules(*others))
    house.fails("unit:b")
    house.fails("unit:c")
    house.wait(HOUR)
    house.fails("unit:a")
    house.wait(HOUR)
    assert {str(item.target) for _, item in house.told} == {"unit:b", "unit:c"}
    assert house.decision("unit:a").why == "it needs unit:b, which is to be well first"


def test_nobody_is_told_that_who_waits_for_it_waits_while_somebody_works_on_it() -> None:
    house, (app, *_) = observed(), CLIENTS
    house.fails(DATABASE)
    house.wait(HOUR)
    house.acknowledge()
    house.maintain(DATABASE, 600)
    house.fails(app)
    house.wait(599)
    assert house.kinds("escalated") == ["escalated"]
    house.wait(1)
    assert house.kinds("escalated") == ["escalated"] * 2


def test_a_question_that_waits_for_what_nobody_heals_is_put_when_that_is_well() -> None:
    house, (app, *_) = observed(Override(CLIENTS[0], mode="ask"), strikes=("act", "escalate")), CLIENTS
    house.fails(app)
    house.wait(5)
    asked = house.case(app).ask
    assert asked is not None
    house.fails(DATABASE)
    house.wait(10 * MINUTE)
    assert {str(item.target) for _, item in house.told} == {app, DATABASE}
    assert house.case(app).ask == asked
    house.heals(DATABASE)
    house.wait(MINUTE)
    house.answer(True, asked.id)
    assert [str(action.target) for _, action in house.acts] == [app]


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
