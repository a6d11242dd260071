"""The remedy that runs an agent: a run that does not end, and a rotad that does not say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rota_agents.home_keeper.remedies.agents import RunFailedError, run_agent
from rota_agents.home_keeper.words import Action, Remedy, Target

from rota.bus_object import Caller
from rota.errors import RotaError
from rota.events import Run
from rota.names import BUS_NAME
from tests.bus.house import RUN, Meeting, run

ACTION = Action(1, Target("unit", "web.service"), "failed", Remedy("run-agent", "fixer"), 0, "", 1)
SHORT = RUN.id[:12]


async def acted(met: Meeting, endless: float = 0.5) -> dict[str, Any]:
    return dict(await run_agent(ACTION, user=True, address=met.address, endless=endless))


def test_a_run_that_goes_on_is_told_so(private_bus: str) -> None:
    """It has no timeout: for ever nobody waits, and it has not ended either."""

    async def live(met: Meeting) -> None:
        met.house.get_run = lambda prefix: Run(prefix, "fixer", "running")  # type: ignore[method-assign]
        with pytest.raises(RunFailedError) as caught:
            await acted(met)
        error = caught.value
        assert error.message == f"run {SHORT} of fixer still goes on, 500ms after its start"
        assert "rota stop fixer" in error.hint
        assert error.report == {"run": RUN.id, "state": "running"}

    run(private_bus, live)


def test_what_became_of_a_run_that_rotad_does_not_tell(private_bus: str) -> None:
    async def live(met: Meeting) -> None:
        async def start(caller: Caller, name: str) -> str:
            asyncio.get_running_loop().call_later(
                0.1, asyncio.ensure_future, met.served.release_name(BUS_NAME)
            )
            return RUN.id

        met.house.start = start  # type: ignore[method-assign]
        met.house.get_run = lambda prefix: Run(prefix, "fixer", "running")  # type: ignore[method-assign]
        with pytest.raises(RunFailedError, match="is not known: rotad does not answer") as caught:
            await acted(met)
        assert caught.value.report == {"run": RUN.id}

    run(private_bus, live)


def test_a_start_that_hangs(private_bus: str) -> None:
    async def live(met: Meeting) -> None:
        async def start(caller: Caller, name: str) -> str:
            await asyncio.sleep(30)
            return RUN.id

        met.house.start = start  # type: ignore[method-assign]
        with pytest.raises(RotaError, match="fixer was not started within 200ms"):
            await acted(met, 0.2)

    run(private_bus, live)
