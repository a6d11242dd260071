"""The keeper while any user of the machine asks as much as the bus takes: it keeps the house all the same."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from dbus_next.constants import MessageType, NameFlag, RequestNameReply
from dbus_next.message import Message
from rota_agents.home_keeper.ledger import Ledger
from rota_agents.home_keeper.messages import Event
from rota_agents.home_keeper.reception import PAGE

from rota.connection import Connection
from rota.names import KEEPER_BUS_NAME, KEEPER_INTERFACE, KEEPER_PATH, NOTIFIER_BUS_NAME
from rota.systemd import connect
from rota.turns import UNANSWERED
from rota.wire import ERROR, METHOD_RETURN, head
from tests.bus.keeper_kit import DOOR, Caller, Door, kept, rules, watching

LIMITS = b"org.freedesktop.DBus.Error.LimitsExceeded"
EVENTS = 1500
PERIOD = 3.0
"""Seconds: WatchdogSec=, a tenth of what it is in the unit."""

Work = Callable[[Caller, Door, list[float]], Awaitable[None]]


def of_events() -> Message:
    return Message(
        destination=KEEPER_BUS_NAME,
        path=KEEPER_PATH,
        interface=KEEPER_INTERFACE,
        member="Events",
        signature="tu",
        body=[0, 1000],
    )


class Flood:
    """One who asks without waiting, and only counts what comes back."""

    def __init__(self, bus: Connection) -> None:
        self._bus = bus
        self.replies: Counter[str] = Counter()
        bus._take = self._count  # type: ignore[method-assign]  # to read it costs more than to make it

    def _count(self, data: bytes) -> None:
        kind = head(data).kind
        if kind == ERROR:
            self.replies["refused" if LIMITS in data else "failed"] += 1
        elif kind == METHOD_RETURN:
            self.replies["answered"] += 1

    async def ask(self, times: int) -> None:
        for _ in range(times):
            self._bus.send(of_events())
            await asyncio.sleep(0)

    def end(self) -> None:
        self._bus.disconnect()


def live(folder: Path, address: str, work: Work) -> None:
    """Have a keeper that remembers many events, and watches a door; work gets when its watchdog was fed."""
    watchdog = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(PERIOD * 1e6))}
    door = Door()
    door.open()

    async def main() -> None:
        with kept(folder, address, rules(), watching(door=door)) as keeper:
            caller = await Caller.on(address)
            await caller.there()
            keeper.kill(signal.SIGTERM)
            remember(keeper.ledger)
            async with pings(folder / "notify") as fed:
                keeper.start(**watchdog)
                await caller.there()
                await work(caller, door, fed)
            caller.bus.disconnect()
            door.close()

    asyncio.run(main())


def remember(path: Path) -> None:
    """Put many events into a ledger, as one that has been kept for some time has."""
    ledger = Ledger(path)
    about = {"target": "unit:a.service", "problem": "failed", "summary": "x" * 100, "since": 1}
    ledger.file(ledger.load(), [Event("decided", "unit:a.service", at, about) for at in range(EVENTS)])
    ledger.close()


@asynccontextmanager
async def pings(path: Path) -> AsyncIterator[list[float]]:
    """Be systemd: yield when its watchdog was fed."""
    fed: list[float] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
        said.bind(str(path))
        said.setblocking(False)

        def read() -> None:
            if b"WATCHDOG=1" in said.recv(4096):
                fed.append(time.monotonic())

        asyncio.get_running_loop().add_reader(said, read)
        yield fed
        asyncio.get_running_loop().remove_reader(said)


async def flooded(
    floods: list[Flood], calls: int, caller: Caller, door: Door, fed: list[float]
) -> Counter[str]:
    """Flood the keeper, close the door meanwhile, see that nobody has to wait for it; return the replies."""
    begun, waited = time.monotonic(), []
    for flood in floods:
        await flood.ask(calls)
    door.close()

    async def found() -> list[str]:
        return [one["target"] for one in (await caller.told("Status"))["targets"]]

    while time.monotonic() < begun + 3 * PERIOD:
        before = time.monotonic()
        assert (await caller.ask("Status")).message_type is MessageType.METHOD_RETURN
        waited.append(time.monotonic() - before)
        await asyncio.sleep(0.1)
    assert await caller.until(found, "the house to be kept all the while") == [DOOR]
    replies = sum((flood.replies for flood in floods), Counter[str]())
    few = len(floods) * calls / 2
    assert 0 < replies["answered"] < few, f"there was none, or it was over too soon: {replies}"
    looks = [begun, *(at for at in fed if at > begun), time.monotonic()]
    assert max(after - before for before, after in pairwise(looks)) < PERIOD, looks
    assert max(waited) < 5, waited
    for flood in floods:
        flood.end()
    return replies


@pytest.mark.parametrize(
    ("connections", "calls", "kinds"),
    [(6, 2 * UNANSWERED, {"answered", "refused"}), (20, UNANSWERED // 2, {"answered"})],
)
def test_in_a_flood_others_are_answered_and_the_watchdog_is_fed(
    private_bus: str, tmp_path: Path, connections: int, calls: int, kinds: set[str]
) -> None:
    """One who asks for more than may wait is refused; many who ask for less all have their turn."""

    async def work(caller: Caller, door: Door, fed: list[float]) -> None:
        floods = [Flood(await connect(user=True, address=private_bus)) for _ in range(connections)]
        assert set(await flooded(floods, calls, caller, door, fed)) == kinds

    live(tmp_path, private_bus, work)


def test_a_reply_has_few_events_but_for_rotad_notify(private_bus: str, tmp_path: Path) -> None:
    async def work(caller: Caller, _: Door, __: list[float]) -> None:
        assert len((await caller.call("Events", "tu", 0, 1000))[3]) == PAGE
        assert len(await caller.events()) > EVENTS, "who asks on misses none"
        owned = await caller.bus.request_name(NOTIFIER_BUS_NAME, NameFlag.DO_NOT_QUEUE)
        assert owned is RequestNameReply.PRIMARY_OWNER
        assert len((await caller.call("Events", "tu", 0, 500))[3]) == 500

    live(tmp_path, private_bus, work)
