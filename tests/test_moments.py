"""Moments as people write them."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from rota.moments import parse_moment

ROME = ZoneInfo("Europe/Rome")


def usec(*parts: int, zone: ZoneInfo = ROME) -> int:
    return int(datetime(*parts, tzinfo=zone).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


NOW = usec(2027, 3, 29, 12, 30)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", usec(2027, 3, 29, 12, 30)),
        ("90s", usec(2027, 3, 29, 12, 28, 30)),
        ("2h ago", usec(2027, 3, 29, 10, 30)),
        # 24 hours ago: the night before was an hour short, so it was half past twelve a day earlier in UTC.
        ("1d", usec(2027, 3, 29, 12, 30) - 86_400_000_000),
        (" 1d 12h ", usec(2027, 3, 29, 12, 30) - 36 * 3_600_000_000),
        ("2027-03-28", usec(2027, 3, 28)),
        ("2027-03-28 03:00", usec(2027, 3, 28, 3)),
        ("2027-03-28T01:00:00Z", usec(2027, 3, 28, 3)),
        ("2027-01-31 09:00:00+05:00", usec(2027, 1, 31, 5)),
    ],
)
def test_moments(text: str, wanted: int) -> None:
    assert parse_moment(text, NOW, ROME) == wanted


@pytest.mark.parametrize(
    "text", ["", "soon", "5", "2h 5", "-2h", "2027-02-30", "09:00", "2h from now", "1e9s"]
)
def test_no_moments(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a moment; write|unknown unit|has no unit|not a time span"):
        parse_moment(text, NOW, ROME)


def test_days_begin_at_local_midnight() -> None:
    assert parse_moment("today", NOW, ROME) == usec(2027, 3, 29)
    assert parse_moment("yesterday", NOW, ROME) == usec(2027, 3, 28)
    now = time.time_ns() // 1000
    today = time.localtime(parse_moment("today", now) / 1e6)
    assert (today.tm_hour, today.tm_min, today.tm_sec) == (0, 0, 0)
    assert today.tm_yday == time.localtime(now / 1e6).tm_yday
