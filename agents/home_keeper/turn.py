"""One step while it is made: a copy of the state to write to, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rota import keeper_rules
from rota.frozen import to_plain
from rota.keeper_rules import Policy, Rules, matches

from .gates import HOUR, Question, after, recent
from .messages import Act, Effect, Event, Reply, Tell
from .state import Case, State
from .words import Action, Decision, Escalation


class Turn:
    """The state before a step, changed as the step goes along; `state` returns it frozen."""

    def __init__(self, state: State, rules: Rules, now: int) -> None:
        self._before = state
        self.rules = rules
        self.now = now
        self.cases = dict(state.cases)
        self.actions = recent(state.actions, now, HOUR)
        self.escalations = state.escalations
        self.maintenance = state.maintenance
        self.serial = state.serial
        self.events: list[Event] = []
        self.effects: list[Effect] = []
        self._todo: dict[str, None] = {}

    def state(self) -> State:
        """Return the state as it is by now."""
        return replace(
            self._before,
            cases=self.cases,
            actions=self.actions,
            escalations=self.escalations,
            maintenance=self.maintenance,
            serial=self.serial,
            at=max(self._before.at, self.now),
        )

    def number(self) -> int:
        """Return a number that nothing else has."""
        self.serial += 1
        return self.serial - 1

    def case(self, name: str) -> Case:
        """Return what is remembered of a target."""
        return self.cases.get(name) or Case()

    def policy(self, name: str) -> Policy:
        """Return what holds for a target."""
        return keeper_rules.policy_for(self.rules, name, self.case(name).label)

    def question(self, name: str) -> Question:
        """Return the question whether a target may be acted on now."""
        return Question(self.state(), self.rules, name, self.case(name), self.now)

    def event(self, kind: str, target: str, /, **data: Any) -> None:
        """File that something happened."""
        self.events.append(Event(kind, target, self.now, data))

    def put(self, name: str, case: Case) -> None:
        """Remember a target so; who waits for it is looked at if that matters to them."""
        before = self.cases.get(name) or Case()
        self.cases[name] = case
        if before.waited_for != case.waited_for:
            self.changed(name)

    def changed(self, name: str) -> None:
        """Look at those who wait for a target."""
        check = name.removeprefix("check:") if name.startswith("check:") else None
        for other, case in self.cases.items():
            checks, patterns = self._waits(other, case)
            if not patterns and check is None:
                continue
            if other != name and (check in checks or any(matches(pattern, name) for pattern in patterns)):
                self.look_at(other)

    def _waits(self, name: str, case: Case) -> tuple[frozenset[str], tuple[str, ...]]:
        """Return which checks found something of a target, and patterns of those that it needs then."""
        known = getattr(case, "waits", None)
        if known is None or known[0] is not self.rules or known[1] != name:
            checks = frozenset(item.check for item in case.open.values())
            known = (self.rules, name, checks, after(self.rules, name, case) if checks else ())
            case.note("waits", known)
        return known[2], known[3]

    def look_at(self, name: str) -> None:
        """Have a target evaluated in this step."""
        self._todo[name] = None

    def look_at_matching(self, pattern: str) -> None:
        """Have all targets evaluated that a pattern matches."""
        for name in self.cases:
            if matches(pattern, name):
                self.look_at(name)

    def work(self, evaluate: Callable[[Turn, str], None]) -> None:
        """Evaluate what is to be, until there is nothing left."""
        while self._todo:
            name = next(iter(self._todo))
            del self._todo[name]
            if name in self.cases:
                evaluate(self, name)

    def decide(self, case: Case, name: str, decision: Decision) -> Case:
        """Return the case with a decision; file it if it is another than the last."""
        last = case.decision
        if last is None or (last.verdict, last.reason) != (decision.verdict, decision.reason):
            found = {"verdict": decision.verdict, "reason": decision.reason, "why": decision.why}
            self.event("decided", name, **found, again=decision.again)
        elif last.again == decision.again and last.why == decision.why:
            return case
        return replace(case, decision=decision)

    def decision(self, verdict: str, reason: str, why: str, again: int | None = None) -> Decision:
        """Return a decision that is made now."""
        return Decision(verdict, reason, why, self.now, again)

    def act(self, action: Action) -> None:
        """Have an action carried out."""
        self.effects.append(Act(action))

    def quiet(self, severity: str) -> bool:
        """Tell whether people are not to be told now of what is so severe."""
        return severity != "critical" and keeper_rules.quiet_until(self.rules, self.now) is not None

    def escalate(self, item: Escalation) -> None:
        """Have a person told; in quiet hours after them, and then of each target the last only."""
        held = self.quiet(item.severity)
        self.drop_held(str(item.target))
        self.escalations = (*self.escalations, replace(item, held=held))
        if not held:
            self.escalated(item)

    def escalated(self, item: Escalation) -> None:
        """File an escalation, so that those who deliver it hear of it."""
        self.event("escalated", str(item.target), **to_plain(replace(item, held=False), whole=True))

    def drop_held(self, name: str) -> None:
        """Forget what nobody heard of yet, and need not any more."""
        kept = (item for item in self.escalations if not (item.held and str(item.target) == name))
        self.escalations = tuple(kept)

    def tell(self, escalation: Escalation) -> None:
        """Have people told."""
        self.effects.append(Tell(escalation))

    def reply(self, done: bool, text: str) -> None:
        """Answer who asked."""
        self.effects.append(Reply(done, text))
