"""The keeper's memory, a database of its own: what is open, what was done, and events with a number each.

A row of an action is on the disk before the action begins (`file` returns, then it is carried out), its
outcome after. So killed at any moment, the keeper finds each action that it may have begun, and counts it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from rota.database import RESERVE, Numbered, open_or_anew
from rota.errors import DamagedError
from rota.frozen import from_plain, to_plain

from .messages import Event
from .state import Case, State
from .sums import gains

VERSION = 1
"""Of the schema."""
EVENT_VERSION = 1
"""Of the events' data; an event keeps the one that it was written with."""
_PRUNED_AT_ONCE = 500
MOST = 100_000
"""So many details of what happened are kept, and so many rows of all else: some 60 MB."""
_DETAILS = frozenset(
    ("decided", "finding-opened", "finding-changed", "finding-closed", "recovered", "reset", "clock-set")
)
"""Events of which nobody is told: most of all there are."""

FINDING = (
    *("id", "target", "problem", "severity", "check_name", "since"),
    *("opened", "closed", "summary", "details"),
)
"""Columns of a finding; `since` is when it began as its check knows, the others when the keeper knew."""
ACTION = (
    *("id", "target", "problem", "remedy", "why", "attempt", "approved_by", "begun"),
    *("ended", "outcome", "error", "report", "verdict", "recovered"),
)
"""Columns of an action; `outcome` is its own word, `verdict` what came of it, `recovered` the microseconds
that the target was in trouble. Without an outcome it is under way, or was when the keeper was killed."""
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cases (target TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, kind TEXT NOT NULL,
    target TEXT NOT NULL, at INTEGER NOT NULL, data TEXT NOT NULL
);
CREATE INDEX events_escalated ON events (target) WHERE kind = 'escalated';
CREATE INDEX events_asked ON events (target) WHERE kind = 'asked';
CREATE TABLE findings (id INTEGER PRIMARY KEY, {", ".join(FINDING[1:])});
CREATE UNIQUE INDEX findings_open ON findings (target, problem) WHERE closed IS NULL;
CREATE INDEX findings_of_target ON findings (target);
CREATE TABLE actions (id INTEGER PRIMARY KEY, {", ".join(ACTION[1:])});
CREATE INDEX actions_of_target ON actions (target);
CREATE TABLE totals (
    what TEXT NOT NULL, label TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (what, label)
) WITHOUT ROWID;
INSERT INTO meta VALUES ('id', lower(hex(randomblob(8))));
"""
_MIGRATIONS: Mapping[int, str] = {}


class Recorded(NamedTuple):
    """An event with its number: the next event has the next one.

    Attributes:
        seq: its number.
        version: of its data.
        event: what happened.
    """

    seq: int
    version: int
    event: Event


_OPENED = f"INSERT OR IGNORE INTO findings ({', '.join(FINDING[1:])}) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?)"
_CHANGED = (
    "UPDATE findings SET severity = ?, summary = ?, details = ? "
    "WHERE target = ? AND problem = ? AND closed IS NULL"
)
_CLOSED = "UPDATE findings SET closed = ? WHERE target = ? AND problem = ? AND closed IS NULL"
_BEGUN = f"INSERT OR IGNORE INTO actions ({', '.join(ACTION[:8])}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ENDED = "UPDATE actions SET ended = ?, outcome = ?, error = ?, report = ? WHERE id = ?"
_JUDGED = "UPDATE actions SET verdict = ?, recovered = ? WHERE id = ?"


def _opened(event: Event) -> tuple[Any, ...]:
    found = event.data["finding"]
    details = json.dumps(found.get("details", {}))
    of_check = (event.data["check"], found["since"], event.at)
    return (event.target, found["problem"], found["severity"], *of_check, found["summary"], details)


def _changed(event: Event) -> tuple[Any, ...]:
    found = event.data["finding"]
    details = json.dumps(found.get("details", {}))
    return (found["severity"], found["summary"], details, event.target, found["problem"])


def _closed(event: Event) -> tuple[Any, ...]:
    return (event.at, event.target, event.data["problem"])


def _begun(event: Event) -> tuple[Any, ...]:
    data = event.data
    remedy = " ".join(filter(None, (data["remedy"]["word"], data["remedy"].get("argument"))))
    what = (data["id"], event.target, data["problem"], remedy)
    return (*what, data["why"], data["attempt"], data.get("by", ""), event.at)


def _ended(event: Event) -> tuple[Any, ...]:
    data = event.data
    return (event.at, data["outcome"], data["error"], json.dumps(data["report"]), data["id"])


def _judged(event: Event) -> tuple[Any, ...]:
    return (event.data["verdict"], event.data["recovered"], event.data["id"])


_FOLD: Mapping[str, tuple[str, Callable[[Event], tuple[Any, ...]]]] = {
    "finding-opened": (_OPENED, _opened),
    "finding-changed": (_CHANGED, _changed),
    "finding-closed": (_CLOSED, _closed),
    "remedy-begun": (_BEGUN, _begun),
    "remedy-ended": (_ENDED, _ended),
    "remedy-judged": (_JUDGED, _judged),
}
"""What events do to the tables of findings and actions, which are nothing but their sum."""
_ADDED = """
INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT (what, label) DO UPDATE SET value = value + excluded.value
"""


class Ledger(Numbered):
    """The state, always changed together with the events that changed it.

    Raises (every method):
        DamagedError: the file is not a ledger; see `open_ledger`.
        FullError: there is no room; nothing was changed.
        RotaError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, VERSION, _SCHEMA, _MIGRATIONS, reserve=RESERVE)
        self._cases: dict[str, Case] = {}
        self._house: tuple[object, ...] = ()

    def load(self) -> State:
        """Return the state as it was filed last."""
        house = self._meta("house") or "{}"
        rows = self._rows("SELECT target, data FROM cases")
        try:
            cases = {name: from_plain(Case, json.loads(data), name) for name, data in rows}
            state = replace(from_plain(State, json.loads(house), "house"), cases=cases)
            state = replace(state, at=int(self._meta("at") or state.at))
        except ValueError as error:
            raise DamagedError(str(error)) from None
        self._cases, self._house = dict(cases), _house(state)
        return state

    def file(self, state: State, events: Sequence[Event]) -> list[Recorded]:
        """File a state and the events that led to it in one transaction; return them with their numbers.

        With events, it is on the disk when this returns. Where there is no room, the reserve is given up.
        """
        return self._insisting(lambda: self._filed(state, events))

    def _filed(self, state: State, events: Sequence[Event]) -> list[Recorded]:
        house = _house(state)
        same = self._house == house
        changed = [(name, case) for name, case in state.cases.items() if self._cases.get(name) is not case]
        gone = [(name,) for name in self._cases.keys() - state.cases.keys()]
        if not (events or changed or gone or not same):
            return []
        recorded: list[Recorded] = []
        with self._transaction(lasting=bool(events)):
            for seq, event in zip(count(self._last_seq() + 1), events, strict=False):
                recorded.append(Recorded(seq, EVENT_VERSION, event))
                row = (seq, EVENT_VERSION, event.kind, event.target, event.at, json.dumps(dict(event.data)))
                self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
                if (fold := _FOLD.get(event.kind)) is not None:
                    self._db.execute(fold[0], fold[1](event))
                self._db.executemany(_ADDED, gains(event))
            if any(event.kind == "events-lost" for event in events):
                self._reconcile(state, events[-1].at)
            self._db.executemany("DELETE FROM cases WHERE target = ?", gone)
            rows = [(name, json.dumps(to_plain(case))) for name, case in changed]
            self._db.executemany("INSERT OR REPLACE INTO cases VALUES (?, ?)", rows)
            if not same:
                whole = json.dumps(to_plain(replace(state, cases={}, at=0)))
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('house', ?)", (whole,))
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('at', ?)", (str(state.at),))
        self._cases, self._house = dict(state.cases), house
        return recorded

    def _reconcile(self, state: State, at: int) -> None:
        """Bring findings and actions, of which events were lost, in line with what is remembered."""
        known = {
            (name, problem): one for name, case in state.cases.items() for problem, one in case.open.items()
        }
        rows = self._db.execute("SELECT target, problem FROM findings WHERE closed IS NULL").fetchall()
        self._db.executemany(_CLOSED, [(at, *row) for row in rows if tuple(row) not in known])
        for (name, problem), one in known.items():
            found = one.finding
            details = json.dumps(to_plain(found).get("details", {}))
            row = (name, problem, found.severity, one.check, found.since, at, found.summary, details)
            self._db.execute(_OPENED, row)  # but for those that there are
        running = {case.underway.id for case in state.cases.values() if case.underway}
        begun = self._db.execute("SELECT id FROM actions WHERE outcome IS NULL").fetchall()
        unknown = (at, "unknown", "its end could not be filed", "{}")
        self._db.executemany(_ENDED, [(*unknown, number) for (number,) in begun if number not in running])

    def events(self, since: int, limit: int = 500) -> list[Recorded]:
        """Return events after number `since`, oldest first."""
        query = "SELECT seq, version, kind, target, at, data FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return list(map(_recorded, self._rows(query, since, limit)))

    def seq_before(self, at: int) -> int:
        """Return the number of the event after which those from a moment on (microseconds) are found."""
        first, last = self.bounds()
        rows = self._rows("SELECT seq FROM events WHERE at >= ? ORDER BY seq LIMIT 1", at)
        return max(int(rows[0][0]) - 1, first - 1) if rows else last

    def escalated(self, since: int = 0, target: str = "") -> list[Recorded]:
        """Return the escalations of a target, "" is all, among the events after a number, oldest first."""
        return self._of_kind("escalated", since, target)

    def asked(self) -> list[Recorded]:
        """Return the questions among the events, oldest first."""
        return self._of_kind("asked", 0, "")

    def _of_kind(self, word: str, since: int, target: str) -> list[Recorded]:
        where, values = ("AND target = ?", [since, target]) if target else ("", [since])
        query = (
            f"SELECT seq, version, kind, target, at, data FROM events INDEXED BY events_{word} "
            f"WHERE kind = '{word}' AND seq > ? {where} ORDER BY seq"
        )
        return list(map(_recorded, self._rows(query, *values)))

    def sums(self) -> dict[tuple[str, str], int]:
        """Return what remedies and recoveries come to, see `sums`."""
        return {(what, label): value for what, label, value in self._rows("SELECT * FROM totals")}

    def bounds(self) -> tuple[int, int]:
        """Return the number of the event from which on none is missing, and of the last; (1, 0) for none."""
        return int(self._meta("first") or 1), self._last_seq()

    def findings(self, target: str = "", limit: int = 50) -> list[dict[str, Any]]:
        """Return findings of a target, "" is all, newest first: by column, see FINDING."""
        return self._newest("findings", FINDING, target, limit)

    def actions(self, target: str = "", limit: int = 50) -> list[dict[str, Any]]:
        """Return actions on a target, "" is all, newest first: by column, see ACTION."""
        return self._newest("actions", ACTION, target, limit)

    def _newest(self, table: str, columns: Sequence[str], target: str, limit: int) -> list[dict[str, Any]]:
        where, values = ("WHERE target = ?", [target]) if target else ("", [])
        query = f"SELECT {', '.join(columns)} FROM {table} {where} ORDER BY id DESC LIMIT ?"
        rows = [dict(zip(columns, row, strict=True)) for row in self._rows(query, *values, limit)]
        for row in rows:
            for name in ("details", "report"):
                if row.get(name) is not None:
                    row[name] = json.loads(row[name])
        return rows

    def prune(self, before: int, most: int = MOST) -> int:
        """Forget some of what was over before a moment, or is too much; call it while it returns any.

        What is open and what is under way stays. So do the state, and the numbers of events. Where there is
        too much, details go first: of numbers before `bounds` there may then be events, but not all.

        Args:
            before: microseconds since 1970.
            most: so many details, other events, findings and actions are kept, of each the newest.
        """
        return self._prune_details(most) + self._prune_rest(before, most)

    def _prune_details(self, most: int) -> int:
        first, last = self.bounds()
        query = "SELECT seq, kind FROM events WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT ?"
        rows = self._rows(query, first, last - most, _PRUNED_AT_ONCE)
        if not rows:
            return 0
        with self._transaction(lasting=False):
            gone = [(seq,) for seq, kind in rows if kind in _DETAILS]
            self._db.executemany("DELETE FROM events WHERE seq = ?", gone)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('first', ?)", (str(rows[-1][0] + 1),))
        return len(rows)

    def _prune_rest(self, before: int, most: int) -> int:
        (kept,) = self._rows("SELECT count(*) FROM events")[0]
        over = kept - 2 * most
        query = "SELECT seq, at FROM events ORDER BY seq LIMIT ?"
        with self._transaction(lasting=False):
            last = 0
            for place, (seq, at) in enumerate(self._db.execute(query, (_PRUNED_AT_ONCE,)).fetchall()):
                if at >= before and place >= over:
                    break
                last = seq
            done = self._db.execute("DELETE FROM events WHERE seq <= ?", (last,)).rowcount
            if last >= int(self._meta("first") or 1):
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('first', ?)", (str(last + 1),))
            for table, ended in (("findings", "closed"), ("actions", "ended")):
                old = f"{ended} < ? OR id <= (SELECT max(id) FROM {table}) - ? AND {ended} NOT NULL"
                rows = f"SELECT id FROM {table} WHERE {old} ORDER BY id LIMIT ?"
                done += self._db.execute(
                    f"DELETE FROM {table} WHERE id IN ({rows})", (before, most, _PRUNED_AT_ONCE)
                ).rowcount
        return done


def _recorded(row: Sequence[Any]) -> Recorded:
    seq, version, kind, target, at, data = row
    return Recorded(seq, version, Event(kind, target, at, json.loads(data)))


def _house(state: State) -> tuple[object, ...]:
    """Return what is remembered beside the cases, but for when the last step was: it alone is not filed."""
    return tuple(getattr(state, item.name) for item in fields(State) if item.name not in ("cases", "at"))


def open_ledger(path: Path) -> tuple[Ledger, State, str | None]:
    """Open the ledger; one that is damaged is moved aside and begun anew.

    Returns:
        The ledger, its state, and what was wrong with the one before, None if nothing.

    Raises:
        RotaError: the file can neither be used nor moved aside.
    """

    def opened(path: Path) -> tuple[Ledger, State]:
        ledger = Ledger(path)
        try:
            return ledger, ledger.load()
        except BaseException:
            ledger.close()
            raise

    (ledger, state), damage = open_or_anew(path, opened)
    return ledger, state, damage
