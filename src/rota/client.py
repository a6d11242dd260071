"""The command line's way to rotad: a thin proxy, errors turned into exit codes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from rota.errors import Exit, RotaError
from rota.names import BUS_NAME, ERRORS, MANAGER_INTERFACE, MANAGER_PATH
from rota.systemd import CallError, ask_bus, call, connect, plain

PAGE = 500
"""Runs, or events, that fit into a reply whatever they have to say."""

_EXITS = {name: code for code, name in ERRORS.items()}


class Client:
    """rotad, on a bus connection."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self._states: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._events: asyncio.Queue[int] = asyncio.Queue()

    async def call(self, member: str, signature: str = "", *body: Any, activate: bool = True) -> Any:
        """Call a method of the manager and return its one value, None if it has none; see `call_all`."""
        found = await self.call_all(member, signature, *body, activate=activate)
        return found[0] if found else None

    async def call_all(
        self, member: str, signature: str = "", *body: Any, activate: bool = True
    ) -> list[Any]:
        """Call a method of the manager and return its values.

        Args:
            member: method of org.rota1.Manager.
            signature: of the arguments.
            body: the arguments.
            activate: let the bus start rotad if it is not running.

        Raises:
            RotaError: rotad refused, or is out of reach.
        """
        flags = MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION
        if not activate:
            flags |= MessageFlag.NO_AUTOSTART
        message = Message(
            destination=BUS_NAME,
            path=MANAGER_PATH,
            interface=MANAGER_INTERFACE,
            member=member,
            signature=signature,
            body=list(body),
            flags=flags,
        )
        try:
            found = await call(self.bus, message)
        except CallError as error:
            code = _EXITS.get(error.name, error.exit_code)
            gone = code is Exit.UNREACHABLE and error.name not in _EXITS
            if gone or error.name.startswith("org.freedesktop.DBus.Error.Spawn"):
                raise RotaError(
                    "rotad is not running", "Start it: systemctl start rotad.", Exit.UNREACHABLE
                ) from None
            message_, _, hint = error.message.partition("\n")
            raise RotaError(message_, hint, exit_code=code) from None
        return [plain(value) for value in found]

    async def list_runs(self, wanted: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        """Call ListRuns as often as it takes for so many runs that are wanted."""
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            asked = min(limit - len(found), PAGE)
            page = await self.ask_runs("ListRuns", wanted, asked)
            found += page
            if len(page) < asked:
                break
            wanted = {**wanted, "before": page[-1]["id"]}
        return found

    async def ask_runs(self, member: str, wanted: Mapping[str, Any], *more: int) -> list[dict[str, Any]]:
        """Call ListRuns or Stats for the runs that are wanted: see bus.FILTERS."""
        kinds = {list: "as", int: "x", str: "s"}
        query = {name: Variant(kinds[type(value)], value) for name, value in wanted.items()}
        return list(await self.call(member, "a{sv}" + "u" * len(more), query, *more))

    async def follow_runs(self) -> None:
        """Begin to collect RunChanged signals for `changed`."""
        await self._follow("RunChanged")

    async def follow_events(self) -> None:
        """Begin to collect EventsRecorded signals for `recorded`."""
        await self._follow("EventsRecorded")

    async def _follow(self, member: str) -> None:
        # With a sender, the bus sees to it that it is rotad's: anybody may signal anything.
        rule = f"type='signal',sender='{BUS_NAME}',interface='{MANAGER_INTERFACE}',member='{member}'"
        self.bus.add_message_handler(self._on_message)
        await ask_bus(self.bus, "AddMatch", f"{rule},path='{MANAGER_PATH}'")

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "RunChanged":
            self._states.put_nowait((message.body[1], message.body[2]))
        elif message.member == "EventsRecorded":
            self._events.put_nowait(plain(message.body[0])[-1]["seq"])

    async def recorded(self) -> int:
        """Wait for events to be recorded; return the number of the last."""
        return await self._events.get()

    async def changed(self, run: str, patience: float) -> bool:
        """Wait for a change of a run, but not longer than so many seconds; tell whether there was one."""
        try:
            async with asyncio.timeout(patience):
                while (await self._states.get())[0] != run:
                    pass
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def client(*, user: bool) -> AsyncIterator[Client]:
    """Connect to rotad's bus for the length of a block."""
    # dbus-next leaves a future behind when the bus hangs up, and asyncio would print its traceback.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    bus = await connect(user=user)
    try:
        yield Client(bus)
    finally:
        bus.disconnect()
