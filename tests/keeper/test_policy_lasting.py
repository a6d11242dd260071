"""What lasts: hands off, what was under way at a start, and spans when the clock is set."""

from __future__ import annotations

from rota_agents.home_keeper.messages import Anew, Started, Tick, Unrecorded
from rota_agents.home_keeper.policy import RETELL
from rota_agents.home_keeper.state import State

from rota.quantity import USEC

from .kit import AT_ONCE, HOUR, NOON, House, rules

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
