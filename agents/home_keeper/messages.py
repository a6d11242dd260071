"""What goes into a step of the policy, and what comes out of it. Times are microseconds since 1970 (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .texts import valid
from .words import Action, Escalation, Finding, Target

OUTCOMES = ("ok", "failed", "unknown", "not-begun")
"""Of an action, as far as it knows itself: unknown if the keeper was killed meanwhile."""

EVENTS = frozenset(
    (
        "started",
        "clock-set",
        "finding-opened",
        "finding-changed",
        "finding-closed",
        "trouble",
        "trouble-over",
        "decided",
        "remedy-begun",
        "remedy-ended",
        "remedy-judged",
        "escalated",
        "acknowledged",
        "resumed",
        "recovered",
        "reset",
        "asked",
        "answered",
        "maintenance-begun",
        "maintenance-ended",
        "ledger-anew",
        "events-lost",
    )
)
"""Kinds of events; docs of their data are where they are made."""


@dataclass(frozen=True, slots=True)
class Started:
    """The keeper starts: what was under way has an unknown end, findings count when they are seen again.

    Attributes:
        checks: the checks that there are; findings of others are closed.
    """

    checks: frozenset[str]


@dataclass(frozen=True, slots=True)
class Observed:
    """A check looked at a target: these are its findings, all of them. What it had found besides is healed.

    A check that could not look says so of Target("check", its name), and nothing of its targets.
    """

    check: str
    target: Target
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """An action is over.

    Attributes:
        action: its id.
        outcome: ok or failed.
        error: why it failed.
        report: what it did, as JSON takes it.
    """

    action: int
    outcome: str
    error: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", valid(self.error))
        object.__setattr__(self, "report", valid(self.report))


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """An action could not be put into the ledger, so it was not begun."""

    action: int
    why: str


@dataclass(frozen=True, slots=True)
class Anew:
    """The ledger was damaged and is begun anew; why, and where the old one is."""

    why: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, see `policy.wake`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A person answers a question."""

    ask: int
    yes: bool
    by: str


@dataclass(frozen=True, slots=True)
class Resume:
    """A person gives targets back to the keeper: a name or a pattern."""

    pattern: str
    by: str


@dataclass(frozen=True, slots=True)
class Maintain:
    """A person works on targets (a name or a pattern, * is the house) for so many microseconds."""

    pattern: str
    span: int
    by: str


@dataclass(frozen=True, slots=True)
class EndMaintenance:
    """The work is over; None: all of it."""

    id: int | None
    by: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """An escalation has reached those who deliver it, and is safe with them."""

    escalation: int


Happening = (
    Started
    | Observed
    | Ended
    | Unrecorded
    | Anew
    | Tick
    | Answer
    | Resume
    | Maintain
    | EndMaintenance
    | Acknowledge
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something to be filed: numbered without gaps by the ledger.

    Attributes:
        kind: a word of EVENTS.
        target: KIND:NAME, a pattern, or "" for the house.
        at: when.
        data: what is particular to the kind, as JSON takes it.
    """

    kind: str
    target: str
    at: int
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Act:
    """Carry out an action; its row is in the ledger."""

    action: Action


@dataclass(frozen=True, slots=True)
class Tell:
    """Hand an escalation to those who deliver it; it comes again until they acknowledge it."""

    escalation: Escalation


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the person who asked for something: whether it was done, and a sentence."""

    done: bool
    text: str


Effect = Act | Tell | Reply
