"""One who asks for much, on a real bus: others have their turn, it is refused what is too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message

from rota.bus_object import Caller
from rota.names import BUS_NAME, MANAGER_INTERFACE, MANAGER_PATH
from rota.systemd import ask_bus, connect
from rota.turns import UNANSWERED
from tests.bus.house import NAMES, Meeting, run

LIMITS = "org.freedesktop.DBus.Error.LimitsExceeded"


def asking(member: str, *body: str, flags: MessageFlag = MessageFlag.NONE) -> Message:
    """Return a call of the manager's."""
    return Message(
        destination=BUS_NAME,
        path=MANAGER_PATH,
        interface=MANAGER_INTERFACE,
        member=member,
        signature="s" * len(body),
        body=list(body),
        flags=flags,
    )


@asynccontextmanager
async def slow_stops(met: Meeting) -> AsyncIterator[asyncio.Event]:
    """Let StopAgent take until an event is set, as it may take minutes until an agent has stopped."""
    over = asyncio.Event()

    async def stop(caller: Caller, name: str) -> None:
        met.house.asked.append(("stop", name))
        await over.wait()

    met.house.stop = stop  # type: ignore[method-assign]
    try:
        yield over
    finally:
        over.set()


async def listed(met: Meeting) -> None:
    """See that somebody else gets an answer."""
    other = await connect(user=True, address=met.address)
    reply = await asyncio.wait_for(other.call(asking("ListAgents")), 20)
    assert reply is not None
    assert len(reply.body[0]) == len(NAMES)
    other.disconnect()


def test_what_is_too_much_is_refused_and_the_rest_answered(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        async with slow_stops(met) as over:
            asked = [
                asyncio.ensure_future(met.caller.call(asking("StopAgent", "a")))
                for _ in range(UNANSWERED + 50)
            ]
            await asyncio.wait(asked[UNANSWERED:], timeout=60)
            refused, _ = await asyncio.wait(asked, timeout=1)
            assert len(refused) == 50
            assert refused == set(asked[UNANSWERED:])
            replies = [future.result() for future in refused]
            assert {reply.error_name for reply in replies if reply} == {LIMITS}
            await listed(met)
            quiet = asking("StopAgent", "a", flags=MessageFlag.NO_REPLY_EXPECTED)
            await met.caller.send(quiet)
            last = await met.caller.call(asking("StopAgent", "a"))  # by then, the one before was refused too
            assert last is not None and last.error_name == LIMITS
            over.set()
            # of one who asked for too much, each call is followed by a rest of nine times what it took
            replies = await asyncio.wait_for(asyncio.gather(*asked[:UNANSWERED]), 200)
        assert {reply.message_type for reply in replies if reply} == {MessageType.METHOD_RETURN}
        assert len(met.house.asked) == UNANSWERED + 1
        assert (await met.ask("ListAgents")).message_type is MessageType.METHOD_RETURN

    run(private_bus, work)


def test_slow_calls_hold_up_nobody_and_not_even_their_caller(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        async with slow_stops(met):
            slow = [asyncio.ensure_future(met.caller.call(asking("StopAgent", "a"))) for _ in range(4)]
            await listed(met)
            assert len((await met.ask("ListAgents")).body[0]) == len(NAMES)
            assert not any(future.done() for future in slow)
        await asyncio.wait_for(asyncio.gather(*slow), 20)

    run(private_bus, work)


def test_what_waits_of_one_who_is_gone_is_not_done(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        async with slow_stops(met) as over:
            rude = await connect(user=True, address=met.address)
            for _ in range(100):
                rude.send(asking("StopAgent", "a"))
            while not met.house.asked:
                await asyncio.sleep(0.01)
            await ask_bus(rude, "NameHasOwner", BUS_NAME)  # all that was sent before has been sent
            rude.disconnect()
            async with asyncio.timeout(60):
                while any(lane.waiting for lane in met.exported._turns._lanes.values()):
                    await asyncio.sleep(0.01)
            over.set()
            async with asyncio.timeout(60):
                while len(met.exported._turns):
                    await asyncio.sleep(0.01)
        assert len(met.house.asked) < 10

    run(private_bus, work)


def test_a_signal_for_us_alone_is_not_heard(private_bus: str) -> None:
    """Anybody may send one of systemd's interface; systemd itself signals to all who asked for it."""

    async def work(met: Meeting) -> None:
        heard: list[str] = []

        def hear(message: Message) -> None:
            if message.message_type is MessageType.SIGNAL and message.interface == "org.example":
                heard.append(message.member)

        met.served.add_message_handler(hear)
        await ask_bus(met.served, "AddMatch", "type='signal',interface='org.example'")
        for member, to in (("Forged", met.served.unique_name), ("Said", None)):
            signal = Message.new_signal("/org/example", "org.example", member)
            signal.destination = to  # type: ignore[assignment]  # it may be left out
            await met.caller.send(signal)
        await met.ask("ListAgents")
        assert heard == ["Said"]

    run(private_bus, work)
