"""rotad-notify beside others on a private bus: the keeper, strangers, a second one, a bus that goes down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota.errors import Exit, RotaError
from rota.interface import vardict
from rota.names import (
    KEEPER_BUS_NAME,
    KEEPER_INTERFACE,
    KEEPER_PATH,
    MANAGER_INTERFACE,
    MANAGER_PATH,
    NOTIFIER_BUS_NAME,
    NOTIFIER_INTERFACE,
    NOTIFIER_PATH,
)
from rota.notifier import Notifier
from rota.sources import KEEPER, Source
from rota.systemd import ask_bus, connect, plain
from tests.bus.telling import NOW, Scene, Table, play, rules
from tests.sinks import Webhook, webhook


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as sink:
        yield sink


class Keeper:
    """A keeper of three events, offered as rotad offers its own."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.events: list[Table] = []
        self.unheard = 0
        self.deaf = False
        bus.add_message_handler(self._on_message)

    def _on_message(self, message: Message) -> Message | None:
        if message.interface != KEEPER_INTERFACE or self.deaf:
            return None
        if message.member == "SeqAt":
            early = [one["seq"] for one in self.events if one["at"] < message.body[0]]
            return Message.new_method_return(message, "t", [max(early, default=0)])
        if message.member == "Unheard":
            return Message.new_method_return(message, "t", [self.unheard])
        found = [vardict(one) for one in self.events if one["seq"] > message.body[0]]
        return Message.new_method_return(message, "sttaa{sv}", ["k", 1, len(self.events), found])

    def record(self, kind: str, **data: Any) -> None:
        at = data.pop("at", NOW)
        event = {"version": 1, "seq": len(self.events) + 1, "at": at, "kind": kind, "data": data}
        self.events.append(event)
        signal = (KEEPER_PATH, KEEPER_INTERFACE, "EventsRecorded", "aa{sv}", [[vardict(event)]])
        self._bus.send(Message.new_signal(*signal))


