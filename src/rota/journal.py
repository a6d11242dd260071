"""The only reader (and writer) of journald: entries to events, in order, from a cursor on.

Two kinds of entries count. systemd's own about units (systemd/sd-messages.h), believed only when
they come from the manager itself: anyone may log fields of any name, but the underscored ones are
journald's. And rota's, believed only from rotad, for what systemd does not say.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from systemd import journal

from rota.events import KINDS, Event, fold
from rota.names import AGENT_NAME, agent_of, service_of

Fields = Mapping[str, bytes | list[bytes]]
"""An entry as the raw reader gives it: a field that is there more than once is a list."""

ROTA_MESSAGE = "5b7c9a1e0d3f4c5e8a6b2d1f9e0c7a34"
"""MESSAGE_ID of every structured entry of rotad's."""

_RUN = re.compile("[0-9a-f]{32}")
_NUMBER = re.compile("[0-9]{1,18}")
_LARGEST = 2**63 - 1
_UNDER_WAY = 10_000_000
"""An entry is no longer on its way to journald (microseconds); beyond that the clock was set meanwhile."""
_STATUS_NAME = re.compile(r"status=\d+/(\S+)")
_UNMET = re.compile(r"(?:unmet|failed) condition check \(?(\w+=[^ )]*)")
# JOB_RESULT of a start that never came to a process: the invocation id, if any, is an older run's.
_NEVER_BEGAN = ("dependency", "assert", "unsupported", "collected", "once", "invalid")


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name, b"")
    return (value[0] if isinstance(value, list) else value).decode("utf-8", "replace")


def _number(fields: Fields, name: str) -> int | None:
    """Return a number, None for what is none that SQLite and D-Bus could hold."""
    text = _text(fields, name)
    return int(text) if _NUMBER.fullmatch(text) else None


def _exited(fields: Fields) -> dict[str, Any]:
    named = _STATUS_NAME.search(_text(fields, "MESSAGE"))
    return {
        "command": _text(fields, "COMMAND"),
        "code": _text(fields, "EXIT_CODE"),
        "status": _number(fields, "EXIT_STATUS") or 0,
        "status_name": named[1] if named else None,
    }


def _resources(fields: Fields) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if (cpu := _number(fields, "CPU_USAGE_NSEC")) is not None:
        data["cpu_usec"] = cpu // 1000
    if (memory := _number(fields, "MEMORY_PEAK")) is not None:
        data["memory_peak"] = memory
    return data


_Read = Callable[[Fields], dict[str, Any]]

