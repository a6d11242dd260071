"""What was declared to be watched, as the keeper reads it: defaults filled in, rules between keys checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from rota import watches
from rota.quantity import INFINITY, USEC, parse_duration, parse_percent, parse_size
from rota.rules import Breach
from rota.watches import Disk, Dns, Endpoint, Http, Limit, Limits, Tcp, Watches
from rota.watching import (
    TABLE,
    DatabaseWatch,
    DiskWatch,
    EndpointWatch,
    Numbers,
    Percents,
    PrometheusWatch,
    QueryWatch,
    Spans,
    Watch,
    Watching,
    split_address,
)

_MINUTE, _HOUR = 60 * USEC, 3600 * USEC
_KINDS = ("ping", "tcp", "http", "dns")
_ONLY_HTTP = ("status", "body", "certificate", "verify", "ca")
_NOT_OF_THE_HOST = ("space", "inodes", "certificate")

Declared = Percents | Numbers | Spans | bool


def _given(declared: Declared, key: str, default: float | None) -> float | None:
    """Return a threshold that was written, or its default: percent, a number, or seconds."""
    value = None if isinstance(declared, bool) else getattr(declared, key)
    if value is None:
        return default
    if isinstance(declared, Percents):
        return float(parse_percent(value))
    return parse_duration(value) / USEC if isinstance(declared, Spans) else float(value)


def _calm(hold: int) -> int:
    """Return how long something must be good that is bad when it was so for `hold`."""
    return min(hold, _MINUTE)


def _closing(opens: float, margin: float, low: bool) -> float:
    """Return where a limit closes: without a margin at the next number there is."""
    side = math.inf if low else -math.inf
    return (opens + margin if low else opens - margin) if margin else math.nextafter(opens, side)


def limits(name: str, declared: Declared) -> Limits:
    """Return the limits of a row of `watching.TABLE`, as declared; none if it is not watched."""
    if declared is False:
        return ()
    row = TABLE[name]
    margin = _given(declared, "margin", row.margin) or 0.0
    hold = parse_duration((not isinstance(declared, bool) and declared.hold) or row.hold)
    levels: tuple[tuple[str, float | None], ...] = (
        ("warning", _given(declared, "warning", row.warning)),
        ("critical", _given(declared, "critical", row.critical)),
    )
    return tuple(
        Limit(severity, opens, _closing(opens, margin, row.low), hold, _calm(hold))
        for severity, opens in levels
        if opens is not None
    )


def _limit_breaches(key: str, name: str, declared: Declared) -> Iterator[Breach]:
    if isinstance(declared, bool):
        return
    row = TABLE[name]
    if declared.hold is not None:
        yield from _span(f"{key}.hold", declared.hold, 0)
    margin = _given(declared, "margin", row.margin) or 0.0
    if margin < 0:
        yield Breach(f"{key}.margin", "must not be negative", str(declared.margin))
    warning, critical = _given(declared, "warning", row.warning), _given(declared, "critical", row.critical)
    if (
        warning is not None
        and critical is not None
        and (critical > warning if row.low else critical < warning)
    ):
        wrong, other = ("warning", "critical") if declared.warning is not None else ("critical", "warning")
        default = " by default; write that too" if getattr(declared, other) is None else ""
        side = "above" if (wrong == "warning") == row.low else "below"
        told = getattr(declared, other) or _in_words(name, getattr(row, other))
        yield Breach(
            f"{key}.{wrong}",
            f"must be {side} {other}, which is {told}{default}",
            str(getattr(declared, wrong)),
        )
    for severity, opens in (("warning", warning), ("critical", critical)):
        if opens is None or (getattr(declared, severity) is None and declared.margin is None):
            continue
        closes = _closing(opens, margin, row.low)
        if isinstance(declared, Percents) and not (0 <= closes <= 100 and opens <= 100):
            span = f"1% to {100 - margin:g}%" if row.low else f"{margin:g}% to 100%"
            told = f"with a margin of {margin:g}% it would never close, or never open; write {span}"
            yield Breach(f"{key}.{severity}", told, str(getattr(declared, severity) or ""))
        if isinstance(declared, Spans) and (math.isinf(opens) or opens >= INFINITY / USEC or closes <= 0):
            yield Breach(
                f"{key}.{severity}", f"with a margin of {margin:g}s it would never close, or never open"
            )


def _in_words(name: str, number: float) -> str:
    unit = TABLE[name].unit
    return watches.seconds(number) if unit == "s" else f"{number:g}{unit}"


def _span(key: str, text: str, least: int) -> Iterator[Breach]:
    span = parse_duration(text)
    if span >= INFINITY:
        yield Breach(key, "must have an end", text)
    elif span < least:
        yield Breach(key, f"must be at least {watches.seconds(least / USEC)}", text)


def _times(key: str, interval: str, timeout: str) -> Iterator[Breach]:
    yield from _span(f"{key}.interval", interval, USEC)
    yield from _span(f"{key}.timeout", timeout, USEC // 10)
    if parse_duration(timeout) > parse_duration(interval):
        yield Breach(f"{key}.timeout", f"must not be longer than interval, which is {interval}", timeout)


def _endpoint_breaches(key: str, one: EndpointWatch) -> Iterator[Breach]:
    kinds = [kind for kind in _KINDS if getattr(one, kind) is not None]
    if len(kinds) != 1:
        told = f"has {' and '.join(kinds)}; keep one" if kinds else "needs one of ping, tcp, http, dns"
        yield Breach(key, told)
    for name in _ONLY_HTTP:
        if name in one.model_fields_set and "http" not in kinds:
            yield Breach(f"{key}.{name}", "only goes with http")
    for index, status in enumerate(one.status):
        if not 100 <= status <= 599:
            yield Breach(f"{key}.status[{index}]", "must be a status of HTTP, from 100 to 599", str(status))
    yield from _times(key, one.interval, one.timeout)
    yield from _span(f"{key}.hold", one.hold, 0)
    if one.slow is not None and parse_duration(one.slow) >= parse_duration(one.timeout):
        yield Breach(f"{key}.slow", f"must be shorter than timeout, which is {one.timeout}", one.slow)
    yield from _limit_breaches(f"{key}.certificate", "certificate", one.certificate)


def _query_breaches(key: str, one: QueryWatch, servers: Mapping[str, PrometheusWatch]) -> Iterator[Breach]:
    if (one.above is None) == (one.below is None):
        yield Breach(
            key, "needs one of above and below" if one.above is None else "has above and below; keep one"
        )
    elif one.clear is not None:
        if one.above is not None and one.clear > one.above:
            yield Breach(f"{key}.clear", f"must not be more than above, which is {one.above}", str(one.clear))
        if one.below is not None and one.clear < one.below:
            yield Breach(f"{key}.clear", f"must not be less than below, which is {one.below}", str(one.clear))
    if one.server is not None and one.server not in servers:
        yield Breach(f"{key}.server", f"no such server; declare [keeper.prometheus.{one.server}]", one.server)
    elif one.server is None and len(servers) != 1:
        told = (
            f"is required: there are {', '.join(sorted(servers))}"
            if servers
            else "needs a [keeper.prometheus.NAME]"
        )
        yield Breach(f"{key}.server", told)
    yield from _times(key, one.interval, one.timeout)
    yield from _span(f"{key}.hold", one.hold, 0)


def breaches(declared: Watching) -> Iterator[Breach]:
    """Yield every rule between keys that is broken; keys are those below [keeper]."""
    watch = declared.watch
    yield from _span("watch.interval", watch.interval, USEC)
    for name in TABLE:
        if name != "certificate":
            yield from _limit_breaches(f"watch.{name}", name, getattr(watch, name))
    for name in ("smart", "journal"):
        if isinstance(getattr(watch, name), str):
            yield from _span(f"watch.{name}", getattr(watch, name), _MINUTE)
    for path, disk in declared.disks.items():
        for name in ("space", "inodes"):
            yield from _limit_breaches(f'disks."{path}".{name}', name, getattr(disk, name))
    for name, endpoint in declared.endpoints.items():
        yield from _endpoint_breaches(f"endpoints.{name}", endpoint)
    for name, server in declared.prometheus.items():
        yield from _times(f"prometheus.{name}", server.interval, server.timeout)
    for name, query in declared.queries.items():
        yield from _query_breaches(f"queries.{name}", query, declared.prometheus)
    for name, database in declared.databases.items():
        yield from _times(f"databases.{name}", database.interval, database.timeout)
        yield from _span(f"databases.{name}.hold", database.hold, 0)


def _disk(watch: Watch, one: DiskWatch) -> Disk:
    def inherited(name: str) -> Limits:
        own = getattr(one, name)
        return limits(name, getattr(watch, name) if own is True else own)

    enough = parse_size(one.enough or watch.enough)
    return Disk(inherited("space"), inherited("inodes"), enough, one.required)


def _unreachable(severity: str, hold: str, interval: str) -> Limits:
    span = parse_duration(hold)
    return (Limit(severity, 1, 0, span, min(span, parse_duration(interval))),)


def _slow(span: str | None, hold: str) -> Limits:
    if span is None:
        return ()
    opens = parse_duration(span) / USEC
    return (Limit("warning", opens, opens * 0.8, parse_duration(hold), _calm(parse_duration(hold))),)


def _endpoint(one: EndpointWatch) -> Endpoint:
    http = None
    if one.http is not None:
        secure = urlsplit(one.http).scheme == "https"
        certificate = limits("certificate", one.certificate) if secure else ()
        http = Http(one.http, one.status, one.body, certificate, one.verify, one.ca or "")
    return Endpoint(
        interval=parse_duration(one.interval),
        timeout=parse_duration(one.timeout),
        unreachable=_unreachable(one.severity, one.hold, one.interval),
        slow=_slow(one.slow, one.hold),
        ping=one.ping or "",
        tcp=Tcp(*split_address(one.tcp)) if one.tcp is not None else None,
        http=http,
        dns=None
        if one.dns is None
        else Dns(one.dns.name, one.dns.record, one.dns.server or "", one.dns.port, one.dns.expect),
    )


def _query(one: QueryWatch, servers: Mapping[str, PrometheusWatch]) -> watches.Query:
    hold = parse_duration(one.hold)
    low = one.above is None
    opens = float((one.below if low else one.above) or 0)
    closes = _closing(opens, 0.0 if one.clear is None else abs(one.clear - opens), low)
    return watches.Query(
        server=one.server or next(iter(servers)),
        expression=one.query,
        interval=parse_duration(one.interval),
        timeout=parse_duration(one.timeout),
        limits=(Limit(one.severity, opens, closes, hold, _calm(hold)),),
        unit=one.unit,
        absent=(Limit("warning", 1, 0, hold, 0),) if one.absent == "finding" else (),
    )


def _database(name: str, one: DatabaseWatch) -> watches.Database:
    return watches.Database(
        credential=f"database-{name}",
        interval=parse_duration(one.interval),
        timeout=parse_duration(one.timeout),
        query=one.query,
        unreachable=_unreachable(one.severity, one.hold, one.interval),
        slow=_slow(one.slow, one.hold),
        file=one.url,
    )


def _every(written: str | bool, default: int) -> int:
    if isinstance(written, bool):
        return default if written else 0
    return parse_duration(written)


def resolve(declared: Watching) -> Watches:
    """Return what the keeper reads; `declared` must break no rule, see `breaches`."""
    watch, servers = declared.watch, declared.prometheus
    named = isinstance(watch.interfaces, tuple)
    host = {name: limits(name, getattr(watch, name)) for name in TABLE if name not in _NOT_OF_THE_HOST}
    credentials = {f"database-{name}": one.url for name, one in declared.databases.items()}
    credentials |= {
        f"prometheus-{name}": one.authorization for name, one in servers.items() if one.authorization
    }
    return Watches(
        interval=parse_duration(watch.interval),
        limits={name: found for name, found in host.items() if found},
        interfaces=watch.interfaces if isinstance(watch.interfaces, tuple) else (),
        all_interfaces=not named and bool(watch.interfaces),
        smart_interval=_every(watch.smart, _HOUR),
        journal_interval=_every(watch.journal, 10 * _MINUTE),
        disk=_disk(watch, DiskWatch()),
        disks={path: _disk(watch, one) if one.watch else None for path, one in declared.disks.items()},
        endpoints={name: _endpoint(one) for name, one in declared.endpoints.items()},
        prometheus={
            name: watches.Prometheus(
                url=one.url.rstrip("/"),
                interval=parse_duration(one.interval),
                timeout=parse_duration(one.timeout),
                alerts=one.alerts,
                ignore=one.ignore,
                credential=f"prometheus-{name}" if one.authorization else "",
                file=one.authorization or "",
            )
            for name, one in servers.items()
        },
        queries={name: _query(one, servers) for name, one in declared.queries.items()},
        databases={name: _database(name, one) for name, one in declared.databases.items()},
        credentials=credentials,
    )
