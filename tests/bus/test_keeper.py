"""The keeper as it runs: a process with a real ledger and real checks, on a private bus."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dbus_next.introspection import Node
from dbus_next.message import Message
from rota_agents.home_keeper.desk import METHODS, SIGNALS

from rota.keeper_rules import Override
from rota.names import KEEPER_BUS_NAME, KEEPER_INTERFACE, KEEPER_PATH
from tests.bus.keeper_kit import DOOR, SOON, Caller, Door, Kept, kept, rules, watching

Work = Callable[[Kept, Caller], Awaitable[None]]


def live(folder: Path, address: str, work: Work, door: Door, *targets: Override, **more: Any) -> None:
    """Have a keeper watch a door, and a test at work on both."""

    async def main() -> None:
        with kept(folder, address, rules(*targets, **more), watching(door=door)) as keeper:
            caller = await Caller.on(address)
            try:
                await caller.there()
                await work(keeper, caller)
            finally:
                caller.bus.disconnect()
                door.close()

    asyncio.run(main())


def test_a_finding_is_found_and_healed_and_told(private_bus: str, tmp_path: Path) -> None:
    door = Door()
    door.open()

    async def work(keeper: Kept, caller: Caller) -> None:
        assert (await caller.told("Status"))["targets"] == []
        await asyncio.sleep(1)
        door.close()
        await caller.until(lambda: caller.kinds("found"), "the finding")
        status = await caller.told("Status")
        (target,) = status["targets"]
        assert (target["target"], target["mode"]) == (DOOR, "observe")
        assert [one["problem"] for one in target["findings"]] == ["unreachable"]
        assert status["summary"] == "1 finding"
        door.open()
        await caller.until(lambda: caller.kinds("healed"), "it to be healed")
        found, healed = [one for one in await caller.events() if one["kind"] in ("found", "healed")]
        assert {name: healed["data"][name] for name in found["data"]} == found["data"]
        assert (healed["data"]["took"] > 0, healed["data"]["left"]) == (True, [])
        assert (healed["data"]["target"], healed["data"]["severity"]) == (DOOR, "critical")
        alerts = [body[:4] for name, body in caller.signals if name == "Alert"]
        assert alerts == [[kind, DOOR, "unreachable", "critical"] for kind in ("found", "healed")]
        recorded = [
            one["seq"] for name, body in caller.signals if name == "EventsRecorded" for one in body[0]
        ]
        assert recorded == sorted(set(recorded))
        assert keeper.rows("SELECT target, closed NOTNULL FROM findings") == [(DOOR, 1)]

    live(tmp_path, private_bus, work, door)


def test_it_tells_systemd_how_it_does_and_ends_when_it_is_told_to(private_bus: str, tmp_path: Path) -> None:
    async def work(keeper: Kept, caller: Caller) -> None:
        texts: list[str] = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
            said.bind(str(tmp_path / "notify"))
            said.setblocking(False)
            loop = asyncio.get_running_loop()
            loop.add_reader(said, lambda: texts.append(said.recv(4096).decode()))
            keeper.kill()
            keeper.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000")
            await caller.there()
            began, before = time.monotonic(), texts.count("WATCHDOG=1")

            async def said_often() -> bool:
                return texts.count("WATCHDOG=1") >= before + 4 and "STATUS=1 finding" in texts

            await caller.until(said_often, "four signs of life", 8)  # two seconds for each
            assert texts.count("WATCHDOG=1") - before <= 10 * (time.monotonic() - began)
            assert await asyncio.to_thread(keeper.kill, signal.SIGTERM) == 0

            async def said_last() -> bool:
                return texts[-1] == "STOPPING=1"

            await caller.until(said_last, "the end")
            loop.remove_reader(said)
        assert texts.count("READY=1") == 1

    live(tmp_path, private_bus, work, Door())


def test_two_keepers_are_one_too_many(private_bus: str, tmp_path: Path) -> None:
    async def work(keeper: Kept, caller: Caller) -> None:
        second = tmp_path / "second"
        second.mkdir()
        other = Kept(second, private_bus, rules(), watching())
        other.start()
        assert other.process is not None
        assert await asyncio.to_thread(other.process.wait, 20) == 1
        assert other.log == "another keeper has the name org.rota1.Keeper\n"
        assert not other.ledger.exists()

    live(tmp_path, private_bus, work, Door())


def test_what_is_not_declared_is_said(private_bus: str, tmp_path: Path) -> None:
    keeper = Kept(tmp_path, private_bus, rules(enable=False), watching())
    keeper.start()
    assert keeper.process is not None
    assert keeper.process.wait(20) == 2
    assert keeper.log.startswith("Home Keeper is not enabled. Declare [keeper]")


def test_what_is_gone_is_closed_by_the_next_keeper(private_bus: str, tmp_path: Path) -> None:
    """A finding of a check that is still there, of a target that is not; and of a check that is gone."""

    async def work(keeper: Kept, caller: Caller) -> None:
        await caller.until(lambda: caller.kinds("found"), "the finding")
        keeper.kill()
        with sqlite3.connect(keeper.ledger) as db:
            db.execute("UPDATE findings SET target = 'endpoint:gone'")
            db.execute("UPDATE cases SET target = 'endpoint:gone'")
            db.execute('UPDATE cases SET data = replace(data, \'"name": "door"\', \'"name": "gone"\')')
        keeper.start()
        await caller.there()
        await caller.until(lambda: caller.kinds("healed"), "what is gone to be closed")
        open_ = keeper.rows("SELECT target FROM findings WHERE closed IS NULL")
        assert open_ == [(DOOR,)]

    live(tmp_path, private_bus, work, Door())


def test_questions_resuming_and_maintenance(private_bus: str, tmp_path: Path) -> None:
    async def work(keeper: Kept, caller: Caller) -> None:
        async def question() -> Any:
            status = await caller.told("Status")
            return [one["question"] for one in status["targets"] if one["question"]]

        (asked,) = await caller.until(question, "a question")
        assert asked["remedy"] == "run-agent nobody"
        name, text = await caller.error("Approve", "tb", 999, True)
        assert (name, text.partition("\n")[0]) == (
            "org.rota1.Error.NotFound",
            "There is no open question 999",
        )
        (text,) = await caller.call("Maintain", "st", "endpoint:*", 60)
        assert text.startswith("Maintenance ")
        status = await caller.told("Status")
        assert [one["pattern"] for one in status["maintenance"]] == ["endpoint:*"]
        (text,) = await caller.call("EndMaintenance", "t", 0)
        assert text.endswith(" is over.")
        (asked,) = await question()
        (text,) = await caller.call("Approve", "tb", asked["id"], False)
        assert "is denied" in text
        (text,) = await caller.call("Resume", "s", DOOR)
        assert text == f"Resumed: {DOOR}."
        for member, signature, body in (
            ("Resume", "s", ["nonsense"]),
            ("Explain", "s", ["nonsense:x"]),
            ("Maintain", "st", ["*", 0]),
            ("Maintain", "st", ["*", 10**12]),
            ("History", "su", ["x", 5]),
            ("Resume", "s", ["unit:\n"]),
        ):
            assert (await caller.error(member, signature, *body))[0].endswith("InvalidArgs"), member
        assert (await caller.error("EndMaintenance", "t", 0))[0] == "org.rota1.Error.NotFound"
        sentences = (await caller.told("Explain", "s", DOOR))["sentences"]
        assert sentences[0] == f'Named by "{DOOR}"; mode ask.'
        history = await caller.told("History", "su", DOOR, 5)
        assert [one["problem"] for one in history["findings"]] == ["unreachable"]
        assert "bob" not in keeper.log

    asking = Override(DOOR, mode="ask", remedy="agent:nobody")
    live(tmp_path, private_bus, work, Door(), asking)


def test_an_escalation_says_what_was_tried(private_bus: str, tmp_path: Path) -> None:
    async def work(keeper: Kept, caller: Caller) -> None:
        await caller.until(lambda: caller.kinds("escalated"), "an escalation", 20)
        (escalated,) = [one for one in await caller.events() if one["kind"] == "escalated"]
        data = escalated["data"]
        assert (data["target"], data["problem"], data["severity"]) == (DOOR, "unreachable", "critical")
        assert (data["why"], "strike" in data["summary"]) == ("strike 3 of 3", False)
        assert len(data["tried"]) == 2 and data["tried"][0].startswith("run-agent nobody: failed")
        metrics = await caller.told("Metrics")
        assert metrics["findings"] == {"info": 0, "warning": 0, "critical": 1}
        assert {"remedy": "run-agent", "result": "failed", "count": 2} in metrics["remedies"]
        assert metrics["actions_left"] == 18
        assert abs(metrics["turned"] / 1e6 - time.time()) < 60
        states = [body[2:] for name, body in caller.signals if name == "Remedy"]
        assert states[:3] == [["run-agent nobody", state] for state in ("begun", "failed", "failed")]

    live(tmp_path, private_bus, work, Door(), Override(DOOR, remedy="agent:nobody"), policy=SOON)


def test_it_introduces_itself(private_bus: str, tmp_path: Path) -> None:
    async def work(keeper: Kept, caller: Caller) -> None:
        message = Message(
            destination=KEEPER_BUS_NAME,
            path=KEEPER_PATH,
            interface="org.freedesktop.DBus.Introspectable",
            member="Introspect",
        )
        reply = await caller.bus.call(message)
        assert reply is not None
        shown = Node.parse(reply.body[0]).interfaces
        (mine,) = [one for one in shown if one.name == KEEPER_INTERFACE]
        assert {one.name for one in mine.methods} == set(METHODS)
        assert {one.name for one in mine.signals} == set(SIGNALS)

    live(tmp_path, private_bus, work, Door())
