"""What one run wrote, found in the journal by its indices: it costs the same however much that is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rota.events import Run
from rota.journal import STARTING, Entry, Fields, Lookup, boot_id, manager, number, text
from rota.lines import Stray, senders
from rota.names import PREFIX, service_of
from rota.quantity import USEC
from rota.said import Line, Said, shown, summary

_JOURNALS = ("/var/log/journal", "/run/log/journal")
_LOOKED_AT = 200
"""Entries around the end of a run among which strays are looked for."""
_FEW = 10
_MOST = 100
"""Entries of a unit that are looked at; of some nothing can be shown."""
_FIRST, _LAST = 20, 100
"""Entries of a run among which its first line is looked for, and its last line and its result."""


def readable(*, user: bool) -> bool:
    """Tell whether this process may read the journal of the system's agents, or of the user's own."""
    names = ["system.journal", *([f"user-{os.getuid()}.journal"] if user else [])]
    files = (path for base in _JOURNALS for name in names for path in Path(base).glob(f"*/{name}"))
    return any(os.access(path, os.R_OK) for path in files)


def agent_matches(agent: str, *, user: bool) -> list[str]:
    """Return journalctl(1) matches for all that an agent logged, and systemd about it."""
    if user:
        # journald knows LogExtraFields= of the system manager's units only.
        unit = service_of(agent)
        return [f"_SYSTEMD_USER_UNIT={unit}", "+", f"USER_UNIT={unit}"]
    return [f"ROTA_AGENT={agent}"]


def run_matches(run: Run, *, user: bool) -> list[str]:
    """Return journalctl(1) matches for all that a run logged, and systemd about it."""
    return [f"{'USER_' if user else ''}INVOCATION_ID={run.id}", "+", *output_matches(run, user=user)]


def output_matches(run: Run, *, user: bool) -> list[str]:
    """Return journalctl(1) matches for all that a run wrote; see `lines`."""
    found = [f"_SYSTEMD_INVOCATION_ID={run.id}"]
    for sender in strays_of(run, user=user):
        found += ["+", *_written_by(run, user=user), sender]
    return found


def said(run: Run, *, user: bool) -> tuple[Said, float | None]:
    """Return what a run said, and when journald received the last of it: seconds of time.monotonic().

    None if it said nothing, or did in another boot.
    """
    journal = Lookup().find(output_matches(run, user=user))
    head = [_line(entry) for entry in journal.forward(_FIRST)]
    entries = list(journal.seek(None, "").backward(_LAST)) if head else []
    newest = entries[0].received / USEC if entries and run.boot == boot_id() else None
    return summary(head, map(_line, entries)), newest


def tail(run: Run, count: int, *, user: bool) -> list[str]:
    """Return the last lines that a run wrote, at most `count`, oldest first, harmless to a terminal."""
    found: list[str] = []
    journal = Lookup().find(output_matches(run, user=user)).seek(None, "")
    for entry in journal.backward(count):
        found = shown(_line(entry)) + found
    return found[-count:]


def unit_tail(unit: str, span: tuple[int, int], count: int, *, user: bool) -> list[str]:
    """Return the last lines that a unit wrote within a span, oldest first, harmless to a terminal.

    Args:
        unit: its name, of this machine.
        span: from when to when journald took them in, microseconds since 1970.
        count: at most so many lines.
        user: of the user's own manager.
    """
    own = [f"_SYSTEMD_USER_UNIT={unit}", f"_UID={os.getuid()}"] if user else [f"_SYSTEMD_UNIT={unit}"]
    found: list[str] = []
    journal = Lookup().find(own).seek_time(span[1])
    for entry in journal.backward(_MOST):
        if entry.at < span[0] or len(found) >= count:
            break
        found = shown(_line(entry)) + found
    return found[-count:]


def _line(entry: Entry) -> Line:
    result = text(entry.fields, "ROTA_RESULT") if "ROTA_RESULT" in entry.fields else None
    return Line(text(entry.fields, "MESSAGE"), result)


def _written_by(run: Run, *, user: bool) -> list[str]:
    """Return matches for what the unit of a run writes."""
    if user:
        # Of a process that is gone journald does not know a user's unit, but by which name it logs.
        unit = [f"_UID={os.getuid()}", f"SYSLOG_IDENTIFIER={PREFIX}{run.agent}"]
    else:
        unit = [f"_SYSTEMD_UNIT={service_of(run.agent)}"]
    return [*unit, f"_BOOT_ID={run.boot}"]


def strays_of(run: Run, *, user: bool) -> list[str]:
    """Return the senders of a run's lines that lack its id."""
    if run.boot is None or run.began is None:
        return []
    journal = Lookup()
    until = _next_start(journal, run, run.began, user=user)
    unit = _written_by(run, user=user)
    found: list[Stray] = []
    if run.pid is not None:
        journal.find([*unit, f"_PID={run.pid}"]).seek(run.began, run.boot)
        found += _strays(journal, _FEW)
    journal.find(unit).seek(until, run.boot)
    found += _strays(journal, _LOOKED_AT, back_to=run.began)
    return senders(found, run.began, until, run.pid)


def _next_start(journal: Lookup, run: Run, began: int, *, user: bool) -> int | None:
    """Return when systemd began to start the next run of the unit in this boot, microseconds since boot."""
    unit = f"{'USER_' if user else ''}UNIT={service_of(run.agent)}"
    journal.find([*manager(user), f"MESSAGE_ID={STARTING}", unit, f"_BOOT_ID={run.boot}"])
    journal.seek(began, run.boot or "")
    for entry in journal.forward(_FEW):
        other = text(entry.fields, f"{'USER_' if user else ''}INVOCATION_ID") != run.id
        if other and entry.sent > began:
            return entry.sent
    return None


def _strays(journal: Lookup, limit: int, *, back_to: int | None = None) -> Iterator[Stray]:
    entries = journal.forward(limit) if back_to is None else journal.backward(limit)
    for entry in entries:
        if back_to is not None and entry.received < back_to:
            return
        if sender := _sender(entry.fields):
            yield Stray(sender, number(entry.fields, "_PID"), entry.received)


def _sender(fields: Fields) -> str:
    """Return a match for the sender of a line that lacks the run's id; "" for one that has it."""
    if text(fields, "_SYSTEMD_INVOCATION_ID"):
        return ""
    stream = text(fields, "_STREAM_ID")
    return f"_STREAM_ID={stream}" if stream else f"_PID={number(fields, '_PID')}"


class Output:
    """What one run writes, as it comes."""

    def __init__(self, run: str) -> None:
        self._own = Lookup().find([f"_SYSTEMD_INVOCATION_ID={run}"])
        self._strays: dict[str, Lookup] = {}

    def new(self) -> Iterator[str]:
        """Yield the lines that came since the last call."""
        for entry in self._own.forward():
            yield text(entry.fields, "MESSAGE")
        for sender, lookup in self._strays.items():
            for entry in lookup.forward():
                # A sender may have the id in one line and lack it in the next.
                if _sender(entry.fields) == sender:
                    yield text(entry.fields, "MESSAGE")

    def over(self, run: Run, *, user: bool) -> None:
        """Also yield lines that journald took in without the run's id; it is over."""
        for sender in strays_of(run, user=user):
            if sender not in self._strays:
                self._strays[sender] = Lookup().find([*_written_by(run, user=user), sender])
