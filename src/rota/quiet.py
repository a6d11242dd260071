"""Quiet hours: times of each day, such as 22:30-07:00, by the clock on the wall; pure.

An hour that the clock on the wall shows twice is quiet twice, one that it leaves out is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

_SPAN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")
_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Quiet:
    """A time of each day, in minutes since midnight; across midnight if `until` is not later."""

    since: int
    until: int

    def __str__(self) -> str:
        return "-".join(f"{at // 60:02}:{at % 60:02}" for at in (self.since, self.until))

    def __contains__(self, minute: int) -> bool:
        return (minute - self.since) % _DAY < (self.until - self.since) % _DAY


def parse_quiet(text: str) -> Quiet:
    """Return a time of each day.

    Raises:
        ValueError: it is none; with what to write instead.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError('not a time of day; write for example "22:30-07:00"')
    since, until = (int(found[i]) * 60 + int(found[i + 1]) for i in (1, 3))
    if since == until:
        raise ValueError("begins when it ends; it must leave some of the day")
    return Quiet(since, until)


def local(at: int, zone: tzinfo | None = None) -> datetime:
    """Return a moment (microseconds since 1970) as a clock on the wall shows it; the machine's by default."""
    return datetime.fromtimestamp(at // _SECOND, UTC).astimezone(zone)


def quiet_until(spans: Iterable[Quiet], at: int, zone: tzinfo | None = None) -> int | None:
    """Return when it is no longer quiet, None if it is not quiet at a moment.

    Args:
        spans: when it is quiet.
        at: the moment, microseconds since 1970.
        zone: local time; the machine's by default.
    """
    known = tuple(spans)
    end = at
    for _ in range(3 * len(known)):  # one may lead into another
        minute = _minute(end, zone)
        quiet = next((item for item in known if minute in item), None)
        if quiet is None:
            break
        end = _end(quiet, end, zone)
    return end if end > at else None


def _minute(at: int, zone: tzinfo | None) -> int:
    shown = local(at, zone)
    return shown.hour * 60 + shown.minute


def _end(quiet: Quiet, at: int, zone: tzinfo | None) -> int:
    """Return the first moment after one in a quiet time that is not in it."""
    whole = at - at % _MINUTE
    end = whole + (quiet.until - _minute(at, zone)) % _DAY * _MINUTE
    before, after = local(at, zone).utcoffset(), local(end, zone).utcoffset()
    if before == after:
        return end
    # The clocks change meanwhile: look from there. Zones change on whole minutes.
    low, high = whole // _MINUTE, end // _MINUTE
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if local(middle * _MINUTE, zone).utcoffset() == before else (low, middle)
    change = high * _MINUTE
    return _end(quiet, change, zone) if _minute(change, zone) in quiet else change
