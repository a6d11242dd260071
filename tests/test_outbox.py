"""The outbox: nothing is lost and at most doubled, whenever rotad-notify dies; and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.database import FullError
from rota.errors import RotaError
from rota.events import Run
from rota.grouping import Ahead
from rota.hearing import Hearing
from rota.interface import run_table
from rota.notify import Outcome
from rota.outbox import Cursor, Outbox, Told, open_outbox
from rota.routes import OWN, Channel, Happening, Rate, Route, Rules
from rota.sending import Worker
from rota.sources import Page, Source
from rota.telling import Standing
from rota.wording import Text

S = 1_000_000
NOW = 1_796_029_200 * S
CHANNELS = ("ops", "pager")
RULES = Rules(
    {name: Channel(name, Rate(1000, S)) for name in CHANNELS},
    (Route("r", CHANNELS, ("failure", "recovery"), group=0),),
)


def named(number: int) -> str:
    return f"{number:08x}".ljust(32, "a")


class Killed(BaseException):
    """The process is gone."""


class Fate:
    """Dies at chosen steps, counted through."""

    def __init__(self, steps: list[int]) -> None:
        self.steps = set(steps)
        self.count = 0

    def step(self) -> None:
        self.count += 1
        if self.count in self.steps:
            raise Killed


class Mortal(Outbox):
    """An outbox whose process may die before, within and after each transaction."""

    fate = Fate([])

    @contextmanager
    def _transaction(self, *, lasting: bool) -> Iterator[None]:
        self.fate.step()
        with super()._transaction(lasting=lasting):
            yield
            self.fate.step()
        self.fate.step()


class Recorded(Source):
    """Events that are there; pages of a few, so that a death may fall between two."""

    def __init__(self, states: list[tuple[str, bool]]) -> None:
        self.name = "rotad"
        self.runs = {
            named(n): Run(named(n), agent, "succeeded" if well else "failed", ended=NOW + n, archived=True)
            for n, (agent, well) in enumerate(states)
        }
        steps = [(run, kind) for run in self.runs.values() for kind in ("activated", "archived", "output")]
        self.all = [
            {"seq": n + 1, "at": NOW, "agent": run.agent, "run": run.id, "kind": kind, "data": {}}
            for n, (run, kind) in enumerate(steps)
        ]

    async def events(self, since: int) -> Page:
        found = self.all[since : since + 4]
        return Page("store", 1, len(self.all), found, since + 4 < len(self.all))

    async def run(self, run: str) -> dict[str, Any] | None:
        return run_table(self.runs[run]._replace(output_filed=True))


async def life(path: Path, source: Recorded, sent: list[tuple[str, Text]], fate: Fate) -> None:
    """File and send until nothing is left to do, or death."""
    box = Mortal(path)
    box.fate = fate
    try:
        box.recover(0)
        await Hearing(source, asyncio.Event(), box, RULES, lambda _: None).catch_up()

        async def nothing(_: Happening) -> list[str]:
            return []

        def sender(channel: str) -> Callable[[Path, Text, float], Any]:
            async def deliver(_: Path, text: Text, __: float) -> Outcome:
                fate.step()
                sent.append((channel, text))
                fate.step()
                return Outcome()

            return deliver

        for name in CHANNELS:
            worker = Worker(
                RULES.channels[name], RULES, box, path, host="nas", user=False, patience=1,
                chance=lambda: 0.5, tail=nothing, deliver=sender(name),
            )  # fmt: skip
            while await worker.step() == 0:
                pass
    finally:
        box.close()


def filed(path: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as db:
        happenings = [(key, json.loads(data)) for key, data in db.execute("SELECT key, data FROM happenings")]
        return [*happenings, *db.execute("SELECT * FROM standings")]


# A hundred lives of some twenty flushes each: what is tested is the order of steps, not the disk.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
STATES = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(STATES, st.lists(st.integers(1, 60), max_size=4))
def test_killed_at_any_step_nothing_is_lost_and_little_doubled(
    states: list[tuple[str, bool]], deaths: list[int]
) -> None:
    with TemporaryDirectory(dir=MEMORY) as folder:
        source = Recorded(states)
        undisturbed, disturbed = Path(folder, "a.db"), Path(folder, "b.db")
        for path in (undisturbed, disturbed):
            box = Outbox(path)
            box.file("rotad", Cursor("store", 0, NOW), now=NOW)
            box.close()
        expected: list[tuple[str, Text]] = []
        asyncio.run(life(undisturbed, source, expected, Fate([])))
        sent: list[tuple[str, Text]] = []
        fate, lives = Fate(deaths), 0
        while True:
            lives += 1
            try:
                asyncio.run(life(disturbed, source, sent, fate))
                break
            except Killed:
                continue
        assert filed(disturbed) == filed(undisturbed)
        for channel in CHANNELS:
            told = [text.body for to, text in sent if to == channel]
            wanted = [text.body for to, text in expected if to == channel]
            assert len(wanted) <= 1, "without a death, all is one message"
            for run in source.runs:
                times = sum(run[:12] in body for body in told)
                assert bool(times) is any(run[:12] in body for body in wanted)
                assert times <= lives
            again = [body for body in told if "may be the second time" in body]
            assert len(told) - len(set(told)) <= len(again) or lives == 1


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    found = Outbox(tmp_path / "outbox.db")
    yield found
    found.close()


def happening(number: int, *, critical: bool = False) -> Happening:
    severity = "critical" if critical else "warning"
    return Happening(
        f"run:{number}", ("failure",), severity, NOW, "a", "failed", agent="a", run=named(number)
    )


def file(box: Outbox, *numbers: int, way: tuple[str, str] = ("ops", "r"), seq: int = 1) -> int:
    told = [Told(happening(number), (way,), NOW) for number in numbers]
    return box.file("rotad", Cursor("s", seq, NOW), told, now=NOW)


def test_filed_once_whoever_tells_it_again(box: Outbox) -> None:
    assert file(box, 1, 2) == 2
    assert file(box, 2, 3, seq=5) == 1
    assert [one.id for one in box.waiting("ops", "r")] == [1, 2, 3]
    assert box.cursor("rotad") == Cursor("s", 5, NOW)
    assert box.cursor("keeper") is None
    assert box.happenings([1, 3]) == [happening(1), happening(3)]


def test_a_message_from_made_to_sent(box: Outbox) -> None:
    file(box, 1, 2, 3)
    box.compose("ops", "r", [1, 2], Text("subject", "body"), NOW)
    assert [one.id for one in box.waiting("ops", "r")] == [3]
    assert box.ahead("ops", "r") == [Ahead(0, critical=False)]
    assert box.ahead("ops", OWN) == []
    assert box.begin("pager", NOW) is None
    assert box.begin("ops", NOW - 1) is None
    begun = box.begin("ops", NOW)
    assert begun is not None
    assert (begun.text, begun.attempts, begun.cut_off) == (Text("subject", "body"), 1, 0)
    assert box.begin("ops", NOW) is None
    box.retry(begun.id, "refused", NOW + 7)
    assert (box.next_at("ops"), box.overview("ops")["error"]) == (NOW + 7, "refused")
    assert box.overview("ops")["waiting"] == 3
    again = box.begin("ops", NOW + 7)
    assert again is not None
    assert again.attempts == 2
    box.sent(again.id, NOW + 8)
    about = box.overview("ops")
    assert (about["waiting"], about["last_sent"], about["error"], about["given_up"]) == (1, NOW + 8, "", 0)
    assert box.ahead("ops", "r") == []
    assert box.sends("ops", "r", NOW) == ([NOW], [NOW])
    assert box.sends("ops", OWN, NOW) == ([NOW], [])


def test_what_is_ahead_and_what_goes_first(box: Outbox) -> None:
    told = [Told(happening(number, critical=number == 2), (("ops", "r"),), NOW) for number in (1, 2, 3)]
    box.file("rotad", Cursor("s", 1, NOW), told, now=NOW)
    box.compose("ops", "r", [1], Text("old", "b"), NOW)
    old = box.begin("ops", NOW)
    assert old is not None
    box.retry(old.id, "refused", NOW + 1)
    box.compose("ops", "r", [2, 3], Text("new", "b"), NOW + 2)
    assert box.ahead("ops", "r") == [Ahead(1, critical=False), Ahead(0, critical=True)]
    subjects = [begun.text.subject for _ in range(2) if (begun := box.begin("ops", NOW + 2))]
    assert subjects == ["new", "old"]


def test_what_was_being_sent_is_taken_up_again(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "o.db")
    file(first, 1)
    first.compose("ops", "r", [1], Text("s", "b"), NOW)
    assert first.begin("ops", NOW)
    second = Outbox(tmp_path / "o.db")
    assert second.recover(NOW) == 1
    again = second.begin("ops", NOW)
    assert again is not None
    assert (again.attempts, again.cut_off) == (2, 1)
    first.close()
    second.close()


def test_what_is_cut_off_again_and_again_lets_others_go_first(box: Outbox) -> None:
    file(box, 1, 2)
    box.compose("ops", "r", [1], Text("deadly", "b"), NOW)
    waits = []
    for _ in range(3):
        now = max(box.next_at("ops") or 0, NOW)
        assert box.begin("ops", now)
        assert box.recover(now) == 1
        waits.append((box.next_at("ops") or 0) - now)
    assert waits == [0, 10 * S, 20 * S]
    box.compose("ops", "r", [2], Text("other", "b"), NOW)
    other = box.begin("ops", NOW + 31 * S)
    assert other is not None
    assert other.text.subject == "other"


def test_given_up_and_abandoned(box: Outbox) -> None:
    file(box, 1, 2)
    file(box, 3, way=("gone", "r"))
    number = box.compose("ops", "r", [1], Text("s", "b"), NOW)
    box.give_up(number, "nobody there", NOW + 1)
    assert box.overview("ops")["given_up"] == 1
    assert box.deliveries(5)[0]["error"] == "nobody there"
    assert box.abandon(["ops"], NOW) == 1
    assert box.lanes() == [("ops", "r")]


def test_output_that_comes_later(box: Outbox) -> None:
    box.file("rotad", Cursor("s", 1, NOW), [Told(happening(1), (("ops", "r"),), NOW + 5 * S)], now=NOW)
    assert box.waiting("ops", "r")[0].ready == NOW + 5 * S
    box.settle(named(1), 'the "last" line', NOW + S)
    assert box.waiting("ops", "r")[0].ready == NOW + S
    assert box.happenings([1])[0].last_line == 'the "last" line'


def test_what_a_later_version_filed_is_told_as_far_as_it_is_known(box: Outbox) -> None:
    file(box, 1)
    box._rows("UPDATE happenings SET data = json_set(data, '$.colour', 'red')")
    assert box.happenings([1]) == [happening(1)]


def test_standings(box: Outbox) -> None:
    box.file("rotad", Cursor("s", 1, NOW), standings={"a": Standing(1, 2, "x"), "b": None}, now=NOW)
    assert box.standings() == {"a": Standing(1, 2, "x")}
    box.file("rotad", Cursor("s", 2, NOW), standings={"a": None}, now=NOW)
    assert box.standings() == {}


def test_what_is_old_is_forgotten_but_nothing_that_waits(box: Outbox) -> None:
    file(box, 1, 2)
    number = box.compose("ops", "r", [1], Text("s", "b"), NOW)
    box.sent(number, NOW)
    box.prune(NOW)
    assert box.known("run:1")
    box.prune(NOW + 1)
    assert not box.known("run:1")
    assert box.known("run:2")
    assert box.deliveries(5) == []


def test_a_damaged_outbox_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    box, damage = open_outbox(path)
    assert damage is not None
    assert "outbox.db.damaged-" in damage
    assert box.cursor("rotad") is None
    box.close()
    assert len(list(tmp_path.glob("outbox.db.damaged-*"))) == 1


def test_a_full_disk_changes_nothing(box: Outbox) -> None:
    file(box, 1)
    pages = box._rows("PRAGMA page_count")[0][0]
    box._rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(FullError) as caught:
        file(box, *range(2, 500), seq=9)
    assert isinstance(caught.value, RotaError)
    assert box.cursor("rotad") == Cursor("s", 1, NOW)
    assert len(box.waiting("ops", "r")) == 1
    box._rows("PRAGMA max_page_count = 100000")
    assert file(box, *range(2, 500), seq=9) == 498


def test_it_is_on_the_disk_before_anything_is_sent(box: Outbox) -> None:
    file(box, 1)
    assert box._rows("PRAGMA synchronous") == [(2,)]
    assert box._rows("PRAGMA journal_mode") == [("wal",)]
