"""Calls that block, in threads: few at a time, and none that anybody has to wait for.

`asyncio.to_thread` will not do: a call that never returns (a network file system whose server is gone) would
keep one of few workers for ever, and the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from . import Unavailable

Result = TypeVar("Result")


class Threads:
    """Runs calls in threads of their own, of each kind one at a time."""

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._busy: set[str] = set()

    @property
    def busy(self) -> frozenset[str]:
        """The kinds of calls that are under way."""
        return frozenset(self._busy)

    async def run(self, kind: str, work: Callable[[], Result]) -> Result:
        """Return what `work` returns; whoever is cancelled while waiting leaves the thread to itself.

        Args:
            kind: what is asked, such as a mount point.
            work: what blocks.

        Raises:
            Unavailable: an earlier call of the kind has not returned yet, or too many others have not.
        """
        if kind in self._busy:
            raise Unavailable("it has not answered an earlier look yet")
        if len(self._busy) >= self._limit:
            raise Unavailable(
                f"not asked: {self._limit} others do not answer ({', '.join(sorted(self._busy)[:3])}, …)"
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()

        def finish(done: Callable[[], None]) -> None:
            self._busy.discard(kind)
            if not answer.done():
                done()

        def call() -> None:
            done: Callable[[], None]
            try:
                done = partial(answer.set_result, work())
            except Exception as error:  # noqa: BLE001  (raised again where it is waited for)
                done = partial(answer.set_exception, error)
            try:
                loop.call_soon_threadsafe(finish, done)
            except RuntimeError:
                return  # the loop has ended, and nobody waits

        self._busy.add(kind)
        try:
            threading.Thread(target=call, name=f"probe {kind}", daemon=True).start()
        except RuntimeError as error:
            self._busy.discard(kind)
            raise Unavailable(f"not asked: {error}") from None
        return await answer
