"""One step at a time: decided, filed, and only then handed out to be done. Owns the ledger, and no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rota.database import set_aside
from rota.errors import DamagedError, RotaError
from rota.keeper_rules import Rules
from rota.quantity import USEC

from . import again, policy
from .ledger import Ledger, open_ledger
from .messages import Act, Anew, Effect, Event, Happening, Observed, Started, Tick, Unrecorded
from .state import Reading, State, set_clock
from .words import Finding, Target

CHECK = "ledger"
"""What is wrong with the ledger is found by a check of this name, which the keeper has beside all others."""
_ITSELF = Target("check", CHECK)
_RETRY = 60 * USEC
_UNFILED = 5000
"""So many events wait for room on the disk; of more, the oldest are lost, and that is filed."""
_TOLD = frozenset(("trouble", "trouble-over", "escalated", "asked"))
"""What people are told of: what is lost of these is filed again, if it still holds."""


class Core:
    """The keeper without its edges. What `handle` returns is to be carried out, in that order.

    With no room on the disk, and none in reserve, the state is kept in memory, and nothing is acted on.

    Attributes:
        rules: the policy.
        state: what is remembered.
        ledger: where it is filed; None as long as it cannot be opened.
        effects: what is to be carried out first.
    """

    def __init__(self, path: Path, rules: Rules, checks: frozenset[str], now: Reading) -> None:
        """Take up what the ledger holds.

        Args:
            path: of the ledger.
            rules: the policy.
            checks: the names of the checks that will look.
            now: the clocks.
        """
        self.rules = rules
        self.state = State()
        self.ledger: Ledger | None = None
        self._path = path
        self._checks = checks | {CHECK}
        self._events: list[Event] = []
        self._lost = 0
        self._owed: set[tuple[str, str, str]] = set()
        self._known = False
        self._damage = ""
        self._wrong = ""
        self._retry = 0
        self.effects = self._open(now) + self._step(Tick(), now)

    @property
    def wake(self) -> int | None:
        """When a Tick is due (microseconds since 1970) if nothing happens before; None: never."""
        moments = [policy.wake(self.state, self.rules), self._retry if self._wrong else None]
        return min((at for at in moments if at is not None), default=None)

    def handle(self, happening: Happening, now: Reading) -> list[Effect]:
        """Take in that something happened; return what is to be carried out, all of it being filed."""
        return self.handle_all((happening,), now)

    def handle_all(self, happenings: Sequence[Happening], now: Reading) -> list[Effect]:
        """Take in what happened, in this order, as one transaction: a flush to the disk takes its time."""
        self._set_clock(now)
        late = self._open(now) if self.ledger is None and now.real >= self._retry else []
        return late + self._steps(happenings, now)

    def close(self) -> None:
        """Close the ledger."""
        if self.ledger is not None:
            self.ledger.close()
            self.ledger = None

    def _open(self, now: Reading) -> list[Effect]:
        """Open the ledger, and bring what was noticed without it into what it holds."""
        try:
            self.ledger, state, damage = open_ledger(self._path)
        except (DamagedError, RotaError) as error:
            self._away(str(error), now)
            return []
        if self._known:
            self._damage = damage or self._damage
            effects = self._file_again(self.ledger, now)
            return self._without_acts(effects, now) if self._wrong else effects
        self._known = True
        memory = self.state
        self._lost += len(self._events)  # what they tell is found anew
        self._events = []
        self.state = replace(state, serial=now.real // USEC) if damage else state
        self._set_clock(now)
        self._take_over(memory, now)
        effects = self._step(Started(self._checks), now)
        if damage:
            effects += self._step(Anew(damage), now)
        for target, findings in _seen(memory):
            effects += self._step(Observed(findings[0], target, findings[1]), now)
        return effects

    def _take_over(self, memory: State, now: Reading) -> None:
        """Take over what people said and are to know, before anything is done.

        The numbers of both begin with 1: those of memory go on after those of the ledger.
        """
        by = self.state.serial - 1
        maintenance = tuple(replace(item, id=item.id + by) for item in memory.maintenance)
        escalations = tuple(replace(item, id=item.id + by, told=None) for item in memory.escalations)
        taken = State(maintenance=maintenance, escalations=escalations)
        self.state = replace(
            self.state,
            serial=memory.serial + by,
            maintenance=(*self.state.maintenance, *maintenance),
            escalations=(*self.state.escalations, *escalations),
        )
        self._events += again.remembered(taken, now.real)

    def _step(self, happening: Happening, now: Reading) -> list[Effect]:
        return self._steps((happening,), now)

    def _steps(self, happenings: Sequence[Happening], now: Reading) -> list[Effect]:
        self._set_clock(now)
        effects = [effect for happening in happenings for effect in self._stepped(happening, now)]
        effects += self._file(now)
        if self._wrong:
            effects = self._without_acts(effects, now)
        if bool(self._wrong) != (str(_ITSELF) in self.state.cases and self._open_of_itself()):
            effects += self._step(Observed(CHECK, _ITSELF, self._findings(now)), now)
        return effects

    def _set_clock(self, now: Reading) -> None:
        self.state, by = set_clock(self.state, now)
        if by:
            self._retry += by
            self._events.append(Event("clock-set", "", now.real, {"by": by}))

    def _stepped(self, happening: Happening, now: Reading) -> list[Effect]:
        done = policy.step(self.state, happening, self.rules, now.real)
        self.state = done.state
        self._events += done.events
        return list(done.effects)

    def _without_acts(self, effects: list[Effect], now: Reading) -> list[Effect]:
        """Return the effects without actions, which have no row: they are taken back."""
        while act := next((item for item in effects if isinstance(item, Act)), None):
            effects.remove(act)
            effects += self._stepped(Unrecorded(act.action.id, self._wrong), now)
        return effects

    def _open_of_itself(self) -> bool:
        return bool(self.state.cases[str(_ITSELF)].open)

    def _findings(self, now: Reading) -> tuple[Finding, ...]:
        if not self._wrong:
            return ()
        summary = f"the keeper cannot write its ledger, and acts on nothing: {self._wrong}"
        return (Finding(_ITSELF, "unwritable", "critical", now.real, summary),)

    def _file(self, now: Reading) -> list[Effect]:
        """File the state and what led to it; leave word if that is not possible."""
        if self.ledger is None:
            self._keep()
            return []
        try:
            self._write(self.ledger, now)
        except DamagedError as error:
            return self._anew(str(error), now)
        except RotaError as error:
            self._away(str(error), now)
        return []

    def _write(self, ledger: Ledger, now: Reading) -> None:
        lost = [Event("events-lost", "", now.real, {"count": self._lost})] if self._lost else []
        if self._owed:
            missing = again.missing(self.state, self._events, now.real)
            lost += [event for event in missing if again.key(event) in self._owed]
        ledger.file(self.state, [*lost, *self._events])
        self._events, self._owed, self._lost, self._wrong = [], set(), 0, ""

    def _keep(self) -> None:
        """Keep the newest of the events that could not be filed, and rather those that people are told of."""
        over = len(self._events) - _UNFILED
        if over <= 0:
            return
        places = sorted(range(len(self._events)), key=lambda place: self._events[place].kind in _TOLD)
        gone = set(places[:over])
        dropped = [self._events[place] for place in gone]
        self._lost += over
        self._owed |= {again.key(event) for event in dropped if event.kind in _TOLD}
        self._events = [event for place, event in enumerate(self._events) if place not in gone]
        if len(self._owed) > _UNFILED:
            self._owed &= set(map(again.key, again.remembered(self.state, 0)))

    def _anew(self, damage: str, now: Reading) -> list[Effect]:
        """Move a ledger aside that was found to be damaged, and file all that is remembered in a new one."""
        self.close()
        self._damage = damage
        try:
            self._damage = f"{damage}; it is kept as {set_aside(self._path)}"
            self.ledger, _, _ = open_ledger(self._path)
        except OSError as error:
            self._away(f"{self._path}: {error.strerror}", now)
        except (DamagedError, RotaError) as error:
            self._away(str(error), now)
        else:
            return self._file_again(self.ledger, now)
        return []

    def _file_again(self, ledger: Ledger, now: Reading) -> list[Effect]:
        """File all that is remembered, and events that tell of it, in a ledger that may lack all of it."""
        effects = self._stepped(Anew(self._damage), now) if self._damage else []
        self._damage = ""
        self._events = [*again.missing(self.state, self._events, now.real), *self._events]
        try:
            self._write(ledger, now)
        except (DamagedError, RotaError) as error:
            self._away(str(error), now)
            self.close()
        return effects

    def _away(self, why: str, now: Reading) -> None:
        """Note that the ledger cannot be written, and when that is tried again."""
        self._wrong, self._retry = why, now.real + _RETRY
        self._keep()


def _seen(state: State) -> list[tuple[Target, tuple[str, tuple[Finding, ...]]]]:
    """Return what each check found of each target, but of the ledger itself."""
    found: dict[tuple[Target, str], list[Finding]] = {}
    for case in state.cases.values():
        for item in case.open.values():
            if item.finding.target != _ITSELF:
                found.setdefault((item.finding.target, item.check), []).append(item.finding)
    return [(target, (check, tuple(items))) for (target, check), items in found.items()]
