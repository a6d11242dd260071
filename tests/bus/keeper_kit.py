"""The keeper as a process of its own on a private bus, with what it watches in the hands of the test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota.frozen import to_plain
from rota.keeper_rules import Override, Policy, Rules
from rota.names import KEEPER_BUS_NAME, KEEPER_INTERFACE, KEEPER_PATH
from rota.systemd import connect, plain
from rota.watches import Endpoint, Limit, Tcp, Watches

S = 1_000_000
DOOR = "endpoint:door"
SOON = Policy(
    strikes=("act", "act", "escalate"),
    attempts=3,
    window=3600 * S,
    cooldown=S // 10,
    growth=1.0,
    settle=S // 2,
    healthy_after=S,
)


def _bound(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    return found


class Door:
    """A port that is open or not: an endpoint to be watched. Closed, it is kept from others all the same."""

    def __init__(self, port: int = 0) -> None:
        self._held = _bound(port)
        self._open: socket.socket | None = None
        self.port = int(self._held.getsockname()[1])

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def open(self) -> None:
        self._open = _bound(self.port)
        self._open.listen(64)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None

    def watched(self, every: int = S // 5) -> Endpoint:
        bad = Limit("critical", 1, 0)
        return Endpoint(every, S, unreachable=(bad,), tcp=Tcp("127.0.0.1", self.port))


def rules(*targets: Override, policy: Policy = SOON, **more: Any) -> Rules:
    return Rules(policy=policy, targets=targets, timezone="UTC", **more)


def watching(**doors: Door) -> Watches:
    return Watches(endpoints={name.replace("_", "-"): door.watched() for name, door in doors.items()})


class Kept:
    """A keeper's files, and its process."""

    def __init__(self, folder: Path, address: str, found: Rules, watches: Watches) -> None:
        self.state = folder / "state"
        self.ledger = self.state / "keeper.db"
        self._credentials = folder / "credentials"
        self._credentials.mkdir()
        config = {"rules": to_plain(found), "watches": to_plain(watches), "units": {"watch": False}}
        (self._credentials / "config").write_text(json.dumps(config))
        self._address = address
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        environment = {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "DBUS_SESSION_BUS_ADDRESS": self._address,
            "STATE_DIRECTORY": str(self.state),
            "CREDENTIALS_DIRECTORY": str(self._credentials),
            "PATH": os.environ["PATH"],
            **more,
        }
        command = [sys.executable, "-m", "rota_agents.home_keeper.keeper", "--user"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log)

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what another program sees in its ledger."""
        with sqlite3.connect(self.ledger) as db:
            return db.execute(query).fetchall()


@contextmanager
def kept(folder: Path, address: str, found: Rules, watches: Watches) -> Iterator[Kept]:
    keeper = Kept(folder, address, found, watches)
    keeper.start()
    try:
        yield keeper
    finally:
        if keeper.process is not None and keeper.process.poll() is None:
            keeper.process.kill()
            keeper.process.wait()
        assert "Traceback" not in keeper.log, keeper.log


class Caller:
    """A program that asks the keeper."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.signals: list[tuple[str, list[Any]]] = []

    @staticmethod
    async def on(address: str) -> Caller:
        caller = Caller(await connect(user=True, address=address))
        caller.bus.add_message_handler(caller._on_message)
        rule = Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="AddMatch",
            signature="s",
            body=[f"type='signal',interface='{KEEPER_INTERFACE}'"],
        )
        await caller.bus.call(rule)
        return caller

    def _on_message(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.interface == KEEPER_INTERFACE:
            self.signals.append((message.member, [plain(one) for one in message.body]))

    async def ask(self, member: str, signature: str = "", *body: Any) -> Message:
        message = Message(
            destination=KEEPER_BUS_NAME,
            path=KEEPER_PATH,
            interface=KEEPER_INTERFACE,
            member=member,
            signature=signature,
            body=list(body),
        )
        reply = await asyncio.wait_for(self.bus.call(message), 30)
        assert reply is not None
        return reply

    async def call(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        reply = await self.ask(member, signature, *body)
        assert reply.message_type is not MessageType.ERROR, reply.body
        return [plain(value) for value in reply.body]

    async def told(self, member: str, signature: str = "", *body: Any) -> Any:
        """Call what answers in JSON."""
        return json.loads((await self.call(member, signature, *body))[0])

    async def error(self, member: str, signature: str = "", *body: Any) -> tuple[str, str]:
        reply = await self.ask(member, signature, *body)
        assert reply.message_type is MessageType.ERROR, reply.body
        return reply.error_name, reply.body[0]

    async def events(self, since: int = 0) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := (await self.call("Events", "tu", found[-1]["seq"] if found else since, 500))[3]:
            found += page
        return found

    async def kinds(self, *wanted: str) -> list[str]:
        return [one["kind"] for one in await self.events() if not wanted or one["kind"] in wanted]

    async def there(self) -> None:
        """Wait until the keeper answers."""
        await self.until(self._answers, "the keeper to answer")

    async def _answers(self) -> bool:
        return (await self.ask("Status")).message_type is not MessageType.ERROR

    async def until(self, true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """Wait until a coroutine function returns something true, and return that."""
        end = time.monotonic() + seconds
        while not (found := await true()):
            assert time.monotonic() < end, f"waited {seconds} s for {what}"
            await asyncio.sleep(0.05)
        return found
