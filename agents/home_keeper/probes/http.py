"""Asks over HTTP: no redirect is followed, no answer read for ever, and certificates are looked at."""

from __future__ import annotations

import asyncio
import functools
import http.client
import io
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rota import __version__
from rota.watches import Http

from ..checks.network import Answered
from ..checks.words import SECOND, Malformed, span
from . import Unavailable
from .network import elapsed, first_of, reason
from .threads import Threads

MOST = 1024 * 1024
"""Bytes of an answer that are read."""
_CHUNK = 64 * 1024
_OVERHEAD = 8
"""In chunks an answer takes up to so many times its bytes: six, if there is one byte in each."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a server answered.

    Attributes:
        status: its number.
        location: where it redirects to, "" for nowhere.
        body: the first bytes of it.
        cut: whether there is more of it.
        certificate: the server's, DER; b"" without TLS.
    """

    status: int
    location: str
    body: bytes
    cut: bool = False
    certificate: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        url: http or https.
        verify: whether the certificate must be trusted.
        ca: file with certificates that are trusted too, "" for none.
        headers: sent besides the usual.
        most: bytes of the answer that are read.
    """

    url: str
    verify: bool = True
    ca: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    most: int = MOST


@functools.lru_cache(maxsize=8)
def _context(verify: bool, ca: str, _day: int, _changed: int) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(ca)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def trust(verify: bool, ca: str) -> ssl.SSLContext:
    """Return what TLS goes by; made anew every day, as the system's may be updated, and when `ca` changes.

    Raises:
        Unavailable: the certificates to trust cannot be read.
    """
    try:
        return _context(verify, ca, int(time.time() // 86_400), Path(ca).stat().st_mtime_ns if ca else 0)
    except OSError as error:
        why = error.strerror or str(error)
        raise Unavailable(f"certificates cannot be read from {ca or 'the system'}: {why}") from None


def _head(request: Request) -> bytes:
    parts = urlsplit(request.url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Host": parts.netloc,
        "User-Agent": f"rota-home-keeper/{__version__}",
        "Accept": "*/*",
        "Connection": "close",
        **request.headers,
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


class _Answer:
    """Bytes as they come, as http.client wants a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def parse(data: bytes, most: int, *, ended: bool) -> Response | None:
    """Return the answer that `data` is, or None if more of it is to come.

    Args:
        data: all that has come.
        most: bytes of the body that are wanted.
        ended: whether the server has hung up.

    Raises:
        Malformed: it is not HTTP.
    """
    if b"\r\n\r\n" not in data and b"\n\n" not in data:
        if ended or len(data) > _CHUNK:
            raise Malformed("what answers is no HTTP server" if data else "it hung up without an answer")
        return None
    found = http.client.HTTPResponse(_Answer(data))  # type: ignore[arg-type]
    try:
        found.begin()
        length = found.length
        body = found.read(most + 1)
        whole = (length is not None and len(body) >= min(length, most + 1)) or bool(
            found.chunked and found.isclosed()
        )
    except http.client.IncompleteRead as error:
        body, whole = error.partial, False
    except (http.client.HTTPException, ValueError) as error:
        raise Malformed(f"what answers is no HTTP server: {type(error).__name__}") from None
    cut = len(body) > most
    if not (whole or ended or cut):
        return None
    return Response(found.status, found.getheader("location") or "", body[:most], cut)


