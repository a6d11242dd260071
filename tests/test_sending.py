"""The worker of a channel, by a clock of the test's own and an outbox on a real disk, which may be full."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rota.database import FullError
from rota.notify import Outcome
from rota.outbox import Cursor, Outbox, Told
from rota.routes import KINDS, Channel, Happening, Rate, Route, Rules
from rota.sending import Worker
from rota.wording import Text

S = 1_000_000
MINUTE, HOUR = 60 * S, 3600 * S
NOW = 1_796_029_200 * S
WELL = Outcome()


@contextmanager
def full_disk() -> Iterator[None]:
    """Let every write to a file fail (setrlimit(2); Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@dataclass
class Service:
    """Takes messages, or does not: `answers` says what by a message's subject and body."""

    answers: Callable[[Text], Outcome] = lambda _: WELL
    told: list[Text] = field(default_factory=list)
    tries: int = 0

    async def deliver(self, _: Path, text: Text, __: float) -> Outcome:
        self.tries += 1
        outcome = self.answers(text)
        if outcome.ok:
            self.told.append(text)
        return outcome


async def no_tail(_: Happening) -> list[str]:
    return []


class House:
    """One channel with one route."""

    def __init__(self, path: Path, group: int = 0, channel: Channel | None = None) -> None:
        self.channel = channel or Channel("ops")
        self.rules = Rules({"ops": self.channel}, (Route("r", ("ops",), KINDS, group=group),))
        self.service = Service()
        self.now = NOW
        self._path = path
        self.box = Outbox(path)
        self.worker = self.made()

    def made(self) -> Worker:
        return Worker(
            self.channel, self.rules, self.box, self._path, host="nas", user=False, patience=1,
            chance=lambda: 0.5, tail=no_tail, deliver=self.service.deliver,
            now=lambda: self.now,
        )  # fmt: skip

    def file(self, *keys: str, critical: bool = False) -> None:
        severity, at = "critical" if critical else "warning", self.now
        told = [
            Told(Happening(key, ("failure",), severity, at, "unit:a", key), (("ops", "r"),), at)
            for key in keys
        ]
        self.box.file("keeper", Cursor("s", 1, at), told, now=at)

    async def settle(self) -> None:
        while await self.worker.step() == 0:
            pass

    def states(self) -> list[str]:
        return [one["state"] for one in reversed(self.box.deliveries(100))]

    @property
    def said(self) -> str:
        return "".join(text.body for text in self.service.told)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "outbox.db")
    yield made
    made.box.close()


@pytest.mark.parametrize("outcome", [WELL, Outcome("503"), Outcome("gone")])
def test_what_came_of_a_message_is_noted_when_there_is_room_again(house: House, outcome: Outcome) -> None:
    """Else the message would be under way for ever, and nothing of its lane behind it."""
    house.channel = Channel("ops", expiry=0) if outcome.error == "gone" else house.channel
    house.worker = house.made()

    async def work() -> None:
        house.file("one")
        with full_disk_after(house, outcome), pytest.raises(FullError):
            await house.worker.step()
        with full_disk(), pytest.raises(FullError):
            await house.worker.step()
        assert house.states() == ["sending"]
        assert house.service.tries == 1, "nothing is begun while it is not known what came of the last"
        house.service.answers = lambda _: WELL
        house.file("two", "three")
        await house.settle()

    asyncio.run(work())
    assert house.states()[0] == {"": "sent", "503": "waiting", "gone": "given-up"}[outcome.error]
    if outcome.error != "503":
        assert "two" in house.said
        assert "three" in house.said
    assert house.said.count("unit:a one") == (outcome.ok), "it is not sent twice"


@contextmanager
def full_disk_after(house: House, outcome: Outcome) -> Iterator[None]:
    """Let the disk be full from when the next message goes out on."""
    with ExitStack() as later:

        def answers(_: Text) -> Outcome:
            later.enter_context(full_disk())
            return outcome

        house.service.answers = answers
        yield


