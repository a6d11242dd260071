"""Runs a named agent through rotad, and waits for the end of its run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from dbus_next.aio.message_bus import MessageBus

from rota.client import Client
from rota.errors import Exit, RotaError
from rota.events import Run
from rota.names import service_of
from rota.quantity import INFINITY, USEC, format_duration
from rota.systemd import Systemd, connect

from ..words import Action

_AGAIN = 10.0
"""Seconds after which a run is looked at again, should a signal have got lost."""
_SAID = 10.0
"""Seconds that what a run said is waited for after its end."""
_ENDING = 120.0
"""Seconds from an agent's timeout until systemd has ended its run, and rotad filed it."""
_ENDLESS = 6 * 3600.0
"""Seconds after which a run that may go on for ever is no longer waited for."""


class RunFailedError(RotaError):
    """The run was no success, or is not over; `report` says what it was."""

    def __init__(self, message: str, report: Mapping[str, Any], hint: str = "") -> None:
        super().__init__(message, hint)
        self.report = report


async def run_agent(
    action: Action, *, user: bool, address: str | None = None, endless: float = _ENDLESS
) -> dict[str, Any]:
    """Start the agent that a remedy names; return its run's id, state and result when it is over.

    It is waited for as long as its own timeout lets it go on. rotad may go away meanwhile: the run goes on
    without it, and is asked for again.

    Args:
        action: what is to be done.
        user: by the user's own rotad.
        address: of the bus, instead of its own.
        endless: seconds after which a run without a timeout is no longer waited for.

    Raises:
        RotaError: it was not started (paused, running already, not authorised).
        RunFailedError: its run failed, or is not over.
    """
    name = action.remedy.argument
    bus = await connect(user=user, address=address)
    try:
        rotad = Client(bus)
        await rotad.follow_runs()
        run = await _started(rotad, name, endless)
        patience = await _patience(bus, name, endless)
        found = await _over(rotad, run, patience)
    finally:
        bus.disconnect()
    short = run[:12]
    if found is None:
        why = f"what became of run {short} of {name} is not known: rotad does not answer"
        raise RunFailedError(why, {"run": run})
    report: dict[str, Any] = {"run": run, "state": found.state}
    report |= {"result": found.result} if found.result else {}
    if not found.over:
        why = (
            f"run {short} of {name} still goes on, {format_duration(round(patience * USEC))} after its start"
        )
        raise RunFailedError(why, report, f"rota logs {short} tells what it does, rota stop {name} ends it")
    if found.state != "succeeded":
        why = f", exit status {found.status}" if found.status else ""
        state = found.state.replace("-", " ")
        raise RunFailedError(f"run {short} of {name} {state}{why}; rota logs {short}", report)
    return report


async def _started(rotad: Client, name: str, patience: float) -> str:
    """Start an agent and return its run's id; that takes as long as other units, for which it has to wait."""
    try:
        async with asyncio.timeout(patience):
            return str(await rotad.call("StartAgent", "s", name))
    except TimeoutError:
        span = format_duration(round(patience * USEC))
        raise RotaError(
            f"{name} was not started within {span}", f"See systemctl status {service_of(name)}."
        ) from None


async def _patience(bus: MessageBus, name: str, endless: float) -> float:
    """Return for how many seconds a run is waited for: until systemd has ended it for taking too long."""
    try:
        limit = int(await Systemd(bus).unit_property(service_of(name), "RuntimeMaxUSec", "Service"))
    except RotaError:
        return endless  # systemd is away, or the unit: then nothing is known of a limit
    return endless if limit >= INFINITY else limit / USEC + _ENDING


async def _over(rotad: Client, run: str, patience: float) -> Run | None:
    """Return a run when it is over, with what it said if that is filed soon.

    One that is not over after `patience` seconds is returned as it is then; None if rotad does not say.
    """
    until, ended = time.monotonic() + patience, None
    while True:
        found, now = await _asked(rotad, run), time.monotonic()
        if found is not None and found.over:
            ended = ended or now
            if found.output_filed or now >= ended + _SAID:
                return found
        elif now >= until:
            return found
        if found is None:
            await asyncio.sleep(1)
        else:
            await rotad.changed(run, min(_AGAIN, max(until - now, 0)) if ended is None else 1.0)


async def _asked(rotad: Client, run: str) -> Run | None:
    """Return a run as it is now, None while rotad is away, or hangs."""
    try:
        async with asyncio.timeout(_AGAIN):
            return Run.of(await rotad.call("GetRun", "s", run))
    except TimeoutError:
        return None
    except RotaError as error:
        if error.exit_code is not Exit.UNREACHABLE or not rotad.bus.connected:
            raise
        return None


def remedies(*, user: bool, address: str | None = None) -> Mapping[str, Callable[[Action], Awaitable[Any]]]:
    """Return the remedies of this module, by their words."""
    return {"run-agent": partial(run_agent, user=user, address=address)}
