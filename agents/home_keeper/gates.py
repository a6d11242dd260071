"""What stands in the way of acting on a target: tables of rules, each a pure question to what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from rota import keeper_rules
from rota.keeper_rules import Policy, Rules, matches, spoken
from rota.quantity import USEC, format_duration

from .state import UNHEALED, Case, Maintenance, State
from .words import Finding, Remedy, Target, remedy_for

HOUR = 3600 * USEC
DEPENDENCY_GRACE = 5 * USEC
"""So long a target that needs others is not acted on: their finding may come after its own."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Why a target is not acted on now.

    Attributes:
        verdict: what is done instead: note, ask, escalate or hold.
        reason: the rule, as a word.
        why: the same for people, a clause.
        again: when it may be otherwise, None if only something that happens can change it.
    """

    verdict: str
    reason: str
    why: str
    again: int | None = None


@dataclass(frozen=True)
class Question:
    """May this target be acted on at this moment?"""

    state: State
    rules: Rules
    name: str
    case: Case
    now: int

    @cached_property
    def policy(self) -> Policy:
        """What holds for the target."""
        return keeper_rules.policy_for(self.rules, self.name, self.case.label)

    @cached_property
    def critical(self) -> bool:
        """Whether it cannot wait."""
        return any(item.severity == "critical" for item in self.case.findings)

    def until(self, at: int) -> str:
        """Return a moment for people."""
        return f"until {spoken(self.rules, at)}"

    def treated(self) -> tuple[Finding, Remedy] | None:
        """Return the worst finding that something can be done about, and what."""
        target = Target.parse(self.name)
        for item in self.case.findings:
            if (remedy := remedy_for(target, item.problem, self.policy.remedy)) is not None:
                return item, remedy
        return None

    def remedy(self) -> Remedy | None:
        """Return what can be done about the worst that something can be done about."""
        found = self.treated()
        return found and found[1]


Rule = Callable[[Question], Gate | None]


def _first(rules: tuple[Rule, ...], question: Question) -> Gate | None:
    return next(filter(None, (rule(question) for rule in rules)), None)


# What lets a case stand still: its strikes are not counted meanwhile.


def maintenance_of(state: State, name: str, now: int) -> Maintenance | None:
    """Return the work on a target that lasts longest."""
    found = [item for item in state.maintenance if item.until > now and matches(item.pattern, name)]
    return max(found, key=lambda item: (item.until, item.id), default=None)


def _maintenance(q: Question) -> Gate | None:
    found = maintenance_of(q.state, q.name, q.now)
    if found is None:
        return None
    whose = "the house is" if found.pattern == "*" else f"{found.pattern} is"
    why = f"{whose} in maintenance by {found.by} {q.until(found.until)}"
    return Gate("hold", "maintenance", why, found.until)


def _blind(q: Question) -> Gate | None:
    """Nothing is done about what a check cannot see any more."""
    for item in q.case.open.values():
        other = f"check:{item.check}"
        if other != q.name and (case := q.state.cases.get(other)) is not None and case.blind:
            return Gate("hold", "blind", f"the check {item.check}, which found it, cannot look at present")
    return None


def _unseen(q: Question) -> Gate | None:
    if any(item.seen for item in q.case.open.values() if item.finding.severity != "info"):
        return None
    return Gate("hold", "unseen", "it was not looked at again since the keeper was started")


def after(rules: Rules, name: str, case: Case) -> tuple[str, ...]:
    """Return patterns of the targets that one needs, as the policy says and as its checks know."""
    return (*keeper_rules.policy_for(rules, name).after, *case.needs)


def needed(state: State, rules: Rules, name: str) -> Iterator[str]:
    """Yield those that a target needs, and that are in trouble or just were."""
    for pattern in after(rules, name, state.cases.get(name) or Case()):
        if not keeper_rules.is_pattern(pattern):
            case = state.cases.get(pattern)
            if case is not None and case.unsettled and pattern != name:
                yield pattern
            continue
        for other, case in state.cases.items():
            if case.unsettled and other != name and matches(pattern, other):
                yield other


def _waits_for(state: State, rules: Rules, name: str, whom: str) -> bool:
    """Tell whether a target waits for another, directly or through others."""
    seen, todo = {name}, [name]
    while todo:
        for other in needed(state, rules, todo.pop()):
            if other == whom:
                return True
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return False


def unhealed(q: Question) -> str | None:
    """Return what a target waits for, if only through others, and what is let be, never to be acted on."""
    seen, todo = {q.name}, [q.name]
    while todo:
        for other in needed(q.state, q.rules, todo.pop()):
            case = q.state.cases[other]
            if case.given_up and other not in seen and not _waits_for(q.state, q.rules, other, q.name):
                return other
            if case.suspended == UNHEALED and other not in seen:
                todo.append(other)
            seen.add(other)
    return None


def _dependency(q: Question) -> Gate | None:
    """Where two wait for each other, neither is held: else both would be for ever."""
    for other in needed(q.state, q.rules, q.name):
        if not _waits_for(q.state, q.rules, other, q.name):
            root = unhealed(q)
            if root is not None:
                return Gate("hold", UNHEALED, f"it waits for {root}, which nobody heals")
            return Gate("hold", "dependency", f"it needs {other}, which is to be well first")
    return None


_STANDSTILL: tuple[Rule, ...] = (_maintenance, _dependency, _blind, _unseen)


def standstill(question: Question) -> Gate | None:
    """Return why a case stands still, None if it does not."""
    return _first(_STANDSTILL, question)


# What is said of a target for as long as its rules are what they are: it is never acted on.


def _never(q: Question) -> Gate | None:
    pattern = keeper_rules.never(q.rules, q.name)
    if pattern is None:
        return None
    return Gate("note", "never", f"it is never touched ({pattern})")


def _observe(q: Question) -> Gate | None:
    if q.policy.mode != "observe":
        return None
    remedy = q.remedy()
    would = f"; {remedy} would be next" if remedy else ""
    return Gate("note", "observe", f"its mode is observe{would}")


def _no_remedy(q: Question) -> Gate | None:
    if q.remedy() is not None:
        return None
    problem = q.case.findings[0].problem if q.case.findings else "that"
    return Gate("note", "no-remedy", f"there is no remedy for {problem}")


_NEVER_ACTED_ON: tuple[Rule, ...] = (_never, _observe, _no_remedy)


def unavailable(question: Question) -> Gate | None:
    """Return why a target is not acted on at all, None if it may be."""
    return _first(_NEVER_ACTED_ON, question)


# What is to be waited for.


def recent(moments: tuple[int, ...], now: int, window: int) -> tuple[int, ...]:
    """Return the moments within a window that ends now."""
    return tuple(at for at in moments if at > now - window)


def _spent(q: Question) -> Gate | None:
    policy = q.policy
    begun = recent(q.case.attempts, q.now, policy.window)
    if len(begun) < policy.attempts:
        return None
    free = begun[-policy.attempts] + policy.window
    span = format_duration(policy.window)
    why = f"{len(begun)} of {policy.attempts} attempts within {span} are used up"
    return Gate("escalate", "attempts", why, free)


def _grace(q: Question) -> Gate | None:
    needs = after(q.rules, q.name, q.case)
    if not needs or q.case.since is None or q.now >= q.case.since + DEPENDENCY_GRACE:
        return None
    why = f"what it needs ({', '.join(needs)}) may be in trouble too"
    return Gate("hold", "grace", why, q.case.since + DEPENDENCY_GRACE)


def _quiet(q: Question) -> Gate | None:
    if q.critical or (q.case.ask is not None and q.case.ask.by):
        return None
    until = keeper_rules.quiet_until(q.rules, q.now)
    return None if until is None else Gate("hold", "quiet", f"it is quiet {q.until(until)}", until)


def outdated(q: Question) -> bool:
    """Tell whether a person was asked for something else than what would be done."""
    remedy = q.remedy()
    return q.case.ask is not None and remedy is not None and str(remedy) != q.case.ask.remedy


def _unanswered(q: Question) -> Gate | None:
    if q.policy.mode != "ask" or (q.case.ask is not None and q.case.ask.by):
        return None
    if q.case.ask is None:
        return Gate("ask", "ask", "its mode is ask")
    ask = q.case.ask
    why = f"question {ask.id}, whether to {ask.remedy}, is open {q.until(ask.expires)}"
    return Gate("ask", "asked", why, ask.expires)


def _cooldown(q: Question) -> Gate | None:
    if q.case.rest_until is None or q.now >= q.case.rest_until:
        return None
    times = "an action" if q.case.acted == 1 else f"{q.case.acted} actions"
    return Gate("hold", "cooldown", f"it rests after {times} {q.until(q.case.rest_until)}", q.case.rest_until)


def _house(q: Question) -> Gate | None:
    begun = recent(q.state.actions, q.now, HOUR)
    most = q.rules.actions_per_hour
    if len(begun) < most:
        return None
    why = f"the house has had its {most} actions of an hour"
    return Gate("hold", "house", why, begun[-most] + HOUR)


_WAITING: tuple[Rule, ...] = (_spent, _grace, _quiet, _unanswered, _cooldown, _house)


def obstacle(question: Question) -> Gate | None:
    """Return what stands in the way of acting now, None if nothing does."""
    return unavailable(question) or _first(_WAITING, question)


_TIMED: Mapping[str, Rule] = {
    "maintenance": _maintenance,
    "attempts": _spent,
    "grace": _grace,
    "quiet": _quiet,
    "cooldown": _cooldown,
    "house": _house,
}


def next_allowed(question: Question) -> tuple[int | None, str]:
    """Return when a target may be acted on if need be, and what it waits for ("" for nothing).

    None: not before something happens, or a person says so. A finding to come is taken for no critical one.
    """
    q = question
    if q.case.hands_off is not None:
        return None, "hands off"
    gate = _never(q) or _observe(q) or (_no_remedy(q) if q.case.in_trouble else None)
    gate = gate or _dependency(q) or _blind(q)
    if gate is not None:
        return None, gate.reason
    at, reasons = q.now, dict[str, None]()
    for _ in range(4 * len(_TIMED)):
        there = Question(q.state, q.rules, q.name, q.case, at)
        found = [(gate.again, name) for name, rule in _TIMED.items() if (gate := rule(there)) and gate.again]
        if not found:
            break
        at, name = max(found)
        reasons[name] = None
    return at, ", ".join(reasons)
