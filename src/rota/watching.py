"""What a person declares of what Home Keeper polls, and what it comes to.

Thresholds that are not written have the defaults of `TABLE`; `resolve` puts them together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
)

from rota.quantity import parse_percent
from rota.record import (
    AbsolutePath,
    CredentialFile,
    Duration,
    Line,
    Record,
    Size,
    checked,
    key,
)
from rota.watches import seconds

Number = StrictInt | StrictFloat
Severity = Literal["info", "warning", "critical"]
WatchName = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
InterfaceName = Annotated[StrictStr, StringConstraints(pattern=r"^[^\s/:]{1,15}$")]


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of "nas:22" or "[fd00::1]:22".

    Raises:
        ValueError: what is wrong with it.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError('an IPv6 address goes into brackets: "[fd00::1]:22"')
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError('has no port; write for example "nas:22"')
    _host(host)
    return host, int(port)


def _host(text: str) -> str:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", text):
            raise ValueError('not a host\'s name or address; write for example "192.168.1.1"') from None
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not text.isascii() or re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError('not a URL; write for example "https://nas.home/health"')
    if parts.username is not None:
        raise ValueError("must not contain a user's name or password: everybody may read it")
    return text


def _percent(value: object) -> object:
    if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", str(value)):
        raise ValueError(f'has no %; write "{str(value).partition(".")[0]}%"')
    if isinstance(value, str):
        try:
            parse_percent(value)
        except ValueError:
            raise ValueError('not a whole percentage above 0; write for example "90%"') from None
    return value


Percent = Annotated[StrictStr, BeforeValidator(_percent)]
Host = Annotated[StrictStr, AfterValidator(_host)]
Address = Annotated[StrictStr, checked(split_address)]
Url = Annotated[StrictStr, AfterValidator(_url)]


class Percents(Record):
    """Limits in percent; what is not written is the watch's own default."""

    warning: Percent | None = key(None, "A warning from here on.", "90%")
    critical: Percent | None = key(None, "Critical from here on.", "97%")
    margin: Percent | None = key(None, "The finding closes when the value is so far on the good side.", "5%")
    hold: Duration | None = key(None, "It must be bad for so long first.", "1min")


class Numbers(Record):
    """Limits as numbers; what is not written is the watch's own default."""

    warning: Number | None = key(None, "A warning from here on.", 3)
    critical: Number | None = key(None, "Critical from here on.", 10)
    margin: Number | None = key(None, "The finding closes when the value is so far on the good side.", 1)
    hold: Duration | None = key(None, "It must be bad for so long first.", "1min")


class Spans(Record):
    """Limits as spans of time; what is not written is the watch's own default."""

    warning: Duration | None = key(None, "A warning from here on.", "1min")
    critical: Duration | None = key(None, "Critical from here on.", "10min")
    margin: Duration | None = key(
        None, "The finding closes when the value is so far on the good side.", "10s"
    )
    hold: Duration | None = key(None, "It must be bad for so long first.", "1min")


class Row(NamedTuple):
    """What is watched of the host by default; the numbers in the unit of their record, None for never."""

    what: str
    warning: float | None
    critical: float | None
    margin: float
    hold: str
    low: bool = False
    unit: str = "%"


TABLE: Mapping[str, Row] = {
    "cpu": Row("Processor time in use, of all processors", 95, None, 10, "10min"),
    "load": Row("Load average of five minutes, per processor", 4, None, 1, "10min", unit=""),
    "memory": Row("Memory that is not available", 90, 97, 5, "1min"),
    "swap": Row("Swap in use", 80, 95, 10, "5min"),
    "pressure_cpu": Row("Time some task waits for a processor (PSI, a minute)", 80, None, 20, "10min"),
    "pressure_memory": Row("Time all tasks wait for memory (PSI, a minute)", 10, 40, 5, "1min"),
    "pressure_io": Row("Time all tasks wait for disks (PSI, a minute)", 60, None, 20, "5min"),
    "space": Row("Bytes of a file system in use, as df counts", 90, 97, 3, "30s"),
    "inodes": Row("Inodes of a file system in use", 90, 97, 3, "30s"),
    "temperature": Row(
        "Degrees left to a sensor's own critical temperature (of 95 °C, if it has none)",
        10, 3, 5, "1min", low=True, unit=" °C",
    ),
    "gpu_memory": Row("Memory of an NVIDIA GPU in use", 97, None, 7, "10min"),
    "gpu_temperature": Row(
        "Degrees left to where an NVIDIA GPU slows down", 5, 0, 5, "1min", low=True, unit=" °C"
    ),
    "battery": Row("Charge left while discharging", 20, 7, 5, "30s", low=True),
    "certificate": Row("How long a certificate is still valid", 1_209_600, 259_200, 3600, "0s", True, "s"),
    "clock": Row("For how long the clock has not been synchronised", 1800, None, 0, "0s", unit="s"),
    "failing": Row("Runs of an agent that failed one after the other", 3, None, 1, "0s", unit=""),
    "missed": Row("Slots that an agent missed since its last run", 1, None, 1, "0s", unit=""),
    "rotad_lag": Row("How far rotad's record is behind the journal", 60, 600, 30, "30s", unit="s"),
    "rotad": Row("For how long rotad has not answered", 30, 120, 0, "0s", unit="s"),
}  # fmt: skip
"""By key of [keeper.watch]; `certificate` is one of endpoints."""

