"""The keeper's ledger: what is filed before it is done, and what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from rota_agents.home_keeper.core import Core
from rota_agents.home_keeper.ledger import Ledger, open_ledger
from rota_agents.home_keeper.messages import (
    EVENTS,
    Acknowledge,
    Act,
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

from rota import keeper_rules
from rota.errors import DamagedError
from rota.frozen import moved, to_plain
from rota.keeper_rules import Override, Policy, Rules
from rota.quantity import USEC
from tests.store_kit import forked

from .kit import NOON, WEB, finding, rules
from .ledgers import AT_ONCE, CHECKS, FAILS, HEALS, acts, clock, core, remembered, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


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


def test_pruned_by_count_details_first(path: Path) -> None:
    keeper = core(path, found=rules(Override("unit:*"), strikes=("escalate",)))
    for number in range(100):
        keeper.handle(FAILS, clock(100 * number))
        keeper.handle(HEALS, clock(100 * number + 1))
        keeper.handle(Tick(), clock(100 * number + 60))
    ledger = keeper.ledger
    assert ledger is not None
    (first, last), before = ledger.bounds(), ledger.events(0, 10_000)
    while ledger.prune(0, 250):
        pass
    kept = ledger.events(0, 10_000)
    assert ledger.bounds() == (last - 249, last)
    assert [one.seq for one in kept if one.seq > last - 250] == list(range(last - 249, last + 1))
    told = {"started", "trouble", "trouble-over", "escalated"}
    assert [one.seq for one in kept if one.seq <= last - 250] == [
        one.seq for one in before if one.seq <= last - 250 and one.event.kind in told
    ]
    assert len(ledger.findings(limit=1000)) == 100
    while ledger.prune(0, 20):
        pass
    assert len(ledger.events(0, 10_000)) == 40
    assert len(ledger.findings(limit=1000)) == 20
    assert first == 1
    keeper.handle(FAILS, clock(20_000))
    assert [one.seq for one in ledger.events(last)] == list(range(last + 1, ledger.bounds()[1] + 1))
    assert remembered(ledger.load()) == remembered(keeper.state)


def test_what_happens_at_once_is_filed_at_once_and_before_it_is_acted_on(path: Path) -> None:
    keeper = core(path, found=rules(Override("unit:*"), strikes=("act",), actions_per_hour=1000))
    assert keeper.ledger is not None
    commits: list[str] = []
    keeper.ledger._db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    names = [f"unit:{number}.service" for number in range(100)]
    found = [Observed("units", Target.parse(name), (finding(name),)) for name in names]
    effects = keeper.handle_all(found, clock(1))
    assert (len(acts(effects)), len(commits)) == (100, 1)
    assert {row["id"] for row in keeper.ledger.actions(limit=1000)} == set(acts(effects))
    assert remembered(keeper.ledger.load()) == remembered(keeper.state)


def test_a_step_finds_nothing_out_anew_about_targets_that_did_not_change(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a thousand findings at once would take a thousand times a thousand looks."""
    keeper = core(path, found=rules(Override("unit:*"), strikes=("escalate",)))
    for number in range(200):
        name = f"unit:{number}.service"
        keeper.handle(Observed("units", Target.parse(name), (finding(name),)), clock(1))
    assert keeper.wake is not None
    asked, looked = list[str](), keeper_rules.policy_for

    def policy_for(found: Rules, name: str, label: str = "") -> Policy:
        asked.append(name)
        return looked(found, name, label)

    monkeypatch.setattr(keeper_rules, "policy_for", policy_for)
    keeper.handle(FAILS, clock(2))
    assert keeper.wake is not None
    assert set(asked) <= {WEB, name}, "the one before was not asked whether it waits for another"


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


def test_what_waits_for_the_morning_outlives_a_kill(path: Path) -> None:
    found = rules(quiet="22:30-07:00", strikes=("escalate",))
    keeper = core(path, 11 * 3600, found)
    keeper.handle(FAILS, clock(11 * 3600))
    keeper.close()
    again = core(path, 12 * 3600, found)
    again.handle(FAILS, clock(12 * 3600))
    assert again.wake is not None
    told = ("trouble", "escalated")
    assert again.ledger is not None
    assert not [one for one in again.ledger.events(0) if one.event.kind in told]
    again.handle(Tick(), clock(19 * 3600))
    assert [one.event.kind for one in again.ledger.events(0) if one.event.kind in told] == list(told)
    again.handle(Tick(), clock(20 * 3600))
    assert len(again.ledger.escalated()) == 1


# Damage.


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
