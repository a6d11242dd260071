"""What the keeper speaks of: targets, findings, remedies, decisions. Times: microseconds since 1970 (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rota.frozen import Moment

from .texts import printable, valid

SEVERITIES = ("info", "warning", "critical")
"""The mildest first. What is `info` is noted, and no more: it is no strike."""

PROBLEMS: Mapping[str, frozenset[str]] = {
    kind: frozenset(words.split())
    for kind, words in {
        "unit": "failed restart-loop stuck-activating inactive timer-stopped",
        "container": "unhealthy exited restart-loop oom-killed label",
        "disk": "space inodes read-only failing missing unreachable",
        "host": "load pressure memory swap hot gpu battery clock journal carrier oom-killed",
        "endpoint": "unreachable status body certificate answer slow",
        "query": "firing absent",
        "database": "unreachable slow",
        "agent": "missed failed",
        "rotad": "unreachable lag",
        "check": "blind unwritable",
    }.items()
}
"""What can be wrong with a target, by its kind."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """Something that is watched, written KIND:NAME.

    Attributes:
        kind: a key of PROBLEMS.
        name: what it is called, printable; of a unit on another machine, HOST/UNIT.

    Raises:
        ValueError: there is no such kind, or no name.
    """

    kind: str
    name: str

    def __post_init__(self) -> None:
        if self.kind not in PROBLEMS:
            raise ValueError(f'"{self.kind}" is no kind of target; there are {", ".join(sorted(PROBLEMS))}')
        if not self.name:
            raise ValueError(f'has no name; write for example "{self.kind}:NAME"')
        object.__setattr__(self, "name", printable(self.name))

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def remote(self) -> bool:
        """Whether it is on another machine, where the keeper only looks."""
        return self.kind == "unit" and "/" in self.name

    @staticmethod
    def parse(text: str) -> Target:
        """Return the target of a text KIND:NAME.

        Raises:
            ValueError: it is none.
        """
        return Target(*text.partition(":")[::2])


_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a target; there is one of each problem.

    Attributes:
        target: with what.
        problem: a word of PROBLEMS for the target's kind.
        severity: a word of SEVERITIES.
        since: since when, as far as the check knows.
        summary: a line for people.
        details: what else the check knows, as JSON takes it. `label`: what a container asks for itself;
            `needs`: the targets that this one needs, beside those that the policy names.
        lag: for so long after all is well the check may still find it (microseconds).
    """

    target: Target
    problem: str
    severity: str
    since: Moment
    summary: str
    details: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, hash=False)
    lag: int = 0

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f'"{self.severity}" is no severity; there are {", ".join(SEVERITIES)}')
        object.__setattr__(self, "summary", printable(self.summary))
        object.__setattr__(self, "details", valid(self.details))


@dataclass(frozen=True, slots=True)
class Remedy:
    """What is done about it: a word, and which agent or command, for those."""

    word: str
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.word} {self.argument}".rstrip()


_OF_UNITS = {"restart": "restart-unit", "start": "start-unit", "reset-failed": "reset-failed"}
_OF_CONTAINERS = {"restart": "restart-container", "start": "start-container"}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "unit": _OF_UNITS,
    "container": _OF_CONTAINERS,
    "disk": {"restart": "clean", "clean": "clean"},
}
_FOR_PROBLEMS: Mapping[tuple[str, str], str] = {
    ("container", "exited"): "start-container",
    ("container", "oom-killed"): "start-container",
    ("container", "label"): "",
    ("unit", "inactive"): "start-unit",
    ("unit", "timer-stopped"): "start-unit",
    ("disk", "read-only"): "",
    ("disk", "failing"): "",
    ("disk", "missing"): "",
    ("disk", "unreachable"): "",
}
"""What `restart` is for problems where to restart is not what helps."""


def remedy_for(target: Target, problem: str, declared: str) -> Remedy | None:
    """Return what can be done about a problem, by the policy's word for it; None if nothing."""
    word, _, argument = declared.partition(":")
    if argument:
        return Remedy(f"run-{word}", argument)
    if target.remote or word == "none":
        return None
    if word == "restart" and (found := _FOR_PROBLEMS.get((target.kind, problem))) is not None:
        return Remedy(found) if found else None
    found = _WORDS.get(target.kind, {}).get(word)
    return Remedy(found) if found else None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done about a target, and why.

    Attributes:
        verdict: note, act, ask, escalate or hold.
        reason: the rule it follows from, as a word.
        why: the same for people, a clause without a full stop.
        at: when it was decided.
        again: when it is looked at again if nothing happens; None: only if something happens.
    """

    verdict: str
    reason: str
    why: str
    at: Moment
    again: Moment | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """A remedy that is carried out.

    Attributes:
        id: its number; the row in the ledger has the same.
        target: on what.
        problem: because of what.
        remedy: what.
        at: when it was decided.
        why: the decision, in words.
        attempt: which one since all was well.
        by: who approved it, "" if nobody was asked.
    """

    id: int
    target: Target
    problem: str
    remedy: Remedy
    at: Moment
    why: str
    attempt: int
    by: str = ""


@dataclass(frozen=True, slots=True)
class Escalation:
    """What a person is to know; kept, and told again, until it is acknowledged.

    Attributes:
        id: its number.
        target: of what.
        at: when it was decided.
        severity: the worst of the findings.
        why: the decision, in words.
        since: since when something is wrong.
        findings: their summaries.
        tried: what was done, and what came of it.
        hands_off: whether nothing more is done until a person says so.
        told: when it was told last, None if not yet.
        recovered: since when the target is well again, if it is.
        problem: of the worst of the findings, "" if it is about the keeper itself.
        held: whether it waits for the end of quiet hours: there is no event of it yet.
    """

    id: int
    target: Target
    at: Moment
    severity: str
    why: str
    since: Moment
    findings: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    hands_off: bool = False
    told: Moment | None = None
    recovered: Moment | None = None
    problem: str = ""
    held: bool = False
