"""A day of waiting in a moment: for what is exact by the clock of the loop, however busy the machine is."""

from __future__ import annotations

import asyncio
from typing import Any


class FakeLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while it waits: the schedule of a day in a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def skip(timeout: float | None = None) -> Any:
            self.offset += timeout or 0.0
            return select(0)

        self._selector.select = skip  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.offset
