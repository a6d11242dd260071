"""rotad-metrics: answers scrapes on the sockets that systemd hands over; asks rotad at each.

A process of its own, so that rotad needs no HTTP, no prometheus_client and no part in what clients do.
systemd starts it at the first connection (rotad-metrics.socket); it ends when nobody has asked for a while.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.exposition import choose_encoder

from rota import program
from rota.client import Client, client
from rota.errors import RotaError
from rota.keeper_client import call_keeper
from rota.metrics import Reading, Scrape

log = logging.getLogger("rotad-metrics")

_HEAD = 8192
"""Most bytes of a request."""

_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is put up with.

    Attributes:
        rotad: seconds that rotad may take to answer: Prometheus waits for ten as a rule.
        client: seconds that a client may take to send its request, and again to take in the answer.
        idle: seconds without a request after which `Exporter.serve` returns.
        clients: most clients at once; it hangs up on more.
    """

    rotad: float = 4.0
    client: float = 5.0
    idle: float = 300.0
    clients: int = 256


USUAL = Limits()


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; `accept` is the header of that name, "" without one."""

    method: str
    path: str
    accept: str


def parse(head: bytes) -> Request | None:
    """Return the request in the head of an HTTP/1 message (RFC 9112), None if it is none."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[0].isalpha() or not words[2].startswith("HTTP/1."):
        return None
    try:
        path = urlsplit(words[1]).path
    except ValueError:
        return None
    accept = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            return None
        if name.lower() == "accept":
            accept.append(value.strip())
    return Request(words[0], path, ",".join(accept))


def response(status: str, body: bytes, kind: str = _PLAIN, *, head_only: bool = False) -> bytes:
    """Return an HTTP message after which the connection is closed."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else body)


@dataclass(frozen=True, slots=True)
class Page:
    """A reading, and its text in the formats that were asked for, by their names."""

    reading: Reading
    texts: dict[str, bytes] = field(default_factory=dict)

    def encoded(self, accept: str) -> tuple[bytes, str]:
        """Return it in the format that a client prefers, and the name of that format."""
        try:
            return self._encoded(accept)
        except (TypeError, ValueError):  # prometheus_client, of a version that is no number
            return self._encoded("")

    def _encoded(self, accept: str) -> tuple[bytes, str]:
        encoder, kind = choose_encoder(accept)
        if kind not in self.texts:
            self.texts[kind] = encoder(Scrape(self.reading))
        return self.texts[kind], kind


class Exporter:
    """Answers on some sockets, until nobody asks any more."""

    def __init__(self, *, user: bool, limits: Limits = USUAL) -> None:
        """Begin with nothing.

        Args:
            user: rotad is the user's own.
            limits: what is put up with.
        """
        self._user = user
        self._limits = limits
        self._clients = 0
        self._asked = asyncio.Event()
        self._page: asyncio.Task[Page] | None = None
        self._silent = ""

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on listening sockets."""
        servers = [await asyncio.start_server(self._serve, sock=one, limit=_HEAD) for one in sockets]
        try:
            while True:
                self._asked.clear()
                async with asyncio.timeout(self._limits.idle):
                    await self._asked.wait()
        except TimeoutError:
            log.debug("nobody has asked for %g s", self._limits.idle)
        finally:
            for server in servers:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asked.set()
        self._clients += 1
        writer.transport.set_write_buffer_limits(0)  # so that drain() waits until all is sent
        try:
            if self._clients > self._limits.clients:
                raise ConnectionAbortedError
            async with asyncio.timeout(self._limits.client):
                head = await self._head(reader)
            answer = await self._answer(head)
            async with asyncio.timeout(self._limits.client):
                writer.write(answer)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()
        finally:
            self._clients -= 1
            writer.close()

    @staticmethod
    async def _head(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return b""

    async def _answer(self, head: bytes) -> bytes:
        request = parse(head)
        if request is None:
            return response("400 Bad Request", b"not a request of HTTP/1\n")
        head_only = request.method == "HEAD"
        if request.method not in ("GET", "HEAD"):
            return response("405 Method Not Allowed", b"only GET and HEAD\n")
        if request.path != "/metrics":
            return response("404 Not Found", b"metrics are at /metrics\n", head_only=head_only)
        try:
            body, kind = (await self.page()).encoded(request.accept)
        except Exception:  # the client gets an answer, the journal the trace
            log.exception("metrics could not be made of what rotad said")
            return response("500 Internal Server Error", b"see journalctl -u rotad-metrics\n")
        return response("200 OK", body, kind, head_only=head_only)

    async def page(self) -> Page:
        """Return what rotad says; who asks while it is being asked shares the answer."""
        if self._page is None or self._page.done():
            self._page = asyncio.get_running_loop().create_task(self._read())
        return await asyncio.shield(self._page)

    async def _read(self) -> Page:
        try:
            async with client(user=self._user) as asked:
                rotad, keeper = await asyncio.gather(
                    self._of_rotad(asked), _of_keeper(asked, self._limits.rotad)
                )
        except RotaError as error:
            self._no_answer(error.message)
            return Page(Reading())
        return Page(Reading(rotad, keeper))

    async def _of_rotad(self, asked: Client) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(self._limits.rotad):
                said = await asked.call("Metrics", activate=False)
        except RotaError as error:
            self._no_answer(error.message)
            return None
        except TimeoutError:
            self._no_answer(f"rotad has not answered within {self._limits.rotad:g} s")
            return None
        if self._silent:
            log.warning("rotad answers again")
            self._silent = ""
        return dict(json.loads(said))

    def _no_answer(self, why: str) -> None:
        if why != self._silent:
            log.warning("%s", why)
        self._silent = why


async def _of_keeper(asked: Client, patience: float) -> dict[str, Any] | None:
    """Return what the keeper says within some seconds; None where there is none, which is rotad's to tell."""
    try:
        async with asyncio.timeout(patience):
            return dict(json.loads(await call_keeper(asked.bus, "Metrics")))
    except (RotaError, TimeoutError):
        return None


def parser() -> argparse.ArgumentParser:
    """Return the parser of rotad-metrics's command line."""
    user = "ask the user's own rotad on the session bus"
    return program.parser("rotad-metrics", "Serves metrics of rota's agents", user=user)


async def _main(*, user: bool) -> None:
    sockets = program.inherited(
        "It is started by rotad-metrics.socket, which `rota apply` makes where [metrics] says to listen."
    )
    await Exporter(user=user).serve(sockets)


def main(argv: Sequence[str] | None = None) -> int:
    """Run rotad-metrics; return its exit code."""
    return program.run(log, _main(user=parser().parse_args(argv).user))