class _Progress:
    """Tells when it is worth while to parse: not at each of a million bytes that come one by one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._goal = 0
        self._chunked = False
        self._next = self._body = 0

    def enough(self, data: bytearray) -> bool:
        """Return whether `data` is an answer as a whole, or too much of one, or none.

        Raises:
            Malformed: there is far more about the answer than of it.
        """
        if not self._goal and not self._begun(data):
            return len(data) > _CHUNK
        return self._is_over(data) if self._chunked else len(data) >= self._goal

    def _is_over(self, data: bytearray) -> bool:
        """Take in chunks (RFC 9112, 7.1), each once; return whether the last is there, or enough of them."""
        if len(data) > _OVERHEAD * (self._most + _CHUNK):
            raise Malformed("its answer is hidden in what it says about it")
        while self._body <= self._most and (end := data.find(b"\n", self._next)) >= 0:
            try:
                size = int(data[self._next : end].partition(b";")[0], 16)
            except ValueError:
                size = -1
            if size < 0:
                raise Malformed("what answers is no HTTP server: bad chunk")
            if not size:
                return data.find(b"\n\r\n", end) >= 0 or data.find(b"\n\n", end) >= 0
            self._body += size
            self._next = end + 1 + size + len(b"\r\n")
        if len(data) - self._next > _CHUNK and self._body <= self._most:
            raise Malformed("what answers is no HTTP server: bad chunk")
        return self._body > self._most and len(data) >= self._next

    def _begun(self, data: bytearray) -> bool:
        ends = [at + len(end) for end in (b"\r\n\r\n", b"\n\n") if (at := data.find(end)) >= 0]
        if not ends:
            return False
        found = http.client.HTTPResponse(_Answer(bytes(data[: min(ends)])))  # type: ignore[arg-type]
        try:
            found.begin()
        except (http.client.HTTPException, ValueError):
            self._goal = 1  # `parse` says what is wrong with it
            return True
        self._chunked = bool(found.chunked)
        most = self._most + 1
        body = most if found.length is None else min(found.length, most)
        self._next, self._goal = min(ends), min(ends) + body
        return True


async def _parse(data: bytes, most: int, *, ended: bool) -> Response | None:
    """As `parse`; what may take long does not keep others waiting."""
    if len(data) <= _CHUNK:
        return parse(data, most, ended=ended)
    return await asyncio.to_thread(parse, data, most, ended=ended)


async def fetch(threads: Threads, request: Request, timeout: int) -> Response:
    """Ask, and return the answer, or as much of it as is wanted.

    Raises:
        OSError: the server cannot be reached, or does not answer in `timeout` microseconds;
            ssl.SSLCertVerificationError: its certificate is not trusted.
        Malformed: it does not speak HTTP.
        Unavailable: the certificates to trust cannot be read.
    """
    parts = urlsplit(request.url)
    secure, host = parts.scheme == "https", parts.hostname or ""
    context = trust(request.verify, request.ca) if secure else None

    async def reach(address: str, port: int) -> Response:
        name = host if secure else None
        reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
        try:
            writer.write(_head(request))
            data, progress = bytearray(), _Progress(request.most)
            while True:
                chunk = await reader.read(_CHUNK)
                data += chunk
                if chunk and not progress.enough(data):
                    continue
                if (found := await _parse(bytes(data), request.most, ended=not chunk)) is not None:
                    tls = writer.get_extra_info("ssl_object")
                    return replace(found, certificate=(tls and tls.getpeercert(binary_form=True)) or b"")
        finally:
            writer.transport.abort()

    return await first_of(threads, host, parts.port or (443 if secure else 80), timeout, reach)


async def try_http(threads: Threads, wanted: Http, timeout: int) -> Answered:
    """Ask, and return what came of it, held against nothing yet but the body.

    Raises:
        Unavailable: see `fetch`.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(timeout / SECOND):
            found = await fetch(threads, Request(wanted.url, wanted.verify, wanted.ca), timeout)
    except TimeoutError:
        return Answered(elapsed(began), f"no answer within {span(timeout)}")
    except ssl.SSLCertVerificationError as error:
        return Answered(elapsed(began), "its certificate is not trusted", distrust=error.verify_message)
    except ssl.SSLError as error:
        return Answered(elapsed(began), f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}")
    except (OSError, EOFError, Malformed) as error:
        return Answered(elapsed(began), reason(error))
    return Answered(
        took=elapsed(began),
        status=found.status,
        location=found.location,
        has_body=wanted.body.encode() in found.body,
        expires=expiry(found.certificate) if found.certificate else None,
    )


def expiry(certificate: bytes) -> int | None:
    """Return until when a certificate (DER, RFC 5280, 4.1) is valid, microseconds since 1970; or None.

    The ssl module only tells it of certificates that it trusts, and those of devices at home are seldom so.
    """
    try:
        fields = _inside(certificate, 0x30)
        fields = _inside(fields, 0x30)
        if fields[0] == 0xA0:  # the version; absent for 1
            fields = _after(fields)
        for _ in ("serial number", "algorithm", "issuer"):
            fields = _after(fields)
        until = _after(_inside(fields, 0x30))
        text = _inside(until, until[0]).decode("ascii")
        if until[0] == 0x17:  # UTCTime: two digits of a year from 1950 to 2049
            text = ("19" if text >= "5" else "20") + text
        found = datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (ValueError, IndexError):
        return None
    return round(found.timestamp()) * SECOND


def _length(data: bytes) -> tuple[int, int]:
    """Return where the content of the first element of `data` begins, and where it ends."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut off")
    return start, start + length


def _inside(data: bytes, tag: int) -> bytes:
    if data[0] != tag:
        raise ValueError(f"element {data[0]:#x} in place of {tag:#x}")
    start, end = _length(data)
    return data[start:end]


def _after(data: bytes) -> bytes:
    return data[_length(data)[1] :]
