"""What rota-docker-proxy lets through to an engine, and what it leaves of the answers: tables. Pure.

A request is allowed if its method, its whole path and each key of its query are in TABLE, and each value
fits. Its path is taken as it is written: what would have to be decoded or shortened is refused.
What goes to the engine is written anew from what was understood; no header of a client's goes there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from .checks.engine import LABELS

_ID = r"(?P<id>[A-Za-z0-9][A-Za-z0-9_.-]{0,254})"
_VERSION = re.compile(r"(?P<version>/v[1-9]\.[0-9]{1,3})(?=/)")
_PATIENCE = re.compile(r"[0-9]{1,3}|[12][0-9]{3}|3[0-5][0-9]{2}|3600")
"""Seconds that a container may be given to end: while they last, nobody else can do anything to it."""
_NO = re.compile(r"0|false|False")
_FLAG = re.compile(r"0|1|true|false|True|False")
_ALL = re.compile(r"-1|[0-9]{1,6}")
_WHEN = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_WORD = re.compile(r"[A-Za-z0-9_.:/@=*-]{1,256}")


class Denied(Exception):  # noqa: N818  (it is the client that made a mistake)
    """A request is not let through; the text says why, and what would be.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, text: str, status: int = 403) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Route:
    """A row of TABLE.

    Attributes:
        kind: what is done with the answer.
        methods: of HTTP.
        path: the whole of it, without the version.
        query: what the value of each key that may be there must fit.
        filters: the keys that may be in `filters`; none: there may be no filters.
    """

    kind: str
    methods: tuple[str, ...]
    path: re.Pattern[str]
    query: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    filters: frozenset[str] = frozenset()


def _route(
    kind: str, methods: str, path: str, query: Mapping[str, re.Pattern[str]] | None = None, filters: str = ""
) -> Route:
    return Route(kind, tuple(methods.split()), re.compile(path), query or {}, frozenset(filters.split()))


_LIST_QUERY = {"all": _FLAG, "limit": _ALL, "size": _NO, "trunc_cmd": _FLAG}

TABLE: tuple[Route, ...] = (
    _route("ping", "GET HEAD", r"/_ping"),
    _route("version", "GET", r"/version"),
    _route("info", "GET", r"/info"),
    _route("events", "GET", r"/events", {"since": _WHEN, "until": _WHEN}, "type event container label"),
    _route("list", "GET", r"/containers/json", _LIST_QUERY, "id name label status health"),
    _route("inspect", "GET", rf"/containers/{_ID}/json", {"size": _NO}),
    _route("act", "POST", rf"/containers/{_ID}/restart", {"t": _PATIENCE}),
    _route("act", "POST", rf"/containers/{_ID}/start"),
)
"""Exec, attach, logs, archive, create, prune and everything else that is not here is refused."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A request that is let through.

    Attributes:
        kind: of its route.
        method: of HTTP.
        target: path and query, written anew.
        id: of the container, as the client names it; "" where there is none.
    """

    kind: str
    method: str
    target: str
    id: str = ""

    def of(self, container_id: str) -> str:
        """Return the target, of a container by its full id."""
        return self.target.replace(f"/containers/{self.id}/", f"/containers/{container_id}/", 1)


def judge(method: str, target: str) -> Allowed:
    """Return what a request asks for.

    Args:
        method: of HTTP.
        target: as the client wrote it.

    Raises:
        Denied: it is not let through.
    """
    path, mark, text = target.partition("?")
    if not re.fullmatch(r"[A-Za-z0-9_./-]{1,512}", path, re.ASCII) or any(
        part in ("", ".", "..") for part in path.split("/")[1:]
    ):
        raise Denied("a path is to be written plainly, without %, // and ..", 400)
    version = _VERSION.match(path)
    bare = path[version.end() :] if version else path
    for route in TABLE:
        found = route.path.fullmatch(bare)
        if found is None or method not in route.methods:
            continue
        pairs = _query(route, text) if mark else ()
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in pairs)
        return Allowed(
            route.kind, method, path + (f"?{query}" if query else ""), found.groupdict().get("id", "")
        )
    raise Denied(f"{method} {bare} is not let through")


