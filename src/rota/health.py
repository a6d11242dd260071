"""How agents did lately, at little cost: for people who look once, and for what looks again and again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from rota.events import REAL, Run
from rota.query import Query
from rota.store import Store

TREND = 10
"""So many of an agent's last runs are its trend."""
_MANY = 5000
"""After more events than these it is not looked up whose they are: all agents are told of."""


@dataclass(frozen=True, slots=True)
class Lately:
    """An agent's last runs.

    Attributes:
        newest: the last that was recorded, over or not.
        last: the last that is over; slots that were missed are none.
        missed: how many slots were missed since it began.
        trend: states of the last that are over, slots that were missed among them, oldest first.
    """

    newest: Run | None
    last: Run | None
    missed: int
    trend: list[str]


def lately(store: Store, agent: str) -> Lately:
    """Return how an agent did lately."""
    runs = store.runs(Query((agent,)), TREND + 1)
    over = [run for run in runs if run.over]
    real = over
    if over and all(run.state == "missed" for run in over):
        real = store.runs(Query((agent,), REAL), 1)
    last = next((run for run in real if run.state != "missed"), None)
    began = (last.started or 0) if last else 0
    missed = sum(run.slots or 0 for run in over if run.state == "missed" and (run.slot_until or 0) > began)
    return Lately(runs[0] if runs else None, last, missed, [run.state for run in reversed(over[:TREND])])


def table(store: Store, since: int, agents: Collection[str]) -> dict[str, Any]:
    """Return how those of some agents did of which something was recorded after number `since`.

    If that is 0, long ago, or of another store, it is all of them. Nothing but what is recorded changes this,
    except that old runs are forgotten.
    """
    last = store.bounds()[1]
    known = 0 < since <= last and last - since <= _MANY
    changed = store.agents_since(since).intersection(agents) if known else agents
    return {
        "store": store.id(),
        "seq": last,
        "names": sorted(agents),
        "agents": [_line(name, lately(store, name)) for name in sorted(changed)],
    }


def _line(agent: str, found: Lately) -> dict[str, Any]:
    last = found.last
    how = last and {"state": last.state, "reason": last.reason, "status": last.status, "signal": last.signal}
    return {"agent": agent, "trend": found.trend, "missed": found.missed, "last": how}
