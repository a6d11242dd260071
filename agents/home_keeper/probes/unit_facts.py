"""Asks systemd for what its signals do not say of a unit, and the judge needs: no more than that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rota.unit_watches import Units

from ..checks.units import BY_REQUEST, CHANGING, RESTARTING, Past, Unit
from ..checks.words import SECOND
from .manager import Manager
from .threads import Threads

NOT_FOLLOWED = (".device", ".slice")
"""Types of units of which there are many, and nothing to be done about."""
_NEVER = 2**64 - 1
_TOGETHER = 10 * SECOND
"""If what a unit needs came up so soon after the unit was stopped, it was restarted, and the unit was not."""
_RESULTS = {
    ".service": "Service", ".mount": "Mount", ".socket": "Socket", ".swap": "Swap", ".timer": "Timer",
    ".path": "Path", ".automount": "Automount", ".scope": "Scope",
}  # fmt: skip
"""Interfaces that have a Result, by the type of the unit."""


@dataclass(slots=True)
class Known:
    """What systemd said of a unit by itself; see `checks.units.Unit`.

    Attributes:
        load: LoadState.
        active: ActiveState.
        sub: SubState.
        job: the id of its job, 0 for none.
        since: when it came into this state, microseconds since 1970; 0: systemd was not asked.
        monotonic: the same by CLOCK_MONOTONIC.
        met: whether its conditions were met when it was started last; None: systemd was not asked.
        stopped: whether a job ended it; None: that was before we looked.
    """

    load: str
    active: str
    sub: str
    job: int = 0
    since: int = 0
    monotonic: int = 0
    met: bool | None = None
    stopped: bool | None = None

    def matters(self, name: str, past: Past | None, rules: Units) -> bool:
        """Tell whether anything can be wrong with the unit, without asking systemd."""
        if self.active not in ("active", "inactive") or (past is not None and past.restarts):
            return True
        return self.active == "inactive" and (name in rules.running or name.endswith(".timer"))


def _wanted(name: str, known: Known, past: Past | None, stuck: int) -> Iterator[tuple[str, str]]:
    """Yield properties to be asked for, and their interfaces."""
    service, active = name.endswith(".service"), known.active
    if not known.since:
        yield from (("StateChangeTimestamp", "Unit"), ("StateChangeTimestampMonotonic", "Unit"))
    if service and (active == "failed" or known.sub in RESTARTING or past is not None):
        yield "NRestarts", "Service"
    if active == "failed":
        yield "LoadState", "Unit"
        if interface := _RESULTS.get(f".{name.rpartition('.')[2]}"):
            yield "Result", interface
        if service:
            yield from (("ExecMainCode", "Service"), ("ExecMainStatus", "Service"))
    elif active in CHANGING and service and known.sub not in RESTARTING:
        # Most units are up long before it matters how long they may take.
        if not known.monotonic or _age(known.monotonic) >= stuck:
            limit = "TimeoutStopUSec" if active == "deactivating" else "TimeoutStartUSec"
            yield from ((limit, "Service"), ("Type", "Service"))
    elif active == "inactive":
        yield "LoadState", "Unit"
        if known.met is None:
            yield from (("ConditionResult", "Unit"), ("ConditionTimestamp", "Unit"))
        if service:
            yield "Type", "Service"
        if name.endswith(".timer"):
            yield from (("WantedBy", "Unit"), ("RequiredBy", "Unit"), ("RemainAfterElapse", "Timer"))


def are_met(result: bool, at: int) -> bool:
    """Return whether conditions are met, which systemd denies of those that it never looked at."""
    return result or not at


def _age(monotonic: int) -> int:
    return max(time.monotonic_ns() // 1000 - monotonic, 0)


class Facts:
    """Gets the facts about units."""

    def __init__(self, known: Mapping[str, Known], rules: Units, by_request: Callable[[str], bool]) -> None:
        """Prepare to ask.

        Args:
            known: what systemd said of all units by itself.
            rules: how units are watched.
            by_request: see `units.UnitSource`.
        """
        self._known, self._rules, self._by_request = known, rules, by_request
        self._threads = Threads(limit=1)

    async def of(self, manager: Manager, name: str, known: Known, past: Past | None) -> Unit:
        """Return what is known of a unit; raises as `manager`."""
        active, sub, stuck = known.active, known.sub, self._rules.stuck
        found = await manager.get(name, **dict(_wanted(name, known, past, stuck)))
        since = found.get("StateChangeTimestamp", known.since)
        monotonic = found.get("StateChangeTimestampMonotonic", known.monotonic)
        limit = found.get("TimeoutStopUSec" if active == "deactivating" else "TimeoutStartUSec", _NEVER)
        met = known.met
        if met is None:
            met = are_met(found.get("ConditionResult", True), found.get("ConditionTimestamp", 1))
        load, wanted = found.get("LoadState", known.load), self._is_wanted(found)
        judged = active == "inactive" and load == "loaded" and (wanted or name in self._rules.running)
        return Unit(
            name=name,
            active=active,
            sub=sub,
            load=load,
            since=since,
            age=_age(monotonic) if monotonic else 0,
            queued=known.job != 0,
            condition=met,
            kind=found.get("Type", ""),
            limit=None if limit >= _NEVER else limit,
            result=found.get("Result", ""),
            code=found.get("ExecMainCode", 0),
            status=found.get("ExecMainStatus", 0),
            restarts=found.get("NRestarts"),
            wanted=wanted,
            stopped=await self._stopped(manager, name, known, since) if judged else "",
        )

    def _is_wanted(self, found: Mapping[str, Any]) -> bool:
        """Tell whether an active unit wants a timer, which does not end by itself."""
        units = [*found.get("WantedBy", ()), *found.get("RequiredBy", ())]
        wanting = (self._known.get(unit) for unit in units)
        return bool(found.get("RemainAfterElapse", True)) and any(
            one is not None and one.active == "active" for one in wanting
        )

    async def _stopped(self, manager: Manager, name: str, known: Known, since: int) -> str:
        """Return what ended a unit: "" for itself, BY_REQUEST, or a unit that it needs."""
        if known.stopped is None:
            known.stopped = await self._threads.run(name, lambda: self._by_request(name))
        if not known.stopped:
            return ""
        bound = await manager.get(name, Requires="Unit", BindsTo="Unit", PartOf="Unit")
        for other in sorted({unit for units in bound.values() for unit in units}):
            one = self._known.get(other)
            if other.endswith(NOT_FOLLOWED):
                continue
            if one is None or one.job or one.active != "active" or 0 <= one.since - since < _TOGETHER:
                return str(other)
        return BY_REQUEST
