"""rotad's signals on a real bus, and many at once: signals, calls, one who never listens."""

from __future__ import annotations

import asyncio
import os
import socket

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota.interface import SIGNALS, run_table
from rota.names import BUS_NAME, MANAGER_INTERFACE, MANAGER_PATH
from rota.systemd import call, plain
from tests.bus.house import NAMES, RECORDED, RUN, Meeting, run


async def subscribe(bus: MessageBus) -> list[Message]:
    """Collect rotad's signals on a connection."""
    got: list[Message] = []

    def take(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.interface == MANAGER_INTERFACE:
            got.append(message)

    bus.add_message_handler(take)
    name = "org.freedesktop.DBus"
    rule = f"type='signal',sender='{BUS_NAME}',interface='{MANAGER_INTERFACE}'"
    await call(
        bus,
        Message(
            destination=name,
            path="/org/freedesktop/DBus",
            interface=name,
            member="AddMatch",
            signature="s",
            body=[rule],
        ),
    )
    return got


def test_what_a_signal_says() -> None:
    names = [name for name, _ in SIGNALS[MANAGER_INTERFACE]["RunChanged"]]
    assert names == ["agent", "run", "state", "details"]


def test_signals(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        got = await subscribe(met.caller)
        await met.client.follow_runs()
        met.exported.run_changed(RUN)
        met.exported.agents_changed()
        assert await met.client.changed(RUN.id, 5)
        assert not await met.client.changed(RUN.id, 0.01)
        await met.ask("ListAgents")
        changed, agents = got
        assert (changed.path, changed.member, changed.signature) == (MANAGER_PATH, "RunChanged", "sssa{sv}")
        assert changed.body[:3] == [RUN.agent, RUN.id, RUN.state]
        assert plain(changed.body[3])["status"] == 3
        assert (agents.path, agents.member, agents.signature) == (MANAGER_PATH, "AgentsChanged", "")

    run(private_bus, work)


def test_events_are_told_in_order_and_few_at_a_time(private_bus: str) -> None:
    recorded = [RECORDED._replace(seq=number) for number in range(1, 251)]

    async def work(met: Meeting) -> None:
        got = await subscribe(met.caller)
        await met.client.follow_events()
        met.exported.events_recorded(recorded)
        assert [await met.client.recorded() for _ in range(3)] == [100, 200, 250]
        assert [message.member for message in got] == ["EventsRecorded"] * 3
        told = [event for message in got for event in plain(message.body[0])]
        assert [event["seq"] for event in told] == list(range(1, 251))
        (*_, read) = (await met.ask("Events", "tu", 0, 1)).body
        assert plain(read)[0] == {**told[0], "seq": RECORDED.seq}
        met.exported.events_recorded([])

    run(private_bus, work)


def test_others_runs_are_not_taken_for_ones_own(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        await met.client.follow_runs()
        for _ in range(50):
            met.exported.run_changed(RUN)
        assert not await met.client.changed("0" * 32, 0.2)

    run(private_bus, work)


def test_a_burst_of_signals(private_bus: str) -> None:
    """As when rotad reads what happened while it was away."""
    count = 500

    async def work(met: Meeting) -> None:
        got = await subscribe(met.caller)
        for _ in range(count):
            met.exported.run_changed(RUN)
        async with asyncio.timeout(60):
            while len(got) < count:
                await asyncio.sleep(0.01)
        assert len((await met.ask("ListAgents")).body[0]) == len(NAMES)
        assert met.served.connected

    run(private_bus, work)


async def idle(met: Meeting) -> None:
    """See that no call stays under way."""
    async with asyncio.timeout(60):
        while met.exported._tasks:
            await asyncio.sleep(0.01)


def test_a_thousand_calls(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        slots = asyncio.Semaphore(64)

        async def one() -> int:
            async with slots:
                return len((await met.ask("GetRun", "s", "ab")).body[0])

        assert await asyncio.gather(*(one() for _ in range(1000))) == [len(run_table(RUN))] * 1000
        assert met.served.connected
        await idle(met)

    run(private_bus, work)


def marshalled(serial: int, destination: str, path: str, interface: str, member: str) -> bytes:
    message = Message(destination=destination, path=path, interface=interface, member=member, serial=serial)
    return bytes(message._marshall())


def test_one_who_asks_and_never_listens(private_bus: str) -> None:
    """Two thousand calls at once on a bare socket, no reply read: others come next, and it gets its turns."""

    async def work(met: Meeting) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(private_bus.partition("path=")[2].partition(",")[0])
            uid = str(os.getuid()).encode().hex().encode()
            rude.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\n")
            assert rude.recv(100).startswith(b"OK")
            name = "org.freedesktop.DBus"
            rude.sendall(b"BEGIN\r\n" + marshalled(1, name, "/org/freedesktop/DBus", name, "Hello"))
            calls = (
                marshalled(serial, BUS_NAME, MANAGER_PATH, MANAGER_INTERFACE, "ListAgents")
                for serial in range(2, 2002)
            )
            rude.setblocking(False)
            await asyncio.wait_for(loop.sock_sendall(rude, b"".join(calls)), 60)
            assert len((await met.ask("ListAgents")).body[0]) == len(NAMES)
            async with asyncio.timeout(60):
                while len(met.house.asked) < 100:
                    await asyncio.sleep(0.01)
        assert len((await met.ask("ListAgents")).body[0]) == len(NAMES)
        assert met.served.connected
        await idle(met)

    run(private_bus, work)
