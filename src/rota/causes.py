"""When a timer could start nothing, told from what the journal says of the machine and of the timer; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rota.quantity import USEC
from rota.slots import CLOCK_CHANGED, HOST_DOWN, SUSPENDED, TIMER_STOPPED, Span

GOING_DOWN = 180 * USEC
"""A timer that was stopped so shortly before its machine went off was stopped by that (the time systemd
waits for services to stop is 90 s)."""
COMING_UP = 120 * USEC
"""A timer that has not started so long after boot is not going to."""
DRIFT = 2 * USEC
"""Two clocks that part by less have not been set."""

WENT_OFF, CAME_UP, STARTED, STOPPED, ASLEEP, AWAKE = (
    "went-off",
    "came-up",
    "timer-started",
    "timer-stopped",
    "asleep",
    "awake",
)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something the journal tells: one of the kinds above, and when (microseconds since 1970).

    `went-off` is the last entry of a boot, `came-up` the first of the next.
    """

    kind: str
    at: int


@dataclass(frozen=True, slots=True)
class Moment:
    """An entry of the journal, by three clocks.

    Attributes:
        at: microseconds since 1970.
        monotonic: microseconds since boot, without time asleep.
        boot: the boot's id.
    """

    at: int
    monotonic: int
    boot: str


class _Timer:
    """What became of a timer, fact by fact."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._off: int | None = None
        self._reason = ""
        self._came_up: int | None = None
        self._asleep: int | None = None

    def take(self, fact: Fact) -> None:
        at = fact.at
        if fact.kind == STOPPED and self._off is None:
            self._off, self._reason, self._came_up = at, TIMER_STOPPED, None
        elif fact.kind == WENT_OFF:
            self._went_off(at)
        elif fact.kind == CAME_UP:
            self._came_up = at
        elif fact.kind == STARTED and self._off is not None:
            self._close(at)
            self._off = self._came_up = None
        elif fact.kind == ASLEEP:
            self._asleep = at
        elif fact.kind == AWAKE and self._asleep is not None:
            self.spans.append(Span(SUSPENDED, self._asleep, at))
            self._asleep = None

    def _went_off(self, at: int) -> None:
        if self._off is None:
            self._off = at
        elif self._reason == TIMER_STOPPED and at - self._off > GOING_DOWN:
            self.spans.append(Span(TIMER_STOPPED, self._off, at))
            self._off = at
        self._reason, self._came_up, self._asleep = HOST_DOWN, None, None

    def _close(self, at: int) -> None:
        """File the time that ends now, or goes on."""
        if self._off is None:
            return
        if self._reason == HOST_DOWN and self._came_up is not None and at - self._came_up > COMING_UP:
            self.spans.append(Span(HOST_DOWN, self._off, self._came_up))
            self._reason, self._off = TIMER_STOPPED, self._came_up
        self.spans.append(Span(self._reason, self._off, at))

    def now(self, at: int) -> None:
        """File what goes on."""
        if self._off is not None:
            self._close(at)
            self.spans[-1] = replace(self.spans[-1], until=None)
        if self._asleep is not None:
            self.spans.append(Span(SUSPENDED, self._asleep, None))


def spans(facts: Iterable[Fact], now: int) -> list[Span]:
    """Return when a timer could start nothing.

    Args:
        facts: in order; before the first, the timer is taken to have been started.
        now: the present, microseconds since 1970.
    """
    timer = _Timer()
    for fact in facts:
        timer.take(fact)
    timer.now(now)
    return timer.spans


def jump(before: Moment, after: Moment, asleep: int) -> Span | None:
    """Return what happened between two entries next to each other, if the clock says more than time passed.

    Args:
        before: the one.
        after: the next.
        asleep: how long the machine has slept since boot (CLOCK_BOOTTIME less CLOCK_MONOTONIC), microseconds.
    """
    if before.boot != after.boot:
        return Span(HOST_DOWN, before.at, after.at)
    drift = (after.at - before.at) - (after.monotonic - before.monotonic)
    if drift < DRIFT:
        return None
    return Span(SUSPENDED if asleep >= drift - DRIFT else CLOCK_CHANGED, before.at, after.at)
