"""Calls that block, in threads: few at a time, and none that anybody has to wait for.

`asyncio.to_thread` will not do: a call that never returns (a network file system whose server is gone) would
keep one of few workers for ever, and the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


class Threads:
    """Runs calls in threads of their own: of each kind one at a time, which all who ask for it wait for."""

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._calls: dict[str, asyncio.Future[Any]] = {}
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    @property
    def busy(self) -> frozenset[str]:
        """The kinds of calls that have not returned."""
        return frozenset(self._calls)

    async def run(self, kind: str, work: Callable[[], Result]) -> Result:
        """Return what `work` returns; whoever is cancelled while waiting leaves the thread to itself.

        Where as many threads as there may be do not return, this does not either: set a timeout.

        Args:
            kind: what is asked, such as a mount point. While an earlier call of the kind is under way, it is
                that one's result that is returned.
            work: what blocks.
        """
        if kind not in self._calls:
            self._calls[kind] = asyncio.get_running_loop().create_future()
            self._waiting.append(partial(self._begin, kind, work))
            self._next()
        found: Result = await asyncio.shield(self._calls[kind])
        return found

    def _next(self) -> None:
        while self._waiting and self._running < self._limit:
            self._running += 1
            self._waiting.popleft()()

    def _begin(self, kind: str, work: Callable[[], object]) -> None:
        loop, answer = asyncio.get_running_loop(), self._calls[kind]

        def finish(settle: Callable[[], None]) -> None:
            del self._calls[kind]
            self._running -= 1
            settle()
            self._next()

        def call() -> None:
            settle: Callable[[], None]
            try:
                settle = partial(answer.set_result, work())
            except Exception as error:  # noqa: BLE001  (raised again where it is waited for)
                settle = partial(_fail, answer, error)
            try:
                loop.call_soon_threadsafe(finish, settle)
            except RuntimeError:
                return  # the loop has ended, and nobody waits

        try:
            threading.Thread(target=call, name=f"probe {kind}", daemon=True).start()
        except RuntimeError as error:  # no more threads
            loop.call_soon(finish, partial(_fail, answer, OSError(str(error))))


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # or asyncio complains where all who waited have gone
