"""Random calls to rotad's objects on a real bus: always a right answer, never a lost connection; some 10 s.

ROTA_FUZZ=N multiplies the number of examples, and draws others each time; without it they stay the same.
Against the whole of rotad: tests/machine/test_fuzz.py.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import socket
import tracemalloc
from typing import Any

import pytest
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rota.interface import FILTERS, INTERFACES
from rota.names import AGENT_PATH, MANAGER_INTERFACE, MANAGER_PATH
from tests.bus.house import NAMES, PATHS, Meeting, run

MANY = int(os.environ.get("ROTA_FUZZ", "1"))
MIB = 1 << 20

_ERROR = re.compile(r"org\.(freedesktop\.DBus\.Error|rota1(\.Error)?)\.[A-Z][A-Za-z]+")
_TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
_WORD = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)

# (signature, value) of a D-Bus type
_BASIC: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("y"), st.integers(0, 2**8 - 1)),
    st.tuples(st.just("b"), st.booleans()),
    st.tuples(st.just("i"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("u"), st.sampled_from([0, 1, 2**31, 2**32 - 1])),
    st.tuples(st.just("x"), st.sampled_from([0, -1, 2**63 - 1, -(2**63)])),
    st.tuples(st.just("t"), st.sampled_from([0, 1, 2**63, 2**64 - 1])),
    st.tuples(st.just("d"), st.floats()),
    st.tuples(st.just("s"), _TEXT | st.sampled_from(["disk-report", "a", "x" * 1000, "../..", "%s\n"])),
    st.tuples(st.just("o"), st.sampled_from(["/", MANAGER_PATH, PATHS["a"]])),
    st.tuples(st.just("g"), st.sampled_from(["", "s", "a{sv}", "(ii)"])),
)


def _deeper(inner: st.SearchStrategy[tuple[str, Any]]) -> st.SearchStrategy[tuple[str, Any]]:
    variant = inner.map(lambda item: ("v", Variant(*item)))
    table = st.dictionaries(st.sampled_from([*FILTERS, "", "x"]), inner.map(lambda item: Variant(*item)))
    return st.one_of(
        variant,
        table.map(lambda value: ("a{sv}", value)),
        inner.filter(lambda item: item[0] != "y").map(lambda item: ("a" + item[0], [item[1]] * 2)),
        st.binary(max_size=5).map(lambda value: ("ay", value)),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda items: (f"({''.join(kind for kind, _ in items)})", [value for _, value in items])
        ),
    )


_VALUE = st.recursive(_BASIC, _deeper, max_leaves=6)
_METHODS = [(interface, member) for interface, table in INTERFACES.items() for member in table]
_STANDARD = [
    ("org.freedesktop.DBus.Properties", "Get"),
    ("org.freedesktop.DBus.Properties", "GetAll"),
    ("org.freedesktop.DBus.Properties", "Set"),
    ("org.freedesktop.DBus.Introspectable", "Introspect"),
    ("org.freedesktop.DBus.Peer", "Ping"),
    ("org.freedesktop.DBus.Peer", "GetMachineId"),
]
_SOME_PATH = st.sampled_from([MANAGER_PATH, *PATHS.values(), "/", "/org/rota1/agent", AGENT_PATH + "_"]) | (
    _WORD.map(lambda word: AGENT_PATH + word)
)


def _right(member: tuple[str, str]) -> st.SearchStrategy[tuple[str, list[Any]]]:
    """Draw arguments of the right types for a method."""
    of_kind: dict[str, st.SearchStrategy[Any]] = {
        "s": _TEXT | st.sampled_from([*NAMES, "", "x" * 1000]),
        "u": st.sampled_from([0, 1, 2**32 - 1]),
        "t": st.sampled_from([0, 2**63, 2**64 - 1]),
        "x": st.sampled_from([0, -(2**63), 2**63 - 1]),
        "a{sv}": st.dictionaries(
            st.sampled_from([*FILTERS, "nothing"]), _VALUE.map(lambda item: Variant(*item)), max_size=4
        ),
    }
    arguments = INTERFACES[member[0]][member[1]].arguments
    kinds = [kind for _, kind in arguments]
    return st.tuples(*(of_kind[kind] for kind in kinds)).map(lambda values: ("".join(kinds), list(values)))


_ANY = st.lists(_VALUE, max_size=4).map(lambda items: ("".join(k for k, _ in items), [v for _, v in items]))
Call = tuple[str, str | None, str, str, list[Any]]
_CALL: st.SearchStrategy[Call] = st.one_of(
    st.sampled_from(_METHODS).flatmap(
        lambda method: st.tuples(st.sampled_from([MANAGER_PATH, PATHS["a"]]), _right(method)).map(
            lambda drawn: (drawn[0], method[0], method[1], *drawn[1])
        )
    ),
    st.tuples(_SOME_PATH, st.sampled_from(_METHODS + _STANDARD), _ANY).map(
        lambda drawn: (drawn[0], *drawn[1], *drawn[2])
    ),
    st.tuples(_SOME_PATH, st.none() | _WORD.map(lambda word: f"org.{word}"), _WORD, _ANY).map(
        lambda drawn: (*drawn[:3], *drawn[3])
    ),
)


def check(call: Call, reply: Message) -> None:
    """Fail unless a reply is one: values as the method says, or a right error in words."""
    _, interface, member, _, _ = call
    if reply.message_type is MessageType.ERROR:
        assert _ERROR.fullmatch(reply.error_name), (call, reply.error_name)
        # by dbus-next, for the standard interfaces: with or without a text
        assert reply.signature in ("s", ""), call
        assert not any("Traceback" in text for text in reply.body), (call, reply.body)
        return
    assert reply.message_type is MessageType.METHOD_RETURN
    for table in INTERFACES.values() if interface is None else [INTERFACES.get(interface, {})]:
        if member in table:
            assert reply.signature == table[member].result, call


@settings(
    max_examples=40 * MANY,
    database=None,
    derandomize=MANY == 1,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)
@given(calls=st.lists(_CALL, min_size=1, max_size=25))
def test_whatever_is_called_is_answered(
    private_bus: str, caplog: pytest.LogCaptureFixture, calls: list[Call]
) -> None:
    async def work(met: Meeting) -> None:
        for call in calls:
            path, interface, member, signature, body = call
            check(call, await met.ask(member, signature, *body, path=path, interface=interface))
        assert len((await met.ask("ListAgents")).body[0]) == len(NAMES)
        assert met.served.connected
        assert met.caller.connected

    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        run(private_bus, work)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def nested(depth: int) -> Variant:
    """Return a variant in a variant, and so on."""
    value = Variant("s", "x")
    for _ in range(depth):
        value = Variant("v", value)
    return value


@pytest.mark.parametrize("depth", [10, 60])
def test_variants_in_variants(private_bus: str, depth: int) -> None:
    """D-Bus allows 64 levels (D-Bus Specification, "Valid Messages")."""

    async def work(met: Meeting) -> None:
        for name in ("agent", "since"):
            error, _ = await met.error("ListRuns", "a{sv}u", {name: nested(depth)}, 5)
            assert _ERROR.fullmatch(error)
        assert (await met.ask("ListAgents")).message_type is MessageType.METHOD_RETURN

    run(private_bus, work)


# Messages that are none: the bus hangs up on who sends them, and rotad never hears of it.
GARBAGE = {
    "not D-Bus": b"GET / HTTP/1.1\r\n\r\n" * 10,
    "a length beyond all": b"l\1\0\1\xff\xff\xff\x7f\2\0\0\0\xff\xff\xff\x7f" + bytes(64),
    "zeros": bytes(1000),
    "a version to come": b"l\1\0\2" + bytes(60),
}


def raw(address: str) -> socket.socket:
    """Return a connection to a bus that has said who it is, and nothing more."""
    made = socket.socket(socket.AF_UNIX)
    made.connect(address.partition("path=")[2].partition(",")[0])
    made.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
    assert made.recv(100).startswith(b"OK")
    made.sendall(b"BEGIN\r\n")
    return made


def wrong(path: str = MANAGER_PATH, text: str = "a") -> bytes:
    """Return a call whose object path or text is not what D-Bus allows, marshalled nonetheless."""
    sound = Message(
        destination="org.rota1",
        path="/" + "p" * (len(path) - 1),
        interface=MANAGER_INTERFACE,
        member="GetAgent",
        signature="s",
        body=["q" * len(text)],
        serial=2,
    )
    whole = bytes(sound._marshall())
    return whole.replace(sound.path.encode(), path.encode()).replace(b"q" * len(text), text.encode())


@pytest.mark.parametrize(
    "message",
    [*GARBAGE.values(), wrong("/org//rota1"), wrong("/org/rota1/"), wrong("org/rota1"), wrong(text="a\0b")],
    ids=[*GARBAGE, "empty element", "slash at the end", "no slash", "NUL"],
)
def test_what_is_no_message_never_gets_here(private_bus: str, message: bytes) -> None:
    async def work(met: Meeting) -> None:
        name = "org.freedesktop.DBus"
        hello = Message(
            destination=name, path="/org/freedesktop/DBus", interface=name, member="Hello", serial=1
        )
        with raw(private_bus) as rude:
            rude.sendall(bytes(hello._marshall()) + message)
            rude.settimeout(2)
            said = b""
            try:
                while part := rude.recv(65536):
                    said += part
            except TimeoutError:
                pass  # a message that is not yet whole: the bus waits
            assert b"Traceback" not in said
        assert len((await met.ask("ListAgents")).body[0]) == len(NAMES)
        assert met.house.asked == [("list_agents",)]

    run(private_bus, work)


def test_great_arguments_are_let_go_of(private_bus: str) -> None:
    """Of a hundred times two megabytes not one is kept."""

    async def work(met: Meeting) -> None:
        async def hundred() -> None:
            for _ in range(100):
                error, text = await met.error("GetAgent", "si", "x" * 2 * MIB, 1)
                assert error.endswith("InvalidArgs")
                assert len(text) < 1000

        tracemalloc.start()
        await hundred()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 2 * MIB
        assert met.exported._tasks == set()

    run(private_bus, work)


def test_many_at_once_and_as_great_as_may_be(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        wanted = {"agent": Variant("as", ["x" * 50] * 2000)}
        slots = asyncio.Semaphore(32)

        async def one() -> Message:
            async with slots:
                return await met.ask("ListRuns", "a{sv}u", wanted, 2**32 - 1)

        replies = await asyncio.gather(*(one() for _ in range(200)))
        assert {reply.message_type for reply in replies} == {MessageType.METHOD_RETURN}
        assert met.exported._tasks == set()

    run(private_bus, work)
