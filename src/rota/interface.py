"""What rotad offers on D-Bus: names, methods, signals, and how values look there. Translation only."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dbus_next.signature import Variant

from rota.bus_object import Caller, Method
from rota.errors import Exit, RotaError
from rota.events import Run
from rota.names import AGENT_INTERFACE, MANAGER_INTERFACE
from rota.store import Recorded

MAX_RUNS = 10_000
"""A reply lists no more runs than this, whatever was asked for."""


MAX_EVENTS = 10_000
"""Nor more events."""

FILTERS: Mapping[str, str] = {
    "agent": "as",
    "tag": "as",
    "state": "as",
    "trigger": "as",
    "since": "x",
    "until": "x",
    "before": "s",
}
"""What ListRuns and Stats take in their first argument, with types.

Runs of any of these agents, or tags, in any of these states, by any of these triggers; begun since or
until a moment (microseconds since 1970); recorded before another run.
"""

EVENT_VERSION = 1
"""Of what an event looks like to others: raised when a field changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Events:
    """What was recorded.

    Attributes:
        store: changes when numbers begin anew, because the store was lost.
        first: number from which on no event is missing; earlier ones may have been forgotten.
        last: number of the last event there is.
        events: those that were asked for.
    """

    store: str
    first: int
    last: int
    events: list[Recorded]


