"""Polling: each check looks at its own times, and none waits for another."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from rota.errors import RotaError

from ..checks.blind import blind
from ..checks.readings import Memory, Reading, recalled, settle
from ..checks.words import SECOND, Malformed, span
from ..words import Finding, Target
from . import Unavailable

log = logging.getLogger("rota-home-keeper")

Facts = TypeVar("Facts")

_EXPECTED = (OSError, EOFError, Malformed, RotaError, Unavailable)
_SOON = 5 * SECOND
_NOTHING: Mapping[str, Sequence[Finding]] = {}


@dataclass(frozen=True, slots=True)
class Poll(Generic[Facts]):
    """A check that is polled.

    Attributes:
        name: the check's name.
        interval: from one look to the next, microseconds.
        timeout: of one look, microseconds.
        probe: gets the facts.
        judge: turns them into readings; the number is the time, microseconds since 1970.
        recall: tells the probe which findings were open when the keeper ended; None: it remembers nothing.
    """

    name: str
    interval: int
    timeout: int
    probe: Callable[[], Awaitable[Facts]]
    judge: Callable[[Facts, int], Iterable[Reading]]
    recall: Callable[[Sequence[Finding]], None] | None = None

    @property
    def jitter(self) -> int:
        """How late a look may begin, microseconds: so that not all checks look at once."""
        return min(self.interval // 20, _SOON)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a check found at one look.

    Attributes:
        check: its name.
        at: when, microseconds since 1970.
        findings: by target, all that is wrong with it now; what was found before and is not there is healed.
            Targets that were well and still are, are only in the first.
        first: whether it is the first of this check that could look. Findings that an earlier keeper left of
            targets that are not in it are of things that are not there any more.
    """

    check: str
    at: int
    findings: dict[Target, tuple[Finding, ...]]
    first: bool = False


class Taker(Protocol):
    """Whoever takes what checks found, as asyncio.Queue does."""

    def put_nowait(self, item: Observation, /) -> None:
        """Take it; nobody waits."""
        ...


@dataclass(slots=True)
class Watcher(Generic[Facts]):
    """A check, and what it remembers between two looks."""

    poll: Poll[Facts]
    memory: Memory = field(default_factory=Memory)
    told: dict[Target, tuple[Finding, ...]] = field(default_factory=dict)
    blind_since: int = 0
    has_looked: bool = False

    @property
    def target(self) -> Target:
        """The check itself, which may be blind."""
        return Target("check", self.poll.name)

    def recall(self, left: Sequence[Finding]) -> Watcher[Facts]:
        """Take up what was open when the keeper ended, of this check; return itself."""
        if left:
            self.memory = recalled(left)
            if self.poll.recall is not None:
                self.poll.recall(left)
        return self

    async def look(self, now: Callable[[], int]) -> Observation | None:
        """Look once; return None if there is nothing that is not known already."""
        try:
            async with asyncio.timeout(self.poll.timeout / SECOND):
                facts = await self.poll.probe()
            at = now()
            readings = list(self.poll.judge(facts, at))
        except TimeoutError:
            return self._blind(now(), f"no answer within {span(self.poll.timeout)}")
        except _EXPECTED as error:
            return self._blind(now(), _told(error))
        except Exception as error:  # one check's mistake must not end the others
            log.exception("check %s failed", self.poll.name)
            return self._blind(now(), f"{type(error).__name__}: {error}")
        patience = 3 * self.poll.interval + 2 * self.poll.timeout
        # What is well right after a look is seen by the next one, and for `calm` by one more than that needs.
        late = 2 * self.poll.interval + self.poll.jitter + self.poll.timeout
        self.memory, found = settle(self.memory, readings, at, patience, late)
        self.blind_since = 0
        by_target: dict[Target, tuple[Finding, ...]] = {reading.target: () for reading in readings}
        by_target[self.target] = ()
        for finding in found:
            by_target[finding.target] += (finding,)
        return self._news(at, by_target)

    def _news(self, at: int, by_target: dict[Target, tuple[Finding, ...]]) -> Observation | None:
        first, self.has_looked = not self.has_looked, True
        gone: dict[Target, tuple[Finding, ...]] = {
            target: () for target, findings in self.told.items() if findings and target not in by_target
        }
        news = {
            target: findings
            for target, findings in (by_target | gone).items()
            if first or findings or self.told.get(target)
        }
        self.told = by_target
        return Observation(self.poll.name, at, news, first) if news else None

    def _blind(self, at: int, why: str) -> Observation:
        self.blind_since = self.blind_since or at
        finding = blind(self.poll.name, self.blind_since, why)
        self.told[self.target] = (finding,)
        return Observation(self.poll.name, at, {self.target: (finding,)})


def _told(error: BaseException) -> str:
    if isinstance(error, RotaError):
        return f"{error.message}. {error.hint}".rstrip(" .")
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error) or type(error).__name__


def wall_clock() -> int:
    """Return the time, microseconds since 1970."""
    return time.time_ns() // 1000


async def poll_all(
    polls: Iterable[Poll[Facts]],
    queue: Taker,
    left: Mapping[str, Sequence[Finding]] = _NOTHING,
    *,
    now: Callable[[], int] = wall_clock,
    chance: random.Random | None = None,
) -> None:
    """Look at everything, for ever, and put what is found into `queue`.

    Looks of a check are at multiples of its interval after its first one, however long each takes; one that
    takes longer than the interval leaves out those that fall into it. The first is within five seconds; the
    others are put off by up to a twentieth of the interval, so that checks do not march in step.

    Args:
        polls: all checks.
        queue: takes what is found.
        left: the findings that were open when the keeper ended, by check.
        now: returns microseconds since 1970.
        chance: for when looks are.
    """
    dice = chance or random.Random()  # noqa: S311  (not a secret)
    async with asyncio.TaskGroup() as group:
        for poll in polls:
            watcher = Watcher(poll).recall(left.get(poll.name, ()))
            group.create_task(_poll(watcher, queue, now, dice), name=f"check {poll.name}")


async def _poll(watcher: Watcher[Facts], queue: Taker, now: Callable[[], int], dice: random.Random) -> None:
    poll, loop = watcher.poll, asyncio.get_running_loop()
    interval = poll.interval / SECOND
    jitter = poll.jitter / SECOND
    start = loop.time() + dice.uniform(0, min(poll.interval, _SOON) / SECOND)
    turn = 0
    while True:
        due = start + interval * turn + (dice.uniform(0, jitter) if turn else 0)
        await asyncio.sleep(max(due - loop.time(), 0))
        if (observation := await watcher.look(now)) is not None:
            queue.put_nowait(observation)
        turn = max(turn + 1, math.ceil((loop.time() - start) / interval))
