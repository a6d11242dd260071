"""rota-docker-proxy: between Home Keeper and an engine, lets through what the keeper needs, and no more.

systemd hands over the socket (rota-docker-proxy.socket). Each connection carries one request, which h11
parses; the engine gets a request of the proxy's own making. It ends when nobody has asked for a while.
"""

from __future__ import annotations

# isort: off
import rota.lean  # noqa: F401  (before what it keeps out)
# isort: on

import argparse
import asyncio
import json
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11

from rota import program
from rota.container_watches import Proxy, from_json, granted
from rota.errors import Exit, RotaError

from .checks.engine import LABEL
from .checks.words import clip
from .proxy_rules import Allowed, Denied, judge, reduced, tells

log = logging.getLogger("rota-docker-proxy")

_CLIENT = 10.0
"""Seconds that a client may take to send its request, and again to take in what it is sent."""
_ENGINE = 60.0
"""Seconds that the engine may take to answer; where it stops a container, beside those that this is given."""
_IDLE = 300.0
"""Seconds without a connection after which it ends."""
_HEAD = 16 * 1024
_ANSWER = 32 * 1024 * 1024
_EVENT = 1024 * 1024
"""Most bytes of a request, of an answer, of an event."""
_MOST = 64
"""Most connections at once; it hangs up on more."""
_READ = 64 * 1024
_HOST = ("Host", "docker")
_ALWAYS = (("Connection", "close"), ("Cache-Control", "no-store"))

Headers = Sequence[tuple[str, str]]


class NoAnswer(Exception):  # noqa: N818  (the text says why)
    """The engine does not answer, or not as it should."""


class Upstream:
    """One request to the engine, and its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)

    async def ask(self, method: str, target: str) -> h11.Response:
        """Send a request without a body, and return the head of the answer."""
        headers = [_HOST, ("Connection", "close"), *([("Content-Length", "0")] if method == "POST" else [])]
        sent = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        self._writer.write(sent + (self._http.send(h11.EndOfMessage()) or b""))
        await self._writer.drain()
        while not isinstance(event := await self._next(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise NoAnswer("the engine hung up")
        return event

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the parts of the answer's body."""
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)

    async def _next(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ))
        if event is h11.PAUSED:
            raise NoAnswer("the engine speaks something else than HTTP")
        return event


