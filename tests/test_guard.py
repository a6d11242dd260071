"""rotad's watch over the keeper: one loss is told once, after a grace, and its end once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.events import KEEPER_BACK, KEEPER_LOST, Event
from rota.guard import GRACE, RESTARTS, WITHIN, Seen, State, judge
from rota.store import Store
from rota.telling import from_guard
from tests.store_kit import START, run_id

WELL = Seen(enabled=True, active="active", owned=True)
DEAD = Seen(enabled=True, active="failed", result="watchdog")


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (WELL, ""),
        (Seen(enabled=False), ""),
        (Seen(enabled=False, active="failed"), ""),
        (DEAD, "its service is failed, watchdog"),
        (Seen(enabled=True), "its service is inactive"),
        (Seen(enabled=True, active="activating", owned=True), "its service is activating"),
        (Seen(enabled=True, active="active"), "it runs, but is not on the bus"),
    ],
)
def test_what_is_trouble(seen: Seen, why: str) -> None:
    assert seen.trouble == why


def test_it_is_lost_after_the_grace_and_not_before() -> None:
    state, kind = judge(State(), DEAD, 100)
    assert (state.since, kind) == (100, "")
    assert judge(state, DEAD, 100 + GRACE - 1)[1] == ""
    assert judge(state, DEAD, 100 + GRACE)[1] == KEEPER_LOST


def test_what_comes_back_in_time_begins_anew() -> None:
    state, _ = judge(State(), DEAD, 0)
    state, kind = judge(state, WELL, GRACE - 1)
    assert (state, kind) == (State(), "")
    state, _ = judge(state, DEAD, GRACE)
    assert judge(state, DEAD, GRACE + 1)[1] == ""


def test_one_that_is_disabled_while_it_is_lost_is_no_longer_lost() -> None:
    assert judge(State(5, "x", "y"), Seen(enabled=False), 9)[1] == KEEPER_BACK


def crashing(every: int, first: int = 7) -> Iterator[tuple[int, Seen]]:
    """Yield the looks at one that is there for most of the time, and ends so often."""
    for number in count():
        yield number * every, Seen(True, "active", owned=True, restarts=first + number)
        yield (number + 1) * every - 1, Seen(True, "activating", "exit-code", restarts=first + number)


@pytest.mark.parametrize("every", [2 * GRACE // 10, 2 * GRACE, WITHIN // (RESTARTS + 1)])
def test_one_that_ends_again_and_again_is_lost_though_never_away_for_long(every: int) -> None:
    state, told = State(), []
    for now, seen in islice(crashing(every), 2000):
        state, kind = judge(state, seen, now)
        told += [(now, kind, state.since, state.why)] if kind else []
        state = replace(state, lost="n") if kind else state
    assert told == [(RESTARTS * every, KEEPER_LOST, every, "it ends again and again")]
    # It stays: it is back when it has not ended for a while.
    _, kind = judge(state, Seen(True, "active", owned=True, restarts=state.count), now + GRACE)
    assert kind == ""
    well, kind = judge(state, Seen(True, "active", owned=True, restarts=state.count), now + WITHIN)
    assert (well.since, well.restarted, kind) == (None, (), KEEPER_BACK)


def test_what_ends_now_and_then_is_not_lost() -> None:
    state = State()
    for now, seen in islice(crashing(WITHIN // (RESTARTS - 1)), 2000):
        state, kind = judge(state, seen, now)
        assert kind == ""


def test_what_ended_before_it_was_looked_at_does_not_count() -> None:
    state, kind = judge(State(), Seen(True, "active", owned=True, restarts=1000), 5)
    assert (kind, state.restarted) == ("", ())
    _, kind = judge(state, Seen(True, "active", owned=True, restarts=1002), 6)
    assert kind == ""
    _, kind = judge(state, Seen(True, "active", owned=True, restarts=1003), 6)
    assert kind == KEEPER_LOST


def test_whoever_starts_it_by_hand_has_mended_it() -> None:
    state = State(3, "n", "it ends again and again", 9, (1, 2, 3))
    well, kind = judge(state, Seen(True, "active", owned=True, restarts=0), 4)
    assert (well, kind) == (State(lost="n", count=0), KEEPER_BACK)


@given(st.lists(st.tuples(st.sampled_from([WELL, DEAD, Seen(enabled=False)]), st.integers(0, 2 * GRACE))))
def test_losses_and_their_ends_alternate(looks: list[tuple[Seen, int]]) -> None:
    state, now, told, bad_for = State(), 0, [], 0
    for seen, later in looks:
        bad_for = bad_for + later if seen.trouble and state.since is not None else 0
        now += later
        state, kind = judge(state, seen, now)
        if kind == KEEPER_LOST:
            assert bad_for >= GRACE
            state = State(state.since, "n", state.why)
        elif kind == KEEPER_BACK:
            state = State()
        told += [kind] if kind else []
    assert told == [KEEPER_LOST, KEEPER_BACK] * (len(told) // 2) + [KEEPER_LOST] * (len(told) % 2)


def event(kind: str, **data: object) -> Event:
    return Event(kind, "home-keeper", run_id(1), START, data)


def test_it_is_an_event_of_no_run(tmp_path: object) -> None:
    store = Store(tmp_path / "rota.db")  # type: ignore[operator]
    assert store.last_of("home-keeper", (KEEPER_LOST, KEEPER_BACK)) is None
    new = store.append([event(KEEPER_LOST, why="x", since=3)], "c")
    assert (new.runs, len(new.events)) == ([], 1)
    assert store.runs() == []
    found = store.last_of("home-keeper", (KEEPER_LOST, KEEPER_BACK))
    assert found is not None and (found.kind, found.run, found.data["why"]) == (KEEPER_LOST, run_id(1), "x")
    store.append([event(KEEPER_BACK)], "d")
    found = store.last_of("home-keeper", (KEEPER_LOST, KEEPER_BACK))
    assert found is not None and found.kind == KEEPER_BACK
    assert [one.event.kind for one in store.events(0, 9)] == [KEEPER_LOST, KEEPER_BACK]


def told(kind: str, **data: object) -> dict[str, object]:
    return {"kind": kind, "run": run_id(1), "at": START, "seq": 1, "data": data}


def test_people_are_told_of_it() -> None:
    lost = from_guard(told(KEEPER_LOST, why="its service is failed", since=START - 5))
    assert lost is not None
    assert (lost.kinds, lost.severity, lost.since) == (("escalation",), "critical", START - 5)
    assert lost.about == "Home Keeper" and lost.title.endswith("nothing is healed: its service is failed")
    back = from_guard(told(KEEPER_BACK, enabled=True, lost=START - 5))
    assert back is not None and (back.kinds, back.title) == (("recovery",), "is back")
    assert back.key != lost.key
    gone = from_guard(told(KEEPER_BACK, enabled=False))
    assert gone is not None and gone.title == "is no longer enabled"
    assert from_guard(told("archived")) is None
