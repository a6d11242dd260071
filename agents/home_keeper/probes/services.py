"""Asks Prometheus, databases and rotad."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from dbus_next.aio.message_bus import MessageBus

from rota.client import Client
from rota.errors import Exit, RotaError
from rota.systemd import connect
from rota.watches import Database, Prometheus, Query

from ..checks.network import MOST_ALERTS, Alert, Series, Tried, parse_alerts, parse_query
from ..checks.upkeep import Agent, Rotad
from ..checks.words import SECOND, Malformed, clip, span
from ..words import Finding
from . import Unavailable
from .credentials import line
from .http import MOST, Request, fetch
from .network import elapsed, reason
from .threads import Threads

log = logging.getLogger("rota-home-keeper")

_LARGEST = 8 * MOST
_SECRET = re.compile(r"://[^@/\s]*@")


async def _ask(threads: Threads, server: Prometheus, path: str, timeout: int) -> str:
    headers = {"Authorization": line(server.credential)} if server.credential else {}
    request = Request(f"{server.url}/api/v1/{path}", headers=headers, most=_LARGEST)
    try:
        found = await fetch(threads, request, timeout)
    except TimeoutError:
        raise Unavailable(f"Prometheus at {server.url} gives no answer within {span(timeout)}") from None
    except OSError as error:
        raise Unavailable(f"Prometheus at {server.url} cannot be reached: {reason(error)}") from None
    if found.cut:
        raise Malformed(
            f"Prometheus's answer is longer than {_LARGEST // MOST} MiB; write a query of fewer series"
        )
    # A query that is refused is told in an answer of status 400 or 422.
    if not 200 <= found.status <= 299 and not found.body.lstrip().startswith(b"{"):
        raise Unavailable(f"Prometheus at {server.url} answers with status {found.status}")
    return found.body.decode(errors="replace")


async def query(threads: Threads, server: Prometheus, wanted: Query) -> tuple[Series, ...]:
    """Evaluate a PromQL query.

    Raises:
        Unavailable: Prometheus cannot be asked.
        Malformed: it refuses the query, or answers something else.
    """
    path = f"query?{urlencode({'query': wanted.expression})}"
    return await asyncio.to_thread(parse_query, await _ask(threads, server, path, wanted.timeout))


async def alerts(threads: Threads, server: Prometheus) -> tuple[Alert, ...]:
    """Return the alerts that fire; raises as `query`."""
    found = await asyncio.to_thread(parse_alerts, await _ask(threads, server, "alerts", server.timeout))
    if (count := len({one.name for one in found} - {*server.ignore})) > MOST_ALERTS:
        log.warning("%s says that %d alerts fire; %d are told", server.url, count, MOST_ALERTS)
    return found


async def database(wanted: Database) -> Tried:
    """Ask a PostgreSQL database something, over a connection of its own.

    Raises:
        Unavailable: there is no asyncpg, or no URL.
    """
    try:
        import asyncpg  # noqa: PLC0415  (only where a database is watched)
    except ImportError:
        raise Unavailable("asyncpg is missing; install python3-asyncpg") from None
    url = line(wanted.credential)
    if not url.startswith(("postgresql://", "postgres://")):
        raise Unavailable(
            f"the credential {wanted.credential} is no URL; write postgresql://USER:PASSWORD@HOST/NAME"
        )
    began = time.monotonic()
    try:
        async with asyncio.timeout(wanted.timeout / SECOND):
            connection = await asyncpg.connect(url, timeout=wanted.timeout / SECOND)
            try:
                await connection.fetchval(wanted.query)
            finally:
                connection.terminate()
    except TimeoutError:
        return Tried(elapsed(began), f"no answer within {span(wanted.timeout)}")
    except (asyncpg.InterfaceError, ValueError):
        # What is wrong with a URL is told with the URL.
        raise Unavailable(f"the credential {wanted.credential} is no URL that asyncpg understands") from None
    except (OSError, asyncpg.PostgresError) as error:
        return Tried(elapsed(began), clip(_SECRET.sub("://…@", reason(error))))
    return Tried(elapsed(began))


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
        self._known: tuple[Agent, ...] = ()

    def recall(self, left: Iterable[Finding]) -> None:
        """Take up what was open when the keeper ended: which agents, and for how long rotad was silent."""
        found = [one for one in left if one.problem != "blind"]
        names = dict.fromkeys(one.target.name for one in found if one.target.kind == "agent")
        self._known = tuple(Agent(name, (), 0, paused=False) for name in names)
        for silent in (one.details["silent"] for one in found if "silent" in one.details):
            self._answered = self._clock() - int(silent) / SECOND

    async def __call__(self) -> Rotad:
        """Ask. A silent rotad is no failure of this probe, and is not started."""
        now = self._clock()
        self._answered = now if self._answered is None else self._answered
        try:
            async with asyncio.timeout(self._timeout / SECOND):
                lag, agents = await self._ask()
        except TimeoutError:
            why = f"no answer within {span(self._timeout)}"
        except RotaError as error:
            if error.exit_code is not Exit.UNREACHABLE:
                raise
            why = error.message
        else:
            self._answered, self._known = self._clock(), agents
            return Rotad(0, lag=lag, agents=agents)
        self._hang_up()
        silent = max(round((self._clock() - self._answered) * SECOND), 1)
        return Rotad(silent, why, agents=self._known)

    def _hang_up(self) -> None:
        if self._bus is not None:
            self._bus.disconnect()
            self._bus = None

    async def _ask(self) -> tuple[int, tuple[Agent, ...]]:
        if self._bus is None or not self._bus.connected:
            self._bus = await connect(user=self._user, address=self._address)
        rotad = Client(self._bus)
        agents = await rotad.call("ListAgents", activate=False)
        measured = json.loads(await rotad.call("Metrics", activate=False))
        return int(measured["lag"]), tuple(map(_agent, agents))


def _agent(table: dict[str, Any]) -> Agent:
    last = table.get("last") or {}
    return Agent(
        name=str(table["name"]),
        trend=tuple(map(str, table.get("trend", ()))),
        missed=int(table.get("missed", 0)),
        paused=bool(table.get("paused")),
        last=_ending(last),
    )


def _ending(last: dict[str, Any]) -> str:
    if "status" in last and last.get("state") == "failed":
        return f"last with exit status {last['status']}"
    if last.get("signal"):
        return f"last by {last['signal']}"
    return f"last: {last['reason']}" if last.get("reason") else ""
