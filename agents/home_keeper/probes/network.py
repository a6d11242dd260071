"""Tries to reach endpoints: ping, TCP, and names; see `http` for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

from rota.watches import Dns, Tcp

from ..checks.network import Resolved, Tried
from ..checks.words import SECOND, span
from . import Unavailable
from .threads import Threads

Reached = TypeVar("Reached")
Place = TypeVar("Place")

_REQUESTS = 3
"""Echo requests in one try: a single lost packet says nothing."""
_ECHO = {socket.AF_INET: (8, 0, socket.IPPROTO_ICMP), socket.AF_INET6: (128, 129, socket.IPPROTO_ICMPV6)}


def elapsed(began: float) -> int:
    """Return the microseconds since `began`, a time of time.monotonic."""
    return round((time.monotonic() - began) * SECOND)


def reason(error: BaseException) -> str:
    """Return why something could not be reached, in words."""
    if isinstance(error, socket.gaierror):
        return f"its name cannot be resolved: {error.strerror}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


async def addresses(
    threads: Threads, host: str, port: int = 0
) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Return the addresses of a host, in the order to try them.

    Raises:
        OSError: its name has none.
    """
    look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    found = look_up() if _is_address(host) else await threads.run(f"resolve {host}", look_up)
    return list(dict.fromkeys((family, (_with_scope(address), port)) for family, _, _, _, address in found))


def _with_scope(address: tuple[object, ...]) -> str:
    host, scope = str(address[0]), address[3] if len(address) > 3 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host


async def first_of(
    threads: Threads, host: str, port: int, timeout: int, reach: Callable[[str, int], Awaitable[Reached]]
) -> Reached:
    """Reach a host at the first of its addresses that can be, each having its share of the time.

    Args:
        threads: where the name is resolved.
        host: name or address.
        port: at it.
        timeout: of all together, microseconds.
        reach: does it, at an address.

    Raises:
        OSError: none could be reached; it says why the last could not. A TimeoutError is one.
    """
    deadline = time.monotonic() + timeout / SECOND
    found = await addresses(threads, host, port)
    if not found:
        raise OSError(f"{host} has no address")
    return await in_turn([where for _, where in found], deadline, lambda where: reach(*where))


async def in_turn(
    places: Sequence[Place],
    deadline: float,
    reach: Callable[[Place], Awaitable[Reached]],
    enough: Callable[[Reached], bool] = lambda _: True,
) -> Reached:
    """Reach the first of some places that can be, each having its share of the time.

    Args:
        places: at least one.
        deadline: for all together, by time.monotonic.
        reach: does it.
        enough: whether what came of it is so; what came of the last always is.

    Raises:
        Exception: as `reach` does at the last; a TimeoutError is an OSError.
    """
    for left, place in zip(range(len(places), 1, -1), places, strict=False):
        with contextlib.suppress(OSError, EOFError):
            async with asyncio.timeout((deadline - time.monotonic()) / left):
                if enough(found := await reach(place)):
                    return found
    async with asyncio.timeout(deadline - time.monotonic()):
        return await reach(places[-1])


