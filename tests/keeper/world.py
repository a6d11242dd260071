"""A day compressed: targets that fail, a clock that is set, and a keeper that is killed at any step.

What must never happen is checked when it would happen: when an action is carried out. Spans are measured on
the clock that nobody sets, whatever the clock on the wall said meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rota_agents.home_keeper.core import Core
from rota_agents.home_keeper.ledger import Recorded
from rota_agents.home_keeper.messages import (
    Acknowledge,
    Act,
    Effect,
    Ended,
    Happening,
    Maintain,
    Observed,
    Reply,
    Resume,
    Tell,
    Tick,
)
from rota_agents.home_keeper.state import Reading
from rota_agents.home_keeper.words import Action, Finding, Target

from rota import keeper_rules
from rota.database import FullError
from rota.frozen import to_plain
from rota.keeper_rules import Override, Policy, Rules, policy_for
from rota.quantity import USEC
from rota.quiet import Quiet

from .kit import HOUR, NOON

DB, APP, APP2, WEB = "unit:postgresql.service", "unit:app-1.service", "unit:app-2.service", "container:web"
ASKED, SSHD, MINE, OTHER, DISK = (
    "unit:asked.service",
    "unit:sshd.service",
    "unit:mine.service",
    "unit:other.service",
    "disk:/srv",
)
TARGETS = (DB, APP, APP2, WEB, ASKED, SSHD, MINE, OTHER, DISK)
PROBLEM = {WEB: "unhealthy", DISK: "space"}
CHECKS = frozenset(("units", "others"))
RULES = Rules(
    actions_per_hour=6,
    never=("unit:mine.*",),
    quiet=(Quiet(22 * 60 + 30, 7 * 60),),
    timezone="UTC",
    policy=Policy(),
    targets=(
        Override(DB),
        Override("unit:app-*.service", after=(DB,), strikes=("act", "act", "escalate")),
        Override(WEB, strikes=("act",) * 6, attempts=3, cooldown=10 * USEC),
        Override(ASKED, mode="ask", strikes=("act", "act", "escalate")),
        Override("unit:ssh*"),
        Override("unit:mine*"),
        Override(DISK, strikes=("act", "note", "act", "escalate"), window=4 * HOUR * USEC),
    ),
)
RULED = (DB, APP, APP2, WEB, ASKED, DISK)
"""What may be acted on, and whose last step is the first that tells a person."""
CLOCK_ERROR = 2 * USEC
"""What is not noticed of a clock that is set, see `state.CLOCK_TOLERANCE`."""


@dataclass
class Thing:
    """A target as it is, and as the keeper was told it is."""

    broken: bool = False
    critical: bool = False
    seen_broken: bool = False
    seen_well_at: int = -(10**18)


@dataclass
class Work:
    """Maintenance that the keeper said yes to, by the clock that nobody sets; filed: it is in the ledger."""

    pattern: str
    until: int
    filed: bool


class World:
    """The house, and what the keeper did in it."""

    def __init__(self, path: Path, rules: Rules = RULES) -> None:
        self.path = path
        self.rules = rules
        self.true = 10**15
        self.booted = self.true - HOUR * USEC
        self.boot = 1
        self.skew = NOON - self.true
        self.things = {name: Thing() for name in TARGETS}
        self.acts: dict[str, list[int]] = defaultdict(list)
        self.all_acts: list[int] = []
        self.done: set[int] = set()
        self.under_way: list[Action] = []
        self.told: set[int] = set()
        self.let_be: dict[str, bool] = {}
        self.resumed: set[str] = set()
        self.work: list[Work] = []
        self.unheard = 0
        self.full = False
        self.deaf = False
        self.core: Core | None = None
        self.start()

    # Clocks.

    @property
    def wall(self) -> int:
        """Microseconds since 1970 by the clock on the wall."""
        return self.true + self.skew

    def reading(self) -> Reading:
        """Return the clocks."""
        return Reading(self.wall, self.true - self.booted, str(self.boot))

    def wait(self, seconds: float) -> None:
        """Let time pass; a keeper that lives ticks when it asked to."""
        end, ticks = self.true + round(seconds * USEC), 0
        while self.core is not None and (wake := self.core.wake) is not None and wake - self.skew <= end:
            ticks = ticks + 1 if wake <= self.wall else 0
            assert ticks < 5, "it ticks and ticks"
            self.true = max(wake - self.skew, self.true)
            self.tell(Tick())
        self.true = end

    def set_clock(self, seconds: int) -> None:
        """Set the clock on the wall."""
        self.skew += seconds * USEC
        if self.core is None or self.full:
            self.unheard += seconds * USEC
        self.tell(Tick())

    # The keeper lives and dies.

    def start(self) -> None:
        """Start the keeper; its checks look at everything."""
        self.core = Core(self.path, self.rules, CHECKS, self.reading())
        self._fill()
        self.unheard = self.unheard if self.full else 0
        self.carry_out(self.core.effects)
        for name in TARGETS:
            self.observe(name)

    def kill(self) -> None:
        """What a SIGKILL leaves: what is on the disk. Its actions go on, and nobody hears of their end."""
        assert self.core is not None
        self.core.close()
        self.core = None
        self.under_way = []
        # With no room on the disk, nothing is remembered.
        self.let_be = {name: filed for name, filed in self.let_be.items() if filed}
        self.work = [item for item in self.work if item.filed]

    def reboot(self, set_back: int) -> None:
        """Start the machine again, with a clock that may have lost some time.

        Not with one that was set forward before the keeper could take it in: nothing tells that from time.
        """
        if self.core is not None:
            self.kill()
        self.true += 60 * USEC
        self.skew -= set_back * USEC + max(self.unheard, 0)
        self.booted = self.true
        self.boot += 1
        self.start()

    def _fill(self) -> None:
        if self.core is not None and self.core.ledger is not None:
            ledger = self.core.ledger
            if self.full:
                ledger.file = self._no_room
            else:
                vars(ledger).pop("file", None)

    def _no_room(self, *_: object) -> object:
        raise FullError(f"{self.path}: full")

    def set_full(self, full: bool) -> None:
        """Fill the disk, or make room on it."""
        self.full = full
        self._fill()
        if not full and self.core is not None:
            self.wait(60)
            self.tell(Tick())
            self.unheard = 0
            self.let_be = dict.fromkeys(self.let_be, True)
            for item in self.work:
                item.filed = True

    # What happens to the keeper.

    def tell(self, happening: Happening, kill: str = "") -> list[Effect]:
        """Let the keeper know; it may be killed before that is on the disk, or right after."""
        if self.core is None:
            return []
        if kill == "before":
            self.kill()
            return []
        effects: list[Effect] = self.core.handle(happening, self.reading())
        if kill == "after":
            self.kill()
            return []
        self._accepted(happening, effects)
        self.carry_out(effects)
        return effects

    def _accepted(self, happening: Happening, effects: list[Effect]) -> None:
        if not any(isinstance(item, Reply) and item.done for item in effects):
            return
        if isinstance(happening, Maintain):
            self.work.append(Work(happening.pattern, self.true + happening.span, not self.full))
        if isinstance(happening, Resume):
            named = {name for name in TARGETS if keeper_rules.matches(happening.pattern, name)}
            self.let_be = {name: filed for name, filed in self.let_be.items() if name not in named}
            self.resumed |= named

    def observe(self, name: str, kill: str = "") -> None:
        """Let a check look at a target."""
        thing = self.things[name]
        if self.core is None:
            return
        found: tuple[Finding, ...] = ()
        if thing.broken:
            severity = "critical" if thing.critical else "warning"
            problem = PROBLEM.get(name, "failed")
            found = (Finding(Target.parse(name), problem, severity, self.wall, "broken"),)
        if kill != "before":
            case = self.core.state.cases.get(name)
            if case is not None and case.in_trouble and not thing.broken:
                thing.seen_well_at = self.true
            thing.seen_broken = thing.broken
        self.tell(Observed("units" if name.startswith("unit") else "others", Target.parse(name), found), kill)

    # What the keeper does.

    def carry_out(self, effects: list[Effect]) -> None:
        """Do what the keeper says, and object."""
        for effect in effects:
            if isinstance(effect, Act):
                self._object(effect.action)
                name = str(effect.action.target)
                self.acts[name].append(self.true)
                self.all_acts.append(self.true)
                self.done.add(effect.action.id)
                self.resumed.discard(name)
                self.under_way.append(effect.action)
            elif isinstance(effect, Tell):
                item = effect.escalation
                self.told.add(item.id)
                name = str(item.target)
                if item.hands_off and item.told == self.wall and name in (DB, APP, APP2, WEB, ASKED, DISK):
                    known = self.core is not None and self.core.state.cases.get(name)
                    if known and known.hands_off is not None and known.hands_off.kind == "escalated":
                        self.let_be[name] = not self.full
                if not self.deaf:
                    self.tell(Acknowledge(item.id))

    def _object(self, action: Action) -> None:
        name, policy = str(action.target), policy_for(RULES, str(action.target))
        assert action.id not in self.done, "done twice"
        assert name in (DB, APP, APP2, WEB, ASKED, DISK), f"{name} is not to be touched"
        assert not self.full, "no action without a row"
        assert self.things[name].seen_broken, f"nothing is wrong with {name}"
        assert (name == ASKED) == (action.by == "ada"), "asked is who is to be asked"
        since = self.true - policy.window + CLOCK_ERROR
        assert sum(at > since for at in self.acts[name]) < policy.attempts, f"{name}: too many attempts"
        hour = self.true - HOUR * USEC + CLOCK_ERROR
        assert sum(at > hour for at in self.all_acts) < RULES.actions_per_hour, "too many in the house"
        if self.acts[name] and name not in self.resumed:
            assert self.true - self.acts[name][-1] >= policy.cooldown - CLOCK_ERROR, f"{name}: no cooldown"
        assert name not in self.let_be, f"{name} is let be"
        for work in self.work:
            late = self.true >= work.until - CLOCK_ERROR
            assert late or not keeper_rules.matches(work.pattern, name), f"{name} is in maintenance"
        if name in (APP, APP2):
            database = self.things[DB]
            assert not database.seen_broken, f"{DB} first"
            settled = database.seen_well_at + policy_for(RULES, DB).settle - CLOCK_ERROR
            assert self.true >= settled, f"{DB} has not settled"
        if name != ASKED and not self.things[name].critical:
            assert keeper_rules.quiet_until(RULES, self.wall) is None, "it is quiet"

    def resume(self, name: str) -> None:
        """Let ada resume one target."""
        self.tell(Resume(name, "ada"))

    def finish(self, outcome: str, heals: bool, kill: str = "") -> None:
        """Let the action end that began first."""
        if not self.under_way:
            return
        action = self.under_way.pop(0)
        name = str(action.target)
        self.things[name].broken = not heals
        self.tell(Ended(action.id, outcome, "" if outcome == "ok" else "it failed"), kill)
        self.observe(name)

    # What must hold whenever the keeper rests.

    def check(self) -> None:
        """Hold the ledger against what is remembered, and what was done against the ledger."""
        if self.core is None or self.core.ledger is None or self.full:
            return
        state, ledger = self.core.state, self.core.ledger
        before = to_plain(state)
        kept = ledger.load()
        assert to_plain(kept) | {"at": 0} == before | {"at": 0}
        ledger._cases = dict(state.cases)
        rows = ledger.actions(limit=10_000)
        assert self.done <= {row["id"] for row in rows}
        running = {row["id"] for row in rows if row["outcome"] is None}
        assert running == {case.underway.id for case in state.cases.values() if case.underway}
        found = {
            (row["target"], row["problem"]) for row in ledger.findings(limit=10_000) if not row["closed"]
        }
        assert found == {(name, problem) for name, case in state.cases.items() for problem in case.open}
        for case in state.cases.values():
            counting = {problem for problem, one in case.open.items() if one.finding.severity != "info"}
            assert counting == {problem for problem, one in case.troubles.items() if one.clear is None}
        self._told_once(ledger.events(0, 10**6))

    def _told_once(self, events: list[Recorded]) -> None:
        """Hold what people are told against the findings: each trouble begins once, and ends once."""
        assert self.core is not None
        told: dict[tuple[str, str], str] = {}
        needed: dict[str, list[str]] = defaultdict(list)
        for _, _, event in events:
            if event.kind in ("trouble", "trouble-over", "escalated", "asked"):
                critical = event.data["severity"] == "critical"
                assert critical or keeper_rules.quiet_until(RULES, event.at) is None, "told in quiet hours"
            about = (event.target, str(event.data.get("problem", "")))
            if event.kind == "trouble":
                worse = (told.get(about, ""), event.data["severity"]) == ("warning", "critical")
                assert about not in told or worse, "told again"
                told[about] = event.data["severity"]
            elif event.kind == "trouble-over":
                assert told.pop(about) == event.data["severity"]
            elif event.kind == "escalated" and event.target in RULED:
                needed[event.target].append(event.data["severity"])
                once = needed[event.target] in (["warning"], ["critical"], ["warning", "critical"])
                assert once, "a person is needed once, and once more if it gets worse"
            elif event.kind in ("recovered", "resumed"):
                needed.pop(event.target, None)
        found = {
            (name, problem): trouble
            for name, case in self.core.state.cases.items()
            for problem, trouble in case.troubles.items()
        }
        assert set(told) == {about for about, trouble in found.items() if not trouble.untold}
        if keeper_rules.quiet_until(RULES, self.wall) is None:
            assert not any(trouble.untold for trouble in found.values()), "it is not quiet any more"
            assert not any(item.held for item in self.core.state.escalations)

    def end(self) -> None:
        """Let a day pass with a keeper that lives and is heard: what it escalated was told."""
        self.full = self.deaf = False
        if self.core is None:
            self.start()
        self.set_full(False)
        self.wait(24 * HOUR)
        self.check()
        assert self.core is not None
        assert self.core.ledger is not None
        assert self.core.state.escalations == ()
        broken = {name for name, thing in self.things.items() if thing.broken}
        troubled = {name for name, case in self.core.state.cases.items() if case.troubles}
        assert broken <= troubled <= broken | {str(action.target) for action in self.under_way}
        events = self.core.ledger.events(0, 10**6)
        assert [item.seq for item in events] == list(range(1, len(events) + 1))
        escalated = {item.event.data["id"] for item in events if item.event.kind == "escalated"}
        assert escalated <= self.told
        self.core.close()
