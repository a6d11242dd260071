"""Follows the units of this machine by systemd's signals: what changed is looked at, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from rota.errors import RotaError
from rota.systemd import connect, until_lost
from rota.unit_watches import Units

from ..checks.blind import blind
from ..checks.units import ENDED, Past, judge, recalled
from ..checks.words import SECOND
from ..words import Finding, Target
from .manager import Hearers, Listed, Manager
from .polling import Observation
from .together import together
from .unit_facts import NOT_FOLLOWED, Facts, Known, are_met
from .unit_journal import stopped_by_request

log = logging.getLogger("rota-home-keeper")

_GATHER = 0.05
"""Seconds for which signals are gathered: a unit that fails says so in several."""
_AT_ONCE = 25
"""Units that are looked at together, and told of in one observation."""
_RELIST = 600 * SECOND
"""All is looked at anyway once in so long, should a signal be lost."""
_PAUSES = (0.1, 0.5, 1, 2, 5, 10, 15)
_BLIND = 2
"""So often it may fail to connect before that is told: a bus or a systemd that is back at once is no news."""
_WELL = 60.0
"""Seconds after which what went wrong before is forgotten."""


def _now() -> int:
    return time.time_ns() // 1000


class UnitSource:
    """The units of this machine."""

    name = "units"

    def __init__(
        self,
        rules: Units,
        *,
        address: str | None = None,
        now: Callable[[], int] = _now,
        by_request: Callable[[str], bool] = stopped_by_request,
    ) -> None:
        """Prepare to follow; `follow` does.

        Args:
            rules: how units are watched.
            address: of the bus; None for the system bus.
            now: returns microseconds since 1970.
            by_request: tells of a unit that ended before we looked whether somebody stopped it; blocks.
        """
        self._rules, self._address, self._now = rules, address, now
        self._target = Target("check", self.name)
        self._known: dict[str, Known] = {}
        self._facts = Facts(self._known, rules, by_request)
        self._past: dict[str, Past] = {}
        self._told: dict[Target, tuple[Finding, ...]] = {}
        self._again: dict[str, int] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._relist = True
        self._listed = 0
        self._seen_all = False
        self._away = False
        self._blind_since = 0
        self._failures = 0

    def recall(self, left: Iterable[Finding]) -> None:
        """Take up what was open when the keeper ended."""
        self._past = recalled(left, self._rules)

    async def follow(self, put: Callable[[Observation], None]) -> None:
        """Put what is found, for ever; while systemd cannot be heard, put that."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._session(put)
            except (RotaError, OSError, EOFError, TimeoutError) as error:
                why = error.message if isinstance(error, RotaError) else str(error) or type(error).__name__
            except Exception as error:  # our own mistake must not end the keeper's other checks
                log.exception("check %s failed", self.name)
                why = f"{type(error).__name__}: {error}"
            if loop.time() - began > _WELL:
                self._failures = 0
            if self._failures >= _BLIND:
                self._put_blind(put, why)
            await asyncio.sleep(_PAUSES[min(self._failures, len(_PAUSES) - 1)])
            self._failures += 1

    def _put_blind(self, put: Callable[[Observation], None], why: str) -> None:
        at = self._now()
        self._blind_since = self._blind_since or at
        put(Observation(self.name, at, {self._target: (blind(self.name, self._blind_since, why),)}))

    async def _session(self, put: Callable[[Observation], None]) -> None:
        async with asyncio.timeout(30):
            bus = await connect(user=False, address=self._address)
        try:
            manager = Manager(bus)
            working = asyncio.ensure_future(self._work(manager, put))
            lost = asyncio.ensure_future(until_lost(bus))
            try:
                await asyncio.wait((working, lost), return_when=asyncio.FIRST_COMPLETED)
                for task in (working, lost):
                    if task.done():
                        task.result()
            finally:
                for task in (working, lost):
                    task.cancel()
                await asyncio.gather(working, lost, return_exceptions=True)
        finally:
            bus.disconnect()

    async def _work(self, manager: Manager, put: Callable[[Observation], None]) -> None:
        self._relist, self._away, first = True, False, True
        await manager.hear(
            Hearers(self._job_removed, self._gone_away, self._changed, self._removed, self._reloaded)
        )
        looked = False
        while True:
            if self._away:
                raise RotaError("systemd has left the bus")
            if self._relist or not (looked or self._going_down()):
                await self._list(manager)
                looked = False
            if self._going_down():
                # Nothing is amiss that stops. Should it be called off, all is looked at.
                looked = False
                self._dirty.clear()
                self._again.clear()
            elif not looked:
                await self._look_at_all(manager, put, first=first)
                looked, first, self._seen_all, self._blind_since = True, False, True, 0
            await self._pause()
            if not self._going_down():
                due = [name for name, at in self._again.items() if at <= self._now()]
                await self._look_at_dirty(manager, put, due)

    async def _pause(self) -> None:
        """Wait until something happened, or is due; and a little longer, for what comes with it."""
        listed_again = self._listed + _RELIST
        until = min((*self._again.values(), listed_again))
        # No longer than that where the clock was set back; then everything is looked at afresh.
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(until - self._now(), 0), _RELIST) / SECOND):
                await self._wake.wait()
        self._relist = self._relist or not self._listed <= self._now() < listed_again
        await asyncio.sleep(_GATHER)
        self._wake.clear()

    # What signals say; each returns at once.

    def _changed(self, name: str, properties: dict[str, Any]) -> None:
        if name.endswith(NOT_FOLLOWED):
            return
        known = self._known.get(name)
        if known is None:
            if "ActiveState" not in properties:
                return
            known = self._known[name] = Known("loaded", "", "", stopped=False)
        was = known.active
        if (active := properties.get("ActiveState")) is not None:
            known.active = active.value
            known.sub = properties["SubState"].value if "SubState" in properties else known.sub
        if (job := properties.get("Job")) is not None:
            known.job = job.value[0]
        if known.active != was:
            known.changed(stopped=False)
        if "ConditionResult" in properties:
            known.met = are_met(properties["ConditionResult"].value, properties["ConditionTimestamp"].value)
        if "StateChangeTimestamp" in properties:
            known.since = properties["StateChangeTimestamp"].value
            known.monotonic = properties["StateChangeTimestampMonotonic"].value
            known.left = properties["ActiveExitTimestamp"].value
        self._look_soon(name)

    def _job_removed(self, unit: str, job: str, result: str) -> None:
        known = self._known.get(unit)
        if known is None:
            return
        # systemd tells a unit's state before that its job is over: done, and it ended meanwhile, is stopped.
        # A job on what had ended by itself is not what ended it: try-restart of it does nothing, and is done.
        number = int(job.rpartition("/")[2])
        if result == "done" and known.active in ENDED and known.ended_by == number:
            known.stopped = True
        if known.job == number:
            known.job = 0
        self._look_soon(unit)

    def _removed(self, name: str) -> None:
        # Of one that is to be running it is remembered what ended it.
        if name not in self._rules.running and (known := self._known.pop(name, None)) is not None:
            self._facts.forget(name, known)
            self._look_soon(name)

    def _reloaded(self) -> None:
        self._relist = True
        self._wake.set()

    def _gone_away(self) -> None:
        self._away = True
        self._wake.set()

    def _look_soon(self, name: str) -> None:
        self._dirty.add(name)
        self._wake.set()

    # Looking.

    async def _list(self, manager: Manager) -> None:
        """Take in all units; what a signal said of one meanwhile is newer than what is listed."""
        self._relist, self._listed = False, self._now()
        self._dirty.clear()
        listed = {unit.name: unit for unit in await manager.units() if not unit.name.endswith(NOT_FOLLOWED)}
        for name in self._known.keys() - listed.keys() - self._dirty - {*self._rules.running}:
            del self._known[name]
        for name in {*self._rules.running} - listed.keys() - self._dirty:
            known = self._known.setdefault(name, Known("", "inactive", "dead"))
            if known.active != "inactive":
                self._known[name] = Known("", "inactive", "dead")
        for name, unit in listed.items():
            self._take(name, unit)

    def _take(self, name: str, unit: Listed) -> None:
        known = self._known.get(name)
        if known is None:
            self._known[name] = Known(unit.load, unit.active, unit.sub, unit.job)
            return
        known.load = unit.load
        if name not in self._dirty:
            was = (known.active, known.sub)
            known.active, known.sub, known.job = unit.active, unit.sub, unit.job
            if was != (known.active, known.sub):
                known.since = known.monotonic = 0
            if was[0] != known.active:
                known.changed(stopped=None)

    async def _look_at_all(
        self, manager: Manager, put: Callable[[Observation], None], *, first: bool
    ) -> None:
        self._dirty.clear()
        findings: dict[Target, tuple[Finding, ...]] = {self._target: ()}
        findings |= {Target("unit", name): () for name in self._known if self._rules.watches(name)}
        findings |= dict.fromkeys(self._told, ())
        for some in _chunks([target.name for target in findings if target.kind == "unit"]):
            findings |= dict(await together(self._look(manager, name) for name in some))
        if not first:
            findings = {target: found for target, found in findings.items() if self._is_news(target, found)}
        self._tell(findings, put, first=first)

    async def _look_at_dirty(
        self, manager: Manager, put: Callable[[Observation], None], due: Iterable[str]
    ) -> None:
        dirty, self._dirty = {*self._dirty, *due}, set()
        names = [name for name in sorted(dirty) if self._rules.watches(name)]
        for some in _chunks(names):
            found = await together(self._look(manager, name) for name in some)
            self._tell({target: one for target, one in found if self._is_news(target, one)}, put)

    def _is_news(self, target: Target, found: tuple[Finding, ...]) -> bool:
        return found != self._told.get(target, ())

    def _tell(
        self,
        findings: dict[Target, tuple[Finding, ...]],
        put: Callable[[Observation], None],
        *,
        first: bool = False,
    ) -> None:
        for target, found in findings.items():
            if found:
                self._told[target] = found
            else:
                self._told.pop(target, None)
        if findings:
            put(Observation(self.name, self._now(), findings, first))

    def _going_down(self) -> bool:
        """Tell whether the machine is shutting down: then nothing is amiss that stops."""
        known = self._known.get("shutdown.target")
        return known is not None and (known.job != 0 or known.active == "active")

    async def _look(self, manager: Manager, name: str) -> tuple[Target, tuple[Finding, ...]]:
        target, known = Target("unit", name), self._known.get(name)
        past = self._past.pop(name, None)
        self._again.pop(name, None)
        if known is None or not known.matters(name, past, self._rules):
            return target, ()
        unit = await self._facts.of(manager, name, known, past)
        if past is None and self._seen_all and unit.restarts:
            past = Past(restarts=unit.restarts - 1)  # this one was seen
        verdict = judge(unit, past or Past(), self._rules, self._now())
        if verdict.past.restarts or unit.active not in ("active", "inactive"):
            self._past[name] = verdict.past
        if verdict.again is not None:
            self._again[name] = verdict.again
        return target, verdict.findings


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(names), _AT_ONCE):
        yield names[at : at + _AT_ONCE]
