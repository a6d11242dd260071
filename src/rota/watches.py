"""What Home Keeper polls, resolved: frozen dataclasses, to JSON and back by `frozen`, without pydantic.

Made by `watching` from what a person declared. Spans are microseconds, sizes bytes, shares percent (0 to
100).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rota.quantity import USEC, format_duration


@dataclass(frozen=True, slots=True)
class Limit:
    """When a value is bad, and when it is good again.

    Attributes:
        severity: of the finding that it opens.
        opens: the value at which it is bad.
        closes: the value at which it is good. Below `opens`, bad is high; above it, bad is low; never
            equal to it.
        hold: how long it must be bad before the finding opens.
        calm: how long it must be good before the finding closes.
    """

    severity: str
    opens: float
    closes: float
    hold: int = 0
    calm: int = 0

    def bad(self, value: float) -> bool:
        """Return whether `value` opens the finding."""
        return value <= self.opens if self.opens < self.closes else value >= self.opens

    def good(self, value: float) -> bool:
        """Return whether `value` closes the finding."""
        return value >= self.closes if self.opens < self.closes else value <= self.closes


Limits = tuple[Limit, ...]
"""Each of another severity; none: not watched."""


@dataclass(frozen=True, slots=True)
class Disk:
    """How one file system is watched, or all others.

    Attributes:
        space: limits of the share of its bytes that is in use.
        inodes: limits of the share of its inodes that is in use.
        enough: with so many bytes left it is not full, whatever the share.
        required: it is a finding that nothing is mounted there.
    """

    space: Limits = ()
    inodes: Limits = ()
    enough: int = 0
    required: bool = False


def shown(url: str) -> str:
    """Return a URL as everybody may read it: without user, password, query and fragment."""
    return re.sub(r"^((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)[^/]*@", r"\1", re.split(r"[?#]", url, maxsplit=1)[0])


@dataclass(frozen=True, slots=True)
class Tcp:
    """Where somebody accepts connections."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Http:
    """A request, and what is expected of its answer.

    Attributes:
        url: http or https.
        status: answers that are right; none: 200 to 299.
        body: text that must be in the answer, within its first MiB; "" for any.
        certificate: limits of the days that the certificate is still valid.
        verify: whether the certificate must be trusted.
        ca: file with the certificates that are trusted beside the system's own; "" for none.
    """

    url: str
    status: tuple[int, ...] = ()
    body: str = ""
    certificate: Limits = ()
    verify: bool = True
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Dns:
    """A question, and what is expected of its answer.

    Attributes:
        name: what is asked for.
        record: A, AAAA, CNAME, MX, NS, PTR or TXT.
        server: address of the server, "" for the machine's own.
        port: of the server.
        expect: what must be among the answers; none: any answer.
    """

    name: str
    record: str = "A"
    server: str = ""
    port: int = 53
    expect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Something on the network; exactly one of ping, tcp, http and dns is there.

    Attributes:
        interval: from one try to the next.
        timeout: of one try.
        unreachable: limits of 0 (an answer) and 1 (none, or a wrong one).
        slow: limits of the time that an answer takes, in seconds.
        ping: host.
        tcp: connection.
        http: request.
        dns: question.
    """

    interval: int
    timeout: int
    unreachable: Limits
    slow: Limits = ()
    ping: str = ""
    tcp: Tcp | None = None
    http: Http | None = None
    dns: Dns | None = None


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus server.

    Attributes:
        url: its address, without /api.
        interval: from one look at its alerts to the next.
        timeout: of one answer.
        alerts: whether its firing alerts are findings.
        ignore: names of alerts that are none.
        credential: name of the credential that holds its Authorization header; "" for none.
        file: where that is from, as it was declared.
    """

    url: str
    interval: int
    timeout: int
    alerts: bool = True
    ignore: tuple[str, ...] = ()
    credential: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL query; the worst of its series counts.

    Attributes:
        server: name of the Prometheus server.
        expression: PromQL.
        interval: from one evaluation to the next.
        timeout: of one answer.
        limits: of the values.
        unit: put behind the values when they are told.
        absent: limits of 1 (there is no series) and 0; none: no series is fine.
    """

    server: str
    expression: str
    interval: int
    timeout: int
    limits: Limits
    unit: str = ""
    absent: Limits = ()


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL database.

    Attributes:
        credential: name of the credential that holds its URL.
        interval: from one try to the next.
        timeout: of one try, connecting included.
        query: what is asked; any answer will do.
        unreachable: limits of 0 (an answer) and 1 (none).
        slow: limits of the time that an answer takes, in seconds.
        file: where the credential is from, as it was declared.
    """

    credential: str
    interval: int
    timeout: int
    query: str
    unreachable: Limits
    slow: Limits = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class Watches:
    """All that is polled.

    Attributes:
        interval: from one look at the host to the next.
        limits: of what is measured of the host, by the key of [keeper.watch]; absent: not watched.
        interfaces: network interfaces whose carrier is watched.
        all_interfaces: whether all that are hardware, and had a carrier once, are watched.
        smart_interval: from one look at the disks' own diagnosis to the next; 0: none.
        journal_interval: from one entry written to the journal and read back to the next; 0: none.
        disk: how file systems are watched that are not in `disks`; None: they are not.
        disks: by mount point; None: not watched.
        endpoints: by name.
        prometheus: servers by name.
        queries: by name.
        databases: by name.
        credentials: files that hold secrets, by the names under which systemd hands them over.
    """

    interval: int = 15_000_000
    limits: Mapping[str, Limits] = field(default_factory=dict)
    interfaces: tuple[str, ...] = ()
    all_interfaces: bool = False
    smart_interval: int = 0
    journal_interval: int = 0
    disk: Disk | None = None
    disks: Mapping[str, Disk | None] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    prometheus: Mapping[str, Prometheus] = field(default_factory=dict)
    queries: Mapping[str, Query] = field(default_factory=dict)
    databases: Mapping[str, Database] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)


def seconds(number: float) -> str:
    """Return seconds in words: "30s", "1h 30min"."""
    return format_duration(round(number * USEC))
