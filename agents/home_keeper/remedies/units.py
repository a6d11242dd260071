"""Restarts and starts units, and forgets that they failed: by D-Bus, where polkit lets the keeper's user."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from rota.errors import Exit, RotaError
from rota.systemd import CallError

from ..checks.units import ENDED, Unit, how
from ..probes.manager import Manager
from ..probes.unit_facts import are_met
from ..words import Action
from .jobs import carried_out, manager_at, unless_lost

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


async def _run(address: str | None, verb: str, action: Action) -> Mapping[str, Any]:
    async with manager_at(address) as manager:
        return await unless_lost(manager, _job(manager, verb, _unit_of(action), action.problem))


async def _reset(address: str | None, action: Action) -> Mapping[str, Any]:
    unit = _unit_of(action)
    async with manager_at(address) as manager:
        return await unless_lost(manager, _forget(manager, unit))


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
    over = await _allowed(carried_out(manager, verb, unit, "fail"), verb.lower(), unit)
    if over.result != "done":
        why = await _why(manager, unit, over.result)
        raise RotaError(f"cannot {doing}: {why}", f"See journalctl -u {unit}.")
    after = over.unit
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
