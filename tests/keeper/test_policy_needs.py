"""What a target needs is healed first; who waits for what nobody heals is not forgotten."""

from __future__ import annotations

from typing import Any

from rota.keeper_rules import Override
from rota.quantity import USEC

from .kit import AT_ONCE, DATABASE, HOUR, MINUTE, House, rules

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
