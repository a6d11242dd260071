"""Whatever fails when, and whenever the keeper is killed: it keeps to its policy."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rota_agents.home_keeper.messages import Answer, EndMaintenance, Maintain, Resume

from rota.quantity import USEC

from .kit import HOUR, MINUTE
from .world import APP, ASKED, DB, TARGETS, WEB, World

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
