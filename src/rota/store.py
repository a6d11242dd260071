"""The only SQL of rotad: events and runs, an index of the journal that can be thrown away and rebuilt."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rota import lifetime
from rota.database import Numbered, open_or_anew, translated
from rota.events import OF_NO_RUN, Event, Run, fold
from rota.lifetime import Lifetime
from rota.marks import Mark, advance
from rota.query import EVERYTHING, Query
from rota.schema import COLUMNS, MIGRATIONS, SCHEMA, VERSION
from rota.totals import GROUP, Totals, changes, from_json, group

T = TypeVar("T")

_CHECKPOINT = 4000
"""Pages of 4 KiB in the write-ahead log before they go into the database, with two calls of fsync(2)."""
LASTING = frozenset(
    ("failed", "deactivated", "skipped", "not-started", "stopped", "lost", "missed", *OF_NO_RUN)
)
"""Events that tell how a run ended: on the disk before anybody hears of them.

journald writes to the disk every five minutes (SyncIntervalSec=, journald.conf(5)), so after a power cut the
store may be all that knows of a run. Other events go to the disk with these, or when the kernel sees fit.
"""
_LIST = ", ".join(COLUMNS)
# An update keeps the rowid: runs are in the order of the journal, whatever the clock did.
_SAVE = (
    f"INSERT INTO runs ({_LIST}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS[1:])}"
)
_SELECT = f"SELECT {_LIST} FROM runs"
_ADVANCE = """
INSERT INTO marks (agent, upto, digest, row) VALUES (?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE
SET upto = excluded.upto, row = excluded.row, digest = excluded.digest,
    lines = iif(digest = excluded.digest, lines, NULL)
WHERE excluded.upto >= upto
"""
_PRUNED_AT_ONCE = _ASKED_AT_ONCE = 500
_LAST = """
SELECT coalesce(
    (SELECT rowid FROM runs WHERE agent = ?1 AND state != 'missed' ORDER BY rowid DESC LIMIT 1),
    (SELECT max(rowid) FROM runs WHERE agent = ?1)
)
"""
_TEXT_AT_ONCE = 24 * 1024 * 1024
"""Characters of results in one answer: of 1000 runs all fit, and D-Bus takes messages of 32 MiB."""
# Each agent once, by skipping through the index of agents (sqlite.org, "Loose index scan" by hand).
_AGENTS = """
WITH RECURSIVE found (agent) AS (
    SELECT min(agent) FROM runs
    UNION ALL
    SELECT (SELECT min(agent) FROM runs WHERE agent > found.agent) FROM found WHERE found.agent NOTNULL
) SELECT agent FROM found WHERE agent NOTNULL
"""


class Recorded(NamedTuple):
    """An event with its place in the store.

    Attributes:
        seq: its number; the next event has the next one.
        event: what happened.
    """

    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class Appended:
    """What is new after `Store.append`: runs that changed, and events with their numbers."""

    runs: list[Run]
    events: list[Recorded]


_INSERT = "INSERT INTO events (seq, run, agent, kind, at, data, monotonic) VALUES (?, ?, ?, ?, ?, ?, ?)"


def _event_row(recorded: Recorded) -> tuple[Any, ...]:
    seq, event = recorded
    data = json.dumps(dict(event.data)) if event.data else "{}"
    return (seq, event.run, event.agent, event.kind, event.at, data, event.monotonic)


def _run(row: Sequence[Any]) -> Run:
    values = dict(zip(COLUMNS, row, strict=True))
    values |= {name: bool(values[name]) for name in ("archived", "output_filed")}
    return Run(**values)


def _fitting(items: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
    """Yield items until what they have of text is as much as an answer takes."""
    room = _TEXT_AT_ONCE
    for item in items:
        yield item
        room -= size(item)
        if room < 0:
            return


class Store(Numbered):
    """Events, runs and the journal cursor, always changed together.

    Raises (every method):
        DamagedError: the file is not a store; see `open_store`.
        RotaError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, VERSION, SCHEMA, MIGRATIONS, checkpoint=_CHECKPOINT)

    def cursor(self) -> str | None:
        """Return the journal cursor up to which everything is recorded, None for a new store."""
        return self._meta("cursor")

    def append(self, events: Iterable[Event], cursor: str) -> Appended:
        """File events and the cursor after them in one transaction; return what is new.

        Raises:
            FullError: there is no room; the same events can be given again.
        """
        found = list(events)
        lasting = any(event.kind in LASTING for event in found)
        with self._transaction(lasting=lasting):
            before = self._known({event.run for event in found})
            changed: dict[str, Run] = {}
            for event in (event for event in found if event.kind not in OF_NO_RUN):
                changed[event.run] = fold(changed.get(event.run) or before.get(event.run), event)
            recorded = list(map(Recorded, count(self._last_seq() + 1), found))
            self._db.executemany(_INSERT, map(_event_row, recorded))
            marks = [advance(event) for event in found if event.kind in ("served", "missed")]
            self._db.executemany(_ADVANCE, marks)
            self._db.executemany(_SAVE, changed.values())
            self._count(before, changed)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('cursor', ?)", (cursor,))
        return Appended(list(changed.values()), recorded)

    def _known(self, runs: Collection[str]) -> dict[str, Run]:
        """Return the runs of these ids that there are."""
        names = list(runs)
        known: dict[str, Run] = {}
        for start in range(0, len(names), _ASKED_AT_ONCE):
            some = names[start : start + _ASKED_AT_ONCE]
            query = f"{_SELECT} WHERE id IN ({', '.join('?' * len(some))})"
            known |= {row[0]: _run(row) for row in self._db.execute(query, some)}
        return known

    def _count(self, before: Mapping[str, Run], after: Mapping[str, Run]) -> None:
        """Add runs that are filed now to the totals of their days; what one was counted as before, is not.

        And to the lifetimes of their agents, where nothing is taken back.
        """
        for key, totals in changes(before, after).items():
            row = self._db.execute("SELECT data FROM totals WHERE agent = ? AND day = ?", key).fetchone()
            if row:
                totals.merge(from_json(row[0]))
            self._db.execute("INSERT OR REPLACE INTO totals VALUES (?, ?, ?)", (*key, totals.to_json()))
        for agent, gain in lifetime.gains(before, after).items():
            known = self._lifetime(agent)
            known.merge(gain)
            self._db.execute("INSERT OR REPLACE INTO lifetimes VALUES (?, ?)", (agent, known.to_json()))

    def _lifetime(self, agent: str) -> Lifetime:
        row = self._db.execute("SELECT data FROM lifetimes WHERE agent = ?", (agent,)).fetchone()
        return lifetime.from_json(row[0]) if row else Lifetime()

    def _get(self, run: str) -> Run | None:
        row = self._db.execute(f"{_SELECT} WHERE id = ?", (run,)).fetchone()
        return _run(row) if row else None

    def get(self, run: str) -> Run | None:
        """Return the run of an id."""
        with translated(self._path):
            return self._get(run)

    def find(self, prefix: str, limit: int = 3) -> list[Run]:
        """Return runs whose id begins with `prefix`, newest first."""
        query = f"{_SELECT} WHERE id >= ? AND id < ? ORDER BY rowid DESC LIMIT ?"
        with translated(self._path):
            return [_run(row) for row in self._db.execute(query, (prefix, f"{prefix}g", limit))]

    def runs(self, query: Query = EVERYTHING, limit: int = 50) -> list[Run]:
        """Return the newest of the runs that are wanted, newest first; of more than 1000 maybe not all."""
        where, values = query.where()
        with translated(self._path):
            rows = self._db.execute(f"{_SELECT} {where} ORDER BY {query.order()} LIMIT ?", [*values, limit])
            return list(_fitting(map(_run, rows), lambda run: len(run.result or "")))

    def count(self, query: Query) -> dict[str, Totals]:
        """Return what the runs of each agent that are wanted come to, counted one by one."""
        where, values = query.where()
        found: dict[str, Totals] = {}
        # + keeps SQLite from reading all runs there are in the order of an index of agents.
        with translated(self._path):
            for agent, *row in self._db.execute(
                f"SELECT agent, {GROUP} FROM runs {where} GROUP BY +agent, +state", values
            ):
                found.setdefault(agent, Totals()).add(group(row))
        return found

    def mark(self, agent: str) -> Mark | None:
        """Return up to where an agent's slots are accounted for, None if they are not."""
        query = f"SELECT {', '.join(Mark._fields)} FROM marks WHERE agent = ?"
        with translated(self._path):
            row = self._db.execute(query, (agent,)).fetchone()
        return Mark(*row) if row else None

    def marked(self) -> list[str]:
        """Return the agents whose slots are accounted for."""
        with translated(self._path):
            return [row[0] for row in self._db.execute("SELECT agent FROM marks")]

    def set_mark(self, agent: str, mark: Mark | None) -> None:
        """Account for an agent's slots from here on; None: no longer.

        Raises:
            FullError: there is no room.
        """
        with translated(self._path):
            if mark is None:
                self._db.execute("DELETE FROM marks WHERE agent = ?", (agent,))
            else:
                self._db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)", (agent, *mark))

    def of_slot(self, agent: str, slot: int) -> Run | None:
        """Return the run that served a slot, or the row of missed slots that it is one of."""
        query = f"{_SELECT} WHERE agent = ? AND slot <= ? AND coalesce(slot_until, slot) >= ? LIMIT 1"
        with translated(self._path):
            row = self._db.execute(query, (agent, slot, slot)).fetchone()
        return _run(row) if row else None

    def since(self, agent: str, at: int) -> list[Run]:
        """Return an agent's runs that began at a moment or later, and the one before, as recorded."""
        query = f"{_SELECT} WHERE agent = ? AND state != 'missed' ORDER BY rowid DESC"
        found: list[Run] = []
        with translated(self._path):
            for row in self._db.execute(query, (agent,)):
                found.append(_run(row))
                if found[-1].over and (found[-1].started or 0) < at:
                    break
        return found[::-1]

    def events(self, since: int, limit: int, agent: str | None = None) -> list[Recorded]:
        """Return events after number `since`, oldest first; of more than 500 maybe not all."""
        where, values = ("AND agent = ?", [agent]) if agent else ("", [])
        query = (
            "SELECT seq, kind, agent, run, at, data, monotonic FROM events "
            f"WHERE seq > ? {where} ORDER BY seq LIMIT ?"
        )
        with translated(self._path):
            rows = self._db.execute(query, [since, *values, limit])
            return [
                Recorded(seq, Event(kind, name, run, at, json.loads(data), monotonic))
                for seq, kind, name, run, at, data, monotonic in _fitting(rows, lambda row: len(row[5]))
            ]

    def agents_since(self, since: int) -> set[str]:
        """Return the agents of which something was recorded after number `since`."""
        # Not DISTINCT: for that SQLite reads all events there are in the order of the index of agents.
        with translated(self._path):
            return {row[0] for row in self._db.execute("SELECT agent FROM events WHERE seq > ?", (since,))}

    def last_of(self, agent: str, kinds: Collection[str]) -> Event | None:
        """Return the last event of some kinds of an agent, None if there is none."""
        query = (
            f"SELECT kind, agent, run, at, data, monotonic FROM events WHERE agent = ? "
            f"AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY seq DESC LIMIT 1"
        )
        with translated(self._path):
            row = self._db.execute(query, (agent, *kinds)).fetchone()
        if row is None:
            return None
        kind, name, run, at, data, monotonic = row
        return Event(kind, name, run, at, json.loads(data), monotonic)

    def bounds(self) -> tuple[int, int]:
        """Return the number of the event from which on none is missing, and of the last; (1, 0) for none."""
        with translated(self._path):
            first = self._meta("first")
            return int(first or 1), self._last_seq()

    def seq_before(self, at: int) -> int:
        """Return the number of the last event that was before a moment, where the clock only went forward."""
        low, high = self.bounds()
        low -= 1
        with translated(self._path):
            while low < high:
                middle = (low + high + 1) // 2
                row = self._db.execute("SELECT at FROM events WHERE seq >= ? LIMIT 1", (middle,)).fetchone()
                low, high = (middle, high) if row and row[0] < at else (low, middle - 1)
        return low

    def totals(self, since_day: int, agents: Iterable[str] | None = None) -> dict[str, Totals]:
        """Return what the runs of each agent come to from a day on (days since 1970, UTC)."""
        found: dict[str, Totals] = {}
        wanted = None if agents is None else set(agents)
        with translated(self._path):
            rows = self._db.execute("SELECT agent, data FROM totals WHERE day >= ?", (since_day,))
            for agent, data in rows:
                if wanted is None or agent in wanted:
                    found.setdefault(agent, Totals()).merge(from_json(data))
        return found

    def lifetime(self, agent: str) -> Lifetime:
        """Return what an agent's runs come to since the store began, whatever was forgotten meanwhile."""
        with translated(self._path):
            return self._lifetime(agent)

    def prune(self, before: int, keep: int, critical: Collection[str] = ()) -> int:
        """Forget some old runs, and the events of that time; call it again while it returns any.

        The last run of each agent stays, and all of agents that are critical. A row of missed slots is no
        run.

        Args:
            before: forget what ended, or happened, before this (microseconds since 1970).
            keep: of each agent, forget what is older than its newest `keep` runs.
            critical: agents of which nothing is forgotten.

        Returns:
            How many runs and events were forgotten, some hundreds at the most.
        """
        with self._transaction(lasting=False):
            done = self._prune_runs(before, max(keep, 1), critical)
            done += self._prune_events(before, critical)
        return done

    def _prune_runs(self, before: int, keep: int, critical: Collection[str]) -> int:
        done = 0
        newest = "SELECT rowid FROM runs WHERE agent = ? ORDER BY rowid DESC LIMIT 1 OFFSET ?"
        for agent in [row[0] for row in self._db.execute(_AGENTS)]:
            if agent in critical or done >= _PRUNED_AT_ONCE:
                continue
            (last,) = self._db.execute(_LAST, (agent,)).fetchone()
            surplus = self._db.execute(newest, (agent, keep)).fetchone()
            oldest = self._db.execute(
                "SELECT rowid, archived, coalesce(ended, started) FROM runs "
                "WHERE agent = ? AND rowid != ? ORDER BY rowid LIMIT ?",
                (agent, last, _PRUNED_AT_ONCE - done),
            )
            gone = [
                (rowid,)
                for rowid, archived, at in oldest.fetchall()
                if archived and ((at or 0) < before or (surplus and rowid <= surplus[0]))
            ]
            self._db.executemany("DELETE FROM runs WHERE rowid = ?", gone)
            done += len(gone)
        return done

    def _prune_events(self, before: int, critical: Collection[str]) -> int:
        first, last = self.bounds()
        upto = min(self.seq_before(before), first - 1 + _PRUNED_AT_ONCE, last)
        if upto < first:
            return 0
        kept = ", ".join("?" * len(critical))
        self._db.execute(
            f"DELETE FROM events WHERE seq >= ? AND seq <= ? AND agent NOT IN ({kept})",
            (first, upto, *critical),
        )
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('first', ?)", (str(upto + 1),))
        return upto + 1 - first

    def forget_totals(self, before_day: int) -> None:
        """Forget the totals of days before this one (days since 1970, UTC)."""
        with translated(self._path):
            self._db.execute("DELETE FROM totals WHERE day < ?", (before_day,))

    def unfiled(self, since: int, limit: int) -> list[Run]:
        """Return runs that ended after `since` and are archived, but without what they said; oldest first."""
        query = f"{_SELECT} WHERE archived AND NOT output_filed AND ended >= ? ORDER BY rowid LIMIT ?"
        with translated(self._path):
            return [_run(row) for row in self._db.execute(query, (since, limit))]

    def unarchived(self, since: int) -> list[Run]:
        """Return runs that are under way, and those that ended after `since` with resources not filed."""
        query = f"{_SELECT} WHERE NOT archived AND (ended IS NULL OR ended >= ?)"
        with translated(self._path):
            return [_run(row) for row in self._db.execute(query, (since,))]


def open_store(path: Path) -> tuple[Store, str | None]:
    """Open the store; one that is damaged is moved aside and begun anew.

    Returns:
        The store, and what was wrong with the one before, None if nothing.

    Raises:
        RotaError: the file can neither be used nor moved aside.
    """
    return open_or_anew(path, Store)
