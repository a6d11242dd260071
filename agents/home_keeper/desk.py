"""The keeper's one object on D-Bus. Everyone may ask; who changes something must be authorised by polkit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from rota.bus_object import Arguments, BusObject, Caller, Method, Serve
from rota.connection import Connection
from rota.interface import vardict
from rota.names import KEEPER_INTERFACE, KEEPER_PATH

from . import feed
from .ledger import Recorded

MOST = 1000
"""A reply has no more events than this, whatever was asked for; nor rows of history of each kind."""
_IN_SIGNAL = 100
"""Events in one EventsRecorded."""
_LARGEST = 2**63 - 1

ANSWER, RESUME, MAINTAIN = (f"org.rota1.keeper-{word}" for word in ("answer", "resume", "maintain"))
"""Actions of polkit's."""


class Service(Protocol):
    """What the keeper can do; every method may raise RotaError."""

    async def events(self, caller: Caller, since: int, limit: int) -> tuple[str, int, int, list[Recorded]]:
        """Return the store, its bounds, and events after a number."""
        ...

    def seq_at(self, at: int) -> int:
        """Return the number after which events from a moment on are found."""
        ...

    def unheard(self) -> int:
        """Return the number after which are the escalations that nobody took over, and the open questions."""
        ...

    def status(self) -> dict[str, Any]:
        """Return how the house does."""
        ...

    def history(self, target: str, limit: int) -> dict[str, Any]:
        """Return actions and findings, newest first."""
        ...

    def explain(self, target: str) -> dict[str, Any]:
        """Return why a target is treated as it is."""
        ...

    def metrics(self) -> dict[str, Any]:
        """Return what there is to measure."""
        ...

    async def approve(self, caller: Caller, ask: int, yes: bool) -> str:
        """Answer a question."""
        ...

    async def resume(self, caller: Caller, pattern: str) -> str:
        """Give targets back to the keeper."""
        ...

    async def maintain(self, caller: Caller, pattern: str, seconds: int) -> str:
        """Begin to work on targets."""
        ...

    async def end_maintenance(self, caller: Caller, number: int) -> str:
        """End work before its time."""
        ...


def _json(value: Mapping[str, Any]) -> list[Any]:
    # What D-Bus does not take for text: the bus would close the connection.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return [text.encode("utf-8", "replace").decode()]


async def _events(service: Service, caller: Caller, body: list[Any]) -> list[Any]:
    since, limit = min(body[0], _LARGEST), min(body[1], MOST)
    store, first, last, found = await service.events(caller, since, limit)
    return [store, first, last, [vardict(feed.table(one)) for one in found]]


async def _seq_at(service: Service, _: Caller, body: list[Any]) -> list[Any]:
    return [service.seq_at(body[0])]


async def _unheard(service: Service, _: Caller, __: list[Any]) -> list[Any]:
    return [service.unheard()]


async def _status(service: Service, _: Caller, __: list[Any]) -> list[Any]:
    return _json(service.status())


async def _history(service: Service, _: Caller, body: list[Any]) -> list[Any]:
    return _json(service.history(body[0], min(body[1], MOST)))


async def _explain(service: Service, _: Caller, body: list[Any]) -> list[Any]:
    return _json(service.explain(body[0]))


async def _metrics(service: Service, _: Caller, __: list[Any]) -> list[Any]:
    return _json(service.metrics())


async def _approve(service: Service, caller: Caller, body: list[Any]) -> list[Any]:
    return [await service.approve(caller, body[0], body[1])]


async def _resume(service: Service, caller: Caller, body: list[Any]) -> list[Any]:
    return [await service.resume(caller, body[0])]


async def _maintain(service: Service, caller: Caller, body: list[Any]) -> list[Any]:
    return [await service.maintain(caller, body[0], body[1])]


async def _end_maintenance(service: Service, caller: Caller, body: list[Any]) -> list[Any]:
    return [await service.end_maintenance(caller, body[0])]


