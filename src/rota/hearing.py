"""Hears of what a source recorded, from the last number it has heard of on; files what is to be told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from rota.clock import wall_clock
from rota.errors import RotaError
from rota.events import Run
from rota.outbox import Cursor, Outbox, Told
from rota.quantity import USEC
from rota.routes import Happening, Rules, routed
from rota.sources import NOT_RUNNING, Page, Source
from rota.telling import (
    OUTPUT,
    SETTLES,
    STANDING,
    Standing,
    from_guard,
    from_keeper,
    gap,
    judge,
    not_understood,
    run_key,
)

log = logging.getLogger("rotad-notify")

_OUTPUT = 5 * USEC
"""So long after a run was filed its last line is waited for."""
_DAY, _HOUR = 86_400 * USEC, 3600 * USEC
_AGAIN = 5.0
"""Seconds until it is tried again where the outbox took nothing."""
_LAST = 2**62
"""A number that no event has yet."""


class Hearing:
    """One source, and how far it was heard."""

    def __init__(
        self,
        source: Source,
        wake: asyncio.Event,
        outbox: Outbox,
        rules: Rules,
        filed: Callable[[Iterable[str]], None],
        *,
        from_yesterday: bool = False,
    ) -> None:
        """Begin where the outbox says; where it says nothing, with what happens from now on.

        Args:
            source: whose events.
            wake: set when there may be new ones.
            outbox: what is to be told, and the cursor.
            rules: who is told what.
            filed: called with the channels for which something was filed.
            from_yesterday: where the outbox says nothing, begin a day ago: it was lost.
        """
        self.source = source
        self._wake = wake
        self._outbox = outbox
        self._rules = rules
        self._filed = filed
        self._from_yesterday = from_yesterday
        self._cursor = outbox.cursor(source.name)
        self._standings = outbox.standings()
        self._silent = ""
        self._before = 0
        self._born = wall_clock()

    def look(self) -> None:
        """Look for new events, should a signal have got lost."""
        self._wake.set()

    def overview(self) -> dict[str, Any]:
        """Return how it does: `seq` and `at` of the last event, and `error`, "" if the source answers."""
        seq, at = (self._cursor.seq, self._cursor.at) if self._cursor else (0, None)
        return {"source": self.source.name, "seq": seq, "at": at, "error": self._silent}

    async def forever(self) -> None:
        """File whatever is recorded."""
        while True:
            self._wake.clear()
            try:
                await self.catch_up()
            except RotaError as error:
                self._no_answer(error)
                # Whoever is away tells when it comes back; a full disk does not, nor who has a name already
                # but no object yet.
                await self._woken(None if error.message == NOT_RUNNING else _AGAIN)
                continue
            if self._silent:
                log.info("%s answers again", self.source.name)
                self._silent = ""
            await self._wake.wait()

    async def _woken(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _no_answer(self, error: RotaError) -> None:
        # Without a keeper there is none to hear: it is known by its first word.
        if error.message != self._silent and (self._cursor is not None or self.source.name == "rotad"):
            log.warning("nothing is heard of %s: %s", self.source.name, error.message)
        self._silent = error.message

    async def catch_up(self) -> None:
        """File all that is recorded by now.

        Raises:
            RotaError: the source is out of reach, or the outbox takes nothing; to be tried again.
        """
        if self._cursor is None:
            await self._begin()
        more = True
        while more:
            assert self._cursor is not None  # noqa: S101  (for types: `_begin` has set it)
            page = await self.source.events(self._cursor.seq)
            if page.store != self._cursor.store:
                log.warning("%s has lost its store: what it records anew is heard again", self.source.name)
                now = wall_clock()
                floor = Cursor(page.store, 0, min(self._cursor.at, now))
                self._outbox.file(f"{self.source.name} before", floor, now=now)
                self._cursor = floor
                continue
            await self._take(page)
            # To be asked once more tells the keeper that what it escalated is safe here.
            more = page.more or (self.source.name == "keeper" and bool(page.events))

    async def _begin(self) -> None:
        since = await self.source.seq_at(wall_clock() - _DAY) if self._from_yesterday else _LAST
        page = await self.source.events(since)
        seq = since if self._from_yesterday else page.last
        if self.source.name == "keeper":
            # It may have recorded something before it could be asked for the first time.
            seq = min(seq, await self.source.seq_at(self._born))
            # What waits for a person still does, however long ago it began.
            seq, self._before = min(seq, await self.source.unheard()), seq
        self._keep(Cursor(page.store, seq, wall_clock()), [], {})

    def _keep(self, cursor: Cursor, told: list[Told], standings: dict[str, Standing | None]) -> None:
        self._outbox.file(self.source.name, cursor, told, standings, now=wall_clock())
        self._cursor = cursor

    async def _take(self, page: Page) -> None:
        """File what is to be told of a page, and the cursor behind it."""
        assert self._cursor is not None  # noqa: S101  (for types: only called with one)
        name, since = self.source.name, self._cursor
        told: list[Told] = []
        changed: dict[str, Standing | None] = {}
        gone = since.seq and page.first > since.seq + 1
        if gone:
            log.error("%s: events %d to %d were forgotten", name, since.seq + 1, page.first - 1)
            told += self._told(gap(name, page.store, since.seq, page.first, wall_clock()), wall_clock())
        before = self._outbox.cursor(f"{name} before")
        oldest = before.at - _HOUR if before and before.store == page.store else 0
        passed = False
        for event in page.events:
            if event["at"] >= oldest:
                # What comes after it is new, whatever its time: the clock may have been set back.
                passed, oldest = passed or oldest > 0, 0
                told += await self._heard(page.store, event, changed)
        if not page.events and not gone:
            return
        last = page.events[-1] if page.events else None
        if last is not None:
            cursor = Cursor(page.store, last["seq"], max(since.at, last["at"]))
        else:
            cursor = Cursor(page.store, max(since.seq, page.first - 1), since.at)
        if gone or told or changed or passed or cursor.seq - since.seq >= _OFTEN:
            self._keep(cursor, told, changed)
            self._standings |= {agent: one for agent, one in changed.items() if one is not None}
            for agent in [agent for agent, one in changed.items() if one is None]:
                self._standings.pop(agent, None)
            if passed:
                self._outbox.file(f"{name} before", Cursor("", 0, 0), now=wall_clock())
        else:
            self._cursor = cursor  # read again after a crash, they come to nothing again
        for event in page.events:
            if event["kind"] == OUTPUT:
                self._outbox.settle(event["run"], str(event["data"].get("last_line", "")), wall_clock())
        self._filed({channel for one in told for channel, _ in one.ways} or self._channels_of(page))

    def _channels_of(self, page: Page) -> set[str]:
        return set(self._rules.channels) if any(event["kind"] == OUTPUT for event in page.events) else set()

    async def _heard(
        self, store: str, event: dict[str, Any], changed: dict[str, Standing | None]
    ) -> list[Told]:
        """Return what is to be told of an event; note how its agent stands after it."""
        try:
            return await self._understood(store, event, changed)
        except (KeyError, TypeError, ValueError) as error:
            # Of another version, perhaps. Whoever ended here would be started again, and end here again.
            log.error("%s: event %d is not understood: %r", self.source.name, event["seq"], error)
            return self._told(not_understood(self.source.name, store, event), wall_clock())

    async def _understood(
        self, store: str, event: dict[str, Any], changed: dict[str, Standing | None]
    ) -> list[Told]:
        if self.source.name != "rotad":
            if event["seq"] <= self._before and not _stands(event):
                return []
            found = from_keeper(store, event)
            return self._told(found, wall_clock()) if found else []
        watch = from_guard(event)
        if watch or event["kind"] not in SETTLES or self._outbox.known(run_key(event["run"])):
            # Of slots that were missed one hears again; and of all, where a store was lost.
            return self._told(watch, wall_clock()) if watch else []
        table = await self.source.run(event["run"])
        if table is None:
            log.warning("run %s of %s is forgotten: nobody is told of it", event["run"], event["agent"])
            return []
        run = Run.of(table)
        if not run.over:
            return []
        standing = changed[run.agent] if run.agent in changed else self._standings.get(run.agent)
        happening, after = judge(run, standing, self._rules.of(run.agent))
        if after != standing:
            changed[run.agent] = after
        ready = wall_clock() if run.output_filed else wall_clock() + _OUTPUT
        return self._told(happening, ready) if happening else []

    def _told(self, happening: Happening, ready: int) -> list[Told]:
        ways = tuple(routed(happening, self._rules))
        return [Told(happening, ways, ready)] if ways else []


def _stands(event: dict[str, Any]) -> bool:
    """Tell whether an event from before anybody listened waits for a person yet."""
    return event["kind"] in STANDING and event["data"].get("expires", _LAST) > wall_clock()


_OFTEN = 1000
"""Events of which nothing is told, after which the cursor is written all the same."""
