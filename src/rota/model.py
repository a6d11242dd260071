"""What a person declares: agents and settings, as frozen records that refuse unknown keys.

The same keys serve TOML (snake_case), JSON and, in camelCase, the NixOS options. A key marked
`later` belongs to the schema but not to this version: `load` refuses it by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
)

from rota import cron, listen, quantity, quiet

Priority = Literal["critical", "high", "medium", "low", "background"]
Kind = Literal["failure", "recovery", "success", "missed", "escalation"]


def _checked(parse: Callable[[str], object]) -> AfterValidator:
    """Keep the text as written; `parse` only has to accept it."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    if text.endswith("\\"):
        raise ValueError("must not end in a backslash, which would join it to the next line of the unit")
    return text


def _absolute(text: str) -> str:
    _one_line(text)
    if not text.startswith("/"):
        raise ValueError("must be an absolute path, beginning with /")
    parts = text.rstrip("/").split("/")[1:]
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("must not contain .., . or //; write the path it leads to")
    if len(text.encode()) > 4095 or any(len(part.encode()) > 255 for part in parts):
        raise ValueError("is longer than Linux allows: 255 bytes between slashes, 4095 in all")
    return text


def _search_directory(text: str) -> str:
    if re.search(r"""[:'"\\]""", text):
        raise ValueError("must not contain colons, quotes or backslashes: it becomes part of a search path")
    return _absolute(text)


def _environment_file(text: str) -> str:
    _absolute(text.removeprefix("-"))
    return text


def _network(text: str) -> str:
    if text in ("any", "localhost", "link-local", "multicast"):
        return text
    try:
        found = ip_network(text)
    except ValueError as error:
        reason = str(error).removeprefix(repr(text)).removeprefix(text).strip()
        raise ValueError(f'{reason}; write an address or a prefix such as "10.0.0.0/8"') from None
    if not re.fullmatch(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?", text):
        raise ValueError(f'systemd takes neither netmasks nor zones; write "{found.with_prefixlen}"')
    return text


def _size_or_share(text: str) -> str:
    if text.endswith("%"):
        if quantity.parse_percent(text) > 100:
            raise ValueError("must be 100% or less: it is a share of the machine's memory")
    else:
        quantity.parse_size(text)
    return text


def _with_unit(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = value if 0 <= value < 10**9 else 30
        raise ValueError(f'has no unit; write for example "{number}s"')
    return value


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    if len(text.encode()) >= 128 * 1024:
        raise ValueError("is longer than 128 KiB, the most Linux hands to a program in one piece")
    return text


def _point_in_time(value: object) -> object:
    """TOML has date-times of its own: an offset becomes UTC, a local one stays local."""
    return value.isoformat() if isinstance(value, datetime) else value


def _once(text: str) -> str:
    stamp = text.removesuffix(" UTC")
    try:
        parsed = datetime.fromisoformat(stamp)
    except ValueError:
        raise ValueError('not a date and time; write for example "2027-01-31 09:00"') from None
    if not 1970 <= parsed.year < 2200:
        raise ValueError("must be from 1970 to 2199, the years that systemd knows")
    if parsed.tzinfo is not None:
        return parsed.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return parsed.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if stamp != text else "")


def _timezone(text: str) -> str:
    if not quantity.is_zone(text):
        raise ValueError('unknown time zone; write an IANA name such as "Europe/Rome"')
    return text


def _distinct(found: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(found)) < len(found):
        raise ValueError("names an address twice")
    return found


def _credential_file(text: str) -> str:
    if "://" in text:
        raise ValueError(
            "is the URL itself, which is a secret: write it into a file that only root may read, and"
            ' name that file; for example "/etc/rota/secrets/ops-url"'
        )
    return _absolute(text)


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, dict) else value


Line = Annotated[StrictStr, AfterValidator(_one_line)]
Argument = Annotated[StrictStr, AfterValidator(_no_nul)]
AbsolutePath = Annotated[StrictStr, AfterValidator(_absolute)]
SearchDirectory = Annotated[StrictStr, AfterValidator(_search_directory)]
EnvironmentFile = Annotated[StrictStr, AfterValidator(_environment_file)]
Duration = Annotated[StrictStr, BeforeValidator(_with_unit), _checked(quantity.parse_duration)]
CronText = Annotated[StrictStr, _checked(cron.parse)]
Size = Annotated[StrictStr, AfterValidator(_size_or_share)]
Percent = Annotated[StrictStr, _checked(quantity.parse_percent)]
Network = Annotated[StrictStr, AfterValidator(_network)]
TimeZone = Annotated[StrictStr, AfterValidator(_timezone)]
Moment = Annotated[StrictStr, BeforeValidator(_point_in_time), AfterValidator(_once)]
ListenAddress = Annotated[StrictStr, _checked(listen.check)]
CredentialFile = Annotated[StrictStr, AfterValidator(_credential_file)]
QuietHours = Annotated[StrictStr, _checked(quiet.parse_quiet)]
Pattern = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z0-9*?\[\]!-]+$")]
Tag = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
UserName = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,30}$")]
VariableName = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
CredentialName = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}$")]
UnitKey = Annotated[StrictStr, StringConstraints(pattern=r"^(X-)?[A-Z][A-Za-z0-9]*$")]
UnitValue = StrictBool | StrictInt | Line | tuple[Line, ...]
AgentName = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


