"""Whatever fails when, and whenever the keeper is killed: it keeps to its policy."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rota_agents.home_keeper.messages import Answer, Ended, EndMaintenance, Maintain, Resume

from rota.keeper_rules import policy_for
from rota.quantity import USEC

from .kit import HOUR, MINUTE, NOON, House
from .world import APP, APP2, ASKED, DB, DISK, PROBLEM, RULES, TARGETS, WEB, World

FAST = Path("/dev/shm")
"""Where a flush to the disk costs nothing."""

NAMES = st.sampled_from(TARGETS)
KILLS = st.sampled_from(("", "", "", "", "before", "after"))
PATTERNS = st.sampled_from(("*", "unit:*", WEB, "unit:app-*"))
SPANS = st.sampled_from((1, 5, 29, 30, 31, MINUTE, 10 * MINUTE, HOUR, 5 * HOUR))
JUMPS = st.sampled_from((-24 * HOUR, -HOUR, -30, -1, 1, 30, HOUR, 24 * HOUR))


class Day(RuleBasedStateMachine):
    """The house under an adversary."""

    @initialize(night=st.booleans())
    def begin(self, night: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
        self.world = World(self.folder / "ledger.db")
        if night:
            self.world.wait(10 * HOUR)

    @rule(name=NAMES, critical=st.booleans(), kill=KILLS)
    def fails(self, name: str, critical: bool, kill: str) -> None:
        self.world.things[name].broken = True
        self.world.things[name].critical = critical
        self.world.observe(name, kill)

    @rule(name=NAMES, kill=KILLS)
    def heals(self, name: str, kill: str) -> None:
        self.world.things[name].broken = False
        self.world.observe(name, kill)

    @rule(name=st.sampled_from((WEB, DB, APP)), times=st.integers(2, 6), gap=st.sampled_from((1, 20, 40)))
    def flaps(self, name: str, times: int, gap: int) -> None:
        for _ in range(times):
            self.fails(name, False, "")
            self.world.wait(gap)
            self.heals(name, "")
            self.world.wait(gap)

    @rule(name=st.sampled_from((WEB, DISK, APP, DB)), gap=st.sampled_from((11, 40, 400)), ok=st.booleans())
    def fails_whatever_is_done(self, name: str, gap: int, ok: bool) -> None:
        self.fails(name, True, "")
        for _ in range(7):
            self.world.wait(gap)
            while self.world.under_way:
                self.world.finish("ok" if ok else "failed", False)
        self.world.resume(name)

    @rule(name=st.sampled_from((WEB, DISK, APP, DB)))
    def comes_again_after_hours_of_health(self, name: str) -> None:
        self.heals(name, "")
        self.world.wait(5 * HOUR)
        self.fails(name, True, "")
        self.world.wait(2 * MINUTE)

    @rule()
    def all_fails(self) -> None:
        for name in reversed(TARGETS):
            self.fails(name, False, "")

    @rule(span=SPANS)
    def time_passes(self, span: int) -> None:
        self.world.wait(span)

    @rule(ok=st.booleans(), heals=st.booleans(), kill=KILLS)
    def action_ends(self, ok: bool, heals: bool, kill: str) -> None:
        self.world.finish("ok" if ok else "failed", heals, kill)

    @rule(by=JUMPS)
    def clock_is_set(self, by: int) -> None:
        self.world.set_clock(by)

    @precondition(lambda self: self.world.core is not None)
    @rule()
    def killed(self) -> None:
        self.world.kill()

    @precondition(lambda self: self.world.core is None)
    @rule()
    def started(self) -> None:
        self.world.start()

    @rule(back=st.sampled_from((0, 0, 30, HOUR, 24 * HOUR)))
    def rebooted(self, back: int) -> None:
        self.world.reboot(back)

    @rule(pattern=PATTERNS, span=SPANS, kill=KILLS)
    def maintenance(self, pattern: str, span: int, kill: str) -> None:
        self.world.tell(Maintain(pattern, span * USEC, "ada"), kill)

    @rule(kill=KILLS)
    def maintenance_ends(self, kill: str) -> None:
        self.world.tell(EndMaintenance(None, "ada"), "before" if kill == "before" else "")
        if self.world.core is not None:
            self.world.work = []

    @rule(pattern=PATTERNS)
    def resumed(self, pattern: str) -> None:
        self.world.tell(Resume(pattern, "ada"))

    @rule(yes=st.booleans(), kill=KILLS)
    def answered(self, yes: bool, kill: str) -> None:
        if self.world.core is not None:
            case = self.world.core.state.cases.get(ASKED)
            if case is not None and case.ask is not None:
                self.world.tell(Answer(case.ask.id, yes, "ada"), kill)

    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.world.set_full(full)

    @rule(deaf=st.booleans())
    def those_who_deliver(self, deaf: bool) -> None:
        self.world.deaf = deaf

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.end()
            finally:
                shutil.rmtree(self.folder)


TestDay = Day.TestCase
TestDay.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


# By random schedules over a whole day, without a person and without a ledger.


def go_on(house: House, seconds: int, remedy: str, took: int) -> None:
    """Let time pass; an action ends some seconds after it was seen to have begun, by the minute."""
    end = house.now + seconds * USEC
    while house.now < end:
        house.wait(min(60, (end - house.now) / USEC))
        under_way = [case.underway for case in house.state.cases.values() if case.underway]
        for action in under_way:
            house.wait(took)
            house.step(Ended(action.id, "failed" if remedy == "fails" else "ok"))
            if remedy == "works":
                house.heals(str(action.target), "units")
        house.acknowledge()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(TARGETS), st.booleans(), st.integers(0, 2000)), min_size=5, max_size=120
    ),
    st.sampled_from(("works", "fails", "nothing")),
    st.sampled_from((1, 7, 60)),
)
def test_a_day_of_random_failures(schedule: list[tuple[str, bool, int]], remedy: str, took: int) -> None:
    house = House(RULES)
    for name, broken, gap in schedule:
        found = house.fails if broken else house.heals
        found(name, **({"problem": PROBLEM.get(name, "failed")} if broken else {}))
        go_on(house, gap, remedy, took)
    go_on(house, 24 * HOUR, remedy, took)
    for target in TARGETS:
        policy = policy_for(RULES, target)
        begun = [at for at, action in house.acts if str(action.target) == target]
        window = zip(begun, begun[policy.attempts :], strict=False)
        assert all(later - at >= policy.window for at, later in window)
        assert all(later - at >= policy.cooldown for at, later in itertools.pairwise(begun))
    house_wide = [at for at, _ in house.acts]
    assert all(
        b - a >= HOUR * USEC for a, b in zip(house_wide, house_wide[RULES.actions_per_hour :], strict=False)
    )
    assert {item.id for item in house.state.escalations} <= {item.id for _, item in house.told}
    in_trouble = {name for name, case in house.state.cases.items() if case.in_trouble}
    waiting = {name for name in in_trouble if house.case(name).hands_off is None}
    assert waiting <= {APP, APP2}, "what stays broken is told of, or waits for the database"
    assert not waiting or DB in in_trouble


@pytest.mark.parametrize("name", [WEB, DB, DISK, APP])
@pytest.mark.parametrize("up", [1, 20, 40, 599])
@pytest.mark.parametrize("down", [1, 20, 45, 400])
def test_what_flaps_is_let_be_before_long(name: str, up: int, down: int) -> None:
    house = House(RULES)
    while house.now < NOON + 2 * HOUR * USEC and house.case(name).hands_off is None:
        house.fails(name, PROBLEM.get(name, "failed"))
        for _, action in house.acts[-1:]:
            house.step(Ended(action.id, "ok"))
        house.wait(down)
        for _, action in house.acts[-1:]:
            house.step(Ended(action.id, "ok"))
        house.heals(name)
        house.wait(up)
    assert len(house.acts) <= 3
    assert house.case(name).hands_off is not None
    assert len({item.id for _, item in house.told}) == 1
