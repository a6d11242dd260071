"""Jobs of systemd's: queued, and waited for until they are over; what became of a oneshot unit by its job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from rota.errors import RotaError
from rota.systemd import CallError, connect, plain, until_lost

from ..probes.manager import Hearers, Manager

T = TypeVar("T")

_NAME = "org.freedesktop.systemd1"
_NO_UNIT = frozenset(
    (f"{_NAME}.NoSuchUnit", f"{_NAME}.LoadFailed", f"{_NAME}.UnitMasked", f"{_NAME}.BadUnitSetting")
)


@asynccontextmanager
async def manager_at(address: str | None) -> AsyncIterator[Manager]:
    """Yield systemd's manager by a connection of one's own.

    Args:
        address: of the bus; None for the system bus.

    Raises:
        RotaError: there is no bus.
    """
    bus = await connect(user=False, address=address)
    try:
        yield Manager(bus)
    finally:
        bus.disconnect()


async def unless_lost(manager: Manager, work: Awaitable[T]) -> T:
    """Return what `work` returns.

    Raises:
        RotaError: the connection was lost meanwhile.
    """
    working = asyncio.ensure_future(work)
    lost = asyncio.ensure_future(until_lost(manager.bus))
    try:
        await asyncio.wait((working, lost), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            lost.result()
        return await working
    finally:
        for task in (working, lost):
            task.cancel()
        await asyncio.gather(working, lost, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Over:
    """What became of a job.

    Attributes:
        result: systemd's word for it: done, failed, canceled, timeout, dependency, skipped, ...
        unit: properties of the unit that changed meanwhile.
        of_type: the same of its type: Service, ...
    """

    result: str
    unit: dict[str, Any]
    of_type: dict[str, Any]


async def carried_out(manager: Manager, verb: str, unit: str, mode: str) -> Over:
    """Queue a job, and return what became of it when it is over.

    systemd sends what changed of a unit before it says that the job is gone, also where it forgets the unit
    right then; asked afterwards, it would say "success" of whatever it has forgotten. A systemd that is
    executed anew (systemctl daemon-reexec, as at its upgrade) keeps its jobs, and who listens.

    Args:
        manager: of a connection on which nobody else hears anything.
        verb: Start or Restart.
        unit: its name.
        mode: `fail` if no job that is queued already may have to give way, `replace` if it may.

    Raises:
        CallError: systemd did not queue it.
        RotaError: the job was over while systemd was executed anew.
    """
    results: dict[str, str] = {}
    changed: dict[str, Any] = {}
    of_type: dict[str, Any] = {}
    news = asyncio.Event()
    anew = False

    def job_removed(_: str, job: str, result: str) -> None:
        # It may be over before its path is known.
        results[job] = result
        news.set()

    def away() -> None:
        nonlocal anew
        anew = manager.there
        news.set()

    await manager.hear(
        Hearers(
            job_removed,
            away,
            changed=lambda _, found: changed.update(plain(found)),
            of_type=lambda _, found: of_type.update(plain(found)),
        ),
        unit,
    )
    job = await manager.queue(verb, unit, mode)
    while job not in results:
        await news.wait()
        news.clear()
        if anew:
            anew = False
            if not await manager.has_job(job) and job not in results:
                raise RotaError(f"systemd was executed anew: nobody knows what became of {unit}")
    return Over(results[job], changed, of_type)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a start of a oneshot unit.

    Attributes:
        job: systemd's word for the job: done, failed, canceled, timeout, dependency, skipped, ...
        result: the service's own: success, exit-code, signal, timeout, ...; "" where nothing was said.
        status: exit status or signal of its process, 0 where nothing was said.
    """

    job: str
    result: str = ""
    status: int = 0

    @property
    def good(self) -> bool:
        """Whether all went as it should."""
        return self.job == "done" and self.result in ("", "success")

    def why(self) -> str:
        """Return what went wrong, in words."""
        if self.result == "exit-code":
            return f"it ended with exit status {self.status}"
        if self.result in ("signal", "core-dump"):
            return f"it was killed by signal {self.status}"
        if self.result == "timeout":
            return "it took too long, and systemd stopped it"
        return f"systemd says {self.result or self.job}"


class Jobs:
    """systemd's jobs, each over a connection of its own, which goes when nobody waits any more."""

    def __init__(self, address: str | None = None) -> None:
        """Name the bus.

        Args:
            address: instead of the system bus's own.
        """
        self._address = address

    async def run(self, unit: str) -> Done:
        """Start a oneshot unit and wait for its end. One that runs already is waited for, not started again.

        Raises:
            RotaError: there is no such unit, it may not be started, or systemd cannot be reached.
        """
        try:
            async with manager_at(self._address) as manager:
                over = await unless_lost(manager, carried_out(manager, "Start", unit, "replace"))
        except CallError as error:
            if error.name in _NO_UNIT:
                raise RotaError(f"there is no {unit}: {error.message}", "Run rota apply.") from None
            raise
        result, status = over.of_type.get("Result", ""), over.of_type.get("ExecMainStatus", 0)
        return Done(over.result, str(result), int(status))
