"""What comes in: one queue for all, of bounded length, and event sources that are kept going."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from .checks.blind import blind
from .messages import Happening, Observed, Reply
from .probes.polling import Observation
from .state import State
from .words import Finding, Target

log = logging.getLogger("rota-home-keeper")

LIMIT = 1000
"""Of so many items that wait, a check's observations become one: the newest word on each target."""
_MOST = 15.0
"""Seconds from the end of a source to its next start, at most."""


class Source(Protocol):
    """What follows events.

    Attributes:
        name: of its check.
    """

    name: str

    async def follow(self, put: Callable[[Observation], None]) -> None:
        """Put what is found, for ever; says itself when it is blind."""
        ...


@dataclass(slots=True)
class Item:
    """Something that came in.

    Attributes:
        what: an observation, or something else that happened.
        reply: where the answer goes, for what a person asked.
    """

    what: Observation | Happening
    reply: asyncio.Future[Reply] | None = None


def merged(before: Observation, after: Observation) -> Observation:
    """Return two observations of one check as one."""
    if after.first:
        return after
    return Observation(after.check, after.at, before.findings | after.findings, before.first)


class Inbox:
    """First in, first out. Nobody who puts something in has to wait."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._observed: dict[str, Item] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put_nowait(self, item: Observation, /) -> None:
        """Take in what a check found."""
        waiting = self._observed.get(item.check)
        if waiting is not None and len(self._items) >= self._limit and isinstance(waiting.what, Observation):
            waiting.what = merged(waiting.what, item)
            return
        self._observed[item.check] = self._put(Item(item))

    def tell(self, happening: Happening) -> None:
        """Take in something else."""
        self._put(Item(happening))

    async def ask(self, happening: Happening) -> Reply:
        """Take in what a person asks for, and wait for the answer."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._put(Item(happening, reply))
        return await reply

    def _put(self, item: Item) -> Item:
        self._items.append(item)
        self._some.set()
        return item

    async def get(self, patience: float) -> Item | None:
        """Return what came first; None if nothing comes within so many seconds."""
        if not self._items:
            self._some.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._some.wait()
            except TimeoutError:
                return None
        item = self._items.popleft()
        if isinstance(item.what, Observation) and self._observed.get(item.what.check) is item:
            del self._observed[item.what.check]
        return item


def left(state: State) -> dict[str, list[Finding]]:
    """Return the findings that are open, by check."""
    found: dict[str, list[Finding]] = {}
    for case in state.cases.values():
        for item in case.open.values():
            found.setdefault(item.check, []).append(item.finding)
    return found


def observed(observation: Observation, state: State) -> Iterator[Observed]:
    """Yield what a check found that is not known to be so: target by target.

    The first observation of a check that could look closes what an earlier keeper left open of targets that
    are not there any more.
    """
    check = observation.check
    known = {
        name for name, case in state.cases.items() if any(one.check == check for one in case.open.values())
    }
    for target, findings in observation.findings.items():
        if findings or str(target) in known:
            yield Observed(check, target, findings)
    if observation.first:
        for name in sorted(known - {str(target) for target in observation.findings}):
            yield Observed(check, Target.parse(name))


async def keep_following(source: Source, put: Callable[[Observation], None]) -> None:
    """Follow a source for ever: one that ends by a mistake of its own is blind, and begun again."""
    target, pause, blind_since = Target("check", source.name), 1.0, 0
    while True:
        began = time.monotonic()
        try:
            await source.follow(put)
            why = "it ended"
        except Exception as error:  # one source's mistake must not end the others
            log.exception("source %s failed", source.name)
            why = f"{type(error).__name__}: {error}"
        at = time.time_ns() // 1000
        if time.monotonic() - began > 2 * _MOST:
            pause, blind_since = 1.0, 0
        blind_since = blind_since or at
        put(Observation(source.name, at, {target: (blind(source.name, blind_since, why),)}))
        await asyncio.sleep(pause)
        pause = min(2 * pause, _MOST)
