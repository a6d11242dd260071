"""Slots to runs and rows: each slot once, nothing of the future, in steps or at once, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.quantity import USEC
from rota.slots import (
    CLOCK_CHANGED,
    HOST_DOWN,
    JITTER,
    NOT_KNOWN,
    ON_TIME,
    REASONS,
    SETTLED,
    STILL_RUNNING,
    SUSPENDED,
    TIMER_STOPPED,
    UNEXPLAINED,
    Accounted,
    Missed,
    Ran,
    Served,
    Span,
    Timer,
    account,
    read_timer,
)

S = USEC
DAILY = Timer(("daily",))
EVER = 10**9 * S


def ran(start: float, end: float | None = None, trigger: str | None = "timer", name: str = "") -> Ran:
    ended = None if end is None else round(end * S)
    return Ran(name or f"at-{start}", round(start * S), ended, trigger)


def judged(
    slots: list[float],
    runs: list[Ran],
    spans: tuple[Span, ...] = (),
    *,
    now: float = 10**9,
    timer: Timer = DAILY,
    tail: Missed | None = None,
) -> Accounted:
    return account(
        [round(slot * S) for slot in slots], runs, spans, now=round(now * S), timer=timer, tail=tail
    )


def told(found: Accounted) -> list[tuple[Any, ...]]:
    """Return what was served as (run, slot), what was missed as (reason, first, last, count)."""
    return [
        (item.run, item.slot / S)
        if isinstance(item, Served)
        else (item.reason, item.slot / S, item.slot_until / S, item.slots)
        for item in found.items
    ]


def test_a_slot_is_served_by_the_run_that_its_timer_started() -> None:
    found = judged([10, 20, 30], [ran(10.1, 11), ran(20.1, 21), ran(30.1)])
    assert told(found) == [("at-10.1", 10), ("at-20.1", 20), ("at-30.1", 30)]
    assert [item.late for item in found.items if isinstance(item, Served)] == [S // 10] * 3


def test_a_slot_is_served_once_and_a_run_serves_one() -> None:
    assert told(judged([10], [ran(10.1, 11), ran(12, 13)])) == [("at-10.1", 10)]
    known = replace(ran(25, 26), slot=10 * S)
    assert told(judged([20], [known])) == [(NOT_KNOWN, 20, 20, 1)]


@pytest.mark.parametrize("trigger", ["person", "manual", "boot", "path"])
def test_a_run_that_others_started_serves_no_slot(trigger: str) -> None:
    found = judged([10], [ran(10.1, 11, trigger)])
    assert told(found) == [(NOT_KNOWN, 10, 10, 1)]


def test_a_run_nobody_knows_the_trigger_of_serves_a_slot_if_it_came_when_it_was_due() -> None:
    assert told(judged([10], [ran(14, 15, None)])) == [("at-14", 10)]
    assert told(judged([10], [ran(16, 17, None)])) == [(NOT_KNOWN, 10, 10, 1)]
    # After the run before it, and after boot, it was due only then.
    assert told(judged([10], [ran(5, 100, "person"), ran(101, 102, None)])) == [("at-101", 10)]
    off = Span(HOST_DOWN, 8 * S, 500 * S)
    assert told(judged([10], [ran(501, 502, None)], (off,))) == [("at-501", 10)]
    assert told(judged([10], [ran(601, 602, None)], (off,))) == [(HOST_DOWN, 10, 10, 1)]


def test_with_other_lines_in_a_timer_its_runs_need_not_have_a_slot() -> None:
    mixed = Timer(("daily",), mixed=True)
    assert told(judged([10], [ran(16, 17), ran(20, 21)], timer=mixed)) == [(NOT_KNOWN, 10, 10, 1)]
    assert told(judged([10], [ran(10.2, 17), ran(20, 21)], timer=mixed)) == [("at-10.2", 10)]


def test_behind_a_long_run_the_latest_slot_is_served_and_the_others_are_missed() -> None:
    runs = [ran(5, 22.1), ran(22.2, 23)]
    found = judged([5, 10, 15, 20, 25], [*runs, ran(25.1, 26)])
    assert told(found) == [("at-5", 5), (STILL_RUNNING, 10, 15, 2), ("at-22.2", 20), ("at-25.1", 25)]
    served = found.items[2]
    assert isinstance(served, Served)
    assert (served.late, served.held, served.since) == (round(2.2 * S), STILL_RUNNING, 5 * S)


def test_a_slot_is_not_given_up_while_a_run_may_still_be_made_of_it() -> None:
    hourly = [ran(0, None)]
    assert judged([3600], hourly, now=9000) == Accounted(waiting=3600 * S)
    # The next one that passes takes its place.
    found = judged([3600, 7200], hourly, now=9000)
    assert (told(found), found.waiting) == ([(STILL_RUNNING, 3600, 3600, 1)], 7200 * S)
    over = [ran(0, 9000)]
    assert judged([7200], over, now=9001) == Accounted(waiting=7200 * S, again=9000 * S + SETTLED)
    assert told(judged([7200], over, now=9005)) == [(STILL_RUNNING, 7200, 7200, 1)]


def test_a_timer_that_is_stopped_before_it_comes_to_its_slot() -> None:
    """systemd takes up to AccuracySec= and the jitter to elapse; what ends it meanwhile is the reason."""
    stopped = Span(TIMER_STOPPED, 10 * S + S // 20, 14 * S)
    assert told(judged([10, 12], [], (stopped,), now=30)) == [(TIMER_STOPPED, 10, 12, 2)]
    off = Span(TIMER_STOPPED, 400 * S, None)
    assert told(judged([10], [], (off,), now=900, timer=replace(DAILY, jitter=600 * S))) == [
        (TIMER_STOPPED, 10, 10, 1)
    ]
    assert told(judged([10], [], (off,), now=900)) == [(NOT_KNOWN, 10, 10, 1)]


def test_what_nothing_speaks_against_is_waited_for() -> None:
    assert judged([10], [], now=20).again == 10 * S + UNEXPLAINED
    assert told(judged([10], [], now=71)) == [(NOT_KNOWN, 10, 10, 1)]
    stopped = Span(TIMER_STOPPED, 9 * S, None)
    assert judged([10], [], (stopped,), now=14).again == 10 * S + SETTLED
    assert told(judged([10], [], (stopped,), now=15)) == [(TIMER_STOPPED, 10, 10, 1)]


def test_catching_up_after_downtime_serves_the_latest_slot() -> None:
    off = Span(HOST_DOWN, 100 * S, 1000 * S)
    slots: list[float] = [150, 350, 550, 950, 1050]
    assert told(judged(slots, [ran(1003, 1004), ran(1050.1, 1051)], (off,))) == [
        (HOST_DOWN, 150, 550, 3),
        ("at-1003", 950),
        ("at-1050.1", 1050),
    ]
    assert told(judged(slots, [ran(1050.1, 1051)], (off,))) == [(HOST_DOWN, 150, 950, 4), ("at-1050.1", 1050)]
    # Just booted: there may be a run yet.
    found = judged(slots, [], (off,), now=1002)
    assert (told(found), found.waiting) == ([(HOST_DOWN, 150, 550, 3)], 950 * S)


def test_jitter_is_no_lateness() -> None:
    late = Timer(("daily",), jitter=60 * S)
    found = judged([100, 200], [ran(145, 146), ran(245, 246)], timer=late)
    assert told(found) == [("at-145", 100), ("at-245", 200)]
    assert [item.late for item in found.items if isinstance(item, Served)] == [0, 0]
    assert judged([100], [], now=164, timer=late).waiting == 100 * S


def test_slots_that_pass_while_a_start_is_put_off_come_to_nothing() -> None:
    late = Timer(("often",), jitter=60 * S)
    slots: list[float] = [*range(100, 190, 10)]
    found = judged(slots, [ran(145, 146), ran(195, 196)], timer=late)
    assert told(found) == [("at-145", 100), (JITTER, 110, 140, 4), ("at-195", 150), (JITTER, 160, 180, 3)]


def test_one_cause_is_one_row_and_another_is_another() -> None:
    spans = (
        Span(HOST_DOWN, 5 * S, 35 * S),
        Span(SUSPENDED, 36 * S, 55 * S),
        Span(SUSPENDED, 56 * S, 75 * S),
        Span(CLOCK_CHANGED, 76 * S, 95 * S),
    )
    found = judged([10, 20, 30, 40, 50, 60, 70, 80, 90, 100], [ran(100.1, 101)], spans)
    assert told(found)[:-1] == [
        (HOST_DOWN, 10, 30, 3),
        (SUSPENDED, 40, 50, 2),
        (SUSPENDED, 60, 70, 2),
        (CLOCK_CHANGED, 80, 90, 2),
    ]
    assert found.items[0] == Missed(10 * S, 30 * S, 3, HOST_DOWN, 5 * S, 35 * S)


def test_a_row_that_goes_on_is_the_same_row() -> None:
    stopped = Span(TIMER_STOPPED, 9 * S, None)
    (first,) = judged([10, 20], [], (stopped,)).items
    assert isinstance(first, Missed)
    (again,) = judged([30, 40], [], (stopped,), tail=first).items
    assert again == replace(first, slot_until=40 * S, slots=4)
    assert again.id("a") == first.id("a") != first.id("b")
    assert judged([30], [], (stopped,), now=31, tail=first).items == ()
    (other,) = judged([30], [], (Span(TIMER_STOPPED, 25 * S, None),), tail=first).items
    assert isinstance(other, Missed)
    assert (other.slot, other.slots) == (30 * S, 1)


def test_a_timer_in_its_lines() -> None:
    lines = [
        "OnCalendar=daily",
        "OnCalendar=*:0/5",
        "AccuracySec=100ms",
        "RandomizedDelaySec=1min",
        "Persistent=yes",
    ]
    assert read_timer(lines) == Timer(("daily", "*:0/5"), 60 * S)
    assert read_timer(["OnActiveSec=5min", "OnUnitActiveSec=5min"]) is None
    assert read_timer(["OnCalendar=daily", "OnBootSec=1min"]) == Timer(("daily",), mixed=True)
    assert Timer(("a", "b")).digest != Timer(("a",)).digest
    assert Timer(("a",), jitter=5).digest == Timer(("a",)).digest


@dataclass(frozen=True)
class History:
    """What happened to an agent."""

    slots: list[int]
    runs: list[Ran]
    spans: list[Span]
    timer: Timer
    now: int


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw slots, runs that do not overlap, and causes."""
    slots = sorted(draw(st.sets(st.integers(1, 1000), max_size=30)))
    edges = sorted(draw(st.sets(st.integers(1, 10_000), max_size=20)))
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    runs = [
        Ran(f"{index:032x}", start * S // 10, end * S // 10, draw(st.sampled_from(["timer", None, "person"])))
        for index, (start, end) in enumerate(pairs)
    ]
    goes_on: bool = draw(st.booleans())
    if runs and goes_on:
        runs[-1] = replace(runs[-1], ended=None)
    starts = draw(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 400)), max_size=4))
    spans = [
        Span(draw(st.sampled_from(REASONS[:4])), start * S, (start + length) * S) for start, length in starts
    ]
    jitter = draw(st.sampled_from([0, 0, 7 * S, 100 * S]))
    timer = Timer(("x",), jitter, draw(st.booleans()))
    return History([slot * S for slot in slots], runs, spans, timer, draw(st.integers(1, 1500)) * S)


