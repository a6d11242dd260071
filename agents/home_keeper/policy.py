"""What to do about findings: step(state, what happened, rules, now) -> state, events, effects. Pure.

A target is in trouble as long as it has a finding (of more than info). Its strikes are counted:

- when trouble comes, or comes again before the target was well for `healthy_after`;
- when trouble is still there `settle` after the step that the last strike led to;
- when a remedy failed: by its own word, or because there was a finding within `settle` of its end,
  or, where its check may find for longer what is well (`Finding.lag`), that much later.

Each strike leads to the next step of `strikes`: note, act, escalate. With the last, or when the attempts
within the window are used up, a person is told and the target is let be, until somebody resumes. What cannot
be done yet waits and is not used up: if the trouble goes away meanwhile, the strike is taken back. A case
stands still, uncounted, in maintenance, while what the target needs is in trouble, and while nobody can look.
If what it needs is let be, never to be acted on, a person is told what waits for it, when its own steps would
have done so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rota import keeper_rules
from rota.frozen import moved
from rota.keeper_rules import Rules
from rota.quantity import USEC

from . import care, commands
from .messages import (
    Acknowledge,
    Anew,
    Answer,
    Effect,
    Ended,
    EndMaintenance,
    Event,
    Happening,
    Maintain,
    Observed,
    Resume,
    Started,
    Tick,
    Unrecorded,
)
from .state import CLOCK_TOLERANCE, State
from .turn import Turn

RETELL = 300 * USEC
"""An escalation that is not acknowledged is told again after this."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step came to: the state after it, events to be filed, and then effects to be carried out."""

    state: State
    events: tuple[Event, ...]
    effects: tuple[Effect, ...]


def step(state: State, happening: Happening, rules: Rules, now: int) -> Step:
    """Take in that something happened.

    Args:
        state: what is remembered.
        happening: what happened.
        rules: the policy.
        now: microseconds since 1970. Where it is before the last step, the clock was set back: spans go on
            from there.

    Returns:
        The new state, events, and effects: these only after the other two are on the disk.
    """
    back = now - state.at
    if -CLOCK_TOLERANCE < back < 0:
        now = state.at
    turn = Turn(moved(state, back) if now < state.at else state, rules, now)
    if now < state.at:
        turn.event("clock-set", "", by=back)
    _HANDLERS[type(happening)](turn, happening)
    _pass_time(turn)
    return Step(turn.state(), tuple(turn.events), tuple(turn.effects))


def wake(state: State, rules: Rules) -> int | None:
    """Return when a Tick is due if nothing happens before; None: never."""
    turn = Turn(state, rules, state.at)
    moments = [at for name, case in turn.cases.items() if (at := care.wake(turn, name, case)) is not None]
    moments += [item.until for item in state.maintenance]
    quiet = keeper_rules.quiet_until(rules, state.at) if state.escalations else None
    for item in state.escalations:
        due = state.at if item.told is None else item.told + RETELL
        waits = quiet is not None and item.severity != "critical"
        moments.append(max(due, quiet) if waits and quiet else due)
    return min(moments, default=None)


def _pass_time(turn: Turn) -> None:
    """Do what is due by now, and again what that has changed for others."""
    for item in turn.maintenance:
        if item.until <= turn.now:
            turn.maintenance = tuple(other for other in turn.maintenance if other != item)
            turn.event("maintenance-ended", item.pattern, id=item.id, by="")
            turn.look_at_matching(item.pattern)
    for name, case in turn.cases.items():
        due = care.wake(turn, name, case)
        if due is not None and due <= turn.now:
            turn.look_at(name)
    turn.work(care.evaluate)
    _tell(turn)


def _tell(turn: Turn) -> None:
    told = []
    for item in turn.escalations:
        waits = turn.quiet(item.severity)
        if item.held and not waits:
            item = replace(item, held=False)  # noqa: PLW2901  (frozen)
            turn.escalated(item)
        if not waits and (item.told is None or turn.now >= item.told + RETELL):
            item = replace(item, told=turn.now)  # noqa: PLW2901  (frozen)
            turn.tell(item)
        told.append(item)
    turn.escalations = tuple(told)


def _tick(turn: Turn, happening: Tick) -> None:
    """Nothing happened but time."""


_HANDLERS: Mapping[type, Callable[[Turn, Any], None]] = {
    Started: care.started,
    Observed: care.observed,
    Ended: care.ended,
    Unrecorded: care.unrecorded,
    Anew: care.anew,
    Tick: _tick,
    Answer: commands.answer,
    Resume: commands.resume,
    Maintain: commands.maintain,
    EndMaintenance: commands.end_maintenance,
    Acknowledge: commands.acknowledge,
}
