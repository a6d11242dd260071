"""What a person declares of the containers that Home Keeper watches, and what it comes to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import AfterValidator, StrictBool, StrictInt, StrictStr, model_validator

from rota.container_watches import DOCKER, DOCKERS_OWN, PROXY, Containers, Engine
from rota.quantity import INFINITY, USEC, parse_duration
from rota.record import AbsolutePath, Duration, Record, key

_ENTRY = re.compile(r"(?:(?P<name>[a-z0-9][a-z0-9-]{0,30})=)?(?P<path>/[^\x00-\x20\x7f]*[^\x00-\x20\x7f/])")
_NAME = re.compile(r"[A-Za-z0-9_.*?-]+(/[A-Za-z0-9_.*?-]+)?")
_STEM = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


def _socket(text: str) -> str:
    found = _ENTRY.fullmatch(text)
    if not found:
        raise ValueError(f'must be the absolute path of a socket; write for example "{PROXY}"')
    if found["path"] in DOCKERS_OWN:
        own = f"{found['name']}={PROXY}" if found["name"] else PROXY
        raise ValueError(
            f"is Docker's own, which the keeper may not open; write \"{own}\", rota-docker-proxy's"
        )
    return text


def _name(text: str) -> str:
    if text.startswith("container:"):
        raise ValueError(f'is a container\'s name, without "container:"; write "{text[10:]}"')
    if not _NAME.fullmatch(text):
        raise ValueError('is no container\'s name or pattern; write for example "web-*"')
    return text


def _span(text: str) -> str:
    if not USEC <= parse_duration(text) < INFINITY:
        raise ValueError("must be a second or more, and have an end")
    return text


Socket = Annotated[StrictStr, AfterValidator(_socket)]
ContainerPattern = Annotated[StrictStr, AfterValidator(_name)]
Span = Annotated[Duration, AfterValidator(_span)]


def _engines(sockets: Iterable[str]) -> list[tuple[str, str]]:
    """Return name and path of each."""
    found = []
    for text in sockets:
        name, path = ("", text) if text.startswith("/") else text.split("=", 1)
        found.append((name or path.rpartition("/")[2].partition(".")[0], path))
    return found


class ContainerWatch(Record):
    """Containers of Docker and Podman, by their API."""

    watch: StrictBool = key(True, "false: containers are not watched.", False)
    sockets: tuple[Socket, ...] = key(
        (),
        "Where engines listen. Containers of the first are container:NAME, of others container:ENGINE/NAME; "
        "ENGINE is the socket's file name without its ending, or what stands before `=`.",
        [PROXY, "ci=/srv/ci/podman.sock"],
    )
    docker: AbsolutePath = key(
        DOCKER,
        "Docker's own socket: only rota-docker-proxy, which filters, has it.",
        "/srv/docker/docker.sock",
    )
    ignore: tuple[ContainerPattern, ...] = key(
        (), "Containers that are not watched; as with the label `rota.keeper=ignore`.", ["tmp-*"]
    )
    running: tuple[ContainerPattern, ...] = key(
        (),
        "Containers that are to run: it is a finding that one does not, however it ended, unless a person "
        "stopped it.",
        ["web", "db-*"],
    )
    restarts: StrictInt = key(
        5, "So many restarts by the engine itself within `within` are a loop.", 10, ge=2, le=1000
    )
    within: Span = key("10min", "See restarts.", "1h")
    recent: Span = key(
        "1d", "What ended longer ago than this when the keeper begins to look is not told of.", "1h"
    )
    patience: Span = key(
        "1min", "For so long a restart waits for the health check, to tell whether it helped.", "5min"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.docker != DOCKER and PROXY not in (path for _, path in _engines(self.sockets)):
            raise ValueError(f'docker: nobody asks through rota-docker-proxy; write sockets = ["{PROXY}"]')
        names = [name for name, _ in _engines(self.sockets)]
        for index, name in enumerate(names):
            if index and not _STEM.fullmatch(name):
                raise ValueError(
                    f'sockets[{index}]: "{name}" is no name for an engine; write "NAME={self.sockets[index]}"'
                )
            if index and name in names[:index]:
                path = self.sockets[index].partition("=")[2] or self.sockets[index]
                raise ValueError(f'sockets[{index}]: there is a "{name}" already; write "NAME={path}"')
        return self


class ContainerWatching(Record):
    """The key of [keeper] about containers."""

    containers: ContainerWatch = key(
        ContainerWatch(), "Containers, of Docker or Podman.", {"sockets": [PROXY]}
    )


def resolve(declared: ContainerWatch) -> Containers:
    """Return what the keeper reads; without engines where containers are not watched."""
    engines = [
        Engine(name if index else "", path) for index, (name, path) in enumerate(_engines(declared.sockets))
    ]
    return Containers(
        engines=tuple(engines) if declared.watch else (),
        ignore=declared.ignore,
        running=declared.running,
        restarts=declared.restarts,
        within=parse_duration(declared.within),
        recent=parse_duration(declared.recent),
        patience=parse_duration(declared.patience),
    )
