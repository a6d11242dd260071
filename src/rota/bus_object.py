"""One object on D-Bus, served from a table of its methods; and what all of rota's objects have in common.

That is above all whose turn it is: any user may ask, and as often as they like.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dbus_next.constants import MessageFlag
from dbus_next.message import Message

from rota.connection import Connection
from rota.errors import Exit, RotaError
from rota.journal import machine_id
from rota.names import ERRORS
from rota.systemd import ask_bus
from rota.turns import UNANSWERED, WAITING, Call, Turns
from rota.wire import NO_REPLY_EXPECTED, Head, refusal

PEER = "org.freedesktop.DBus.Peer"
PROPERTIES = "org.freedesktop.DBus.Properties"
_UNKNOWN = "org.freedesktop.DBus.Error.UnknownMethod"
_SLOW = 1.0
"""Seconds: a call that is under way for longer waits for something, one that waits may have been given up."""

_refuse = refusal(
    "org.freedesktop.DBus.Error.LimitsExceeded",
    f"{UNANSWERED} calls of this connection, or {WAITING >> 20} MiB of them, wait for an answer\n"
    "Wait for answers before asking more.",
)

Arguments = tuple[tuple[str, str], ...]
"""Names and types."""

STANDARD_XML = (
    '<interface name="org.freedesktop.DBus.Introspectable"><method name="Introspect">'
    '<arg name="xml" type="s" direction="out"/></method></interface>'
    '<interface name="org.freedesktop.DBus.Peer"><method name="Ping"/><method name="GetMachineId">'
    '<arg name="id" type="s" direction="out"/></method></interface>'
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        sender: unique bus name.
        interactive: whether a person may be asked for a password (see sd-bus's
            ALLOW_INTERACTIVE_AUTHORIZATION).
    """

    sender: str
    interactive: bool


Served = TypeVar("Served", bound=Callable[..., Awaitable[list[Any]]])


@dataclass(frozen=True, slots=True)
class Method(Generic[Served]):
    """A method: types of arguments and reply with their names, what it does, and by what."""

    arguments: Arguments
    returns: Arguments
    about: str
    serve: Served

    @property
    def signature(self) -> str:
        """Signature of the arguments."""
        return "".join(kind for _, kind in self.arguments)

    @property
    def result(self) -> str:
        """Signature of the reply."""
        return "".join(kind for _, kind in self.returns)


Serve = Callable[[Any, Caller, list[Any]], Awaitable[list[Any]]]
"""What an object's methods are served by: what they ask, who asks, and the arguments."""


def caller_of(message: Message) -> Caller:
    """Return who sent a message."""
    return Caller(message.sender, bool(message.flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION))


def interface_xml(
    name: str, methods: Mapping[str, Any], signals: Mapping[str, Arguments], properties: Mapping[str, str]
) -> str:
    """Return an interface as Introspect tells it."""

    def argument(item: tuple[str, str], way: str) -> str:
        return f'<arg name="{item[0]}" type="{item[1]}"{way}/>'

    parts = [f'<interface name="{name}">']
    for member, method in methods.items():
        parts.append(f'<method name="{member}">')
        parts += [argument(item, ' direction="in"') for item in method.arguments]
        parts += [argument(item, ' direction="out"') for item in method.returns]
        parts.append("</method>")
    for member, arguments in signals.items():
        parts += [f'<signal name="{member}">', *(argument(item, "") for item in arguments), "</signal>"]
    for prop, kind in properties.items():
        parts.append(f'<property name="{prop}" type="{kind}" access="read"/>')
    return "".join((*parts, "</interface>"))


def peer(message: Message) -> Message:
    """Answer for org.freedesktop.DBus.Peer: of dbus-next's own answers, the one on a failure fails."""
    if message.member == "Ping":
        return Message.new_method_return(message)
    if message.member != "GetMachineId":
        return Message.new_error(message, _UNKNOWN, f"{PEER} has no method {message.member}")
    try:
        return Message.new_method_return(message, "s", [machine_id()])
    except OSError as error:
        raise RotaError(f"this machine has no id: {error}", exit_code=Exit.FAILED) from None