class Client:
    """One connection of a client's: its request, and the answer to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD)

    async def request(self) -> h11.Request | None:
        """Return the request, None if the client hung up.

        Raises:
            Denied: it has a body, asks for another protocol, or is not the only one.
        """
        request = None
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self.reader.read(_READ))
            elif isinstance(event, h11.Request):
                request = event
                _plain(event)
            elif isinstance(event, h11.EndOfMessage):
                if self._http.trailing_data[0]:
                    raise Denied("one request a connection", 400)
                return request
            elif isinstance(event, h11.Data):
                raise Denied("a request has no body here")
            else:
                return None

    def head(self, status: int, length: int | None = None, headers: Headers = ()) -> None:
        """Send the head of the answer; without a length, what follows comes in chunks."""
        headers = [*headers, ("Content-Type", "application/json"), *_ALWAYS]
        if length is not None:
            headers.append(("Content-Length", str(length)))
        self._write(h11.Response(status_code=status, headers=headers))

    async def part(self, data: bytes) -> None:
        """Send a part of the answer's body."""
        self._write(h11.Data(data=data))
        async with asyncio.timeout(_CLIENT):
            await self._writer.drain()

    async def end(self) -> None:
        """Send the end of the answer."""
        self._write(h11.EndOfMessage())
        async with asyncio.timeout(_CLIENT):
            await self._writer.drain()

    async def answer(self, status: int, body: Any = None, headers: Headers = ()) -> None:
        """Send a whole answer, its body as JSON; None: without one."""
        data = b"" if body is None else json.dumps(body).encode()
        self.head(status, None if status in (204, 304) else len(data), headers)
        if data:
            await self.part(data)
        await self.end()

    @property
    def answerable(self) -> bool:
        """Whether an answer can still begin."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def _write(self, event: Any) -> None:
        self._writer.write(self._http.send(event) or b"")


def _plain(request: h11.Request) -> None:
    """Refuse what could mean anything but one request without a body."""
    for name, value in request.headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            raise Denied("a request has no body here")
        if name in (b"upgrade", b"expect") or (name == b"connection" and b"upgrade" in value.lower()):
            raise Denied("no other protocol is spoken here")
    if request.http_version not in (b"1.0", b"1.1"):
        raise Denied("only HTTP/1 is spoken here", 400)


class Server:
    """Answers on some sockets, until nobody asks any more."""

    def __init__(self, rules: Proxy, *, idle: float = _IDLE) -> None:
        """Begin with nothing.

        Args:
            rules: what it goes by.
            idle: seconds without a connection after which `serve` returns.
        """
        self._rules = rules
        self._idle = idle
        self._clients = 0
        self._asked = asyncio.Event()

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on listening sockets."""
        servers = [await asyncio.start_server(self._serve, sock=one, limit=_READ) for one in sockets]
        try:
            while await self._wanted():
                self._asked.clear()
        finally:
            for server in servers:
                server.close()

    async def _wanted(self) -> bool:
        """Wait for a client; return whether there is one after a while."""
        try:
            async with asyncio.timeout(self._idle):
                await self._asked.wait()
        except TimeoutError:
            return self._clients > 0
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asked.set()
        self._clients += 1
        client = Client(reader, writer)
        try:
            if self._clients > _MOST:
                raise ConnectionAbortedError
            await self._one(client)
        except (TimeoutError, ConnectionError, h11.LocalProtocolError):
            writer.transport.abort()
        finally:
            self._clients -= 1
            writer.close()

    async def _one(self, client: Client) -> None:
        """Answer one request, or say why not."""
        asked = ""
        try:
            async with asyncio.timeout(_CLIENT):
                request = await client.request()
            if request is None:
                return
            method, target = request.method.decode("ascii"), request.target.decode("ascii")
            asked = f"{method} {target}"
            await self._answer(client, judge(method, target))
        except Denied as error:
            log.warning("refused: %s: %s", clip(asked, 200) or "a request", error)
            await self._error(client, error.status, str(error))
        except h11.RemoteProtocolError as error:
            await self._error(client, 400, f"not a request of HTTP: {clip(str(error))}")
        except NoAnswer as error:
            await self._error(client, 502, str(error))

    @staticmethod
    async def _error(client: Client, status: int, text: str) -> None:
        if client.answerable:
            await client.answer(status, {"message": f"rota-docker-proxy: {text}"})

    async def _answer(self, client: Client, asked: Allowed) -> None:
        if asked.kind == "events":
            await self._events(client, asked)
            return
        if asked.kind == "act":
            asked = await self._granted(asked)
        head, body = await self._asked_of_engine(asked.method, asked.target, _patience(asked))
        status = head.status_code
        if status >= 400:
            await client.answer(status, reduced("error", _json(body)))
        elif asked.kind == "ping":
            await client.answer(status, "OK" if asked.method == "GET" else None, _versions(head))
        elif asked.kind == "act":
            log.info("%s %s: %d", asked.method, asked.target, status)
            await client.answer(status)
        else:
            await client.answer(status, reduced(asked.kind, _json(body)))

    async def _granted(self, asked: Allowed) -> Allowed:
        """Return the request with the full id of its container, if that may be acted on.

        Raises:
            Denied: it may not.
        """
        target = f"/containers/{asked.id}/json"
        head, body = await self._asked_of_engine("GET", target, _ENGINE)
        status, found = head.status_code, _json(body)
        if status != 200 or not isinstance(found, Mapping):
            text = found.get("message", "") if isinstance(found, Mapping) else ""
            raise Denied(clip(str(text)) or "there is no such container", status if status >= 400 else 502)
        name, full = str(found.get("Name", "")).removeprefix("/"), str(found.get("Id", ""))
        label = ((found.get("Config") or {}).get("Labels") or {}).get(LABEL, "")
        if not granted(self._rules, name, str(label)):
            raise Denied(f"the policy does not let {name} be acted on")
        return Allowed(asked.kind, asked.method, asked.of(full), full)

    async def _asked_of_engine(self, method: str, target: str, patience: float) -> tuple[h11.Response, bytes]:
        try:
            async with asyncio.timeout(patience), self._upstream() as engine:
                head, body = await engine.ask(method, target), bytearray()
                async for part in engine.body():
                    body += part
                    if len(body) > _ANSWER:
                        raise NoAnswer(f"the engine's answer is longer than {_ANSWER} bytes")
                return head, bytes(body)
        except TimeoutError:
            raise NoAnswer(f"the engine has not answered within {patience:g}s") from None

    @asynccontextmanager
    async def _upstream(self) -> AsyncIterator[Upstream]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._rules.socket, limit=_READ)
        except OSError as error:
            raise NoAnswer(f"{self._rules.socket}: {error.strerror or error}") from None
        try:
            yield Upstream(reader, writer)
        except h11.ProtocolError as error:
            raise NoAnswer(f"the engine answers something else than HTTP: {clip(str(error))}") from None
        except ConnectionError as error:
            raise NoAnswer(f"the engine hung up: {error}") from None
        finally:
            writer.close()

    async def _events(self, client: Client, asked: Allowed) -> None:
        """Hand on events until the engine or the client hangs up."""
        async with self._upstream() as engine:
            async with asyncio.timeout(_ENGINE):
                head = await engine.ask(asked.method, asked.target)
            if head.status_code != 200:
                body = b"".join([part async for part in engine.body()])
                await client.answer(head.status_code, reduced("error", _json(body)))
                return
            client.head(200)
            hand_on = asyncio.ensure_future(_handed_on(engine, client))
            hung_up = asyncio.ensure_future(client.reader.read(1))
            try:
                await asyncio.wait({hand_on, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                hung_up.cancel()
                hand_on.cancel()
                await asyncio.wait({hand_on, hung_up})
                hung_up.cancelled() or hung_up.exception()  # or asyncio complains that nobody asked
            if not hand_on.cancelled():
                hand_on.result()
                await client.end()


async def _handed_on(engine: Upstream, client: Client) -> None:
    """Hand on each event as one part, without what is not for the client."""
    decoder, text = json.JSONDecoder(), ""
    async for part in engine.body():
        text = (text + part.decode("utf-8", "replace")).lstrip()
        while text:
            try:
                event, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            if isinstance(event, dict) and tells(event):
                await client.part(json.dumps(reduced("events", event)).encode() + b"\n")
        if len(text) > _EVENT:
            raise NoAnswer("an event of the engine has no end")


def _versions(head: h11.Response) -> Headers:
    """Return what clients find out by GET /_ping."""
    return [
        (name.decode("ascii"), value.decode("ascii"))
        for name, value in head.headers
        if name in (b"api-version", b"ostype") and re.fullmatch(rb"[0-9a-z.]{1,20}", value)
    ]


def _patience(asked: Allowed) -> float:
    stop = asked.target.rpartition("t=")[2] if asked.kind == "act" and "?t=" in asked.target else "10"
    return _ENGINE + int(stop)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else {}
    except (ValueError, RecursionError):
        raise NoAnswer("the engine's answer is no JSON") from None


def settings(path: str | None) -> Proxy:
    """Return what it goes by: a file, or the credential `proxy`; without either, nothing may be acted on.

    Raises:
        RotaError: it cannot be read.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(path) if path else Path(folder, "proxy") if folder else None
    if file is None or (path is None and not file.exists()):
        return Proxy()
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RotaError(
            f"{file} cannot be read: {error}", "`rota apply` makes it anew.", Exit.USAGE
        ) from None


def parser() -> argparse.ArgumentParser:
    """Return the parser of rota-docker-proxy's command line."""
    about = "Between Home Keeper and Docker: what the keeper needs, no more"
    proxy = program.parser("rota-docker-proxy", about)
    proxy.add_argument(
        "--config", metavar="FILE", help="what it goes by, JSON; the credential proxy by default"
    )
    return proxy


async def _main(path: str | None) -> None:
    rules = settings(path)
    await Server(rules).serve(program.inherited("It is started by rota-docker-proxy.socket."))


def main(argv: Sequence[str] | None = None) -> int:
    """Run rota-docker-proxy; return its exit code."""
    return program.run(log, _main(parser().parse_args(argv).config))
