"""What is remembered, as the events that tell of it: for a ledger that does not have them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rota.frozen import to_plain

from . import care, troubles
from .messages import Event
from .state import State


def remembered(state: State, now: int) -> Iterator[Event]:
    """Yield all that is open, under way, asked or not heard of; now: microseconds since 1970."""
    for name, case in state.cases.items():
        for item in case.open.values():
            found = to_plain(item.finding, whole=True)
            yield Event("finding-opened", name, now, {"check": item.check, "finding": found})
        if case.underway is not None:
            yield Event("remedy-begun", name, case.underway.at, to_plain(case.underway, whole=True))
        for problem, trouble in case.troubles.items():
            if trouble.untold:
                continue
            yield troubles.told(name, problem, trouble, now)
        if case.ask is not None and case.in_trouble:
            yield care.question(name, case, case.ask, now)
    for one in state.escalations:
        if one.held:
            continue
        yield Event("escalated", str(one.target), now, to_plain(one, whole=True))
    for work in state.maintenance:
        told = {"id": work.id, "until": work.until, "by": work.by}
        yield Event("maintenance-begun", work.pattern, now, told)


def key(event: Event) -> tuple[str, str, str]:
    """Return what tells an event of `remembered` from the others."""
    data = event.data
    return event.kind, event.target, str(data.get("id") or data.get("problem") or data["finding"]["problem"])


def missing(state: State, filed: Iterable[Event], now: int) -> list[Event]:
    """Return the events of `remembered` that are not among others."""
    found = list(remembered(state, now))
    kinds = {event.kind for event in found}
    there = {key(event) for event in filed if event.kind in kinds}
    return [event for event in found if key(event) not in there]
