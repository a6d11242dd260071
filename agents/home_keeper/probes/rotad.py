"""Asks rotad how it does, and how agents do: all of them once, and then for what has changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from dbus_next.aio.message_bus import MessageBus

from rota.client import Client
from rota.errors import Exit, RotaError
from rota.systemd import connect

from ..checks.upkeep import Agent, Rotad
from ..checks.words import SECOND, span
from ..words import Finding

_AFRESH = 3600.0
"""Seconds after which all agents are asked for: that old runs are forgotten, nobody tells."""


class RotadProbe:
    """Asks rotad over D-Bus for what it knows, and keeps for how long it has not answered."""

    def __init__(
        self,
        timeout: int,
        *,
        user: bool = False,
        address: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._user = user
        self._address = address
        self._clock = clock
        self._bus: MessageBus | None = None
        self._answered: float | None = None
        self._store, self._seq, self._afresh = "", 0, 0.0
        self._known: dict[str, Agent] = {}

    def recall(self, left: Iterable[Finding]) -> None:
        """Take up what was open when the keeper ended: which agents, and for how long rotad was silent."""
        found = [one for one in left if one.problem != "blind"]
        names = [one.target.name for one in found if one.target.kind == "agent"]
        self._known = {name: Agent(name, (), 0, paused=False) for name in names}
        for silent in (one.details["silent"] for one in found if "silent" in one.details):
            self._answered = self._clock() - int(silent) / SECOND

    async def __call__(self) -> Rotad:
        """Ask. A silent rotad is no failure of this probe, and is not started."""
        now = self._clock()
        self._answered = now if self._answered is None else self._answered
        try:
            async with asyncio.timeout(self._timeout / SECOND):
                lag = await self._ask()
        except TimeoutError:
            why = f"no answer within {span(self._timeout)}"
        except RotaError as error:
            if error.exit_code is not Exit.UNREACHABLE:
                raise
            why = error.message
        else:
            self._answered = self._clock()
            return Rotad(0, lag=lag, agents=tuple(self._known.values()))
        self._hang_up()
        silent = max(round((self._clock() - self._answered) * SECOND), 1)
        return Rotad(silent, why, agents=tuple(self._known.values()))

    def _hang_up(self) -> None:
        if self._bus is not None:
            self._bus.disconnect()
            self._bus = None

    async def _ask(self) -> int:
        """Bring what is known of agents up to now; return rotad's lag."""
        if self._bus is None or not self._bus.connected:
            self._bus = await connect(user=self._user, address=self._address)
        rotad = Client(self._bus)
        if self._clock() >= self._afresh:
            self._seq = 0
        found = await _health(rotad, self._seq)
        if self._seq and (found["store"] != self._store or not self._known.keys() >= {*found["names"]}):
            self._seq = 0
            found = await _health(rotad, 0)
        if not self._seq:
            self._known, self._afresh = {}, self._clock() + _AFRESH
        self._known |= {str(table["agent"]): _agent(table) for table in found["agents"]}
        paused = {*found["paused"]}
        self._known = {
            name: replace(self._known[name], paused=name in paused)
            for name in found["names"]
            if name in self._known
        }
        self._store, self._seq = found["store"], int(found["seq"])
        return int(found["lag"])


async def _health(rotad: Client, since: int) -> dict[str, Any]:
    return dict(json.loads(await rotad.call("Health", "t", since, activate=False)))


def _agent(table: dict[str, Any]) -> Agent:
    trend = tuple(map(str, table["trend"]))
    return Agent(str(table["agent"]), trend, int(table["missed"]), paused=False, last=_ending(table["last"]))


def _ending(last: dict[str, Any] | None) -> str:
    last = last or {}
    if last.get("status") is not None and last.get("state") == "failed":
        return f"last with exit status {last['status']}"
    if last.get("signal"):
        return f"last by {last['signal']}"
    return f"last: {last['reason']}" if last.get("reason") else ""
