"""What the tests of the ledger have in common."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from rota_agents.home_keeper.core import Core
from rota_agents.home_keeper.messages import (
    Act,
    Effect,
    Observed,
)
from rota_agents.home_keeper.state import Reading, State
from rota_agents.home_keeper.words import Target

from rota.frozen import to_plain
from rota.keeper_rules import Rules
from rota.quantity import USEC

from .kit import NOON, WEB, finding, rules

CHECKS = frozenset(("units",))
AT_ONCE = rules(strikes=("act", "act", "act", "escalate"), cooldown=10 * USEC)
FAILS = Observed("units", Target.parse(WEB), (finding(),))
HEALS = Observed("units", Target.parse(WEB))


def clock(seconds: float = 0, boot: str = "a", real: float | None = None) -> Reading:
    usec = round(seconds * USEC)
    return Reading(NOON + (usec if real is None else round(real * USEC)), usec, boot)


def core(path: Path, seconds: float = 0, found: Rules = AT_ONCE) -> Core:
    return Core(path, found, CHECKS, clock(seconds))


def acts(effects: list[Effect]) -> list[int]:
    return [item.action.id for item in effects if isinstance(item, Act)]


def remembered(state: State) -> dict[str, Any]:
    """Return all of a state but when the last step was, which alone is not filed."""
    return dict(to_plain(state)) | {"at": 0}


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what another program sees in the file."""
    with sqlite3.connect(path) as db:
        return db.execute(query).fetchall()
