"""A service of plain data on a private bus, and a caller's side to meet it, for tests."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message

from rota.bus import Exported
from rota.bus_object import Caller
from rota.client import Client
from rota.connection import Connection
from rota.events import Event, Run
from rota.interface import Events
from rota.names import BUS_NAME, MANAGER_INTERFACE, MANAGER_PATH
from rota.store import Recorded
from rota.systemd import connect

RUN = Run(
    id="ab" * 16,
    agent="disk-report",
    state="failed",
    reason="exit-code",
    started=1_795_212_587_000_000,
    ended=1_795_212_588_000_000,
    status=3,
    memory_peak=2**40,
    archived=True,
)
RECORDED = Recorded(2**40, Event("failed", RUN.agent, RUN.id, 1_795_212_588_000_000, {"result": "exit-code"}))
NAMES = ["0day", "7", "a", "disk-report", "z" * 63]
PATHS = {
    "0day": "/org/rota1/agent/_30day",
    "7": "/org/rota1/agent/_37",
    "a": "/org/rota1/agent/a",
    "disk-report": "/org/rota1/agent/disk_2dreport",
    "z" * 63: "/org/rota1/agent/" + "z" * 63,
}


class House:
    """A service of plain data that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.callers: list[Caller] = []
        self.fault: Exception | None = None
        self.extra: dict[str, Any] = {}
        self.measured: list[dict[str, Any]] = []

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.fault is not None:
            raise self.fault

    def _agent(self, name: str) -> dict[str, Any]:
        agent = {
            "name": name,
            "paused": False,
            "paused_by": None,
            "next": 2**60,
            "tags": ["x", "y"],
            "trend": [],
            "last": {"id": RUN.id, "started": RUN.started},
        }
        return agent | self.extra

    async def list_agents(self) -> list[dict[str, Any]]:
        self._note("list_agents")
        return [self._agent(name) for name in NAMES]

    async def get_agent(self, name: str) -> dict[str, Any]:
        self._note("get_agent", name)
        return self._agent(name) | {"declaration": "{}"}

    async def start(self, caller: Caller, name: str) -> str:
        self.callers.append(caller)
        self._note("start", name)
        return RUN.id

    async def stop(self, caller: Caller, name: str) -> None:
        self.callers.append(caller)
        self._note("stop", name)

    async def pause(self, caller: Caller, name: str, why: str) -> None:
        self.callers.append(caller)
        self._note("pause", name, why)

    async def resume(self, caller: Caller, name: str) -> None:
        self.callers.append(caller)
        self._note("resume", name)

    async def why(self, name: str, at: int | None) -> dict[str, Any]:
        self._note("why", name, at)
        return {"text": "It has not run yet.", "agent": name, "row": {"id": RUN.id}, "slot": False}

    def list_runs(self, wanted: Mapping[str, Any], limit: int) -> list[Run]:
        self._note("list_runs", dict(wanted), limit)
        return [RUN] * min(limit, 3)

    def stats(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        self._note("stats", dict(wanted))
        return [{"agent": "disk-report", "runs": 3, "failed": 1, "p50": None}]

    def events(self, since: int, limit: int, agent: str | None) -> Events:
        self._note("events", since, limit, agent)
        return Events("1234abcd", 1, 2**40, [RECORDED] * min(limit, 2))

    async def metrics(self) -> dict[str, Any]:
        self._note("metrics")
        return {"lag": 0, "events": 2**40, "agents": self.measured}

    def health(self, since: int) -> dict[str, Any]:
        self._note("health", since)
        return {"lag": 0, "store": "1234abcd", "seq": 2**40, "names": [], "paused": [], "agents": []}

    def keeper(self) -> dict[str, Any]:
        self._note("keeper")
        return {"enabled": False, "lost": False}

    def seq_at(self, at: int) -> int:
        self._note("seq_at", at)
        return 7

    def get_run(self, prefix: str) -> Run:
        self._note("get_run", prefix)
        return RUN

    def agent_names(self) -> list[str]:
        return NAMES

    def has_agent(self, name: str) -> bool:
        return name in NAMES


class Meeting:
    """rotad's side and a caller's, on one bus."""

    def __init__(self, address: str, house: House, served: Connection, caller: Connection) -> None:
        self.address = address
        self.house = house
        self.served = served
        self.caller = caller
        self.exported = Exported(served, house)
        self.client = Client(caller)

    async def ask(
        self,
        member: str,
        signature: str = "",
        *body: Any,
        path: str = MANAGER_PATH,
        interface: str | None = MANAGER_INTERFACE,
        flags: MessageFlag = MessageFlag.NONE,
    ) -> Message:
        """Call a method and return the reply as it is."""
        message = Message(
            destination=BUS_NAME,
            path=path,
            interface=interface,  # type: ignore[arg-type]  # it may be left out
            member=member,
            signature=signature,
            body=list(body),
            flags=flags,
        )
        reply = await asyncio.wait_for(self.caller.call(message), 30)
        assert reply is not None
        return reply

    async def error(self, member: str, signature: str = "", *body: Any, **where: Any) -> tuple[str, str]:
        """Call what is answered with an error, and return its name and text."""
        reply = await self.ask(member, signature, *body, **where)
        assert reply.message_type is MessageType.ERROR, reply.body
        assert reply.signature == "s"
        assert "Traceback" not in reply.body[0]
        return reply.error_name, reply.body[0]

    async def busctl(self, *arguments: str) -> str:
        """Run busctl against this bus and return what it printed."""
        if shutil.which("busctl") is None:
            pytest.skip("busctl is not installed")
        command = ("busctl", f"--address={self.address}", "--no-pager", *arguments)
        pipe = asyncio.subprocess.PIPE
        done = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        out, err = await asyncio.wait_for(done.communicate(), 60)
        return (out + err).decode()


@asynccontextmanager
async def meeting(address: str) -> AsyncIterator[Meeting]:
    served = await connect(user=True, address=address)
    caller = await connect(user=True, address=address)
    try:
        met = Meeting(address, House(), served, caller)
        await served.request_name(BUS_NAME)
        yield met
    finally:
        caller.disconnect()
        served.disconnect()


def run(address: str, work: Callable[[Meeting], Awaitable[None]]) -> None:
    async def main() -> None:
        async with meeting(address) as met:
            await work(met)

    asyncio.run(main())
