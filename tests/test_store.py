"""The store: all or nothing, killed at any moment, full, damaged, not writable."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rota.errors import RotaError
from rota.events import Event, Run, fold
from rota.store import VERSION, DamagedError, FullError, Store, open_store

START = 1_795_212_587_000_000
NOISE = random.Random(1).randbytes(50_000)  # noqa: S311  (the same at every run)


def run_id(number: int) -> str:
    return f"{number:032x}"


def life(number: int, *, agent: str = "a", at: int | None = None) -> list[Event]:
    """Return the events of a run that succeeded."""
    at = START + number * 1000 if at is None else at
    return [
        Event("activated", agent, run_id(number), at, {"boot": "b" * 32, "cursor": f"s=1;i={number}"}),
        Event("running", agent, run_id(number), at + 1),
        Event("deactivated", agent, run_id(number), at + 2),
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rota.db"


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


def filled(path: Path, count: int = 200) -> None:
    """Write a store of some pages, as rotad leaves it when it ends."""
    store = Store(path)
    for number in range(count):
        store.append(life(number), str(number))
    store.close()


def written(path: Path) -> list[tuple[Any, ...]]:
    """Return all events as another program sees them in the file."""
    with sqlite3.connect(path) as db:
        return db.execute("SELECT run, kind, at FROM events ORDER BY seq").fetchall()


def test_a_new_store_is_empty(path: Path) -> None:
    store, damage = open_store(path)
    assert damage is None
    assert store.cursor() is None
    assert (store.runs(), store.find("0"), store.get(run_id(0)), store.unarchived(0)) == ([], [], None, [])


def test_events_runs_and_cursor_are_there_after_opening_again(path: Path, store: Store) -> None:
    changed = store.append([*life(1), *life(2, agent="b")], "c1")
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
        assert store.append([event], "c") == [run] == [store.get(run_id(1))]
    assert run is not None
    assert replace(run, archived=False) != run


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
    assert store.append([], "c1") == []
    assert store.cursor() == "c1"


def test_newest_first_of_all_or_of_one_agent(store: Store) -> None:
    for number in (3, 1, 4, 2):
        store.append(life(number, agent="even" if number % 2 == 0 else "odd"), "c")
    # In the journal's order, whatever the clock said: a change of an old run does not make it new.
    assert [run.id for run in store.runs()] == [run_id(number) for number in (2, 4, 1, 3)]
    assert [run.id for run in store.runs("odd")] == [run_id(number) for number in (1, 3)]
    assert [run.id for run in store.runs(None, 1)] == [run_id(2)]
    assert store.runs("none") == []
    store.append([*life(9, at=START), *life(8, at=START)], "c")
    store.append(life(3, agent="odd"), "c")
    assert [run.id for run in store.runs()] == [run_id(number) for number in (8, 9, 2, 4, 1, 3)]


def test_find_by_the_beginning_of_an_id(store: Store) -> None:
    ids = ["ab" + "0" * 30, "abf" + "f" * 29, "ac" + "0" * 30, "f" * 32]
    for number, name in enumerate(ids):
        store.append([replace(event, run=name) for event in life(number)], "c")

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


def forked(work: Callable[[], object]) -> int:
    """Start a process that does the work and ends; return its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def record_on(path: Path, batch: int, begun: int) -> None:
    """Record runs one after another from the cursor on, as rotad does from the journal, until killed."""
    store = Store(path)
    while True:
        at = int(store.cursor() or -1)
        new = range(at + 1, at + 1 + batch)
        store.append([event for number in new for event in life(number)], str(new[-1]))
        os.write(begun, b".")


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
        runs = store.runs(None, 10**6)
        assert [(run.id, run.state) for run in reversed(runs)] == [
            (run_id(number), "succeeded") for number in range(last + 1)
        ]
        store.close()
        reached.append(last)
    assert reached == sorted(reached)
    assert len(set(reached)) >= 15


def garbage(path: Path) -> None:
    path.write_bytes(NOISE[:20_000])


def text(path: Path) -> None:
    path.write_text("not a database\n" * 100, encoding="ascii")


