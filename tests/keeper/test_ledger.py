"""The keeper's ledger: what is filed before it is done, what a kill leaves, damage, and no room."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rota_agents.home_keeper.core import Core
from rota_agents.home_keeper.ledger import Ledger, open_ledger
from rota_agents.home_keeper.messages import (
    EVENTS,
    Acknowledge,
    Act,
    Effect,
    Ended,
    Event,
    Happening,
    Maintain,
    Observed,
    Resume,
    Tell,
    Tick,
)
from rota_agents.home_keeper.state import Reading, State
from rota_agents.home_keeper.words import Target

from rota.errors import DamagedError
from rota.frozen import moved, to_plain
from rota.keeper_rules import Override, Rules
from rota.quantity import USEC
from tests.store_kit import forked

from .kit import NOON, WEB, finding, rules

CHECKS = frozenset(("units",))
AT_ONCE = rules(strikes=("act", "act", "act", "escalate"), cooldown=10 * USEC)
FAILS = Observed("units", Target.parse(WEB), (finding(),))
HEALS = Observed("units", Target.parse(WEB))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def clock(seconds: float = 0, boot: str = "a", real: float | None = None) -> Reading:
    usec = round(seconds * USEC)
    return Reading(NOON + (usec if real is None else round(real * USEC)), usec, boot)


def core(path: Path, seconds: float = 0, found: Rules = AT_ONCE) -> Core:
    return Core(path, found, CHECKS, clock(seconds))


def acts(effects: list[Effect]) -> list[int]:
    return [item.action.id for item in effects if isinstance(item, Act)]


def remembered(state: State) -> dict[str, Any]:
    """Return all of a state but when the last step was, which alone is not filed."""
    return dict(to_plain(state)) | {"at": 0}


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what another program sees in the file."""
    with sqlite3.connect(path) as db:
        return db.execute(query).fetchall()


def test_the_row_is_on_the_disk_before_the_action_is_handed_out(path: Path) -> None:
    keeper = core(path)
    assert acts(keeper.handle(FAILS, clock(1))) == [1]
    assert rows(path, "SELECT id, target, problem, remedy, begun, outcome FROM actions") == [
        (1, WEB, "failed", "restart-unit", NOON + USEC, None)
    ]
    keeper.handle(Ended(1, "failed", "job canceled", {"lines": 3}), clock(2))
    assert keeper.ledger is not None
    (row,) = keeper.ledger.actions(WEB)
    assert (row["outcome"], row["error"], row["report"], row["verdict"]) == (
        "failed",
        "job canceled",
        {"lines": 3},
        "failed",
    )


@pytest.mark.parametrize("carried_out", [True, False])
def test_after_a_kill_an_action_without_outcome_was_an_attempt(path: Path, carried_out: bool) -> None:
    keeper = core(path)
    assert acts(keeper.handle(FAILS, clock(1))) == [1]
    keeper.close()
    again = core(path, 3)
    assert rows(path, "SELECT outcome FROM actions") == [("unknown",)]
    assert acts(again.effects + again.handle(FAILS, clock(4))) == []
    assert len(again.state.cases[WEB].attempts) == 1
    assert again.wake == NOON + 34 * USEC
    assert acts(again.handle(Tick(), clock(34))) == [16] or again.state.cases[WEB].strikes == 2


def test_state_is_what_was_filed(path: Path) -> None:
    keeper = core(path)
    keeper.handle(FAILS, clock(1))
    keeper.handle(Maintain("disk:*", USEC, "ada"), clock(1))
    _, state, damage = open_ledger(path)
    assert damage is None
    assert to_plain(state) == to_plain(keeper.state)


def test_events_have_every_number_once(path: Path) -> None:
    keeper = core(path)
    for number in range(20):
        keeper.handle(FAILS if number % 2 else HEALS, clock(40 * number))
    assert keeper.ledger is not None
    events = keeper.ledger.events(0)
    assert [item.seq for item in events] == list(range(1, len(events) + 1))
    assert {item.event.kind for item in events} <= EVENTS
    assert {item.version for item in events} == {1}
    assert keeper.ledger.bounds() == (1, len(events))
    assert keeper.ledger.events(5, 3)[0].seq == 6


