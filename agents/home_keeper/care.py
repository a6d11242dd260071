"""How one target is cared for: findings come and go, strikes are counted, remedies prove themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rota import keeper_rules
from rota.frozen import to_plain
from rota.quantity import USEC, format_duration

from . import troubles
from .gates import Gate, maintenance_of, obstacle, outdated, recent, standstill, unavailable, unhealed
from .messages import Anew, Ended, Event, Observed, Started, Unrecorded
from .state import UNHEALED, Ask, Case, HandsOff, Open, Proving
from .turn import Turn
from .words import SEVERITIES, Action, Escalation, Finding, Remedy, Target

RETRY = 60 * USEC
"""An action that could not be put into the ledger is tried again after this."""
_HELD = frozenset(("quiet", "cooldown", "house", "unrecorded"))
"""Waiting for these uses up no step. The grace is not among them: what comes and goes faster is told of."""
_TRIED = 10
"""So much of what was tried is told: the last."""


# What happens.


def observed(turn: Turn, happening: Observed) -> None:
    """Take in what a check found about a target."""
    name = str(happening.target)
    before = turn.case(name)
    kept = {key: item for key, item in before.open.items() if item.check != happening.check}
    for finding in happening.findings:
        was = before.open.get(finding.problem)
        if was is None:
            turn.event("finding-opened", name, check=happening.check, finding=to_plain(finding, whole=True))
        else:
            finding = replace(finding, since=was.finding.since)  # noqa: PLW2901  (frozen)
            if finding.severity != was.finding.severity:
                turn.event(
                    "finding-changed", name, check=happening.check, finding=to_plain(finding, whole=True)
                )
        kept[finding.problem] = Open(finding, happening.check)
    _findings(turn, name, kept)


def _findings(turn: Turn, name: str, after: Mapping[str, Open]) -> None:
    """Replace the findings of a target."""
    before = turn.case(name)
    if after == before.open:
        return
    for problem, item in before.open.items():
        if problem not in after:
            found = {"severity": item.finding.severity, "summary": item.finding.summary}
            turn.event("finding-closed", name, problem=problem, since=item.finding.since, **found)
    case = replace(before, open=after)
    if case.in_trouble and not before.in_trouble:
        case = _came(turn, name, case)
    elif before.in_trouble and not case.in_trouble:
        case = _went(turn, name, case)
    turn.put(name, troubles.noticed(turn, name, case))
    turn.look_at(name)


def _came(turn: Turn, name: str, case: Case) -> Case:
    if case.proving is not None:
        case = _judged(turn, name, case, "failed")
    since = case.since if case.since is not None else turn.now
    return replace(case, since=since, clear=None, due=None, pending=False)


def _went(turn: Turn, name: str, case: Case) -> Case:
    """What had to wait is not used up; but a question was put to people."""
    held = case.decision is not None and case.decision.reason in _HELD
    unused = case.pending and case.ask is None and held
    case = withdrawn(turn, name, case, "healed")
    strikes = max(case.strikes - 1, 0) if unused else case.strikes
    return replace(case, clear=turn.now, due=None, pending=False, suspended="", strikes=strikes)


def withdrawn(turn: Turn, name: str, case: Case, answer: str) -> Case:
    """Return the case without its question; `answer`: healed, expired, withdrawn or used."""
    if case.ask is None:
        return case
    if answer != "used":
        turn.event("answered", name, id=case.ask.id, answer=answer, by="")
    return replace(case, ask=None)


def started(turn: Turn, happening: Started) -> None:
    """Take up what was left when the keeper ended."""
    turn.event("started", "", cases=len(turn.cases))
    turn.escalations = tuple(replace(item, told=None) for item in turn.escalations)
    for name, case in list(turn.cases.items()):
        if case.underway is not None:
            error = "the keeper ended meanwhile"
            ended(turn, Ended(case.underway.id, "unknown", error))
        stale = {
            problem: replace(item, seen=False)
            for problem, item in turn.case(name).open.items()
            if item.check in happening.checks
        }
        _findings(turn, name, stale)
        turn.look_at(name)


def anew(turn: Turn, happening: Anew) -> None:
    """Tell people that the ledger was lost."""
    turn.event("ledger-anew", "", why=happening.why)
    why = f"its ledger was damaged and is begun anew: {happening.why}"
    item = Escalation(turn.number(), Target("check", "ledger"), turn.now, "warning", why, turn.now)
    turn.escalate(item)


def _of_action(turn: Turn, action: int) -> tuple[str, Case, Action] | None:
    for name, case in turn.cases.items():
        if case.underway is not None and case.underway.id == action:
            return name, case, case.underway
    return None


def ended(turn: Turn, happening: Ended) -> None:
    """Take in how an action ended; one that is not under way is none of this state's."""
    found = _of_action(turn, happening.action)
    if found is None:
        return
    name, case, action = found
    outcome, now, policy = happening.outcome, turn.now, turn.policy(name)
    turn.event(
        "remedy-ended",
        name,
        id=action.id,
        outcome=outcome,
        error=happening.error,
        report=dict(happening.report),
        remedy=str(action.remedy),
        took=now - action.at,
    )
    case = replace(case, underway=None, rest_until=now + policy.rest(case.acted), due=None)
    # That it is still found before its check can have seen that it is well, says nothing about the remedy.
    span = policy.settle + case.lag
    case = replace(case, proving=Proving(action.id, now + span, str(action.remedy)))
    if outcome == "failed":
        case = _judged(turn, name, case, "failed", happening.error)
    elif case.in_trouble:
        again = now + span
        why = f"{action.remedy} was done, and has {format_duration(span)} to prove itself"
        case = turn.decide(replace(case, due=again), name, turn.decision("hold", "proving", why, again))
    turn.put(name, case)
    turn.look_at(name)


