"""The only reader (and writer) of journald: entries to events, in order, from a cursor on.

Two kinds of entries count. systemd's own about units (systemd/sd-messages.h), believed only when
they come from the manager itself: anyone may log fields of any name, but the underscored ones are
journald's. And rota's, believed only from rotad, for what systemd does not say.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systemd import journal

from rota.events import KINDS, Event, fold
from rota.names import AGENT_NAME, agent_of

Fields = Mapping[str, bytes | list[bytes]]
"""An entry as the raw reader gives it: a field that is there more than once is a list."""

ROTA_MESSAGE = "5b7c9a1e0d3f4c5e8a6b2d1f9e0c7a34"
"""MESSAGE_ID of every structured entry of rotad's."""

log = logging.getLogger("rotad")

STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
"""MESSAGE_ID of systemd's when it begins to start a unit (SD_MESSAGE_UNIT_STARTING)."""

_RUN = re.compile("[0-9a-f]{32}")
_DIGITS = 19
"""A number of so many digits may be too large for 63 bits."""
_LARGEST = 2**63 - 1
_PLACE = re.compile(";b=([0-9a-f]{32});m=([0-9a-f]+);t=([0-9a-f]+);")
"""In a cursor, boot, microseconds since boot and since 1970: opaque by its man page, but alike since 2012."""
_UNDER_WAY = 10_000_000
"""An entry is no longer on its way to journald (microseconds); beyond that the clock was set meanwhile."""
_STATUS_NAME = re.compile(r"status=\d+/(\S+)")
_UNMET = re.compile(r"(?:unmet|failed) condition check \(?(\w+=[^ )]*)")
# JOB_RESULT of a start that never came to a process: the invocation id, if any, is an older run's.
_NEVER_BEGAN = ("dependency", "assert", "unsupported", "collected", "once", "invalid")


def text(fields: Fields, name: str) -> str:
    """Return a field as text, the first if there are more, "" if it has none."""
    value = fields.get(name, b"")
    return (value[0] if isinstance(value, list) else value).decode("utf-8", "replace")


def number(fields: Fields, name: str) -> int | None:
    """Return a number, None for what is none that SQLite and D-Bus could hold."""
    value = fields.get(name)
    if isinstance(value, list):
        value = value[0]
    return int(value) if value and len(value) < _DIGITS and value.isdigit() else None


def _exited(fields: Fields) -> dict[str, Any]:
    named = _STATUS_NAME.search(text(fields, "MESSAGE"))
    return {
        "command": text(fields, "COMMAND"),
        "code": text(fields, "EXIT_CODE"),
        "status": number(fields, "EXIT_STATUS") or 0,
        "status_name": named[1] if named else None,
    }


_METRICS: Mapping[str, str] = {
    "MEMORY_PEAK": "memory_peak",
    "IP_METRIC_INGRESS_BYTES": "net_in",
    "IP_METRIC_EGRESS_BYTES": "net_out",
}