def test_a_message_that_is_refused_for_good_lets_the_others_pass(house: House) -> None:
    house.service.answers = lambda text: Outcome("400") if "poison" in text.body else WELL
    moments: dict[str, int] = {}

    async def work() -> None:
        house.file("poison")
        while len(moments) < 2:
            pause = await house.worker.step()
            for word in ("fire", "smoke"):
                if word in house.said:
                    moments.setdefault(word, house.now - NOW)
            if house.now == NOW and pause:
                house.now += MINUTE
                house.file("smoke")
                house.file("fire", critical=True)
                continue
            house.now += round(pause * S)

    asyncio.run(work())
    assert moments["fire"] == MINUTE, "what is critical waits for nothing else"
    assert 8 * MINUTE <= moments["smoke"] <= 15 * MINUTE
    assert house.states()[0] == "waiting", "and it is tried on"


YEARS = 10 * 365 * 24 * HOUR


@pytest.mark.parametrize("jump", [72 * HOUR, YEARS])
def test_the_clock_is_set_forward_while_a_message_waits(house: House, jump: int) -> None:
    """As at boot on a machine whose clock stands still while it is off."""
    house.service.answers = lambda _: WELL if house.service.tries > 4 else Outcome("no route to host")

    async def work() -> None:
        house.file("fire", critical=True)
        await house.settle()
        house.now += jump
        while not house.service.told:
            assert house.now - NOW - jump < 5 * MINUTE
            house.now += round(await house.worker.step() * S)

    asyncio.run(work())
    assert house.states() == ["sent"]


@pytest.mark.parametrize("state", ["grouping", "waiting", "rate"])
@pytest.mark.parametrize("jump", [HOUR, YEARS])
def test_the_clock_is_set_back_while_something_waits(tmp_path: Path, state: str, jump: int) -> None:
    house = House(tmp_path / "outbox.db", 30 * S, Channel("ops", Rate(1 if state == "rate" else 9, HOUR)))
    house.service.answers = lambda _: Outcome("503") if state == "waiting" and house.now > NOW - S else WELL

    async def work() -> None:
        house.file("one")
        if state != "grouping":
            house.now += 30 * S
            await house.settle()
        if state == "rate":
            house.file("two")
        house.now -= jump
        began = house.now
        while house.states()[-1:] != ["sent"] or house.box.waiting("ops", "r"):
            house.now += max(round(await house.worker.step() * S), 1)
            assert house.now - began < 2 * MINUTE

    asyncio.run(work())
    house.box.close()


def test_a_message_that_ends_the_process_each_time_is_given_up(house: House) -> None:
    async def work() -> None:
        house.file("deadly")
        await house.worker._compose()
        for _ in range(1000):
            due = house.box.next_at("ops")
            if due is None:
                break
            house.now = max(house.now, due)
            if house.now - NOW < 48 * HOUR:
                assert house.box.begin("ops", house.now)
                house.box.recover(house.now)
            else:
                await house.worker.step()

    asyncio.run(work())
    assert house.states() == ["given-up"]
    assert house.service.tries == 0


def test_a_message_is_given_up_when_it_is_old_and_was_tried_for_long(house: House) -> None:
    house.service.answers = lambda _: Outcome("503")

    async def work() -> None:
        house.file("fire", critical=True)
        while not house.states() or house.states() == ["waiting"]:
            house.now += round(await house.worker.step() * S)

    asyncio.run(work())
    assert house.states() == ["given-up"]
    assert 48 * HOUR <= house.now - NOW < 49 * HOUR


def test_a_full_disk_is_complained_of_once_and_what_is_out_is_marked_at_the_end(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the disk is really full; only the pauses are not those of ten seconds
    monkeypatch.setattr("rota.sending._FULL", 0.01)

    async def work() -> None:
        task = asyncio.create_task(house.worker.forever())
        house.file("one")
        with full_disk():
            await asyncio.sleep(0.3)
        async with asyncio.timeout(10):
            while house.states() != ["sent"]:
                await asyncio.sleep(0.01)
        monkeypatch.setattr("rota.sending._FULL", 60)
        with full_disk_after(house, WELL):
            house.file("two")
            house.worker.wake()
            async with asyncio.timeout(10):
                while house.states() != ["sent", "sending"] or house.service.tries < 2:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
        house.worker.stop()
        await task

    with caplog.at_level("ERROR"):
        asyncio.run(work())
    assert house.states() == ["sent", "sent"]
    assert len(caplog.records) == 2
    assert len({one.getMessage() for one in caplog.records}) == 1
