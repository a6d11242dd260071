"""Up to where an agent's slots are accounted for, as the store keeps it; pure."""

from __future__ import annotations

from typing import NamedTuple

from rota.events import Event


class Mark(NamedTuple):
    """Up to where an agent's slots are accounted for: columns of the table `marks`, after the agent.

    Attributes:
        upto: the last moment, microseconds since 1970.
        digest: of the timer whose slots those are, "" where not known; see slots.Timer.
        row: id of the row of missed slots that ends there and may go on.
        lines: the timer itself, as JSON; None if only the journal tells of it.
    """

    upto: int
    digest: str
    row: str | None = None
    lines: str | None = None


def advance(event: Event) -> tuple[str, int, str, str | None]:
    """Return agent, last slot, digest and row that may go on, of an event about slots.

    It moves the mark in the transaction that files the event, so what the journal tells is never accounted
    for again, and what it does not tell, always.
    """
    data = event.data
    missed = event.kind == "missed"
    upto = int(data["slot_until"] if missed else data["slot"])
    return event.agent, upto, str(data.get("timer", "")), event.run if missed else None
