"""The only user of sqlite3: opens databases, moves damaged ones aside, and says what is wrong with them."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rota.errors import DamagedError, Exit, RotaError

T = TypeVar("T")

Connection = sqlite3.Connection

_CHECKED_WHOLE = 64 * 1024 * 1024
RESERVE = 8 * 1024 * 1024
"""Bytes of a reserve: some hundred transactions, where others take nothing of what it frees."""
_PIECE = 512 * 1024
_PLENTY = 4
"""A reserve is made where there is so many times as much room."""
_ASKED_EVERY = 60.0


_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")


class FullError(RotaError):
    """There is no room to write; nothing was changed."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite raises as what it means for a file: DamagedError, FullError or RotaError."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a mistake of ours, not the file's: a new store would meet it again
    except UnicodeDecodeError as error:
        raise DamagedError(f"a name in it is not UTF-8: {error.object!r}") from None
    except sqlite3.Error as error:
        # Python's own errors have no such name: what it read is not UTF-8.
        name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
        if name in _FULL:
            raise FullError(f"{path}: {error}", "It goes on when there is room again.") from None
        # SQLITE_ERROR: our SQL does not fit its tables.
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or name == "SQLITE_ERROR":
            raise DamagedError(str(error)) from None
        raise RotaError(f"{path}: {error}", exit_code=Exit.FAILED) from None


def connect(path: Path) -> Connection:
    """Open a database with a write-ahead log and transactions begun by hand; look through it if it is small.

    Raises (inside `translated`):
        DamagedError: it is damaged.
        OSError: it cannot be looked at.
        RotaError: it cannot be opened.
    """
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    if path.stat().st_size <= _CHECKED_WHOLE:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedError(verdict)
    return db


def upgrade(db: Connection, version: int, schema: str, migrations: Mapping[int, str]) -> None:
    """Make the tables, or change older ones, each step in a transaction.

    Args:
        db: the database.
        version: of the schema that is wanted, in PRAGMA user_version.
        schema: SQL that makes it in an empty database.
        migrations: SQL that leads to the next version, by the one it leads away from.

    Raises:
        DamagedError: it has a version that nothing leads away from.
    """
    while (found := db.execute("PRAGMA user_version").fetchone()[0]) != version:
        script = migrations.get(found, "") if found else schema
        if not script:
            raise DamagedError(f"it has schema {found}, this rota writes {version}")
        after = found + 1 if found else version
        db.executescript(f"BEGIN;{script}PRAGMA user_version = {after};COMMIT;")


@contextmanager
def transaction(db: Connection, path: Path, *, lasting: bool) -> Iterator[None]:
    """Do all of it or nothing; `lasting`: it is on the disk when this returns."""
    with translated(path):
        db.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


class Reserve:
    """Room that is kept for what has to be written when the disk is full: a file beside the database.

    It is given up piece by piece, so that who fills the disk does not get all of it at once, and made again
    when there is plenty of room. Its content is random: else file systems that compress keep no room for it.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Make it if there is room.

        Args:
            path: the file.
            size: in bytes.
        """
        self._path = path
        self._size = size
        self._asked = 0.0
        self.left = self._found()
        self.tend()

    def _found(self) -> int:
        try:
            found = self._path.stat()
        except OSError:
            return 0
        return min(found.st_size, found.st_blocks * 512)

    def _room(self) -> int:
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize

    def tend(self) -> None:
        """Give up a piece if there is hardly any room; once a minute, see whether it can be made again."""
        if self.left and self._room() < _PIECE:
            self.give_up()
        if self.left < self._size and time.monotonic() >= self._asked:
            self._asked = time.monotonic() + _ASKED_EVERY
            if self._room() >= _PLENTY * self._size:
                self._make()

    def _make(self) -> None:
        try:
            self._path.write_bytes(os.urandom(self._size))
            self.left = self._size
        except OSError:
            self._path.unlink(missing_ok=True)
            self.left = 0

    def give_up(self) -> bool:
        """Give up a piece; return whether there was one."""
        if not self.left:
            return False
        self.left = max(self.left - _PIECE, 0)
        try:
            os.truncate(self._path, self.left)
        except OSError:
            self.left = 0
        return True


class Database:
    """A database of rota's own, open.

    Raises (every method):
        DamagedError: the file is not such a database; see `open_or_anew`.
        FullError: there is no room; nothing was changed.
        RotaError: it cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        version: int,
        schema: str,
        migrations: Mapping[int, str],
        *,
        checkpoint: int = 1000,
        reserve: int = 0,
    ) -> None:
        """Open it, with the tables that are wanted, see `upgrade`.

        Args:
            path: the file.
            version: of the schema.
            schema: SQL that makes it in an empty database.
            migrations: SQL that leads to the next version, by the one it leads away from.
            checkpoint: pages of 4 KiB in the write-ahead log before they go into the database, with two
                calls of fsync(2).
            reserve: bytes of a reserve beside it, see `Reserve`; 0: none.
        """
        self._path = path
        self._reserve = Reserve(path.with_name(f"{path.name}.reserve"), reserve) if reserve else None
        with translated(path):
            self._db = connect(path)
            self._db.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}")
            upgrade(self._db, version, schema, migrations)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _transaction(self, *, lasting: bool) -> AbstractContextManager[None]:
        if self._reserve is not None:
            self._reserve.tend()
        return transaction(self._db, self._path, lasting=lasting)

    def _insisting(self, write: Callable[[], T]) -> T:
        """Write something; where there is no room, again for each piece of the reserve that is given up."""
        while True:
            try:
                return write()
            except FullError:
                if self._reserve is None or not self._reserve.give_up():
                    raise

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with translated(self._path):
            return self._db.execute(query, values).fetchall()


class Numbered(Database):
    """One with a table of numbered events, and one of other things, `meta`."""

    def _meta(self, key: str) -> str | None:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else None

    def id(self) -> str:
        """Return what tells this database from one that was begun anew: whose events have other numbers."""
        return self._meta("id") or ""

    def _last_seq(self) -> int:
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return int(rows[0][0]) if rows else 0


def open_or_anew(path: Path, opened: Callable[[Path], T]) -> tuple[T, str | None]:
    """Open a database; one that is damaged is moved aside and begun anew.

    Returns:
        What `opened` returns, and what was wrong with the file before, None if nothing.

    Raises:
        RotaError: the file can neither be used nor moved aside.
    """
    try:
        return opened(path), None
    except DamagedError as error:
        damage = str(error)
    except OSError as error:
        raise RotaError(f"{path}: {error.strerror}", exit_code=Exit.FAILED) from None
    try:
        aside = set_aside(path)
    except OSError as error:
        raise RotaError(f"{path} is damaged ({damage}) and cannot be moved: {error.strerror}") from None
    return opened(path), f"{damage}; it is kept as {aside}"


def set_aside(path: Path) -> Path:
    """Rename a damaged database with its journal files, and return its new name."""
    stamp = f"{time.strftime('%Y%m%dT%H%M%S')}.{time.time_ns() % 10**9:09}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    return aside