def whole(history: History, now: int = EVER) -> Accounted:
    return account(history.slots, history.runs, history.spans, now=now, timer=history.timer)


def counted(found: Accounted, slots: list[int]) -> Counter[int]:
    seen: Counter[int] = Counter()
    for item in found.items:
        if isinstance(item, Served):
            seen[item.slot] += 1
        else:
            within = [slot for slot in slots if item.slot <= slot <= item.slot_until]
            assert len(within) == item.slots
            seen.update(within)
    return seen


@settings(max_examples=400)
@given(histories())
def test_every_slot_is_in_one_row_or_run_and_in_order(history: History) -> None:
    found = whole(history, history.now)
    past = [slot for slot in history.slots if slot <= history.now]
    done = [slot for slot in past if found.waiting is None or slot < found.waiting]
    assert counted(found, history.slots) == Counter(done)
    assert [item.slot for item in found.items] == sorted(item.slot for item in found.items)
    assert found.waiting is None or found.waiting in past
    served = [item.run for item in found.items if isinstance(item, Served)]
    assert len(served) == len(set(served))
    begun = {run.id: run.started for run in history.runs}
    assert all(item.slot <= begun[item.run] for item in found.items if isinstance(item, Served))


@given(histories())
def test_what_is_over_is_all_judged_at_last(history: History) -> None:
    open_run = bool(history.runs) and history.runs[-1].ended is None
    found = whole(history)
    if not open_run:
        assert found.waiting is None
    else:
        assert found.waiting in {None, *history.slots[-1:]}


