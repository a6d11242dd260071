"""Quiet hours: past midnight, one after the other, and over a night in which the clocks change."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.quiet import parse_quiet, quiet_until

ROME = ZoneInfo("Europe/Rome")


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ROME).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("spans", "now", "until"),
    [
        (["22:30-07:00"], "2027-01-31 22:29", "2027-01-31 22:29"),
        (["22:30-07:00"], "2027-01-31 22:30", "2027-02-01 07:00"),
        (["22:30-07:00"], "2027-02-01 06:59", "2027-02-01 07:00"),
        (["22:30-07:00"], "2027-02-01 07:00", "2027-02-01 07:00"),
        (["13:00-15:00"], "2027-02-01 14:00", "2027-02-01 15:00"),
        (["13:00-15:00", "15:00-16:00"], "2027-02-01 14:00", "2027-02-01 16:00"),
        (["15:00-16:00", "13:00-15:30"], "2027-02-01 14:00", "2027-02-01 16:00"),
        ([], "2027-02-01 14:00", "2027-02-01 14:00"),
        # The clocks go forward at 2, back at 3.
        (["22:30-07:00"], "2027-03-27 23:00", "2027-03-28 07:00"),
        (["22:30-07:00"], "2027-10-30 23:00", "2027-10-31 07:00"),
        (["22:30-02:30"], "2027-03-27 23:00", "2027-03-28 03:30"),
    ],
)
def test_until_when(spans: list[str], now: str, until: str) -> None:
    assert quiet_until(spans, at(now), ROME) == at(until)


@pytest.mark.parametrize("text", ["", "22:30", "22:30-24:00", "7:00-8:00", "22:30 - 07:00", "07:00-07:00"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example|begins when it ends"):
        parse_quiet(text)


TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
SPANS = st.lists(st.tuples(TIMES, TIMES).filter(lambda pair: pair[0] != pair[1]).map("-".join), max_size=3)


@given(SPANS, st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1)))
def test_it_ends_and_is_not_quiet_then(spans: list[str], moment: datetime) -> None:
    now = round(moment.replace(tzinfo=ROME).timestamp() * 1e6)
    until = quiet_until(spans, now, ROME)
    assert now <= until <= now + 4 * 26 * 3600 * 10**6
    if len(spans) == 1:
        assert (
            quiet_until(spans, until, ROME) == until
            or until - now <= timedelta(hours=2).total_seconds() * 1e6
        )