def test_findings_and_actions_are_the_sum_of_events(path: Path, tmp_path: Path) -> None:
    keeper = core(path)
    for number in range(30):
        effects = keeper.handle(FAILS if number % 2 else HEALS, clock(40 * number))
        for action in acts(effects):
            keeper.handle(Ended(action, "ok"), clock(40 * number + 1))
    assert keeper.ledger is not None
    replayed = Ledger(tmp_path / "again.db")
    replayed.file(State(), [item.event for item in keeper.ledger.events(0)])
    assert len(keeper.ledger.actions()) > 1
    assert replayed.actions() == keeper.ledger.actions()
    assert replayed.findings() == keeper.ledger.findings()


def test_pruned(path: Path) -> None:
    keeper = core(path)
    for number in range(10):
        keeper.handle(FAILS, clock(1000 * number))
        keeper.handle(HEALS, clock(1000 * number + 1))
    keeper.handle(FAILS, clock(10_000))
    ledger = keeper.ledger
    assert ledger is not None
    last = ledger.bounds()[1]
    while ledger.prune(NOON + 5000 * USEC):
        pass
    first = ledger.bounds()[0]
    assert 1 < first < last
    assert [item.seq for item in ledger.events(0)] == list(range(first, last + 1))
    assert all(row["closed"] is None or row["closed"] >= NOON + 5000 * USEC for row in ledger.findings())
    assert ledger.findings()[0]["closed"] is None
    while ledger.prune(NOON * 2):
        pass
    assert ledger.bounds() == (last + 1, last)
    assert [row["closed"] for row in ledger.findings()] == [None]
    keeper.handle(HEALS, clock(10_001))
    assert ledger.events(0)[0].seq == last + 1
    assert remembered(ledger.load()) == remembered(keeper.state)


def test_nothing_new_is_not_written(path: Path) -> None:
    keeper = core(path)
    keeper.handle(FAILS, clock(1))
    assert keeper.ledger is not None
    size = path.with_name("ledger.db-wal").stat().st_size
    for number in range(100):
        keeper.handle(FAILS, clock(2 + number / 1000))
    assert path.with_name("ledger.db-wal").stat().st_size == size


# Clocks.


def test_a_clock_set_forward_ends_no_span(path: Path) -> None:
    keeper = core(path)
    keeper.handle(FAILS, clock(1))
    keeper.handle(Ended(1, "failed"), clock(2))
    assert acts(keeper.handle(Tick(), clock(3, real=3600 + 3))) == []
    assert acts(keeper.handle(Tick(), clock(11, real=3600 + 11))) == []
    assert len(acts(keeper.handle(Tick(), clock(12, real=3600 + 12)))) == 1


def test_nor_while_the_keeper_was_dead(path: Path) -> None:
    keeper = core(path)
    keeper.handle(FAILS, clock(1))
    keeper.handle(Maintain("*", 60 * USEC, "ada"), clock(2))
    keeper.close()
    again = Core(path, AT_ONCE, CHECKS, clock(10, real=7200 + 10))
    assert again.state.maintenance[0].until == NOON + (7200 + 62) * USEC


def test_across_boots_only_what_went_back_is_known(path: Path) -> None:
    keeper = core(path)
    keeper.handle(Maintain("*", 60 * USEC, "ada"), clock(2))
    keeper.close()
    back = Core(path, AT_ONCE, CHECKS, clock(5, boot="b", real=-3600))
    assert back.state.maintenance[0].until == NOON + (60 - 3600) * USEC
    back.close()
    later = Core(path, AT_ONCE, CHECKS, clock(5, boot="c", real=0))
    assert later.state.maintenance == ()


def test_every_moment_is_moved_and_nothing_else(path: Path) -> None:
    keeper = core(path)
    keeper.handle(FAILS, clock(1))
    keeper.handle(Maintain("disk:*", USEC, "ada"), clock(1))
    there = moved(keeper.state, 5)
    assert to_plain(moved(there, -5)) == to_plain(keeper.state)
    case, before = there.cases[WEB], keeper.state.cases[WEB]
    assert case.underway is not None
    assert before.underway is not None
    assert case.underway.at == before.underway.at + 5
    assert case.open["failed"].finding.since == before.open["failed"].finding.since + 5
    assert case.attempts == tuple(at + 5 for at in before.attempts)
    assert (case.strikes, there.serial, there.clock) == (
        before.strikes,
        keeper.state.serial,
        keeper.state.clock,
    )


