"""The keeper ends, and another begins: what was open is not closed for want of having seen enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rota_agents.home_keeper import intake
from rota_agents.home_keeper.checks import hardware, host, upkeep
from rota_agents.home_keeper.checks import units as unit_checks
from rota_agents.home_keeper.checks.readings import Memory, Reading, recalled, settle
from rota_agents.home_keeper.checks.units import Past, Unit
from rota_agents.home_keeper.core import Core
from rota_agents.home_keeper.messages import Tick
from rota_agents.home_keeper.probes import disks as disk_probes
from rota_agents.home_keeper.probes.clock import SystemClock
from rota_agents.home_keeper.probes.gpus import Gpus
from rota_agents.home_keeper.probes.host import Interfaces
from rota_agents.home_keeper.probes.polling import Poll, Watcher
from rota_agents.home_keeper.probes.rotad import RotadProbe
from rota_agents.home_keeper.probes.threads import Threads
from rota_agents.home_keeper.state import Reading as Clocks
from rota_agents.home_keeper.words import Finding, Target

from rota.keeper_rules import Rules
from rota.unit_watches import Units
from rota.watches import Limit
from tests.keeper.nvml import Driver

S = 1_000_000
MINUTE = 60 * S
START = 1_800_000_000 * S
USED = {"memory": (Limit("warning", 90, 85, MINUTE, MINUTE), Limit("critical", 97, 95, MINUTE, MINUTE))}


def now() -> int:
    return time.time_ns() // 1000


def live(core: Core, begin: int, used: Iterable[int]) -> None:
    """Let a keeper look at memory every 15 seconds, as wired by it."""
    values = iter(used)

    async def probe() -> host.Memory:
        return host.Memory(100, 100 - next(values), 0, 0)

    async def looks() -> None:
        check = Poll("memory", 15 * S, S, probe, lambda facts, _: host.memory(facts, USED))
        watcher = Watcher(check).recall(intake.left(core.state).get("memory", ()))
        for at in range(begin, begin + len([*used]) * 15 * S, 15 * S):
            observation = await watcher.look(lambda at=at: at)
            for happening in intake.observed(observation, core.state) if observation else ():
                core.handle(happening, Clocks(at, at, "boot"))
            core.handle(Tick(), Clocks(at, at, "boot"))

    asyncio.run(looks())


def told(core: Core) -> list[str]:
    assert core.ledger is not None
    kinds = ("finding-opened", "finding-closed", "trouble", "trouble-over", "recovered")
    return [one.event.kind for one in core.ledger.events(0) if one.event.kind in kinds]


@pytest.mark.parametrize("used", [93, 99])
def test_what_is_bad_throughout_stays_one_finding(tmp_path: Path, used: int) -> None:
    def keeper(at: int) -> Core:
        return Core(tmp_path / "keeper.db", Rules(), frozenset({"memory"}), Clocks(at, at, "boot"))

    first = keeper(START)
    live(first, START, [used] * 40)
    before = told(first)
    assert "finding-opened" in before and "finding-closed" not in before
    (since,) = (one.since for one in intake.left(first.state)["memory"])
    first.close()

    later = START + 40 * 15 * S + 3 * S
    second = keeper(later)
    live(second, later, [used] * 40)
    assert told(second) == before
    assert [one.since for one in intake.left(second.state)["memory"]] == [since]
    live(second, later + 600 * S, [50] * 40)
    assert "finding-closed" in told(second)
    second.close()


DISK = Target("disk", "/")


def test_it_closes_when_it_has_been_good_for_long_enough_or_is_not_read_any_more() -> None:
    limits = (Limit("warning", 90, 85, 0, MINUTE), Limit("critical", 97, 95, 0, MINUTE))
    left = Finding(DISK, "space", "critical", START, "/ is full")

    def read(memory: Memory, value: float | None, at: int) -> tuple[Memory, list[str]]:
        memory, found = settle(memory, [Reading(DISK, "space", value, limits)], START + at)
        return memory, [one.severity for one in found]

    memory = recalled([left])
    for value, at, severities in (
        (None, S, ["critical"]),
        (96, 2 * S, ["critical"]),
        (92, 3 * S, ["critical"]),
        (92, 3 * S + MINUTE, ["warning"]),
        (80, 4 * S + MINUTE, ["warning"]),
        (80, 4 * S + 2 * MINUTE, []),
    ):
        memory, found = read(memory, value, at)
        assert found == severities
    assert settle(recalled([left]), [], START)[1] == ()


def look_again(left: list[Finding], probe: Any, judge: Any) -> list[Finding]:
    """Return what a new keeper finds at its first look."""
    watcher = Watcher(Poll("check", S, S, probe, judge, probe.recall)).recall(left)
    observation = asyncio.run(watcher.look(now))
    return [one for found in observation.findings.values() for one in found] if observation else []


def test_a_carrier_that_was_lost_is_missed_until_the_machine_is_booted(tmp_path: Path) -> None:
    folder = tmp_path / "class/net/eth0"
    (folder / "device").mkdir(parents=True)
    (folder / "flags").write_text("0x1003\n")
    (folder / "carrier").write_text("0\n")

    def again(since: int) -> list[str]:
        links = Interfaces((), tmp_path)
        lost = Finding(Target("host", "eth0"), "carrier", "critical", since, "lost")
        judge = lambda facts, _: hardware.interfaces(facts, (), links.had)  # noqa: E731
        return [one.problem for one in look_again([lost], links, judge)]

    assert again(now()) == ["carrier"]
    assert again(START - 10**15) == [], "who booted it may have taken the cable away"


def test_a_disk_that_became_read_only_was_not_meant_to(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("22 1 8:1 / / ro - ext4 /dev/sda1 ro\n")
    look = disk_probes.Volumes(Threads(), S, frozenset(), table)
    assert [one.read_only for one in asyncio.run(look())] == ["meant"]
    look.recall([Finding(DISK, "read-only", "critical", now(), "")])
    assert [one.read_only for one in asyncio.run(look())] == ["remounted"]


def test_a_gpu_that_is_lost_is_so_for_the_next_keeper_too(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    driver.there = ["b"]
    # there is no GPU here to lose
    monkeypatch.setitem(__import__("sys").modules, "pynvml", driver)
    lost = Finding(Target("host", "gpu0"), "gpu", "critical", now(), "", {"model": "RTX", "uuid": "a"})

    def look(gpus: Gpus) -> dict[str, str]:
        return {one.name: one.unanswered for one in asyncio.run(gpus())}

    gpus = Gpus(Threads())
    gpus.recall([lost])
    assert look(gpus) == {"gpu0": "it is gone", "gpu1": ""}
    driver.there = ["a", "b"]
    assert look(gpus) == {"gpu0": "", "gpu1": ""}
    (reading, *_) = hardware.gpus([hardware.Gpu("gpu0", "RTX", unanswered="x", uuid="a")], {})
    assert reading.details == lost.details, "it says what is needed to know it again"


def test_for_how_long_something_was_so_is_counted_on() -> None:
    hour = 3600 * S
    clock_limits = {"clock": (Limit("warning", 600, 60),)}
    (reading,) = upkeep.clock(upkeep.Clock(False, hour), clock_limits)
    clock = SystemClock()
    clock.recall([Finding(reading.target, "clock", "warning", START, "", reading.details)])
    assert clock._unsynchronised.span(False) >= hour
    assert clock._unsynchronised.span(True) == 0

    found = {"rotad": (Limit("critical", 60, 30),), "failing": (Limit("warning", 3, 0),)}
    silent = upkeep.Rotad(hour, "it hangs", agents=(upkeep.Agent("a", ("failed",) * 3, 0, False),))
    left = [
        Finding(one.target, one.problem, "warning", START, "left", one.details)
        for one in upkeep.rotad(silent, found)
    ]
    probe = RotadProbe(S, address="unix:path=/nonexistent")
    again = look_again(left, probe, lambda facts, _: upkeep.rotad(facts, found))
    assert sorted((str(one.target), one.problem) for one in again) == [
        ("agent:a", "failed"), ("rotad:bus", "unreachable")
    ]  # fmt: skip


RULES = Units()


def test_a_loop_goes_on_for_the_next_keeper_unless_it_was_over_long_ago() -> None:
    looping = Unit("x.service", "activating", "auto-restart", restarts=7)
    loop = Finding(Target("unit", "x.service"), "restart-loop", "warning", START, "")
    (past,) = unit_checks.recalled([loop, replace(loop, problem="failed")], RULES).values()

    def again(unit: Unit, past: Past = past, at: int = START + MINUTE) -> tuple[list[str], Past]:
        verdict = unit_checks.judge(unit, past, RULES, at)
        assert all(one.since == START for one in verdict.findings)
        return [one.problem for one in verdict.findings], verdict.past

    found, later = again(looping)
    assert found == ["restart-loop"]
    assert again(looping, later, START + 2 * MINUTE)[0] == ["restart-loop"]
    assert again(looping, later, START + MINUTE + RULES.within)[0] == [], "it has calmed down"
    runs = replace(looping, active="active", sub="running", since=START + S)
    assert again(runs)[0] == ["restart-loop"], "it has been restarted just now"
    assert again(runs, at=START + S + RULES.within)[0] == [], "nobody saw it calm down, but so it did"
    assert again(replace(runs, restarts=0))[0] == [], "somebody has started it anew"
    assert again(replace(looping, active="inactive", sub="dead"))[0] == []