def test_what_the_keeper_escalates(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        bus = await connect(user=True, address=scene.address)
        keeper = Keeper(bus)
        scene.declare(rules(on=["escalation"], quiet=["00:00-23:59", "23:59-00:00"]), ops=hook.url)
        notifier = await scene.start()
        await bus.request_name(KEEPER_BUS_NAME)  # it comes later
        await scene.until(lambda: notifier.outbox.cursor("keeper"))
        about = {"target": "unit:nginx.service", "problem": "failed", "summary": "exit status 1"}
        keeper.record("found", **about, severity="warning")
        keeper.record("acted", **about)
        keeper.record("escalated", **about, severity="critical", tried=["restarted", "restarted again"])
        await scene.until(lambda: hook.got)
        keeper.record("asked", **about, severity="critical", id=4, remedy="restart-unit", expires=2 * NOW)
        await scene.until(lambda: len(hook.got) == 2)
        await asyncio.sleep(0.3)
        bus.disconnect()

    play(private_bus, tmp_path, work)
    message, asked = hook.got
    assert asked["title"].endswith("needs an answer: a person is asked whether to restart-unit")
    assert "Answer: rota --user keeper approve 4\n    or: rota --user keeper deny 4\n" in asked["message"]
    assert message["title"].endswith("unit:nginx.service needs a person: exit status 1")
    assert "Tried:\n  restarted\n  restarted again\n" in message["message"]
    assert "See:    rota --user keeper explain unit:nginx.service" in message["message"]


def test_an_event_that_is_not_understood_is_told_of_and_stops_nothing(
    private_bus: str, tmp_path: Path, hook: Webhook
) -> None:
    async def work(scene: Scene) -> None:
        bus = await connect(user=True, address=scene.address)
        keeper = Keeper(bus)
        scene.declare(rules(on=["escalation"]), ops=hook.url)
        notifier = await scene.start()
        await bus.request_name(KEEPER_BUS_NAME)
        await scene.until(lambda: notifier.outbox.cursor("keeper"))
        about = {"target": "unit:nginx.service", "severity": "critical", "summary": "exit status 1"}
        keeper.record("asked", **about, remedy="restart-unit")
        await scene.until(lambda: len(hook.got) == 1)
        keeper.record("escalated", **about)
        await scene.until(lambda: len(hook.got) == 2)
        bus.disconnect()

    play(private_bus, tmp_path, work)
    assert "keeper recorded event 1 (asked), which rotad-notify does not understand" in hook.subjects[0]
    assert "unit:nginx.service needs a person" in hook.subjects[1]


def test_what_the_keeper_finds_before_it_can_be_asked(
    private_bus: str, tmp_path: Path, hook: Webhook
) -> None:
    """It takes its name, works, and only then has an object; nothing was ever heard of it before."""

    async def work(scene: Scene) -> None:
        bus = await connect(user=True, address=scene.address)
        keeper = Keeper(bus)
        keeper.record("found", at=1, target="unit:old.service", summary="long before")
        scene.declare(rules(on=["failure"]), ops=hook.url)
        await scene.start()
        keeper.deaf = True
        await bus.request_name(KEEPER_BUS_NAME)
        await asyncio.sleep(0.5)
        keeper.events.append({**keeper.events[0], "seq": 2, "at": time.time_ns() // 1000})
        keeper.events[1]["data"] = {"target": "unit:new.service", "summary": "just now"}
        keeper.deaf = False
        await scene.until(lambda: hook.got)
        await asyncio.sleep(0.3)
        bus.disconnect()

    play(private_bus, tmp_path, work)
    assert [one.partition("] ")[2] for one in hook.subjects] == ["unit:new.service: just now"]


def test_on_the_bus(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        bus = await connect(user=True, address=scene.address)

        async def ask(member: str, signature: str = "", *body: Any) -> Message:
            message = Message(
                destination=NOTIFIER_BUS_NAME,
                path=NOTIFIER_PATH,
                interface=NOTIFIER_INTERFACE,
                member=member,
                signature=signature,
                body=list(body),
            )
            reply = await asyncio.wait_for(bus.call(message), 20)
            assert reply is not None
            return reply

        reply = await ask("Test", "s", "ops")
        assert plain(reply.body)[0] > 0
        assert hook.subjects[0].endswith("test of the channel ops")
        reply = await ask("Test", "s", "oops")
        assert reply.error_name == "org.rota1.Error.NotFound"
        assert reply.body == ["no such channel: oops\nThere are ops."]
        hook.status = 500
        reply = await ask("Test", "s", "ops")
        assert reply.error_name == "org.rota1.Error.Failed"
        assert "500" in reply.body[0]
        assert "geheimnis" not in reply.body[0]
        status = json.loads((await ask("Status")).body[0])
        assert [one["source"] for one in status["sources"]] == ["rotad", "keeper"]
        assert set(status) == {"channels", "sources", "messages"}
        for wrong in (await ask("Nothing"), await ask("Test", "i", 1), await ask("Test")):
            assert wrong.message_type is MessageType.ERROR
            assert "Traceback" not in wrong.body[0]
        bus.disconnect()

    play(private_bus, tmp_path, work)


def test_a_stranger_does_not_wake_it(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        await asyncio.sleep(0.3)
        before, stranger = scene.rotad.reads, await connect(user=True, address=scene.address)
        for _ in range(20):
            await stranger.send(
                Message.new_signal(MANAGER_PATH, MANAGER_INTERFACE, "EventsRecorded", "aa{sv}", [[]])
            )
            await asyncio.sleep(0.02)
        stranger.disconnect()
        assert scene.rotad.reads == before
        scene.rotad.ran(1, status=1)
        await scene.until(lambda: hook.got)

    play(private_bus, tmp_path, work)


def test_who_never_answers_is_asked_again(private_bus: str, tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        mute, ours = [await connect(user=True, address=scene.address) for _ in range(2)]
        mute.add_message_handler(lambda message: message.interface == KEEPER_INTERFACE)
        await mute.request_name(KEEPER_BUS_NAME)
        source = Source(ours, "keeper", KEEPER, asyncio.Event(), patience=0.3)
        async with asyncio.timeout(10):
            with pytest.raises(RotaError, match=r"no answer within 0\.3 s") as caught:
                await source.events(0)
        assert caught.value.exit_code is Exit.UNREACHABLE
        mute.disconnect()
        ours.disconnect()

    play(private_bus, tmp_path, work)


def test_the_bus_goes_down_while_it_sends(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    """It ends, to be started again; but what is under way goes out first, and is marked."""

    async def work(scene: Scene) -> None:
        hook.hang = 1.5
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        scene.rotad.ran(1, status=1)
        assert scene.notifier is not None
        outbox, task = scene.notifier.outbox, scene.task
        await scene.until(lambda: [one for one in outbox.deliveries(1) if one["attempts"]])
        (pid,) = await ask_bus(scene.notifier._bus, "GetConnectionUnixProcessID", "org.freedesktop.DBus")
        os.kill(pid, signal.SIGKILL)
        assert task is not None
        async with asyncio.timeout(20):
            with pytest.raises(RotaError, match="the connection to the bus was lost"):
                await task

    play(private_bus, tmp_path, work)
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        assert db.execute("SELECT state, cut_off FROM messages").fetchall() == [("sent", 0)]
    assert len(hook.got) == 1


def test_who_comes_second_changes_nothing(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    """What the first is sending must not be taken for cut off, nor what only it knows be given up."""

    async def work(scene: Scene) -> None:
        hook.hang = 1.5
        scene.declare(rules(), ops=hook.url)
        notifier = await scene.start()
        scene.rotad.ran(1, status=1)
        await scene.until(lambda: [one for one in notifier.outbox.deliveries(1) if one["attempts"]])
        (scene.folder / "other").mkdir()
        table = rules(channels=["other"])
        table["channels"] = {"other": table["channels"]["ops"]}
        (scene.folder / "other/rules").write_text(json.dumps(table))
        second = Notifier(scene.folder, scene.folder / "other", user=True, address=scene.address)
        with pytest.raises(RotaError, match="another rotad-notify has the name"):
            await second.run()
        assert notifier.outbox.deliveries(1)[0]["state"] == "sending"
        await scene.until(lambda: notifier.outbox.deliveries(1)[0]["state"] == "sent")

    play(private_bus, tmp_path, work)
    assert len(hook.got) == 1
    assert "second time" not in hook.got[0]["message"]


def test_nothing_declared(tmp_path: Path) -> None:
    with pytest.raises(RotaError) as caught:
        Notifier(tmp_path, tmp_path / "none", user=True)
    assert caught.value.exit_code is Exit.USAGE
    (tmp_path / "rules").write_text("{}")
    with pytest.raises(RotaError, match="another version"):
        Notifier(tmp_path, tmp_path, user=True)
