"""rotad-notify on a private bus: a rotad of plain data on one side, real webhooks and mail on the other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota.bus import Exported
from rota.errors import Exit, RotaError
from rota.events import Event, Run, fold
from rota.interface import Events, vardict
from rota.names import (
    BUS_NAME,
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
from rota.store import Recorded
from rota.systemd import ask_bus, connect, plain
from tests.bus.house import House
from tests.sinks import Webhook, mailbox, webhook

NOW = 1_796_029_200_000_000
Table = dict[str, Any]


def named(number: int) -> str:
    """Return the id of a run."""
    return f"{number:08x}".ljust(32, "a")


class Rotad(House):
    """A rotad that records what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.store = "aaaa"
        self.recorded: list[Recorded] = []
        self.runs: dict[str, Run] = {}
        self.first = 1
        self.reads = 0
        self.exported: Exported | None = None
        self._bus: MessageBus | None = None

    async def come(self, address: str) -> None:
        """Take the name on the bus."""
        self._bus = await connect(user=True, address=address)
        self.exported = Exported(self._bus, self)
        await self._bus.request_name(BUS_NAME)

    def go(self) -> None:
        """Leave the bus."""
        if self._bus is not None:
            self._bus.disconnect()
        self._bus = self.exported = None

    def record(self, *events: Event) -> None:
        made = [Recorded(len(self.recorded) + 1 + n, event) for n, event in enumerate(events)]
        self.recorded += made
        for event in events:
            self.runs[event.run] = fold(self.runs.get(event.run), event)
        if self.exported is not None:
            self.exported.events_recorded(made)

    def ran(
        self, number: int, status: int = 0, agent: str = "backup-check", said: str = "the last line"
    ) -> str:
        """Record a whole run."""
        run = named(number)
        at = NOW + number * 1_000_000
        end = Event("failed", agent, run, at, {"result": "exit-code"})
        if status == 0:
            end = Event("deactivated", agent, run, at, {})
        self.record(
            Event("activated", agent, run, at - 3_000_000, {"boot": "b"}),
            end,
            Event("archived", agent, run, at, {"code": "exited", "status": status}),
            Event("output", agent, run, at, {"last_line": said}),
        )
        return run

    def events(self, since: int, limit: int, _: str | None) -> Events:
        self.reads += 1
        found = [one for one in self.recorded if one.seq > since and one.seq >= self.first]
        return Events(self.store, self.first, len(self.recorded), found[: min(limit, 500)])

    def get_run(self, prefix: str) -> Run:
        if prefix not in self.runs:
            raise RotaError("no such run", exit_code=Exit.NOT_FOUND)
        return self.runs[prefix]


def rules(**routes: Any) -> Table:
    route = {"name": "r", "channels": ["ops"], "on": ["failure", "recovery", "missed"], "group": 0, **routes}
    channel = {"rate": [30, 3_600_000_000], "expiry": 172_800_000_000}
    return {"channels": {"ops": channel}, "routes": [route], "agents": {}}


@dataclass
class Scene:
    """A bus, a rotad, what is declared, and rotad-notify when it is there."""

    address: str
    folder: Path
    rotad: Rotad = field(default_factory=Rotad)
    notifier: Notifier | None = None
    task: asyncio.Task[None] | None = None

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials"

    def declare(self, table: Table, **urls: str) -> None:
        self.credentials.mkdir(exist_ok=True)
        (self.credentials / "rules").write_text(json.dumps(table))
        for name, url in urls.items():
            (self.credentials / f"channel.{name}").write_text(url)

    async def start(self, patience: float = 20, **more: Any) -> Notifier:
        """Start rotad-notify, and wait until it has heard of rotad."""
        self.notifier = Notifier(
            self.folder, self.credentials, user=True, address=self.address, patience=patience, **more
        )
        self.task = asyncio.create_task(self.notifier.run())
        await self.until(self._heard)
        return self.notifier

    def _heard(self) -> bool:
        if self.task is not None and self.task.done():
            self.task.result()
        if self.notifier is None or NOTIFIER_BUS_NAME is None:
            return False
        if self.rotad.exported is None:
            return bool(self.notifier._hearings)
        return self.notifier.outbox.cursor("rotad") is not None

    def channel(self) -> Table:
        """Return how the first channel does."""
        assert self.notifier is not None
        found: Table = json.loads(self.notifier.status())["channels"][0]
        return found

    def heard_all(self) -> bool:
        """Tell whether all that rotad recorded was heard."""
        assert self.notifier is not None
        return bool(json.loads(self.notifier.status())["sources"][0]["seq"] == len(self.rotad.recorded))

    async def stop(self) -> None:
        if self.notifier is not None and self.task is not None:
            self.notifier.stop()
            await self.task

    async def until(self, true: Callable[[], object], seconds: float = 40) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                if self.task is not None and self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)


