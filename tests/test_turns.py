"""Whose turn it is: in turn, bounded, and nobody remembered who has nothing to wait for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.turns import UNANSWERED, WAITING, Call, Turns


def put(turns: Turns, caller: str, count: int = 1, data: bytes = b"x") -> int:
    """Put so many calls of one caller; return how many may wait."""
    return sum(turns.put(Call(caller, data, 0.0)) for _ in range(count))


def begin(turns: Turns, now: float = 0.0) -> str:
    """Begin a call and end it at once; return whose it was, "" if nobody may."""
    call = turns.take(now)
    if call is None:
        return ""
    turns.done(call, now)
    return call.caller


def test_one_after_the_other() -> None:
    turns = Turns()
    put(turns, "a", 3)
    put(turns, "b", 1)
    put(turns, "c", 2)
    assert [begin(turns) for _ in range(7)] == ["a", "b", "c", "a", "c", "a", ""]


def test_a_callers_own_calls_keep_their_order() -> None:
    turns = Turns()
    calls = [Call("a", bytes([number]), 0.0) for number in range(3)]
    assert all(map(turns.put, calls))
    assert [turns.take(0.0) for _ in range(3)] == calls


def test_who_comes_behind_a_flood_is_next_but_one() -> None:
    turns = Turns()
    assert put(turns, "flood", 10 * UNANSWERED) == UNANSWERED
    put(turns, "b")
    assert "b" in [begin(turns), begin(turns)]


def test_few_of_one_caller_are_at_work_at_once_unless_they_only_wait() -> None:
    turns = Turns()
    put(turns, "a", 20)
    at_work = []
    while (call := turns.take(0.0)) is not None:
        at_work.append(call)
    assert 1 < len(at_work) < 10
    put(turns, "b")
    assert begin(turns) == "b"
    turns.waits(at_work[0])
    turns.waits(at_work[0])
    assert turns.take(1.0) is not None
    assert turns.take(1.0) is None, "only one has made room"


def test_what_waits_counts_as_unanswered_until_it_is() -> None:
    """StopAgent may take minutes: who calls it again and again has so many under way and no more."""
    turns = Turns()
    slow = []
    while put(turns, "a"):
        call = turns.take(0.0)
        assert call is not None
        turns.waits(call)
        slow.append(call)
    assert len(slow) == UNANSWERED
    turns.done(slow[0], 100.0)
    assert put(turns, "a") == 1


def test_great_calls_fill_a_queue_sooner_but_one_may_always_wait() -> None:
    turns = Turns()
    assert put(turns, "a", 20, bytes(WAITING // 4)) == 4
    assert put(turns, "b", 2, bytes(2 * WAITING)) == 1


def test_who_asks_for_too_much_gets_a_tenth() -> None:
    turns = Turns()
    for flood in ("one", "two", "three"):
        put(turns, flood, UNANSWERED + 1)
    now = 1.0
    call = turns.take(now)
    assert call is not None
    assert call.too_much
    assert turns.take(now) is None, "nor do others begin who did the same"
    assert turns.rested() is None
    put(turns, "b")
    assert begin(turns, now) == "b"
    turns.done(call, now + 0.1)
    assert turns.take(now + 0.9) is None
    rested = turns.rested()
    assert rested is not None
    assert now + 0.9 < rested < now + 1.1
    next_one = turns.take(rested)
    assert next_one is not None
    assert next_one.caller != call.caller


def test_who_has_done_half_of_it_is_as_good_as_others() -> None:
    turns = Turns()
    now = 1.0
    put(turns, "a", UNANSWERED + 1)
    for _ in range(UNANSWERED // 2 + 1):
        assert begin(turns, now) == "a"
    first, second = turns.take(now), turns.take(now)
    assert first is not None
    assert second is not None


def test_who_is_gone_is_forgotten() -> None:
    turns = Turns()
    put(turns, "a", 5)
    put(turns, "b", 1)
    call = turns.take(0.0)
    assert call is not None
    turns.drop("a")
    turns.drop("a")
    turns.drop("nobody")
    assert [begin(turns), begin(turns)] == ["b", ""]
    turns.done(call, 1.0)
    assert len(turns) == 0


_STEP = st.tuples(st.sampled_from(["put", "take", "waits", "done", "drop"]), st.sampled_from("abc"))


@given(st.lists(_STEP, max_size=200))
def test_whatever_happens_every_call_ends_and_nobody_is_remembered(steps: list[tuple[str, str]]) -> None:
    turns, under_way, waiting, now = Turns(), list[Call](), list[Call](), 0.0
    for step, caller in steps:
        now += 0.01
        if step == "put":
            call = Call(caller, b"x" * (WAITING // 8), now)
            if turns.put(call):
                waiting.append(call)
        elif step == "take" and (taken := turns.take(now)) is not None:
            waiting.remove(taken)
            under_way.append(taken)
        elif step == "waits" and under_way:
            turns.waits(under_way[0])
        elif step == "done" and under_way:
            turns.done(under_way.pop(0), now)
        elif step == "drop":
            turns.drop(caller)
            waiting = [call for call in waiting if call.caller != caller]
        assert len(turns) == len({call.caller for call in waiting + under_way})
    while waiting or under_way:
        now = max(now, turns.rested() or 0.0)
        if (taken := turns.take(now)) is not None:
            waiting.remove(taken)
            under_way.append(taken)
        else:
            turns.done(under_way.pop(), now)
    assert len(turns) == 0
