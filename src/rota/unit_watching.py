"""What a person declares of the units that Home Keeper watches, here and by SSH, and what it comes to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, StringConstraints

from rota.keeper_rules import matches
from rota.quantity import INFINITY, USEC, format_duration, parse_duration
from rota.record import AbsolutePath, CredentialFile, Duration, Record, key
from rota.rules import Breach
from rota.unit_watches import OURS, Host, Hosts, Units
from rota.watching import Host as Address
from rota.watching import Severity, WatchName

_TYPES = "service|socket|device|mount|automount|swap|target|path|timer|slice|scope"
_NAME = re.compile(rf"[A-Za-z0-9:_.\\@-]{{1,240}}\.({_TYPES})")
"""systemd.unit(5)."""
_PATTERN = re.compile(r"[A-Za-z0-9:_.\\@*?-]{1,255}")
_DAY = 86_400 * USEC


def _unit(text: str) -> str:
    if not _NAME.fullmatch(text):
        with_type = "" if re.search(rf"\.({_TYPES})$", text) else f"{text}.service"
        example = with_type if _NAME.fullmatch(with_type) else "nginx.service"
        raise ValueError(f'is no name of a unit; write for example "{example}"')
    return text


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError('is no name of units; write for example "nginx.service" or "*.mount"')
    return text


UnitName = Annotated[StrictStr, AfterValidator(_unit)]
UnitPattern = Annotated[StrictStr, AfterValidator(_pattern)]
UserName = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$")]

_STOPPED = (
    "What it means that somebody stopped a unit of running, or a timer: note (it is shown, and left as it "
    "is) or finding (as if it had ended by itself). One that was stopped with a unit that it needs counts as "
    "ended by itself."
)


class UnitWatch(Record):
    """How the units of this machine are watched; units of agents are not: rotad knows of them."""

    watch: StrictBool = key(True, "false: not at all.", False)
    ignore: tuple[UnitPattern, ...] = key(
        (), "Units that are not: names, or patterns with * and ?.", ["*.mount"]
    )
    running: tuple[UnitName, ...] = key(
        (), "Units that are to be active at all times: to be inactive is a finding.", ["nginx.service"]
    )
    stopped: Literal["note", "finding"] = key("note", _STOPPED, "finding")
    timers: StrictBool = key(
        True,
        "Timers that an active unit wants, as timers.target does, are to be active; false: need not.",
        False,
    )
    stuck: Duration = key(
        "5min",
        "A unit that starts, stops or reloads for longer is stuck; its own TimeoutStartSec= or "
        "TimeoutStopSec= counts where it is longer, and Type=oneshot may take its time.",
        "15min",
    )
    restarts: StrictInt = key(
        5, "A service that systemd restarted so often within is in a loop.", 3, ge=2, le=100
    )
    within: Duration = key("10min", "See restarts.", "1h")


class HostWatch(Record):
    """Another machine, whose units are looked at by SSH; see docs/hosts.md for what it needs."""

    address: Address = Field(description="Its name or address.", examples=["nas.home"])
    port: StrictInt = key(22, "The port of its SSH server.", 2222, ge=1, le=65535)
    user: UserName = key("rota-probe", "Who is logged in there.", "probe")
    identity: CredentialFile = Field(
        description="File with the private key, without a passphrase.", examples=["/etc/rota/secrets/nas-key"]
    )
    known_hosts: AbsolutePath = Field(
        description="File with the keys by which the machine is known, as ssh-keyscan writes it.",
        examples=["/etc/rota/nas-known-hosts"],
    )
    interval: Duration = key("30s", "From one look to the next.", "1min")
    timeout: Duration = key("10s", "A look takes no longer, connecting included.", "20s")
    patience: Duration = key("2min", "So long a machine may give no answer before it is a finding.", "1h")
    severity: Severity = key("warning", "How bad that is.", "critical")
    ignore: tuple[UnitPattern, ...] | None = key(None, "As in [keeper.units], instead of it.", ["*.mount"])
    running: tuple[UnitName, ...] = key((), "As in [keeper.units], of that machine.", ["smbd.service"])
    timers: StrictBool | None = key(None, "As in [keeper.units].", False)
    stuck: Duration | None = key(None, "As in [keeper.units].", "15min")
    restarts: StrictInt | None = key(None, "As in [keeper.units].", 3, ge=2, le=100)
    within: Duration | None = key(None, "As in [keeper.units].", "1h")


class UnitWatching(Record):
    """The keys of [keeper] about units."""

    units: UnitWatch = key(UnitWatch(), "The units of this machine.", {"running": ["nginx.service"]})
    hosts: Mapping[WatchName, HostWatch] = key(
        {},
        "Other machines, by the name that they have in targets: unit:nas/smbd.service.",
        {
            "nas": {
                "address": "nas.home",
                "identity": "/etc/rota/secrets/nas-key",
                "known_hosts": "/etc/rota/nas-known-hosts",
            }
        },
    )


def _span(key: str, text: str, least: int, most: int = 366 * _DAY) -> Iterator[Breach]:
    span = parse_duration(text)
    if span >= INFINITY:
        yield Breach(key, "must have an end", text)
    elif span < least:
        yield Breach(key, f"must be at least {format_duration(least)}", text)
    elif span > most:
        yield Breach(key, f"must be {format_duration(most)} or less", text)


def _unwatched(key: str, running: tuple[str, ...], ignore: tuple[str, ...]) -> Iterator[Breach]:
    for index, unit in enumerate(running):
        where = f"{key}.running[{index}]"
        if any(matches(pattern, unit) for pattern in OURS):
            yield Breach(where, "is a unit of an agent, which rotad knows of; leave it out", unit)
        elif pattern := next((pattern for pattern in ignore if matches(pattern, unit)), ""):
            yield Breach(where, f'is to be ignored ("{pattern}"); keep one of both', unit)


def breaches(declared: UnitWatching) -> Iterator[Breach]:
    """Yield every rule between keys that is broken; keys are those below [keeper]."""
    units = declared.units
    yield from _span("units.stuck", units.stuck, 10 * USEC)
    yield from _span("units.within", units.within, USEC)
    yield from _unwatched("units", units.running, units.ignore)
    for name, host in declared.hosts.items():
        key = f"hosts.{name}"
        yield from _span(f"{key}.interval", host.interval, USEC, _DAY)
        yield from _span(f"{key}.timeout", host.timeout, USEC)
        yield from _span(f"{key}.patience", host.patience, 0)
        if parse_duration(host.timeout) > parse_duration(host.interval):
            told = f"must not be longer than interval, which is {host.interval}"
            yield Breach(f"{key}.timeout", told, host.timeout)
        if host.stuck is not None:
            yield from _span(f"{key}.stuck", host.stuck, 10 * USEC)
        if host.within is not None:
            yield from _span(f"{key}.within", host.within, USEC)
        ignore = units.ignore if host.ignore is None else host.ignore
        yield from _unwatched(key, host.running, ignore)


def _host(name: str, one: HostWatch, units: UnitWatch) -> Host:
    def inherited(key: str) -> str:
        own = getattr(one, key)
        return str(getattr(units, key) if own is None else own)

    return Host(
        address=one.address,
        port=one.port,
        user=one.user,
        key=f"host-{name}-key",
        known_hosts=f"host-{name}-known-hosts",
        key_file=one.identity,
        known_hosts_file=one.known_hosts,
        interval=parse_duration(one.interval),
        timeout=parse_duration(one.timeout),
        patience=parse_duration(one.patience),
        severity=one.severity,
        units=Units(
            ignore=units.ignore if one.ignore is None else one.ignore,
            running=one.running,
            stopped=units.stopped,
            timers=units.timers if one.timers is None else one.timers,
            stuck=parse_duration(inherited("stuck")),
            restarts=units.restarts if one.restarts is None else one.restarts,
            within=parse_duration(inherited("within")),
        ),
    )


def resolve(declared: UnitWatching) -> tuple[Units, Hosts]:
    """Return what the keeper reads; `declared` must break no rule, see `breaches`."""
    units, hosts = declared.units, declared.hosts
    credentials = {f"host-{name}-key": one.identity for name, one in hosts.items()}
    credentials |= {f"host-{name}-known-hosts": one.known_hosts for name, one in hosts.items()}
    here = Units(
        watch=units.watch,
        ignore=units.ignore,
        running=units.running,
        stopped=units.stopped,
        timers=units.timers,
        stuck=parse_duration(units.stuck),
        restarts=units.restarts,
        within=parse_duration(units.within),
    )
    return here, Hosts({name: _host(name, one, units) for name, one in hosts.items()}, credentials)