def play(address: str, folder: Path, work: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene(address, folder)
        await scene.rotad.come(address)
        try:
            await work(scene)
        finally:
            if scene.task is not None and not scene.task.done():
                await scene.stop()
            scene.rotad.go()

    asyncio.run(main())


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as sink:
        yield sink


def test_a_failure_and_what_follows(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.rotad.ran(1, status=9)  # before anybody listened
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        scene.rotad.ran(2, status=3)
        await scene.until(lambda: len(hook.got) == 1)
        scene.rotad.ran(3, status=3)
        await scene.until(lambda: len(hook.got) == 2)
        scene.rotad.ran(4)
        await scene.until(lambda: len(hook.got) == 3)
        scene.rotad.ran(5)
        await asyncio.sleep(0.5)

    play(private_bus, tmp_path, work)
    first, second, third = (one.partition("] ")[2] for one in hook.subjects)
    assert first == "backup-check failed: exit status 3 after 3s"
    assert second == "backup-check failed: exit status 3 after 3s, for the 2nd time in a row"
    assert third == "backup-check is well again, after 2 failures in 2s"
    assert "Output:\n  the last line\n" in hook.got[0]["message"]
    assert f"rota --user logs {named(2)[:12]}" in hook.got[0]["message"]


def test_a_hundred_failures_are_one_message(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(group=3_000_000), ops=hook.url)
        await scene.start()
        for number in range(100):
            scene.rotad.ran(number, status=1, agent=f"agent-{number % 7}")
        await scene.until(lambda: hook.got and scene.heard_all() and scene.channel()["waiting"] == 0)

    play(private_bus, tmp_path, work)
    (subject,) = hook.subjects
    assert "100 failures: agent-" in subject
    assert "and 4 more" in subject


def test_what_happens_while_rotad_is_away_or_we_are(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        scene.rotad.go()
        await asyncio.sleep(0.2)
        scene.rotad.ran(1, status=1)
        await scene.rotad.come(scene.address)
        await scene.until(lambda: len(hook.got) == 1)
        await scene.stop()
        scene.rotad.ran(2, status=1)
        await scene.start()
        await scene.until(lambda: len(hook.got) == 2)
        await scene.stop()
        # Its store is lost, and what was in the journal has other numbers.
        again = scene.rotad.recorded
        scene.rotad.store, scene.rotad.recorded, scene.rotad.runs = "bbbb", [], {}
        scene.rotad.record(*(one.event for one in again[4:]))
        await scene.start()
        scene.rotad.ran(3, status=1)
        await scene.until(lambda: len(hook.got) == 3)
        assert "for the 3rd time in a row" in hook.subjects[2], "what is heard again is not counted again"
        await asyncio.sleep(0.3)

    play(private_bus, tmp_path, work)
    assert len(hook.got) == 3
    assert [named(number)[:12] in hook.got[number - 1]["message"] for number in (1, 2, 3)] == [True] * 3


def test_rotads_store_is_lost_and_its_clock_was_set_back(
    private_bus: str, tmp_path: Path, hook: Webhook
) -> None:
    """What was heard last was of a day to come; what is recorded anew must not wait for that day."""

    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        scene.rotad.ran(10 * 365 * 86_400, status=1)
        await scene.until(lambda: len(hook.got) == 1)
        scene.rotad.store, scene.rotad.recorded = "bbbb", []
        scene.rotad.ran(1, status=2)
        await scene.until(lambda: len(hook.got) == 2)
        scene.rotad.ran(-30 * 86_400, status=3)  # and it is set back once more
        await scene.until(lambda: len(hook.got) == 3)

    play(private_bus, tmp_path, work)
    assert ["exit status 2" in hook.subjects[1], "exit status 3" in hook.subjects[2]] == [True, True]


def test_events_that_were_forgotten_are_told_of(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        scene.rotad.ran(1)
        await scene.start()
        await scene.stop()
        for number in range(2, 6):
            scene.rotad.ran(number, status=1)
        scene.rotad.first = 17
        await scene.start()
        await scene.until(lambda: hook.got)
        await scene.stop()
        scene.rotad.ran(6, status=1)
        scene.rotad.first = 25  # of which nothing is left
        notifier = await scene.start()
        await scene.until(lambda: len(hook.got) == 2)
        for hearing in notifier._hearings:
            hearing.look()
        scene.rotad.ran(7, status=1)
        await scene.until(lambda: len(hook.got) == 3)

    play(private_bus, tmp_path, work)
    first, second, third = (one["message"] for one in hook.got)
    assert "events 5 to 16 were forgotten" in first
    assert "exit status 1" in first
    assert "events 21 to 24 were forgotten" in second
    assert "forgotten" not in third


def test_a_channel_that_hangs_or_fails_keeps_no_other_waiting(private_bus: str, tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        with webhook() as good, webhook() as bad, webhook() as slow, mailbox() as (url, mails):
            bad.status, slow.hang = 500, 100
            table = rules(channels=["slow", "bad", "none", "good", "mail"])
            table["channels"] = dict.fromkeys(table["routes"][0]["channels"], table["channels"]["ops"])
            scene.declare(table, bad=bad.url, slow=f"{slow.url}?rto=90", good=good.url, mail=url, none="#")
            notifier = await scene.start(patience=90, grace=0.2)
            scene.rotad.ran(1, status=1)

            def told() -> dict[str, Table]:
                return {one["channel"]: one for one in json.loads(notifier.status())["channels"]}

            await scene.until(
                lambda: good.got and mails and told()["bad"]["error"] and told()["none"]["error"]
            )
            states = {one["channel"]: one["state"] for one in json.loads(notifier.status())["messages"]}
            assert states["slow"] == "sending"
            assert told()["good"]["error"] == ""
            await scene.until(lambda: told()["good"]["last_sent"] and told()["mail"]["last_sent"])
            assert "500" in told()["bad"]["error"]
            assert "file of the channel was not there" in told()["none"]["error"]
            assert {name: one["waiting"] for name, one in told().items()} == {
                **dict.fromkeys(("bad", "slow", "none"), 1),
                **dict.fromkeys(("good", "mail"), 0),
            }
            assert "geheimnis" not in notifier.status()
            # It ends all the same; and what was cut off is known to be.
            await scene.stop()
            assert len(good.got) == 1

    play(private_bus, tmp_path, work)


def test_a_channel_that_comes_back(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        hook.status = 503
        await scene.start(first_retry=300_000)
        scene.rotad.ran(1, status=1)
        await scene.until(lambda: scene.channel()["attempts"])
        for number in range(2, 6):
            scene.rotad.ran(number, status=1)
        await scene.until(lambda: scene.heard_all() and scene.channel()["attempts"] >= 3)
        assert hook.got == []
        hook.status = 200
        await scene.until(lambda: len(hook.got) == 2)
        await asyncio.sleep(0.5)

    play(private_bus, tmp_path, work)
    one, others = hook.got
    assert "backup-check failed: exit status 1" in one["title"]
    assert "4 failures: backup-check" in others["title"]


def test_given_up_and_said_so(
    private_bus: str, tmp_path: Path, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(scene: Scene) -> None:
        table = rules()
        table["channels"]["ops"]["expiry"] = 0
        scene.declare(table, ops=hook.url)
        hook.status = 503
        notifier = await scene.start()
        scene.rotad.ran(1, status=1)
        await scene.until(lambda: json.loads(notifier.status())["channels"][0]["given_up"] == 1)
        (message,) = json.loads(notifier.status())["messages"]
        assert message["state"] == "given-up"
        assert "503" in message["error"]

    play(private_bus, tmp_path, work)
    (told,) = [one.getMessage() for one in caplog.records if "given up" in one.getMessage()]
    assert "ops: message 1 was given up" in told
    assert "backup-check failed" in told
    assert "geheimnis" not in caplog.text


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
