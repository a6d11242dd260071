"""The outbox of rotad-notify: what waits to be told, what is being sent, what went out.

What happened is filed in the transaction that moves the cursor of the events it was told from, and is on the
disk (synchronous=FULL) before anything is sent. A message is marked as being sent before it is, and as sent
after: killed between the two, it is sent once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rota.database import RESERVE, Database, open_or_anew
from rota.grouping import Ahead, Due, Item, in_the_present, retry_at
from rota.routes import Happening
from rota.telling import Standing
from rota.wording import Text

VERSION = 1
_SCHEMA = """
CREATE TABLE cursors (source TEXT PRIMARY KEY, store TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL)
WITHOUT ROWID;
CREATE TABLE standings (agent TEXT PRIMARY KEY, since INTEGER NOT NULL, times INTEGER NOT NULL,
    run TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE happenings (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, run TEXT NOT NULL,
    critical INTEGER NOT NULL, filed INTEGER NOT NULL, ready INTEGER NOT NULL, data TEXT NOT NULL);
CREATE INDEX happenings_of_run ON happenings (run) WHERE run != '';
CREATE TABLE items (id INTEGER PRIMARY KEY, happening INTEGER NOT NULL REFERENCES happenings (id),
    channel TEXT NOT NULL, lane TEXT NOT NULL, message INTEGER);
CREATE INDEX items_waiting ON items (channel, lane) WHERE message IS NULL;
CREATE INDEX items_of_happening ON items (happening);
CREATE INDEX items_of_message ON items (message) WHERE message NOTNULL;
CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, lane TEXT NOT NULL,
    created INTEGER NOT NULL, things INTEGER NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, cut_off INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL, error TEXT NOT NULL DEFAULT '', finished INTEGER);
CREATE INDEX messages_open ON messages (channel, next_at) WHERE finished IS NULL;
CREATE INDEX messages_made ON messages (channel, created);
"""


class Cursor(NamedTuple):
    """Up to where a source's events are heard of.

    Attributes:
        store: tells a source's numbers from those after it began anew.
        seq: number of the last event.
        at: when it happened, microseconds since 1970.
    """

    store: str
    seq: int
    at: int


class Told(NamedTuple):
    """Something to be told.

    Attributes:
        happening: what happened.
        ways: by which (channel, lane) it is told.
        ready: when it is told even if not all is known of it, microseconds since 1970.
    """

    happening: Happening
    ways: tuple[tuple[str, str], ...]
    ready: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is not done with.

    Attributes:
        id: its number.
        channel: where to.
        text: what it says.
        created: when it was made, microseconds since 1970.
        attempts: how often it was begun to be sent, this time included.
        cut_off: how often rotad-notify died while it was being sent.
    """

    id: int
    channel: str
    text: Text
    created: int
    attempts: int
    cut_off: int


def _happening(data: str) -> Happening:
    table: dict[str, Any] = json.loads(data)
    # A later version, of which one went back to this one, may have filed more.
    found = {key: value for key, value in table.items() if key in Happening.__dataclass_fields__}
    lists = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
    return Happening(**{**found, **lists})


