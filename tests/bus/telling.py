"""rotad-notify on a private bus: a rotad of plain data, and what is declared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_next.aio.message_bus import MessageBus

from rota.bus import Exported
from rota.errors import Exit, RotaError
from rota.events import Event, Run, fold
from rota.interface import Events
from rota.names import (
    BUS_NAME,
    NOTIFIER_BUS_NAME,
)
from rota.notifier import Notifier
from rota.store import Recorded
from rota.systemd import connect
from tests.bus.house import House

NOW = 1_796_029_200_000_000
Table = dict[str, Any]


def named(number: int) -> str:
    """Return the id of a run."""
    return f"{number:08x}".ljust(32, "a")


class Rotad(House):
    """A rotad that records what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.store = "aaaa"
        self.recorded: list[Recorded] = []
        self.runs: dict[str, Run] = {}
        self.first = 1
        self.reads = 0
        self.exported: Exported | None = None
        self._bus: MessageBus | None = None

    async def come(self, address: str) -> None:
        """Take the name on the bus."""
        self._bus = await connect(user=True, address=address)
        self.exported = Exported(self._bus, self)
        await self._bus.request_name(BUS_NAME)

    def go(self) -> None:
        """Leave the bus."""
        if self._bus is not None:
            self._bus.disconnect()
        self._bus = self.exported = None

    def record(self, *events: Event) -> None:
        made = [Recorded(len(self.recorded) + 1 + n, event) for n, event in enumerate(events)]
        self.recorded += made
        for event in events:
            self.runs[event.run] = fold(self.runs.get(event.run), event)
        if self.exported is not None:
            self.exported.events_recorded(made)

    def ran(
        self, number: int, status: int = 0, agent: str = "backup-check", said: str = "the last line"
    ) -> str:
        """Record a whole run."""
        run = named(number)
        at = NOW + number * 1_000_000
        end = Event("failed", agent, run, at, {"result": "exit-code"})
        if status == 0:
            end = Event("deactivated", agent, run, at, {})
        self.record(
            Event("activated", agent, run, at - 3_000_000, {"boot": "b"}),
            end,
            Event("archived", agent, run, at, {"code": "exited", "status": status}),
            Event("output", agent, run, at, {"last_line": said}),
        )
        return run

    def events(self, since: int, limit: int, _: str | None) -> Events:
        self.reads += 1
        found = [one for one in self.recorded if one.seq > since and one.seq >= self.first]
        return Events(self.store, self.first, len(self.recorded), found[: min(limit, 500)])

    def get_run(self, prefix: str) -> Run:
        if prefix not in self.runs:
            raise RotaError("no such run", exit_code=Exit.NOT_FOUND)
        return self.runs[prefix]


def rules(**routes: Any) -> Table:
    route = {"name": "r", "channels": ["ops"], "on": ["failure", "recovery", "missed"], "group": 0, **routes}
    channel = {"rate": [30, 3_600_000_000], "expiry": 172_800_000_000}
    return {"channels": {"ops": channel}, "routes": [route], "agents": {}}


@dataclass
class Scene:
    """A bus, a rotad, what is declared, and rotad-notify when it is there."""

    address: str
    folder: Path
    rotad: Rotad = field(default_factory=Rotad)
    notifier: Notifier | None = None
    task: asyncio.Task[None] | None = None

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials"

    def declare(self, table: Table, **urls: str) -> None:
        self.credentials.mkdir(exist_ok=True)
        (self.credentials / "rules").write_text(json.dumps(table))
        for name, url in urls.items():
            (self.credentials / f"channel.{name}").write_text(url)

    async def start(self, patience: float = 20, **more: Any) -> Notifier:
        """Start rotad-notify, and wait until it has heard of rotad."""
        self.notifier = Notifier(
            self.folder, self.credentials, user=True, address=self.address, patience=patience, **more
        )
        self.task = asyncio.create_task(self.notifier.run())
        await self.until(self._heard)
        return self.notifier

    def _heard(self) -> bool:
        if self.task is not None and self.task.done():
            self.task.result()
        if self.notifier is None or NOTIFIER_BUS_NAME is None:
            return False
        if self.rotad.exported is None:
            return bool(self.notifier._hearings)
        return self.notifier.outbox.cursor("rotad") is not None

    def channel(self) -> Table:
        """Return how the first channel does."""
        assert self.notifier is not None
        found: Table = json.loads(self.notifier.status())["channels"][0]
        return found

    def heard_all(self) -> bool:
        """Tell whether all that rotad recorded was heard."""
        assert self.notifier is not None
        return bool(json.loads(self.notifier.status())["sources"][0]["seq"] == len(self.rotad.recorded))

    async def stop(self) -> None:
        if self.notifier is not None and self.task is not None:
            self.notifier.stop()
            await self.task

    async def until(self, true: Callable[[], object], seconds: float = 40) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                if self.task is not None and self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)


def play(address: str, folder: Path, work: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene(address, folder)
        await scene.rotad.come(address)
        try:
            await work(scene)
        finally:
            if scene.task is not None and not scene.task.done():
                await scene.stop()
            scene.rotad.go()

    asyncio.run(main())
