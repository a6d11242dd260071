"""rotad: records every run, and does for people what they may do with agents."""

from __future__ import annotations

# isort: off
import rota.lean  # noqa: F401  (before what it keeps out)
# isort: on

import argparse
import asyncio
import contextlib
import logging
import os
import pwd
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from systemd import daemon as sd

from rota import __version__, definitions, pauses
from rota.bus import FILTERS, Caller, Events, Exported, run_table
from rota.errors import Exit, RotaError, nearest
from rota.events import OVER, Run
from rota.names import BUS_NAME, POLKIT_ACTION, service_of, timer_of
from rota.observer import Observer
from rota.polkit import authorised, uid_of
from rota.recorder import Recorder
from rota.store import Query, Recorded, Store
from rota.systemd import Systemd, connect
from rota.totals import DAY, Totals

log = logging.getLogger("rotad")

_TREND = 10
_ACTIVE = ("active", "activating", "deactivating", "reloading")
_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


_SETTLED, _HOUR = 10.0, 3600.0
"""Seconds after a start, and between two times, until rotad forgets what is old."""
_BREATH = 0.02
"""Seconds between two transactions in which old runs are forgotten, for what else there is to do."""


def stats_table(agent: str, totals: Totals) -> dict[str, Any]:
    """Return what an agent's runs come to, as others see it."""
    return {
        "agent": agent,
        "runs": totals.runs,
        **{state: count for state, count in totals.states.items() if count},
        "p50": totals.percentile(0.5),
        "p95": totals.percentile(0.95),
        "cpu_usec": totals.cpu_usec,
        "memory_peak": totals.memory_peak or None,
        "last_success": totals.last_success or None,
    }


