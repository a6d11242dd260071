"""Runs a named agent through rotad, and waits for the end of its run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from rota.client import Client
from rota.errors import Exit, RotaError
from rota.events import Run
from rota.systemd import connect

from ..words import Action

_AGAIN = 10.0
"""Seconds after which a run is looked at again, should a signal have got lost."""
_SAID = 10.0
"""Seconds that what a run said is waited for after its end."""


class RunFailedError(RotaError):
    """The run was no success; `report` says what it was."""

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report = report


async def run_agent(action: Action, *, user: bool, address: str | None = None) -> dict[str, Any]:
    """Start the agent that a remedy names; return its run's id, state and result when it is over.

    rotad may go away meanwhile: the run goes on without it, and is asked for again.

    Raises:
        RotaError: it was not started (paused, running already, not authorised).
        RunFailedError: its run failed.
    """
    name = action.remedy.argument
    bus = await connect(user=user, address=address)
    try:
        rotad = Client(bus)
        await rotad.follow_runs()
        run = str(await rotad.call("StartAgent", "s", name))
        found = await _over(rotad, run)
    finally:
        bus.disconnect()
    report: dict[str, Any] = {"run": run, "state": found.state}
    report |= {"result": found.result} if found.result else {}
    if found.state != "succeeded":
        why = f", exit status {found.status}" if found.status else ""
        state = found.state.replace("-", " ")
        raise RunFailedError(f"run {run[:12]} of {name} {state}{why}; rota logs {run[:12]}", report)
    return report


async def _over(rotad: Client, run: str) -> Run:
    """Return a run when it is over, with what it said if that is filed soon."""
    ended: float | None = None
    while True:
        try:
            found = Run.of(await rotad.call("GetRun", "s", run))
        except RotaError as error:
            if error.exit_code is not Exit.UNREACHABLE or not rotad.bus.connected:
                raise
            await asyncio.sleep(1)
            continue
        now = time.monotonic()
        ended = ended or (now if found.over else None)
        if ended is not None and (found.output_filed or now >= ended + _SAID):
            return found
        await rotad.changed(run, _AGAIN if ended is None else 1.0)


def remedies(*, user: bool, address: str | None = None) -> Mapping[str, Callable[[Action], Awaitable[Any]]]:
    """Return the remedies of this module, by their words."""
    return {"run-agent": partial(run_agent, user=user, address=address)}
