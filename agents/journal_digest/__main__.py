"""journal-digest: the errors in the journal by unit, as a table and as JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

from ..common import (
    WIDTH,
    Result,
    clip,
    clip_middle,
    columns,
    complain,
    conclude,
    plural,
    printable,
    publish,
    say,
)
from .digest import LEVELS, Entry, Group, digest, entry_of, period

AGENT = "journal-digest"


class JournalUnreadableError(Exception):
    """The journal cannot be read; the text says why and what to do."""


def read(start: datetime, end: datetime) -> Iterator[Entry]:
    """Yield the entries of priority err or worse from `start` to `end`.

    Raises:
        JournalUnreadableError: there is no journal, or this user may not read it.
    """
    try:
        from systemd import journal  # noqa: PLC0415  (C library; only this function needs it)
    except ImportError as error:
        raise JournalUnreadableError(f"systemd-python is not installed: {error}") from error
    try:
        with closing(journal.Reader()) as reader:
            if not (reader.has_persistent_files() or reader.has_runtime_files()):
                raise JournalUnreadableError(
                    "no journal that this user may read; is journald running, and is the user in the "
                    'group systemd-journal? (agent.toml: sandbox.groups = ["systemd-journal"])'
                )
            for priority in range(len(LEVELS)):
                reader.add_match(PRIORITY=str(priority))
            reader.data_threshold = 4096
            reader.seek_realtime(start)
            yield from _between(reader, start, end)
    except OSError as error:
        raise JournalUnreadableError(f"cannot read the journal: {error.strerror or error}") from error


def _between(reader: Iterator[Mapping[str, object]], start: datetime, end: datetime) -> Iterator[Entry]:
    for fields in reader:
        entry = entry_of(fields)
        if entry.time > end:
            return
        if entry.time >= start:
            yield entry


def table(groups: Sequence[Group], limit: int, since: datetime) -> str:
    """Return the digest for people, 80 columns wide: two lines a unit, `limit` units at most.

    Args:
        groups: the digest.
        limit: how many units to show.
        since: start of the time that was looked at; times are shown in its time zone.
    """
    shown = groups[:limit]
    rows = [
        (
            str(group.count),
            LEVELS[group.priority],
            clip_middle(printable(group.unit), 36),
            f"{group.first.astimezone(since.tzinfo):%m-%d %H:%M}",
            f"{group.last.astimezone(since.tzinfo):%m-%d %H:%M}",
        )
        for group in shown
    ]
    lines = []
    if rows:
        header, *body = columns(
            [("COUNT", "WORST", "UNIT", "FIRST", "LAST"), *rows], left=frozenset({1, 2, 3, 4})
        )
        lines.append(header)
        for row, group in zip(body, shown, strict=True):
            times, message = group.top()
            bound = "" if group.exact else "at least "
            note = f"{bound}{times} times: " if times > 1 else ""
            lines += [row, clip(f"       {note}{printable(message)}", WIDTH)]
    if len(groups) > limit:
        rest = sum(group.count for group in groups[limit:])
        units = plural(len(groups) - limit, "more unit")
        lines.append(f"{rest:>5}  in {units} (--limit {limit})")
    return "".join(f"{line}\n" for line in lines)


def summary(groups: Sequence[Group], since: datetime) -> str:
    """Return the digest in a sentence."""
    start = f"since {since:%Y-%m-%d %H:%M}"
    if not groups:
        return f"no errors {start}"
    count = sum(group.count for group in groups)
    return f"{plural(count, 'error')} in {plural(len(groups), 'unit')} {start}"


def result_of(groups: Sequence[Group], since: datetime, until: datetime) -> Result:
    """Return the digest as what goes into JSON; times are in UTC."""
    return {
        "since": _utc(since),
        "until": _utc(until),
        "errors": sum(group.count for group in groups),
        "units": [
            {
                "unit": group.unit,
                "count": group.count,
                "worst": LEVELS[group.priority],
                "first": _utc(group.first),
                "last": _utc(group.last),
                "message": group.top()[1],
                "message_count": group.top()[0],
                "message_count_exact": group.exact,
            }
            for group in groups
        ],
    }


def main(argv: list[str] | None = None) -> int:
    """Digest the journal of this machine.

    Args:
        argv: arguments without the program's name; those of this process if None.

    Returns:
        0 when the journal could be read, whatever is in it; else 1.
    """
    options = _parser().parse_args(argv)
    until = datetime.now().astimezone()
    try:
        since = until - options.since
        groups = digest(read(since, until))
    except JournalUnreadableError as error:
        complain(AGENT, str(error))
        return 1
    short = summary(groups, since)
    status = 0
    say(table(groups, options.limit, since))
    sys.stdout.flush()
    try:
        logged = publish(AGENT, result_of(groups, since, until), "units", "digest.json", short)
    except OSError as error:
        complain(AGENT, f"cannot leave the result: {error}")
        status, logged = 1, False
    conclude(short, logged)
    return status


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")


def _since(text: str) -> timedelta:
    try:
        return period(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number from 1 to 10000')
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"rota-agent {AGENT}",
        description="Count the journal's entries of priority err or worse by unit, with each unit's "
        "most frequent message (numbers and ids aside).",
        epilog="The same as JSON goes to $STATE_DIRECTORY/digest.json and, in a run that systemd "
        "started, to the journal (field ROTA_RESULT).",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=_since,
        default=timedelta(days=1),
        help="how far to look back: a number and s, min, h or d (default 24h)",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_limit,
        default=20,
        help="show at most N units in the table (default 20); JSON has them all",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