def _query(route: Route, text: str) -> Iterator[tuple[str, str]]:
    seen = set[str]()
    for pair in text.split("&") if text else ():
        key, equals, raw = pair.partition("=")
        if not equals or key in seen or len(pair) > 4096:
            raise Denied("a query is to be written as key=value, each key once", 400)
        seen.add(key)
        try:
            value = unquote(raw.replace("+", " "), errors="strict")
        except UnicodeDecodeError:
            raise Denied("a query is to be in UTF-8", 400) from None
        if key == "filters" and route.filters:
            yield key, _filters(route, value)
        elif key in route.query and route.query[key].fullmatch(value):
            yield key, value
        else:
            raise Denied(f"the query {key}={value} is not let through")


def _filters(route: Route, text: str) -> str:
    """Return filters written anew: an object of lists of words."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise Denied("filters are to be JSON", 400) from None
    if not isinstance(raw, dict) or raw.keys() - route.filters:
        raise Denied(f"filters may be {', '.join(sorted(route.filters))}")
    found = {}
    for key, values in raw.items():
        words = [*values] if isinstance(values, list | dict) else [None]
        if not all(isinstance(word, str) and _WORD.fullmatch(word) for word in words):
            raise Denied("each of filters is to be a list of words", 400)
        found[key] = words
    return json.dumps(found)


# What is left of answers: what the keeper reads, and nothing that may hold a secret (environment, arguments,
# labels of others, health checks' commands).

_PLAIN = "plain"
Shape = Mapping[str, Any]

_LABELS: Shape = dict.fromkeys(LABELS, _PLAIN)
_INSPECTED: Shape = {
    **dict.fromkeys(("Id", "Name", "Created", "Image", "RestartCount"), _PLAIN),
    "State": {
        **dict.fromkeys(
            ("Status", "Running", "Paused", "Restarting", "OOMKilled", "Dead", "ExitCode", "Error"), _PLAIN
        ),
        **dict.fromkeys(("StartedAt", "FinishedAt"), _PLAIN),
        "Health": {
            **dict.fromkeys(("Status", "FailingStreak"), _PLAIN),
            "Log": [dict.fromkeys(("Start", "End", "ExitCode", "Output"), _PLAIN)],
        },
    },
    "HostConfig": {
        **dict.fromkeys(("AutoRemove", "NetworkMode"), _PLAIN),
        "RestartPolicy": dict.fromkeys(("Name", "MaximumRetryCount"), _PLAIN),
    },
    "Config": {**dict.fromkeys(("Image", "StopSignal", "StopTimeout"), _PLAIN), "Labels": _LABELS},
}
_LISTED: Shape = {
    **dict.fromkeys(("Id", "Image", "ImageID", "Created", "State", "Status"), _PLAIN),
    "Names": [_PLAIN],
    "Labels": _LABELS,
}
_EVENT: Shape = {
    **dict.fromkeys(("Type", "Action", "status", "id", "time", "timeNano", "scope"), _PLAIN),
    "Actor": {
        "ID": _PLAIN,
        "Attributes": dict.fromkeys(("name", "image", "exitCode", "signal", "oldName"), _PLAIN),
    },
}
_VERSIONS = ("ApiVersion", "MinAPIVersion", "Version", "Os", "Arch", "KernelVersion")
_SHAPES: Mapping[str, Any] = {
    "version": {
        **dict.fromkeys(_VERSIONS, _PLAIN),
        "Components": [dict.fromkeys(("Name", "Version"), _PLAIN)],
    },
    "info": dict.fromkeys(
        (
            *("ServerVersion", "Driver", "CgroupVersion", "LiveRestoreEnabled", "OSType", "Architecture"),
            *("Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images"),
        ),
        _PLAIN,
    ),
    "events": _EVENT,
    "list": [_LISTED],
    "inspect": _INSPECTED,
    "error": {"message": _PLAIN, "cause": _PLAIN},
}


def reduced(kind: str, answer: Any) -> Any:
    """Return what is left of an answer to a request of a kind, or of an event, or of an error."""
    return _reduced(_SHAPES[kind], answer)


def _reduced(shape: Any, value: Any) -> Any:
    if isinstance(shape, Mapping):
        given = value if isinstance(value, Mapping) else {}
        return {key: _reduced(inner, given[key]) for key, inner in shape.items() if key in given}
    if isinstance(shape, list):
        return [_reduced(shape[0], item) for item in value] if isinstance(value, list) else []
    return value if value is None or isinstance(value, str | int | float | bool) else None


def tells(event: Mapping[str, Any]) -> bool:
    """Tell whether an event is handed on: of a container, and no command that is run in it."""
    action = event.get("Action", event.get("status"))
    return (
        event.get("Type", "container") == "container"
        and isinstance(action, str)
        and not action.startswith("exec")
    )
