"""What Home Keeper watches of containers, and what rota-docker-proxy lets through, resolved.

Without pydantic. Spans are microseconds. To JSON and back by `frozen`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from rota import keeper_rules
from rota.frozen import from_plain, to_plain
from rota.keeper_rules import Rules, matches
from rota.quantity import USEC

DOCKER = "/run/docker.sock"
"""Where Docker listens, where nothing else is declared."""
DOCKERS_OWN = (DOCKER, "/var/run/docker.sock")
"""Who may open these is root (docs.docker.com, Docker daemon attack surface): the keeper may not."""
PROXY = "/run/rota-keeper/docker.sock"
"""Where rota-docker-proxy listens."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine, or what speaks as one.

    Attributes:
        name: what it is called; "" for the first, whose containers are container:NAME.
        socket: path of its socket.
    """

    name: str
    socket: str

    @property
    def check(self) -> str:
        """The name of the check that follows it."""
        return f"containers-{self.name}" if self.name else "containers"

    @property
    def prefix(self) -> str:
        """What stands before its containers' names in targets."""
        return f"{self.name}/" if self.name else ""


@dataclass(frozen=True, slots=True)
class Containers:
    """How containers are watched.

    Attributes:
        engines: those that are followed.
        ignore: patterns of names, as in targets, of containers that are not watched.
        running: patterns of those that are to run, however they ended, unless a person stopped them.
        restarts: so many restarts by the engine within `within` are a loop.
        within: see there.
        recent: what ended longer ago than this before anybody looked is not told of.
        patience: for so long a remedy waits for a health check's answer.
    """

    engines: tuple[Engine, ...] = ()
    ignore: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    restarts: int = 5
    within: int = 600 * USEC
    recent: int = 86_400 * USEC
    patience: int = 60 * USEC

    @property
    def calm(self) -> int:
        """So long without a restart, and a loop is over: at this pace there would be none."""
        return self.within // self.restarts


@dataclass(frozen=True, slots=True)
class Grant:
    """Whether containers whose target a pattern matches may be acted on."""

    pattern: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Proxy:
    """What rota-docker-proxy goes by.

    Attributes:
        socket: path of the engine's own socket.
        prefix: what stands before names in targets, "" or ENGINE/.
        grants: which containers may be started and restarted: the first that matches decides.
        labelled: whether those may that no grant matches and that ask for it (`rota.keeper=restart`).
        unnamed: whether the others may.
    """

    socket: str = DOCKER
    prefix: str = ""
    grants: tuple[Grant, ...] = ()
    labelled: bool = False
    unnamed: bool = False


def proxy(rules: Rules, socket: str = DOCKER, engine: str = "") -> Proxy:
    """Return what lets the keeper do what its policy may decide on, and nothing else.

    Args:
        rules: the policy.
        socket: the engine's own.
        engine: its name, "" for the first.
    """
    acts = rules.mode != "observe"
    never = tuple(Grant(pattern, allowed=False) for pattern in rules.never)
    targets = sorted(rules.targets, key=lambda item: keeper_rules.specificity(item.pattern))
    told = tuple(Grant(item.pattern, item.mode != "observe") for item in targets if item.mode is not None)
    named = tuple(Grant(item.pattern, acts) for item in targets if item.mode is None)
    grants = tuple(item for item in (*never, *told, *named) if _of_containers(item.pattern))
    return Proxy(
        socket=socket,
        prefix=f"{engine}/" if engine else "",
        grants=grants,
        labelled=acts,
        unnamed=rules.unnamed != "observe",
    )


def _of_containers(pattern: str) -> bool:
    """Tell whether a pattern may match a container."""
    kind = pattern.partition(":")[0]
    return kind == "container" or keeper_rules.is_pattern(kind)


def granted(rules: Proxy, name: str, label: str = "") -> bool:
    """Tell whether a container may be started and restarted.

    Args:
        rules: what the proxy goes by.
        name: of the container, without the engine's.
        label: what it asks for itself.
    """
    if label == "ignore":
        return False
    target = f"container:{rules.prefix}{name}"
    found = next((item.allowed for item in rules.grants if matches(item.pattern, target)), None)
    if found is None:
        return rules.labelled if label == "restart" else rules.unnamed
    return found


def to_json(rules: Proxy) -> str:
    """Return what the proxy goes by as one JSON object; equal rules are equal texts."""
    return json.dumps(to_plain(rules), sort_keys=True)


def from_json(text: str) -> Proxy:
    """Return what the proxy goes by from what `to_json` wrote.

    Raises:
        ValueError: it was not written by this version.
    """
    return from_plain(Proxy, json.loads(text), "proxy")
