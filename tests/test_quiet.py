"""Quiet hours: across midnight, in a time zone, and when its clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.quantity import USEC
from rota.quiet import Quiet, local, parse_quiet, quiet_until

ROME = "Europe/Rome"
MINUTE = 60 * USEC


def at(text: str, zone: str = ROME, fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(moment.timestamp()) * USEC


def until(spans: str, now: int, zone: str = ROME) -> int | None:
    return quiet_until(map(parse_quiet, spans.split()), now, ZoneInfo(zone))


@pytest.mark.parametrize(
    ("spans", "now", "end"),
    [
        ("22:30-07:00", "2026-11-21 22:29:59", None),
        ("22:30-07:00", "2026-11-21 22:30:00", "2026-11-22 07:00:00"),
        ("22:30-07:00", "2026-11-22 06:59:59", "2026-11-22 07:00:00"),
        ("22:30-07:00", "2026-11-22 07:00:00", None),
        ("13:00-14:00", "2026-11-22 13:30:30", "2026-11-22 14:00:00"),
        ("22:30-00:00", "2026-11-22 23:00:00", "2026-11-23 00:00:00"),
        ("22:30-01:00 01:00-02:00", "2026-11-22 23:00:00", "2026-11-23 02:00:00"),
        ("15:00-16:00 13:00-15:30", "2026-11-22 14:00:00", "2026-11-22 16:00:00"),
        ("22:30-01:00 00:30-02:00", "2026-11-22 23:00:00", "2026-11-23 02:00:00"),
        # Clocks go forward from 02:00 to 03:00 on 2026-03-29, back from 03:00 to 02:00 on 2026-10-25.
        ("22:30-07:00", "2026-03-28 23:00:00", "2026-03-29 07:00:00"),
        ("22:30-07:00", "2026-10-24 23:00:00", "2026-10-25 07:00:00"),
        ("22:30-02:30", "2026-03-28 23:00:00", "2026-03-29 03:00:00"),
        ("22:30-02:30", "2026-10-24 23:00:00", "2026-10-25 02:30:00"),
        ("02:15-02:45", "2026-03-29 03:00:00", None),
    ],
)
def test_quiet(spans: str, now: str, end: str | None) -> None:
    assert until(spans, at(now)) == (None if end is None else at(end))


@pytest.mark.parametrize("text", ["", "22:30", "22:30-24:00", "7:00-8:00", "22:30 - 07:00", "07:00-07:00"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example|begins when it ends"):
        parse_quiet(text)


def test_an_hour_that_comes_twice_is_quiet_twice() -> None:
    first, second = at("2026-10-25 02:20:00"), at("2026-10-25 02:20:00", fold=1)
    assert second - first == 60 * MINUTE
    assert until("02:15-02:45", first) == at("2026-10-25 02:45:00")
    assert until("02:15-02:45", second) == at("2026-10-25 02:45:00", fold=1)


def test_the_machines_own_zone() -> None:
    now = at("2026-11-21 12:00:00", "UTC")
    shown = local(now)
    quiet = Quiet(shown.hour * 60 + shown.minute, (shown.hour * 60 + shown.minute + 5) % 1440)
    assert quiet_until([quiet], now) == now + 5 * MINUTE


ZONES = (ROME, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")
MINUTES = st.integers(0, 1439)
SPANS = st.tuples(MINUTES, MINUTES).filter(lambda ends: ends[0] != ends[1]).map(lambda ends: Quiet(*ends))


def is_quiet(quiet: Quiet, zone: str, now: int) -> bool:
    """The rule itself: what the clock on the wall shows."""
    shown = datetime.fromtimestamp(now // USEC, ZoneInfo(zone))
    minute = shown.hour * 60 + shown.minute
    return (minute - quiet.since) % 1440 < (quiet.until - quiet.since) % 1440


def holds(quiet: Quiet, zone: str, now: int) -> None:
    end = quiet_until([quiet], now, ZoneInfo(zone))
    assert (end is not None) == is_quiet(quiet, zone, now)
    if end is not None:
        assert not is_quiet(quiet, zone, end)
        moments = range(now, end, max((end - now) // 50, 1))
        assert all(is_quiet(quiet, zone, moment) for moment in [*moments, end - 1])


@given(SPANS, st.sampled_from(ZONES), st.integers(at("2011-12-01 00:00:00"), at("2027-12-01 00:00:00")))
def test_it_is_quiet_until_then_and_no_longer(quiet: Quiet, zone: str, now: int) -> None:
    holds(quiet, zone, now)


# The hours about a change of the clocks, where a random moment is hardly ever.
@given(SPANS, st.sampled_from(("2026-03-28", "2026-10-24")), st.integers(0, 36 * 60))
def test_so_it_is_when_clocks_change(quiet: Quiet, day: str, minutes: int) -> None:
    holds(quiet, ROME, at(f"{day} 12:00:00") + minutes * MINUTE)