def _later(description: str, *examples: Any) -> Any:
    """Declare a key of a later version: in the schema, refused by `load`."""
    return Field(
        default=None,
        description=f"{description} (not available in this version)",
        json_schema_extra={"x-available": False, "examples": [*examples]},
    )


def _key(default: Any, description: str, *examples: object, **more: Any) -> Any:
    if default == {}:
        # pydantic copies a default that could change, and deeply; it need not for one of these.
        return Field(default_factory=dict, description=description, examples=[*examples], **more)
    return Field(default=default, description=description, examples=list(examples), **more)


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __deepcopy__(self, memo: object = None) -> Self:
        """Return itself: frozen, so that a default need not be copied for each agent."""
        return self


class Schedule(Record):
    """When an agent runs: exactly one of cron, every, calendar, once, on_boot or solar."""

    cron: CronText | None = _key(
        None,
        "Five cron fields as in crontab(5), or @hourly, @daily, @weekly, @monthly, @yearly.",
        "0 9 * * MON",
    )
    timezone: TimeZone | None = _key(
        None, "IANA time zone of cron or once; the machine's own by default.", "Europe/Rome"
    )
    every: Duration | None = _key(None, "Time from the start of one run to the start of the next.", "5min")
    after_boot: Duration | None = _key(
        None,
        "With every: time from the timer's start (boot, or apply) to the first run; `every` by default.",
        "2min",
    )
    calendar: Line | None = _key(
        None, "A calendar event in systemd's own grammar, systemd.time(7).", "Mon..Fri *-*-* 09:00:00"
    )
    once: Moment | None = _key(None, "One date and time, in timezone or local time.", "2027-01-31 09:00")
    on_boot: StrictBool | Duration | None = _key(
        None, "true: right after each boot; or the time to wait after it.", True, "2min"
    )
    solar: Line | None = _later("Sunrise, sunset, dawn or dusk at the configured place.", "sunset")
    offset: Line | None = _later("With solar: time before (-) or after it.", "-30min")
    jitter: Duration | None = _key(
        None, "Delay each slot by a fixed share of this span, the same for every slot.", "10min"
    )


class CatchUp(Record):
    """What happens to slots that fell into downtime."""

    mode: Literal["once", "never"] = _key(
        "never", "once: one run after the downtime, however many slots were missed; never: none.", "once"
    )
    grace: Duration | None = _later("A slot later than this is recorded as missed, not run.", "5min")


class Retries(Record):
    """How a failed run is tried again."""

    max: StrictInt = _key(0, "Further attempts after the first.", 3, ge=0)
    backoff: Literal["exponential", "linear", "constant"] = _key("exponential", "How the delay grows.")
    delay: Duration = _key("10s", "Delay before the first retry.")
    max_delay: Duration = _key("5min", "The delay never grows beyond this.")


class Notify(Record):
    """Who is told about an agent's runs, beside what the routes in rota.toml say."""

    on: tuple[Kind, ...] = _key(
        ("failure", "recovery"), "failure, recovery, success, missed, escalation.", ["failure"]
    )
    channels: tuple[AgentName, ...] = Field(
        description="Names of channels in rota.toml.", examples=[["ops"]], min_length=1
    )


class Rate(Record):
    """No more messages than this; what is held back goes out in one when there is room."""

    messages: StrictInt = Field(description="So many messages.", examples=[10], ge=1, le=10_000)
    per: Duration = Field(description="In any such span.", examples=["1h"])


class Channel(Record):
    """Where people are told."""

    url: CredentialFile = Field(
        description="A file that holds one apprise URL, which is a secret: systemd reads it, so it may be"
        " root's alone.",
        examples=["/etc/rota/secrets/ops-url"],
    )
    rate: Rate = _key(Rate(messages=30, per="1h"), "The most messages, whatever they are about.")
    expiry: Duration = _key("2d", "A message that cannot be sent for so long is given up.", "6h")


