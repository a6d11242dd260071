"""Which runs are wanted, as SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_USUAL = {"state": "succeeded", "trigger": "timer"}
"""What most runs have; these are in no index, which SQLite uses only where a query leaves them out, too."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which runs are wanted; what is empty or None does not matter.

    Attributes:
        agents: of these agents.
        states: in these states.
        triggers: started by these.
        since: begun then or later, microseconds since 1970.
        until: begun before.
        before: recorded before the run of this id.
    """

    agents: tuple[str, ...] | None = None
    states: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    before: str | None = None

    def where(self) -> tuple[str, list[Any]]:
        """Return the WHERE clause, and its values."""
        parts: list[str] = []
        values: list[Any] = []
        for column, wanted in (("agent", self.agents), ("state", self.states), ("trigger", self.triggers)):
            if wanted or (column == "agent" and wanted is not None):
                # By when rather than by what, if both are told: + keeps SQLite from the column's index.
                plus = "+" if self.since is not None and column != "agent" else ""
                parts.append(f"{plus}{column} IN ({', '.join('?' * len(wanted))})")
                values += wanted
                if (usual := _USUAL.get(column)) is not None and usual not in wanted:
                    parts.append(f"{column} <> '{usual}'")
        for operator, moment in ((">=", self.since), ("<", self.until)):
            if moment is not None:
                parts.append(f"started {operator} ?")
                values.append(moment)
        if self.before is not None:
            parts.append("rowid < (SELECT rowid FROM runs WHERE id = ?)")
            values.append(self.before)
        return (f"WHERE {' AND '.join(parts)}" if parts else ""), values

    def order(self) -> str:
        """Return how they are sorted: newest first, as recorded; by the clock where that is asked for."""
        return "started DESC, rowid DESC" if self.until is not None and self.before is None else "rowid DESC"


EVERYTHING = Query()
