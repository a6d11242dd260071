"""The keeper's check of rotad, over a private bus: what it reads, and what silence is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rota_agents.home_keeper.checks.upkeep import Agent, Rotad
from rota_agents.home_keeper.probes.services import RotadProbe

from rota.errors import RotaError
from rota.names import BUS_NAME
from tests.bus.house import NAMES, Meeting, run

S = 1_000_000


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def measured(met: Meeting, lag: int) -> None:
    """Have the house answer Metrics, as rotad does."""

    async def metrics() -> dict[str, Any]:
        return {"lag": lag, "events": 7, "agents": []}

    met.house.metrics = metrics  # type: ignore[method-assign]


def test_it_reads_what_rotad_says(private_bus: str) -> None:
    async def live(met: Meeting) -> None:
        measured(met, 90 * S)
        last = {"state": "failed", "status": 3, "id": "ab" * 16}
        met.house.extra = {"trend": ["succeeded", "failed"], "missed": 2, "paused": True, "last": last}
        look = RotadProbe(S, user=True, address=private_bus)
        found = await look()
        assert (found.silent, found.lag) == (0, 90 * S)
        assert found.agents[0] == Agent(NAMES[0], ("succeeded", "failed"), 2, True, "last with exit status 3")
        assert [one.name for one in found.agents] == NAMES

    run(private_bus, live)


def test_silence_is_counted_and_forgets_nothing(private_bus: str) -> None:
    async def live(met: Meeting) -> None:
        measured(met, 0)
        clock = Clock()
        look = RotadProbe(S, user=True, address=private_bus, clock=clock)
        known = (await look()).agents
        assert known
        await met.served.release_name(BUS_NAME)
        clock.now += 40
        assert await look() == Rotad(40 * S, "rotad is not running", agents=known)
        await met.served.request_name(BUS_NAME)

        async def hang() -> Any:
            await asyncio.sleep(30)

        met.house.list_agents, answers = hang, met.house.list_agents  # type: ignore[method-assign]
        clock.now += 20
        assert await look() == Rotad(60 * S, "no answer within 1s", agents=known)
        met.house.list_agents = answers  # type: ignore[method-assign]
        assert (await look()).silent == 0
        clock.now += 5
        assert (await look()).silent == 0

    run(private_bus, live)


def test_a_bus_that_goes_away_is_silence_too(private_bus: str) -> None:
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