_JSON: Arguments = (("json", "s"),)
_TEXT: Arguments = (("text", "s"),)
_FOUND: Arguments = (("store", "s"), ("first", "t"), ("last", "t"), ("events", "aa{sv}"))

METHODS: Mapping[str, Method[Serve]] = {
    "Status": Method(
        (), _JSON, "Findings, what is decided, questions, maintenance, the last remedies.", _status
    ),
    "History": Method(
        (("target", "s"), ("limit", "u")),
        _JSON,
        f'Actions and findings of a target, "" for all, newest first; at most {MOST}.',
        _history,
    ),
    "Explain": Method(
        (("target", "s"),), _JSON, "What is known of a target, and why, in sentences.", _explain
    ),
    "Approve": Method(
        (("id", "t"), ("yes", "b")), _TEXT, "Answers a question; returns what follows.", _approve
    ),
    "Resume": Method(
        (("pattern", "s"),), _TEXT, "Gives targets back to the keeper that it lets be.", _resume
    ),
    "Maintain": Method(
        (("pattern", "s"), ("seconds", "t")),
        _TEXT,
        "Has nothing done about targets, nor counted, for so long; `*` is the house.",
        _maintain,
    ),
    "EndMaintenance": Method(
        (("id", "t"),), _TEXT, "Ends it before its time; 0: all of it.", _end_maintenance
    ),
    "Events": Method(
        (("since", "t"), ("limit", "u")),
        _FOUND,
        f"What was recorded after number `since`; at most {MOST}.",
        _events,
    ),
    "SeqAt": Method(
        (("at", "x"),), (("seq", "t"),), "The number after which events from a moment on are found.", _seq_at
    ),
    "Unheard": Method(
        (),
        (("seq", "t"),),
        "The number after which are open questions, and what rotad-notify has not taken over of escalations.",
        _unheard,
    ),
    "Metrics": Method((), _JSON, "What there is to measure, since the ledger began.", _metrics),
}
ACTIONS: Mapping[str, str] = {
    "Approve": ANSWER,
    "Resume": RESUME,
    "Maintain": MAINTAIN,
    "EndMaintenance": MAINTAIN,
}
"""Methods that change something, and the action that polkit is asked about."""
SIGNALS: Mapping[str, Arguments] = {
    "EventsRecorded": (("events", "aa{sv}"),),
    "Alert": (
        *(("kind", "s"), ("target", "s"), ("problem", "s")),
        *(("severity", "s"), ("summary", "s")),
    ),
    "Remedy": (("id", "x"), ("target", "s"), ("remedy", "s"), ("state", "s")),
}


class Desk(BusObject):
    """Answers on a bus, and tells what was recorded."""

    def __init__(self, bus: Connection, service: Service) -> None:
        where = (KEEPER_PATH, KEEPER_INTERFACE)
        super().__init__(bus, where, METHODS, SIGNALS, service, program="rota-home-keeper")

    def recorded(self, found: list[Recorded]) -> None:
        """Tell what was recorded: few signals for many events, then Alert and Remedy one by one."""
        tables = [feed.table(one) for one in found]
        for start in range(0, len(tables), _IN_SIGNAL):
            self.emit("EventsRecorded", [vardict(one) for one in tables[start : start + _IN_SIGNAL]])
        for one, shown in zip(found, tables, strict=True):
            data = shown["data"]
            if shown["kind"] in feed.ALERTS:
                words = (str(data.get(name, "")) for name in ("target", "problem", "severity", "summary"))
                self.emit("Alert", shown["kind"], *words)
            elif one.event.kind in feed.REMEDIES:
                self._remedy(one)

    def _remedy(self, recorded: Recorded) -> None:
        event = recorded.event
        remedy = event.data["remedy"]
        if isinstance(remedy, Mapping):
            remedy = f"{remedy['word']} {remedy.get('argument', '')}".rstrip()
        self.emit("Remedy", int(event.data["id"]), event.target, remedy, feed.REMEDIES[event.kind](event))