def truncated(path: Path) -> None:
    filled(path)
    os.truncate(path, path.stat().st_size // 2)


def cut_in_a_page(path: Path) -> None:
    filled(path)
    os.truncate(path, path.stat().st_size - 1000)


def page_overwritten(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * 4096)


def of_somebody_else(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE meta (a, b)")


def without_a_table(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE meta")


def header_zeroed(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.write(bytes(100))


def other_version(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")


DAMAGES = [
    of_somebody_else,
    garbage,
    text,
    truncated,
    cut_in_a_page,
    page_overwritten,
    header_zeroed,
    other_version,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_kept_aside_and_begun_anew(path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    before = path.read_bytes()
    store, said = open_store(path)
    kept = [
        name for name in path.parent.glob("rota.db.damaged-*") if not name.name.endswith(("-wal", "-shm"))
    ]
    (aside,) = kept
    assert said is not None
    assert str(aside) in said
    if damage not in (other_version, of_somebody_else):  # where SQLite turned on its WAL
        assert aside.read_bytes() == before
    assert store.cursor() is None
    assert store.runs() == []
    store.append(life(1), "c1")
    assert len(written(path)) == 3
    # Another process sees it too: nobody took away the new file's WAL with the old one.
    assert Store(path).cursor() == "c1"
    store.close()
    again, damage_again = open_store(path)
    assert (again.cursor(), damage_again) == ("c1", None)


def test_a_table_that_is_gone_is_damage(path: Path) -> None:
    without_a_table(path)
    store = Store(path)
    with pytest.raises(DamagedError):
        store.append(life(1), "c")


def test_the_version_is_named(path: Path) -> None:
    other_version(path)
    _, said = open_store(path)
    assert said is not None
    assert f"schema {VERSION + 1}, this rota writes {VERSION}" in said


def test_an_empty_file_is_a_new_store(path: Path) -> None:
    path.touch()
    store, damage = open_store(path)
    assert (store.cursor(), damage) == (None, None)


def left_by_a_kill(path: Path) -> None:
    """Leave a store whose newest transactions are in its WAL only."""

    def work() -> None:
        store = Store(path)
        for number in range(5):
            store.append(life(number), str(number))
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(forked(work), 0)
    assert path.with_name("rota.db-wal").stat().st_size > 0


def test_a_store_deleted_without_its_wal_is_new(path: Path) -> None:
    left_by_a_kill(path)
    path.unlink()
    store, damage = open_store(path)
    assert (store.cursor(), store.runs(), damage) == (None, [], None)
    store.append(life(1), "c1")
    assert len(written(path)) == 3


def test_a_wal_of_garbage_beside_a_good_store(path: Path) -> None:
    filled(path, 5)
    path.with_name("rota.db-wal").write_bytes(NOISE[:50_000])
    store, damage = open_store(path)
    assert (store.cursor(), len(store.runs()), damage) == ("4", 5, None)


def test_a_wal_cut_off_loses_its_events_with_their_cursor(path: Path) -> None:
    """As after a power cut: the journal has them still."""
    left_by_a_kill(path)
    wal = path.with_name("rota.db-wal")
    os.truncate(wal, wal.stat().st_size - 5000)
    store, damage = open_store(path)
    assert damage is None
    assert store.cursor() == "3"
    assert len(written(path)) == 3 * 4


def test_random_damage_never_ends_in_a_traceback(path: Path, tmp_path: Path) -> None:
    """It may go unnoticed inside a value, is noticed on opening, or later: always as what it is."""
    filled(path, 60)
    good = path.read_bytes()
    chance = random.Random(3)  # noqa: S311  (the same at every run)
    seen = {"whole": 0, "damaged": 0}
    for number in range(40):
        bad = bytearray(good)
        for _ in range(chance.choice((1, 5, 50))):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        target = tmp_path / f"{number}.db"
        target.write_bytes(bad)
        try:
            store = Store(target)
            store.cursor()
            store.runs(None, 1000)
            store.find("0", 1000)
            store.append(life(1000), "c")
            store.close()
            seen["whole"] += 1
        except (DamagedError, RotaError):
            seen["damaged"] += 1
    assert min(seen.values()) > 3, seen


def test_text_that_is_not_utf8_is_damage(path: Path) -> None:
    filled(path, 3)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET agent = CAST(x'ff' AS TEXT)")
    store = Store(path)
    with pytest.raises(DamagedError):
        store.runs()


def test_a_mistake_of_ours_is_not_damage(path: Path) -> None:
    """Else rotad would put the store aside, read the journal, and meet the same again, for ever."""
    store = Store(path)
    with pytest.raises(sqlite3.Error):
        store.append([replace(life(1)[0], agent=["a"])], "c1")  # type: ignore[arg-type]
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        store.runs()


def test_full_and_going_on_when_there_is_room(path: Path) -> None:
    """A limit on the size of files, as a quota would be; in a process of its own."""

    def work() -> None:
        store = Store(path)
        size = path.with_name("rota.db-wal").stat().st_size
        sys.dont_write_bytecode = True  # a module imported now would be cut off in its cache
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, hard))
        done = -1
        try:
            while True:
                store.append(life(done + 1), str(done + 1))
                done += 1
        except FullError as error:
            assert "room" in error.hint
            assert str(path) in error.message
        assert done > 0
        for _ in range(3):
            try:
                store.append(life(done + 1), str(done + 1))
            except FullError:
                continue
            raise AssertionError
        assert store.cursor() == str(done)
        assert len(store.runs(None, 1000)) == done + 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert len(store.append(life(done + 1), str(done + 1))) == 1
        assert store.cursor() == str(done + 1)

    assert os.waitpid(forked(work), 0)[1] == 0
    store = Store(path)
    last = int(store.cursor() or -1)
    assert len(written(path)) == 3 * (last + 1)


def on_tmpfs(tmp_path: Path, shell: str) -> dict[str, Any]:
    """Run a shell script where $1 is a file system of 1 MiB, this Python is $2; return its JSON."""
    small = tmp_path / "small"
    small.mkdir()
    as_root = ["--map-root-user"] if os.getuid() else []
    alone = ["unshare", "--mount", *as_root, "sh", "-c"]
    mount = 'set -e; mount -t tmpfs -o size=1m tmpfs "$1"; '
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, mount, "sh", str(small)], capture_output=True, check=False).returncode
    ):
        pytest.skip("no mount namespaces of one's own here")
    command = [*alone, mount + shell, "sh", str(small), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


PROGRAM = """
import json, sys
from pathlib import Path
from rota.errors import RotaError
from rota.store import open_store
from tests.test_store import life
place = Path(sys.argv[1])

def attempt(work, *arguments):
    try:
        return [type(work(*arguments)).__name__, ""]
    except RotaError as error:
        return [type(error).__name__, error.message]
"""


def program(text: str) -> str:
    return f"cd '{Path(__file__).parent.parent}'; \"$2\" - \"$1\" <<'END'\n{PROGRAM}{text}\nEND\n"


def test_a_full_disk(tmp_path: Path) -> None:
    found = on_tmpfs(
        tmp_path,
        program("""
store, _ = open_store(place / "rota.db")
store.append(life(0), "0")
(place / "filler").write_bytes(bytes(700_000))
done = 0
while (result := attempt(store.append, life(done + 1), str(done + 1)))[0] == "list":
    done += 1
told = {"result": result, "again": attempt(store.append, life(done + 1), "x"), "done": done,
        "cursor": store.cursor(), "runs": len(store.runs(None, 1000)),
        "other": attempt(open_store, place / "b.db")}
(place / "filler").unlink()
store.append(life(done + 1), str(done + 1))
store.close()
store, damage = open_store(place / "rota.db")
told |= {"after": store.cursor(), "runs after": len(store.runs(None, 1000)), "damage": damage}
json.dump(told, sys.stdout)
"""),
    )
    done = found["done"]
    assert done > 3
    assert found["result"][0] == found["again"][0] == found["other"][0] == "FullError"
    assert (found["cursor"], found["runs"]) == (str(done), done + 1)
    assert (found["after"], found["runs after"], found["damage"]) == (str(done + 1), done + 2, None)


def test_what_cannot_be_written_is_said_not_raised(tmp_path: Path) -> None:
    found = on_tmpfs(
        tmp_path,
        'mkdir "$1/d"; echo \'no database, but some text in it\' >"$1/bad.db"; mount -o remount,ro "$1";'
        + program("""
names = ("new.db", "bad.db", "d", "none/x.db")
json.dump({name: attempt(open_store, place / name) for name in names}, sys.stdout)
"""),
    )
    assert {result for result, _ in found.values()} == {"RotaError"}
    for name, (_, message) in found.items():
        assert f"small/{name}" in message
    assert "read" in found["bad.db"][1].lower()


def test_stray_files_of_the_directory_are_left_alone(path: Path) -> None:
    neighbours: Sequence[Path] = [
        path.with_name(name) for name in ("paused", "rota.db.bak", "rota.db.damaged-x")
    ]
    for neighbour in neighbours:
        neighbour.write_text("mine", encoding="ascii")
    garbage(path)
    open_store(path)
    assert all(neighbour.read_text(encoding="ascii") == "mine" for neighbour in neighbours)
