"""Coming and past slots of calendar events, asked of systemd in batches and kept: see analyze.elapses."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import merge
from pathlib import Path

_FEW, _MANY = 16, 512
"""How many slots of an event are asked for, with many events at once and alone."""
_LOCAL_TIME = Path("/etc/localtime")

Elapses = Callable[[Sequence[str], int, int], dict[str, list[int]]]


def ask_systemd(events: Sequence[str], base: int, count: int) -> dict[str, list[int]]:
    """Ask systemd-analyze; see analyze.elapses."""
    from rota import analyze  # noqa: PLC0415  (subprocess, in rotad only where there are calendar events)

    return analyze.elapses(events, base, count)


def local_time() -> str:
    """Return what changes when the machine is moved to another time zone."""
    try:
        return str(_LOCAL_TIME.readlink())
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Slots of an event: all after `base` up to the last, or all there will ever be."""

    base: int
    slots: list[int]
    complete: bool

    def holds(self, after: int, until: int) -> bool:
        reaches = self.complete or (bool(self.slots) and self.slots[-1] > until)
        return after >= self.base and reaches


class Expected:
    """When calendar events elapse. Times are microseconds since 1970.

    Raises (every coroutine):
        RotaError: systemd-analyze did not answer.
    """

    def __init__(self, elapses: Elapses = ask_systemd) -> None:
        self._elapses = elapses
        self._batches: dict[str, _Batch] = {}
        self._zone = local_time()

    async def prepare(self, events: Iterable[str], base: int) -> None:
        """Ask for the slots of many events at once, so that they need not be asked for one by one."""
        await self._ask(sorted(set(events) - set(self._batches)), base, _FEW)

    def keep(self, events: Iterable[str]) -> None:
        """Forget all events but these."""
        wanted = set(events)
        self._batches = {event: batch for event, batch in self._batches.items() if event in wanted}

    async def _ask(self, events: Sequence[str], base: int, count: int) -> None:
        if events:
            found = await asyncio.to_thread(self._elapses, events, base, count)
            for event, slots in found.items():
                # Moments are whole seconds: several within one are one slot.
                self._batches[event] = _Batch(base, slots, complete=not slots)

    async def between(self, events: Iterable[str], after: int, until: int, most: int) -> list[int]:
        """Return the slots after a moment up to another, of any of the events; the first `most` of them."""
        if local_time() != self._zone:
            self._zone = local_time()
            self._batches.clear()
        parts = [await self._of(event, after, until, most) for event in events]
        found = list(dict.fromkeys(merge(*parts)))
        return found[:most]

    async def _of(self, event: str, after: int, until: int, most: int) -> list[int]:
        slots: list[int] = []
        while True:
            batch = self._batches.get(event)
            if batch is None or (not batch.complete and not batch.holds(after, after)) or after < batch.base:
                await self._ask([event], after, _MANY)
                batch = self._batches[event]
            first, last = bisect_right(batch.slots, after), bisect_right(batch.slots, until)
            slots += batch.slots[first:last]
            if batch.holds(after, until) or len(slots) >= most or batch.complete:
                return slots
            after = batch.slots[-1]

    async def next(self, events: Iterable[str], after: int, count: int = 1) -> list[int]:
        """Return the next slots after a moment."""
        return await self.between(events, after, 2**62, count)