class Route(Record):
    """What is told by which channels; all keys that are set must match."""

    channels: tuple[AgentName, ...] = Field(
        description="Names of channels.", examples=[["ops"]], min_length=1
    )
    on: tuple[Kind, ...] = _key(
        ("failure", "recovery", "missed", "escalation"),
        "failure, recovery, success, missed, escalation.",
        ["failure"],
    )
    agents: tuple[Pattern, ...] = _key(
        (), "Names of agents, with * and ?; none: all, and what is about none.", ["backup-*"]
    )
    tags: tuple[Tag, ...] = _key((), "Agents with any of these tags; none: all.", ["backup"])
    severity: Literal["info", "warning", "critical"] = _key(
        "info",
        "This or worse. A success is info; a failure, its recovery, and missed slots are warning, and"
        " critical of agents of critical priority; the keeper says its own.",
        "warning",
    )
    group: Duration = _key("30s", "What happens within this after the first is one message.", "1min")
    rate: Rate | None = _key(
        None, "The most messages by this route to each channel.", {"messages": 10, "per": "1h"}
    )
    quiet: tuple[QuietHours, ...] = _key(
        (), "Hours, in local time, in which only what is critical is told.", ["22:30-07:00"]
    )


class When(Record):
    """A condition that starts an agent."""

    path_changed: AbsolutePath | None = _key(None, "Runs when this path is written to.")
    path_exists: AbsolutePath | None = _key(None, "Runs when this path exists.")
    path_not_empty: AbsolutePath | None = _key(None, "Runs when this directory is not empty.")
    listen: Line | None = _key(None, "Runs when something connects to this address.")


class Sandbox(Record):
    """What the strict sandbox is opened for, key by key."""

    network: StrictBool | tuple[Network, ...] = _key(
        False,
        "false: none; true: all; a list: only these addresses and prefixes, or the words localhost, "
        "link-local and multicast.",
        ["10.0.0.0/8"],
    )
    writable: tuple[AbsolutePath, ...] = _key(
        (), "Paths the agent may write to, beside its own state directory.", ["/srv/repo"]
    )
    readable: tuple[AbsolutePath, ...] = _key(
        (), "Paths under /home, /root or /run/user the agent may read.", ["/home/ada/notes"]
    )
    devices: tuple[AbsolutePath, ...] = _key((), "Device nodes the agent may use.", ["/dev/nvidia0"])
    user: UserName | None = _key(
        None, "Run as this existing user instead of one that lives as long as the run.", "ada"
    )
    groups: tuple[UserName, ...] = _key((), "Supplementary groups.", ["systemd-journal"])
    unit: Mapping[UnitKey, UnitValue] = _key(
        {},
        "Any key of the [Service] section as the way out; replaces what rota would write (for example "
        'ProcSubset = "all" for a program that reads /proc/sys, as journalctl --boot does).',
        {"MemoryDenyWriteExecute": False},
    )


class Resources(Record):
    """Limits of one run, as in systemd.resource-control(5)."""

    memory: Size | None = _key(None, "Most memory a run may use: MemoryMax=.", "512M", "10%")
    cpu: Percent | None = _key(None, "Most processor time, 100% being one processor: CPUQuota=.", "50%")
    tasks: StrictInt | None = _key(None, "Most processes and threads: TasksMax=.", 64, ge=1, le=4_194_304)


