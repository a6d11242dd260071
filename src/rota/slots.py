"""Which slot of a timer each run served, and which slots came to nothing and why; pure.

A slot is a moment at which a line OnCalendar= of an agent's timer elapses. Each is given out once: to the run
that systemd made of it, or to a row of slots that follow each other and were missed for one cause.

What is known of systemd (systemd.timer(5), and tried): a timer that is held up (its service still runs, the
machine sleeps, or was off and the timer is persistent) starts one run when it can, however many slots have
passed. That run serves the latest of them. So the latest slot is not given up before what held it has ended.

Slots that a monotonic line stands for (OnUnitActiveSec=, OnBootSec=) are none: they count from the last run,
and there is no moment at which one was due while the machine was down.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rota.quantity import USEC, parse_duration

ON_TIME = 2 * USEC
"""A run that begins this soon after its slot is not late: systemd groups slots, and starts take a while."""
SETTLED = 5 * USEC
"""So long after a slot, or the end of what held it, a run of it is recorded."""
UNEXPLAINED = 60 * USEC
"""So long a slot is waited for that nothing speaks against: the machine may be very busy."""

STILL_RUNNING, JITTER, NOT_KNOWN = "still-running", "jitter", "not-known"
HOST_DOWN, SUSPENDED, CLOCK_CHANGED, TIMER_STOPPED = (
    "host-down",
    "suspended",
    "clock-changed",
    "timer-stopped",
)
REASONS = (HOST_DOWN, SUSPENDED, CLOCK_CHANGED, TIMER_STOPPED, STILL_RUNNING, JITTER, NOT_KNOWN)
"""Why a slot was missed; the first that holds."""


@dataclass(frozen=True, slots=True)
class Timer:
    """What an agent's timer says of its slots.

    Attributes:
        events: its calendar events.
        jitter: most that a start is put off on purpose, in microseconds.
        mixed: it has other lines too, so that not every run of it has a slot.
    """

    events: tuple[str, ...]
    jitter: int = 0
    mixed: bool = False

    @property
    def digest(self) -> str:
        """Eight hex digits for its calendar events: slots are those of the same events only."""
        return hashlib.sha256("\n".join(self.events).encode()).hexdigest()[:8]


def read_timer(lines: Sequence[str]) -> Timer | None:
    """Return what the lines of a [Timer] section say, None if it has no calendar events."""
    pairs = [line.partition("=")[::2] for line in lines]
    events = tuple(value for key, value in pairs if key == "OnCalendar")
    if not events:
        return None
    jitter = next((parse_duration(value) for key, value in pairs if key == "RandomizedDelaySec"), 0)
    mixed = any(key.startswith("On") and key != "OnCalendar" for key, _ in pairs)
    return Timer(events, jitter, mixed)


@dataclass(frozen=True, slots=True)
class Ran:
    """A run, or a start that came to nothing, as far as slots go. Times are microseconds since 1970.

    Attributes:
        id: its id.
        started: when it began.
        ended: when it was over; None while it is under way.
        trigger: who or what started it, None if that is not known.
        slot: which slot it is known to have served.
    """

    id: str
    started: int
    ended: int | None
    trigger: str | None = None
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a timer could start nothing, and why; `until` is None while it goes on."""

    reason: str
    since: int
    until: int | None


@dataclass(frozen=True, slots=True)
class Served:
    """A run served a slot.

    Attributes:
        run: its id.
        slot: the slot.
        late: by how many microseconds more than its jitter allows.
        held: what held it up, one of REASONS; None if it was on time, or nothing is known to have.
        since: since when that was so.
        until: until when.
    """

    run: str
    slot: int
    late: int
    held: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """Slots that follow each other and were missed for one cause.

    Attributes:
        slot: the first.
        slot_until: the last.
        slots: how many.
        reason: one of REASONS.
        since: when the cause began, None if not known.
        until: when it ended, None if it goes on or is not known.
    """

    slot: int
    slot_until: int
    slots: int
    reason: str
    since: int | None = None
    until: int | None = None

    def id(self, agent: str) -> str:
        """Return the id of the row: the same whenever and however often it is accounted for."""
        return hashlib.sha256(f"missed {agent} {self.slot}".encode()).hexdigest()[:32]


class _Cause(NamedTuple):
    reason: str
    since: int | None
    until: int | None


@dataclass(frozen=True, slots=True)
class Accounted:
    """What became of slots.

    Attributes:
        items: in the order of their slots.
        waiting: the first slot that it is too early to judge, None if there is none.
        again: when it could be judged, if nothing happens before; None if something must.
    """

    items: tuple[Served | Missed, ...] = ()
    waiting: int | None = None
    again: int | None = None


class _Known:
    """What there is to judge by."""

    def __init__(self, runs: Sequence[Ran], spans: Sequence[Span], timer: Timer) -> None:
        self.runs = runs
        self.spans = spans
        self.timer = timer
        self._starts = [run.started for run in runs]

    def run_before(self, at: int) -> Ran | None:
        """Return the run that began last, at this moment or before it."""
        index = bisect_right(self._starts, at)
        return self.runs[index - 1] if index else None

    def running(self, slot: int) -> Ran | None:
        """Return the run that was under way at a slot."""
        run = self.run_before(slot)
        return run if run is not None and (run.ended is None or run.ended > slot) else None

    def over(self, slot: int) -> list[Span]:
        """Return the spans that a slot fell into, or that began before its timer came to it."""
        elapsed = slot + self.timer.jitter + ON_TIME
        return [
            span for span in self.spans if span.since <= elapsed and (span.until is None or span.until > slot)
        ]

    def held(self, slot: int) -> list[int | None]:
        """Return when that ended which held a slot up, so that it is made up for; None for what goes on."""
        run = self.running(slot)
        ends = [span.until for span in self.over(slot)]
        return [*ends, run.ended] if run is not None else ends


