"""What only systemd knows while a unit is loaded: who triggered a run, and what it used.

D-Bus signals say when to look into the journal; the journal says what happened. What it does not
hold is asked of systemd and logged as rota's own entries, so that the journal stays the source.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from rota.definitions import Definition
from rota.errors import RotaError
from rota.events import Run
from rota.journal import boot_id
from rota.names import agent_of, service_of, timer_of
from rota.quantity import USEC
from rota.query import Query
from rota.recorder import Recorder
from rota.systemd import Systemd, UnitChange

log = logging.getLogger("rotad")

_UNSET = 2**64 - 1
_JOB_TIME = 120
_AT_ONCE = USEC
"""A run that begins this soon after its timer elapsed was started by it."""
_LATE = 5 * USEC
"""A boot trigger is taken to be late by no more than this."""
_ENDED = ("inactive", "failed")
# siginfo_t's si_code of SIGCHLD, as ExecMainCode= has it (waitid(2)).
_CODES: Mapping[int, str] = {1: "exited", 2: "killed", 3: "dumped"}
_MEASURES: Mapping[str, tuple[str, int]] = {
    "CPUUsageNSec": ("cpu_usec", 1000),
    "MemoryPeak": ("memory_peak", 1),
    "IOReadBytes": ("io_read", 1),
    "IOWriteBytes": ("io_write", 1),
    "IPIngressBytes": ("net_in", 1),
    "IPEgressBytes": ("net_out", 1),
}


def trigger_of(
    activated_by: str, requested_by: str | None, *, elapsed: bool, at_boot: bool
) -> dict[str, str]:
    """Return who or what started a run.

    Args:
        activated_by: the unit that triggered the first start since systemd loaded this one.
        requested_by: the person who asked rota for it, None if nobody did.
        elapsed: the agent's timer has elapsed since the run before.
        at_boot: it elapsed when its boot trigger was due.
    """
    if requested_by is not None:
        return {"trigger": "person", "by": requested_by}
    if elapsed:
        return {"trigger": "boot" if at_boot else "timer"}
    kind = activated_by.rpartition(".")[2]
    return {"trigger": kind if kind in ("path", "socket") else "manual"}


class Observer:
    """Follows the units of agents while they run."""

    def __init__(
        self,
        systemd: Systemd,
        recorder: Recorder,
        *,
        agents: Callable[[str], Definition | None],
        moved: Callable[[str], object],
        user: bool,
    ) -> None:
        """Begin with nothing; see `reconcile`.

        Args:
            systemd: the manager of the units.
            recorder: where runs are recorded.
            agents: gives an installed agent by its name.
            moved: hears of an agent whose timer or state may have changed.
            user: the manager is a user's.
        """
        self._user = user
        self._systemd = systemd
        self._recorder = recorder
        self._agents = agents
        self._moved = moved
        self._requests: dict[str, str] = {}
        self._queued: set[tuple[str, str]] = set()
        self._seen: dict[str, str] = {}
        self._live: dict[str, str] = {}
        self._closing: set[str] = set()
        self._followed: set[str] = set()
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _guarded(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RotaError as error:
            log.warning("systemd: %s", error.message)

    def on_change(self, change: UnitChange) -> None:
        """Take in what systemd said about a unit."""
        agent = agent_of(change.unit)
        if agent is None:
            return
        self._moved(agent)
        if not change.unit.endswith(".service"):
            return
        if change.kind == "job-new":
            self._queued.add((change.unit, change.job))
            self._spawn(self._follow(change.unit))
        elif change.kind == "job-removed":
            self._finish_job(change.job, change.state)
            self._recorder.hasten()
            self._queued.add((change.unit, change.job))  # until it has been looked at
            self._spawn(self._started(change.unit, change.job))
        elif change.state in _ENDED:
            self._recorder.wake()
            self._spawn(self._ended(change.unit))

    def _finish_job(self, job: str, result: str) -> None:
        future = self._jobs.setdefault(job, asyncio.get_running_loop().create_future())
        if not future.done():
            future.set_result(result)
        for old in list(self._jobs)[:-64]:
            if self._jobs[old].done():
                del self._jobs[old]

    async def job_result(self, job: str) -> str:
        """Wait until a job is gone and return its result; the signal may have come already."""
        future = self._jobs.setdefault(job, asyncio.get_running_loop().create_future())
        try:
            return await asyncio.wait_for(asyncio.shield(future), _JOB_TIME)
        except TimeoutError:
            raise RotaError("systemd has not finished the job within two minutes") from None

    def expect(self, unit: str, requested_by: str | None) -> None:
        """Say who asked for the next start of a unit, or that nobody does any more."""
        if requested_by is None:
            self._requests.pop(unit, None)
        else:
            self._requests[unit] = requested_by

    async def _follow(self, unit: str) -> None:
        """Hear when a unit's run ends."""
        self._followed.add(unit)
        await self._systemd.watch(unit)

    def _is_queued(self, unit: str) -> bool:
        return any(queued == unit for queued, _ in self._queued)

    async def _leave(self, unit: str) -> None:
        if unit in self._followed and unit not in self._live and not self._is_queued(unit):
            self._followed.discard(unit)
            await self._systemd.unwatch(unit)

    async def invocation(self, unit: str) -> str:
        """Return the invocation id of a unit's current or last run, "" if it has none."""
        return bytes(await self._systemd.unit_property(unit, "InvocationID")).hex()

    async def _started(self, unit: str, job: str) -> None:
        try:
            run = await self.invocation(unit)
            known = self._recorder.ask(lambda store: store.get(run)) if run else None
            # A job may also have been a stop, or a start that came to nothing: then the run is an old one.
            fresh = bool(run) and run != self._seen.get(unit) and not (known and known.archived)
            if fresh:
                self._seen[unit] = self._live[unit] = run
                await self._follow(unit)
            # Asked only now: an end that is told from here on finds the run in its place.
            state = await self._systemd.unit_property(unit, "ActiveState")
            if fresh:
                await self._record_trigger(unit, run)
        finally:
            self._queued.discard((unit, job))
        if state in _ENDED:
            await self._ended(unit)

    async def _record_trigger(self, unit: str, run: str) -> None:
        agent = agent_of(unit) or ""
        details = dict(await self._systemd.unit_property(unit, "ActivationDetails", default=[]))
        requested_by = self._requests.pop(unit, None)
        elapsed, at_boot = await self._timer_elapsed(agent, run)
        if elapsed is None and requested_by is None:
            return  # nobody knows
        trigger = trigger_of(
            details.get("trigger_unit", ""), requested_by, elapsed=bool(elapsed), at_boot=at_boot
        )
        by = f" ({trigger['by']})" if "by" in trigger else ""
        self._recorder.record(
            "triggered", agent, run, f"{agent}: run {run[:8]} started by {trigger['trigger']}{by}", trigger
        )

    async def _timer_elapsed(self, agent: str, run: str) -> tuple[bool | None, bool]:
        """Tell whether an agent's timer started a run (None: cannot be known), and whether for boot.

        Of a timer ActivationDetails= tells only the first start since the unit was loaded, so it is told
        by the monotonic clock: when the timer elapsed last, and when the run began.
        """
        definition = self._agents(agent)
        if definition is None or not definition.scheduled:
            return (None if definition is None else False), False
        unit, timer = service_of(agent), timer_of(agent)
        began = await self._systemd.unit_property(unit, "InactiveExitTimestampMonotonic")
        elapsed = await self._systemd.unit_property(timer, "LastTriggerUSecMonotonic", "Timer")
        if await self.invocation(unit) != run or elapsed > began:
            return None, False
        started = began - elapsed <= _AT_ONCE
        if not started:
            # A start may have had to wait for something: then no other run lies between.
            moment = await self._systemd.unit_property(timer, "LastTriggerUSec", "Timer")
            earlier = self._recorder.ask(lambda store: store.runs(Query((agent,)), 5))
            ends = [item.ended or item.started or 0 for item in earlier if item.id != run]
            started = moment > max(ends, default=0)
        if not started or not definition.boot_delays:
            return started, False
        # systemd.timer(5): from the kernel's start, in a container from systemd's own; and at once, if
        # the timer is started later than that.
        origins = (0, await self._systemd.started())
        due = [origin + delay for origin in origins for delay in definition.boot_delays]
        armed = await self._systemd.unit_property(timer, "InactiveExitTimestampMonotonic")
        overdue = elapsed - armed <= _AT_ONCE and min(due) <= elapsed
        return True, overdue or any(moment - USEC <= elapsed <= moment + _LATE for moment in due)

    async def _ended(self, unit: str) -> None:
        run = self._live.pop(unit, None)
        if run is not None:
            agent = agent_of(unit) or ""
            self._closing.add(run)
            try:
                measured = await self._measure(unit, run)
                self._tell_success(agent, run, measured)
                if await self._recorder.ended(run) is None:
                    self._lose(agent, run, "the journal does not say how it ended")
                self._archive(agent, run, measured)
            finally:
                self._closing.discard(run)
        await self._leave(unit)

    def on_run(self, run: Run) -> None:
        """Take in that a run is over; systemd has told it too, unless the next run came too soon after."""
        if run.over and not run.archived and run.id not in (*self._live.values(), *self._closing):
            self._spawn(self._archive_late(run.id))

    async def _archive_late(self, run_id: str) -> None:
        await asyncio.sleep(_LATE / USEC)
        run = self._recorder.ask(lambda store: store.get(run_id))
        if run is not None and not run.archived and run_id not in (*self._live.values(), *self._closing):
            await self._settle(run, await self._systemd.loaded(service_of(run.agent)), boot_id())

    def _tell_success(self, agent: str, run: str, measured: Mapping[str, Any]) -> None:
        """Log that a run succeeded where systemd does not: a user's manager only says so when debugging."""
        if self._user and measured.get("result") == "success":
            self._recorder.record("deactivated", agent, run, f"{agent}: run {run[:8]} ended", {})

    async def _measure(self, unit: str, run: str) -> dict[str, Any]:
        """Return what a run used, {} if the unit is no longer that run's."""
        names = (*_MEASURES, "ExecMainPID", "ExecMainCode", "ExecMainStatus", "Result")
        values = await asyncio.gather(
            *(self._systemd.unit_property(unit, name, "Service", default=None) for name in names)
        )
        if await self.invocation(unit) != run:
            return {}
        found = dict(zip(names, values, strict=True))
        data: dict[str, Any] = {"result": found["Result"]}
        for name, (key, divisor) in _MEASURES.items():
            if found[name] is not None and found[name] != _UNSET:
                data[key] = found[name] // divisor
        if found["ExecMainPID"]:
            data["pid"] = found["ExecMainPID"]
        if (code := _CODES.get(found["ExecMainCode"] or 0)) is not None:
            data |= {"code": code, "status": found["ExecMainStatus"]}
        return data

    def _archive(self, agent: str, run: str, measured: Mapping[str, Any]) -> None:
        known = self._recorder.ask(lambda store: store.get(run))
        state = known.state if known and known.over else "is over"
        self._recorder.record("archived", agent, run, f"{agent}: run {run[:8]} {state}", measured)

    def _lose(self, agent: str, run: str, reason: str) -> None:
        self._recorder.record("lost", agent, run, f"{agent}: run {run[:8]}: {reason}", {"reason": reason})

    async def reconcile(self, since: int) -> None:
        """Hold the store's open runs against what systemd knows: after a start of rotad.

        Args:
            since: runs that ended before this (microseconds since 1970) are left as they are.
        """
        states = await self._systemd.loaded("rota-*.service")
        boot = boot_id()
        for unit, state in states.items():
            if state not in _ENDED and (run := await self.invocation(unit)):
                await self._follow(unit)
                self._seen[unit] = self._live[unit] = run
                known = self._recorder.ask(lambda store: store.get(run))
                if known is None or known.trigger is None:
                    await self._record_trigger(unit, run)
        if any(not run_.over for run_ in self._recorder.ask(lambda store: store.unarchived(since))):
            # The end of one that ended just now may be on its way.
            await asyncio.sleep(1)
            await self._recorder.drain()
        for run_ in self._recorder.ask(lambda store: store.unarchived(since)):
            await self._settle(run_, states, boot)

    async def _settle(self, run: Run, states: Mapping[str, str], boot: str) -> None:
        unit = service_of(run.agent)
        loaded = unit in states and await self.invocation(unit) == run.id
        if loaded and await self._systemd.unit_property(unit, "ActiveState") not in _ENDED:
            # Going on, or begun only now: its end will be told.
            await self._follow(unit)
            self._seen[unit] = self._live[unit] = run.id
            return
        if self._live.get(unit) == run.id:
            await self._ended(unit)
            return
        run = self._recorder.ask(lambda store: store.get(run.id)) or run
        measured = await self._measure(unit, run.id) if loaded else {}
        if not run.over and self._user and measured.get("result") == "success":
            self._tell_success(run.agent, run.id, measured)
        elif not run.over:
            reason = (
                "the machine went down"
                if run.boot not in (None, boot)
                else "the journal does not say how it ended"
            )
            self._lose(run.agent, run.id, reason)
        if loaded and run.trigger is None:
            await self._record_trigger(unit, run.id)
        self._archive(run.agent, run.id, measured)