_INTERVAL, _TIMEOUT, _HOLD = "30s", "5s", "1min"


def _told(name: str) -> str:
    row = TABLE[name]

    def value(number: float) -> str:
        if row.unit == "s":
            return seconds(number)
        return f"{number:g}{row.unit}"

    parts = [
        f"{severity} {'at or below' if row.low else 'from'} {value(number)}"
        for severity, number in (("warning", row.warning), ("critical", row.critical))
        if number is not None
    ]
    if row.margin:
        parts.append(f"margin {value(row.margin)}")
    if row.hold != "0s":
        parts.append(f"hold {row.hold}")
    return f"{row.what}: {', '.join(parts)}; false: not watched."


def _limit(name: str, *examples: object) -> Any:
    return key(True, _told(name), *examples)


class Watch(Record):
    """What is watched of this machine: true for the defaults, false for not at all, or other limits."""

    interval: Duration = key("15s", "From one look at the host to the next.")
    cpu: Percents | StrictBool = _limit("cpu", {"warning": "90%", "hold": "30min"})
    load: Numbers | StrictBool = _limit("load", {"warning": 2.5})
    memory: Percents | StrictBool = _limit("memory", {"critical": "95%"})
    swap: Percents | StrictBool = _limit("swap", False)
    pressure_cpu: Percents | StrictBool = _limit("pressure_cpu", {"warning": "90%"})
    pressure_memory: Percents | StrictBool = _limit("pressure_memory", {"warning": "20%"})
    pressure_io: Percents | StrictBool = _limit("pressure_io", {"hold": "20min"})
    space: Percents | StrictBool = _limit("space", {"warning": "85%", "critical": "95%"})
    inodes: Percents | StrictBool = _limit("inodes", {"warning": "85%"})
    enough: Size = key("100G", "A file system with so many bytes left is not full, whatever the share.")
    temperature: Numbers | StrictBool = _limit("temperature", {"warning": 15})
    gpu_memory: Percents | StrictBool = _limit("gpu_memory", False)
    gpu_temperature: Numbers | StrictBool = _limit("gpu_temperature", {"warning": 8})
    battery: Percents | StrictBool = _limit("battery", {"warning": "30%"})
    clock: Spans | StrictBool = _limit("clock", {"warning": "2h"})
    failing: Numbers | StrictBool = _limit("failing", {"warning": 2})
    missed: Numbers | StrictBool = _limit("missed", {"warning": 2})
    rotad_lag: Spans | StrictBool = _limit("rotad_lag", {"warning": "5min"})
    rotad: Spans | StrictBool = _limit("rotad", {"warning": "1min"})
    smart: Duration | StrictBool = key(
        True,
        "How often disks are asked for their own diagnosis by smartctl, where it is, as root by"
        " rotad-smart.service; true: 1h.",
        "6h",
    )
    journal: Duration | StrictBool = key(
        True, "How often an entry is written to the journal and read back; true: 10min.", "1h"
    )
    interfaces: tuple[InterfaceName, ...] | StrictBool = key(
        True,
        "Network interfaces that must have a carrier; true: all that are hardware, once they had one.",
        ["eth0"],
    )


class DiskWatch(Record):
    """How the file system mounted at this path is watched; what is not written is as in [keeper.watch]."""

    watch: StrictBool = key(True, "false: not watched.", False)
    space: Percents | StrictBool = key(True, "Limits of the share of bytes in use.", {"warning": "95%"})
    inodes: Percents | StrictBool = key(True, "Limits of the share of inodes in use.", False)
    enough: Size | None = key(None, "With so many bytes left it is not full, whatever the share.", "5G")
    required: StrictBool = key(False, "true: it is a finding that nothing is mounted there.", True)


class DnsWatch(Record):
    """A question to a name server."""

    name: Host = Field(description="What is asked for.", examples=["nas.home"])
    record: Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"] = key(
        "A", "Which kind of record.", "AAAA"
    )
    server: Host | None = key(None, "The server that is asked; the machine's own by default.", "192.168.1.1")
    port: StrictInt = key(53, "The server's port.", 5353, ge=1, le=65535)
    expect: tuple[Line, ...] = key((), "What must be among the answers; none: any.", ["192.168.1.2"])