def _resources(fields: Fields) -> dict[str, Any]:
    cpu = number(fields, "CPU_USAGE_NSEC")
    data = {"cpu_usec": cpu if cpu is None else cpu // 1000}
    data |= {key: number(fields, name) for name, key in _METRICS.items()}
    return {key: value for key, value in data.items() if value is not None}


_Read = Callable[[Fields], dict[str, Any]]

# MESSAGE_ID: kind of event, its data. The ids are systemd's, sd-messages.h.
_MESSAGES: Mapping[str, tuple[str, _Read]] = {
    STARTING: ("activated", lambda _: {}),
    "39f53479d3a045ac8e11786248231fbf": ("running", lambda _: {}),
    "be02cf6855d2428ba40df7e9d022f03d": ("not-started", lambda f: {"result": text(f, "JOB_RESULT")}),
    "98e322203f7a4ed290d09fe03c09fe15": ("exited", _exited),
    "d9b373ed55a64feb8242e02dbe79a49c": ("failed", lambda f: {"result": text(f, "UNIT_RESULT")}),
    "7ad2d189f7e94e70a38c781354912448": ("deactivated", lambda _: {}),
    "0e4284a0caca4bfc81c0bb6786972673": ("skipped", lambda f: {"reason": text(f, "UNIT_RESULT")}),
    "de5b426a63be47a7b6ac3eaac82e2f6f": ("stopping", lambda _: {}),
    "9d1aaa27d60140bd96365438aad20286": ("stopped", lambda _: {}),
    "5eb03494b6584870a536b337290809b3": ("restart-scheduled", lambda _: {}),
    "ae8f7b866b0347b9af31fe1c80b127c0": ("resources", _resources),
}


def _identity(cursor: str) -> str:
    """Return 32 hex digits for an entry about a start that systemd gave no invocation id."""
    import hashlib  # noqa: PLC0415  (OpenSSL, for the rare entry that needs it)

    return hashlib.sha256(cursor.encode()).hexdigest()[:32]


def _systemd_event(fields: Fields, cursor: Callable[[], str], at: int, monotonic: int | None) -> Event | None:
    unit = text(fields, "UNIT") or text(fields, "USER_UNIT")
    agent = agent_of(unit) if unit.endswith(".service") else None
    message = _MESSAGES.get(text(fields, "MESSAGE_ID"))
    if agent is None or message is None:
        return None
    run = text(fields, "INVOCATION_ID") or text(fields, "USER_INVOCATION_ID")
    kind, read = message
    data = read(fields)
    unmet = None
    if kind == "running" and not (words := text(fields, "MESSAGE")).startswith(("Started ", "Finished ")):
        unmet = _UNMET.search(words)
    if run and not _RUN.fullmatch(run):
        return None  # of a damaged journal file
    if unmet or not run or data.get("result") in (*_NEVER_BEGAN, "start-limit-hit"):
        # The invocation id is absent, or that of the run before: nothing was started.
        run = _identity(cursor())
        if kind == "running":
            condition = unmet[1] if unmet else "condition"
            kind, data = "skipped", {"reason": "paused" if "/rota/paused/" in condition else condition}
    if kind in ("activated", "skipped", "not-started"):
        data |= {"boot": text(fields, "_BOOT_ID"), "cursor": cursor()}
    return Event(kind, agent, run, at, data, monotonic)


def _refuse(constant: str) -> None:
    """Raise what a number that JSON has not is worth."""
    raise ValueError(constant)


def _data(text: str) -> dict[str, Any]:
    """Return the data of an entry of rotad's.

    Raises:
        ValueError, RecursionError: it is not what SQLite and D-Bus can hold.
    """
    data = json.loads(text or "{}", parse_constant=_refuse)
    if not isinstance(data, dict):
        raise ValueError("not a table")
    if "\\u" in text:
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair
    for value in data.values():
        if isinstance(value, dict | list) or (isinstance(value, int | float) and abs(value) > _LARGEST):
            raise ValueError("not a plain value")
    return data


def _rota_event(fields: Fields, at: int, monotonic: int | None) -> Event | None:
    kind, agent, run = (text(fields, name) for name in ("ROTA_EVENT", "ROTA_AGENT", "ROTA_RUN"))
    if kind not in KINDS or not _RUN.fullmatch(run) or not re.fullmatch(AGENT_NAME, agent):
        return None
    try:
        event = Event(kind, agent, run, at, _data(text(fields, "ROTA_DATA")), monotonic)
        fold(None, event)
    except (ValueError, TypeError, KeyError, RecursionError):
        # Of another version of rotad's: raising would stop this one at each of its starts.
        return None
    return event


def to_event(
    fields: Fields, cursor: Callable[[], str], at: int, monotonic: int | None = None
) -> Event | None:
    """Return the event a journal entry stands for, None if it is about no agent.

    Args:
        fields: the entry's fields as journald has them.
        cursor: gives the entry's cursor; only asked for where it is part of the event.
        at: when journald received it, microseconds since 1970.
        monotonic: the same in microseconds since boot.
    """
    if text(fields, "MESSAGE_ID") == ROTA_MESSAGE:
        return _rota_event(fields, at, monotonic)
    sent, monotonic = _sent(fields, at, monotonic)
    return _systemd_event(fields, cursor, sent, monotonic)


def _sent(fields: Fields, at: int, monotonic: int | None) -> tuple[int, int | None]:
    """Return when an entry was sent, on both clocks, from when journald received it."""
    sent = number(fields, "_SOURCE_REALTIME_TIMESTAMP") or at
    if monotonic is not None and 0 <= at - sent <= _UNDER_WAY:
        monotonic -= at - sent
    return sent, monotonic


def boot_id() -> str:
    """Return the id of this boot, 32 hex digits, as the journal has it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")


def machine_id() -> str:
    """Return the id of this machine, 32 hex digits (machine-id(5)).

    Raises:
        OSError: it has none.
    """
    return Path("/etc/machine-id").read_text(encoding="ascii").strip()


def manager(user: bool) -> list[str]:
    """Return matches for what systemd itself logged: the system's manager, or the user's own."""
    return ["_SYSTEMD_USER_UNIT=init.scope", f"_UID={os.getuid()}"] if user else ["_PID=1", "_UID=0"]


def is_cursor(text: str) -> bool:
    """Tell whether this may be a cursor of journald's; sd_journal_seek_cursor(3) refuses others."""
    return _PLACE.search(text) is not None


def _fields(reader: Any) -> Fields | None:
    """Return the fields of the entry that a raw reader is at, None if the journal file is damaged there."""
    try:
        fields: Fields = reader._get_all()
    except (OSError, ValueError):  # no "=" in a field; a name that is not UTF-8
        return None
    return fields


class Reader:
    """Events from the journal, from a cursor on; `read` as often as there may be something new."""

    def __init__(self, cursor: str | None, *, user: bool = False) -> None:
        # The raw reader: systemd.journal.Reader's conversions cost three times the reading.
        self._reader = journal._Reader(journal.LOCAL_ONLY)
        self._match(user)
        self._reader.fileno()  # begins to watch for rotated and new files
        self.cursor = cursor
        if cursor is None:
            self._reader.seek_head()
        else:
            self._seek(cursor)

    def _seek(self, cursor: str) -> None:
        """Go to the entry of a cursor; where it is gone, to the last one before it."""
        self._reader.seek_cursor(cursor)
        if self._reader._next() and self._reader.test_cursor(cursor):
            return
        # Vacuumed; or lost with the end of the journal in a power cut. Then later entries have numbers up to
        # the cursor's once more, and sd_journal_seek_cursor(3), which goes by them, is behind them all.
        place = _PLACE.search(cursor)
        if place is None:
            raise ValueError(f"not a journal cursor: {cursor}")
        boot, monotonic, at = place[1], int(place[2], 16), int(place[3], 16)
        earlier_boot = None
        self._reader.seek_tail()
        while self._reader._previous():
            since_boot, entry_boot = self._reader._get_monotonic()
            if entry_boot.hex() != boot:
                if earlier_boot is None and self._reader._get_realtime() <= at:
                    earlier_boot = self._reader._get_cursor()
            elif since_boot <= monotonic:
                return
        if earlier_boot is None:
            self._reader.seek_head()
        else:
            # Nothing of the cursor's boot is left up to it: only the clock tells what was before.
            self._reader.seek_cursor(earlier_boot)
            self._reader._next()

    def _match(self, user: bool) -> None:
        uid = os.getuid()
        for match in (*manager(user), *(f"MESSAGE_ID={message}" for message in _MESSAGES)):
            self._reader.add_match(match)
        self._reader.add_disjunction()
        own = ["_SYSTEMD_USER_UNIT=rotad.service", f"_UID={uid}"] if user else ["_SYSTEMD_UNIT=rotad.service"]
        for match in (*own, f"MESSAGE_ID={ROTA_MESSAGE}"):
            self._reader.add_match(match)

    def readable(self) -> bool:
        """Tell whether there is any journal that this process may read."""
        return bool(self._reader.has_runtime_files() or self._reader.has_persistent_files())

    def read(self, limit: int = 2000) -> tuple[list[Event], str | None, bool]:
        """Return events after the last read, the cursor behind them, and whether there may be more."""
        self._reader.process()
        events: list[Event] = []
        seen = damaged = 0
        while seen < limit and self._reader._next():
            seen += 1
            # Asked for here: when the next one cannot be read, the reader is at none.
            self.cursor = self._reader._get_cursor()
            if (fields := _fields(self._reader)) is None:
                damaged += 1
                continue
            event = to_event(
                fields,
                self._reader._get_cursor,
                self._reader._get_realtime(),
                self._reader._get_monotonic()[0],
            )
            if event is not None:
                events.append(event)
        if damaged:
            log.warning("the journal is damaged: %d entries cannot be read, and were passed over", damaged)
        return events, self.cursor, seen == limit

    def oldest_unread(self, limit: int = 2000) -> int | None:
        """Return when journald took in the oldest entry that stands for an event and is not read yet.

        Entries about other units before it are read past, no more than `limit` of them.

        Returns:
            Microseconds since 1970; None if there is none.
        """
        self._reader.process()
        for _ in range(limit):
            if not self._reader._next():
                break
            at = int(self._reader._get_realtime())
            fields = _fields(self._reader)
            # What cannot be read is left for `read`, which says so.
            if fields is None or to_event(fields, self._reader._get_cursor, at) is not None:
                if self.cursor is None:
                    self._reader.seek_head()
                else:
                    self._seek(self.cursor)
                return at
            self.cursor = self._reader._get_cursor()
        return None


def record(event: str, agent: str, run: str, message: str, data: Mapping[str, Any] | None = None) -> None:
    """Log what systemd does not say, to be read back like everything else.

    Args:
        event: one of `events.KINDS`.
        agent: whose run.
        run: the run's id.
        message: a sentence for people who read the journal.
        data: what the event carries.
    """
    journal.sendv(
        f"MESSAGE={message}",
        f"MESSAGE_ID={ROTA_MESSAGE}",
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=rotad",
        f"ROTA_EVENT={event}",
        f"ROTA_AGENT={agent}",
        f"ROTA_RUN={run}",
        f"ROTA_DATA={json.dumps(dict(data or {}), ensure_ascii=False)}",
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the journal.

    Attributes:
        fields: as journald has them.
        received: when journald received it, in microseconds since boot.
        sent: when it was sent, where the sender's clock says so.
        at: when journald received it, in microseconds since 1970.
    """

    fields: Fields
    received: int
    sent: int
    at: int


class Lookup:
    """Entries found by journald's indices, from either end or from a moment on."""

    def __init__(self) -> None:
        self._reader = journal._Reader(journal.LOCAL_ONLY)
        self._reader.fileno()  # begins to watch for rotated and new files

    def find(self, matches: Sequence[str]) -> Lookup:
        """Look for entries that match, in journalctl(1)'s words ("+" is an or), from the first on."""
        self._reader.process()
        self._reader.flush_matches()
        for match in matches:
            if match == "+":
                self._reader.add_disjunction()
            else:
                self._reader.add_match(match)
        self._reader.seek_head()
        return self

    def seek(self, monotonic: int | None, boot: str) -> Lookup:
        """Go to a moment of a boot, in microseconds since it began; None: to the end of the journal."""
        if monotonic is None:
            self._reader.seek_tail()
        else:
            self._reader.seek_monotonic(monotonic, boot)
        return self

    def seek_time(self, at: int) -> Lookup:
        """Go to a moment, in microseconds since 1970."""
        self._reader.seek_realtime(at)
        return self

    def _entry(self) -> Entry:
        fields = _fields(self._reader) or {}
        received = self._reader._get_monotonic()[0]
        at = int(self._reader._get_realtime())
        _, sent = _sent(fields, at, received)
        return Entry(fields, received, received if sent is None else sent, at)

    def forward(self, limit: int | None = None) -> Iterator[Entry]:
        """Yield entries in order; what comes later is yielded by a later call."""
        self._reader.process()
        while (limit is None or limit > 0) and self._reader._next():
            limit = None if limit is None else limit - 1
            yield self._entry()

    def backward(self, limit: int) -> Iterator[Entry]:
        """Yield entries, the newest first."""
        while limit > 0 and self._reader._previous():
            limit -= 1
            yield self._entry()
