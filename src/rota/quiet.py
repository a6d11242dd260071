"""Quiet hours: spans of the day, such as 22:30-07:00, in local time; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo

_SPAN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")
_USEC = 1_000_000
_DAY = 24 * 60


def parse_quiet(text: str) -> tuple[int, int]:
    """Return a span of the day as minutes after midnight, from and to; it may go past midnight.

    Raises:
        ValueError: it is none; with what to write instead.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError('not a span of the day; write for example "22:30-07:00"')
    start, end = (int(found[i]) * 60 + int(found[i + 1]) for i in (1, 3))
    if start == end:
        raise ValueError("begins when it ends; leave out the route to be told nothing at all")
    return start, end


def quiet_until(spans: Iterable[str], now: int, zone: tzinfo | None = None) -> int:
    """Return when it is no longer quiet, in microseconds since 1970: `now` if it is not.

    Args:
        spans: see `parse_quiet`.
        now: the present, in microseconds since 1970.
        zone: local time; the machine's by default.
    """
    parsed = [parse_quiet(span) for span in spans]
    end = now
    for _ in range(len(parsed) + 1):  # one span may lead into another
        later = max((_end(start, stop, end, zone) for start, stop in parsed), default=end)
        if later == end:
            break
        end = later
    return end


def _end(start: int, stop: int, now: int, zone: tzinfo | None) -> int:
    """Return when one span ends that `now` is in; `now` if it is in none."""
    local = datetime.fromtimestamp(now / _USEC, zone)
    minute = local.hour * 60 + local.minute
    if (minute - start) % _DAY >= (stop - start) % _DAY:
        return now
    day = local.date() + timedelta(days=1 if stop <= minute else 0)
    moment = datetime(day.year, day.month, day.day, stop // 60, stop % 60, tzinfo=zone)
    found = round((moment if zone else moment.astimezone()).timestamp() * _USEC)
    return found if found > now else now + 60 * _USEC  # an hour that the clocks repeat