# Killed.


def test_killed_at_any_moment_it_acts_no_more_than_it_may(path: Path, tmp_path: Path) -> None:
    """Real processes and SIGKILL; the clock in them runs so that a window of 3 actions is a second."""
    found = rules(strikes=("act",) * 20, attempts=3, window=60 * USEC, cooldown=0, settle=USEC)
    diary = tmp_path / "acts"
    begin = time.monotonic()

    def now() -> Reading:
        fast = round((time.monotonic() - begin) * 60 * USEC)
        return Reading(NOON + fast, fast, "a")

    def work() -> None:
        keeper = Core(path, found, CHECKS, now())
        todo: list[Happening] = [FAILS, HEALS, Resume("*", "ada")] * 10**6
        effects = list(keeper.effects)
        with diary.open("a", encoding="ascii", buffering=1) as file:
            while todo:
                for item in effects:
                    if isinstance(item, Act):
                        file.write(f"{item.action.id} {now().real}\n")
                effects = keeper.handle(todo.pop(), now())
                todo += [Ended(number, "failed") for number in acts(effects)]
                todo += [Acknowledge(item.escalation.id) for item in effects if isinstance(item, Tell)]

    def acted() -> int:
        return diary.read_text("ascii").count("\n") if diary.exists() else 0

    chance = random.Random(7)  # noqa: S311  (the same at every run)
    for life in range(25):
        before, child = acted(), forked(work)
        while life % 5 == 0 and acted() == before and time.monotonic() - begin < 300:
            time.sleep(0.01)  # so that some get this far, however slow the machine is
        time.sleep(chance.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    done = [tuple(map(int, line.split())) for line in diary.read_text("ascii").splitlines()]
    assert len(done) >= 5
    assert len({number for number, _ in done}) == len(done), "an action was done twice"
    _, state, damage = open_ledger(path)
    assert damage is None
    filed = dict(rows(path, "SELECT id, begun FROM actions"))
    assert {number for number, _ in done} <= filed.keys()
    begun = sorted(filed.values())
    assert all(later - at >= 60 * USEC for at, later in zip(begun, begun[3:], strict=False))
    assert state.serial > max(filed)


# Damage.


def test_garbage_is_moved_aside_told_and_begun_anew(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))  # noqa: S311
    keeper = core(path)
    (told,) = [item.escalation for item in keeper.effects if isinstance(item, Tell)]
    assert "its ledger was damaged and is begun anew" in told.why
    assert str(path) in told.why
    assert len(list(path.parent.glob("ledger.db.damaged-*"))) == 1
    assert rows(path, "SELECT count(*) FROM events WHERE kind = 'ledger-anew'") == [(1,)]


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


def test_a_mistake_of_ours_is_not_damage(path: Path) -> None:
    ledger = Ledger(path)
    with pytest.raises(TypeError):
        ledger.file(State(), [Event("decided", WEB, NOON, {"again": object()})])
    with pytest.raises(sqlite3.ProgrammingError):
        ledger.file(State(), [Event("decided", object(), NOON)])
    assert ledger.bounds() == (1, 0)
    ledger.close()
    with pytest.raises(sqlite3.ProgrammingError):
        ledger.load()


def test_named_targets_of_another_ledger_have_other_ids(path: Path, tmp_path: Path) -> None:
    assert Ledger(path).id() != Ledger(tmp_path / "b.db").id()
    assert json.loads(json.dumps(to_plain(Override("a"))))["pattern"] == "a"
    with pytest.raises(DamagedError):
        (tmp_path / "c.db").write_text("no database, but some text in it", encoding="ascii")
        Ledger(tmp_path / "c.db")


def test_escalations_are_found_without_reading_all_events(path: Path) -> None:
    """They are told again every few minutes, as long as nobody takes them over."""
    ledger, state, _ = open_ledger(path)
    told = [Event("escalated", f"unit:{name}.service", NOON, {"id": name}) for name in (1, 2, 1)]
    ledger.file(state, [Event("started", "", NOON, {}), *told])
    assert [one.seq for one in ledger.escalated()] == [2, 3, 4]
    assert [one.seq for one in ledger.escalated(2)] == [3, 4]
    assert [one.seq for one in ledger.escalated(target="unit:1.service")] == [2, 4]
    ledger.close()
