"""Who is told what: channels, routes, and which of them something that happened goes to; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from rota.quantity import USEC
from rota.quiet import Quiet, parse_quiet

KINDS = ("failure", "recovery", "success", "missed", "escalation")
"""What people may be told of."""
SEVERITIES = ("info", "warning", "critical")
"""From mild to severe."""

MINUTE, HOUR = 60 * USEC, 3600 * USEC
GROUP = 30 * USEC
OWN = "agents"
"""The route of what agents say themselves in `notify`: one for all of them, so that they are grouped."""


@dataclass(frozen=True, slots=True)
class Rate:
    """No more messages than this in any span of so many microseconds."""

    messages: int
    per: int


@dataclass(frozen=True, slots=True)
class Channel:
    """Where people are told.

    Attributes:
        name: as declared.
        rate: no more messages than this, whatever route they come by; what is held back goes out in one.
        expiry: a message that could not be sent for so long is given up (microseconds).
    """

    name: str
    rate: Rate = Rate(30, HOUR)
    expiry: int = 48 * HOUR


@dataclass(frozen=True, slots=True)
class Route:
    """What goes to which channels; everything that is set must match.

    Attributes:
        name: what tells it from others; the same as long as it says the same.
        channels: names of channels.
        on: of KINDS.
        agents: patterns of agents' names, as in a shell; none: all, and what is of no agent.
        tags: any of these is enough; none: all.
        severity: this one or worse.
        group: what happens so long after the first is told in one message (microseconds).
        rate: no more messages than this to each of the channels.
        quiet: when only what is critical is told.
    """

    name: str
    channels: tuple[str, ...]
    on: tuple[str, ...]
    agents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    severity: str = "info"
    group: int = GROUP
    rate: Rate | None = None
    quiet: tuple[Quiet, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is declared of an agent that routes ask for."""

    tags: tuple[str, ...] = ()
    critical: bool = False


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened, which people may want to hear of.

    Attributes:
        key: what tells it from all others; told once, however often it is heard of.
        kinds: of KINDS, the most telling first.
        severity: of SEVERITIES.
        at: when, microseconds since 1970.
        about: the agent's name, or a target of the keeper's.
        title: what, in a line that follows the name: "failed: exit status 3".
        agent: whose run, "" if of none.
        run: the run's id, "" if of none.
        since: since when it is so, if for longer; microseconds since 1970.
        times: how many times in a row.
        lines: further lines for people.
        last_line: the last line of its output.
        tried: what was done about it, one line each.
        command: what to type next.
        answers: what to type to answer, if a person is asked.
        until: until when that can be answered, microseconds since 1970.
    """

    key: str
    kinds: tuple[str, ...]
    severity: str
    at: int
    about: str
    title: str
    agent: str = ""
    run: str = ""
    since: int | None = None
    times: int = 1
    lines: tuple[str, ...] = ()
    last_line: str = ""
    tried: tuple[str, ...] = ()
    command: str = ""
    answers: tuple[str, ...] = ()
    until: int | None = None

    @property
    def kind(self) -> str:
        """The most telling of its kinds."""
        return self.kinds[0]

    @property
    def critical(self) -> bool:
        """Whether it is told at once, quiet or not."""
        return self.severity == "critical"


@dataclass(frozen=True, slots=True)
class Rules:
    """All that is declared about telling people.

    Attributes:
        channels: by name.
        routes: in order; of those that lead one happening to the same channel, the first counts.
        facts: of agents, as far as routes ask for them; others have none.
    """

    channels: Mapping[str, Channel] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    facts: Mapping[str, Facts] = field(default_factory=dict)

    def of(self, agent: str) -> Facts:
        """Return what is declared of an agent."""
        return self.facts.get(agent, Facts())

    def route(self, name: str) -> Route:
        """Return a route by name; one that is no longer declared is grouped as by default."""
        found = (route for route in self.routes if lane(route) == name)
        return next(found, Route(name, (), KINDS))


def lane(route: Route) -> str:
    """Return by which name what comes by a route waits together."""
    return OWN if route.name.startswith(OWN) else route.name


def severe(one: str, least: str) -> bool:
    """Tell whether a severity is at least another; a word that is none is as bad as it gets."""
    rank = {word: index for index, word in enumerate(SEVERITIES)}
    return rank.get(one, len(rank)) >= rank[least]


def _matches(route: Route, happening: Happening, tags: tuple[str, ...]) -> bool:
    if not set(route.on) & set(happening.kinds) or not severe(happening.severity, route.severity):
        return False
    if route.agents and not any(fnmatchcase(happening.agent, pattern) for pattern in route.agents):
        return False
    return not route.tags or bool(set(route.tags) & set(tags))


def routed(happening: Happening, rules: Rules) -> Iterator[tuple[str, str]]:
    """Yield each channel that is to hear of something, once, and the lane by which."""
    seen: set[str] = set()
    tags = rules.of(happening.agent).tags
    for route in rules.routes:
        if _matches(route, happening, tags):
            for channel in route.channels:
                if channel not in seen and channel in rules.channels:
                    seen.add(channel)
                    yield channel, lane(route)


def digest(table: Mapping[str, Any]) -> str:
    """Return a short name for what a table says."""
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:8]


def _rate(pair: list[int] | None) -> Rate | None:
    return Rate(*pair) if pair else None


def from_json(text: str) -> Rules:
    """Return the rules that `rota apply` handed over; see `channels.rules`.

    Raises:
        ValueError, KeyError, TypeError: they are of another version.
    """
    table = json.loads(text)
    channels = {
        name: Channel(name, Rate(*found["rate"]), found["expiry"])
        for name, found in table["channels"].items()
    }
    routes = [
        Route(
            name=found["name"],
            channels=tuple(found["channels"]),
            on=tuple(found["on"]),
            agents=tuple(found.get("agents", ())),
            tags=tuple(found.get("tags", ())),
            severity=found.get("severity", "info"),
            group=found.get("group", GROUP),
            rate=_rate(found.get("rate")),
            quiet=tuple(map(parse_quiet, found.get("quiet", ()))),
        )
        for found in table["routes"]
    ]
    facts = {
        name: Facts(tuple(found.get("tags", ())), found.get("critical", False))
        for name, found in table["agents"].items()
    }
    return Rules(channels, tuple(routes), facts)