# MESSAGE_ID: kind of event, its data. The ids are systemd's, sd-messages.h.
_MESSAGES: Mapping[str, tuple[str, _Read]] = {
    "7d4958e842da4a758f6c1cdc7b36dcc5": ("activated", lambda _: {}),
    "39f53479d3a045ac8e11786248231fbf": ("running", lambda _: {}),
    "be02cf6855d2428ba40df7e9d022f03d": ("not-started", lambda f: {"result": _text(f, "JOB_RESULT")}),
    "98e322203f7a4ed290d09fe03c09fe15": ("exited", _exited),
    "d9b373ed55a64feb8242e02dbe79a49c": ("failed", lambda f: {"result": _text(f, "UNIT_RESULT")}),
    "7ad2d189f7e94e70a38c781354912448": ("deactivated", lambda _: {}),
    "0e4284a0caca4bfc81c0bb6786972673": ("skipped", lambda f: {"reason": _text(f, "UNIT_RESULT")}),
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
    unit = _text(fields, "UNIT") or _text(fields, "USER_UNIT")
    agent = agent_of(unit) if unit.endswith(".service") else None
    message = _MESSAGES.get(_text(fields, "MESSAGE_ID"))
    if agent is None or message is None:
        return None
    run = _text(fields, "INVOCATION_ID") or _text(fields, "USER_INVOCATION_ID")
    kind, read = message
    data = read(fields)
    message_text = _text(fields, "MESSAGE")
    started = kind != "running" or message_text.startswith(("Started ", "Finished "))
    unmet = None if started else _UNMET.search(message_text)
    if unmet or not _RUN.fullmatch(run) or data.get("result") in (*_NEVER_BEGAN, "start-limit-hit"):
        # The invocation id is absent, or that of the run before: nothing was started.
        run = _identity(cursor())
        if kind == "running":
            condition = unmet[1] if unmet else "condition"
            kind, data = "skipped", {"reason": "paused" if "/rota/paused/" in condition else condition}
    if kind in ("activated", "skipped", "not-started"):
        data |= {"boot": _text(fields, "_BOOT_ID"), "cursor": cursor()}
    return Event(kind, agent, run, at, data, monotonic)


def _data(text: str) -> dict[str, Any]:
    """Return the data of an entry of rotad's.

    Raises:
        ValueError, RecursionError: it is not what SQLite and D-Bus can hold.
    """
    data = json.loads(text or "{}")
    if not isinstance(data, dict):
        raise ValueError("not a table")
    json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    for value in data.values():
        if isinstance(value, dict | list) or (isinstance(value, int | float) and abs(value) > _LARGEST):
            raise ValueError("not a plain value")
    return data


def _rota_event(fields: Fields, at: int, monotonic: int | None) -> Event | None:
    kind, agent, run = (_text(fields, name) for name in ("ROTA_EVENT", "ROTA_AGENT", "ROTA_RUN"))
    if kind not in KINDS or not _RUN.fullmatch(run) or not re.fullmatch(AGENT_NAME, agent):
        return None
    try:
        event = Event(kind, agent, run, at, _data(_text(fields, "ROTA_DATA")), monotonic)
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
    if _text(fields, "MESSAGE_ID") == ROTA_MESSAGE:
        return _rota_event(fields, at, monotonic)
    sent = _number(fields, "_SOURCE_REALTIME_TIMESTAMP") or at
    if monotonic is not None and 0 <= at - sent <= _UNDER_WAY:
        monotonic -= at - sent
    return _systemd_event(fields, cursor, sent, monotonic)


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
        vacuumed = self._reader._next() and not self._reader.test_cursor(cursor)
        # Then this one is the next there is: back behind the one before it, if there is any.
        if vacuumed and not self._reader._previous():
            self._reader.seek_head()

    def _match(self, user: bool) -> None:
        uid = os.getuid()
        manager = ["_SYSTEMD_USER_UNIT=init.scope", f"_UID={uid}"] if user else ["_PID=1", "_UID=0"]
        for match in (*manager, *(f"MESSAGE_ID={message}" for message in _MESSAGES)):
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
        seen = 0
        while seen < limit and self._reader._next():
            seen += 1
            event = to_event(
                self._reader._get_all(),
                self._reader._get_cursor,
                self._reader._get_realtime(),
                self._reader._get_monotonic()[0],
            )
            if event is not None:
                events.append(event)
        if seen:
            self.cursor = self._reader._get_cursor()
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
            if to_event(self._reader._get_all(), self._reader._get_cursor, at) is not None:
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
        f"ROTA_DATA={json.dumps(dict(data or {}))}",
    )


def matches(*, agent: str | None = None, run: str | None = None, user: bool = False) -> list[str]:
    """Return journalctl(1) matches for all that an agent or one run of it logged, and systemd about it."""
    if run is not None:
        return [f"_SYSTEMD_INVOCATION_ID={run}", "+", f"{'USER_' if user else ''}INVOCATION_ID={run}"]
    if user:
        # journald knows LogExtraFields= of the system manager's units only.
        unit = service_of(agent or "")
        return [f"_SYSTEMD_USER_UNIT={unit}", "+", f"USER_UNIT={unit}"]
    return [f"ROTA_AGENT={agent}"]


_JOURNALS = ("/var/log/journal", "/run/log/journal")


class Output:
    """What one run writes, as it comes."""

    def __init__(self, run: str) -> None:
        self._reader = journal._Reader(journal.LOCAL_ONLY)
        self._reader.add_match(f"_SYSTEMD_INVOCATION_ID={run}")
        self._reader.fileno()
        self._reader.seek_head()

    @staticmethod
    def readable() -> bool:
        """Tell whether this process may read the system's journal: everyone may read their own."""
        files = (path for base in _JOURNALS for path in Path(base).glob("*/system.journal"))
        return any(os.access(path, os.R_OK) for path in files)

    def new(self) -> Iterator[str]:
        """Yield the lines that came since the last call."""
        self._reader.process()
        while self._reader._next():
            yield _text(self._reader._get_all(), "MESSAGE")
