"""A house for tests: the policy with a clock that is told to go on, and a record of all that came out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rota_agents.home_keeper import explain, policy
from rota_agents.home_keeper.gates import Question, next_allowed
from rota_agents.home_keeper.messages import (
    Acknowledge,
    Act,
    Answer,
    Ended,
    Event,
    Happening,
    Maintain,
    Observed,
    Reply,
    Resume,
    Tell,
)
from rota_agents.home_keeper.state import Case, State
from rota_agents.home_keeper.words import Action, Decision, Escalation, Finding, Target

from rota.keeper_rules import Override, Policy, Rules
from rota.quantity import USEC
from rota.quiet import Quiet, parse_quiet

MINUTE, HOUR = 60, 3600
WEB, DATABASE = "unit:web.service", "unit:postgresql.service"
AT_ONCE = ("act", "act", "act", "act", "escalate")


def moment(text: str) -> int:
    """Return microseconds since 1970 of a date and time in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * USEC


NOON = moment("2026-11-21 12:00:00")


def rules(*targets: Override, quiet: str = "", **more: Any) -> Rules:
    """Return rules in UTC; keys of a policy among the rest go there, and a target without others is WEB."""
    own = {
        name: more.pop(name) for name in list(more) if name in Policy.__dataclass_fields__ and name != "mode"
    }
    spans: tuple[Quiet, ...] = tuple(parse_quiet(item) for item in quiet.split()) if quiet else ()
    named = targets or (Override(WEB),)
    return Rules(quiet=spans, timezone="UTC", policy=Policy(**own), targets=named, **more)


def finding(target: str = WEB, problem: str = "failed", severity: str = "warning", **details: Any) -> Finding:
    """Return a finding."""
    return Finding(Target.parse(target), problem, severity, NOON, f"{target} is {problem}", details)


class House:
    """The state of a keeper, stepped by what a test says happens."""

    def __init__(self, found: Rules | None = None, now: int = NOON, state: State | None = None) -> None:
        self.rules = found or rules()
        self.now = now
        self.state = state or State()
        self.events: list[Event] = []
        self.acts: list[tuple[int, Action]] = []
        self.told: list[tuple[int, Escalation]] = []
        self.replies: list[Reply] = []

    def step(self, happening: Happening) -> None:
        """Let something happen now."""
        done = policy.step(self.state, happening, self.rules, self.now)
        self.state = done.state
        self.events += done.events
        for effect in done.effects:
            if isinstance(effect, Act):
                self.acts.append((self.now, effect.action))
            elif isinstance(effect, Tell):
                self.told.append((self.now, effect.escalation))
            else:
                self.replies.append(effect)

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick whenever one is due."""
        from rota_agents.home_keeper.messages import Tick

        end = self.now + round(seconds * USEC)
        while (due := policy.wake(self.state, self.rules)) is not None and due <= end:
            assert due > self.now, "it would tick for ever"
            self.now = due
            self.step(Tick())
        self.now = end

    def fails(
        self, target: str = WEB, problem: str = "failed", severity: str = "warning", **more: Any
    ) -> None:
        """Let a target have one finding."""
        check, lag = more.pop("check", "units"), more.pop("lag", 0)
        found = replace(finding(target, problem, severity, **more), lag=round(lag * USEC))
        self.step(Observed(check, Target.parse(target), (found,)))

    def heals(self, target: str = WEB, check: str = "units") -> None:
        """Let a target have no finding."""
        self.step(Observed(check, Target.parse(target)))

    def ends(self, outcome: str = "ok", error: str = "") -> None:
        """Let the last action end."""
        self.step(Ended(self.acts[-1][1].id, outcome, error))

    def works(self, target: str = WEB) -> None:
        """Let the last action heal its target."""
        self.ends()
        self.heals(target)

    def resume(self, pattern: str = WEB) -> None:
        """Let ada resume."""
        self.step(Resume(pattern, "ada"))

    def maintain(self, pattern: str = "*", seconds: float = 2 * HOUR) -> None:
        """Let ada begin maintenance."""
        self.step(Maintain(pattern, round(seconds * USEC), "ada"))

    def answer(self, yes: bool, ask: int | None = None) -> None:
        """Let ada answer a question: of WEB, by default."""
        found = self.case().ask
        self.step(Answer(ask if ask is not None else found.id if found else 0, yes, "ada"))

    def acknowledge(self) -> None:
        """Let all escalations be acknowledged."""
        for item in self.state.escalations:
            self.step(Acknowledge(item.id))

    def case(self, target: str = WEB) -> Case:
        """Return what is remembered of a target."""
        return self.state.cases.get(target) or Case()

    def decision(self, target: str = WEB) -> Decision:
        """Return what was decided last."""
        found = self.case(target).decision
        assert found is not None
        return found

    def verdict(self, target: str = WEB) -> tuple[str, str]:
        """Return the verdict and its reason."""
        found = self.decision(target)
        return found.verdict, found.reason

    def kinds(self, *kinds: str) -> list[str]:
        """Return the kinds of events so far, of some kinds if any are named."""
        return [event.kind for event in self.events if not kinds or event.kind in kinds]

    def data(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of events of a kind."""
        return [dict(event.data) for event in self.events if event.kind == kind]

    def at(self, position: int = -1) -> float:
        """Return when an action began, in seconds since noon."""
        return (self.acts[position][0] - NOON) / USEC

    def sentences(self, target: str = WEB) -> list[str]:
        """Return the explanation of a target."""
        found: list[str] = explain.explain(self.state, self.rules, target, self.now)
        return found

    def allowed(self, target: str = WEB) -> tuple[float | None, str]:
        """Return when an action is allowed, in seconds from now, and what it waits for."""
        question = Question(self.state, self.rules, target, self.case(target), self.now)
        at, why = next_allowed(question)
        return (None if at is None else (at - self.now) / USEC), why
