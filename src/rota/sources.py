"""Whose events rotad-notify follows: rotad's, and the keeper's, offered in the same way on D-Bus."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message

from rota.errors import Exit, RotaError
from rota.names import (
    BUS_NAME,
    KEEPER_BUS_NAME,
    KEEPER_INTERFACE,
    KEEPER_PATH,
    MANAGER_INTERFACE,
    MANAGER_PATH,
)
from rota.systemd import ABSENT, CallError, ask_bus, call, plain

_PAGE = 500
PATIENCE = 30.0
"""Seconds that an answer may take. The bus waits for ever, and a call that got lost would be the last."""
NOT_RUNNING = "it is not running"


@dataclass(frozen=True, slots=True)
class Page:
    """Events after a number.

    Attributes:
        store: changes when numbers begin anew.
        first: number from which on none is missing.
        last: number of the last event there is.
        events: those that fit.
        more: whether there may be more.
    """

    store: str
    first: int
    last: int
    events: list[dict[str, Any]]
    more: bool


class Source:
    """One who has events with numbers without gaps: Events(t since, u limit), signal EventsRecorded."""

    def __init__(
        self,
        bus: MessageBus,
        name: str,
        where: tuple[str, str, str],
        wake: asyncio.Event,
        *,
        patience: float = PATIENCE,
    ) -> None:
        """Begin with nothing.

        Args:
            bus: an open connection.
            name: what it is called.
            where: its bus name, object path and interface.
            wake: set when something was recorded, or it came to the bus.
            patience: seconds that an answer may take.
        """
        self.name = name
        self._bus = bus
        self._bus_name, self._path, self._interface = where
        self._wake = wake
        self._patience = patience

    async def follow(self) -> None:
        """Begin to be woken."""
        self._bus.add_message_handler(self._on_message)
        # With a sender, the bus sees to it that it is theirs: anybody may signal anything.
        rule = (
            f"type='signal',sender='{self._bus_name}',interface='{self._interface}',member='EventsRecorded'"
        )
        await ask_bus(self._bus, "AddMatch", f"{rule},path='{self._path}'")
        owner = (
            f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{self._bus_name}'"
        )
        await ask_bus(self._bus, "AddMatch", owner)

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        recorded = message.interface == self._interface and message.member == "EventsRecorded"
        came = message.member == "NameOwnerChanged" and message.body[0] == self._bus_name
        if recorded or came:
            self._wake.set()

    async def ask(self, member: str, signature: str, *body: Any) -> list[Any]:
        """Call a method, without starting who has it.

        Raises:
            RotaError: it refused, or is out of reach.
        """
        message = Message(
            destination=self._bus_name,
            path=self._path,
            interface=self._interface,
            member=member,
            signature=signature,
            body=list(body),
            flags=MessageFlag.NO_AUTOSTART,
        )
        try:
            async with asyncio.timeout(self._patience):
                return [plain(value) for value in await call(self._bus, message)]
        except TimeoutError:
            raise RotaError(f"no answer within {self._patience:g} s", exit_code=Exit.UNREACHABLE) from None
        except CallError as error:
            if error.name in ABSENT:
                raise RotaError(NOT_RUNNING, exit_code=Exit.UNREACHABLE) from None
            away = error.name.startswith("org.freedesktop.DBus.Error.")
            raise RotaError(error.message, exit_code=Exit.UNREACHABLE if away else Exit.FAILED) from None

    async def events(self, since: int) -> Page:
        """Return events after a number; raises as `ask`."""
        store, first, last, events = await self.ask("Events", "tu", since, _PAGE)
        return Page(store, first, last, events, len(events) >= _PAGE)

    async def seq_at(self, at: int) -> int:
        """Return the number after which events from a moment on are found; raises as `ask`."""
        return int((await self.ask("SeqAt", "x", at))[0])

    async def unheard(self) -> int:
        """Return the number after which the keeper's escalations are that nobody took over; as `ask`."""
        return int((await self.ask("Unheard", ""))[0])

    async def run(self, run: str) -> dict[str, Any] | None:
        """Return a run of rotad's, None if it is forgotten; raises as `ask`."""
        try:
            return dict((await self.ask("GetRun", "s", run))[0])
        except RotaError as error:
            if error.exit_code is Exit.UNREACHABLE:
                raise
            return None


ROTAD = (BUS_NAME, MANAGER_PATH, MANAGER_INTERFACE)
KEEPER = (KEEPER_BUS_NAME, KEEPER_PATH, KEEPER_INTERFACE)
