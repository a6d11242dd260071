"""Processors, memory, pressure, clock and journal: real samples, bad ones, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rota_agents.home_keeper.checks import host, upkeep
from rota_agents.home_keeper.checks.readings import Reading
from rota_agents.home_keeper.checks.words import Malformed, size, span
from rota_agents.home_keeper.probes import clock
from rota_agents.home_keeper.probes import host as probes

from rota.watch_rules import limits
from rota.watching import TABLE

S = 1_000_000
GIB = 1024**3
LIMITS = {name: limits(name, declared=True) for name in TABLE}

STAT = """cpu  1856997 10 748984 4646741 43248 0 12090 219773 7 0
cpu0 876945 0 356520 2407149 11658 0 1129 110690 0 0
cpu1 980051 0 392463 2239592 31589 0 10960 109083 0 0
intr 24373166 0 0
ctxt 51525749
"""
MEMINFO = """MemTotal:       24684092 kB
MemFree:        23463032 kB
MemAvailable:    1234204 kB
SwapCached:            0 kB
SwapTotal:       4194304 kB
SwapFree:         409600 kB
HugePages_Total:       0
"""
PSI = """some avg10=28.98 avg60=14.56 avg300=6.34 total=4390495659
full avg10=0.00 avg60=2.50 avg300=0.00 total=0
"""


def test_samples_are_read() -> None:
    assert host.parse_stat(STAT) == host.Ticks(
        busy=1856997 + 10 + 748984 + 12090 + 219773,
        total=1856997 + 10 + 748984 + 4646741 + 43248 + 12090 + 219773,
        processors=2,
    )  # fmt: skip
    assert host.parse_loadavg("0.99 0.73 1.06 2/94 30719\n") == 0.73
    assert host.parse_meminfo(MEMINFO) == host.Memory(24684092 * 1024, 1234204 * 1024, 4 * GIB, 409600 * 1024)
    assert host.parse_pressure(PSI, "/proc/pressure/io") == host.Pressure(14.56, 2.5)
    assert host.parse_pressure("some avg10=0.00 avg60=1.00 avg300=0.00 total=5\n", "x") == host.Pressure(1, 0)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("/proc/stat", ""),
        ("/proc/stat", "cpu0 1 2 3 4 5\n"),
        ("/proc/stat", "cpu 1 2 3\n"),
        ("/proc/stat", "cpu 1 2 three 4 5\n"),
        ("/proc/loadavg", ""),
        ("/proc/loadavg", "1 -1 1"),
        ("/proc/loadavg", "1 nan 1"),
        ("/proc/meminfo", "MemTotal: 5 kB\n"),
        ("/proc/meminfo", MEMINFO.replace("kB", "MB")),
        ("/proc/meminfo", MEMINFO.replace("1234204", "99999999999")),
        ("/proc/meminfo", MEMINFO.replace("1234204 kB", "")),
        ("/proc/pressure/io", ""),
        ("/proc/pressure/io", "some avg10=1.00 total=3\n"),
        ("/proc/pressure/io", "some avg60=101 total=3\n"),
        ("/proc/pressure/io", "some avg60\n"),
    ],
)
def test_malformed_input_names_the_file(file: str, text: str) -> None:
    parse: Callable[[str], object] = {
        "/proc/stat": host.parse_stat,
        "/proc/loadavg": host.parse_loadavg,
        "/proc/meminfo": host.parse_meminfo,
        "/proc/pressure/io": lambda said: host.parse_pressure(said, "/proc/pressure/io"),
    }[file]
    with pytest.raises(Malformed, match=f"^{file} is not as expected"):
        parse(text)


@settings(deadline=None)
@given(st.text())
def test_nothing_else_is_raised_whatever_a_file_says(text: str) -> None:
    for parse in (host.parse_stat, host.parse_loadavg, host.parse_meminfo):
        try:
            parse(text)
        except Malformed as error:
            assert str(error).startswith("/proc/")
    with pytest.raises(Malformed):
        host.parse_pressure("x" + text, "/proc/pressure/io")


def test_busy_is_between_two_looks() -> None:
    first, second = host.Ticks(100, 1000, 2), host.Ticks(190, 1100, 2)
    assert host.busy(None, first) is None
    assert host.busy(first, second) == 90
    assert host.busy(second, second) is None, "no time has passed"
    assert host.busy(second, first) is None, "counters went back"
    assert host.busy(first, host.Ticks(90, 1100, 2)) == 0, "idle time may be counted late"


def by_problem(readings: list[Reading]) -> dict[str, Reading]:
    return {f"{one.target} {one.problem}": one for one in readings}


def test_what_is_said_of_the_host() -> None:
    found = by_problem(
        [
            *host.processors(host.Processors(97.4, 9.1, 2), LIMITS),
            *host.memory(host.parse_meminfo(MEMINFO), LIMITS),
            *host.pressure({"memory": host.Pressure(60, 41.9), "cpu": host.Pressure(82, 0)}, LIMITS),
        ]
    )
    assert {name: (one.value and round(one.value, 2), one.summary) for name, one in found.items()} == {
        "host:cpu load": (97.4, "2 processors: 97 % of their time is in use, load average 9.1"),
        "host:load load": (4.55, "load average of 5 minutes is 9.1 on 2 processors: so many want to run"),
        "host:memory memory": (95.0, "memory is 95 % in use: 1.2 GiB of 24 GiB left"),
        "host:swap swap": (90.23, "swap is 90 % in use: 400 MiB of 4.0 GiB left"),
        "host:pressure-memory pressure": (41.9, "all tasks wait for memory for 41 % of the last minute"),
        "host:pressure-cpu pressure": (82, "tasks wait for a processor for 82 % of the last minute"),
    }


def test_what_is_not_watched_or_not_there_has_no_reading() -> None:
    assert list(host.memory(host.Memory(GIB, GIB, 0, 0), {"swap": LIMITS["swap"]})) == []
    assert list(host.processors(host.Processors(1, 1, 1), {})) == []
    assert list(host.pressure({"io": host.Pressure(1, 1)}, {})) == []
    assert next(host.processors(host.Processors(None, 1, 1), LIMITS)).value is None


def test_this_machine() -> None:
    async def look() -> tuple[host.Processors, host.Processors, host.Memory, dict[str, host.Pressure]]:
        processors = probes.Processors()
        first = await processors()
        sum(range(3_000_000))
        return first, await processors(), await probes.memory(), await probes.pressure()

    first, second, memory, pressure = asyncio.run(look())
    assert first.busy is None
    assert second.busy is None or 0 <= second.busy <= 100
    assert second.processors >= 1
    assert 0 < memory.available < memory.total
    assert set(pressure) in ({"cpu", "memory", "io"}, set())


def test_a_kernel_without_pressure_has_nothing_to_say(tmp_path: Path) -> None:
    assert asyncio.run(probes.pressure(tmp_path)) == {}
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/io").write_text("nonsense")
    with pytest.raises(Malformed, match="pressure/io is not as expected"):
        asyncio.run(probes.pressure(tmp_path))


def test_the_clock_of_this_machine_is_asked_without_privileges() -> None:
    assert clock.adjtimex() in (True, False)
    facts = asyncio.run(clock.SystemClock()())
    assert facts.synchronised or facts.unsynchronised >= 0


def test_an_unsynchronised_clock() -> None:
    (one,) = upkeep.clock(upkeep.Clock(False, 3 * 3600 * S), LIMITS)
    assert (one.value, one.limits[0].bad(one.value or 0)) == (10800, True)
    assert one.summary.startswith("the clock has not been synchronised for 3h: look at timedatectl")
    (well,) = upkeep.clock(upkeep.Clock(True, 0), LIMITS)
    assert well.value == 0
    counted = probes.Unsynchronised()
    assert counted.span(False) == 0 and counted.span(False) > 0 and counted.span(True) == 0


def test_a_journal_that_loses_entries() -> None:
    (lost,) = upkeep.journal(upkeep.Written(False, 20 * S, "there is no room left in /var/log/journal"))
    assert (lost.value, str(lost.target)) == (1, "host:journal")
    assert "after 20s (there is no room left in /var/log/journal)" in lost.summary
    (kept,) = upkeep.journal(upkeep.Written(True, 300_000))
    assert kept.value == 0


@pytest.mark.parametrize(
    ("trend", "count"),
    [
        ((), 0),
        (("succeeded", "failed", "timed-out", "killed"), 3),
        (("failed", "failed", "succeeded"), 0),
        (("failed", "skipped", "failed", "missed"), 2),
        (("failed", "stopped"), 0),
    ],
)
def test_failures_in_a_row(trend: tuple[str, ...], count: int) -> None:
    assert upkeep.failures(trend) == count


def test_what_is_said_of_rota() -> None:
    agents = (
        upkeep.Agent("backup", ("failed", "failed", "failed"), 0, False, "last with exit status 3"),
        upkeep.Agent("late", ("succeeded",), 2, False),
        upkeep.Agent("paused", ("succeeded",), 9, True),
    )
    found = by_problem(list(upkeep.rotad(upkeep.Rotad(0, lag=90 * S, agents=agents), LIMITS)))
    assert found["rotad:bus unreachable"].value == 0
    assert found["rotad:lag lag"].value == 90
    assert found["agent:backup failed"].value == 3
    assert found["agent:backup failed"].summary == (
        "backup has failed 3 times in a row, last with exit status 3; rota logs backup"
    )
    assert found["agent:late missed"].summary == "late has missed 2 slots since its last run; rota why late"
    assert found["agent:paused missed"].value == 0
    silent = list(upkeep.rotad(upkeep.Rotad(40 * S, "rotad is not running", agents=agents), LIMITS))
    assert silent[0].value == 40 and "for 40s: rotad is not running" in silent[0].summary
    assert {one.value for one in silent[1:]} == {None}, "nothing is known of the others then"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1.0 KiB"),
        (3.1 * GIB, "3.1 GiB"),
        (80 * GIB, "80 GiB"),
        (2**60, "1024 PiB"),
    ],
)
def test_sizes_in_words(count: float, text: str) -> None:
    assert size(count) == text


def test_spans_in_words() -> None:
    assert [span(value) for value in (1500, 2_700_000, 90 * S, 40 * 3600 * S)] == [
        "2ms",
        "2s",
        "1min 30s",
        "1d 16h",
    ]
