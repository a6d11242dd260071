"""Several looks at once, none of which outlives the others' failure."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def together(looks: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return what all return, in their order. Where one fails, the others are ended, and its error raised.

    `asyncio.gather` alone would leave those to themselves, `asyncio.TaskGroup` raise groups of errors.
    """
    tasks = [asyncio.create_task(look) for look in looks]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
