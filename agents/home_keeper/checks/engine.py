"""What the API of Docker and Podman says, as facts: an inspected container, an event of the stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from signal import Signals
from typing import Any

from .words import SECOND, Malformed, clip

LABEL = "rota.keeper"
"""What a container asks for itself; one of `rota.keeper_rules.LABELS`."""
_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_DEPENDS = "com.docker.compose.depends_on"
LABELS = frozenset((LABEL, _PROJECT, _SERVICE, _DEPENDS))
"""The labels that are read."""

_STATUS = {"configured": "created", "initialized": "created", "stopped": "exited", "stopping": "running"}
"""Podman's words, and Docker's for the same."""
_NEVER = "0001-01-01"
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_SIGNALS = {name.removeprefix("SIG"): int(one) for name, one in Signals.__members__.items()}
_REAL_TIME = re.compile(r"(RTMIN|RTMAX)([+-][0-9]{1,2})")
_ENDING = frozenset((0, 2, 3, 9, 15))
"""Signals by which people end what runs; others are sent to have it reload, or turn its log."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container, as it was inspected. Times: microseconds since 1970, 0 for never.

    Attributes:
        id: 64 hex digits.
        name: without the slash.
        image: by which name it was made.
        status: created, running, paused, restarting, removing, exited or dead.
        created: when it was made.
        started: when it was started last.
        finished: when it ended last.
        exit_code: of its main process; 128 + n: killed by signal n.
        error: why the engine could not start it.
        oom: whether the kernel killed it for want of memory.
        restarts: how often the engine itself has started it again, since a person did.
        health: starting, healthy or unhealthy; "" without a health check.
        failing_since: when the first of the health checks that failed in a row began.
        failures: how many of them.
        said: the output of the last.
        policy: no, on-failure, always or unless-stopped (docker run --restart).
        retries: of on-failure, most restarts; 0: no limit.
        auto_remove: whether it is removed when it ends (--rm).
        stop_signal: by which it is told to end.
        stop_timeout: seconds it is given for that; -1: for ever.
        label: what it asks for itself.
        project: of compose.
        service: of that project.
        depends: services of that project that it needs.
        network_of: id or name of the container whose network it is in.
    """

    id: str
    name: str
    image: str = ""
    status: str = "running"
    created: int = 0
    started: int = 0
    finished: int = 0
    exit_code: int = 0
    error: str = ""
    oom: bool = False
    restarts: int = 0
    health: str = ""
    failing_since: int = 0
    failures: int = 0
    said: str = ""
    policy: str = "no"
    retries: int = 0
    auto_remove: bool = False
    stop_signal: int = 15
    stop_timeout: int = 10
    label: str = ""
    project: str = ""
    service: str = ""
    depends: tuple[str, ...] = ()
    network_of: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, and nobody starts it again by itself."""
        return self.status in ("exited", "dead")


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the stream.

    Attributes:
        id: of the container.
        action: create, start, die, stop, kill, ...
        nanos: when, nanoseconds since 1970, which the stream goes on from.
        signal: of kill, its number; 0 otherwise, and where the engine does not say it (Podman), which is then
            taken for one that ends.
    """

    id: str
    action: str
    nanos: int
    signal: int = 0

    @property
    def at(self) -> int:
        """When, microseconds since 1970."""
        return self.nanos // 1000

    def ends(self, stop_signal: int) -> bool:
        """Tell whether by this somebody has a container end."""
        return self.action == "stop" or (
            self.action == "kill" and (self.signal == stop_signal or self.signal in _ENDING)
        )


def moment(text: str) -> int:
    """Return microseconds since 1970 of a time such as 2026-11-21T12:15:49.341464414Z; 0 for year 1.

    Raises:
        Malformed: it is no time.
    """
    if not text or text.startswith(_NEVER):
        return 0
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise Malformed(f"the engine says {clip(text, 40)!r} for a time")
    base, fraction, zone = found.groups()
    try:
        whole = datetime.fromisoformat(base + ("+00:00" if zone == "Z" else zone))
    except ValueError as error:
        raise Malformed(f"the engine says {clip(text, 40)!r} for a time: {error}") from None
    since = whole - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * SECOND + int((fraction or "").ljust(6, "0")[:6])


def signal(text: str) -> int:
    """Return the number of a signal: 15, TERM or SIGRTMIN+3; 0 if there is none, -1 if it is not known."""
    word = text.strip().upper().removeprefix("SIG")
    if word.isascii() and word.isdigit() and len(word) < 4:
        return int(word)
    if found := _REAL_TIME.fullmatch(word):
        return _SIGNALS[found[1]] + int(found[2])
    return _SIGNALS.get(word, -1) if word else 0


def container(raw: Mapping[str, Any]) -> Container:
    """Return a container from the answer to GET /containers/ID/json.

    Raises:
        Malformed: it is not as expected.
    """
    try:
        return _container(raw)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"the engine's answer about a container is not as expected: {error!r}") from None


def _container(raw: Mapping[str, Any]) -> Container:
    state, host, config = raw["State"], raw.get("HostConfig") or {}, raw.get("Config") or {}
    policy, labels = host.get("RestartPolicy") or {}, config.get("Labels") or {}
    health = state.get("Health") or {}
    status = str(state["Status"])
    network = str(host.get("NetworkMode") or "")
    failing = _failing(health.get("Log") or ())
    said = str(failing[-1].get("Output") or "") if failing else ""
    timeout = config.get("StopTimeout")
    return Container(
        id=str(raw["Id"]),
        name=str(raw["Name"]).removeprefix("/"),
        image=str(config.get("Image") or ""),
        status=_STATUS.get(status, status),
        created=moment(str(raw.get("Created") or "")),
        started=moment(str(state.get("StartedAt") or "")),
        finished=moment(str(state.get("FinishedAt") or "")),
        exit_code=int(state.get("ExitCode") or 0),
        error=clip(str(state.get("Error") or ""), 200),
        oom=bool(state.get("OOMKilled")),
        restarts=int(raw.get("RestartCount") or 0),
        health="" if health.get("Status") in (None, "none") else str(health["Status"]),
        failing_since=moment(str(failing[0].get("Start") or "")) if failing else 0,
        failures=int(health.get("FailingStreak") or 0),
        said=clip(said, 200),
        policy=str(policy.get("Name") or "no"),
        retries=int(policy.get("MaximumRetryCount") or 0),
        auto_remove=bool(host.get("AutoRemove")),
        stop_signal=signal(str(config.get("StopSignal") or "TERM")),
        stop_timeout=10 if timeout is None else int(timeout),
        label=str(labels.get(LABEL) or ""),
        project=str(labels.get(_PROJECT) or ""),
        service=str(labels.get(_SERVICE) or ""),
        depends=_depends(str(labels.get(_DEPENDS) or "")),
        network_of=network.removeprefix("container:") if network.startswith("container:") else "",
    )


def _failing(log: Any) -> list[Mapping[str, Any]]:
    """Return the health checks that failed in a row until now; the engine keeps the last five."""
    found: list[Mapping[str, Any]] = []
    for item in reversed(list(log)):
        if not item.get("ExitCode"):
            break
        found.insert(0, item)
    return found


def _depends(text: str) -> tuple[str, ...]:
    """Return services from compose's label: db:service_healthy:true,cache:service_started:false."""
    names = (item.partition(":")[0].strip() for item in text.split(","))
    return tuple(dict.fromkeys(filter(None, names)))


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list of containers says of one.

    Attributes:
        status: as of Container.
        name: without the slash.
        health: as of Container; None where the list does not say it.
    """

    status: str
    name: str
    health: str | None = None

    def agrees(self, one: Container) -> bool:
        """Tell whether a container that was inspected is still like this, as far as the list tells."""
        same = self.health is None or self.health == one.health
        return same and (self.status, self.name) == (one.status, one.name)


_HEALTH = re.compile(r"\((?:health: )?(healthy|unhealthy|starting)\)$")
"""At the end of what Docker says of a container that runs: Up 5 minutes (unhealthy)."""


def listed(raw: Mapping[str, Any]) -> tuple[str, Listed]:
    """Return the id of a container from the answer to GET /containers/json, and what is said of it.

    Raises:
        KeyError, TypeError, AttributeError: it is not as expected.
    """
    # Its own name: others in the list are those of links, with a slash in them.
    names = [str(name).removeprefix("/") for name in raw.get("Names") or ()]
    name = next((name for name in names if "/" not in name), "")
    status, told = str(raw.get("State")), _HEALTH.search(str(raw.get("Status") or ""))
    return str(raw["Id"]), Listed(_STATUS.get(status, status), name, told[1] if told else None)


def happened(raw: Mapping[str, Any]) -> Happened | None:
    """Return an event of the stream, None if it is not of a container.

    Raises:
        Malformed: it is not as expected.
    """
    try:
        if raw.get("Type", "container") != "container":
            return None
        actor = raw.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        action = str(raw.get("Action") or raw.get("status") or "").partition(":")[0].strip()
        nanos = int(raw.get("timeNano") or int(raw["time"]) * 1_000_000_000)
        where = str(actor.get("ID") or raw.get("id") or "")
        action = _ACTIONS.get(action, action)
        return Happened(where, action, nanos, signal(str(attributes.get("signal") or "")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Malformed(f"an event of the engine is not as expected: {error!r}") from None


_ACTIONS = {"died": "die", "remove": "destroy", "removed": "destroy"}
"""Podman's words, and Docker's for the same."""
