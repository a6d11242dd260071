"""Follows the containers of an engine by its events: a source of observations, see `containers.follow`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from rota.container_watches import Containers, Engine
from rota.errors import RotaError

from ..checks.blind import blind
from ..checks.containers import Judge, Own, Track, ended_with_engine, heard, passed, seen
from ..checks.engine import Container, Happened
from ..checks.words import SECOND, Malformed
from ..words import Finding, Target
from . import Unavailable
from .engine import Connection, Gone, Refused, Stream
from .polling import Observation, wall_clock
from .threads import Threads
from .together import together

log = logging.getLogger("rota-home-keeper")

_EXPECTED = (Gone, Refused, Malformed, Unavailable, RotaError, OSError)
_SOON = 0.2
_LONGEST = 15.0
"""Seconds from one try to reach the engine to the next: doubled from the first up to the second."""
_PATIENCE = 10.0
"""Seconds that an engine may be away before anybody is told: it may be started anew."""
_GLANCE = 30.0
"""Seconds after which a list is asked for, should an event have been lost or the engine hang."""
_AFTER = frozenset(
    ("create", "destroy", "die", "health_status", "oom", "pause", "rename", "restart", "start")
)
_LOOK_AFTER = _AFTER | {"stop", "unpause", "update"}

Put = Callable[[Observation], None]


class ContainerSource:
    """Follows one engine.

    Attributes:
        name: of the check.
        own: what the keeper itself does to containers; remedies say so there.
        connection: the way to the engine.
    """

    def __init__(
        self,
        engine: Engine,
        rules: Containers,
        *,
        now: Callable[[], int] = wall_clock,
        patience: float = _PATIENCE,
        glance: float = _GLANCE,
    ) -> None:
        """Prepare to follow; `follow` does.

        Args:
            engine: where it listens.
            rules: how containers are watched.
            now: returns microseconds since 1970.
            patience: seconds that the engine may be away before that is more than a note.
            glance: seconds between two looks at what is running, beside what the engine tells.
        """
        self.name = engine.check
        self.engine = engine
        self.own = Own()
        self.connection = Connection(engine, Threads(32))
        self._rules = rules
        self._now = now
        self._patience = patience
        self._glance = glance
        self._judge = Judge(engine, rules, 0)
        self._found: dict[str, Container] = {}
        self._tracks: dict[str, Track] = {}
        self._told: dict[Target, tuple[Finding, ...]] = {}
        self._last: Happened | None = None
        self._again: int | None = None
        self._blind_since = 0
        self._gone = 1
        self._listening = 0

    def track(self, container_id: str) -> Track:
        """Return what was heard of a container."""
        return self._tracks.get(container_id, Track())

    async def follow(self, put: Put) -> None:
        """Put what is found, for ever: all when the engine answers (again), then what changes."""
        clock = asyncio.get_running_loop().time
        tries, away = 0, clock()
        while True:
            began, absent = self._now(), False
            try:
                await self._session(put)
                why = "its events ended"
            except _EXPECTED as error:
                why, absent = str(error), isinstance(error, Gone) and error.absent
            reached, self._gone = not self._gone, self._gone or self._now()
            self.connection.close()
            away = clock() if reached else away
            if not reached:
                # No more than a note: it may be started anew; or there never was one.
                passing = clock() - away < self._patience or (absent and not self._judge.since)
                self._blind(put, why, "info" if passing else "warning")
            tries = 0 if reached and self._now() - began > _LONGEST * SECOND else tries + 1
            await asyncio.sleep(min(_SOON * 2 ** min(tries, 10), _LONGEST))

    def _blind(self, put: Put, why: str, severity: str) -> None:
        at = self._now()
        self._blind_since = self._blind_since or at
        finding = blind(self.name, self._blind_since, why, severity)
        if self._told.get(finding.target) != (finding,):
            log.log(logging.INFO if severity == "info" else logging.WARNING, "%s", finding.summary)
            self._told[finding.target] = (finding,)
        put(Observation(self.name, at, {finding.target: (finding,)}))

    async def _session(self, put: Put) -> None:
        await self.connection.connect()
        since = self._last.nanos if self._last else (self._now() - self._rules.recent) * 1000
        until = self._now() * 1000
        missed = await self.connection.history(since, until)
        stream = await self.connection.follow(until)
        try:
            found = await self.connection.snapshot()
            self._listening = until // 1000
            self._caught_up(missed, found)
            put(self._news(first=True))
            self._blind_since = self._gone = 0
            await self._listen(stream, put)
        finally:
            stream.close()

    def _caught_up(self, missed: list[Happened], found: dict[str, Container]) -> None:
        """Take in what happened meanwhile, and how everything is now."""
        now = self._now()
        if not self._judge.since:
            self._judge = Judge(self.engine, self._rules, now, not self.connection.podman)
        if self._last is not None and self._last not in missed:
            # Docker keeps its last 256 events in memory: an engine that does not know of it is another, or
            # has had so many since, health checks above all.
            log.info("%s: the engine was started anew, or has forgotten what it told last", self.name)
            tracks = {key: self.track(key) for key in {**self._found, **self._tracks}}
            self._tracks = ended_with_engine(tracks, self._found, found, self._gone or now)
        for event in missed:
            if event != self._last:
                self._hear(event)
        self._seed(missed, found)
        before, self._found = self._found, found
        self._tracks = {
            key: seen(self.track(key), before.get(key), one, self._rules, now, listening=self._listening)
            for key, one in found.items()
        }

    def _seed(self, missed: Iterable[Happened], found: dict[str, Container]) -> None:
        """Count restarts from before anybody looked: the ends that the engine remembers."""
        for key, one in found.items():
            track = self.track(key)
            if track.count < 0 and one.restarts and not one.over:
                ends = [event.at for event in missed if event.id == key and event.action == "die"]
                seeded = tuple(ends[-one.restarts :])
                self._tracks[key] = Track(track.asked, track.died, restarts=seeded, oom=track.oom)

    async def _listen(self, stream: Stream, put: Put) -> None:
        # By a clock that nobody sets: what is due by the other is late by no more than this.
        clock = asyncio.get_running_loop().time
        glance = clock() + self._glance
        while True:
            left = glance - clock()
            due = left if self._again is None else min(left, (self._again - self._now()) / SECOND)
            events = await _some(stream, due)
            dirty = {event.id: None for event in events if event is not None and self._hear(event)}
            if clock() >= glance:
                glance = clock() + self._glance
                listed = await self.connection.listed()
                dirty |= {
                    key: None
                    for key in {**listed, **self._found}
                    if key not in self._found or key not in listed or not listed[key].agrees(self._found[key])
                }
            await together(self._look(key) for key in dirty)
            news = self._news()
            if news.findings:
                put(news)
            if None in events:
                return

    def _hear(self, event: Happened) -> bool:
        """Take in an event; return whether the container is to be looked at."""
        if self._last is None or event.nanos >= self._last.nanos:
            self._last = event
        if not (event.ends(self._stop_signal(event.id)) and self.own.at(event.id, event.at)):
            self._tracks[event.id] = heard(self.track(event.id), event, self._found.get(event.id))
        return event.action in _LOOK_AFTER

    def _stop_signal(self, container_id: str) -> int:
        one = self._found.get(container_id)
        return one.stop_signal if one else 15

    async def _look(self, container_id: str) -> None:
        """Look at one container; one that does not answer is looked at again with the next list."""
        try:
            one = await self.connection.inspect(container_id)
        except Refused as error:
            if error.status != 404:
                raise
            self._found.pop(container_id, None)
            self._tracks.pop(container_id, None)
            return
        before = self._found.get(container_id)
        self._tracks[container_id] = seen(
            self.track(container_id), before, one, self._rules, self._now(), listening=self._listening
        )
        self._found[container_id] = one

    def _news(self, *, first: bool = False) -> Observation:
        """Judge everything; return what is not told yet, or, if it is the first look, all."""
        now = self._now()
        judge = self._judge
        found: dict[Target, tuple[Finding, ...]] = {Target("check", self.name): ()}
        moments = []
        for key, one in sorted(self._found.items(), key=lambda item: item[1].created):
            self._tracks[key] = passed(self.track(key), self._rules, now)
            verdict = judge.verdict(one, self._tracks[key], self._found, now)
            found[judge.target(one)] = verdict.findings
            moments += [verdict.again] if verdict.again is not None else []
        self._again = min(moments, default=None)
        self.own.forget_others(self._found)
        gone: dict[Target, tuple[Finding, ...]] = {
            target: () for target, findings in self._told.items() if findings and target not in found
        }
        told, self._told = self._told, found
        news = {
            target: findings
            for target, findings in (found | gone).items()
            if first or findings != told.get(target, ())
        }
        return Observation(self.name, now, news, first)


async def _some(stream: Stream, timeout: float) -> list[Happened | None]:
    """Wait for an event, and return it with those that are there by now; [] if none comes in time."""
    try:
        async with asyncio.timeout(max(timeout, 0)):
            found = [await stream.queue.get()]
    except TimeoutError:
        return []
    while not stream.queue.empty():
        found.append(stream.queue.get_nowait())
    return found


def sources(rules: Containers) -> list[ContainerSource]:
    """Return what follows containers, one for each engine."""
    return [ContainerSource(engine, rules) for engine in rules.engines]