def unrecorded(turn: Turn, happening: Unrecorded) -> None:
    """Take back an action that was not begun, and try again later."""
    found = _of_action(turn, happening.action)
    if found is None:
        return
    name, case, action = found
    nothing = {"error": happening.why, "report": {}, "took": 0, "remedy": str(action.remedy)}
    turn.event("remedy-ended", name, id=action.id, outcome="not-begun", **nothing)
    actions = list(turn.actions)
    actions.remove(action.at)
    turn.actions = tuple(actions)
    case = replace(case, underway=None, attempts=case.attempts[:-1], acted=case.acted - 1)
    again = turn.now + RETRY
    why = f"it could not be put into the ledger, without which nothing is done: {happening.why}"
    case = turn.decide(case, name, turn.decision("hold", "unrecorded", why, again))
    turn.put(name, replace(case, pending=True, due=again))


def _judged(turn: Turn, name: str, case: Case, verdict: str, error: str = "") -> Case:
    """Return the case with its action judged: healed, failed or unknown."""
    proving = case.proving
    if proving is None:
        return case
    took = None
    if verdict == "healed" and case.clear is not None and case.since is not None:
        took = max(case.clear - case.since, 0)
    turn.event(
        "remedy-judged", name, id=proving.action, remedy=proving.remedy, verdict=verdict, recovered=took
    )
    said = f"{proving.remedy}: {verdict}{f', {error}' if error else ''}"
    return replace(case, proving=None, tried=(*case.tried, said)[-_TRIED:])


# What follows.


def wake(turn: Turn, name: str, case: Case) -> int | None:
    """Return when a target is to be evaluated if nothing happens."""
    known = getattr(case, "wake", None)
    if known is None or known[0] is not turn.rules or known[1] != name:
        known = (turn.rules, name, _wake(turn, name, case))
        case.note("wake", known)
    return known[2]


def _wake(turn: Turn, name: str, case: Case) -> int | None:
    policy = turn.policy(name)
    moments = troubles.wake(turn, name, case)
    if case.in_trouble:
        waits = case.hands_off or case.underway or (case.suspended and case.due is None)
        return min([*moments, *([] if waits else [case.due or 0])], default=None)
    if case.underway is None and case.clear is not None:
        well = case.clear + policy.healthy_after
        settled = troubles.settled(turn, name, case, case.clear)
        moments.append(settled if case.since is not None else well)
    elif case.underway is None and case.attempts:
        moments.append(case.attempts[-1] + policy.window)
    return min(moments, default=None)


def evaluate(turn: Turn, name: str) -> None:
    """Do what is due about a target."""
    case = turn.case(name)
    case.note("wake", None)
    if case.in_trouble:
        case = _in_trouble(turn, name, troubles.over(turn, name, case))
    else:
        case = troubles.over(turn, name, _well(turn, name, case))
    idle = replace(case, attempts=recent(case.attempts, turn.now, turn.policy(name).window))
    if replace(idle, decision=None) == Case():
        turn.put(name, Case())
        del turn.cases[name]
    else:
        turn.put(name, idle if len(idle.attempts) != len(case.attempts) else case)


def _well(turn: Turn, name: str, case: Case) -> Case:
    if case.underway is not None:
        return case
    if case.since is not None and turn.now >= troubles.settled(turn, name, case, case.clear or 0):
        case = _recovered(turn, name, case)
    policy = turn.policy(name)
    if case.since is None and case.clear is not None and turn.now >= case.clear + policy.healthy_after:
        if case.strikes:
            turn.event("reset", name, strikes=case.strikes)
        told = case.hands_off is not None and case.hands_off.kind == "told"
        case = replace(case, strikes=0, acted=0, rest_until=None, clear=None, decision=None)
        case = replace(case, hands_off=None if told else case.hands_off)
    return case


