"""What the store forgets, and what it never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from rota.events import Event
from rota.query import Query
from rota.store import Store
from tests.store_kit import START, life, run_id

DAY = 86_400_000_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "rota.db")


def filed(number: int, agent: str = "a", day: int = 0) -> list[Event]:
    at = START + day * DAY + number
    return [*life(number, agent=agent, at=at), Event("archived", agent, run_id(number), at + 3)]


def forget(store: Store, before: int, keep: int = 10**6, critical: tuple[str, ...] = ()) -> int:
    total = 0
    while done := store.prune(before, keep, critical):
        total += done
    return total


def left(store: Store, agent: str) -> list[int]:
    return [int(run.id, 16) for run in store.runs(Query((agent,)), 10**6)]


def test_old_runs_go_and_the_last_one_stays(store: Store) -> None:
    for day in range(10):
        store.append([*filed(day, "a", day), *(filed(100 + day, "b", day) if day < 3 else ())], "c")
    assert forget(store, START + 5 * DAY) > 0
    assert left(store, "a") == [9, 8, 7, 6, 5]
    assert left(store, "b") == [102]
    assert forget(store, START + 5 * DAY) == 0


def test_no_more_runs_than_are_wanted(store: Store) -> None:
    for number in range(1200):
        store.append(filed(number), "c")
    forget(store, 0, keep=700)
    assert left(store, "a") == list(range(1199, 499, -1))
    forget(store, 0, keep=0)
    assert left(store, "a") == [1199]


def test_critical_agents_keep_everything(store: Store) -> None:
    store.append([event for n in range(6) for event in filed(n, "a" if n % 2 else "b")], "c")
    forget(store, START + DAY, critical=("a",))
    assert (left(store, "a"), left(store, "b")) == ([5, 3, 1], [4])
    assert [item.event.agent for item in store.events(0, 100)] == ["a"] * 12


def test_a_run_under_way_or_not_filed_is_kept(store: Store) -> None:
    store.append([*life(1)[:2], *life(2), *filed(3), *filed(4)], "c")
    forget(store, START + DAY)
    assert left(store, "a") == [4, 2, 1]


def test_events_are_forgotten_from_the_front_and_numbers_go_on(store: Store) -> None:
    for day in range(6):
        store.append(filed(day, day=day), "c")
    assert store.bounds() == (1, 24)
    forget(store, START + 3 * DAY)
    assert store.bounds() == (13, 24)
    assert [item.seq for item in store.events(0, 100)] == list(range(13, 25))
    forget(store, START + 100 * DAY)
    assert store.bounds() == (25, 24)
    store.append(filed(50, day=100), "c")
    assert [item.seq for item in store.events(0, 100)] == [25, 26, 27, 28]


def test_a_moment_is_found_among_events(store: Store) -> None:
    for day in range(40):
        store.append(filed(day, day=day), "c")
    assert store.seq_before(0) == 0
    assert store.seq_before(START + 3 * DAY + 3) == 12
    assert store.seq_before(START + 10**15) == 160
    forget(store, START + 20 * DAY)
    assert store.seq_before(0) == 80
    assert store.seq_before(START + 30 * DAY + 30) == 120


def test_totals_outlive_runs_and_count_each_once(store: Store) -> None:
    for day in range(5):
        store.append(filed(day, day=day), "c")
    # Told again, after it was filed: not another run, but another result.
    store.append(
        [Event("lost", "a", run_id(9), START, {"reason": "?"}), Event("archived", "a", run_id(9), START)], "c"
    )
    first = START // DAY
    assert store.totals(first)["a"].states == {"succeeded": 5, "unknown": 1}
    store.append([event._replace(run=run_id(9)) for event in life(9, at=START)[2:]], "c")
    assert +store.totals(first)["a"].states == {"succeeded": 6}
    forget(store, START + 100 * DAY)
    assert store.totals(first)["a"].runs == 6
    assert store.totals(first + 3)["a"].runs == 2
    assert store.totals(first, ["b"]) == {}
    store.forget_totals(first + 3)
    assert store.totals(first)["a"].runs == 2
