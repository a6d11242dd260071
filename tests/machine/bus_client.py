"""A client of rotad's inside the machine: random calls, floods, one who never listens.

First argument: a function below; it prints what it found as JSON. The others are its arguments.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

ROTA = "org.rota1"
MANAGER = ("/org/rota1", "org.rota1.Manager")
SOCKET = "/run/dbus/system_bus_socket"
FILTERS = ("agent", "tag", "state", "trigger", "since", "until", "before", "nothing", "")
TEXTS = ("", "sleeper", "a", "../..", "%s%n", "x" * 5000, "\n\t\x7f", "é…\u2028", "'; DROP TABLE runs; --")
CHOICES: dict[str, tuple[Any, ...]] = {
    "s": TEXTS,
    "b": (False, True),
    "d": (0.0, -1e300, float("inf"), float("nan")),
}
NUMBERS = {
    "y": (0, 255),
    "i": (0, -1, 2**31 - 1),
    "u": (0, 1, 50, 10_000, 2**32 - 1),
    "x": (0, -1, 2**63 - 1, -(2**63)),
    "t": (0, 1, 2**63, 2**64 - 1),
}


def value(chance: Random, kind: str, depth: int = 0) -> Any:
    """Return some value of a D-Bus type."""
    if kind in NUMBERS:
        return chance.choice((*NUMBERS[kind], chance.randrange(200)))
    if kind in CHOICES:
        return chance.choice(CHOICES[kind])
    if kind == "v":
        inner = chance.choice(
            ["s", "as", "x", "t", "u", "b", "d", *(["v", "a{sv}", "av"] if depth < 5 else [])]
        )
        return Variant(inner, value(chance, inner, depth + 1))
    if kind == "a{sv}":
        names = chance.sample(FILTERS, k=chance.randrange(4))
        return {name: value(chance, "v", depth + 1) for name in names}
    return [
        value(chance, kind[1:], depth + 1) for _ in range(chance.choice((0, 1, 3, 300 if depth < 2 else 0)))
    ]


async def ask(
    bus: MessageBus, where: tuple[str, str], member: str, kinds: list[str], body: list[Any]
) -> Message:
    """Call a method and return the reply as it is."""
    message = Message(
        destination=ROTA,
        path=where[0],
        interface=where[1],
        member=member,
        signature="".join(kinds),
        body=body,
    )
    reply = await asyncio.wait_for(bus.call(message), 20)
    assert reply is not None
    return reply


async def connected() -> MessageBus:
    """Connect to the system bus."""
    return await MessageBus(bus_type=BusType.SYSTEM).connect()


async def each(methods: str) -> dict[str, str]:
    """Call methods, as test_fuzz.methods has them in JSON; return the error of each, "" for none."""
    bus = await connected()
    found = {}
    for path, interface, member, kinds, body in json.loads(methods):
        reply = await ask(bus, (path, interface), member, kinds, body)
        found[f"{interface}.{member}"] = reply.error_name if reply.message_type is MessageType.ERROR else ""
    return found


async def random(methods: str, seed: str, seconds: str) -> dict[str, Any]:
    """Call methods with random values for so long; return how many calls came to what, and what is odd."""
    chance, bus, odd = Random(int(seed)), await connected(), []  # noqa: S311
    calls = json.loads(methods)
    counts: dict[str, int] = {}
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        path, interface, member, kinds, _ = chance.choice(calls)
        if chance.random() < 0.3:
            kinds = chance.choices(
                ["s", "u", "t", "a{sv}", "v", "as", "aav", "d", "y"], k=chance.randrange(4)
            )
        body = [value(chance, kind) for kind in kinds]
        reply = await ask(bus, (path, interface), member, kinds, body)
        name = reply.error_name or "answered"
        counts[name] = counts.get(name, 0) + 1
        said = str(reply.body) if reply.message_type is MessageType.ERROR else ""
        if "Traceback" in said or "rotad failed" in said:
            odd.append([member, repr(body)[:500], said[:500]])
    return {"counts": counts, "odd": odd[:5]}


def marshalled(serial: int, member: str, kinds: str, body: list[Any]) -> bytes:
    """Return a call of the manager's as bytes."""
    message = Message(
        destination=ROTA,
        path=MANAGER[0],
        interface=MANAGER[1],
        member=member,
        signature=kinds,
        body=body,
        serial=serial,
    )
    return bytes(message._marshall())


def raw() -> socket.socket:
    """Return a connection to the bus of which nobody has to read."""
    bus = socket.socket(socket.AF_UNIX)
    bus.connect(SOCKET)
    bus.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
    assert bus.recv(100).startswith(b"OK")
    name = "org.freedesktop.DBus"
    hello = Message(destination=name, path="/org/freedesktop/DBus", interface=name, member="Hello", serial=1)
    bus.sendall(b"BEGIN\r\n" + bytes(hello._marshall()))
    return bus


def signalled(serial: int) -> bytes:
    """Return a signal to rotad alone, as systemd sends them to all, as bytes."""
    body = [1, "/org/freedesktop/systemd1/job/1", "rota-sleeper.service", "failed"]
    where = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved")
    message = Message.new_signal(*where, "uoss", body)
    message.destination, message.serial = ROTA, serial
    return bytes(message._marshall())


async def flood(what: str, listens: str, seconds: str) -> dict[str, Any]:
    """Ask for all events, or signal, as fast as the bus takes it, for so long; read what comes, or never."""
    bus, calls, waiting, lost = raw(), 0, b"", ""
    bus.setblocking(False)
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end and not lost:
        if len(waiting) < 10_000:
            call = (
                signalled(calls + 2)
                if what == "signals"
                else marshalled(calls + 2, "Events", "tu", [0, 10_000])
            )
            waiting += call
            calls += 1
        try:
            waiting = waiting[bus.send(waiting) :]
            while listens == "yes" and bus.recv(1 << 20):
                pass
        except BlockingIOError:
            await asyncio.sleep(0)
        except OSError as error:
            lost = str(error)
    return {"calls": calls, "lost": lost}


async def patient(seconds: str) -> dict[str, Any]:
    """Ask for all agents again and again for so long; return how long the slowest answer took, in seconds."""
    bus = await connected()
    slowest, answers = 0.0, 0
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        began = time.monotonic()
        reply = await ask(bus, MANAGER, "ListAgents", [], [])
        assert reply.message_type is MessageType.METHOD_RETURN, reply.body
        slowest, answers = max(slowest, time.monotonic() - began), answers + 1
        await asyncio.sleep(0.05)
    return {"slowest": slowest, "answers": answers}


if __name__ == "__main__":
    doors: dict[str, Callable[..., Coroutine[Any, Any, Any]]]
    doors = {"each": each, "random": random, "flood": flood, "patient": patient}
    work = doors[sys.argv[1]]
    print(json.dumps(asyncio.run(work(*sys.argv[2:]))))
