"""The keeper's check of rotad, over a private bus: what it reads, how little it asks, and what silence is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from rota_agents.home_keeper.checks.upkeep import Agent, Rotad
from rota_agents.home_keeper.probes.rotad import RotadProbe

from rota import health
from rota.errors import RotaError
from rota.names import BUS_NAME
from rota.store import Store
from rota.turns import Call
from tests.bus.house import Meeting, run
from tests.store_kit import failure, life, missed_slots

S = 1_000_000


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Record:
    """What rotad goes by, in the hands of the test, and what it told of whom."""

    def __init__(self, met: Meeting, path: Path) -> None:
        self.store = Store(path)
        self.store.append([*life(1), *life(2, agent="b"), *failure(3, agent="b")], "c")
        self.names, self.paused = {"a", "b"}, set[str]()
        self.lag = 0
        self.told: list[list[str]] = []
        self._numbers = iter(range(10, 1000))
        met.house.health = self.health  # type: ignore[method-assign]

    def health(self, since: int) -> dict[str, Any]:
        found = health.table(self.store, since, self.names)
        self.told.append([line["agent"] for line in found["agents"]])
        return {"lag": self.lag, "paused": sorted(self.paused), **found}

    def fails(self, agent: str) -> None:
        self.store.append(failure(next(self._numbers), agent=agent), "c")


def hang(call: Call) -> None:
    """Do not begin a call: rotad is there, and does not answer."""


def by_name(found: Rotad) -> dict[str, Agent]:
    return {one.name: one for one in found.agents}


def test_it_reads_what_rotad_says(private_bus: str, tmp_path: Path) -> None:
    async def live(met: Meeting) -> None:
        record = Record(met, tmp_path / "rota.db")
        record.lag, record.paused = 90 * S, {"b"}
        record.store.append([missed_slots(4, 2, agent="b")], "c")
        found = await RotadProbe(S, user=True, address=private_bus)()
        assert (found.silent, found.lag) == (0, 90 * S)
        assert found.agents == (
            Agent("a", ("succeeded",), 0, paused=False),
            Agent("b", ("succeeded", "failed", "missed"), 2, paused=True, last="last with exit status 3"),
        )

    run(private_bus, live)


def test_it_asks_for_what_has_changed(private_bus: str, tmp_path: Path) -> None:
    async def live(met: Meeting) -> None:
        record, clock = Record(met, tmp_path / "rota.db"), Clock()
        look = RotadProbe(S, user=True, address=private_bus, clock=clock)
        before = await look()
        assert await look() == before
        record.fails("a")
        after = by_name(await look())
        assert after["a"].trend == ("succeeded", "failed") and after["b"] == by_name(before)["b"]
        record.paused = {"b"}
        assert by_name(await look())["b"].paused
        record.paused = set()
        assert not by_name(await look())["b"].paused
        assert record.told == [["a", "b"], [], ["a"], [], []]
        clock.now += 3600
        await look()
        assert record.told[-1] == ["a", "b"], "once in a while all: old runs are forgotten"
        assert [what for what, *_ in met.house.asked] == [], "and nothing else"

    run(private_bus, live)


def test_agents_come_and_go(private_bus: str, tmp_path: Path) -> None:
    async def live(met: Meeting) -> None:
        record = Record(met, tmp_path / "rota.db")
        look = RotadProbe(S, user=True, address=private_bus)
        await look()
        record.names = {"a", "c"}
        assert by_name(await look()).keys() == {"a", "c"}
        record.names = {"a", "b"}
        assert by_name(await look())["b"].trend == ("succeeded", "failed"), "it has been here before"
        record.names = set()
        assert (await look()).agents == ()
        assert record.told == [["a", "b"], [], ["a", "c"], [], ["a", "b"], []]

    run(private_bus, live)


def test_a_store_that_is_lost(private_bus: str, tmp_path: Path) -> None:
    """Its numbers begin anew: it may have more events already than the last had."""

    async def live(met: Meeting) -> None:
        record = Record(met, tmp_path / "rota.db")
        look = RotadProbe(S, user=True, address=private_bus)
        assert by_name(await look())["a"].trend == ("succeeded",)
        record.store = Store(tmp_path / "other.db")
        for _ in range(5):
            record.fails("b")
        found = by_name(await look())
        assert (found["a"].trend, found["b"].trend) == ((), ("failed",) * 5)

    run(private_bus, live)


def test_silence_is_counted_and_forgets_nothing(private_bus: str, tmp_path: Path) -> None:
    async def live(met: Meeting) -> None:
        record, clock = Record(met, tmp_path / "rota.db"), Clock()
        look = RotadProbe(S, user=True, address=private_bus, clock=clock)
        known = (await look()).agents
        assert known
        await met.served.release_name(BUS_NAME)
        clock.now += 40
        assert await look() == Rotad(40 * S, "rotad is not running", agents=known)
        await met.served.request_name(BUS_NAME)
        record.fails("a")
        clock.now += 20
        met.exported._begin = hang  # type: ignore[method-assign]
        assert await look() == Rotad(60 * S, "no answer within 1s", agents=known)
        del met.exported._begin
        found = await look()
        assert found.silent == 0 and by_name(found)["a"].trend == ("succeeded", "failed")
        clock.now += 5
        assert (await look()).silent == 0

    run(private_bus, live)


def test_a_bus_that_goes_away_is_silence_too() -> None:
    async def live() -> None:
        look = RotadProbe(S, user=True, address="unix:path=/no/such/bus")
        found = await look()
        assert found.silent > 0 and "no session bus" in found.why

    asyncio.run(live())


def test_what_rotad_refuses_is_no_silence(private_bus: str) -> None:
    async def live(met: Meeting) -> None:
        met.house.fault = RotaError("it cannot be done")
        with pytest.raises(RotaError, match="it cannot be done"):
            await RotadProbe(S, user=True, address=private_bus)()

    run(private_bus, live)
