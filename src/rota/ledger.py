"""Sees to it that every slot is accounted for: by the run that served it, or a row that says why none did.

What slots.account decides is logged to the journal and read back like everything else; the event that files
it moves the agent's mark (see marks.advance). Killed in between, the next rotad finds the entry in the
journal, or comes to the same row again, which has the same id.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rota import causes
from rota.clock import wall_clock
from rota.errors import RotaError
from rota.events import Run
from rota.expected import Expected
from rota.marks import Mark
from rota.names import timer_of
from rota.past import Past, asleep
from rota.quantity import USEC
from rota.recorder import Recorder
from rota.slots import (
    NOT_KNOWN,
    ON_TIME,
    SETTLED,
    STILL_RUNNING,
    Accounted,
    Missed,
    Ran,
    Served,
    Span,
    Timer,
    account,
)
from rota.systemd import Systemd

log = logging.getLogger("rotad")

_AT_ONCE = 2000
_LOOSE = (NOT_KNOWN, STILL_RUNNING)
"""Reasons that a clock that was set may be behind."""
"""So many slots are looked at in one step."""
_LOOKED_UP = 8
"""So many unexplained gaps are looked up in the journal in one step."""
_PATIENCE = 10 * USEC
"""An entry of ours that the journal has not given back by then is logged again."""
_TOLD = 10 * USEC
"""So long after a run began it is told who started it, if anybody knows."""
_RETRY = 60 * USEC
_NAP = 60.0
"""Seconds after which the clock is looked at, as it may have been set, or the machine has slept."""
_SLOWER = 8
"""A row that goes on is written each time it is longer by this part."""
_SLOWEST = 3600 * USEC


def _to_json(timer: Timer) -> str:
    return json.dumps([timer.events, timer.jitter, timer.mixed])


def _from_json(text: str) -> Timer:
    events, jitter, mixed = json.loads(text)
    return Timer(tuple(events), jitter, mixed)


def _ran(run: Run) -> Ran:
    """Return a run as far as slots go; one whose end nobody knows does not explain a slot."""
    started = run.started or 0
    ended = run.ended if run.ended is not None else started if run.over else None
    return Ran(run.id, started, ended, run.trigger, run.slot)


def _row(run: Run) -> Missed | None:
    """Return a row of missed slots."""
    if run.state != "missed" or run.slot is None or run.slot_until is None or run.slots is None:
        return None
    since, until = run.cause_since, run.cause_until
    return Missed(run.slot, run.slot_until, run.slots, run.reason or NOT_KNOWN, since, until)


@dataclass(frozen=True, slots=True)
class _Case:
    """Slots to be judged, some of them without a run; `account` takes the spans."""

    agent: str
    account: Callable[[Sequence[Span]], Accounted]
    now: int


def _explain(case: _Case, since: int, *, user: bool) -> Accounted:
    """Say what became of slots, from what the journal tells of that time."""
    past = Past(user=user)
    try:
        facts = [*past.machine(since, case.now), *past.timer(case.agent, since, case.now)]
        spans = causes.spans(sorted(facts, key=lambda fact: fact.at), case.now)
        for _ in range(_LOOKED_UP):
            found = case.account(spans)
            rows = [item for item in found.items if isinstance(item, Missed) and item.reason in _LOOSE]
            edges = {edge for row in rows for edge in (row.slot, row.slot_until)}
            new = {span for span in (_jump(past, edge) for edge in sorted(edges)) if span} - set(spans)
            if not new:
                break
            spans += new
        return found
    finally:
        past.close()


def _is_plain(item: Served | Missed) -> bool:
    """Tell whether there is nothing to explain."""
    return isinstance(item, Served) and (item.late <= ON_TIME or item.held is not None)


def _jump(past: Past, slot: int) -> Span | None:
    """Return what happened between the entries of the journal before and after a slot, if the clocks tell."""
    before, after = past.around(slot)
    return causes.jump(before, after, asleep()) if before and after else None


class Ledger:
    """Accounts for slots, agent by agent, one small step at a time."""

    def __init__(self, systemd: Systemd, recorder: Recorder, *, user: bool) -> None:
        """Begin with no timers; see `installed`."""
        self._systemd = systemd
        self._recorder = recorder
        self._user = user
        self.expected = Expected()
        self.timers: Mapping[str, Timer] = {}
        self._due: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        self._logged: dict[str, tuple[int, int]] = {}
        self._changed: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._step = asyncio.Lock()

    def installed(self, timers: Mapping[str, Timer]) -> None:
        """Account for the slots of these timers from now on."""
        before, self.timers = self.timers, timers
        for agent in before.keys() | timers.keys():
            if before.get(agent) != timers.get(agent):
                self.look_at(agent)

    def look_at(self, agent: str, at: int = 0) -> None:
        """Look at an agent at a moment (microseconds since 1970) if not before; by default at once."""
        if at < self._due.get(agent, 2**63):
            self._due[agent] = at
            heapq.heappush(self._queue, (at, agent))
            self._wake.set()

    def on_run(self, run: Run) -> None:
        """Take in that a run changed: it may have served a slot, or been what held one up."""
        if run.agent not in self.timers:
            return
        told = run.slot is not None and run.agent in self._logged
        may_serve = run.slot is None and (run.trigger is not None or run.archived)
        if told or may_serve or (run.over and not run.archived):
            self.look_at(run.agent)

    async def forever(self) -> None:
        """Account for slots as they pass."""
        await self._prepare()
        for agent in self.timers.keys() | set(self._recorder.ask(lambda store: store.marked())):
            self.look_at(agent)
        while True:
            now = wall_clock()
            while self._queue and self._queue[0][0] <= now:
                at, agent = heapq.heappop(self._queue)
                if self._due.get(agent) == at:
                    del self._due[agent]
                    await self._look(agent)
                    await asyncio.sleep(0)
            self._wake.clear()
            left = (self._queue[0][0] - wall_clock()) / USEC if self._queue else None
            try:
                await asyncio.wait_for(self._wake.wait(), None if left is None else min(max(left, 0), _NAP))
            except TimeoutError:
                continue

    async def bring_up(self, agent: str, patience: float = 1.0) -> None:
        """Account for all slots of an agent that can be judged by now."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            await self._look(agent)
            if agent not in self._logged:
                return
            await asyncio.sleep(0.02)

    async def _prepare(self) -> None:
        """Ask systemd for the slots of all timers in a few calls, grouped by how far back they are needed."""
        now = wall_clock()
        groups: dict[int, tuple[int, set[str]]] = {}
        for agent, timer in self.timers.items():
            mark = self._mark(agent)
            upto = min(mark.upto, now) if mark else now
            age = (now - upto).bit_length() // 2
            oldest, events = groups.get(age, (upto, set()))
            groups[age] = (min(oldest, upto), events | set(timer.events))
        try:
            for base, events in groups.values():
                await self.expected.prepare(events, base)
        except RotaError as error:
            log.warning("slots: %s", error.message)

    def _mark(self, agent: str) -> Mark | None:
        return self._recorder.ask(lambda store: store.mark(agent))

    def _set_mark(self, agent: str, mark: Mark | None) -> None:
        self._recorder.ask(lambda store: store.set_mark(agent, mark))

    async def _look(self, agent: str) -> None:
        async with self._step:
            try:
                at = await self._account(agent, wall_clock())
            except (RotaError, OSError) as error:
                log.warning("the slots of %s: %s", agent, getattr(error, "message", error))
                at = wall_clock() + _RETRY
        if at is not None:
            self.look_at(agent, at)

    async def _account(self, agent: str, now: int) -> int | None:
        """Account for some slots of an agent; return when to look at it again, None if nothing is due."""
        await self._recorder.drain()
        if not self._recorder.current:
            return now + USEC
        mark, timer = self._mark(agent), self.timers.get(agent)
        if (logged := self._logged.get(agent)) is not None:
            if (mark is None or mark.upto < logged[0]) and now < logged[1]:
                return logged[1]
            del self._logged[agent]
        mark, ruling, until = await self._ruling(agent, mark, timer, now)
        if mark is None or ruling is None:
            return None
        slots = await self.expected.between(ruling.events, mark.upto, until, _AT_ONCE + 1)
        found = await self._judge(agent, mark, ruling, slots, now) if slots else Accounted()
        if found.items:
            self._log(agent, ruling, found.items)
        elif found.waiting is None and ruling != timer:
            self._changed.pop(agent, None)
            new = Mark(until, timer.digest, None, _to_json(timer)) if timer else None
            self._set_mark(agent, new)
            return now if timer else None
        if len(slots) > _AT_ONCE and found.items:
            return now
        return await self._again(mark, ruling, found, now)

    async def _again(self, mark: Mark, timer: Timer, found: Accounted, now: int) -> int | None:
        """Return when the slots of an agent are to be looked at again."""
        coming = await self.expected.next(timer.events, now)
        moments = [slot + timer.jitter + SETTLED for slot in coming]
        row = found.items[-1] if found.items else self._tail(mark)
        if isinstance(row, Missed) and row.until is None and moments:
            longer = min((row.slot_until - row.slot) // _SLOWER, _SLOWEST)
            moments = [max(moments[0], now + longer)]
        if found.again is not None:
            moments.append(found.again)
        return min(moments, default=None)

    async def _ruling(
        self, agent: str, mark: Mark | None, timer: Timer | None, now: int
    ) -> tuple[Mark | None, Timer | None, int]:
        """Return the agent's mark, the timer that its next slots are of, and until when they are."""
        if mark is not None and mark.upto > now + USEC:
            # systemd lets slots come again that a clock set back makes come again (systemd.timer(5)).
            log.info("%s: the clock was set back, and slots come again", agent)
            mark = Mark(now, mark.digest, None, mark.lines)
            self._set_mark(agent, mark)
        ruling = None
        if mark is not None and mark.lines is not None:
            ruling = _from_json(mark.lines)
        elif mark is not None and timer is not None and mark.digest == timer.digest:
            ruling = timer
        if mark is not None and ruling is not None and ruling == timer:
            self._changed.pop(agent, None)
            if mark.lines is None:
                self._set_mark(agent, mark._replace(lines=_to_json(ruling)))
            return mark, ruling, now
        if mark is None or ruling is None:
            # Seen for the first time, or nobody knows by what timer it went before.
            new = Mark(now, timer.digest, None, _to_json(timer)) if timer is not None else None
            if new != mark:
                self._set_mark(agent, new)
            return new, timer, now
        if agent not in self._changed:
            self._changed[agent] = await self._change(agent, mark, timer, now)
        return mark, ruling, max(min(self._changed[agent], now), mark.upto)

    async def _change(self, agent: str, mark: Mark, timer: Timer | None, now: int) -> int:
        """Return when a timer became what it is now, or went."""
        if timer is not None:
            began = await self._systemd.unit_property(timer_of(agent), "ActiveEnterTimestamp")
            return began if mark.upto < began <= now else now
        facts = await asyncio.to_thread(self._timer_facts, agent, mark.upto, now)
        stops = [fact.at for fact in facts if fact.kind == causes.STOPPED]
        return max(stops, default=mark.upto)

    def _timer_facts(self, agent: str, since: int, until: int) -> list[causes.Fact]:
        past = Past(user=self._user)
        try:
            return past.timer(agent, since, until)
        finally:
            past.close()

    def _tail(self, mark: Mark) -> Missed | None:
        """Return the row of missed slots that may go on."""
        name = mark.row
        run = self._recorder.ask(lambda store: store.get(name)) if name else None
        return _row(run) if run else None

    async def _judge(self, agent: str, mark: Mark, timer: Timer, slots: Sequence[int], now: int) -> Accounted:
        found_runs = self._recorder.ask(lambda store: store.since(agent, slots[0]))
        untold = [run.started or 0 for run in found_runs if run.trigger is None and not run.archived]
        if untold and now - max(untold) < _TOLD:
            # Who started it, systemd is being asked.
            return Accounted(waiting=slots[0], again=max(untold) + _TOLD)
        runs = sorted(map(_ran, found_runs), key=lambda run: run.started)
        tail = self._tail(mark)
        some, further = slots[:_AT_ONCE], next(iter(slots[_AT_ONCE:]), None)
        judge = functools.partial(account, some, runs, now=now, timer=timer, tail=tail, further=further)
        case = _Case(agent, judge, now)
        found = case.account(())
        if found.waiting is None and all(_is_plain(item) for item in found.items):
            return found
        return await asyncio.to_thread(_explain, case, tail.slot if tail else slots[0], user=self._user)

    def _log(self, agent: str, timer: Timer, items: Sequence[Served | Missed]) -> None:
        for item in items:
            if isinstance(item, Served):
                at = time.strftime("%F %T", time.localtime(item.slot / USEC))
                served = {
                    "slot": item.slot,
                    "late": item.late,
                    "held": item.held,
                    "since": item.since,
                    "until": item.until,
                    "timer": timer.digest,
                }
                message = f"{agent}: run {item.run[:8]} served the slot of {at}"
                self._recorder.record("served", agent, item.run, message, served)
                last = item.slot
            else:
                last = item.slot_until
                self._record_missed(agent, timer, item)
        self._logged[agent] = (last, wall_clock() + _PATIENCE)

    def _record_missed(self, agent: str, timer: Timer, row: Missed) -> None:
        first, last = (time.strftime("%F %T", time.localtime(at / USEC)) for at in (row.slot, row.slot_until))
        which = f"the slot of {first}" if row.slots == 1 else f"{row.slots} slots from {first} to {last}"
        missed = {
            "slot": row.slot,
            "slot_until": row.slot_until,
            "slots": row.slots,
            "reason": row.reason,
            "since": row.since,
            "until": row.until,
            "timer": timer.digest,
        }
        message = f"{agent}: {which} missed: {row.reason}"
        self._recorder.record("missed", agent, row.id(agent), message, missed)