async def tried(timeout: int, work: Awaitable[object]) -> Tried:
    """Return how a try went that raises OSError if it fails, within `timeout` microseconds."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(timeout / SECOND):
            await work
    except TimeoutError:
        return Tried(elapsed(began), f"no answer within {span(timeout)}")
    except (OSError, EOFError) as error:
        return Tried(elapsed(began), reason(error))
    return Tried(elapsed(began))


async def tcp(threads: Threads, where: Tcp, timeout: int) -> Tried:
    """Try whether somebody accepts connections; nothing is sent."""

    async def reach(host: str, port: int) -> None:
        _, writer = await asyncio.open_connection(host, port)
        writer.transport.abort()

    return await tried(timeout, first_of(threads, where.host, where.port, timeout, reach))


async def ping(threads: Threads, host: str, timeout: int) -> Tried:
    """Try whether a host answers echo requests, by an unprivileged socket (icmp(7)), or by a program.

    Raises:
        Unavailable: we may not, and there is no ping(8).
    """

    async def reach() -> None:
        family, (address, _) = (await addresses(threads, host))[0]
        try:
            kind = _ECHO[family]
            sock = socket.socket(family, socket.SOCK_DGRAM, kind[2])
        except PermissionError:
            await _ping_program(address, timeout)
            return
        with sock:
            sock.setblocking(False)
            numeric = socket.getaddrinfo(address, 0, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)
            sock.connect(numeric[0][4])  # sends nothing, so does not block
            await _echo(sock, kind[0], kind[1], timeout)

    return await tried(timeout, reach())


async def _echo(sock: socket.socket, request: int, reply: int, timeout: int) -> None:
    loop, token = asyncio.get_running_loop(), os.urandom(16)

    async def send() -> None:
        for number in range(_REQUESTS):
            # The kernel fills in identifier and checksum.
            await loop.sock_sendall(sock, struct.pack("!BBHHH", request, 0, 0, 0, number) + token)
            await asyncio.sleep(timeout / SECOND / (_REQUESTS + 1))

    async def receive() -> None:
        while True:
            answer = await loop.sock_recv(sock, 512)
            if answer[:1] == bytes([reply]) and answer[8:] == token:
                return

    sending, receiving = loop.create_task(send()), loop.create_task(receive())
    tasks = {sending, receiving}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            sending.result()  # what may not be sent is not waited for
        await receiving
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ping_program(address: str, timeout: int) -> None:
    program = shutil.which("ping")
    if program is None:
        raise Unavailable(
            "it may not ping: widen the sysctl net.ipv4.ping_group_range by its group, or install ping(8)"
        )
    seconds = str(max(timeout // SECOND, 1))
    process = await asyncio.create_subprocess_exec(
        program, "-n", "-q", "-c", "1", "-w", seconds, address,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 1:
        raise TimeoutError
    if process.returncode:
        raise OSError(
            err.decode(errors="replace").strip().removeprefix("ping: ")
            or f"ping ended with {process.returncode}"
        )


async def dns(threads: Threads, question: Dns, timeout: int) -> Resolved:
    """Ask a name server.

    Raises:
        Unavailable: there is no dnspython.
    """
    try:
        import dns.asyncquery  # noqa: PLC0415  (only where a name is watched)
        import dns.exception  # noqa: PLC0415
        import dns.message  # noqa: PLC0415
        import dns.rcode  # noqa: PLC0415
        import dns.resolver  # noqa: PLC0415
    except ImportError:
        raise Unavailable("dnspython is missing; install python3-dnspython") from None
    began, unable = time.monotonic(), (dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED)

    async def ask(server: str) -> dns.message.Message:
        if not _is_address(server):
            server = (await addresses(threads, server))[0][1][0]
        answer, _ = await dns.asyncquery.udp_with_fallback(message, server, port=question.port)
        return answer

    try:
        message = dns.message.make_query(question.name, question.record)
        # As whoever resolves a name does (resolv.conf(5)): the next one, where one does not answer or cannot.
        servers = [question.server] if question.server else map(str, dns.resolver.Resolver().nameservers)
        answer = await in_turn(
            [*servers], began + timeout / SECOND, ask, enough=lambda found: found.rcode() not in unable
        )
    except TimeoutError:
        return Resolved(elapsed(began), f"no answer within {span(timeout)}")
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return Resolved(elapsed(began), reason(error))
    records = [
        _text(record, question.record)
        for found in answer.answer
        if found.rdtype == message.question[0].rdtype
        for record in found
    ]
    return Resolved(elapsed(began), "", dns.rcode.to_text(answer.rcode()), tuple(sorted(records)))


def _text(record: object, kind: str) -> str:
    strings = getattr(record, "strings", None)
    if kind == "TXT" and strings is not None:
        return b"".join(strings).decode(errors="replace")
    return str(record).rstrip(".")


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
