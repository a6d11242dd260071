"""What the keeper remembers of targets and of the house: frozen, and moved when the clock is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rota.frozen import Moment, moved
from rota.quantity import USEC

from .words import SEVERITIES, Action, Decision, Escalation, Finding

CLOCK_TOLERANCE = USEC
"""By less than this (microseconds) two clocks differ because one is slewed, or is read after the other."""
UNHEALED = "unhealed"
"""Why a case stands still that waits for what nobody heals."""


@dataclass(frozen=True, slots=True)
class Open:
    """A finding that is not healed.

    Attributes:
        finding: as it was seen last, with `since` as it was seen first.
        check: which check found it.
        seen: whether it was seen since the keeper was started.
    """

    finding: Finding
    check: str
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to a person, whether to do something; by: who said yes."""

    id: int
    remedy: str
    asked: Moment
    expires: Moment
    by: str = ""


@dataclass(frozen=True, slots=True)
class HandsOff:
    """That nothing more is done.

    Attributes:
        kind: `escalated`, until a person resumes; `denied`, until it is well again; `told`, where nothing
            could have been done anyway: until it was well for long enough.
        since: since when.
        why: the decision, in words.
        severity: the worst that a person was told then, "" where nobody is told.
    """

    kind: str
    since: Moment
    why: str
    severity: str = ""


@dataclass(frozen=True, slots=True)
class Proving:
    """An action that has to prove itself until a moment."""

    action: int
    until: Moment
    remedy: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem that people are told of, and not yet that it is over.

    Attributes:
        since: since when, as its check knows.
        severity: the worst that was told.
        summary: as it was told last.
        clear: since when it is not found any more; None: it is.
        untold: whether it waits for the end of quiet hours until people are told.
    """

    since: Moment
    severity: str
    summary: str
    clear: Moment | None = None
    untold: bool = False


class _Noted:
    """Room beside a frozen value for what follows from it by rules that stay, found out once.

    These are no fields of the value: `wake` is `care.wake`'s, `waits` is `Turn.changed`'s.
    """

    __slots__ = ("waits", "wake")

    def note(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class Case(_Noted):
    """What is remembered of one target.

    Attributes:
        open: findings by problem.
        troubles: what people were told of, by problem, see `troubles`.
        strikes: since all was well.
        since: since when something is wrong; still set for a while after it is healed, see `clear`.
        clear: since when there is no finding that counts.
        pending: whether the present strike leads to an action that is not done yet.
        due: when what is pending is tried, or the present step has had its time; None: at once.
        suspended: why the case stands still: a word, or "".
        hands_off: that nothing more is done.
        underway: the action that is being carried out.
        proving: the action that has to prove itself.
        attempts: when actions began, within the window.
        acted: how many, since all was well.
        rest_until: end of the cooldown.
        ask: the question that is open.
        told: whether people were told of the present trouble.
        tried: what was done in the present trouble, and what came of it.
        decision: the last one.
    """

    open: Mapping[str, Open] = field(default_factory=dict)
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    strikes: int = 0
    since: Moment | None = None
    clear: Moment | None = None
    pending: bool = False
    due: Moment | None = None
    suspended: str = ""
    hands_off: HandsOff | None = None
    underway: Action | None = None
    proving: Proving | None = None
    attempts: tuple[Moment, ...] = ()
    acted: int = 0
    rest_until: Moment | None = None
    ask: Ask | None = None
    told: bool = False
    tried: tuple[str, ...] = ()
    decision: Decision | None = None

    @property
    def findings(self) -> list[Finding]:
        """What counts: all but info, the worst first, then the oldest."""
        found = [item.finding for item in self.open.values() if item.finding.severity != "info"]
        return sorted(found, key=lambda item: (-SEVERITIES.index(item.severity), item.since, item.problem))

    @property
    def in_trouble(self) -> bool:
        """Whether there is a finding that counts."""
        return any(item.finding.severity != "info" for item in self.open.values())

    @property
    def unsettled(self) -> bool:
        """Whether it is in trouble, or was until just now; others wait for it."""
        return self.since is not None or self.underway is not None

    @property
    def blind(self) -> bool:
        """Whether it is a check that cannot look, if only for a moment, of which nobody is told."""
        return self.unsettled or "blind" in self.open

    @property
    def given_up(self) -> bool:
        """Whether it is let be, and would not have been acted on anyway: nobody but a person heals it."""
        return self.hands_off is not None and self.hands_off.kind == "told"

    @property
    def waited_for(self) -> tuple[bool, bool, bool]:
        """What matters to those who wait for it: whether they do, see what it is, and wait for a person."""
        return self.unsettled, self.blind, self.given_up or self.suspended == UNHEALED

    @property
    def label(self) -> str:
        """What the target asks for itself."""
        found = (str(item.finding.details.get("label", "")) for item in self.open.values())
        return next(filter(None, found), "")

    @property
    def lag(self) -> int:
        """So long after it is well its checks may still find something (microseconds)."""
        return max((item.finding.lag for item in self.open.values()), default=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """The targets that it needs, as its checks know."""
        found = (item.finding.details.get("needs", ()) for item in self.open.values())
        return tuple(dict.fromkeys(str(name) for names in found for name in names))


@dataclass(frozen=True, slots=True)
class Maintenance:
    """That somebody works on targets until a moment."""

    id: int
    pattern: str
    since: Moment
    until: Moment
    by: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The clocks at a moment, in microseconds.

    Attributes:
        real: CLOCK_REALTIME, since 1970.
        boottime: CLOCK_BOOTTIME, which nobody sets.
        boot: id of the boot it counts from.
    """

    real: int
    boottime: int
    boot: str


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of the house.

    Attributes:
        cases: by target; of those where there is something to remember.
        actions: when actions began, within the last hour.
        escalations: that are not acknowledged.
        maintenance: that is not over.
        serial: the next number for an action, question, escalation or maintenance.
        at: the last moment at which there was a step.
        clock: the clocks, as they were when they were found to differ last.
    """

    cases: Mapping[str, Case] = field(default_factory=dict)
    actions: tuple[Moment, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    serial: int = 1
    at: Moment = 0
    clock: Reading | None = None


def set_clock(state: State, now: Reading) -> tuple[State, int]:
    """Return the state by the clock as it is now, and by how much it was set (microseconds, 0 for not).

    Spans stay what they are: what may be done in ten minutes may be done in ten minutes by any clock. Across
    boots only the clock on the wall goes on; if it went back, no time has passed.
    """
    then, by = state.clock, 0
    if then is not None and then.boot == now.boot:
        by = (now.real - then.real) - (now.boottime - then.boottime)
    elif now.real < state.at:
        by = now.real - state.at
    if abs(by) < CLOCK_TOLERANCE:
        same = then is not None and then.boot == now.boot
        return (state if same else replace(state, clock=now)), 0
    return replace(moved(state, by), clock=now), by