def _recovered(turn: Turn, name: str, case: Case) -> Case:
    case = _judged(turn, name, case, "healed")
    case = troubles.over(turn, name, case)
    clear, since = case.clear or turn.now, case.since or turn.now
    took = max(clear - since, 0)
    turn.event("recovered", name, since=since, took=took, told=case.told, tried=list(case.tried))
    turn.escalations = tuple(
        replace(item, recovered=clear) if str(item.target) == name and item.recovered is None else item
        for item in turn.escalations
    )
    if case.hands_off is None or case.hands_off.kind != "escalated":
        turn.drop_held(name)
    denied = case.hands_off is not None and case.hands_off.kind == "denied"
    hands_off = None if denied else case.hands_off
    case = replace(case, since=None, told=False, tried=(), hands_off=hands_off)
    return turn.decide(case, name, turn.decision("note", "recovered", "it is well again"))


def _in_trouble(turn: Turn, name: str, case: Case) -> Case:
    if case.underway is not None:
        return case
    if case.hands_off is not None:
        if _worse(case, case.hands_off.severity) and standstill(turn.question(name)) is None:
            return _escalated(turn, name, case, f"it is {case.findings[0].severity} by now", last=True)
        why = f"it is let be: {case.hands_off.why}"
        return turn.decide(case, name, turn.decision("hold", "hands-off", why))
    gate = standstill(turn.question(name))
    if gate is not None:
        if case.proving is not None:
            case = _judged(turn, name, case, "unknown")
        return _standing_still(turn, name, replace(case, suspended=gate.reason), gate)
    if case.suspended:
        # It may have got well meanwhile, by a remedy too, and its check sees that late.
        span = turn.policy(name).settle + case.lag
        why = f"it has {format_duration(span)} to get well by itself"
        gate = Gate("hold", "settling", why, turn.now + span)
        return _waiting(turn, name, replace(case, suspended=""), gate, gate.again)
    while case.hands_off is None and case.underway is None and (case.due is None or case.due <= turn.now):
        turn.put(name, case)
        case = _carried_out(turn, name, case) if case.pending else _strike(turn, name, case)
    return case


def _standing_still(turn: Turn, name: str, case: Case, gate: Gate) -> Case:
    """Hold a case; if it waits for what nobody heals, tell a person when its own steps would have done so."""
    awaited = unhealed(turn.question(name)) if gate.reason == UNHEALED and not case.told else None
    if awaited is None:
        return _waiting(turn, name, case, gate, None)
    policy = turn.policy(name)
    steps = policy.strikes.index("escalate") if "escalate" in policy.strikes else len(policy.strikes)
    due = (case.since or turn.now) + steps * policy.settle
    work = maintenance_of(turn.state(), awaited, turn.now)
    due = due if work is None else max(due, work.until)
    if turn.now < due:
        return _waiting(turn, name, case, replace(gate, again=due), due)
    case = _told(turn, name, case, gate.why, last=False)
    why = f"{gate.why}: a person is told"
    return _waiting(turn, name, case, Gate("escalate", UNHEALED, why), None)


def _worse(case: Case, told: str) -> bool:
    """Tell whether it is worse than what a person was told when it was let be."""
    return told != "" and SEVERITIES.index(case.findings[0].severity) > SEVERITIES.index(told)


def _waiting(turn: Turn, name: str, case: Case, gate: Gate, due: int | None) -> Case:
    decision = turn.decision(gate.verdict, gate.reason, gate.why, gate.again)
    return turn.decide(replace(case, due=due), name, decision)


def _strike(turn: Turn, name: str, case: Case) -> Case:
    """Count a strike, and take the step it leads to."""
    if case.proving is not None:
        case = _judged(turn, name, case, "failed", "the finding is still there")
    policy = turn.policy(name)
    case = replace(case, strikes=case.strikes + 1)
    last = case.strikes >= len(policy.strikes)
    if case.strikes > len(policy.strikes):
        return _escalated(turn, name, case, f"all {len(policy.strikes)} steps are used up", last=True)
    step = policy.strikes[case.strikes - 1]
    ordinal = f"strike {case.strikes} of {len(policy.strikes)}"
    if step == "act":
        return replace(case, pending=True, due=None)
    if step == "escalate":
        return _escalated(turn, name, case, ordinal, last=last)
    again = turn.now + policy.settle
    why = f"{ordinal}: it may get well by itself within {format_duration(policy.settle)}"
    return _waiting(turn, name, case, Gate("note", "strike", why, again), again)