class _JournalFormatter(logging.Formatter):
    """Prefixes each line with the level journald understands (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        level = _LEVELS.get(record.levelno, 6)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


class Daemon:
    """The wiring: bus and systemd on one side, journal and store on the other."""

    def __init__(self, state: Path, *, user: bool) -> None:
        self._state = state
        self._user = user
        self._agents: dict[str, definitions.Definition] = {}
        self._next: dict[str, int | None] = {}
        self._rescan = asyncio.Event()
        self._stop = asyncio.Event()
        self._exported: Exported | None = None
        self._retention = definitions.Retention()
        self._recorder = Recorder(
            state / "rota.db", changed=self._run_changed, recorded=self._events_recorded, user=user
        )

    def _events_recorded(self, events: list[Recorded]) -> None:
        if self._exported is not None:
            self._exported.events_recorded(events)

    def _run_changed(self, run: Run) -> None:
        if self._exported is not None:
            self._exported.run_changed(run)
            self._observer.on_run(run)

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
            moved=lambda name: self._next.pop(name, None),
            user=self._user,
        )
        await self._systemd.follow(self._observer.on_change, self._rescan.set)
        await self._scan()
        self._exported = Exported(self._bus, self)
        await self._take_name()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        sd.notify(f"READY=1\nSTATUS=Recording {len(self._agents)} agents")
        tasks = [
            loop.create_task(work)
            for work in (
                self._record(),
                self._watch_declarations(),
                self._watchdog(),
                self._forget(),
                self._bus_lost(),
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

    def _installed(self, name: str) -> definitions.Definition | None:
        return self._agents.get(name)

    async def _take_name(self) -> None:
        from dbus_next.constants import NameFlag, RequestNameReply  # noqa: PLC0415  (only at the start)

        reply = await self._bus.request_name(BUS_NAME, NameFlag.DO_NOT_QUEUE)
        if reply is not RequestNameReply.PRIMARY_OWNER:
            raise RotaError(f"another rotad has the name {BUS_NAME}", exit_code=Exit.FAILED)

    async def _record(self) -> None:
        await self._recorder.drain()
        await self._observer.reconcile(time.time_ns() // 1000 - DAY)
        await self._recorder.drain()
        await self._recorder.forever()

    async def _watch_declarations(self) -> None:
        while True:
            await self._rescan.wait()
            self._rescan.clear()
            await self._scan()
            sd.notify(f"STATUS=Recording {len(self._agents)} agents")
            if self._exported is not None:
                self._exported.agents_changed()

    async def _scan(self) -> None:
        self._agents = definitions.read(await self._systemd.unit_files("rota-*.service"))
        self._next.clear()
        (path, *_) = [*await self._systemd.unit_files("rota.slice"), ""]
        self._retention = definitions.read_retention(Path(path)) if path else definitions.Retention()

    async def _forget(self) -> None:
        """Forget what is too old, a little at a time, once an hour."""
        pause = _SETTLED
        while True:
            await asyncio.sleep(pause)
            pause = _HOUR
            try:
                await self.forget(time.time_ns() // 1000)
            except RotaError as error:
                log.warning("what is old was not forgotten: %s", error.message)

    async def forget(self, now: int) -> int:
        """Forget what is too old at a moment (microseconds since 1970); return how many runs and events."""
        retention = self._retention
        critical = [a.name for a in self._agents.values() if a.declaration.get("priority") == "critical"]
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

    async def _bus_lost(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            await self._bus.wait_for_disconnect()
        raise RotaError("the connection to the bus was lost", exit_code=Exit.UNREACHABLE)

    # What people ask for: bus.Service.

    def agent_names(self) -> list[str]:
        """Return the names of all agents."""
        return sorted(self._agents)

    def has_agent(self, name: str) -> bool:
        """Tell whether there is an agent of this name."""
        return name in self._agents

    def _definition(self, name: str) -> definitions.Definition:
        if name not in self._agents:
            raise RotaError(f"no agent {name}{nearest(name, self._agents)}", exit_code=Exit.NOT_FOUND)
        return self._agents[name]

    async def _elapse(self, name: str) -> int | None:
        """Return when an agent's timer elapses next, microseconds since 1970, None if it does not."""
        now = time.time_ns() // 1000
        known = self._next.get(name)
        if name in self._next and (known is None or known > now):
            return known
        self._next[name] = await self._systemd.next_elapse(timer_of(name))
        return self._next[name]

    async def _describe(self, agent: definitions.Definition, states: dict[str, str]) -> dict[str, Any]:
        runs = self._recorder.ask(lambda store: store.runs(Query((agent.name,)), _TREND + 1))
        over = [run for run in runs if run.over]
        pause = pauses.paused(self._state, agent.name)
        timer = states.get(timer_of(agent.name), "inactive")
        active = states.get(service_of(agent.name)) in _ACTIVE
        under_way = runs[0] if runs and not runs[0].over and active else None
        return {
            "name": agent.name,
            "description": agent.description,
            "schedule": agent.schedule,
            "priority": agent.declaration.get("priority", "medium"),
            "tags": agent.tags,
            "paused": pause is not None,
            "paused_by": (pause or {}).get("by"),
            "paused_at": (pause or {}).get("at"),
            "paused_why": (pause or {}).get("why"),
            "state": "running" if active else "idle",
            "timer": agent.timer(timer),
            "next": await self._elapse(agent.name) if timer == "active" else None,
            "running": run_table(under_way) if under_way else None,
            "last": run_table(over[0]) if over else None,
            "trend": [run.state for run in reversed(over[:_TREND])],
        }

    async def list_agents(self) -> list[dict[str, Any]]:
        """Return all agents, without their declarations."""
        states = await self._systemd.loaded("rota-*.service", "rota-*.timer")
        agents = [self._agents[name] for name in self.agent_names()]
        return list(await asyncio.gather(*(self._describe(agent, states) for agent in agents)))

    async def get_agent(self, name: str) -> dict[str, Any]:
        """Return one agent with its declaration as JSON."""
        import json  # noqa: PLC0415  (loaded already; the name is only needed here)

        agent = self._definition(name)
        states = await self._systemd.loaded(service_of(name), timer_of(name))
        declaration = json.dumps(agent.declaration, sort_keys=True)
        return {**await self._describe(agent, states), "declaration": declaration, "unit": agent.path}

    async def _authorise(self, caller: Caller, name: str, verb: str) -> str:
        """Return the caller's user name if they may do it.

        Raises:
            RotaError: they may not.
        """
        uid = await uid_of(self._bus, caller.sender)
        details = {"agent": name, "verb": verb}
        if not self._user and not await authorised(
            self._bus, caller.sender, POLKIT_ACTION, details, interactive=caller.interactive
        ):
            raise RotaError(
                f"not authorised to {verb} {name}",
                "Members of the group rota are; see rota(1).",
                Exit.NOT_AUTHORISED,
            )
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    async def start(self, caller: Caller, name: str) -> str:
        """Start an agent and return the run's id."""
        self._definition(name)
        by = await self._authorise(caller, name, "start")
        if (pause := pauses.paused(self._state, name)) is not None:
            who = f" by {pause['by']}" if pause.get("by") else ""
            raise RotaError(f"{name} is paused{who}", f"Write rota resume {name} first.")
        unit = service_of(name)
        before = await self._observer.invocation(unit)
        if await self._systemd.unit_property(unit, "ActiveState") in _ACTIVE:
            raise RotaError(f"{name} is running already, run {before[:8]}")
        self._observer.expect(unit, by)
        result = await self._observer.job_result(await self._systemd.start(unit))
        run = await self._observer.invocation(unit)
        if not run or run == before:
            self._observer.expect(unit, None)
            raise RotaError(f"{name} was not started: {result}", f"See systemctl status {unit}.")
        await self._recorder.known(run)
        return run

    async def stop(self, caller: Caller, name: str) -> None:
        """Stop the run of an agent that is under way."""
        self._definition(name)
        by = await self._authorise(caller, name, "stop")
        unit = service_of(name)
        if await self._systemd.unit_property(unit, "ActiveState") not in _ACTIVE:
            raise RotaError(f"{name} is not running")
        run = await self._observer.invocation(unit)
        self._recorder.record("stop-requested", name, run, f"{name}: {by} stops run {run[:8]}", {"by": by})
        await self._observer.job_result(await self._systemd.stop(unit))

    async def pause(self, caller: Caller, name: str, why: str) -> None:
        """Keep an agent from being started."""
        self._definition(name)
        by = await self._authorise(caller, name, "pause")
        if len(why) > 1000 or not why.isprintable():
            raise RotaError("the reason must be one line of at most 1000 characters", exit_code=Exit.USAGE)
        try:
            pauses.pause(self._state, name, by=by, at=time.time_ns() // 1000, why=why)
        except OSError as error:
            raise RotaError(f"{error.filename}: {error.strerror}") from None
        log.info("%s paused by %s%s", name, by, f": {why}" if why else "")

    async def resume(self, caller: Caller, name: str) -> None:
        """Let a paused agent be started again."""
        self._definition(name)
        by = await self._authorise(caller, name, "resume")
        try:
            was = pauses.resume(self._state, name)
        except OSError as error:
            raise RotaError(f"{error.filename}: {error.strerror}") from None
        if not was:
            raise RotaError(f"{name} is not paused")
        log.info("%s resumed by %s", name, by)

    def _query(self, wanted: Mapping[str, Any]) -> Query:
        """Return which runs are wanted.

        Raises:
            RotaError: a filter is none.
        """
        unknown = set(wanted) - set(FILTERS)
        if unknown:
            some = ", ".join(sorted(unknown))
            raise RotaError(f"no such filter: {some}", f"There are {', '.join(FILTERS)}.", Exit.USAGE)
        agents = wanted.get("agent")
        if "tag" in wanted:
            tagged = [a.name for a in self._agents.values() if set(wanted["tag"]) & set(a.tags)]
            agents = [name for name in tagged if agents is None or name in agents]
        return Query(
            agents=None if agents is None else tuple(agents),
            states=tuple(wanted.get("state", ())),
            triggers=tuple(wanted.get("trigger", ())),
            since=wanted.get("since"),
            until=wanted.get("until"),
            before=wanted.get("before"),
        )

    def list_runs(self, wanted: Mapping[str, Any], limit: int) -> list[Run]:
        """Return the newest of the runs that are wanted; see `bus.FILTERS`."""
        query = self._query(wanted)
        runs = self._recorder.ask(lambda store: store.runs(query, limit))
        for name in () if runs else wanted.get("agent", ()):
            if not self._has_run(name):
                self._definition(name)  # not even one that is gone
        return runs

    def _has_run(self, name: str) -> bool:
        return bool(self._recorder.ask(lambda store: store.runs(Query((name,)), 1)))

    def stats(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what the runs of each agent come to, of the last seven days unless `since` says otherwise.

        Of more than two days, those are whole days of UTC.
        """
        now = time.time_ns() // 1000
        query = self._query({"since": now - 7 * DAY, **wanted})
        since = query.since or 0
        whole_days = now - since > 2 * DAY and not (query.states or query.triggers or query.until)

        def find(store: Store) -> dict[str, Totals]:
            if whole_days:
                return store.totals(since // DAY, query.agents)
            return store.count(replace(query, states=query.states or tuple(sorted(OVER))))

        return [stats_table(name, totals) for name, totals in sorted(self._recorder.ask(find).items())]

    def events(self, since: int, limit: int, agent: str | None) -> Events:
        """Return what was recorded after number `since`."""

        def find(store: Store) -> Events:
            first, last = store.bounds()
            return Events(store.id(), first, last, store.events(since, limit, agent))

        return self._recorder.ask(find)

    def seq_at(self, at: int) -> int:
        """Return the number after which events from a moment on (microseconds since 1970) are found."""
        return self._recorder.ask(lambda store: store.seq_before(at))

    def get_run(self, prefix: str) -> Run:
        """Return the one run whose id begins so."""
        found = self._recorder.ask(lambda store: store.find(prefix)) if prefix else []
        if not found:
            raise RotaError(f'no run begins with "{prefix}"', exit_code=Exit.NOT_FOUND)
        if len(found) > 1:
            some = ", ".join(run.id[:12] for run in found)
            raise RotaError(f'several runs begin with "{prefix}": {some}', exit_code=Exit.NOT_FOUND)
        return found[0]


def _directory(variable: str, default: Path) -> Path:
    """Return the first directory systemd made for us under this variable (systemd.exec(5))."""
    path = Path(os.environ.get(variable, str(default)).split(":")[0])
    path.mkdir(parents=True, exist_ok=True)
    return path


def parser() -> argparse.ArgumentParser:
    """Return the parser of rotad's command line."""
    rotad = argparse.ArgumentParser(
        prog="rotad", description="Records every run of rota's agents; started by systemd."
    )
    rotad.add_argument("--user", action="store_true", help="serve the user's own manager and session bus")
    rotad.add_argument("--debug", action="store_true", help="log what is usually not of interest")
    rotad.add_argument(
        "--version", action="version", version=f"rotad {__version__}", help="print its version"
    )
    return rotad


async def _main(*, user: bool) -> None:
    home = Path.home() / ".local/state/rota"
    state = _directory("STATE_DIRECTORY", home if user else Path("/var/lib/rota"))
    await Daemon(state, user=user).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run rotad; return its exit code."""
    arguments = parser().parse_args(argv)
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if arguments.debug else logging.INFO)
    try:
        asyncio.run(_main(user=arguments.user))
    except RotaError as error:
        log.error("%s%s", error.message, f" {error.hint}" if error.hint else "")
        return int(error.exit_code)
    except OSError as error:
        log.error("%s: %s", error.filename or "rotad", error.strerror)
        return int(Exit.FAILED)
    return int(Exit.OK)