class Service(Protocol):
    """What rotad can do; every method may raise RotaError."""

    async def list_agents(self) -> list[dict[str, Any]]:
        """Return all agents, without their declarations."""
        ...

    async def get_agent(self, name: str) -> dict[str, Any]:
        """Return one agent with its declaration as JSON."""
        ...

    async def start(self, caller: Caller, name: str) -> str:
        """Start an agent and return the run's id."""
        ...

    async def stop(self, caller: Caller, name: str) -> None:
        """Stop the run of an agent that is under way."""
        ...

    async def pause(self, caller: Caller, name: str, why: str) -> None:
        """Keep an agent from being started."""
        ...

    async def resume(self, caller: Caller, name: str) -> None:
        """Let a paused agent be started again."""
        ...

    async def why(self, name: str, at: int | None) -> dict[str, Any]:
        """Return why the last slot or run, or that at a moment, did or did not happen; see why.Facts."""
        ...

    def list_runs(self, wanted: Mapping[str, Any], limit: int) -> list[Run]:
        """Return the newest of the runs that are wanted; see FILTERS."""
        ...

    def events(self, since: int, limit: int, agent: str | None) -> Events:
        """Return what was recorded after number `since`."""
        ...

    def stats(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what the runs of each agent come to."""
        ...

    async def metrics(self) -> dict[str, Any]:
        """Return what there is to measure; it goes out as JSON, which takes dbus-next a tenth of the time."""
        ...

    def health(self, since: int) -> dict[str, Any]:
        """Return whether rotad keeps up, and how agents did of which something was recorded after `since`."""
        ...

    def keeper(self) -> dict[str, Any]:
        """Return how Home Keeper does, as far as rotad sees it; see guard.Guard.table."""
        ...

    def seq_at(self, at: int) -> int:
        """Return the number after which events from a moment on (microseconds since 1970) are found."""
        ...

    def get_run(self, prefix: str) -> Run:
        """Return the one run whose id begins so."""
        ...

    def agent_names(self) -> list[str]:
        """Return the names of all agents."""
        ...

    def has_agent(self, name: str) -> bool:
        """Tell whether there is an agent of this name."""
        ...


def variant(value: Any) -> Variant:
    """Return a value as a D-Bus variant: integers are 64 bits, tables a{sv}."""
    if isinstance(value, bool):
        return Variant("b", value)
    if isinstance(value, int):
        return Variant("x", value)
    if isinstance(value, dict):
        return Variant("a{sv}", vardict(value))
    if isinstance(value, list):
        return Variant("ax" if value and isinstance(value[0], int) else "as", value)
    # What D-Bus does not take for text: the bus would close the connection.
    text = str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
    return Variant("s", text.encode("utf-8", "replace").decode())


def vardict(table: Mapping[str, Any]) -> dict[str, Variant]:
    """Return a table as a{sv}; what is None is left out."""
    return {key: variant(value) for key, value in table.items() if value is not None}


def run_table(run: Run) -> dict[str, Any]:
    """Return a run as a table of what is known of it."""
    return {key: value for key, value in run._asdict().items() if value is not None}


async def _list_agents(service: Service, _: Caller, __: str, ___: list[Any]) -> list[Any]:
    return [[vardict(agent) for agent in await service.list_agents()]]


async def _get_agent(service: Service, _: Caller, agent: str, body: list[Any]) -> list[Any]:
    return [vardict(await service.get_agent(agent or body[0]))]


async def _start(service: Service, caller: Caller, agent: str, body: list[Any]) -> list[Any]:
    return [await service.start(caller, agent or body[0])]


async def _stop(service: Service, caller: Caller, agent: str, body: list[Any]) -> list[Any]:
    await service.stop(caller, agent or body[0])
    return []


async def _pause(service: Service, caller: Caller, agent: str, body: list[Any]) -> list[Any]:
    await service.pause(caller, agent or body[0], body[-1])
    return []


async def _resume(service: Service, caller: Caller, agent: str, body: list[Any]) -> list[Any]:
    await service.resume(caller, agent or body[0])
    return []


def _filter(given: Mapping[str, Variant]) -> dict[str, Any]:
    """Return a filter's values, each of its type.

    Raises:
        RotaError: one is not.
    """
    for name, value in given.items():
        wanted = FILTERS.get(name)
        if wanted is not None and value.signature != wanted:
            raise RotaError(f'{name} takes "{wanted}", not "{value.signature}"', exit_code=Exit.USAGE)
    return {name: value.value for name, value in given.items()}


async def _why(service: Service, _: Caller, agent: str, body: list[Any]) -> list[Any]:
    if not 0 <= body[-1] <= _LAST:
        raise RotaError("no such moment: microseconds since 1970, before 2200", exit_code=Exit.USAGE)
    return [vardict(await service.why(agent or body[0], body[-1] or None))]


async def _list_runs(service: Service, _: Caller, agent: str, body: list[Any]) -> list[Any]:
    wanted = _filter(body[0])
    if agent:
        wanted["agent"] = [agent]
    return [[vardict(run_table(run)) for run in service.list_runs(wanted, min(body[1], MAX_RUNS))]]


def event_table(recorded: Recorded) -> dict[str, Any]:
    """Return an event as others see it."""
    event = recorded.event
    return {
        "version": EVENT_VERSION,
        "seq": recorded.seq,
        "at": event.at,
        "agent": event.agent,
        "run": event.run,
        "kind": event.kind,
        "data": {key: value for key, value in event.data.items() if value is not None},
    }


async def _events(service: Service, _: Caller, agent: str, body: list[Any]) -> list[Any]:
    found = service.events(min(body[0], _LARGEST), min(body[1], MAX_EVENTS), agent or None)
    events = [vardict(event_table(recorded)) for recorded in found.events]
    return [found.store, found.first, found.last, events]


async def _stats(service: Service, _: Caller, agent: str, body: list[Any]) -> list[Any]:
    wanted = _filter(body[0])
    if agent:
        wanted["agent"] = [agent]
    return [[vardict(table) for table in service.stats(wanted)]]


async def _metrics(service: Service, _: Caller, __: str, ___: list[Any]) -> list[Any]:
    return [json.dumps(await service.metrics(), separators=(",", ":"))]


async def _health(service: Service, _: Caller, __: str, body: list[Any]) -> list[Any]:
    return [json.dumps(service.health(min(body[0], _LARGEST)), separators=(",", ":"))]


async def _keeper(service: Service, _: Caller, __: str, ___: list[Any]) -> list[Any]:
    return [vardict(service.keeper())]


async def _seq_at(service: Service, _: Caller, __: str, body: list[Any]) -> list[Any]:
    return [service.seq_at(body[0])]


async def _get_run(service: Service, _: Caller, __: str, body: list[Any]) -> list[Any]:
    return [vardict(run_table(service.get_run(body[0])))]


_AGENT = (("agent", "s"),)
_TABLE = "a{sv}"
_LIMIT = (("limit", "u"),)
_WHY = (("why", "s"),)
_FILTER = (("filter", _TABLE),)
_SINCE = (("since", "t"),)
_FOUND = (("store", "s"), ("first", "t"), ("last", "t"), ("events", "aa{sv}"))
_LARGEST = 2**63 - 1
_LAST = 7_258_118_400_000_000
_AT = (("at", "x"),)
_WHY_ABOUT = "Why its last slot or run did or did not happen, or that at a moment; 0 for the last."

Serve = Callable[[Service, Caller, str, list[Any]], Awaitable[list[Any]]]
"""What methods are served by: what they ask, who asks, an object's agent or "", the arguments."""
INTERFACES: Mapping[str, Mapping[str, Method[Serve]]] = {
    MANAGER_INTERFACE: {
        "ListAgents": Method((), (("agents", "aa{sv}"),), "All agents, sorted by name.", _list_agents),
        "GetAgent": Method(_AGENT, (("agent", _TABLE),), "One agent, with its declaration.", _get_agent),
        "StartAgent": Method(
            _AGENT, (("run", "s"),), "Starts an agent, and returns the run's id once it is started.", _start
        ),
        "StopAgent": Method(_AGENT, (), "Stops the run that is under way; returns when it is over.", _stop),
        "PauseAgent": Method(_AGENT + _WHY, (), "Keeps an agent from starting.", _pause),
        "ResumeAgent": Method(_AGENT, (), "Lets a paused agent start again.", _resume),
        "Why": Method(_AGENT + _AT, (("answer", _TABLE),), _WHY_ABOUT, _why),
        "ListRuns": Method(
            _FILTER + _LIMIT, (("runs", "aa{sv}"),), "Newest runs first; beyond 1000 maybe fewer.", _list_runs
        ),
        "GetRun": Method((("run", "s"),), (("run", _TABLE),), "A run, by its id or how it begins.", _get_run),
        "Stats": Method(
            _FILTER, (("agents", "aa{sv}"),), "What the runs of each agent come to; of seven days.", _stats
        ),
        "Metrics": Method(
            (),
            (("json", "s"),),
            "What there is to measure, since the store began.",
            _metrics,
        ),
        "Health": Method(
            _SINCE,
            (("json", "s"),),
            "Whether rotad keeps up, and how agents did of which something was recorded after `since`.",
            _health,
        ),
        "Keeper": Method(
            (),
            (("keeper", _TABLE),),
            "Whether Home Keeper is enabled and lost; since when and why, if it is.",
            _keeper,
        ),
        "Events": Method(
            _SINCE + _LIMIT,
            _FOUND,
            "What was recorded after number `since`; beyond 500 maybe fewer.",
            _events,
        ),
        "SeqAt": Method(
            _AT,
            (("seq", "t"),),
            "The number after which events from a moment on are found.",
            _seq_at,
        ),
    },
    AGENT_INTERFACE: {
        "Describe": Method((), (("agent", _TABLE),), "As Manager.GetAgent.", _get_agent),
        "Start": Method((), (("run", "s"),), "As Manager.StartAgent.", _start),
        "Stop": Method((), (), "As Manager.StopAgent.", _stop),
        "Pause": Method(_WHY, (), "As Manager.PauseAgent.", _pause),
        "Resume": Method((), (), "As Manager.ResumeAgent.", _resume),
        "Why": Method(_AT, (("answer", _TABLE),), "As Manager.Why.", _why),
        "ListRuns": Method(_FILTER + _LIMIT, (("runs", "aa{sv}"),), "As Manager.ListRuns.", _list_runs),
        "Events": Method(_SINCE + _LIMIT, _FOUND, "As Manager.Events, of this agent only.", _events),
    },
}
SIGNALS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    MANAGER_INTERFACE: {
        "RunChanged": (("agent", "s"), ("run", "s"), ("state", "s"), ("details", _TABLE)),
        "EventsRecorded": (("events", "aa{sv}"),),
        "AgentsChanged": (),
    },
}
PROPERTIES: Mapping[str, Mapping[str, str]] = {
    MANAGER_INTERFACE: {"Version": "s"},
    AGENT_INTERFACE: {"Name": "s"},
}