def as_seen(history: History, now: int) -> list[Ran]:
    """Return the runs as they were at a moment."""
    return [
        replace(run, ended=run.ended if run.ended is not None and run.ended <= now else None)
        for run in history.runs
        if run.started <= now
    ]


@settings(max_examples=400)
@given(histories(), st.lists(st.integers(1, 1500), max_size=6))
def test_in_steps_it_comes_to_the_same(history: History, moments: list[int]) -> None:
    """Where what is known later does not change what happened: spans are over, and nothing is put off."""
    timer = replace(history.timer, jitter=0)
    kept: dict[int, Served | Missed] = {}
    upto, tail = 0, None
    for now in [*sorted(moment * S for moment in moments), EVER]:
        runs = [
            replace(
                run,
                slot=next((i.slot for i in kept.values() if isinstance(i, Served) and i.run == run.id), None),
            )
            for run in as_seen(history, now)
        ]
        left = [slot for slot in history.slots if slot > upto]
        found = account(left, runs, history.spans, now=now, timer=timer, tail=tail)
        for item in found.items:
            kept[item.slot] = item
            upto = item.slot if isinstance(item, Served) else item.slot_until
            tail = item if isinstance(item, Missed) else None
        again = account(
            [slot for slot in history.slots if slot > upto],
            runs,
            history.spans,
            now=now,
            timer=timer,
            tail=tail,
        )
        if not any(run.slot is None and run.trigger in ("timer", None) for run in runs):
            assert again.items == (), "the same again is nothing new"
    at_once = account(history.slots, history.runs, history.spans, now=EVER, timer=timer)
    assert counted(Accounted(tuple(kept.values())), history.slots) == counted(at_once, history.slots)


