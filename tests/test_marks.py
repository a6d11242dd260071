"""Up to where slots are accounted for: moved with the events that say so, made again with the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from rota.events import Event, Run, fold
from rota.marks import Mark
from rota.query import Query
from rota.store import Store
from rota.totals import DAY
from tests.store_kit import START, life, run_id

S = 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "rota.db")


def served(number: int, slot: int, timer: str = "t1") -> Event:
    return Event("served", "a", run_id(number), START, {"slot": slot, "late": 5, "timer": timer})


def missed(number: int, slot: int, until: int, count: int, reason: str = "host-down") -> Event:
    data = {"slot": slot, "slot_until": until, "slots": count, "reason": reason, "timer": "t1"}
    return Event("missed", "a", run_id(number), START, data)


def test_a_mark_moves_with_the_events(store: Store) -> None:
    assert store.mark("a") is None
    store.append([*life(1), served(1, 10)], "c1")
    assert store.mark("a") == Mark(10, "t1")
    store.append([missed(2, 20, 30, 2)], "c2")
    assert store.mark("a") == Mark(30, "t1", run_id(2))
    store.append([missed(2, 20, 50, 4)], "c3")
    assert store.mark("a") == Mark(50, "t1", run_id(2))
    store.append([served(1, 10)], "c4")
    assert store.mark("a") == Mark(50, "t1", run_id(2)), "told again, late"
    store.append([*life(3), served(3, 60)], "c5")
    assert store.mark("a") == Mark(60, "t1")
    assert store.marked() == ["a"]


def test_lines_hold_until_a_slot_is_of_other_lines(store: Store) -> None:
    store.set_mark("a", Mark(5, "t1", None, "lines"))
    store.append([*life(1), served(1, 10)], "c")
    assert store.mark("a") == Mark(10, "t1", None, "lines")
    store.append([*life(2), served(2, 20, "t2")], "c")
    assert store.mark("a") == Mark(20, "t2")
    store.set_mark("a", None)
    assert store.mark("a") is None


def test_the_events_alone_make_the_mark_again(store: Store, tmp_path: Path) -> None:
    events = [
        *life(1),
        served(1, 10),
        missed(2, 20, 30, 2),
        *life(3),
        served(3, 40, "t2"),
        missed(4, 50, 50, 1),
    ]
    for event in events:
        store.append([event], "c")
    again = Store(tmp_path / "again.db")
    again.append(events, "c")
    assert again.mark("a") == store.mark("a") == Mark(50, "t1", run_id(4))
    assert again.runs() == store.runs()


def test_a_row_that_goes_on_is_one_row(store: Store) -> None:
    store.append([missed(2, 20 * S, 30 * S, 2)], "c")
    store.append([missed(2, 20 * S, 50 * S, 4, "suspended")], "c")
    (row,) = store.runs(Query(("a",)))
    assert (row.state, row.reason, row.slot, row.slot_until, row.slots) == (
        "missed",
        "suspended",
        20 * S,
        50 * S,
        4,
    )
    assert (row.started, row.ended, row.archived, row.over) == (20 * S, 50 * S, True, True)
    assert store.totals(0)["a"].states["missed"] == 4
    assert store.totals(0)["a"].runs == 0
    assert store.count(Query(("a",)))["a"].states["missed"] == 4


def test_lateness_is_counted_once(store: Store) -> None:
    store.append([*life(1), Event("archived", "a", run_id(1), START + 9)], "c")
    assert store.totals(0)["a"].lateness(0.95) is None
    for _ in range(3):
        store.append([served(1, START - 8 * S)], "c")
    totals = store.totals(0)["a"]
    assert totals.runs == 1
    assert totals.late.total() == 1
    late = totals.lateness(0.95)
    assert late is not None
    assert abs(late - 5) <= 1


def test_a_row_of_missed_slots_does_not_stand_for_the_last_run(store: Store) -> None:
    done = [*life(1), Event("archived", "a", run_id(1), START + 9)]
    store.append(
        [*done, missed(2, START + S, START + 2 * S, 2), missed(3, START + 4 * S, START + 4 * S, 1)], "c"
    )
    while store.prune(START + DAY, 10):
        pass
    assert [run.id for run in store.runs(Query(("a",)))] == [run_id(1)]
    # Where there was never a run, something is left.
    store.append([Event("missed", "b", run_id(9), START, missed(9, 5, 6, 2).data)], "c")
    while store.prune(START + DAY, 10):
        pass
    assert [run.id for run in store.runs(Query(("b",)))] == [run_id(9)]


def test_the_run_of_a_slot_is_found(store: Store) -> None:
    store.append([*life(1), served(1, 10), missed(2, 20, 30, 2)], "c")
    found = [store.of_slot("a", slot) for slot in (9, 10, 20, 25, 30, 31)]
    assert [run and run.id for run in found] == [None, run_id(1), run_id(2), run_id(2), run_id(2), None]


def test_runs_since_a_moment_come_with_the_one_before(store: Store) -> None:
    for number in range(6):
        store.append(life(number, at=START + number * S), "c")
    store.append([missed(9, START + 3 * S, START + 3 * S, 1)], "c")
    assert [run.id for run in store.since("a", START + 4 * S)] == [run_id(number) for number in (3, 4, 5)]
    assert [run.id for run in store.since("a", 0)] == [run_id(number) for number in range(6)]


def test_what_is_told_of_a_slot_of_a_run_leaves_its_end_alone() -> None:
    run: Run | None = None
    for event in [*life(1), served(1, 10)]:
        run = fold(run, event)
    assert run is not None
    assert (run.state, run.slot, run.late) == ("succeeded", 10, 5)