class EndpointWatch(Record):
    """Something on the network: exactly one of ping, tcp, http and dns."""

    ping: Host | None = key(None, "A host that answers pings.", "192.168.1.1")
    tcp: Address | None = key(None, "A host and a port where somebody accepts connections.", "nas:22")
    http: Url | None = key(
        None,
        "A URL; redirects are not followed. Its query is not told, but everybody may read it in a unit.",
        "https://nas.home/health",
    )
    dns: DnsWatch | None = key(None, "A question to a name server.", {"name": "nas.home"})
    interval: Duration = key(_INTERVAL, "From one try to the next.")
    timeout: Duration = key(_TIMEOUT, "A try takes no longer.")
    hold: Duration = key(_HOLD, "It must be unreachable for so long, or answer wrongly, first.", "0s")
    severity: Severity = key("critical", "How bad it is if it is unreachable.", "warning")
    slow: Duration | None = key(None, "An answer that takes longer, for as long as hold, is a warning.", "2s")
    status: tuple[StrictInt, ...] = key(
        (), "With http: answers that are right; none: 200 to 299.", [200, 401]
    )
    body: StrictStr = key("", "With http: text that must be in the first MiB of the answer.", "healthy")
    certificate: Spans | StrictBool = _limit("certificate", {"warning": "30d"})
    verify: StrictBool = key(True, "With https: false: the certificate need not be trusted.", False)
    ca: AbsolutePath | None = key(
        None, "With https: certificates that are trusted too.", "/etc/ssl/home-ca.pem"
    )


class PrometheusWatch(Record):
    """A Prometheus server."""

    url: Url = Field(description="Its address.", examples=["http://localhost:9090"])
    alerts: StrictBool = key(True, "false: its firing alerts are no findings.", False)
    ignore: tuple[Line, ...] = key((), "Names of alerts that are no findings.", ["Watchdog"])
    interval: Duration = key("15s", "From one look at its alerts to the next.")
    timeout: Duration = key(_TIMEOUT, "An answer takes no longer.")
    authorization: CredentialFile | None = key(
        None, "File with the Authorization header that it wants.", "/etc/rota/secrets/prometheus"
    )


class QueryWatch(Record):
    """A PromQL query with a limit: exactly one of above and below."""

    query: Line = Field(description="PromQL; the worst of its series counts.", examples=["room_celsius"])
    server: WatchName | None = key(None, "Which server; not needed if there is one only.", "main")
    above: Number | None = key(None, "Bad from here up.", 30)
    below: Number | None = key(None, "Bad from here down.", 5)
    clear: Number | None = key(None, "Good again from here; as above or below by default.", 28)
    hold: Duration = key("0s", "It must be bad for so long first.", "5min")
    severity: Severity = key("warning", "How bad it is.", "critical")
    unit: Line = key("", "Put behind the values when they are told.", " °C")
    absent: Literal["finding", "fine"] = key("finding", "What it means that there is no series.", "fine")
    interval: Duration = key(_INTERVAL, "From one evaluation to the next.")
    timeout: Duration = key(_TIMEOUT, "An answer takes no longer.")


class DatabaseWatch(Record):
    """A PostgreSQL database."""

    url: CredentialFile = Field(
        description="File that holds the URL, postgresql://USER:PASSWORD@HOST/NAME; never the URL itself.",
        examples=["/etc/rota/secrets/main-db"],
    )
    query: Line = key("SELECT 1", "What is asked; any answer will do.")
    interval: Duration = key(_INTERVAL, "From one try to the next.")
    timeout: Duration = key(_TIMEOUT, "A try takes no longer, connecting included.")
    hold: Duration = key(_HOLD, "It must be unreachable for so long first.", "0s")
    severity: Severity = key("critical", "How bad it is if it is unreachable.", "warning")
    slow: Duration | None = key(None, "An answer that takes longer, for as long as hold, is a warning.", "2s")


class Watching(Record):
    """The keys of [keeper] that say what is polled."""

    watch: Watch = key(Watch(), "What is watched of this machine.", {"swap": False})
    disks: Mapping[AbsolutePath, DiskWatch] = key(
        {}, "File systems by mount point.", {"/srv": {"enough": "5G"}}
    )
    endpoints: Mapping[WatchName, EndpointWatch] = key(
        {}, "Devices and services on the network.", {"router": {"ping": "192.168.1.1"}}
    )
    prometheus: Mapping[WatchName, PrometheusWatch] = key(
        {}, "Prometheus servers.", {"main": {"url": "http://localhost:9090"}}
    )
    queries: Mapping[WatchName, QueryWatch] = key(
        {}, "PromQL queries.", {"hot": {"query": "room_celsius", "above": 30}}
    )
    databases: Mapping[WatchName, DatabaseWatch] = key(
        {}, "PostgreSQL databases.", {"main": {"url": "/etc/rota/secrets/main-db"}}
    )