@settings(max_examples=400)
@given(histories(), st.integers(1, 10))
def test_in_batches_it_comes_to_the_same(history: History, size: int) -> None:
    """Some slots at a time, while there are further ones: as after a month off of a timer of every minute."""
    timer = replace(history.timer, jitter=0)
    items: list[Served | Missed] = []
    for start in range(0, len(history.slots), size):
        some = history.slots[start : start + size]
        further = next(iter(history.slots[start + size :]), None)
        tail = items.pop() if items and isinstance(items[-1], Missed) else None
        runs = [replace(run, slot=_slot_of(run, items)) for run in history.runs]
        assert not isinstance(tail, Served)
        found = account(some, runs, history.spans, now=EVER, timer=timer, tail=tail, further=further).items
        goes_on = tail is None or (found and found[0].slot == tail.slot)
        items += found if goes_on or tail is None else (tail, *found)
    assert items == list(whole(replace(history, timer=timer)).items)


def _slot_of(run: Ran, items: list[Served | Missed]) -> int | None:
    return next((item.slot for item in items if isinstance(item, Served) and item.run == run.id), None)


@given(
    st.integers(5, 60),
    st.lists(st.integers(1, 200), min_size=1, max_size=20),
    st.sampled_from(["timer", None]),
)
def test_of_what_systemd_does_with_long_runs_nothing_is_unexplained(
    every: int, lengths: list[int], trigger: str | None
) -> None:
    """A timer elapses again when its service has ended, if a slot has passed since it elapsed last."""
    runs: list[Ran] = []
    now = elapsed = 0.0
    for length in lengths:
        elapsed = max((int(elapsed) // every + 1) * every, now) + 0.1
        now = elapsed + length
        runs.append(ran(elapsed, now, trigger))
    slots = [float(slot) for slot in range(every, int(now) + 1, every) if slot * S < (runs[-1].ended or 0)]
    found = judged(slots, runs, now=now + 1000)
    served = {item.run: item.slot / S for item in found.items if isinstance(item, Served)}
    assert served == {run.id: run.started // (every * S) * every for run in runs}
    assert {item.reason for item in found.items if isinstance(item, Missed)} <= {STILL_RUNNING}


def test_on_time_is_less_than_settled() -> None:
    assert ON_TIME < SETTLED < UNEXPLAINED
