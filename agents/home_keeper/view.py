"""What the keeper knows, as people and programs ask for it: tables for JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rota import keeper_rules
from rota.frozen import to_plain
from rota.keeper_rules import Rules

from .explain import explain
from .gates import HOUR, Question, next_allowed, recent
from .state import Case, State
from .words import SEVERITIES

Table = dict[str, Any]


def finding_count(state: State) -> Table:
    """Return how many findings are open, by severity."""
    found = [item.finding.severity for case in state.cases.values() for item in case.open.values()]
    return {severity: found.count(severity) for severity in SEVERITIES}


def under_way(state: State) -> int:
    """Return how many actions are being carried out."""
    return sum(case.underway is not None for case in state.cases.values())


def summary(state: State) -> str:
    """Return how it does, in a few words: "12 findings, 1 action under way"."""
    findings, acting = sum(finding_count(state).values()), under_way(state)
    asked = sum(case.ask is not None and not case.ask.by for case in state.cases.values())
    parts = [f"{findings or 'no'} finding{'' if findings == 1 else 's'}"]
    parts += [f"{acting} action{'' if acting == 1 else 's'} under way"] if acting else []
    parts += [f"{asked} question{'' if asked == 1 else 's'} open"] if asked else []
    return ", ".join(parts)


def _shown(case: Case) -> bool:
    return bool(case.open or case.since is not None or case.hands_off or case.ask or case.underway)


def target(state: State, rules: Rules, name: str, now: int) -> Table:
    """Return what is known of a target.

    Returns:
        `next` is when it may be acted on if need be, null if only an event or a person can tell; `waits` for
        what, in words; `under_way`, `question`, `hands_off` and `decision` are null where there is none.
    """
    case = state.cases.get(name) or Case()
    policy = keeper_rules.policy_for(rules, name, case.label)
    at, waits = next_allowed(Question(state, rules, name, case, now))
    return {
        "target": name,
        "mode": policy.mode,
        "findings": [
            {**to_plain(item.finding, whole=True), "target": name, "check": item.check, "seen": item.seen}
            for item in sorted(case.open.values(), key=lambda item: item.finding.since)
        ],
        "since": case.since,
        "strikes": case.strikes,
        "steps": list(policy.strikes),
        "next": at,
        "waits": waits,
        "hands_off": _whole(case.hands_off),
        "under_way": None
        if case.underway is None
        else {**to_plain(case.underway, whole=True), "target": name},
        "question": _whole(case.ask),
        "tried": list(case.tried),
        "decision": _whole(case.decision),
    }


def _whole(value: Any) -> Any:
    return None if value is None else to_plain(value, whole=True)


def house(state: State, rules: Rules, now: int) -> Table:
    """Return how the house does: all targets where there is something to tell, and what holds for all."""
    shown = [name for name, case in state.cases.items() if _shown(case)]
    return {
        "mode": rules.mode,
        "unnamed": rules.unnamed,
        "quiet_until": keeper_rules.quiet_until(rules, now),
        "actions": {"used": len(recent(state.actions, now, HOUR)), "limit": rules.actions_per_hour},
        "targets": [target(state, rules, name, now) for name in sorted(shown)],
        "maintenance": [to_plain(item, whole=True) for item in state.maintenance if item.until > now],
        "escalations": [
            {**to_plain(item, whole=True), "target": str(item.target)} for item in state.escalations
        ],
    }


def explained(state: State, rules: Rules, name: str, now: int) -> Table:
    """Return what is known of a target, and the same in sentences.

    Raises:
        ValueError: that is no target.
    """
    sentences = explain(state, rules, name, now)
    return {**target(state, rules, name, now), "sentences": sentences}


def measured(state: State, rules: Rules, sums: Mapping[str, Any], now: int) -> Table:
    """Return what there is to measure; `sums` as from `sums.table`."""
    used = len(recent(state.actions, now, HOUR))
    return {
        "findings": finding_count(state),
        "under_way": under_way(state),
        "actions_left": max(rules.actions_per_hour - used, 0),
        **sums,
    }