class Outbox(Database):
    """What is to be told, on the disk.

    Raises (every method):
        DamagedError: the file is not an outbox; see `open_outbox`.
        FullError: there is no room; nothing was changed.
        RotaError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, VERSION, _SCHEMA, {}, reserve=RESERVE)

    def cursor(self, source: str) -> Cursor | None:
        """Return up to where a source's events are filed; None: it was never heard of."""
        rows = self._rows("SELECT store, seq, at FROM cursors WHERE source = ?", source)
        return Cursor(*rows[0]) if rows else None

    def standings(self) -> dict[str, Standing]:
        """Return the agents that keep failing."""
        return {
            row[0]: Standing(*row[1:]) for row in self._rows("SELECT agent, since, times, run FROM standings")
        }

    def known(self, key: str) -> bool:
        """Tell whether something was filed before."""
        return bool(self._rows("SELECT 1 FROM happenings WHERE key = ?", key))

    def file(
        self,
        source: str,
        cursor: Cursor,
        found: Iterable[Told] = (),
        standings: Mapping[str, Standing | None] | None = None,
        *,
        now: int,
    ) -> int:
        """File what happened, and the cursor behind the events it was told from, in one transaction.

        Args:
            source: whose events.
            cursor: behind the last of them.
            found: what happened; what was filed before is passed over.
            standings: of agents that changed; None: no longer failing.
            now: the present, microseconds since 1970.

        Returns:
            How many things are to be told that were not before.
        """
        new = 0
        with self._transaction(lasting=True):
            for happening, ways, ready in found:
                data = json.dumps(asdict(happening), ensure_ascii=False)
                row = (happening.key, happening.run, happening.critical, now, ready, data)
                made = self._db.execute(
                    "INSERT INTO happenings (key, run, critical, filed, ready, data) "
                    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                    row,
                )
                if made.rowcount:
                    new += 1
                    self._db.executemany(
                        "INSERT INTO items (happening, channel, lane) VALUES (?, ?, ?)",
                        [(made.lastrowid, *way) for way in ways],
                    )
            for agent, standing in (standings or {}).items():
                if standing is None:
                    self._db.execute("DELETE FROM standings WHERE agent = ?", (agent,))
                else:
                    self._db.execute(
                        "INSERT OR REPLACE INTO standings VALUES (?, ?, ?, ?)",
                        (agent, standing.since, standing.times, standing.run),
                    )
            self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)", (source, *cursor))
        return new

    def settle(self, run: str, last_line: str, now: int) -> None:
        """Note that all is known of a run that waits to be told of."""
        with self._transaction(lasting=True):
            self._db.execute(
                "UPDATE happenings SET ready = min(ready, ?), data = json_set(data, '$.last_line', ?) "
                "WHERE run = ? AND EXISTS (SELECT 1 FROM items WHERE happening = happenings.id "
                "AND message IS NULL)",
                (now, last_line, run),
            )

    def lanes(self) -> list[tuple[str, str]]:
        """Return by which (channel, lane) something waits that is in no message yet."""
        return self._rows("SELECT DISTINCT channel, lane FROM items WHERE message IS NULL")

    def waiting(self, channel: str, lane: str) -> list[Item]:
        """Return what waits there and is in no message yet, in the order in which it was filed."""
        query = (
            "SELECT items.id, filed, ready, critical FROM items JOIN happenings "
            "ON happenings.id = items.happening WHERE channel = ? AND lane = ? AND message IS NULL "
            "ORDER BY items.id"
        )
        rows = self._rows(query, channel, lane)
        return [Item(number, filed, ready, bool(critical)) for number, filed, ready, critical in rows]

    def happenings(self, items: Iterable[int]) -> list[Happening]:
        """Return what items are about, in their order."""
        query = "SELECT data FROM happenings JOIN items ON happenings.id = items.happening WHERE items.id = ?"
        return [_happening(self._rows(query, item)[0][0]) for item in items]

    def sends(self, channel: str, lane: str, since: int) -> tuple[list[int], list[int]]:
        """Return when messages were made since: all of a channel's, and those of one lane; oldest first."""
        query = "SELECT created, lane FROM messages WHERE channel = ? AND created >= ? ORDER BY created"
        rows = self._rows(query, channel, since)
        return [at for at, _ in rows], [at for at, of in rows if of == lane]

    def ahead(self, channel: str, lane: str) -> list[Ahead]:
        """Return the messages of a lane that are not done with."""
        query = (
            "SELECT attempts, EXISTS (SELECT 1 FROM items JOIN happenings ON happenings.id = items.happening "
            "WHERE items.message = messages.id AND critical) "
            "FROM messages WHERE channel = ? AND lane = ? AND finished IS NULL"
        )
        return [Ahead(attempts, bool(critical)) for attempts, critical in self._rows(query, channel, lane)]

    def to_the_present(self, channel: str, now: int, first_retry: int) -> bool:
        """Bring back what lies in the future because the clock was set back; tell whether there was any.

        Args:
            channel: of this one.
            now: the present, microseconds since 1970.
            first_retry: how long after the first attempt is the second, microseconds.
        """
        query = (
            "SELECT id, created, attempts, next_at FROM messages WHERE channel = ? AND finished IS NULL "
            "AND max(created, next_at) > ?"
        )
        rows = self._rows(query, channel, now)
        found = {number: (Due(*due), in_the_present(Due(*due), now, first_retry)) for number, *due in rows}
        changed = [(due.created, due.next_at, number) for number, (was, due) in found.items() if due != was]
        waiting = "filed > ? AND id IN (SELECT happening FROM items WHERE channel = ? AND message IS NULL)"
        early = self._rows(f"SELECT 1 FROM happenings WHERE {waiting} LIMIT 1", now, channel)
        if not changed and not early:
            return False
        with self._transaction(lasting=True):
            self._db.executemany("UPDATE messages SET created = ?, next_at = ? WHERE id = ?", changed)
            self._db.execute(f"UPDATE happenings SET filed = ? WHERE {waiting}", (now, now, channel))
        return True

    def compose(self, channel: str, lane: str, items: Iterable[int], text: Text, now: int) -> int:
        """Make a message of what waits, and return its number."""
        chosen = list(items)
        with self._transaction(lasting=True):
            made = self._db.execute(
                "INSERT INTO messages (channel, lane, created, things, subject, body, state, next_at) "
                "VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?)",
                (channel, lane, now, len(chosen), text.subject, text.body, now),
            )
            self._db.executemany(
                "UPDATE items SET message = ? WHERE id = ?", [(made.lastrowid, item) for item in chosen]
            )
        return int(made.lastrowid or 0)

    def next_at(self, channel: str) -> int | None:
        """Return when a message to a channel is to be sent next; None if there is none."""
        query = (
            "SELECT min(next_at) FROM messages WHERE channel = ? AND finished IS NULL AND state = 'waiting'"
        )
        found: int | None = self._rows(query, channel)[0][0]
        return found

    def begin(self, channel: str, now: int) -> Message | None:
        """Mark the next message to a channel as being sent, and return it; None if none is due.

        What was never tried goes first: a message that hangs for a minute each time shall not be ahead of it.
        """
        with self._transaction(lasting=True):
            row = self._db.execute(
                "UPDATE messages SET state = 'sending', attempts = attempts + 1 WHERE id = (SELECT id FROM "
                "messages WHERE channel = ? AND finished IS NULL AND state = 'waiting' AND next_at <= ? "
                "ORDER BY attempts > 0, next_at, id LIMIT 1) "
                "RETURNING id, subject, body, created, attempts, cut_off",
                (channel, now),
            ).fetchone()
        if row is None:
            return None
        number, subject, body, created, attempts, cut_off = row
        return Message(number, channel, Text(subject, body), created, attempts, cut_off)

    def sent(self, message: int, now: int) -> None:
        """Mark a message as sent."""
        self._finish(message, "sent", "", now)

    def retry(self, message: int, error: str, at: int) -> None:
        """Note why a message was not sent, and when it is tried again."""
        with self._transaction(lasting=True):
            self._db.execute(
                "UPDATE messages SET state = 'waiting', error = ?, next_at = ? WHERE id = ?",
                (error, at, message),
            )

    def give_up(self, message: int, error: str, now: int) -> None:
        """Mark a message as given up."""
        self._finish(message, "given-up", error, now)

    def _finish(self, message: int, state: str, error: str, now: int) -> None:
        with self._transaction(lasting=True):
            self._db.execute(
                "UPDATE messages SET state = ?, error = iif(? = '', error, ?), finished = ? WHERE id = ?",
                (state, error, error, now, message),
            )

    def recover(self, now: int) -> int:
        """Take up messages again that were being sent when the last process died; return how many.

        At once the first time. What was cut off again is perhaps why it died (systemd ends it all when memory
        is short), and waits as if it had been refused, so that others are sent meanwhile.
        """
        with self._transaction(lasting=True):
            cut_off = self._db.execute("SELECT id, cut_off FROM messages WHERE state = 'sending'").fetchall()
            for number, times in cut_off:
                at = retry_at(times, now, 0.5) if times else now
                self._db.execute(
                    "UPDATE messages SET state = 'waiting', cut_off = cut_off + 1, next_at = ?, "
                    "error = 'cut off while it was being sent' WHERE id = ?",
                    (at, number),
                )
        return len(cut_off)

    def abandon(self, channels: Iterable[str], now: int) -> int:
        """Give up what is for channels that are not declared any more; return how many things that are."""
        names = list(channels)
        where = f"channel NOT IN ({', '.join('?' * len(names))})"
        with self._transaction(lasting=True):
            gone = self._db.execute(f"DELETE FROM items WHERE message IS NULL AND {where}", names).rowcount
            gone += self._db.execute(
                "UPDATE messages SET state = 'given-up', finished = ?, "
                f"error = 'the channel is no longer declared' WHERE finished IS NULL AND {where}",
                [now, *names],
            ).rowcount
        return gone

    def overview(self, channel: str) -> dict[str, Any]:
        """Return how a channel does: what waits, and the last message that was sent and that was not."""
        (waiting,) = self._rows("SELECT count(*) FROM items WHERE channel = ? AND message IS NULL", channel)[
            0
        ]
        open_ = self._rows(
            "SELECT count(*), coalesce(sum(things), 0), max(attempts), min(next_at), min(created) "
            "FROM messages WHERE channel = ? AND finished IS NULL",
            channel,
        )[0]
        last = "SELECT max(finished) FROM messages WHERE channel = ? AND state = ?"
        error = self._rows(
            "SELECT error FROM messages WHERE channel = ? AND error != '' AND state != 'sent' "
            "ORDER BY id DESC LIMIT 1",
            channel,
        )
        given_up = "SELECT count(*) FROM messages WHERE channel = ? AND state = 'given-up'"
        return {
            "channel": channel,
            "waiting": waiting + open_[1],
            "messages": open_[0],
            "attempts": open_[2] or 0,
            "next_attempt": open_[3],
            "last_sent": self._rows(last, channel, "sent")[0][0],
            "given_up": self._rows(given_up, channel)[0][0],
            "error": error[0][0] if error else "",
        }

    def deliveries(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest messages, newest first."""
        names = ("id", "channel", "created", "things", "subject", "state", "attempts", "error", "finished")
        rows = self._rows(f"SELECT {', '.join(names)} FROM messages ORDER BY id DESC LIMIT ?", limit)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def prune(self, before: int) -> None:
        """Forget messages that were done with before a moment, and what was told in them."""
        with self._transaction(lasting=True):
            old = "SELECT id FROM messages WHERE finished < ?"
            self._db.execute(f"DELETE FROM items WHERE message IN ({old})", (before,))
            self._db.execute("DELETE FROM messages WHERE finished < ?", (before,))
            self._db.execute(
                "DELETE FROM happenings WHERE filed < ? AND id NOT IN (SELECT happening FROM items)",
                (before,),
            )


def open_outbox(path: Path) -> tuple[Outbox, str | None]:
    """Open the outbox; one that is damaged is moved aside and begun anew.

    Returns:
        The outbox, and what was wrong with the one before, None if nothing.

    Raises:
        RotaError: the file can neither be used nor moved aside.
    """
    return open_or_anew(path, Outbox)
