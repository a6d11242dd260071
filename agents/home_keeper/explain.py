"""Why a target is treated as it is, in sentences: for `rota keeper explain`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rota import keeper_rules
from rota.keeper_rules import spoken
from rota.quantity import format_duration

from .gates import HOUR, Question, maintenance_of, next_allowed, recent, standstill
from .state import Case, State
from .words import remedy_for

_STEPS = {"note": "it is noted", "act": "it is acted on", "escalate": "a person is told"}


def _rules(q: Question) -> Iterator[str]:
    declared = keeper_rules.overrides(q.rules, q.name)
    if declared:
        names = ", ".join(f'"{item.pattern}"' for item in declared)
        yield f"Named by {names}; mode {q.policy.mode}."
    elif q.case.label:
        yield f"Not named, but its label says {q.case.label}; mode {q.policy.mode}."
    else:
        yield f"Not named, so its mode is that of all such: {q.policy.mode}."
    pattern = keeper_rules.never(q.rules, q.name)
    if pattern is not None:
        yield f"Never touched: {pattern}."


def _findings(q: Question) -> Iterator[str]:
    if not q.case.open:
        yield "Nothing is wrong with it, as far as is known."
    for problem, item in sorted(q.case.open.items()):
        since, finding = spoken(q.rules, item.finding.since), item.finding
        seen = "" if item.seen else "; not seen again since the keeper was started"
        yield f"{problem} ({finding.severity}) since {since}: {finding.summary} (check {item.check}{seen})."


def _strikes(q: Question) -> Iterator[str]:
    if q.case.strikes == 0:
        return
    steps = q.policy.strikes
    leads = ", then ".join(_STEPS[step] for step in steps)
    yield f"Strike {q.case.strikes} of {len(steps)}: {leads}, then hands off."


def _decision(q: Question) -> Iterator[str]:
    found = q.case.decision
    if found is None:
        return
    again = f" Looked at again at {spoken(q.rules, found.again)}." if found.again is not None else ""
    yield f"Decided at {spoken(q.rules, found.at)}: {found.verdict}, because {found.why}.{again}"


def _standing_still(q: Question) -> Iterator[str]:
    gate = standstill(q) if q.case.in_trouble else None
    if gate is not None:
        yield f"Stands still, uncounted: {gate.why}."
    elif (work := maintenance_of(q.state, q.name, q.now)) is not None:
        yield f"In maintenance by {work.by} until {spoken(q.rules, work.until)}."


def _actions(q: Question) -> Iterator[str]:
    if q.case.underway is not None:
        yield f"Under way since {spoken(q.rules, q.case.underway.at)}: {q.case.underway.remedy}."
    if q.case.proving is not None:
        until = spoken(q.rules, q.case.proving.until)
        yield f"{q.case.proving.remedy} has to prove itself until {until}."
    for said in q.case.tried:
        yield f"Tried: {said}."
    used = len(recent(q.case.attempts, q.now, q.policy.window))
    if used:
        span = format_duration(q.policy.window)
        yield f"Attempts: {used} of {q.policy.attempts} within {span} are used."
    house = len(recent(q.state.actions, q.now, HOUR))
    if house:
        yield f"The house: {house} of {q.rules.actions_per_hour} actions of an hour are used."


def _asked(q: Question) -> Iterator[str]:
    ask = q.case.ask
    if ask is None:
        return
    if ask.by:
        yield f"Question {ask.id}, whether to {ask.remedy}: approved by {ask.by}."
    else:
        until = spoken(q.rules, ask.expires)
        yield (
            f"Question {ask.id}, whether to {ask.remedy}, is open until {until}: "
            f"rota keeper approve {ask.id}, or rota keeper deny {ask.id}."
        )


def _hands_off(q: Question) -> Iterator[str]:
    found = q.case.hands_off
    if found is None:
        return
    until = {
        "escalated": f"until somebody resumes: rota keeper resume {q.name}",
        "denied": f"until it is well again, or: rota keeper resume {q.name}",
        "told": f"until it was well for {format_duration(q.policy.healthy_after)}",
    }[found.kind]
    yield f"Hands off since {spoken(q.rules, found.since)} ({found.why}), {until}."


def _next(q: Question) -> Iterator[str]:
    at, why = next_allowed(q)
    if at is None:
        yield f"No action is allowed at present ({why})."
    elif at <= q.now:
        yield "An action would be allowed now."
    else:
        yield f"Next action allowed at {spoken(q.rules, at)} ({why})."


def _remedy(q: Question) -> Iterator[str]:
    for finding in q.case.findings:
        remedy = remedy_for(finding.target, finding.problem, q.policy.remedy)
        yield f"Remedy for {finding.problem}: {remedy or 'none'}."


_PARTS: tuple[Callable[[Question], Iterator[str]], ...] = (
    _rules,
    _findings,
    _strikes,
    _decision,
    _standing_still,
    _remedy,
    _actions,
    _asked,
    _hands_off,
    _next,
)


def explain(state: State, rules: keeper_rules.Rules, name: str, now: int) -> list[str]:
    """Return sentences on what is known of a target, what was decided, and what may come next.

    Args:
        state: what is remembered.
        rules: the policy.
        name: the target, KIND:NAME.
        now: microseconds since 1970.

    Raises:
        ValueError: that is no target.
    """
    question = Question(state, rules, name, state.cases.get(name) or Case(), now)
    question.remedy()
    return [sentence for part in _PARTS for sentence in part(question)]
