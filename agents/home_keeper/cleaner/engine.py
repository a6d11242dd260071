"""What Docker and Podman keep unused: asked of their API (Docker Engine API 1.24 or newer) by its socket.

Their own prune goes by when an image was *built*, and when a container was *created*; here it is by when
they were last pulled, or stopped, so each is removed by name, and never by force.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from rota.clean_rules import DockerRule
from rota.errors import RotaError

from ..checks.engine import LABEL
from ..checks.words import clip, size, span
from .offers import NAMED, Did, Enough, Nothing, Offer, Scene, is_on
from .plan import Held, Step, cache_frees, unused

_PATIENCE = 300.0
_IDLE = ("exited", "dead", "created")


class _Unix(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class RefusedError(RotaError):
    """The engine answered with an error; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """The API at a socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, target: str, method: str = "GET", **query: str) -> Any:
        """Return what the engine answers, from JSON.

        Raises:
            RefusedError: it refuses.
            RotaError: it cannot be reached.
        """
        words = f"?{urlencode(query)}" if query else ""
        connection = _Unix(self.path)
        try:
            connection.request(method, f"{target}{words}")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException) as error:
            raise RotaError(f"{self.path} cannot be asked: {error}") from None
        finally:
            connection.close()
        try:
            found = json.loads(body) if body.strip() else None
        except ValueError:
            found = None
        if answer.status >= 400:
            said = found.get("message", "") if isinstance(found, dict) else ""
            raise RefusedError(answer.status, f"{self.path}: {clip(str(said), 200) or answer.reason}")
        return found


def moment(text: str) -> int:
    """Return a time of the engine's (RFC 3339), in microseconds since 1970; 0 for never."""
    try:
        return max(round(datetime.fromisoformat(text).timestamp() * 1_000_000), 0)
    except (ValueError, OverflowError):
        return 0


def _label(raw: Mapping[str, Any]) -> str:
    return str((raw.get("Labels") or {}).get(LABEL, ""))


def parse_images(images: Iterable[Mapping[str, Any]], containers: Iterable[Mapping[str, Any]]) -> list[Held]:
    """Return images as /images/json has them: when they were built, and whether a container has them."""
    taken = {str(one.get("ImageID", "")) for one in containers}
    found = []
    for one in images:
        tags = [*(one.get("RepoTags") or ()), *(one.get("RepoDigests") or ())]
        names = tuple(str(tag) for tag in tags if not str(tag).startswith("<none>"))
        shared = max(int(one.get("SharedSize") or 0), 0)
        unshared = max(int(one.get("Size") or 0) - shared, 0)
        since = int(one.get("Created") or 0) * 1_000_000
        found.append(Held(str(one["Id"]), names, unshared, since, str(one["Id"]) in taken, _label(one)))
    return found


def parse_containers(containers: Iterable[Mapping[str, Any]]) -> list[Held]:
    """Return containers as /containers/json has them, by when they were created; running ones are used."""
    return [
        Held(
            str(one["Id"]),
            tuple(str(name).lstrip("/") for name in one.get("Names") or ()),
            int(one.get("SizeRw") or 0),
            int(one.get("Created") or 0) * 1_000_000,
            str(one.get("State", "")).lower() not in _IDLE,
            _label(one),
        )
        for one in containers
    ]


def parse_cache(usage: Mapping[str, Any]) -> list[Held]:
    """Return the build cache as /system/df has it."""
    newer = (usage.get("BuildCacheDiskUsage") or usage.get("BuildCacheUsage") or {}).get("Items")
    return [
        Held(
            str(one.get("ID", "")),
            (),
            int(one.get("Size") or 0),
            moment(str(one.get("LastUsedAt") or one.get("CreatedAt") or "")),
            bool(one.get("InUse")),
        )
        for one in usage.get("BuildCache") or newer or ()
    ]


def offer(step: Step, rule: DockerRule, scene: Scene) -> Offer:
    """Return what a step of the engine offers; raises Nothing, or RotaError where it cannot be asked."""
    with _as_expected(step.which):
        made = _offer(step, rule, scene)

    def act(enough: Enough) -> Did:
        with _as_expected(step.which):
            return made.act(enough)

    return replace(made, act=act)


