"""The way to Docker and Podman: the only caller of the docker SDK, which blocks and so runs in threads."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from rota.container_watches import DOCKERS_OWN, PROXY, Engine

from ..checks.engine import Container, Happened, Listed, container, happened, listed
from ..checks.words import Malformed, clip
from . import Unavailable
from .threads import Threads

_CALL = 10.0
"""Seconds that the engine may take to answer."""
_LOOK = 60.0
"""Seconds that it may take to tell of all its containers."""
_EVENTS = (
    *("create", "destroy", "die", "died", "health_status", "kill", "oom", "pause", "remove", "rename"),
    *("restart", "start", "stop", "unpause", "update"),
)
"""The events that are asked for: each health check makes three more."""

Result = TypeVar("Result")


class Gone(Exception):  # noqa: N818  (what is gone is the engine)
    """The engine does not answer; the text says why.

    Attributes:
        absent: whether there is not even a socket: as where none is installed.
    """

    @property
    def absent(self) -> bool:  # noqa: D102  (see there; the proxy hands on the same text)
        return str(self).endswith(os.strerror(errno.ENOENT))


class Refused(Exception):  # noqa: N818  (it is the engine that refuses)
    """The engine answers that it cannot; the text is its own.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Connection:
    """Calls to one engine."""

    def __init__(self, engine: Engine, threads: Threads | None = None) -> None:
        self.engine = engine
        self._threads = threads or Threads()
        self._client: Any = None
        self._serial = itertools.count()
        self.podman = False

    async def _run(self, kind: str, work: Callable[[], Result], timeout: float = _CALL) -> Result:
        try:
            async with asyncio.timeout(timeout):
                return await self._threads.run(f"{kind} {next(self._serial)}", lambda: _translated(work))
        except TimeoutError:
            raise Gone(f"{self.engine.socket}: no answer within {timeout:g}s") from None

    async def connect(self) -> None:
        """Find out how to speak with the engine.

        Raises:
            Gone: there is none.
            Unavailable: there is no docker SDK.
        """

        def work() -> tuple[Any, bool]:
            _knock(self.engine.socket)
            return _client(self.engine.socket)

        self._client, self.podman = await self._run("connect", work)

    async def _with(self, kind: str, work: Callable[[Any], Result], timeout: float = _CALL) -> Result:
        if self._client is None:
            await self.connect()
        client = self._client
        return await self._run(kind, lambda: work(client), timeout)

    async def inspect(self, which: str) -> Container:
        """Return a container by its name or id.

        Raises:
            Gone: the engine does not answer.
            Refused: with status 404, if there is no such container.
            Malformed: the answer is not as expected.
        """
        return container(await self._with("inspect", lambda client: client.inspect_container(which)))

    async def listed(self) -> dict[str, Listed]:
        """Return what is said of all containers at a glance, by id; raises as `inspect`."""
        return dict(await self._with("list", lambda client: [*map(listed, client.containers(all=True))]))

    async def snapshot(self) -> dict[str, Container]:
        """Return all containers, by id; raises as `inspect`."""

        def work(client: Any) -> list[Mapping[str, Any]]:
            found = []
            for item in client.containers(all=True):
                try:
                    found.append(_translated(partial(client.inspect_container, item["Id"])))
                except Refused as error:
                    if error.status != 404:
                        raise
            return found

        return {one.id: one for one in map(container, await self._with("snapshot", work, _LOOK))}

    async def history(self, since: int, until: int) -> list[Happened]:
        """Return what happened between two moments (nanoseconds since 1970), as far as the engine knows."""

        def work(client: Any) -> list[Mapping[str, Any]]:
            stream = client.events(
                since=_stamp(since), until=_stamp(until), filters={"event": list(_EVENTS)}, decode=True
            )
            return list(stream)

        return list(_events(await self._with("history", work)))

    async def follow(self, since: int) -> Stream:
        """Begin to listen to what happens after a moment, nanoseconds since 1970."""
        filters = {"event": list(_EVENTS)}
        raw = await self._with(
            "follow", lambda client: client.events(since=_stamp(since), filters=filters, decode=True)
        )
        return Stream(raw, self._threads, next(self._serial))

    async def restart(self, which: str, timeout: int) -> None:
        """Stop and start a container.

        Args:
            which: its id.
            timeout: seconds that it is given to end before it is killed.
        """
        patience = timeout + 4 * _CALL
        await self._with("restart", lambda client: client.restart(which, timeout=timeout), patience)

    async def start(self, which: str) -> None:
        """Start a container."""
        await self._with("start", lambda client: client.start(which), 4 * _CALL)

    def close(self) -> None:
        """Forget the connections; the next call makes new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None


class Stream:
    """The engine's events, read by a thread; `queue` gets None at the end."""

    def __init__(self, raw: Any, threads: Threads, serial: int) -> None:
        self.queue: asyncio.Queue[Happened | None] = asyncio.Queue()
        self._raw = raw
        loop = asyncio.get_running_loop()

        def tell(item: Happened | None) -> None:
            loop.call_soon_threadsafe(self.queue.put_nowait, item)

        def read() -> None:
            try:
                for event in _events(raw):
                    tell(event)
            finally:
                tell(None)

        self._task = asyncio.ensure_future(threads.run(f"stream {serial}", lambda: _translated(read)))
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def close(self) -> None:
        """Hang up: the thread that reads then ends."""
        _hang_up(self._raw)
        self._task.cancel()


