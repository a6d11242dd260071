"""The store when it is damaged, without room, or not writable."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rota.database import FullError
from rota.errors import DamagedError, RotaError
from rota.schema import VERSION
from rota.store import Store, open_store
from tests.store_kit import filled, forked, life, on_tmpfs, written

NOISE = random.Random(1).randbytes(50_000)  # noqa: S311  (the same at every run)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rota.db"


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
            store.runs(limit=1000)
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
        store.append([life(1)[0]._replace(agent=["a"])], "c1")  # type: ignore[arg-type]
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
        assert len(store.runs(limit=1000)) == done + 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert len(store.append(life(done + 1), str(done + 1)).runs) == 1
        assert store.cursor() == str(done + 1)

    assert os.waitpid(forked(work), 0)[1] == 0
    store = Store(path)
    last = int(store.cursor() or -1)
    assert len(written(path)) == 3 * (last + 1)


PROGRAM = """
import json, sys
from pathlib import Path
from rota.errors import RotaError
from rota.store import open_store
from tests.store_kit import life
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
while (result := attempt(store.append, life(done + 1), str(done + 1)))[0] == "Appended":
    done += 1
told = {"result": result, "again": attempt(store.append, life(done + 1), "x"), "done": done,
        "cursor": store.cursor(), "runs": len(store.runs(limit=1000)),
        "other": attempt(open_store, place / "b.db")}
(place / "filler").unlink()
store.append(life(done + 1), str(done + 1))
store.close()
store, damage = open_store(place / "rota.db")
told |= {"after": store.cursor(), "runs after": len(store.runs(limit=1000)), "damage": damage}
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
