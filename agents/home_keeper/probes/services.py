"""Asks Prometheus and databases."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from urllib.parse import urlencode

from rota.watches import Database, Prometheus, Query, shown

from ..checks.network import MOST_ALERTS, Alert, Series, Tried, parse_alerts, parse_query
from ..checks.words import SECOND, Malformed, clip, span
from . import Unavailable
from .credentials import line, of
from .http import MOST, Request, fetch
from .network import elapsed, reason
from .threads import Threads

log = logging.getLogger("rota-home-keeper")

_LARGEST = 8 * MOST
_SECRET = re.compile(r"://[^@/\s]*@")


async def _ask(threads: Threads, server: Prometheus, path: str, timeout: int) -> str:
    headers = {"Authorization": line(server.credential, server.file)} if server.credential else {}
    request = Request(f"{server.url}/api/v1/{path}", headers=headers, most=_LARGEST)
    whom = f"Prometheus at {shown(server.url)}"
    try:
        found = await fetch(threads, request, timeout)
    except TimeoutError:
        raise Unavailable(f"{whom} gives no answer within {span(timeout)}") from None
    except OSError as error:
        raise Unavailable(f"{whom} cannot be reached: {reason(error)}") from None
    if found.cut:
        raise Malformed(
            f"Prometheus's answer is longer than {_LARGEST // MOST} MiB; write a query of fewer series"
        )
    # A query that is refused is told in an answer of status 400 or 422.
    if not 200 <= found.status <= 299 and not found.body.lstrip().startswith(b"{"):
        raise Unavailable(f"{whom} answers with status {found.status}")
    return found.body.decode(errors="replace")


async def query(threads: Threads, server: Prometheus, wanted: Query) -> tuple[Series, ...]:
    """Evaluate a PromQL query.

    Raises:
        Unavailable: Prometheus cannot be asked.
        Malformed: it refuses the query, or answers something else.
    """
    path = f"query?{urlencode({'query': wanted.expression})}"
    return await asyncio.to_thread(parse_query, await _ask(threads, server, path, wanted.timeout))


async def alerts(threads: Threads, server: Prometheus) -> tuple[Alert, ...]:
    """Return the alerts that fire; raises as `query`."""
    found = await asyncio.to_thread(parse_alerts, await _ask(threads, server, "alerts", server.timeout))
    if (count := len({one.name for one in found} - {*server.ignore})) > MOST_ALERTS:
        log.warning("%s says that %d alerts fire; %d are told", server.url, count, MOST_ALERTS)
    return found


async def database(wanted: Database) -> Tried:
    """Ask a PostgreSQL database something, over a connection of its own.

    Raises:
        Unavailable: there is no asyncpg, or no URL.
    """
    try:
        import asyncpg  # noqa: PLC0415  (only where a database is watched)
    except ImportError:
        raise Unavailable("asyncpg is missing; install python3-asyncpg") from None
    url = line(wanted.credential, wanted.file)
    if not url.startswith(("postgresql://", "postgres://")):
        raise Unavailable(
            f"the credential {wanted.credential} is no URL; write postgresql://USER:PASSWORD@HOST/NAME"
            f"{of(wanted.file)}"
        )
    began = time.monotonic()
    try:
        async with asyncio.timeout(wanted.timeout / SECOND):
            connection = await asyncpg.connect(url, timeout=wanted.timeout / SECOND)
            try:
                await connection.fetchval(wanted.query)
            finally:
                connection.terminate()
    except TimeoutError:
        return Tried(elapsed(began), f"no answer within {span(wanted.timeout)}")
    except (asyncpg.InterfaceError, ValueError):
        # What is wrong with a URL is told with the URL.
        told = f"the credential {wanted.credential} is no URL that asyncpg understands{of(wanted.file)}"
        raise Unavailable(told) from None
    except (OSError, asyncpg.PostgresError) as error:
        return Tried(elapsed(began), clip(_SECRET.sub("://…@", reason(error))))
    return Tried(elapsed(began))