def _events(raw: Iterable[Mapping[str, Any]]) -> Iterator[Happened]:
    return (event for item in raw if (event := happened(item)) is not None)


def _stamp(nanos: int) -> str:
    return f"{nanos // 1_000_000_000}.{nanos % 1_000_000_000:09}"


def _knock(path: str) -> None:
    """Connect, and hang up: the SDK's own errors do not say why it cannot."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(_CALL)
        try:
            one.connect(path)
        except PermissionError as error:
            raise Gone(f"{path}: {error.strerror}{_instead(path)}") from None
        except OSError as error:
            raise Gone(f"{path}: {error.strerror or error}") from None


def _instead(path: str) -> str:
    """Return what to declare instead of an engine's own socket, which only root and its group may open."""
    if path == PROXY:
        return ""
    docker = "" if path in DOCKERS_OWN else f' and docker = "{path}"'
    return f'; in [keeper.containers] write sockets = ["{PROXY}"]{docker}: rota-docker-proxy may open it'


def _client(path: str) -> tuple[Any, bool]:
    """Return a client of the SDK, and whether it is Podman that answers."""
    import docker  # noqa: PLC0415  (only where containers are watched)

    os.environ.setdefault("DOCKER_CONFIG", "/nonexistent")  # passwords of registries are none of ours
    from docker.constants import DEFAULT_DOCKER_API_VERSION  # noqa: PLC0415

    where = {"base_url": f"unix://{path}", "timeout": _CALL}
    # The SDK finds out the version, too, but its error does not say what the engine answered.
    with closing(docker.APIClient(version=DEFAULT_DOCKER_API_VERSION, **where)) as client:
        version = client.version(api_version=False)
    components = version.get("Components") or ()
    podman = any("podman" in str(item.get("Name")).lower() for item in components)

    class Client(docker.APIClient):  # type: ignore[misc]
        """The SDK's, which would wait without end for an engine that takes a call for events and hangs."""

        def request(self, *words: Any, **more: Any) -> Any:
            endless = "timeout" in more and more["timeout"] is None
            answer = super().request(*words, **(more | {"timeout": _CALL} if endless else more))
            if endless and more["params"]["until"] is None:  # it has answered, and may be quiet from now on
                self._disable_socket_timeout(self._get_raw_response_socket(answer))
            return answer

    return Client(version=str(version["ApiVersion"]), **where), podman


def _translated(work: Callable[[], Result]) -> Result:
    """Return what `work` returns, with the SDK's errors as ours.

    Raises:
        Gone: the engine does not answer.
        Refused: it answers with an error.
        Malformed: its answer is not as expected.
        Unavailable: there is no docker SDK.
    """
    try:
        from docker.errors import APIError, DockerException, StreamParseError  # noqa: PLC0415
        from requests.exceptions import RequestException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415
    except ImportError:
        raise Unavailable("the docker SDK is missing; install python3-docker") from None
    try:
        return work()
    except APIError as error:
        status = error.response.status_code if error.response is not None else 0
        text = clip(str(error.explanation or error), 200)
        if status in (502, 503, 504):
            raise Gone(text) from None
        raise Refused(status, text) from None
    except (DockerException, RequestException, HTTPError, OSError) as error:
        raise Gone(clip(str(error), 200)) from None
    except (StreamParseError, KeyError, TypeError, AttributeError) as error:
        raise Malformed(f"the engine's answer is not as expected: {clip(repr(error))}") from None


def _hang_up(stream: Any) -> None:
    """Close a stream of the SDK from another thread than that which reads it."""
    try:
        stream.close()
    except (OSError, AttributeError):
        return  # it has ended
