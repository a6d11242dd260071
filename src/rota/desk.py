"""rotad-notify's one object on D-Bus: how the channels do, and a test of one.

The bus itself lets only root and members of the group rota call it (org.rota1.Notifier.conf), so there is
nothing to ask polkit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota.errors import Exit, RotaError
from rota.names import ERRORS, NOTIFIER_INTERFACE, NOTIFIER_PATH

log = logging.getLogger("rotad-notify")


class Service(Protocol):
    """What it can do; every method may raise RotaError."""

    def status(self) -> str:
        """Return how channels and sources do, and the last messages, as JSON."""
        ...

    async def test(self, channel: str) -> int:
        """Send a test message to a channel, at once; return how long it took, in microseconds."""
        ...


class Method(NamedTuple):
    """A method: types of arguments and reply with their names, what it does, and by what."""

    arguments: tuple[tuple[str, str], ...]
    returns: tuple[tuple[str, str], ...]
    about: str
    serve: Callable[[Service, list[Any]], Awaitable[list[Any]]]


async def _status(service: Service, _: list[Any]) -> list[Any]:
    return [service.status()]


async def _test(service: Service, body: list[Any]) -> list[Any]:
    return [await service.test(body[0])]


METHODS: Mapping[str, Method] = {
    "Status": Method((), (("json", "s"),), "How channels do, what waits, and the last messages.", _status),
    "Test": Method(
        (("channel", "s"),),
        (("took", "x"),),
        "Sends a test message now; an error if it was not sent.",
        _test,
    ),
}


def _xml() -> str:
    parts = ['<node><interface name="org.freedesktop.DBus.Introspectable"><method name="Introspect">']
    parts.append('<arg name="xml" type="s" direction="out"/></method></interface>')
    parts.append(f'<interface name="{NOTIFIER_INTERFACE}">')
    for name, method in METHODS.items():
        parts.append(f'<method name="{name}">')
        parts += [f'<arg name="{one}" type="{kind}" direction="in"/>' for one, kind in method.arguments]
        parts += [f'<arg name="{one}" type="{kind}" direction="out"/>' for one, kind in method.returns]
        parts.append("</method>")
    return "".join((*parts, "</interface></node>"))


class Desk:
    """Answers on a bus."""

    def __init__(self, bus: MessageBus, service: Service) -> None:
        self._bus = bus
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()
        bus.add_message_handler(self._on_message)

    def _on_message(self, message: Message) -> bool | None:
        if message.message_type is not MessageType.METHOD_CALL or message.path != NOTIFIER_PATH:
            return None
        task = asyncio.get_running_loop().create_task(self._reply(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _reply(self, message: Message) -> None:
        try:
            reply = await self._serve(message)
        except RotaError as error:
            text = f"{error.message}\n{error.hint}".strip()
            reply = Message.new_error(message, ERRORS[error.exit_code], text)
        except Exception:  # the caller gets an answer, the journal the trace
            log.exception("%s failed", message.member)
            text = "rotad-notify failed; see journalctl -u rotad-notify"
            reply = Message.new_error(message, ERRORS[Exit.FAILED], text)
        await self._bus.send(reply)

    async def _serve(self, message: Message) -> Message:
        if message.member == "Introspect":
            return Message.new_method_return(message, "s", [_xml()])
        method = METHODS.get(message.member) if message.interface in (NOTIFIER_INTERFACE, None) else None
        signature = "".join(kind for _, kind in method.arguments) if method else ""
        if method is None or message.signature != signature:
            wrong = "UnknownMethod" if method is None else "InvalidArgs"
            text = f"{NOTIFIER_INTERFACE} has no method {message.member}({message.signature})"
            return Message.new_error(message, f"org.freedesktop.DBus.Error.{wrong}", text)
        body = await method.serve(self._service, message.body)
        return Message.new_method_return(message, "".join(kind for _, kind in method.returns), body)
