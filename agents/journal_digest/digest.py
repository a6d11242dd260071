"""From journal entries to counts per unit: pure functions, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

LEVELS = ("emerg", "alert", "crit", "err")
"""Names of the priorities 0 to 3, as journalctl writes them."""

MAX_UNITS = 500
MAX_PATTERNS = 64
MAX_MESSAGE = 200
"""Bounds on what is kept: units, different messages per unit, characters per message."""

OTHERS = "(other units)"
"""Where entries are counted once `MAX_UNITS` units have been seen."""

_UNIT_FIELDS = (
    # What an entry is about comes before who wrote it: systemd and systemd-coredump write about others.
    "COREDUMP_USER_UNIT",
    "COREDUMP_UNIT",
    "OBJECT_SYSTEMD_USER_UNIT",
    "OBJECT_SYSTEMD_UNIT",
    "USER_UNIT",
    "UNIT",
    "_SYSTEMD_USER_UNIT",
    "_SYSTEMD_UNIT",
)
_IDENTIFIER_FIELDS = ("SYSLOG_IDENTIFIER", "_COMM", "_TRANSPORT")

_NOT_A_DUTY = re.compile(r"session-.*\.scope|init\.scope")
_PASSING = (
    # Units made for one connection or one call: a name each, all the same duty.
    (re.compile(r"@\d+-[^/]*\.service"), "@*.service"),
    (re.compile(r"run-[ru]?[0-9a-f-]+\.(service|scope|mount)"), r"run-*.\1"),
)
_VARIABLE = re.compile(
    r"""
      [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}     # a UUID
    | \b(?:[0-9a-f]{1,4}:{1,2}){2,7}[0-9a-f]{1,4}\b   # addresses, times of day
    | \b0x[0-9a-f]+\b
    | \b(?=[a-f]*\d)[0-9a-f]{6,}\b                    # ids and hashes; words like "facade" stay
    | \d+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PERIOD = re.compile(r"([0-9]{1,9})(s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Entry:
    """What is read of one journal entry.

    Attributes:
        time: when journald received it.
        priority: 0 (emerg) to 3 (err).
        unit: the unit it is about, else the identifier of who wrote it.
        message: its first line.
    """

    time: datetime
    priority: int
    unit: str
    message: str


@dataclass(slots=True)
class Group:
    """The entries of one unit so far.

    Attributes:
        unit: unit or identifier.
        count: entries.
        priority: the most urgent one seen.
        first: time of the earliest.
        last: time of the latest.
        frequent: how often each pattern was seen, with a message that fits it. At most
            `MAX_PATTERNS` are followed (Misra and Gries: what makes up more than one in
            `MAX_PATTERNS` is always among them, its count a lower bound).
        latest: the message seen last.
        exact: no pattern had to be dropped, so the counts in `frequent` are exact.
    """

    unit: str
    count: int
    priority: int
    first: datetime
    last: datetime
    frequent: dict[str, tuple[int, str]] = field(default_factory=dict)
    latest: str = ""
    exact: bool = True

    def add(self, entry: Entry) -> None:
        """Count `entry`."""
        self.count += 1
        self.priority = min(self.priority, entry.priority)
        self.first = min(self.first, entry.time)
        self.last = max(self.last, entry.time)
        self.latest = entry.message
        key = pattern(entry.message)
        known = self.frequent.get(key)
        if known or len(self.frequent) < MAX_PATTERNS:
            self.frequent[key] = ((known[0] if known else 0) + 1, entry.message)
            return
        self.exact = False
        self.frequent = {key: (count - 1, text) for key, (count, text) in self.frequent.items() if count > 1}

    def top(self) -> tuple[int, str]:
        """Return how often the most frequent message was seen, and its latest wording."""
        return max(self.frequent.values(), key=lambda seen: seen[0], default=(1, self.latest))


def period(text: str) -> timedelta:
    """Return the time that "90s", "30min", "24h" or "7d" stands for.

    Raises:
        ValueError: it is written otherwise, is nothing at all, or is longer than 100 years.
    """
    match = _PERIOD.fullmatch(text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= 36525 * 86400:
        raise ValueError(f'"{text}" is not a time such as 90s, 30min, 24h or 7d')
    return timedelta(seconds=seconds)


def pattern(message: str) -> str:
    """Return `message` with its numbers, ids and addresses as #, so that repeats look alike."""
    return _VARIABLE.sub("#", message)


def unit_name(fields: Mapping[str, object]) -> str:
    """Return the unit an entry is about, or who wrote it if no unit tells."""
    for key in _UNIT_FIELDS:
        unit = _text(fields.get(key))
        if unit and not _NOT_A_DUTY.fullmatch(unit):
            for passing, name in _PASSING:
                unit = passing.sub(name, unit)
            return unit
    return next((text for key in _IDENTIFIER_FIELDS if (text := _text(fields.get(key)))), "unknown")


def entry_of(fields: Mapping[str, object]) -> Entry:
    """Return what is needed of the fields of a journal entry, as systemd.journal.Reader gives them."""
    time = fields["__REALTIME_TIMESTAMP"]
    if not isinstance(time, datetime):
        raise TypeError(f"__REALTIME_TIMESTAMP is a {type(time).__name__}, not a datetime")
    priority = _text(fields.get("PRIORITY"))
    line = " ".join(_text(fields.get("MESSAGE")).strip().partition("\n")[0].split())
    return Entry(
        time=time,
        priority=int(priority) if priority in ("0", "1", "2") else 3,
        unit=unit_name(fields)[:MAX_MESSAGE],
        message=line[:MAX_MESSAGE] or "(no text)",
    )


def digest(entries: Iterable[Entry]) -> list[Group]:
    """Return the entries counted by unit, the unit with the most first."""
    groups: dict[str, Group] = {}
    for entry in entries:
        unit = entry.unit if entry.unit in groups or len(groups) < MAX_UNITS else OTHERS
        group = groups.get(unit)
        if group is None:
            group = groups[unit] = Group(unit, 0, entry.priority, entry.time, entry.time)
        group.add(entry)
    return sorted(groups.values(), key=lambda group: (-group.count, group.unit))


def _text(value: object) -> str:
    """Return a field's value as text: journald allows any bytes, and several values per field."""
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)
