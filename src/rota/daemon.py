"""rotad: records every run, and does for people what they may do with agents."""

from __future__ import annotations

# isort: off
import rota.lean  # noqa: F401  (before what it keeps out)
# isort: on

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from systemd import daemon as sd

from rota import definitions, program
from rota.acts import Acts
from rota.bus import Exported
from rota.clock import wall_clock
from rota.errors import Exit, RotaError
from rota.events import Run
from rota.filing import Filing
from rota.guard import Guard
from rota.ledger import Ledger
from rota.names import BUS_NAME, agent_of
from rota.observer import Observer
from rota.quantity import USEC
from rota.recorder import Recorder
from rota.store import Recorded
from rota.systemd import Systemd, UnitChange, connect, until_lost
from rota.timers import read_timers
from rota.totals import DAY

log = logging.getLogger("rotad")


_SETTLED, _HOUR = 10.0, 3600.0
"""Seconds after a start, and between two times, until rotad forgets what is old."""
_BREATH = 0.02
"""Seconds between two transactions in which old runs are forgotten, for what else there is to do."""


class Daemon:
    """The wiring: bus and systemd on one side, journal and store on the other."""

    def __init__(self, state: Path, *, user: bool) -> None:
        self._state = state
        self._user = user
        self._rescan = asyncio.Event()
        self._stop = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._exported: Exported | None = None
        self._retention = definitions.Retention()
        self._recorder = Recorder(
            state / "rota.db", changed=self._run_changed, recorded=self._events_recorded, user=user
        )
        self._filing = Filing(self._recorder, user=user)

    def _events_recorded(self, events: list[Recorded]) -> None:
        if self._exported is not None:
            self._exported.events_recorded(events)

    def _run_changed(self, run: Run) -> None:
        if self._exported is not None:
            self._exported.run_changed(run)
            self._observer.on_run(run)
            self._ledger.on_run(run)
            self._filing.on_run(run)

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            RotaError: no bus, no systemd, or another rotad has the name.
        """
        self._bus = await connect(user=self._user)
        self._systemd = Systemd(self._bus)
        self._observer = Observer(
            self._systemd,
            self._recorder,
            agents=self._installed,
            moved=self._moved,
            user=self._user,
        )
        self._ledger = Ledger(self._systemd, self._recorder, user=self._user)
        self._acts = Acts(
            self._state,
            self._recorder,
            self._systemd,
            self._observer,
            self._bus,
            ledger=self._ledger,
            user=self._user,
        )
        self._guard = Guard(self._systemd, self._bus, self._recorder)
        self._acts.keeper = self._guard.table
        await self._systemd.follow(self._unit_changed, self._rescan.set)
        await self._scan()
        self._exported = Exported(self._bus, self._acts)
        await self._take_name()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        sd.notify(f"READY=1\nSTATUS=Recording {len(self._acts.agents)} agents")
        tasks = [
            loop.create_task(work)
            for work in (
                self._record(),
                self._account(),
                self._filing.forever(),
                self._watch_keeper(),
                self._watch_declarations(),
                self._watchdog(),
                self._forget(),
                until_lost(self._bus),
                self._stop.wait(),
            )
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        sd.notify("STOPPING=1")
        for task in tasks:
            task.cancel()
        self._recorder.store.close()
        for task in done:
            task.result()

    def _unit_changed(self, change: UnitChange) -> None:
        self._observer.on_change(change)
        if change.kind == "job-removed" and change.unit.endswith(".timer"):
            agent = agent_of(change.unit)
            if agent is not None and agent in self._ledger.timers:
                # The entry that says so is on its way to the journal.
                self._ledger.look_at(agent, wall_clock() + USEC)

    def _installed(self, name: str) -> definitions.Definition | None:
        return self._acts.agents.get(name)

    def _moved(self, name: str) -> None:
        self._acts.moved(name)

    async def _take_name(self) -> None:
        from dbus_next.constants import NameFlag, RequestNameReply  # noqa: PLC0415  (only at the start)

        reply = await self._bus.request_name(BUS_NAME, NameFlag.DO_NOT_QUEUE)
        if reply is not RequestNameReply.PRIMARY_OWNER:
            raise RotaError(f"another rotad has the name {BUS_NAME}", exit_code=Exit.FAILED)

    async def _record(self) -> None:
        await self._recorder.drain()
        await self._observer.reconcile(wall_clock() - DAY)
        await self._recorder.drain()
        self._caught_up.set()
        self._filing.begin()
        await self._recorder.forever()

    async def _account(self) -> None:
        await self._caught_up.wait()
        await self._ledger.forever()

    async def _watch_keeper(self) -> None:
        await self._caught_up.wait()
        await self._guard.forever()

    async def _watch_declarations(self) -> None:
        while True:
            await self._rescan.wait()
            self._rescan.clear()
            await self._scan()
            self._guard.look()
            sd.notify(f"STATUS=Recording {len(self._acts.agents)} agents")
            if self._exported is not None:
                self._exported.agents_changed()

    async def _scan(self) -> None:
        self._acts.installed(definitions.read(await self._systemd.unit_files("rota-*.service")))
        self._ledger.installed(read_timers(await self._systemd.unit_files("rota-*.timer")))
        (path, *_) = [*await self._systemd.unit_files("rota.slice"), ""]
        self._retention = definitions.read_retention(Path(path)) if path else definitions.Retention()

    async def _forget(self) -> None:
        """Forget what is too old, a little at a time, once an hour."""
        pause = _SETTLED
        while True:
            await asyncio.sleep(pause)
            pause = _HOUR
            try:
                await self.forget(wall_clock())
            except RotaError as error:
                log.warning("what is old was not forgotten: %s", error.message)

    async def forget(self, now: int) -> int:
        """Forget what is too old at a moment (microseconds since 1970); return how many runs and events."""
        retention = self._retention
        critical = [a.name for a in self._acts.agents.values() if a.declaration.get("priority") == "critical"]
        before, total = now - retention.detail, 0
        while done := self._recorder.ask(lambda store: store.prune(before, retention.runs, critical)):
            total += done
            await asyncio.sleep(_BREATH)
        self._recorder.ask(lambda store: store.forget_totals((now - retention.totals) // DAY))
        return total

    async def _watchdog(self) -> None:
        """Tell systemd that the loop turns; and look into the journal, should a signal have got lost."""
        period = int(os.environ.get("WATCHDOG_USEC", "120000000")) / 2_000_000
        while True:
            sd.notify("WATCHDOG=1")
            await asyncio.sleep(period)
            self._recorder.wake()
            self._guard.look()


def parser() -> argparse.ArgumentParser:
    """Return the parser of rotad's command line."""
    user = "serve the user's own manager and session bus"
    rotad = program.parser("rotad", "Records every run of rota's agents", user=user)
    rotad.add_argument("--debug", action="store_true", help="log what is usually not of interest")
    return rotad


async def _main(*, user: bool) -> None:
    await Daemon(program.state_directory("rota", user=user), user=user).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run rotad; return its exit code."""
    arguments = parser().parse_args(argv)
    return program.run(log, _main(user=arguments.user), debug=arguments.debug)