def _told(turn: Turn, name: str, case: Case, why: str, *, last: bool) -> Case:
    findings = case.findings
    item = Escalation(
        turn.number(),
        Target.parse(name),
        turn.now,
        findings[0].severity,
        why,
        case.since or turn.now,
        tuple(item.summary for item in findings),
        case.tried,
        last,
        problem=findings[0].problem,
    )
    turn.escalate(item)
    return replace(case, told=True)


def _escalated(turn: Turn, name: str, case: Case, why: str, *, last: bool) -> Case:
    case = withdrawn(turn, name, case, "withdrawn")
    case = replace(_told(turn, name, case, why, last=last), pending=False)
    if last:
        kind = "told" if unavailable(turn.question(name)) else "escalated"
        hands_off = HandsOff(kind, turn.now, why, case.findings[0].severity)
        case = replace(case, hands_off=hands_off, due=None)
        text = f"{why}: a person is told, and it is let be"
        return turn.decide(case, name, turn.decision("escalate", "escalated", text))
    again = turn.now + turn.policy(name).settle
    return _waiting(turn, name, case, Gate("escalate", "strike", f"{why}: a person is told", again), again)


def _carried_out(turn: Turn, name: str, case: Case) -> Case:
    """Do the action that is pending, or what is done instead."""
    if case.ask is not None and turn.now >= case.ask.expires:
        case = withdrawn(turn, name, case, "expired")
        return replace(case, pending=False, due=None)
    question = turn.question(name)
    if outdated(question):
        case = withdrawn(turn, name, case, "withdrawn")
        turn.put(name, case)
        question = turn.question(name)
    gate = obstacle(question)
    if gate is None:
        return _begun(turn, name, case, question.treated())
    if gate.verdict == "escalate":
        return _escalated(turn, name, case, gate.why, last=True)
    if gate.verdict == "note":
        case = withdrawn(turn, name, case, "withdrawn")
        again, steps = turn.now + turn.policy(name).settle, turn.policy(name).strikes
        why = f"strike {case.strikes} of {len(steps)}: {gate.why}"
        # Further steps that act would only put off that a person is told.
        passed = next((n for n, step in enumerate(steps) if n >= case.strikes and step != "act"), len(steps))
        case = replace(case, pending=False, strikes=passed)
        return _waiting(turn, name, case, Gate("note", gate.reason, why, again), again)
    if gate.reason == "ask":
        return _asked(turn, name, case, str(question.remedy()))
    due = gate.again
    if case.ask is not None:
        due = min(case.ask.expires, due or case.ask.expires)
    return _waiting(turn, name, case, gate, due)


def _asked(turn: Turn, name: str, case: Case, remedy: str) -> Case:
    expires = turn.now + turn.policy(name).answer_within
    ask = Ask(turn.number(), remedy, turn.now, expires)
    turn.events.append(question(name, case, ask, turn.now))
    until = keeper_rules.spoken(turn.rules, expires)
    why = f"a person is asked whether to {remedy} (question {ask.id}, open until {until})"
    return _waiting(turn, name, replace(case, ask=ask), Gate("ask", "asked", why, expires), expires)


def question(name: str, case: Case, ask: Ask, now: int) -> Event:
    """Return the event of a question about a target in trouble."""
    worst = case.findings[0]
    about = {"problem": worst.problem, "severity": worst.severity, "since": worst.since}
    summaries = [item.summary for item in case.findings]
    asked = {"id": ask.id, "remedy": ask.remedy, "expires": ask.expires, "findings": summaries}
    return Event("asked", name, now, {**asked, **about})


def _begun(turn: Turn, name: str, case: Case, treated: tuple[Finding, Remedy] | None) -> Case:
    if treated is None:
        raise AssertionError(f"{name} may be acted on without a remedy")
    finding, remedy = treated
    policy, by = turn.policy(name), case.ask.by if case.ask is not None else ""
    why = f"strike {case.strikes} of {len(policy.strikes)}: {finding.summary}"
    action = Action(
        turn.number(), Target.parse(name), finding.problem, remedy, turn.now, why, case.acted + 1, by
    )
    turn.event("remedy-begun", name, **to_plain(action, whole=True))
    turn.actions = (*turn.actions, turn.now)
    turn.act(action)
    case = withdrawn(turn, name, case, "used")
    case = replace(
        case,
        pending=False,
        due=None,
        underway=action,
        acted=case.acted + 1,
        attempts=(*recent(case.attempts, turn.now, policy.window), turn.now),
    )
    return turn.decide(case, name, turn.decision("act", "strike", f"{remedy}, {why}"))
