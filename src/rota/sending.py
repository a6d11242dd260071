"""The worker of one channel: makes messages of what waits for it, and sends them, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rota.clock import wall_clock
from rota.errors import RotaError
from rota.grouping import FIRST_RETRY, Decision, Due, decide, is_expired, retry_at
from rota.notify import Outcome, deliver
from rota.outbox import Message, Outbox
from rota.quantity import USEC, format_duration
from rota.routes import HOUR, Channel, Happening, Rules
from rota.telling import own_unit
from rota.wording import AGAIN, Text, detailed, message

log = logging.getLogger("rotad-notify")

_LOOK = 60.0
"""Seconds after which it looks for something to do though nobody woke it: quiet hours move with the clock."""
_FULL = 10.0
"""Seconds until it tries again where the outbox took nothing."""
_TAIL = 5.0
"""Seconds that the journal has for the output of one run or unit."""


class Worker:
    """One channel."""

    def __init__(
        self,
        channel: Channel,
        rules: Rules,
        outbox: Outbox,
        credential: Path,
        *,
        host: str,
        user: bool,
        patience: float,
        first_retry: int = FIRST_RETRY,
        chance: Callable[[], float],
        tail: Callable[[Happening], Awaitable[list[str]]],
        deliver: Callable[[Path, Text, float], Awaitable[Outcome]] = deliver,
        now: Callable[[], int] = wall_clock,
    ) -> None:
        """Begin with what the outbox says.

        Args:
            channel: the channel.
            rules: who is told what.
            outbox: what waits.
            credential: the file with its URL.
            host: name of the machine.
            user: what people are to type is of the user's agents.
            patience: seconds that a message may take to be sent.
            first_retry: microseconds until it is tried again for the first time.
            chance: random numbers from 0 to 1.
            tail: returns the last lines of output of what happened; raises OSError if they cannot be read.
            deliver: sends a message.
            now: the present, microseconds since 1970.
        """
        self._channel = channel
        self._rules = rules
        self._outbox = outbox
        self._credential = credential
        self._host = host
        self._rota = "rota --user" if user else "rota"
        self._patience = patience
        self._first_retry = first_retry
        self._chance = chance
        self._tail = tail
        self._deliver = deliver
        self._now = now
        self._wake = asyncio.Event()
        self._stopping = False
        self._decisions: dict[str, Decision] = {}
        self._unmarked: Callable[[], None] | None = None
        self._complaint = ""

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stopping = True
        self._wake.set()

    def overview(self) -> dict[str, Any]:
        """Return how the channel does; `held` says what waits for what, and until when."""
        held = [
            {"lane": lane, "why": one.why, "until": one.until}
            for lane, one in sorted(self._decisions.items())
            if one.why
        ]
        return {**self._outbox.overview(self._channel.name), "held": held}

    async def forever(self) -> None:
        """Send whatever is to be sent, until stopped."""
        while not self._stopping:
            self._wake.clear()
            try:
                pause = await self.step()
                self._complaint = ""
            except RotaError as error:
                if error.message != self._complaint:
                    log.error("%s: %s", self._channel.name, error.message)
                self._complaint, pause = error.message, _FULL
            if pause > 0 and not self._stopping:
                await self._sleep(pause)
        with contextlib.suppress(RotaError):  # what is not marked is sent again, and says so
            self._mark()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def step(self) -> float:
        """Make what messages may be made, and send one; return seconds until there is more to do.

        Raises:
            RotaError: the outbox takes nothing. What came of the last message is kept, to be filed first.
        """
        self._mark()
        if self._outbox.to_the_present(self._channel.name, self._now(), self._first_retry):
            log.warning(
                "%s: the clock was set back: what waited for a later time waits no longer", self._channel.name
            )
        later = await self._compose()
        if self._stopping:
            return 0
        begun = self._outbox.begin(self._channel.name, self._now())
        if begun is not None:
            await self._send(begun)
            return 0
        moments = [one for one in (later, self._outbox.next_at(self._channel.name)) if one is not None]
        return min([max((moment - self._now()) / USEC, 0.001) for moment in moments] + [_LOOK])

    async def _compose(self) -> int | None:
        """Make messages of what may be told now; return when to look again, None if nothing waits."""
        name = self._channel.name
        later: list[int] = []
        lanes = [lane for channel, lane in self._outbox.lanes() if channel == name]
        self._decisions = {lane: one for lane, one in self._decisions.items() if lane in lanes}
        for lane in lanes:
            now = self._now()
            route = self._rules.route(lane)
            longest = max(self._channel.rate.per, route.rate.per if route.rate else 0, HOUR)
            sends = self._outbox.sends(name, lane, now - 2 * longest)
            waiting, ahead = self._outbox.waiting(name, lane), self._outbox.ahead(name, lane)
            chosen = decide(waiting, self._channel, route, sends, ahead, now=now)
            self._decisions[lane] = chosen
            if chosen.items:
                happenings = self._outbox.happenings(chosen.items)
                tails = await self._tails(happenings)
                held = chosen.held_since
                text = message(happenings, tails, self._host, held_since=held, rota=self._rota)
                self._outbox.compose(name, lane, chosen.items, text, self._now())
            if chosen.until is not None:
                later.append(chosen.until)
        return min(later, default=None)

    async def _tails(self, happenings: list[Happening]) -> dict[str, list[str]]:
        """Return the last lines of those that are told in full, as far as the journal has them in time."""
        found: dict[str, list[str]] = {}
        for one in detailed(happenings):
            if (one.run and one.kind != "missed") or own_unit(one):
                try:
                    async with asyncio.timeout(_TAIL):
                        found[one.key] = await self._tail(one)
                except (OSError, TimeoutError) as error:
                    whose = f"run {one.run}" if one.run else one.about
                    log.warning("the output of %s cannot be read: %s", whose, error or "it takes too long")
        return found

    async def _send(self, begun: Message) -> None:
        text = begun.text
        if begun.cut_off:
            text = replace(text, body=text.body + AGAIN)
        due = Due(begun.created, begun.attempts, 0)
        if begun.cut_off > 1 and is_expired(due, self._channel.expiry, self._now(), self._first_retry):
            outcome = Outcome("it was cut off each time that it was being sent")
        else:
            outcome = await self._deliver(self._credential, text, self._patience)
        self._unmarked = self._marked(begun, outcome)
        self._mark()

    def _mark(self) -> None:
        """File what came of the last message: until that is done, no other is begun."""
        if self._unmarked is not None:
            self._unmarked()
            self._unmarked = None

    def _marked(self, begun: Message, outcome: Outcome) -> Callable[[], None]:
        """Log what came of a message, and return what files it."""
        name, now = self._channel.name, self._now()
        if outcome.ok:
            log.info("%s: message %d was sent: %s", name, begun.id, begun.text.subject)
            return partial(self._outbox.sent, begun.id, now)
        at = retry_at(begun.attempts, now, self._chance(), self._first_retry)
        due = Due(begun.created, begun.attempts, at)
        if is_expired(due, self._channel.expiry, now, self._first_retry):
            waited = format_duration(now - begun.created)
            what = f"message {begun.id} was given up after {waited} and {begun.attempts} attempts"
            log.error("%s: %s: %s. It said: %s", name, what, outcome.error, begun.text.subject)
            return partial(self._outbox.give_up, begun.id, outcome.error, now)
        again = format_duration(max(at - now, USEC), 1)
        log.warning("%s: message %d was not sent: %s; again in %s", name, begun.id, outcome.error, again)
        return partial(self._outbox.retry, begun.id, outcome.error, at)
