"""The only SQL: events and runs, an index of the journal that can be thrown away and rebuilt."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from rota.errors import Exit, RotaError
from rota.events import Event, Run, fold

VERSION = 1
"""Of the schema, in PRAGMA user_version; a store of another version is rebuilt from the journal."""

_CHECKED_WHOLE = 64 * 1024 * 1024
_COLUMNS = tuple(field.name for field in fields(Run))
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, run TEXT NOT NULL, agent TEXT NOT NULL,
    kind TEXT NOT NULL, at INTEGER NOT NULL, data TEXT NOT NULL
);
CREATE TABLE runs (id TEXT PRIMARY KEY, COLUMNS);
CREATE INDEX runs_of_agent ON runs (agent);
CREATE INDEX runs_open ON runs (agent) WHERE NOT archived;
PRAGMA user_version = VERSION;
""".replace("COLUMNS", ", ".join(_COLUMNS[1:])).replace("VERSION", str(VERSION))
# An update keeps the rowid: runs are in the order of the journal, whatever the clock did.
_SAVE = (
    f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)


class DamagedError(Exception):
    """The database file is not what rota wrote; its path is the argument."""


class FullError(RotaError):
    """There is no room to write; nothing was changed."""


def _run(row: Sequence[Any]) -> Run:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["archived"] = bool(values["archived"])
    return Run(**values)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a mistake of ours, not the file's: a new store would meet it again
    except UnicodeDecodeError as error:
        raise DamagedError(f"a name in it is not UTF-8: {error.object!r}") from None
    except sqlite3.Error as error:
        # Python's own errors have no such name: what it read is not UTF-8.
        name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
        if name in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
            raise FullError(f"{path}: {error}", "Recording goes on when there is room again.") from None
        # SQLITE_ERROR: our SQL does not fit its tables.
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or name == "SQLITE_ERROR":
            raise DamagedError(str(error)) from None
        raise RotaError(f"{path}: {error}", exit_code=Exit.FAILED) from None


class Store:
    """Events, runs and the journal cursor, always changed together.

    Raises (every method):
        DamagedError: the file is not a store; see `open_store`.
        RotaError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _translated(path):
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            # A power cut may take the newest transactions, with their cursor: the journal has them.
            self._db.execute("PRAGMA synchronous = NORMAL")
            if path.stat().st_size <= _CHECKED_WHOLE:
                verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise DamagedError(verdict)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._db.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
            elif version != VERSION:
                raise DamagedError(f"it has schema {version}, this rota writes {VERSION}")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def cursor(self) -> str | None:
        """Return the journal cursor up to which everything is recorded, None for a new store."""
        with _translated(self._path):
            row = self._db.execute("SELECT value FROM meta WHERE key = 'cursor'").fetchone()
        return row[0] if row else None

    def append(self, events: Iterable[Event], cursor: str) -> list[Run]:
        """File events and the cursor after them in one transaction; return the runs that changed.

        Raises:
            FullError: there is no room; the same events can be given again.
        """
        changed: dict[str, Run] = {}
        with _translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for event in events:
                    run = changed.get(event.run) or self._get(event.run)
                    changed[event.run] = fold(run, event)
                    self._db.execute(
                        "INSERT INTO events (run, agent, kind, at, data) VALUES (?, ?, ?, ?, ?)",
                        (event.run, event.agent, event.kind, event.at, json.dumps(dict(event.data))),
                    )
                self._db.executemany(_SAVE, map(astuple, changed.values()))
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('cursor', ?)", (cursor,))
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        return list(changed.values())

    def _get(self, run: str) -> Run | None:
        row = self._db.execute("SELECT * FROM runs WHERE id = ?", (run,)).fetchone()
        return _run(row) if row else None

    def get(self, run: str) -> Run | None:
        """Return the run of an id."""
        with _translated(self._path):
            return self._get(run)

    def find(self, prefix: str, limit: int = 3) -> list[Run]:
        """Return runs whose id begins with `prefix`, newest first."""
        query = "SELECT * FROM runs WHERE id >= ? AND id < ? ORDER BY rowid DESC LIMIT ?"
        with _translated(self._path):
            return [_run(row) for row in self._db.execute(query, (prefix, f"{prefix}g", limit))]

    def runs(self, agent: str | None = None, limit: int = 50) -> list[Run]:
        """Return the newest runs, of one agent or of all, newest first."""
        where, values = ("WHERE agent = ?", [agent]) if agent else ("", [])
        query = f"SELECT * FROM runs {where} ORDER BY rowid DESC LIMIT ?"
        with _translated(self._path):
            return [_run(row) for row in self._db.execute(query, [*values, limit])]

    def unarchived(self, since: int) -> list[Run]:
        """Return runs that are under way, and those that ended after `since` with resources not filed."""
        query = "SELECT * FROM runs WHERE NOT archived AND (ended IS NULL OR ended >= ?)"
        with _translated(self._path):
            return [_run(row) for row in self._db.execute(query, (since,))]


def open_store(path: Path) -> tuple[Store, str | None]:
    """Open the store; one that is damaged is moved aside and begun anew.

    Returns:
        The store, and what was wrong with the one before, None if nothing.

    Raises:
        RotaError: the file can neither be used nor moved aside.
    """
    try:
        return Store(path), None
    except DamagedError as error:
        damage = str(error)
    except OSError as error:
        raise RotaError(f"{path}: {error.strerror}", exit_code=Exit.FAILED) from None
    try:
        aside = set_aside(path)
    except OSError as error:
        raise RotaError(f"{path} is damaged ({damage}) and cannot be moved: {error.strerror}") from None
    return Store(path), f"{damage}; it is kept as {aside}"


def set_aside(path: Path) -> Path:
    """Rename a damaged database with its journal files, and return its new name."""
    stamp = f"{time.strftime('%Y%m%dT%H%M%S')}.{time.time_ns() % 10**9:09}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    return aside