def account(
    slots: Sequence[int],
    runs: Sequence[Ran],
    spans: Sequence[Span],
    *,
    now: int,
    timer: Timer,
    tail: Missed | None = None,
    further: int | None = None,
) -> Accounted:
    """Say what became of slots, as far as that is settled.

    Args:
        slots: all there were after those accounted for already, in order; microseconds since 1970.
        runs: of the agent, from about the first slot on, in order; with the one before.
        spans: when its timer could start nothing.
        now: the present; slots after it are left alone.
        timer: whose slots they are.
        tail: the row that ends with the slot before the first of these: it may go on.
        further: the first slot after these that is past, too; None if there is none.
    """
    known = _Known([run for run in runs if run.started <= now], spans, timer)
    past = [slot for slot in slots if slot <= now]
    served = _served(past, known, further)
    put_off = _put_off(served, known) if timer.jitter else []
    items: list[Served | Missed] = [] if tail is None else [tail]
    waiting = again = None
    for index, slot in enumerate(past):
        if (found := served.get(slot)) is not None:
            items.append(found)
            continue
        cause = _cause(slot, known, put_off)
        settled = _settled(slot, cause, known, latest=further is None and index == len(past) - 1)
        if settled is None or settled > now:
            waiting, again = slot, settled
            break
        before = items[-1] if items else None
        if isinstance(before, Missed) and (before.reason, before.since) == (cause.reason, cause.since):
            items[-1] = replace(before, slot_until=slot, slots=before.slots + 1, until=cause.until)
        else:
            items.append(Missed(slot, slot, 1, cause.reason, cause.since, cause.until))
    if tail is not None and items[0] == tail:
        del items[0]
    return Accounted(tuple(items), waiting, again)


def _served(slots: Sequence[int], known: _Known, further: int | None) -> dict[int, Served]:
    """Return which run served which slot."""
    timer = known.timer
    last = further  # a run of later on served a further slot
    if last is not None and timer.jitter:
        last = max(last, slots[-1] + timer.jitter + ON_TIME)
    found: dict[int, Served] = {}
    free = before = 0  # the first slot that may still be served: runs and slots keep their order
    for run in known.runs:
        if last is not None and run.started >= last:
            break
        upto = bisect_right(slots, run.started)
        if run.slot is None and run.trigger in ("timer", None) and free < upto:
            index = _chosen(slots, range(free, upto), run.started, before, timer)
            slot = slots[index]
            if (run.trigger == "timer" and not timer.mixed) or _was_due(slot, run, known):
                late = max(run.started - slot - timer.jitter, 0)
                cause = _cause(slot, known, ()) if late > ON_TIME else _Cause(NOT_KNOWN, None, None)
                found[slot] = Served(run.id, slot, late, *(cause if cause.reason != NOT_KNOWN else ()))
                free = index + 1
        before = run.started
    return found


def _chosen(slots: Sequence[int], between: range, started: int, before: int, timer: Timer) -> int:
    """Return which of the slots before a start it served: the latest, where nothing was put off.

    systemd takes the first slot after the run before, and puts the start off by up to the jitter: other
    slots that pass meanwhile come to nothing.
    """
    if timer.jitter:
        earliest = bisect_left(slots, started - timer.jitter - ON_TIME)
        first = max(earliest, bisect_right(slots, before), between.start)
        if first in between:
            return first
    return between[-1]


def _put_off(served: dict[int, Served], known: _Known) -> list[tuple[int, int]]:
    """Return from when to when runs were put off by jitter, and no more than that."""
    slot_of = {item.run: slot for slot, item in served.items()}
    spans = [(slot_of.get(run.id, run.slot), run.started) for run in known.runs]
    most = known.timer.jitter + ON_TIME
    return [(slot, started) for slot, started in spans if slot is not None and started - slot <= most]


def _was_due(slot: int, run: Ran, known: _Known) -> bool:
    """Tell whether a run of which nobody knows who started it came when its timer would have started it."""
    due = max([slot, *(end for end in known.held(slot) if end is not None and end <= run.started)])
    return run.started - due <= known.timer.jitter + SETTLED


def _cause(slot: int, known: _Known, put_off: Sequence[tuple[int, int]]) -> _Cause:
    """Return why nothing came of a slot."""
    if over := known.over(slot):
        span = min(over, key=lambda span: (REASONS.index(span.reason), span.since))
        return _Cause(span.reason, span.since, span.until)
    if (run := known.running(slot)) is not None:
        return _Cause(STILL_RUNNING, run.started, run.ended)
    if (other := next((span for span in put_off if span[0] < slot <= span[1]), None)) is not None:
        return _Cause(JITTER, *other)
    return _Cause(NOT_KNOWN, None, None)


def _settled(slot: int, cause: _Cause, known: _Known, *, latest: bool) -> int | None:
    """Return when a slot without a run can be given up, None for not before something happens."""
    patience = known.timer.jitter + (UNEXPLAINED if cause.reason == NOT_KNOWN else SETTLED)
    held = [slot]
    if latest and cause.reason != TIMER_STOPPED:
        ends = known.held(slot)
        if None in ends:
            return None
        held += [end for end in ends if end is not None]
    return max(held) + patience
