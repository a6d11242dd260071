"""Restarts and starts units, and forgets that they failed: by D-Bus, where polkit lets the keeper's user."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from rota.errors import Exit, RotaError
from rota.systemd import CallError, connect, plain, until_lost

from ..checks.units import ENDED, Unit, how
from ..probes.manager import Hearers, Manager
from ..probes.unit_facts import are_met
from ..words import Action

Remedy = Callable[[Action], Awaitable[Mapping[str, Any]]]
T = TypeVar("T")

_OF_ENDED = ("failed", "inactive", "timer-stopped")
_REFUSED: Mapping[str, str] = {
    "masked": "somebody masked it",
    "not-found": "there is no such unit",
    "bad-setting": "its unit file is bad; look at systemctl status",
    "error": "its unit file cannot be read; look at systemctl status",
}
"""By LoadState: what is neither started nor restarted."""
_RESULTS: Mapping[str, str] = {
    "canceled": "its job was cancelled",
    "timeout": "its job took too long",
    "dependency": "a unit that it needs did not start",
    "skipped": "systemd skipped it",
    "invalid": "systemd took the job for pointless",
    "assert": "an assertion of the unit does not hold",
    "unsupported": "this machine has nothing for units of this type",
    "collected": "it was unloaded before it could start",
    "once": "it is run once only, and was",
}
"""By result of a job (org.freedesktop.systemd1(5), JobRemoved)."""


def remedies(address: str | None = None) -> Mapping[str, Remedy]:
    """Return what can be done about units, by `Remedy.word`; each call has a connection of its own.

    Args:
        address: of the bus; None for the system bus.
    """
    return {
        "restart-unit": partial(_run, address, "Restart"),
        "start-unit": partial(_run, address, "Start"),
        "reset-failed": partial(_reset, address),
    }


@asynccontextmanager
async def _manager(address: str | None) -> AsyncIterator[Manager]:
    bus = await connect(user=False, address=address)
    try:
        yield Manager(bus)
    finally:
        bus.disconnect()


async def _unless_lost(manager: Manager, work: Awaitable[T]) -> T:
    """Return what `work` returns.

    Raises:
        RotaError: the connection was lost meanwhile.
    """
    working = asyncio.ensure_future(work)
    lost = asyncio.ensure_future(until_lost(manager.bus))
    try:
        await asyncio.wait((working, lost), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            lost.result()
        return await working
    finally:
        for task in (working, lost):
            task.cancel()
        await asyncio.gather(working, lost, return_exceptions=True)


async def _run(address: str | None, verb: str, action: Action) -> Mapping[str, Any]:
    async with _manager(address) as manager:
        return await _unless_lost(manager, _job(manager, verb, _unit_of(action), action.problem))


async def _reset(address: str | None, action: Action) -> Mapping[str, Any]:
    unit = _unit_of(action)
    async with _manager(address) as manager:
        return await _unless_lost(manager, _forget(manager, unit))


def _unit_of(action: Action) -> str:
    target = action.target
    if target.kind != "unit" or target.remote:
        raise RotaError(f"{target} is no unit of this machine, so that nothing is done about it")
    return target.name


async def _forget(manager: Manager, unit: str) -> Mapping[str, Any]:
    known = await manager.get(unit, LoadState="Unit", ActiveState="Unit")
    if known.get("ActiveState") != "failed":
        return {"unit": unit, "done": "nothing", "why": f"it is {known.get('ActiveState')} by now"}
    await _allowed(manager.reset_failed(unit), "reset-failed", unit)
    return {"unit": unit, "done": "reset-failed"}


async def _job(manager: Manager, verb: str, unit: str, problem: str) -> Mapping[str, Any]:
    """Start or restart a unit, and wait for what comes of it."""
    known = await manager.get(unit, LoadState="Unit", ActiveState="Unit", SubState="Unit", Job="Unit")
    doing = f"{verb.lower()} {unit}"
    if why := _REFUSED.get(known.get("LoadState", "not-found")):
        raise RotaError(f"cannot {doing}: {why}")
    if known.get("Job", [0])[0] and known["SubState"] != "auto-restart":
        raise RotaError(f"does not {doing}: systemd has a job for it already, which somebody else asked for")
    before = f"{known['ActiveState']} ({known['SubState']})"
    if known["ActiveState"] == "active" and (verb == "Start" or problem in _OF_ENDED):
        return {"unit": unit, "done": "nothing", "why": f"it is {before} by now"}
    if known["ActiveState"] == "failed":
        # Else it stays given up where it was started too often.
        await _allowed(manager.reset_failed(unit), "reset-failed", unit)
    began = time.monotonic_ns()
    result, after = await _result(manager, verb, unit)
    if result != "done":
        raise RotaError(f"cannot {doing}: {await _why(manager, unit, result)}", f"See journalctl -u {unit}.")
    active = after.get("ActiveState", known["ActiveState"])
    if active in ENDED:
        await _unless_it_is_to_end(manager, doing, unit, active, after)
    took = (time.monotonic_ns() - began) // 1000
    now = f"{active} ({after.get('SubState', known['SubState'])})"
    return {"unit": unit, "done": verb.lower(), "before": before, "after": now, "took": took}


async def _unless_it_is_to_end(
    manager: Manager, doing: str, unit: str, active: str, after: Mapping[str, Any]
) -> None:
    """Raise RotaError if a unit is not running, though systemd has done all that it was asked."""
    if not are_met(after.get("ConditionResult", True), after.get("ConditionTimestamp", 0)):
        raise RotaError(
            f"cannot {doing}: a condition of the unit is not met", f"See systemctl status {unit}."
        )
    kind = (await manager.get(unit, Type="Service")).get("Type") if unit.endswith(".service") else ""
    if active == "failed" or kind != "oneshot":
        why = await _why(manager, unit, "failed") if active == "failed" else "it is inactive"
        raise RotaError(f"could {doing}, but it ended at once: {why}", f"See journalctl -u {unit}.")


async def _why(manager: Manager, unit: str, result: str) -> str:
    if result != "failed" or not unit.endswith(".service"):
        return _RESULTS.get(result, f"its job ended as {result}")
    asked = await manager.get(
        unit, Result="Service", ExecMainCode="Service", ExecMainStatus="Service", ActiveState="Unit"
    )
    return how(
        Unit(
            unit,
            asked.get("ActiveState", ""),
            result=asked.get("Result", ""),
            code=asked.get("ExecMainCode", 0),
            status=asked.get("ExecMainStatus", 0),
        )
    ) or "it failed"  # fmt: skip


async def _result(manager: Manager, verb: str, unit: str) -> tuple[str, dict[str, Any]]:
    """Queue a job; return its result and what became of the unit, which systemd may have forgotten then."""
    results: dict[str, str] = {}
    after: dict[str, Any] = {}
    news = asyncio.Event()

    def job_removed(_: str, job: str, result: str) -> None:
        # It may be over before its path is known.
        results[job] = result
        news.set()

    def away() -> None:
        results[""] = ""
        news.set()

    def changed(_: str, properties: dict[str, Any]) -> None:
        after.update(plain(properties))

    await manager.hear(Hearers(job_removed, away, changed), unit)
    job = await _allowed(manager.queue(verb, unit), verb.lower(), unit)
    while job not in results:
        news.clear()
        await news.wait()
        if "" in results and job not in results:
            raise RotaError(f"systemd was executed anew: nobody knows what became of {unit}")
    return results[job], after


async def _allowed(call: Awaitable[T], verb: str, unit: str) -> T:
    try:
        return await call
    except CallError as error:
        if error.exit_code is not Exit.NOT_AUTHORISED:
            raise
        raise RotaError(
            f"polkit does not let the Home Keeper {verb} {unit}",
            f'It may for units that the policy names, with mode = "act" or "ask": write '
            f'[keeper.targets."unit:{unit}"] in rota.toml, then rota apply.',
            Exit.NOT_AUTHORISED,
        ) from None
