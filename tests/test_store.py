"""The store: what is written is there, in which order it is found, and killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from rota.events import Event, Run, fold
from rota.query import Query
from rota.store import Appended, Store, open_store
from tests.store_kit import START, forked, life, run_id, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rota.db"


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


def test_a_new_store_is_empty(path: Path) -> None:
    store, damage = open_store(path)
    assert damage is None
    assert store.cursor() is None
    assert (store.runs(), store.find("0"), store.get(run_id(0)), store.unarchived(0)) == ([], [], None, [])


def test_events_runs_and_cursor_are_there_after_opening_again(path: Path, store: Store) -> None:
    changed = store.append([*life(1), *life(2, agent="b")], "c1").runs
    assert [(run.id, run.state) for run in changed] == [(run_id(1), "succeeded"), (run_id(2), "succeeded")]
    store.close()
    again, damage = open_store(path)
    assert damage is None
    assert again.cursor() == "c1"
    assert again.runs() == [changed[1], changed[0]]
    assert written(path) == [(event.run, event.kind, event.at) for event in [*life(1), *life(2)]]


def test_every_field_comes_back_as_it_was(store: Store) -> None:
    found = [
        *life(1),
        Event("triggered", "a", run_id(1), START, {"trigger": "person", "by": "ädä"}),
        Event("stop-requested", "a", run_id(1), START, {"by": "bob"}),
        Event(
            "archived",
            "a",
            run_id(1),
            START,
            {"cpu_usec": 1, "memory_peak": 2**62, "io_read": 0, "io_write": 4, "code": "exited", "status": 0},
        ),
    ]
    run: Run | None = None
    for event in found:
        run = fold(run, event)
        assert store.append([event], "c").runs == [run] == [store.get(run_id(1))]
    assert run is not None
    assert run._replace(archived=False) != run


def test_a_run_goes_on_where_the_last_batch_left_it(store: Store) -> None:
    store.append(life(1)[:2], "c1")
    assert [run.state for run in store.runs()] == ["running"]
    store.append(life(1)[2:], "c2")
    (run,) = store.runs()
    assert (run.state, run.started, run.ended) == ("succeeded", life(1)[0].at, life(1)[2].at)


def test_a_batch_that_cannot_be_written_leaves_nothing(path: Path, store: Store) -> None:
    store.append(life(1), "c1")
    bad = Event("triggered", "a", run_id(2), START, {"trigger": {1, 2}})
    with pytest.raises(TypeError):
        store.append([*life(2), bad], "c2")
    assert store.cursor() == "c1"
    assert store.get(run_id(2)) is None
    assert len(written(path)) == 3
    store.append(life(2), "c2")
    assert store.cursor() == "c2"


def test_no_events_still_move_the_cursor(store: Store) -> None:
    assert store.append([], "c1") == Appended([], [])
    assert store.cursor() == "c1"


def test_newest_first_of_all_or_of_one_agent(store: Store) -> None:
    for number in (3, 1, 4, 2):
        store.append(life(number, agent="even" if number % 2 == 0 else "odd"), "c")
    # In the journal's order, whatever the clock said: a change of an old run does not make it new.
    assert [run.id for run in store.runs()] == [run_id(number) for number in (2, 4, 1, 3)]
    assert [run.id for run in store.runs(Query(("odd",)))] == [run_id(number) for number in (1, 3)]
    assert [run.id for run in store.runs(limit=1)] == [run_id(2)]
    assert store.runs(Query(("none",))) == []
    store.append([*life(9, at=START), *life(8, at=START)], "c")
    store.append(life(3, agent="odd"), "c")
    assert [run.id for run in store.runs()] == [run_id(number) for number in (8, 9, 2, 4, 1, 3)]


def test_find_by_the_beginning_of_an_id(store: Store) -> None:
    ids = ["ab" + "0" * 30, "abf" + "f" * 29, "ac" + "0" * 30, "f" * 32]
    for number, name in enumerate(ids):
        store.append([event._replace(run=name) for event in life(number)], "c")

    def found(prefix: str, limit: int = 10) -> list[str]:
        return [run.id for run in store.find(prefix, limit)]

    assert found("ab") == [ids[1], ids[0]]
    assert found("a") == [ids[2], ids[1], ids[0]]
    assert found("a", 2) == [ids[2], ids[1]]
    assert found("f") == found("f" * 32) == [ids[3]]
    assert found(ids[0]) == [ids[0]]
    for none in ("b", "abe", "AB", "%", "a%", "_b", "' OR 1", ids[0] + "0"):
        assert found(none) == []


def test_what_is_left_to_be_archived(store: Store) -> None:
    store.append(life(1)[:2], "c")
    store.append(life(2, at=START + 100), "c")
    store.append(life(3, at=START + 900), "c")
    store.append([*life(4, at=START + 900), Event("archived", "a", run_id(4), START)], "c")
    store.append([life(5)[0], Event("lost", "a", run_id(5), START, {"reason": "?"})], "c")
    assert {run.id for run in store.unarchived(START + 500)} == {run_id(1), run_id(3), run_id(5)}
    assert {run.id for run in store.unarchived(0)} == {run_id(number) for number in (1, 2, 3, 5)}


def record_on(path: Path, batch: int, begun: int) -> None:
    """Record runs one after another from the cursor on, as rotad does from the journal, until killed."""
    store = Store(path)
    while True:
        at = int(store.cursor() or -1)
        new = range(at + 1, at + 1 + batch)
        store.append([event for number in new for event in life(number)], str(new[-1]))
        os.write(begun, b".")


def test_what_was_said_is_left_to_be_filed(store: Store) -> None:
    """Of runs that are archived, in their order, until it is."""
    found = [event for number in (1, 2, 3) for event in life(number)]
    archived = [Event("archived", "a", run_id(number), START) for number in (3, 1)]
    skipped = Event("skipped", "a", run_id(4), START, {"reason": "paused"})
    store.append([*found, *archived, skipped], "c1")
    assert [run.id for run in store.unfiled(0, 10)] == [run_id(1), run_id(3)]
    assert [run.id for run in store.unfiled(0, 1)] == [run_id(1)]
    assert store.unfiled(START + 3000, 10) == [store.get(run_id(3))]
    said = {"first_line": "one", "last_line": "two", "result": '{"é":1}'}
    store.append([Event("output", "a", run_id(1), START, said), Event("output", "a", run_id(3), START)], "c2")
    assert store.unfiled(0, 10) == []
    run = store.get(run_id(1))
    assert run is not None
    assert (run.first_line, run.last_line, run.result, run.result_error) == ("one", "two", '{"é":1}', None)


def test_an_answer_holds_no_more_text_than_fits(store: Store) -> None:
    """What fits is 24 MiB, and what makes it more."""
    found = [event for number in range(5) for event in life(number)]
    told = [Event("output", "a", run_id(number), START, {"result": "x" * 10**7}) for number in range(5)]
    store.append([*found, *told], "c1")
    assert [run.id for run in store.runs(limit=10)] == [run_id(4), run_id(3), run_id(2)]
    assert len(store.events(15, 10)) == 3
    assert len(store.events(0, 15)) == 15, "little text"


def test_kill_at_any_moment_loses_and_doubles_nothing(path: Path) -> None:
    chance = random.Random(7)  # noqa: S311  (the same at every run)
    reached = []
    for kill in range(20):
        written_to, begun = os.pipe()
        child = forked(lambda batch=kill % 4 + 1, begun=begun: record_on(path, batch, begun))  # type: ignore[misc]
        if kill % 4:
            os.read(written_to, 1)  # else it may die while it opens the store
        time.sleep(chance.uniform(0, 0.015))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        os.close(written_to)
        os.close(begun)
        store, damage = open_store(path)
        assert damage is None
        last = int(store.cursor() or -1)
        expected = [event for number in range(last + 1) for event in life(number)]
        assert written(path) == [(event.run, event.kind, event.at) for event in expected]
        runs = store.runs(limit=10**6)
        assert [(run.id, run.state) for run in reversed(runs)] == [
            (run_id(number), "succeeded") for number in range(last + 1)
        ]
        store.close()
        reached.append(last)
    assert reached == sorted(reached)
    assert len(set(reached)) >= 15


def test_the_end_of_a_run_is_on_the_disk_before_anybody_hears_of_it(store: Store) -> None:
    def synced(event: Event) -> int:
        store.append([event], "c")
        return int(store._db.execute("PRAGMA synchronous").fetchone()[0])

    normal, full = 1, 2  # sqlite.org/pragma.html
    assert [synced(event) for event in life(1)] == [normal, normal, full]
    assert [synced(event) for event in life(2)] == [normal, normal, full]
