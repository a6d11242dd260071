"""The keeper's ledger that is damaged, has no room, or cannot be opened."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
from rota_agents.home_keeper import core as core_module
from rota_agents.home_keeper import feed
from rota_agents.home_keeper.ledger import open_ledger
from rota_agents.home_keeper.messages import (
    Answer,
    Effect,
    Ended,
    Maintain,
    Observed,
    Reply,
    Tell,
    Tick,
)
from rota_agents.home_keeper.state import State
from rota_agents.home_keeper.words import Finding, Target

from rota.keeper_rules import Override
from rota.quantity import USEC
from tests.store_kit import forked

from .kit import NOON, WEB, finding, rules
from .ledgers import FAILS, HEALS, acts, clock, core, remembered, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def test_garbage_is_moved_aside_told_and_begun_anew(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))  # noqa: S311
    keeper = core(path)
    (told,) = [item.escalation for item in keeper.effects if isinstance(item, Tell)]
    assert "its ledger was damaged and is begun anew" in told.why
    assert str(path) in told.why
    assert len(list(path.parent.glob("ledger.db.damaged-*"))) == 1
    assert rows(path, "SELECT count(*) FROM events WHERE kind = 'ledger-anew'") == [(1,)]


def test_a_ledger_begun_anew_numbers_nothing_as_the_one_before_did(path: Path) -> None:
    """What was asked before may be answered after: from a message that is still there to be read."""
    asking = rules(Override(WEB, mode="ask"), strikes=("act", "escalate"))
    keeper = core(path, found=asking)
    keeper.handle(FAILS, clock(1))
    before = keeper.state.cases[WEB].ask
    assert before is not None
    keeper.close()
    path.write_bytes(b"no database, but some text in it")
    again = core(path, 10, asking)
    again.handle(FAILS, clock(11))
    after = again.state.cases[WEB].ask
    assert after is not None
    assert after.id >= NOON // USEC > before.id
    (reply,) = again.handle(Answer(before.id, True, "ada"), clock(12))
    assert isinstance(reply, Reply)
    assert not reply.done


@pytest.mark.parametrize(
    "script",
    [
        "UPDATE cases SET data = '{'",
        """UPDATE cases SET data = '{"strikes": "two"}'""",
        """UPDATE meta SET value = '[]' WHERE key = 'house'""",
        "DROP TABLE cases",
        "PRAGMA user_version = 99",
    ],
)
def test_a_state_that_is_none_is_damage(path: Path, script: str) -> None:
    keeper = core(path)
    keeper.handle(FAILS, clock(1))
    keeper.close()
    with sqlite3.connect(path) as db:
        db.executescript(script)
    _, state, damage = open_ledger(path)
    assert damage is not None
    assert state == State()


def test_damage_found_while_running_loses_nothing_that_is_remembered(path: Path) -> None:
    keeper = core(path)
    keeper.handle(FAILS, clock(1))
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE cases")
    told = [
        item.escalation.why for item in keeper.handle(Ended(1, "failed"), clock(2)) if isinstance(item, Tell)
    ]
    assert "no such table: cases" in told[0]
    assert keeper.ledger is not None
    assert remembered(keeper.ledger.load()) == remembered(keeper.state)
    assert [row["problem"] for row in keeper.ledger.findings()] == ["failed"]
    aside = [item.name for item in path.parent.glob("ledger.db.damaged-*")]
    assert len([name for name in aside if not name.endswith(("-wal", "-shm"))]) == 1


@pytest.mark.parametrize("set_back", [False, True])
def test_what_is_remembered_outlives_a_ledger_that_could_not_be_begun_anew_at_once(
    path: Path, set_back: bool
) -> None:
    found = rules(
        Override("unit:*"), strikes=("act", "act", "escalate"), attempts=1, cooldown=0, actions_per_hour=2
    )
    keeper = core(path, found=found)
    other = Observed("units", Target.parse("unit:b.service"), (finding("unit:b.service"),))
    assert acts(keeper.handle(FAILS, clock(1)) + keeper.handle(other, clock(1))) == [1, 2]
    keeper.handle(Ended(1, "ok"), clock(2))
    keeper.handle(Tick(), clock(33))
    keeper.handle(Maintain("disk:*", 3600 * USEC, "ada"), clock(34))
    before = keeper.state.cases[WEB]
    assert before.hands_off is not None
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE cases")
    third = Observed("units", Target.parse("unit:c.service"), (finding("unit:c.service"),))
    keeper._path = path.parent / "nowhere" / "ledger.db"  # where none can be made
    effects = keeper.handle(third, clock(40))
    assert (keeper.ledger, acts(effects)) == (None, [])
    keeper._path = path.with_name("new.db")
    (work,) = keeper.state.maintenance
    for second in range(101, 400, 3):  # the clock was set back by an hour and more meanwhile
        effects += keeper.handle(Tick(), clock(second, real=second - 3700 if set_back else second))
    if set_back:
        assert [item.until for item in keeper.state.maintenance] == [work.until - 3700 * USEC]
    assert acts(effects) == [], "the house has had its two actions, and WEB is let be"
    let_be = keeper.state.cases[WEB].hands_off
    assert let_be is not None
    assert (let_be.kind, let_be.why) == (before.hands_off.kind, before.hands_off.why)
    assert keeper.state.cases["unit:b.service"].underway is not None
    assert "no such table: cases" in " ".join(item.why for item in keeper.state.escalations)
    assert keeper.ledger is not None
    assert remembered(keeper.ledger.load()) == remembered(keeper.state)
    assert [row["id"] for row in keeper.ledger.actions() if row["outcome"] is None] == [2]
    escalated = [one.event.data["id"] for one in keeper.ledger.escalated()]
    assert sorted(escalated) == sorted(item.id for item in keeper.state.escalations)
    keeper.handle(Ended(2, "ok"), clock(400))
    assert [row["outcome"] for row in keeper.ledger.actions()] == ["ok"]


def test_random_damage_is_never_a_traceback(path: Path, tmp_path: Path) -> None:
    keeper = core(path)
    for number in range(60):
        keeper.handle(FAILS if number % 2 else HEALS, clock(40 * number))
    keeper.close()
    good, chance = path.read_bytes(), random.Random(3)  # noqa: S311
    anew = 0
    for number in range(40):
        bad = bytearray(good)
        for _ in range(chance.choice((1, 5, 50))):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        place = tmp_path / f"{number}" / "ledger.db"
        place.parent.mkdir()
        place.write_bytes(bad)
        found = core(place, 10**5)
        for step in range(4):
            found.handle(FAILS if step % 2 else HEALS, clock(10**5 + step))
        anew += bool(list(place.parent.glob("*.damaged-*")))
        found.close()
    assert 3 < anew < 40


# Names.


def test_a_name_that_is_not_utf_8_is_filed_and_told_printable(path: Path) -> None:
    keeper = core(path, found=rules(Override("disk:*"), strikes=("act", "escalate")))
    disk = Target("disk", os.fsdecode(b"/mnt/\xff\n"))
    said = {"said": "line 1\nline 2 \udcff", "of": ["\ud800", 1], "\udcff": None}
    found = Finding(disk, "space", "critical", NOON, "/mnt/\udcff is full", said)
    assert str(disk) == "disk:/mnt/\\xff\\n"
    assert Target.parse(str(disk)) == disk
    assert acts(keeper.handle(Observed("units", disk, (found,)), clock(1))) == [1]
    keeper.handle(Ended(1, "failed", "no \udcff", {"paths": ["/mnt/\udcff"]}), clock(2))
    for second in range(3, 200):
        keeper.handle(Tick(), clock(second))
    assert keeper.ledger is not None
    assert remembered(keeper.ledger.load()) == remembered(keeper.state)
    for one in keeper.ledger.events(0):
        json.dumps(feed.table(one)["data"], ensure_ascii=False).encode()
    (row,) = keeper.ledger.findings(str(disk))
    assert (row["summary"], row["details"]["said"]) == ("/mnt/\\xff is full", "line 1\nline 2 \\xff")
    assert keeper.ledger.actions()[0]["report"] == {"paths": ["/mnt/\\xff"]}


# No room.


def test_with_no_room_nothing_is_acted_on_and_people_are_told(path: Path) -> None:
    """A limit on the size of files, as a quota would be; in a process of its own."""

    def work() -> None:
        keeper = core(path)
        sys.dont_write_bytecode = True  # a module imported now would be cut off in its cache
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("ledger.db-wal").stat().st_size, hard))
        assert acts(keeper.handle(FAILS, clock(1))) == []
        case = keeper.state.cases[WEB]
        assert (case.attempts, case.underway, case.pending) == ((), None, True)
        assert case.decision is not None
        assert case.decision.reason == "unrecorded"
        assert "check:ledger" in keeper.state.cases
        effects: list[Effect] = []
        for second in range(2, 70):
            effects += keeper.handle(Tick(), clock(second))
        told = [str(item.escalation.target) for item in effects if isinstance(item, Tell)]
        assert (acts(effects), told) == ([], ["check:ledger"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        effects = []
        for second in range(70, 140):
            effects += keeper.handle(Tick(), clock(second))
        assert len(acts(effects)) == 1
        assert keeper.ledger is not None
        assert remembered(keeper.ledger.load()) == remembered(keeper.state)
        assert [item.seq for item in keeper.ledger.events(0)] == list(range(1, keeper.ledger.bounds()[1] + 1))

    assert os.waitpid(forked(work), 0)[1] == 0


def test_a_ledger_that_cannot_be_opened_is_opened_later(path: Path) -> None:
    keeper = core(path)
    keeper.handle(FAILS, clock(1))
    keeper.close()
    path.rename(path.with_name("elsewhere"))
    path.with_name("ledger.db-wal").unlink(missing_ok=True)
    path.mkdir()
    again = core(path, 2)
    assert again.ledger is None
    other = Observed("units", Target.parse("unit:b.service"), (finding("unit:b.service"),))
    assert acts(again.handle(FAILS, clock(3)) + again.handle(other, clock(3))) == []
    again.handle(Maintain("disk:*", 3600 * USEC, "ada"), clock(4))
    path.rmdir()
    path.with_name("elsewhere").rename(path)
    assert again.wake is not None
    assert NOON + 4 * USEC < again.wake <= NOON + 62 * USEC
    again.handle(Tick(), clock(63))
    assert again.ledger is not None
    assert sorted(again.state.cases) == ["unit:b.service", WEB]
    assert len(again.state.cases[WEB].attempts) == 1, "of before"
    assert len(again.state.maintenance) == 1
    assert remembered(again.ledger.load()) == remembered(again.state)


def test_maintenance_declared_without_a_ledger_holds_from_the_first_moment_with_one(path: Path) -> None:
    keeper = core(path)
    keeper.handle(Maintain("disk:*", 3600 * USEC, "bob"), clock(1))
    keeper.close()
    path.rename(path.with_name("elsewhere"))
    path.mkdir()
    again = core(path, 2)
    (reply,) = again.handle(Maintain(WEB, 3600 * USEC, "ada"), clock(3))
    assert isinstance(reply, Reply)
    effects = again.handle(FAILS, clock(4))
    path.rmdir()
    path.with_name("elsewhere").rename(path)
    for second in range(60, 120):
        effects += again.handle(Tick(), clock(second))
    assert acts(effects) == []
    assert again.state.cases[WEB].strikes == 0
    assert {item.pattern for item in again.state.maintenance} == {"disk:*", WEB}
    assert len({item.id for item in again.state.maintenance}) == 2
    assert again.ledger is not None
    begun = [one.event for one in again.ledger.events(0) if one.event.kind == "maintenance-begun"]
    assert {(event.target, event.data["id"]) for event in begun} == {
        (item.pattern, item.id) for item in again.state.maintenance
    }


def test_events_without_room_are_kept_and_the_oldest_lost(path: Path) -> None:
    keeper = core(path)
    ledger = keeper.ledger
    assert ledger is not None
    (small,) = ledger._db.execute("PRAGMA max_page_count = 1").fetchone()  # it takes no page more
    many = Observed("units", FAILS.target, tuple(finding(problem=f"trouble-{one}") for one in range(100)))
    for second in range(100):  # of some 10,000 events, 5000 are kept
        keeper.handle(many if second % 2 else HEALS, clock(second))
    assert "check:ledger" in keeper.state.cases
    last = ledger.bounds()[1]
    assert ledger._db.execute("PRAGMA page_count").fetchone() == (small,), "it was full all the time"
    ledger._db.execute(f"PRAGMA max_page_count = {2**30}")
    keeper.handle(Tick(), clock(200))
    events = [item.event for item in ledger.events(last, 10**5)]
    (lost,) = [item for item in events if item.kind == "events-lost"]
    assert lost is events[0]
    assert lost.data["count"] > 1000
    assert len(events) > 5000
    opened = [item.at for item in events if item.kind == "finding-opened"]
    assert (opened[0] > clock(30).real, opened[-1]) == (True, clock(99).real), "the newest"
    standing = [row for row in ledger.findings(limit=10**5) if row["closed"] is None]
    assert ({row["target"] for row in standing}, len(standing)) == ({WEB}, 100)
    keeper.handle(HEALS, clock(300))
    assert all(row["closed"] for row in ledger.findings(limit=10**5))
    assert remembered(ledger.load()) == remembered(keeper.state)


@pytest.mark.parametrize("kept", [8, 5000])
def test_what_people_are_to_hear_of_is_not_lost_with_other_events(
    path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    # the keeper's own bound is the second of the two; the first tells what is given up in which order
    monkeypatch.setattr(core_module, "_UNFILED", kept)
    asked = Override("unit:ask.service", mode="ask", strikes=("act",))
    keeper = core(path, found=rules(asked, Override("unit:*"), strikes=("escalate",)))
    ledger = keeper.ledger
    assert ledger is not None
    ledger._db.execute("PRAGMA max_page_count = 1")
    names = ["unit:ask.service", *(f"unit:{number}.service" for number in range(40))]
    for name in names:
        keeper.handle(Observed("units", Target.parse(name), (finding(name),)), clock(1))
    for second in range(100):
        keeper.handle(FAILS if second % 2 else HEALS, clock(40 * second))
    ledger._db.execute("PRAGMA max_page_count = 1000000")
    keeper.handle(Tick(), clock(5000))
    events = [one.event for one in ledger.events(0, 10_000)]
    escalated = [event.data["id"] for event in events if event.kind == "escalated"]
    assert sorted(escalated) == sorted(item.id for item in keeper.state.escalations)
    told = [event.target for event in events if event.kind == "trouble" and event.target != WEB]
    assert sorted(told) == sorted([*names, "check:ledger"])
    assert [event.target for event in events if event.kind == "asked"] == names[:1]
