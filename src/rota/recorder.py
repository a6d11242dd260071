"""Journal to store: drains what is new, survives a full disk and a damaged store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rota import journal
from rota.database import FullError, set_aside
from rota.errors import DamagedError, Exit, RotaError
from rota.events import Run
from rota.store import Recorded, Store, open_store

log = logging.getLogger("rotad")

T = TypeVar("T")

_FULL_RETRY = 5.0
_EAGER = 0.2
"""Seconds after a start in which the journal is looked at every few milliseconds."""
_PATIENCE = 10.0
"""Seconds after which a run whose end systemd has told, but the journal has not, is given up."""


class Recorder:
    """Keeps the store up with the journal."""

    def __init__(
        self,
        path: Path,
        *,
        changed: Callable[[Run], None],
        recorded: Callable[[list[Recorded]], None],
        user: bool,
    ) -> None:
        """Open the store and the journal.

        Args:
            path: of the store.
            changed: hears of every run that changed.
            recorded: hears of every event before that, with its number.
            user: the manager is a user's.

        Raises:
            RotaError: neither can be used.
        """
        self._path = path
        self._changed = changed
        self._recorded = recorded
        self._user = user
        self._wake = asyncio.Event()
        self._expected: dict[str, tuple[float, asyncio.Future[Run | None]]] = {}
        self._written: dict[tuple[str, str], float] = {}
        self._full = False
        self._current = False
        self._eager_until = 0.0
        self.store = self._open()
        cursor = self.store.cursor()
        if cursor is not None and not journal.is_cursor(cursor):
            self._rebuild(DamagedError(f"its cursor is {cursor!r}"))
        else:
            self._reader = journal.Reader(cursor, user=user)
        if not self._reader.readable():
            raise RotaError(
                "the journal cannot be read",
                "rotad's user must be in the group systemd-journal.",
                Exit.UNREACHABLE,
            )

    def _open(self) -> Store:
        store, damage = open_store(self._path)
        if damage is not None:
            log.error("the store was damaged (%s); rebuilding it from the journal", damage)
        elif store.cursor() is None:
            log.info("no store yet: reading what the journal still holds")
        return store

    @property
    def current(self) -> bool:
        """Whether all that the journal held when last read is recorded."""
        return self._current and not self._full

    def wake(self) -> None:
        """There may be something new."""
        self._wake.set()

    def ask(self, question: Callable[[Store], T]) -> T:
        """Ask the store; one that is found damaged is set aside and rebuilt, and asked again."""
        try:
            return question(self.store)
        except DamagedError as error:
            self._rebuild(error)
            self.wake()
            return question(self.store)

    def lag(self, now: int) -> int:
        """Return for how long the oldest entry has been waiting to be recorded, in microseconds; 0 for none.

        Args:
            now: microseconds since 1970.
        """
        oldest = self._reader.oldest_unread()
        return 0 if oldest is None else max(now - oldest, 0)

    def hasten(self) -> None:
        """A run has begun: the journal may tell its end before systemd does."""
        self._eager_until = time.monotonic() + _EAGER
        self._wake.set()

    async def drain(self) -> None:
        """Record all that the journal holds by now."""
        more, behind = True, False
        while more:
            try:
                more = self._drain_once()
            except FullError as error:
                self._pause(error)
                return
            except DamagedError as error:
                self._rebuild(error)
            if more:
                behind = True
                await asyncio.sleep(0)
        self._current = True
        if behind:
            # Lets go of the journal files that were mapped to read that much.
            self._reader = journal.Reader(self._reader.cursor, user=self._user)
        if self._full:
            self._full = False
            log.warning("there is room again: recording goes on")

    def _drain_once(self) -> bool:
        events, cursor, more = self._reader.read()
        # Entries about other units leave no trace: the cursor behind them is kept in memory only.
        if events and cursor is not None:
            for event in events:
                self._written.pop((event.run, event.kind), None)
            new = self.store.append(events, cursor)
            if self._current:
                self._recorded(new.events)
            for run in new.runs:
                if self._current:
                    self._changed(run)
                if run.over and run.id in self._expected:
                    self._answer(run.id, run)
        return more

    def _answer(self, run_id: str, run: Run | None) -> None:
        _, future = self._expected.pop(run_id)
        if not future.done():
            future.set_result(run)

    def _pause(self, error: FullError) -> None:
        if not self._full:
            log.error("recording is paused: %s. %s", error.message, error.hint)
        self._full = True
        self._reader = journal.Reader(self.store.cursor(), user=self._user)
        asyncio.get_running_loop().call_later(_FULL_RETRY, self.wake)

    def _rebuild(self, error: DamagedError) -> None:
        self.store.close()
        aside = set_aside(self._path)
        log.error("the store is damaged (%s); kept as %s, rebuilding from the journal", error, aside)
        self.store = self._open()
        self._current = False  # what is read again is not news
        self._reader = journal.Reader(None, user=self._user)

    async def ended(self, run_id: str) -> Run | None:
        """Wait until the journal tells how a run ended that systemd says is over; None if it does not."""
        run = self.ask(lambda store: store.get(run_id))
        if run is not None and run.over:
            return run
        future: asyncio.Future[Run | None] = asyncio.get_running_loop().create_future()
        _, future = self._expected.setdefault(run_id, (time.monotonic() + _PATIENCE, future))
        self.wake()
        return await future

    async def known(self, run_id: str, patience: float = 2.0) -> Run | None:
        """Wait until a run is recorded at all."""
        deadline = time.monotonic() + patience
        while (run := self.ask(lambda store: store.get(run_id))) is None and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
            await self.drain()
        return run

    def record(self, event: str, agent: str, run: str, message: str, data: Mapping[str, Any]) -> None:
        """Log an event of our own, see `journal.record`, and look out for it until it is in the journal."""
        journal.record(event, agent, run, message, data)
        self._written[run, event] = time.monotonic() + _PATIENCE
        self.wake()

    def _overdue(self) -> None:
        now = time.monotonic()
        self._written = {entry: deadline for entry, deadline in self._written.items() if now <= deadline}
        for run_id, (deadline, _) in list(self._expected.items()):
            if now > deadline:
                self._answer(run_id, None)

    async def forever(self) -> None:
        """Drain whenever woken, and again soon while an end is known to be on its way."""
        pause = 0.0
        while True:
            eager = time.monotonic() < self._eager_until
            if self._expected or self._written or eager:
                # systemd's word on D-Bus, and our own, are some milliseconds ahead of journald's file.
                pause = min(max(pause * 1.5, 0.001), 0.004 if eager else 0.25)
                try:
                    await asyncio.wait_for(self._wake.wait(), pause)
                    pause = 0.0
                except TimeoutError:
                    self._overdue()
            else:
                await self._wake.wait()
                pause = 0.0
            self._wake.clear()
            await self.drain()