class Agent(Record):
    """One agent: what to run, when, and with which rights."""

    description: Line = _key("", "One line for people.", "Audit the repository")
    enabled: StrictBool = _key(True, "false: no units are made for it.")
    command: tuple[Argument, ...] | None = _key(
        None, "Program and arguments; no shell is involved.", ["/usr/bin/backup", "--check"]
    )
    prompt: Argument | None = _key(None, "A prompt for the runner, instead of a command.", "/k-housekeep")
    runner: Line | None = _key(None, "Which runner of rota.toml runs the prompt.", "claude")
    path: tuple[SearchDirectory, ...] = _key(
        (),
        "Directories where programs are looked up, before the standard ones: ExecSearchPath=, and $PATH.",
        ["/opt/tool/bin"],
    )
    schedule: Annotated[tuple[Schedule, ...], BeforeValidator(_one_or_many)] = _key(
        (), "One schedule or a list; none: runs on demand only.", {"every": "5min"}
    )
    catch_up: CatchUp = _key(CatchUp(), "After downtime.", {"mode": "once"})
    when: When | None = _later("Run on a condition.", {"path_changed": "/srv/inbox"})
    after_success: tuple[AgentName, ...] | None = _later("Run after these agents succeeded.", ["fetch"])
    after_failure: tuple[AgentName, ...] | None = _later("Run after these agents failed.", ["fetch"])
    keep_running: StrictBool | None = _later("Always running, restarted when it ends.", True)
    timeout: Duration = _key("1h", "A run is stopped after this: RuntimeMaxSec=.", "30min", "infinity")
    retries: Retries | None = _later("Try a failed run again.", {"max": 3})
    priority: Priority = _key("medium", "Share of processor and disk against other agents.", "low")
    notify: Notify | None = _key(
        None,
        "Tell people of its runs: on what, and by which channels.",
        {"on": ["failure", "recovery"], "channels": ["ops"]},
    )
    tags: tuple[Tag, ...] = _key((), "Words to group agents by.", ["backup"])
    environment: Mapping[VariableName, Argument] = _key(
        {}, "Environment variables; not for secrets, the unit is world-readable.", {"LANG": "C.UTF-8"}
    )
    environment_files: tuple[EnvironmentFile, ...] = _key(
        (),
        "Files with environment variables, read by systemd; with a leading -, may be absent.",
        ["/etc/rota/agent.env"],
    )
    credentials: Mapping[CredentialName, AbsolutePath] = _key(
        {},
        "Secrets by name: files systemd hands over in $CREDENTIALS_DIRECTORY.",
        {"api-key": "/run/secrets/api-key"},
    )
    working_directory: AbsolutePath | None = _key(
        None, "Where the program starts; its state directory by default.", "/srv/repo"
    )
    result_file: StrictBool = _key(
        False,
        "true: the run may leave its result, a JSON object, in the file $ROTA_RESULT_FILE; takes one more "
        "process per run.",
        True,
    )
    sandbox: Sandbox = _key(Sandbox(), "What the strict sandbox is opened for.")
    resources: Resources = _key(Resources(), "Limits of one run.")


class Runner(Record):
    """How prompts run."""

    command: tuple[Argument, ...] = Field(
        description="Program and arguments; {prompt} is replaced by the agent's prompt.",
        examples=[["claude", "-p", "{prompt}"]],
    )
    environment: Mapping[VariableName, Argument] = _key(
        {}, "Environment variables for its agents.", {"LANG": "C.UTF-8"}
    )


class Retention(Record):
    """How long rotad remembers; the journal keeps what it keeps. The last run of each agent is kept always.

    So are all runs of agents of critical priority.
    """

    detail: Duration = _key("30d", "Runs and events are kept so long.", "90d", "infinity")
    runs: StrictInt = _key(10_000, "Of each agent, no more runs than this.", 1000, ge=1)
    totals: Duration = _key("365d", "What the runs of a day came to is kept so long.", "3y")


class Metrics(Record):
    """Where metrics for Prometheus are served: nowhere, unless an address is named."""

    listen: Annotated[tuple[ListenAddress, ...], AfterValidator(_distinct)] = _key(
        (),
        "Loopback addresses with a port, and absolute paths of UNIX sockets that end in .sock; none: off.",
        [listen.EXAMPLE],
    )


class Settings(Record):
    """rota.toml: what is shared by all agents."""

    bundled: tuple[AgentName, ...] = _key(
        (), "Agents that come with rota and are to be enabled.", ["disk-report"]
    )
    runners: Mapping[AgentName, Runner] = _key(
        {}, "Runners by name.", {"claude": {"command": ["claude", "-p", "{prompt}"]}}
    )
    retention: Retention = _key(Retention(), "How long rotad remembers.", {"detail": "90d"})
    metrics: Metrics = _key(Metrics(), "Where metrics are served.", {"listen": [listen.EXAMPLE]})
    channels: Mapping[AgentName, Channel] = _key(
        {}, "Where people are told, by name.", {"ops": {"url": "/etc/rota/secrets/ops-url"}}
    )
    routes: tuple[Route, ...] = _key(
        (),
        "What is told by which channels; of several that lead to one channel, the first counts.",
        [{"channels": ["ops"], "on": ["failure", "recovery"]}],
    )


class Config(Settings):
    """One JSON file with everything: the keys of rota.toml, and agents by name."""

    agents: Mapping[AgentName, Agent] = _key({}, "Agents by name.")


@dataclass(frozen=True, slots=True)
class Declaration:
    """An agent with its name and origin.

    Attributes:
        name: the agent's name.
        agent: what was declared.
        source: absolute path of the file, or name of the NixOS option, that declares it.
    """

    name: str
    agent: Agent
    source: str
