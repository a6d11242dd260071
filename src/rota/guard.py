"""rotad watches the keeper that watches rotad: who notices if Home Keeper is gone, and that it is back.

Where the keeper is enabled (installed, and wanted by something that is started), it is lost if it is not
active, or has no name on the bus, for longer than a grace; or if it ends again and again: systemd starts it
anew, so that it is never away for long, but it heals nothing. That is an event of rotad's own, logged like
all others.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota.clock import wall_clock
from rota.errors import RotaError
from rota.events import KEEPER_BACK, KEEPER_LOST
from rota.names import KEEPER_AGENT, KEEPER_BUS_NAME, KEEPER_SERVICE
from rota.quantity import USEC
from rota.recorder import Recorder
from rota.systemd import CallError, Systemd, ask_bus

log = logging.getLogger("rotad")

GRACE = 30 * USEC
"""So long (microseconds) it may be away: it is restarted, or systemd is."""
RESTARTS, WITHIN = 3, 600 * USEC
"""So many restarts within so many microseconds are too many."""
_AGAIN = 5.0
"""Seconds between two looks while it is lost."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What systemd and the bus say of the keeper.

    Attributes:
        enabled: whether it is installed and wanted.
        active: its ActiveState=.
        result: its Result=, of the last time it ended.
        owned: whether its name is on the bus.
        restarts: its NRestarts=: how often Restart= had systemd start it anew since somebody else did; None
            if nobody knows.
    """

    enabled: bool
    active: str = "inactive"
    result: str = "success"
    owned: bool = False
    restarts: int | None = None

    @property
    def trouble(self) -> str:
        """Why it does not keep the house, "" if it does or is not to."""
        if not self.enabled or (self.active == "active" and self.owned):
            return ""
        if self.active == "active":
            return "it runs, but is not on the bus"
        how = "" if self.result == "success" else f", {self.result}"
        return f"its service is {self.active}{how}"


@dataclass(frozen=True, slots=True)
class State:
    """How long it has been away.

    Attributes:
        since: since when (microseconds of a clock that nobody sets), None if it is there.
        lost: the number of its loss, "" if it is not lost.
        why: as it was told.
        count: NRestarts= at the last look.
        restarted: when it was seen to have been started anew, the last few times.
    """

    since: int | None = None
    lost: str = ""
    why: str = ""
    count: int | None = None
    restarted: tuple[int, ...] = ()


def _restarted(state: State, seen: Seen, now: int) -> tuple[int, ...]:
    """Return when it was started anew of late; with a start by somebody else, systemd counts from 0."""
    if not seen.enabled or seen.restarts is None or state.count is None or seen.restarts < state.count:
        return ()
    all_ = (*state.restarted, *(now,) * min(seen.restarts - state.count, RESTARTS))
    return tuple(at for at in all_[-RESTARTS:] if at > now - WITHIN)


def judge(state: State, seen: Seen, now: int) -> tuple[State, str]:
    """Return the state after a look, and the kind of event it leads to, "" for none.

    Args:
        state: before.
        seen: the look.
        now: microseconds of a clock that nobody sets.
    """
    restarted = _restarted(state, seen, now)
    again = len(restarted) == RESTARTS
    if not seen.trouble and not again:
        well = State(lost=state.lost, count=seen.restarts, restarted=restarted)
        return well, KEEPER_BACK if state.lost else ""
    since = min((now if state.since is None else state.since, *restarted[: int(again)]))
    why = "it ends again and again" if again else seen.trouble
    away = State(since, state.lost, why, seen.restarts, restarted)
    return away, KEEPER_LOST if not state.lost and (again or now - since >= GRACE) else ""


def _monotonic() -> int:
    return time.monotonic_ns() // 1000


class Guard:
    """Looks whenever something may have changed; at rest it costs nothing."""

    def __init__(
        self, systemd: Systemd, bus: MessageBus, recorder: Recorder, clock: Callable[[], int] = _monotonic
    ) -> None:
        self._systemd = systemd
        self._bus = bus
        self._recorder = recorder
        self._clock = clock
        self._wake = asyncio.Event()
        self._state = State()
        self._enabled = False
        self._since: int | None = None

    def look(self) -> None:
        """Look soon."""
        self._wake.set()

    def table(self) -> dict[str, Any]:
        """Return how the keeper does, as others see it: `enabled`, `lost`; if lost, `since` and `why`."""
        lost = bool(self._state.lost)
        told = {"since": self._since, "why": self._state.why or None} if lost else {}
        return {"enabled": self._enabled, "lost": lost, **told}

    async def forever(self) -> None:
        """Watch; what an earlier rotad told is known from its store."""
        self._bus.add_message_handler(self._on_message)
        rule = (
            f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{KEEPER_BUS_NAME}'"
        )
        await ask_bus(self._bus, "AddMatch", rule)
        last = self._recorder.ask(lambda store: store.last_of(KEEPER_AGENT, (KEEPER_LOST, KEEPER_BACK)))
        if last is not None and last.kind == KEEPER_LOST:
            self._state = State(lost=last.run, why=str(last.data.get("why", "")))
            self._since = last.at
        while True:
            self._wake.clear()
            try:
                await self._once()
            except RotaError as error:
                log.warning("nothing is known of the keeper: %s", error.message)
            try:
                async with asyncio.timeout(self._patience()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _patience(self) -> float | None:
        """Return for how many seconds nothing is to be done if nothing happens."""
        if self._state.since is None:
            return None
        if self._state.lost:
            return _AGAIN
        return max(self._state.since + GRACE - self._clock(), 0) / USEC + 0.05

    def _on_message(self, message: Message) -> None:
        signal = message.message_type is MessageType.SIGNAL and message.member == "NameOwnerChanged"
        if signal and message.body[0] == KEEPER_BUS_NAME:
            self._wake.set()

    async def _once(self) -> None:
        seen = await self._seen()
        self._enabled = seen.enabled
        before, began = self._state, self._since
        self._state, kind = judge(before, seen, self._clock())
        if kind == KEEPER_LOST:
            self._since = wall_clock() - (self._clock() - (self._state.since or 0))
            why = self._state.why
            self._state = replace(self._state, lost=uuid.uuid4().hex)
            self._record(kind, self._state.lost, f"Home Keeper is gone: {why}", {"why": why})
        elif kind == KEEPER_BACK:
            self._state, self._since = replace(self._state, lost=""), None
            told = {"enabled": seen.enabled} | ({} if began is None else {"lost": began})
            what = "Home Keeper is back" if seen.enabled else "Home Keeper is no longer enabled"
            self._record(kind, before.lost, what, told)

    def _record(self, kind: str, number: str, message: str, data: dict[str, Any]) -> None:
        since = {} if self._since is None else {"since": self._since}
        log.log(logging.WARNING if kind == KEEPER_LOST else logging.INFO, "%s", message)
        self._recorder.record(kind, KEEPER_AGENT, number, message, data | since)

    async def _seen(self) -> Seen:
        if not await self._systemd.wanted(KEEPER_SERVICE):
            return Seen(enabled=False)
        active = await self._systemd.unit_property(KEEPER_SERVICE, "ActiveState")
        result = await self._systemd.unit_property(KEEPER_SERVICE, "Result", "Service")
        restarts = await self._systemd.unit_property(KEEPER_SERVICE, "NRestarts", "Service")
        return Seen(True, str(active), str(result), await self._owned(), int(restarts))

    async def _owned(self) -> bool:
        try:
            return bool((await ask_bus(self._bus, "NameHasOwner", KEEPER_BUS_NAME))[0])
        except CallError:
            return False
