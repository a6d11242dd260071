"""What people and those who deliver messages say to the keeper. Pure."""

from __future__ import annotations

from dataclasses import replace

from rota.keeper_rules import matches, spoken

from .gates import outdated, recent
from .messages import Acknowledge, Answer, EndMaintenance, Maintain, Resume
from .state import HandsOff, Maintenance
from .turn import Turn


def answer(turn: Turn, happening: Answer) -> None:
    """A person says yes or no to a question."""
    name = next((key for key, case in turn.cases.items() if case.ask and case.ask.id == happening.ask), None)
    case = turn.case(name) if name else None
    if name is None or case is None or case.ask is None or turn.now >= case.ask.expires:
        turn.reply(False, f"There is no open question {happening.ask}; `rota keeper` lists those there are.")
        return
    if case.ask.by and happening.yes:
        turn.reply(False, f"Question {happening.ask} was approved by {case.ask.by} already.")
        return
    if happening.yes and outdated(turn.question(name)):
        turn.put(name, replace(case, due=None))
        turn.look_at(name)
        now, then = turn.question(name).remedy(), case.ask.remedy
        text = (
            f"Question {happening.ask} was whether to {then}; by now it would be {now}: that is asked anew."
        )
        turn.reply(False, text)
        return
    said = "approved" if happening.yes else "denied"
    turn.event("answered", name, id=happening.ask, answer=said, by=happening.by)
    remedy = case.ask.remedy
    if happening.yes:
        turn.put(name, replace(case, ask=replace(case.ask, by=happening.by), due=None))
        turn.reply(True, f"{remedy} of {name} is approved; it is done as soon as its policy allows.")
    else:
        hands_off = HandsOff("denied", turn.now, f"{happening.by} denied to {remedy}")
        turn.put(name, replace(case, ask=None, pending=False, due=None, hands_off=hands_off))
        turn.reply(True, f"{remedy} of {name} is denied; it is let be until it is well again.")
    turn.look_at(name)


def resume(turn: Turn, happening: Resume) -> None:
    """A person gives targets back: strikes, cooldown and growth begin anew, not the window of attempts."""
    found = [
        name
        for name, case in turn.cases.items()
        if case.hands_off is not None and matches(happening.pattern, name)
    ]
    for name in found:
        case = replace(turn.case(name), hands_off=None, strikes=0, acted=0, rest_until=None)
        turn.put(name, replace(case, due=None, pending=False))
        turn.event("resumed", name, by=happening.by)
        turn.drop_held(name)
        turn.look_at(name)
    if found:
        waits = "".join(f" {text}" for name in sorted(found) if (text := _spent(turn, name)))
        turn.reply(True, f"Resumed: {', '.join(sorted(found))}.{waits}")
    else:
        turn.reply(False, f"Nothing like {happening.pattern} is let be; `rota keeper` lists what is.")


def _spent(turn: Turn, name: str) -> str:
    """Return what keeps a target from being acted on although it was resumed, "" if nothing does."""
    policy = turn.policy(name)
    begun = recent(turn.case(name).attempts, turn.now, policy.window)
    if len(begun) < policy.attempts:
        return ""
    free = spoken(turn.rules, begun[-policy.attempts] + policy.window)
    return f"Attempts on {name} are used up: nothing is done before {free}."


def maintain(turn: Turn, happening: Maintain) -> None:
    """A person begins to work on something."""
    item = Maintenance(turn.number(), happening.pattern, turn.now, turn.now + happening.span, happening.by)
    turn.maintenance = (*turn.maintenance, item)
    turn.event("maintenance-begun", item.pattern, id=item.id, until=item.until, by=item.by)
    turn.look_at_matching(item.pattern)
    whose = "the house" if item.pattern == "*" else item.pattern
    until = spoken(turn.rules, item.until)
    turn.reply(True, f"Maintenance {item.id} of {whose} until {until}: nothing is acted on, nothing counted.")


def end_maintenance(turn: Turn, happening: EndMaintenance) -> None:
    """The work is over, before its time."""
    found = [item for item in turn.maintenance if happening.id in (None, item.id)]
    turn.maintenance = tuple(item for item in turn.maintenance if item not in found)
    for item in found:
        turn.event("maintenance-ended", item.pattern, id=item.id, by=happening.by)
        turn.look_at_matching(item.pattern)
    if found:
        turn.reply(True, f"Maintenance {', '.join(str(item.id) for item in found)} is over.")
    else:
        which = "" if happening.id is None else f" {happening.id}"
        turn.reply(False, f"There is no maintenance{which}; `rota keeper` lists what there is.")


def acknowledge(turn: Turn, happening: Acknowledge) -> None:
    """An escalation is with those who deliver it."""
    for item in turn.escalations:
        if item.id == happening.escalation:
            turn.event("acknowledged", str(item.target), id=item.id)
    turn.escalations = tuple(item for item in turn.escalations if item.id != happening.escalation)