class Offered(ABC):
    """What a program offers on a connection: callers in turn, see `turns`, who asks for too much is refused.

    No reply ever carries a traceback.
    """

    def __init__(self, bus: Connection, program: str) -> None:
        """Answer from now on.

        Args:
            bus: an open connection; nobody else answers on it.
            program: who answers, as its journal is called.
        """
        self._bus = bus
        self._program = program
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = Turns()
        self._next_turn: asyncio.Handle | None = None
        self._looking = False
        bus.hand_out(self._on_call)

    @abstractmethod
    async def _serve(self, message: Message) -> Message | None:
        """Return the reply to a call, None if it is for no object of ours.

        Raises:
            RotaError: it is answered with an error, of two lines: what is wrong, what to do.
        """

    def _on_call(self, call: Head, data: bytes) -> None:
        """Let a call wait for its turn, or refuse it."""
        if self._turns.put(Call(call.sender, data, self._loop.time())):
            self._schedule()
        elif not call.flags & NO_REPLY_EXPECTED:
            self._bus.refuse(_refuse(call, self._bus.next_serial()))

    def _schedule(self) -> None:
        """Have somebody's turn come as soon as the loop has done what else there is to do."""
        if isinstance(self._next_turn, asyncio.TimerHandle):
            self._next_turn.cancel()
            self._next_turn = None
        if self._next_turn is None:
            self._next_turn = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Begin one call."""
        self._next_turn = None
        if self._looking:
            return
        call = self._turns.take(self._loop.time())
        if call is not None:
            self._begin(call)
            self._schedule()
        elif (at := self._turns.rested()) is not None:
            self._next_turn = self._loop.call_at(at, self._turn)

    def _begin(self, call: Call) -> None:
        slow = self._loop.call_later(_SLOW, self._waits, call)
        task = self._loop.create_task(self._answer(call))
        self._tasks.add(task)

        def over(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            slow.cancel()
            self._turns.done(call, self._loop.time())
            self._schedule()

        task.add_done_callback(over)

    def _waits(self, call: Call) -> None:
        self._turns.waits(call)
        self._schedule()

    async def _there(self, caller: str) -> bool:
        """Tell whether a caller is still there.

        Nobody's turn comes meanwhile: else the bus would tell it of many, who then went on all at once, and
        the loop would get to do nothing else for long.
        """
        self._looking = True
        try:
            return bool((await ask_bus(self._bus, "NameHasOwner", caller))[0])
        finally:
            self._looking = False
            self._schedule()

    async def _answer(self, call: Call) -> None:
        if call.began - call.came > _SLOW and not await self._there(call.caller):
            self._turns.drop(call.caller)
            return
        message = self._bus.whole(call.data)
        try:
            reply = await self._serve(message)
        except RotaError as error:
            text = f"{error.message}\n{error.hint}".strip()
            reply = Message.new_error(message, ERRORS[error.exit_code], text)
        except Exception:  # the caller gets an answer, the journal the trace
            logging.getLogger(self._program).exception("%s.%s failed", message.interface, message.member)
            text = f"{self._program} failed; see journalctl -u {self._program}"
            reply = Message.new_error(message, ERRORS[Exit.FAILED], text)
        if reply is None:
            self._bus.pass_on(message)
        elif not message.flags & MessageFlag.NO_REPLY_EXPECTED:
            await self._bus.send(reply)


class BusObject(Offered):
    """An object with one interface beside the standard ones."""

    def __init__(
        self,
        bus: Connection,
        where: tuple[str, str],
        methods: Mapping[str, Method[Serve]],
        signals: Mapping[str, Arguments],
        service: Any,
        *,
        program: str,
    ) -> None:
        """Answer from now on.

        Args:
            bus: an open connection; nobody else answers on it.
            where: object path and interface.
            methods: by name.
            signals: by name.
            service: what the methods are given.
            program: who answers, as its journal is called.
        """
        super().__init__(bus, program)
        self._path, self._interface = where
        self._methods = methods
        self._signals = signals
        self._service = service

    def emit(self, member: str, *body: Any) -> None:
        """Send a signal."""
        signature = "".join(kind for _, kind in self._signals[member])
        message = Message.new_signal(self._path, self._interface, member, signature, list(body))
        self._bus.send(message)

    async def _serve(self, message: Message) -> Message | None:
        if message.interface == PEER:
            return peer(message)
        if message.path != self._path:
            return None
        if message.member == "Introspect":
            xml = STANDARD_XML + interface_xml(self._interface, self._methods, self._signals, {})
            return Message.new_method_return(message, "s", [f"<node>{xml}</node>"])
        method = self._methods.get(message.member) if message.interface in (self._interface, None) else None
        if method is None or message.signature != method.signature:
            wrong = "UnknownMethod" if method is None else "InvalidArgs"
            text = f"{self._interface} has no method {message.member}({message.signature})"
            return Message.new_error(message, f"org.freedesktop.DBus.Error.{wrong}", text)
        body = await method.serve(self._service, caller_of(message), message.body)
        return Message.new_method_return(message, method.result, body)
