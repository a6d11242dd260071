"""Asks systemd for what its signals do not say of a unit, and the judge needs: no more than that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rota.unit_watches import Units

from ..checks.units import BY_REQUEST, CHANGING, ENDED, RESTARTING, Past, Unit
from ..checks.words import SECOND
from .manager import Manager
from .threads import Threads

NOT_FOLLOWED = (".device", ".slice")
"""Types of units of which there are many, and nothing to be done about."""
_NEVER = 2**64 - 1
_TOGETHER = 10 * SECOND
"""What a unit needs took it down only if it ended at the same time, give or take so much. If it came up again
so soon after, it was restarted, and the unit was not."""
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
        left: when it was active last, as far as it was told; 0: never, or not known.
        met: whether its conditions were met when it was started last; None: systemd was not asked.
        ended_by: the id of the job that it had when it ended, 0 for none.
        stopped: whether a job ended it; None: that was before we looked.
        cause: what it was stopped by, once that is known; see `checks.units.Unit`.
    """

    load: str
    active: str
    sub: str
    job: int = 0
    since: int = 0
    monotonic: int = 0
    left: int = 0
    met: bool | None = None
    ended_by: int = 0
    stopped: bool | None = None
    cause: str = ""

    def changed(self, *, stopped: bool | None) -> None:
        """Take in that it is in another state than before; its job is that of the moment."""
        self.ended_by = self.job if self.active in ENDED else 0
        self.stopped, self.cause = stopped, ""

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
        self._gone: dict[str, tuple[int, int]] = {}

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
        if known.stopped and not known.cause:
            known.cause = await self._cause(manager, name, since)
        return known.cause if known.stopped else ""

    async def _cause(self, manager: Manager, name: str, since: int) -> str:
        """Return what a unit was stopped by that a job ended."""
        found = await manager.get(
            name, Requires="Unit", BindsTo="Unit", PartOf="Unit", ActiveExitTimestamp="Unit"
        )
        began = found.pop("ActiveExitTimestamp", 0) or since
        if not since:
            return BY_REQUEST  # systemd has forgotten when
        for other in sorted({unit for units in found.values() for unit in units}):
            if not other.endswith(NOT_FOLLOWED) and await self._went_down(manager, other, began, since):
                return str(other)
        return BY_REQUEST

    async def _went_down(self, manager: Manager, name: str, began: int, until: int) -> bool:
        """Tell whether a unit ended, or was restarted, while another stopped."""
        known = self._known.get(name)
        if known is None:
            return _meet(*self._gone.get(name, (0, 0)), began, until)
        if known.active == "active":
            return known.job != 0 or 0 <= known.since - until < _TOGETHER
        if known.active not in ENDED:
            return True
        if known.since:
            return _meet(known.left, known.since, began, until)
        found = await manager.get(name, ActiveExitTimestamp="Unit", InactiveEnterTimestamp="Unit")
        left, ended = found.get("ActiveExitTimestamp", 0), found.get("InactiveEnterTimestamp", 0)
        return _meet(left, ended, began, until)

    def forget(self, name: str, known: Known) -> None:
        """Take in that a unit is no longer in memory; for a while it is remembered when it ended."""
        if known.since:
            late = known.since - 2 * _TOGETHER
            self._gone = {one: at for one, at in self._gone.items() if at[1] >= late}
            self._gone[name] = (known.left, known.since)


def _meet(left: int, ended: int, began: int, until: int) -> bool:
    """Tell whether a unit ended, from `left` to `ended`, while another stopped, from `began` to `until`.

    What never was active (`left` is 0), such as most of Type=oneshot, ends all the time, and takes down
    nothing unless somebody has it run anew just then.
    """
    return began - (_TOGETHER if left else 0) <= ended and (left or ended) <= until + _TOGETHER
