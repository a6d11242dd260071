"""Moments as people write them: a span ago, a date, a date and time; pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

from rota.quantity import USEC, parse_duration

_DAYS = {"today": 0, "yesterday": -1}


def parse_moment(text: str, now: int, zone: tzinfo | None = None) -> int:
    """Return a moment in microseconds since 1970.

    Args:
        text: a time span, meaning so long ago ("2h", "1d 12h"); now, today, yesterday (their midnight); or a
            date with or without a time, in local time unless it names another offset (RFC 3339).
        now: the present, in microseconds since 1970.
        zone: local time; the machine's by default.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip().removesuffix(" ago")
    if text == "now":
        return now
    if text in _DAYS:
        day = datetime.fromtimestamp(now / USEC, zone) + timedelta(days=_DAYS[text])
        return _usec(datetime(day.year, day.month, day.day), zone)
    if re.fullmatch(r"[0-9.]+ *[a-zA-Zµ].*", text):
        return now - parse_duration(text)
    try:
        return _usec(datetime.fromisoformat(text), zone)
    except ValueError:
        raise ValueError(
            'not a moment; write for example "2h" (ago), "today", "2027-01-31" or "2027-01-31 09:00"'
        ) from None


def _usec(moment: datetime, zone: tzinfo | None) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone) if zone else moment.astimezone()
    return round(moment.timestamp() * USEC)
