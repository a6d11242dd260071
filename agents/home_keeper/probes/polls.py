"""Which checks there are, by what was declared: each a probe and a judge, bound together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from rota.watches import Database, Endpoint, Prometheus, Query, Watches

from ..checks import disks, hardware, network, upkeep
from ..checks import host as host_checks
from ..checks.network import Tried
from ..checks.readings import Reading
from ..checks.words import SECOND
from . import clock, gpus, host, services
from .disks import Volumes
from .drives import Reported
from .http import try_http
from .network import dns, ping, tcp
from .polling import Poll
from .rotad import RotadProbe
from .threads import Threads

_TIMEOUT = 10 * SECOND
_PATIENCE = 5 * SECOND
_ROTAD_INTERVAL = 30 * SECOND
_JOURNAL_PATIENCE = 20


def polls(watches: Watches) -> list[Poll[Any]]:
    """Return all checks that are polled."""
    # A dead name server is to take no thread that a disk needs, nor a dead network file system one of a name.
    threads, names = Threads(), Threads()
    return [
        *_host(watches),
        *_hardware(watches, threads),
        *_upkeep(watches, threads),
        *(_endpoint(name, one, names) for name, one in watches.endpoints.items()),
        *(_alerts(name, one, names) for name, one in watches.prometheus.items() if one.alerts),
        *(_query(name, one, watches.prometheus[one.server], names) for name, one in watches.queries.items()),
        *(_database(name, one) for name, one in watches.databases.items()),
    ]


def _any(watches: Watches, *keys: str) -> bool:
    return any(watches.limits.get(key) for key in keys)


def _host(watches: Watches) -> Iterator[Poll[Any]]:
    limits, interval = watches.limits, watches.interval
    if _any(watches, "cpu", "load"):
        judge = host_checks.processors
        yield Poll("processors", interval, _TIMEOUT, host.Processors(), lambda facts, _: judge(facts, limits))
    if _any(watches, "memory", "swap"):
        yield Poll(
            "memory", interval, _TIMEOUT, host.memory, lambda facts, _: host_checks.memory(facts, limits)
        )
    if _any(watches, "pressure_cpu", "pressure_memory", "pressure_io"):
        yield Poll(
            "pressure",
            interval,
            _TIMEOUT,
            host.pressure,
            lambda facts, _: host_checks.pressure(facts, limits),
        )


def _hardware(watches: Watches, threads: Threads) -> Iterator[Poll[Any]]:
    limits, interval = watches.limits, watches.interval
    if watches.disk is not None or any(watches.disks.values()):
        look = Volumes(Threads(), _PATIENCE, frozenset(watches.disks))
        yield Poll(
            "disks",
            interval,
            _TIMEOUT,
            look,
            lambda facts, _: disks.volumes(facts, watches.disk, watches.disks),
            look.recall,
        )
    if watches.smart_interval:
        # A report is there to be read as soon as it is made.
        said = Reported(watches.smart_interval)
        yield Poll("drives", interval, _TIMEOUT, said, lambda facts, _: disks.drives(facts))
    if _any(watches, "temperature"):
        judge, sensors = hardware.temperatures, partial(threads.run, "sensors", host.sensors)
        yield Poll("sensors", interval, _TIMEOUT, sensors, lambda facts, _: judge(facts, limits))
    if _any(watches, "gpu_memory", "gpu_temperature"):
        cards = gpus.Gpus(threads)
        yield Poll(
            "gpus", interval, _TIMEOUT, cards, lambda facts, _: hardware.gpus(facts, limits), cards.recall
        )
    if _any(watches, "battery"):
        charge, batteries = hardware.batteries, partial(threads.run, "batteries", host.batteries)
        yield Poll("batteries", interval, _TIMEOUT, batteries, lambda facts, _: charge(facts, limits))
    if watches.interfaces or watches.all_interfaces:
        links = host.Interfaces(watches.interfaces)

        def carriers(facts: Iterable[hardware.Interface], _: int) -> Iterator[Reading]:
            return hardware.interfaces(facts, watches.interfaces, links.had if watches.all_interfaces else ())

        yield Poll("interfaces", interval, _TIMEOUT, links, carriers, links.recall)


def _upkeep(watches: Watches, threads: Threads) -> Iterator[Poll[Any]]:
    limits, interval = watches.limits, watches.interval
    if _any(watches, "clock"):
        tells = clock.SystemClock()
        yield Poll(
            "clock", interval, _TIMEOUT, tells, lambda facts, _: upkeep.clock(facts, limits), tells.recall
        )
    if watches.journal_interval:
        look = partial(clock.journal, threads, _JOURNAL_PATIENCE)
        timeout = (_JOURNAL_PATIENCE + 10) * SECOND
        yield Poll("journal", watches.journal_interval, timeout, look, lambda facts, _: upkeep.journal(facts))
    if _any(watches, "rotad", "rotad_lag", "failing", "missed"):
        often = max(interval, _ROTAD_INTERVAL)
        ask = RotadProbe(_TIMEOUT)
        yield Poll(
            "rotad", often, 2 * _TIMEOUT, ask, lambda facts, _: upkeep.rotad(facts, limits), ask.recall
        )


def _endpoint(name: str, rules: Endpoint, threads: Threads) -> Poll[Any]:
    async def look() -> Tried:
        if rules.tcp is not None:
            return await tcp(threads, rules.tcp, rules.timeout)
        if rules.http is not None:
            return await try_http(threads, rules.http, rules.timeout)
        if rules.dns is not None:
            return await dns(threads, rules.dns, rules.timeout)
        return await ping(threads, rules.ping, rules.timeout)

    # The probe keeps to its timeout itself, and says so of the endpoint; the check's is for when it does not.
    return Poll(
        f"endpoint-{name}", rules.interval, rules.timeout + SECOND, look,
        lambda facts, now: network.endpoint(name, facts, rules, now),
    )  # fmt: skip


def _alerts(name: str, server: Prometheus, threads: Threads) -> Poll[Any]:
    return Poll(
        f"alerts-{name}", server.interval, server.timeout + SECOND, partial(services.alerts, threads, server),
        lambda facts, _: network.alerts(name, facts, server.ignore),
    )  # fmt: skip


def _query(name: str, rules: Query, server: Prometheus, threads: Threads) -> Poll[Any]:
    look = partial(services.query, threads, server, rules)
    return Poll(
        f"query-{name}", rules.interval, rules.timeout + SECOND, look,
        lambda facts, _: network.query(name, facts, rules),
    )  # fmt: skip


def _database(name: str, rules: Database) -> Poll[Any]:
    return Poll(
        f"database-{name}", rules.interval, rules.timeout + SECOND, partial(services.database, rules),
        lambda facts, _: network.database(name, facts, rules),
    )  # fmt: skip