@contextmanager
def _as_expected(path: str) -> Iterator[None]:
    """Raise RotaError where an answer is not of the shape that it is read as."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RotaError(f"{path}: its answer is not as expected: {clip(repr(error), 200)}") from None


def _offer(step: Step, rule: DockerRule, scene: Scene) -> Offer:
    engine = Engine(step.which)
    root = str(engine.ask("/info").get("DockerRootDir") or "")
    if not is_on(root, scene.device):
        raise Nothing(f"{root or 'what the engine keeps'} is not on this file system")
    if step.kind == "build-cache":
        return _cache(engine, rule, scene)
    return _held(engine, step, rule, scene)


def _cache(engine: Engine, rule: DockerRule, scene: Scene) -> Offer:
    frees = cache_frees(parse_cache(engine.ask("/system/df", verbose="1")), rule, scene.now)
    if not frees:
        raise Nothing(f"no build cache is older than {span(rule.older_than)} beyond what is kept")
    until = json.dumps({"until": [f"{rule.older_than // 1_000_000}s"]})
    kept = str(rule.keep_cache)
    query = {"filters": until, "keep-storage": kept, "reserved-space": kept}

    def act(_: Enough) -> Did:
        done = engine.ask("/build/prune", "POST", **query) or {}
        return Did(len(done.get("CachesDeleted") or ()), int(done.get("SpaceReclaimed") or 0))

    return Offer(
        f"build cache unused for {span(rule.older_than)}, down to {size(rule.keep_cache)}", act, frees
    )


def _held(engine: Engine, step: Step, rule: DockerRule, scene: Scene) -> Offer:
    containers = engine.ask("/containers/json", all="1", size="1")
    if step.kind == "images":
        listed = unused(parse_images(engine.ask("/images/json"), containers), rule, scene.now)
        known = [_tagged(engine, one) for one in listed]
    else:
        listed = unused(parse_containers(containers), rule, scene.now)
        known = [_stopped(engine, one) for one in listed]
    going = unused((one for one in known if one is not None), rule, scene.now)
    if not going:
        raise Nothing(f"no {step.kind} unused for {span(rule.older_than)}")
    remove = partial(_remove_image if step.kind == "images" else _remove_container, engine)

    def act(enough: Enough) -> Did:
        count = freed = 0
        error = ""
        for one in going:
            try:
                if remove(one):
                    count, freed = count + 1, freed + one.size
            except RotaError as problem:
                error = error or problem.message
            if enough(freed):
                break
        return Did(count, freed, error)

    names = tuple((one.names or (one.id[:19],))[0] for one in going[:NAMED])
    what = f"{step.kind} unused for {span(rule.older_than)}"
    return Offer(what, act, sum(one.size for one in going), len(going), names)


def _since(one: Held, since: int) -> Held:
    return Held(one.id, one.names, one.size, max(one.since, since), one.used, one.label)


def _tagged(engine: Engine, image: Held) -> Held | None:
    """Return an image with when it was pulled or tagged, which may be long after it was built."""
    try:
        found = engine.ask(f"/images/{quote(image.id, safe='')}/json")
    except RefusedError:
        return None
    return _since(image, moment(str((found.get("Metadata") or {}).get("LastTagTime") or "")))


def _stopped(engine: Engine, container: Held) -> Held | None:
    """Return a container with when it stopped."""
    try:
        found = engine.ask(f"/containers/{container.id}/json")
    except RefusedError:
        return None
    return _since(container, moment(str((found.get("State") or {}).get("FinishedAt") or "")))


def _remove_image(engine: Engine, image: Held) -> bool:
    """Remove an image by all its names; one that is in use by now stays."""
    tags = [name for name in image.names if "@" not in name]
    for name in tags or [image.id]:
        try:
            engine.ask(f"/images/{quote(name, safe='/:')}", "DELETE", force="0", noprune="0")
        except RefusedError as problem:
            if problem.status in (404, 409):
                return False
            raise
    return True


def _remove_container(engine: Engine, container: Held) -> bool:
    """Remove a container; one that runs by now stays, and so do its volumes."""
    try:
        engine.ask(f"/containers/{container.id}", "DELETE", v="0", force="0")
    except RefusedError as problem:
        if problem.status in (404, 409):
            return False
        raise
    return True
