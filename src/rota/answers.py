"""What rotad knows, as people ask for it. Nothing is changed here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rota import definitions, health, pauses
from rota.errors import Exit, RotaError, nearest
from rota.events import OVER, Run
from rota.interface import FILTERS, Events, run_table
from rota.lifetime import Lifetime
from rota.names import service_of, timer_of
from rota.query import Query
from rota.recorder import Recorder
from rota.store import Store
from rota.systemd import Systemd
from rota.totals import DAY, Totals

ACTIVE = ("active", "activating", "deactivating", "reloading")
"""ActiveState= of a unit that is at work."""


def stats_table(agent: str, totals: Totals) -> dict[str, Any]:
    """Return what an agent's runs come to, as others see it."""
    return {
        "agent": agent,
        "runs": totals.runs,
        **{state: count for state, count in totals.states.items() if count},
        "p50": totals.percentile(0.5),
        "p95": totals.percentile(0.95),
        "late_p95": totals.lateness(0.95),
        "cpu_usec": totals.cpu_usec,
        "memory_peak": totals.memory_peak or None,
        "last_success": totals.last_success or None,
    }


class Answers:
    """Everything that can be asked, from the store, systemd and the files.

    Attributes:
        agents: the installed agents, by name.
        keeper: returns how Home Keeper does, see guard.Guard.table.
    """

    def __init__(self, state: Path, recorder: Recorder, systemd: Systemd) -> None:
        self._state = state
        self._recorder = recorder
        self._systemd = systemd
        self._next: dict[str, int | None] = {}
        self.agents: dict[str, definitions.Definition] = {}
        self.keeper: Callable[[], dict[str, Any]] = dict

    def installed(self, agents: dict[str, definitions.Definition]) -> None:
        """Answer about these agents from now on."""
        self.agents = agents
        self._next.clear()

    def moved(self, name: str) -> None:
        """The timer of an agent is no longer what it was."""
        self._next.pop(name, None)

    def agent_names(self) -> list[str]:
        """Return the names of all agents."""
        return sorted(self.agents)

    def has_agent(self, name: str) -> bool:
        """Tell whether there is an agent of this name."""
        return name in self.agents

    def definition(self, name: str) -> definitions.Definition:
        """Return an agent.

        Raises:
            RotaError: there is none of this name.
        """
        if name not in self.agents:
            raise RotaError(f"no agent {name}{nearest(name, self.agents)}", exit_code=Exit.NOT_FOUND)
        return self.agents[name]

    async def _elapse(self, name: str) -> int | None:
        """Return when an agent's timer elapses next, microseconds since 1970, None if it does not."""
        now = time.time_ns() // 1000
        known = self._next.get(name)
        if name in self._next and (known is None or known > now):
            return known
        self._next[name] = await self._systemd.next_elapse(timer_of(name))
        return self._next[name]

    async def _describe(self, agent: definitions.Definition, states: dict[str, str]) -> dict[str, Any]:
        found = self._recorder.ask(lambda store: health.lately(store, agent.name))
        pause = pauses.paused(self._state, agent.name)
        timer = states.get(timer_of(agent.name), "inactive")
        active = states.get(service_of(agent.name)) in ACTIVE
        under_way = found.newest if found.newest and not found.newest.over and active else None
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
            "last": run_table(found.last) if found.last else None,
            "missed": found.missed or None,
            "trend": found.trend,
        }

    async def list_agents(self) -> list[dict[str, Any]]:
        """Return all agents, without their declarations."""
        states = await self._systemd.loaded("rota-*.service", "rota-*.timer")
        agents = [self.agents[name] for name in self.agent_names()]
        found = await asyncio.gather(*(self._describe(agent, states) for agent in agents))
        for table in found:
            # Of thousands of agents, they would not fit into a reply.
            (table["last"] or {}).pop("result", None)
        return list(found)

    async def get_agent(self, name: str) -> dict[str, Any]:
        """Return one agent with its declaration as JSON."""
        agent = self.definition(name)
        states = await self._systemd.loaded(service_of(name), timer_of(name))
        declaration = json.dumps(agent.declaration, sort_keys=True)
        return {**await self._describe(agent, states), "declaration": declaration, "unit": agent.path}

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
            tagged = [a.name for a in self.agents.values() if set(wanted["tag"]) & set(a.tags)]
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
                self.definition(name)  # not even one that is gone
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

    async def metrics(self) -> dict[str, Any]:
        """Return what there is to measure, of rotad, and of each agent that is installed."""
        states = await self._systemd.loaded("rota-*.service", "rota-*.timer")
        names = self.agent_names()
        armed = [name for name in names if states.get(timer_of(name)) == "active"]
        upcoming = dict(zip(armed, await asyncio.gather(*map(self._elapse, armed)), strict=True))
        now = time.time_ns() // 1000

        def find(store: Store) -> tuple[int, dict[str, Lifetime]]:
            return store.bounds()[1], {name: store.lifetime(name) for name in names}

        events, lifetimes = self._recorder.ask(find)
        agents = [
            {
                "agent": name,
                "schedule": self.agents[name].schedule,
                "priority": self.agents[name].declaration.get("priority", "medium"),
                "paused": pauses.paused(self._state, name) is not None,
                "running": states.get(service_of(name)) in ACTIVE,
                "next": upcoming.get(name),
                **lifetimes[name].table(),
            }
            for name in names
        ]
        lag, keeper = self._recorder.lag(now), self.keeper()
        there = not keeper["lost"] if keeper.get("enabled") else None
        return {"lag": lag, "events": events, "keeper": there, "agents": agents}

    def health(self, since: int) -> dict[str, Any]:
        """Return whether rotad keeps up, and how agents did of which something was recorded after `since`."""
        found = self._recorder.ask(lambda store: health.table(store, since, self.agents.keys()))
        paused = sorted(pauses.all_paused(self._state) & self.agents.keys())
        return {"lag": self._recorder.lag(time.time_ns() // 1000), "paused": paused, **found}

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
