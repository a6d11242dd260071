"""rotad-notify's one object on D-Bus: how the channels do, and a test of one.

The bus itself lets only root and members of the group rota call it (org.rota1.Notifier.conf), so there is
nothing to ask polkit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rota.bus_object import BusObject, Caller, Method, Serve
from rota.connection import Connection
from rota.names import NOTIFIER_INTERFACE, NOTIFIER_PATH


class Service(Protocol):
    """What it can do; every method may raise RotaError."""

    def status(self) -> str:
        """Return how channels and sources do, and the last messages, as JSON."""
        ...

    async def test(self, channel: str) -> int:
        """Send a test message to a channel, at once; return how long it took, in microseconds."""
        ...


async def _status(service: Service, _: Caller, __: list[Any]) -> list[Any]:
    return [service.status()]


async def _test(service: Service, _: Caller, body: list[Any]) -> list[Any]:
    return [await service.test(body[0])]


METHODS: Mapping[str, Method[Serve]] = {
    "Status": Method((), (("json", "s"),), "How channels do, what waits, and the last messages.", _status),
    "Test": Method(
        (("channel", "s"),),
        (("took", "x"),),
        "Sends a test message now; an error if it was not sent.",
        _test,
    ),
}


class Desk(BusObject):
    """Answers on a bus."""

    def __init__(self, bus: Connection, service: Service) -> None:
        where = (NOTIFIER_PATH, NOTIFIER_INTERFACE)
        super().__init__(bus, where, METHODS, {}, service, program="rotad-notify")
