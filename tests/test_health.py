"""How agents did lately: what is told of each, and of which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rota import health, pauses
from rota.store import Store
from tests.store_kit import failure, life, missed_slots, run_id

NAMES = {"a", "b", "c"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "rota.db")


def told(store: Store, since: int) -> dict[str, dict[str, Any]]:
    return {line["agent"]: line for line in health.table(store, since, NAMES)["agents"]}


def test_how_an_agent_did(store: Store) -> None:
    store.append([*life(1), *failure(2), missed_slots(3, 2), missed_slots(4, 5), *life(5)[:2]], "c")
    found = health.lately(store, "a")
    assert found.newest is not None and found.newest.id == run_id(5) and not found.newest.over
    assert found.last is not None and (found.last.id, found.last.status) == (run_id(2), 3)
    assert (found.missed, found.trend) == (7, ["succeeded", "failed", "missed", "missed"])
    how = {"state": "failed", "reason": "exit-code", "status": 3, "signal": None}
    assert told(store, 0)["a"] == {"agent": "a", "trend": found.trend, "missed": 7, "last": how}
    assert told(store, 0)["b"] == {"agent": "b", "trend": [], "missed": 0, "last": None}


def test_the_last_run_is_told_however_many_slots_were_missed_since(store: Store) -> None:
    store.append([*failure(1), *(missed_slots(number, 1) for number in range(2, 30))], "c")
    found = health.lately(store, "a")
    assert found.last is not None and found.last.id == run_id(1)
    assert found.trend == ["missed"] * health.TREND


def test_only_of_what_changed(store: Store) -> None:
    store.append([*life(1), *life(2, agent="b"), *life(3, agent="gone")], "c")
    before = health.table(store, 0, NAMES)
    assert (before["store"], before["seq"], before["names"]) == (store.id(), 9, ["a", "b", "c"])
    assert told(store, 0).keys() == NAMES, "those that never ran, too"
    assert told(store, 9) == {}
    store.append([*failure(4, agent="b"), *life(5, agent="gone")], "c")
    assert told(store, 9).keys() == {"b"}
    assert told(store, 8).keys() == {"b"}


@pytest.mark.parametrize("since", [0, 10, 2**63 - 1])
def test_of_all_where_it_cannot_be_known(store: Store, since: int) -> None:
    """It was the first question, or the store is another one by now."""
    store.append([*life(1), *life(2, agent="b")], "c")
    assert told(store, since).keys() == NAMES


def test_of_all_where_too_much_happened(store: Store) -> None:
    store.append([event for number in range(1, 1668) for event in life(number)], "c")
    assert told(store, 1).keys() == {"a"}, "of 5,001 events 5,000 are new"
    store.append(life(1668), "c")
    assert told(store, 1).keys() == NAMES
    assert told(store, 4).keys() == {"a"}


def test_what_is_asked_reads_no_more_events_than_it_has_to(store: Store) -> None:
    """By the index of agents it would read all there are."""
    query = "EXPLAIN QUERY PLAN SELECT agent FROM events WHERE seq > 5"
    assert "USING INTEGER PRIMARY KEY" in store._db.execute(query).fetchone()[3]


def test_who_is_paused(tmp_path: Path) -> None:
    assert pauses.all_paused(tmp_path) == frozenset()
    for name in ("a", "b"):
        pauses.pause(tmp_path, name, by="ada", at=1, why="")
    pauses.resume(tmp_path, "b")
    (pauses.directory(tmp_path) / ".half").touch()
    assert pauses.all_paused(tmp_path) == {"a"}
