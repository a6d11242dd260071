"""Slots as systemd itself reckons them: DST nights, time zones, several lines, and how rarely it is asked."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota import analyze
from rota.expected import Expected
from rota.quantity import USEC

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
ROME = ZoneInfo("Europe/Rome")
NIGHTS = {"spring": "2026-03-29", "autumn": "2026-10-25"}


def usec(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * USEC


def utc(slots: Sequence[int]) -> list[str]:
    return [datetime.fromtimestamp(slot / USEC, ZoneInfo("UTC")).strftime("%d %H:%M") for slot in slots]


def between(events: Sequence[str], after: str, until: str) -> list[str]:
    found = Expected().between(events, usec(after), usec(until), 1000)
    return utc(asyncio.run(found))


@needs_systemd
@pytest.mark.parametrize(
    ("event", "night", "wanted"),
    [
        # The hour from 02:00 to 03:00 does not exist: 02:30 is skipped that day.
        ("*-*-* 02:30:00 Europe/Rome", "spring", ["28 01:30", "30 00:30"]),
        ("*-*-* 03:30:00 Europe/Rome", "spring", ["28 02:30", "29 01:30", "30 01:30"]),
        # It is there twice: 02:30 is served once.
        ("*-*-* 02:30:00 Europe/Rome", "autumn", ["24 00:30", "25 00:30", "26 01:30"]),
        ("*-*-* 02:30:00 UTC", "autumn", ["24 02:30", "25 02:30", "26 02:30"]),
    ],
)
def test_dst_nights(event: str, night: str, wanted: list[str]) -> None:
    day = NIGHTS[night]
    first, last = f"{day[:-2]}{int(day[-2:]) - 1} 00:00", f"{day[:-2]}{int(day[-2:]) + 1} 12:00"
    assert between([event], first, last) == wanted


@needs_systemd
def test_a_half_hourly_timer_is_silent_for_an_hour_in_the_autumn_night() -> None:
    """systemd#8647: what it does not start is no slot, so nothing is missed."""
    found = between(["*:0/30 Europe/Rome"], "2026-10-24 23:50", "2026-10-25 02:40")
    assert found == ["25 00:00", "25 00:30", "25 02:00", "25 02:30"]


@needs_systemd
def test_local_time_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert between(["*-*-* 09:00:00"], "2026-11-01 00:00", "2026-11-02 12:00") == ["01 03:30", "02 03:30"]


@needs_systemd
def test_lines_that_coincide_are_one_slot() -> None:
    found = between(["*:0/20", "*:0/30", "2020-01-01"], "2026-11-01 00:00", "2026-11-01 01:00")
    assert found == ["01 00:20", "01 00:30", "01 00:40", "01 01:00"]


@needs_systemd
def test_many_at_once_and_what_never_comes() -> None:
    events = ["daily", "*-*-* 00:00:00", "Thu 2027-01-01", "*:*:0/0.5", "2026-11-22 09:00"]
    found = analyze.elapses(events, usec("2026-11-21 10:00"), 3)
    assert found["daily"] == found["*-*-* 00:00:00"]
    assert len(found["daily"]) == 3
    assert found["Thu 2027-01-01"] == []
    assert found["2026-11-22 09:00"] == [usec("2026-11-22 09:00")]
    assert all(slot % USEC == 0 for slots in found.values() for slot in slots)
    assert analyze.elapses([], 0, 3) == {}


class Clockwork:
    """Every event "N" elapses each N seconds, up to a last; notes what it is asked."""

    def __init__(self, last: int = 10**15) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.last = last

    def __call__(self, events: Sequence[str], base: int, count: int) -> dict[str, list[int]]:
        self.asked.append(tuple(events))
        found = {}
        for event in events:
            step = int(event) * USEC
            first = (base // step + 1) * step
            found[event] = [slot for slot in range(first, first + count * step, step) if slot <= self.last]
        return found


def test_it_is_asked_rarely() -> None:
    systemd = Clockwork()
    expected = Expected(systemd)

    async def a_day() -> None:
        for second in range(0, 86_400, 60):
            now = second * USEC
            assert await expected.between(["60"], now, now + 60 * USEC, 10) == [now + 60 * USEC]
            assert await expected.next(["60"], now, 2) == [now + 60 * USEC, now + 120 * USEC]

    asyncio.run(a_day())
    assert len(systemd.asked) < 10


def test_many_events_are_asked_for_at_once() -> None:
    systemd = Clockwork()
    expected = Expected(systemd)

    async def work() -> None:
        await expected.prepare([str(number) for number in range(1, 500)], 0)
        for number in range(1, 500):
            await expected.next([str(number)], 0)

    asyncio.run(work())
    assert len(systemd.asked) == 1


def test_what_is_over_is_not_asked_for_again_and_again() -> None:
    systemd = Clockwork(last=100 * USEC)
    expected = Expected(systemd)

    async def work() -> None:
        for now in range(0, 10_000):
            await expected.next(["10"], now * USEC)

    asyncio.run(work())
    assert len(systemd.asked) < 10


@given(
    st.lists(st.integers(1, 50).map(str), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 2000)), min_size=1, max_size=6),
    st.integers(1, 400),
)
def test_whatever_was_asked_before_the_answer_is_right(
    events: list[str], questions: list[tuple[int, int]], most: int
) -> None:
    expected = Expected(Clockwork(last=6000 * USEC))
    for after, span in questions:
        every = {
            slot for event in events for slot in range(0, 6001, int(event)) if after < slot <= after + span
        }
        found = asyncio.run(expected.between(events, after * USEC, (after + span) * USEC, most))
        assert found == [slot * USEC for slot in sorted(every)[:most]]


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
