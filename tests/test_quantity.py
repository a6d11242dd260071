"""Durations, sizes and shares: what systemd reads is what we read, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.quantity import (
    INFINITY,
    USEC,
    format_duration,
    format_size,
    parse_duration,
    parse_percent,
    parse_size,
)

MINUTE, HOUR, DAY = 60 * USEC, 3600 * USEC, 86_400 * USEC
DURATIONS = {
    "5us": 5,
    "5µs": 5,
    "7usec": 7,
    "250ms": 250_000,
    "1msec": 1000,
    "30s": 30 * USEC,
    "0s": 0,
    "90sec": 90 * USEC,
    "1second": USEC,
    "2seconds": 2 * USEC,
    "5min": 5 * MINUTE,
    "5m": 5 * MINUTE,
    "1minute": MINUTE,
    "2minutes": 2 * MINUTE,
    "2h": 2 * HOUR,
    "2hr": 2 * HOUR,
    "1hour": HOUR,
    "2hours": 2 * HOUR,
    "1d": DAY,
    "3days": 3 * DAY,
    "1day": DAY,
    "2w": 14 * DAY,
    "1week": 7 * DAY,
    "2weeks": 14 * DAY,
    "1M": 2_629_800 * USEC,
    "1month": 2_629_800 * USEC,
    "2months": 2 * 2_629_800 * USEC,
    "1y": 31_557_600 * USEC,
    "1year": 31_557_600 * USEC,
    "2years": 2 * 31_557_600 * USEC,
    "1h 30min": HOUR + 30 * MINUTE,
    "1h30min": HOUR + 30 * MINUTE,
    " 5 min\t": 5 * MINUTE,
    "1.5h": HOUR + 30 * MINUTE,
    "infinity": INFINITY,
}
NOT_DURATIONS = {
    "": "not a time span",
    "soon": "not a time span",
    "min": "not a time span",
    "-5min": "not a time span",
    "5min!": "not a time span",
    "٣min": "not a time span",
    "5min\n": "not a time span",
    "\n5min": "not a time span",
    "5": "has no unit",
    "1h 5": "has no unit",
    "5.min": "has no unit",
    "5\nmin": "has no unit",
    "5\u00a0min": "has no unit",
    "5mins": "unknown unit mins",
    "5Min": "unknown unit Min",
    "5日": "unknown unit 日",
    "900000y": "too long",
}
SIZES = {
    "1": 1,
    "512": 512,
    "10B": 10,
    "64K": 64 * 1024,
    "512M": 512 * 1024**2,
    "1.5G": 3 * 1024**3 // 2,
    "2 G": 2 * 1024**3,
    "1T": 1024**4,
    "1P": 1024**5,
    "1E": 1024**6,
    "infinity": INFINITY,
}
NOT_SIZES = [
    "",
    "lots",
    "512m",
    "512MB",
    "-1M",
    "1,5G",
    "5\nM",
    "5M\n",
    "²M",
    "1G 5M",
    " 5M",
    "0",
    "0M",
    "0.1",
    "16E",
]
NOT_SHARES = ["", "50", "0%", "-5%", "1.5%", "²%", "50 %", "5%\n", "99999999%"]


@pytest.mark.parametrize(("text", "usec"), DURATIONS.items())
def test_durations(text: str, usec: int) -> None:
    assert parse_duration(text) == usec


@pytest.mark.parametrize(("text", "told"), NOT_DURATIONS.items())
def test_not_durations(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_duration(text)


@pytest.mark.parametrize(("text", "count"), SIZES.items())
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    ("parse", "text"),
    [(parse_size, text) for text in NOT_SIZES] + [(parse_percent, text) for text in NOT_SHARES],
)
def test_neither_sizes_nor_shares(parse: Callable[[str], int], text: str) -> None:
    with pytest.raises(ValueError, match=r"write|more than 0"):
        parse(text)


def test_shares() -> None:
    assert [parse_percent(text) for text in ("1%", "50%", "200%", "007%")] == [1, 50, 200, 7]


def test_shown_durations() -> None:
    shown = {
        0: "0",
        1: "1us",
        999: "999us",
        1500: "1ms 500us",
        USEC: "1s",
        90 * USEC: "1min 30s",
        HOUR + 30 * MINUTE + 5 * USEC: "1h 30min",
        HOUR + 5 * USEC: "1h",
        8 * DAY: "1w 1d",
        400 * DAY: "57w 1d",
        INFINITY: "infinity",
    }
    assert {usec: format_duration(usec) for usec in shown} == shown
    assert format_duration(HOUR + 30 * MINUTE, 1) == "1h"


def test_shown_sizes() -> None:
    shown = {0: "0B", 1023: "1023B", 1024: "1K", 1536: "1.5K", 10 * 1024: "10K", 512 * 1024**2: "512M"}
    assert {count: format_size(count) for count in shown} == shown
    assert format_size(1024**7) == "1024E"


@settings(max_examples=100, database=None, derandomize=True)
@given(st.integers(0, 2**50))
def test_what_is_shown_is_read_back(usec: int) -> None:
    shown = format_duration(usec)
    read = 0 if shown == "0" else parse_duration(shown)
    assert 0 <= usec - read <= usec // 2, "rounded down, and not by much"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_reads_durations_alike() -> None:
    wanted = [text for text in DURATIONS if text != "infinity"]
    done = subprocess.run(
        ["systemd-analyze", "timespan", "--", *wanted], capture_output=True, text=True, check=True
    )
    read = re.findall(r"^ *μs: (\d+)$", done.stdout, re.MULTILINE)
    assert dict(zip(wanted, map(int, read), strict=True)) == {text: DURATIONS[text] for text in wanted}
    for text in NOT_DURATIONS:
        if "\n" in text or text in ("5", "1h 5"):
            continue  # no value of a unit file has newlines; and bare numbers we refuse, systemd does not
        asked = subprocess.run(["systemd-analyze", "timespan", "--", text], capture_output=True, check=False)
        assert asked.returncode != 0, text
