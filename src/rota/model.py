"""What a person declares: agents, and what they share, as frozen records that refuse unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt

from rota import listen
from rota.record import (
    AbsolutePath,
    AgentName,
    Argument,
    CredentialFile,
    CredentialName,
    CronText,
    Duration,
    EnvironmentFile,
    Line,
    ListenAddress,
    Moment,
    Network,
    Pattern,
    Percent,
    QuietHours,
    Record,
    SearchDirectory,
    Size,
    Tag,
    TimeZone,
    UnitKey,
    UnitValue,
    UserName,
    VariableName,
    key,
    later,
    one_or_many,
)

Priority = Literal["critical", "high", "medium", "low", "background"]
Kind = Literal["failure", "recovery", "success", "missed", "escalation"]


def _distinct(found: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(found)) < len(found):
        raise ValueError("names an address twice")
    return found


class Schedule(Record):
    """When an agent runs: exactly one of cron, every, calendar, once, on_boot or solar."""

    cron: CronText | None = key(
        None,
        "Five cron fields as in crontab(5), or @hourly, @daily, @weekly, @monthly, @yearly.",
        "0 9 * * MON",
    )
    timezone: TimeZone | None = key(
        None, "IANA time zone of cron or once; the machine's own by default.", "Europe/Rome"
    )
    every: Duration | None = key(None, "Time from the start of one run to the start of the next.", "5min")
    after_boot: Duration | None = key(
        None,
        "With every: time from the timer's start (boot, or apply) to the first run; `every` by default.",
        "2min",
    )
    calendar: Line | None = key(
        None, "A calendar event in systemd's own grammar, systemd.time(7).", "Mon..Fri *-*-* 09:00:00"
    )
    once: Moment | None = key(None, "One date and time, in timezone or local time.", "2027-01-31 09:00")
    on_boot: StrictBool | Duration | None = key(
        None, "true: right after each boot; or the time to wait after it.", True, "2min"
    )
    solar: Line | None = later("Sunrise, sunset, dawn or dusk at the configured place.", "sunset")
    offset: Line | None = later("With solar: time before (-) or after it.", "-30min")
    jitter: Duration | None = key(
        None, "Delay each slot by a fixed share of this span, the same for every slot.", "10min"
    )


class CatchUp(Record):
    """What happens to slots that fell into downtime."""

    mode: Literal["once", "never"] = key(
        "never", "once: one run after the downtime, however many slots were missed; never: none.", "once"
    )
    grace: Duration | None = later("A slot later than this is recorded as missed, not run.", "5min")


class Retries(Record):
    """How a failed run is tried again."""

    max: StrictInt = key(0, "Further attempts after the first.", 3, ge=0)
    backoff: Literal["exponential", "linear", "constant"] = key("exponential", "How the delay grows.")
    delay: Duration = key("10s", "Delay before the first retry.")
    max_delay: Duration = key("5min", "The delay never grows beyond this.")


class Notify(Record):
    """Who is told about an agent's runs, beside what the routes in rota.toml say."""

    on: tuple[Kind, ...] = key(
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
    rate: Rate = key(Rate(messages=30, per="1h"), "The most messages, whatever they are about.")
    expiry: Duration = key("2d", "A message that cannot be sent for so long is given up.", "6h")


class Route(Record):
    """What is told by which channels; all keys that are set must match."""

    channels: tuple[AgentName, ...] = Field(
        description="Names of channels.", examples=[["ops"]], min_length=1
    )
    on: tuple[Kind, ...] = key(
        ("failure", "recovery", "missed", "escalation"),
        "failure, recovery, success, missed, escalation.",
        ["failure"],
    )
    agents: tuple[Pattern, ...] = key(
        (), "Names of agents, with * and ?; none: all, and what is about none.", ["backup-*"]
    )
    tags: tuple[Tag, ...] = key((), "Agents with any of these tags; none: all.", ["backup"])
    severity: Literal["info", "warning", "critical"] = key(
        "info",
        "This or worse. A success is info; a failure, its recovery, and missed slots are warning, and"
        " critical of agents of critical priority; the keeper says its own.",
        "warning",
    )
    group: Duration = key("30s", "What happens within this after the first is one message.", "1min")
    rate: Rate | None = key(
        None, "The most messages by this route to each channel.", {"messages": 10, "per": "1h"}
    )
    quiet: tuple[QuietHours, ...] = key(
        (), "Hours, in local time, in which only what is critical is told.", ["22:30-07:00"]
    )


class When(Record):
    """A condition that starts an agent."""

    path_changed: AbsolutePath | None = key(None, "Runs when this path is written to.")
    path_exists: AbsolutePath | None = key(None, "Runs when this path exists.")
    path_not_empty: AbsolutePath | None = key(None, "Runs when this directory is not empty.")
    listen: Line | None = key(None, "Runs when something connects to this address.")


class Sandbox(Record):
    """What the strict sandbox is opened for, key by key."""

    network: StrictBool | tuple[Network, ...] = key(
        False,
        "false: none; true: all; a list: only these addresses and prefixes, or the words localhost, "
        "link-local and multicast.",
        ["10.0.0.0/8"],
    )
    writable: tuple[AbsolutePath, ...] = key(
        (), "Paths the agent may write to, beside its own state directory.", ["/srv/repo"]
    )
    readable: tuple[AbsolutePath, ...] = key(
        (), "Paths under /home, /root or /run/user the agent may read.", ["/home/ada/notes"]
    )
    devices: tuple[AbsolutePath, ...] = key((), "Device nodes the agent may use.", ["/dev/nvidia0"])
    user: UserName | None = key(
        None, "Run as this existing user instead of one that lives as long as the run.", "ada"
    )
    groups: tuple[UserName, ...] = key((), "Supplementary groups.", ["systemd-journal"])
    unit: Mapping[UnitKey, UnitValue] = key(
        {},
        "Any key of the [Service] section as the way out; replaces what rota would write (for example "
        'ProcSubset = "all" for a program that reads /proc/sys, as journalctl --boot does).',
        {"MemoryDenyWriteExecute": False},
    )


class Resources(Record):
    """Limits of one run, as in systemd.resource-control(5)."""

    memory: Size | None = key(None, "Most memory a run may use: MemoryMax=.", "512M", "10%")
    cpu: Percent | None = key(None, "Most processor time, 100% being one processor: CPUQuota=.", "50%")
    tasks: StrictInt | None = key(None, "Most processes and threads: TasksMax=.", 64, ge=1, le=4_194_304)


class Agent(Record):
    """One agent: what to run, when, and with which rights."""

    description: Line = key("", "One line for people.", "Audit the repository")
    enabled: StrictBool = key(True, "false: no units are made for it.")
    command: tuple[Argument, ...] | None = key(
        None, "Program and arguments; no shell is involved.", ["/usr/bin/backup", "--check"]
    )
    prompt: Argument | None = key(None, "A prompt for the runner, instead of a command.", "/k-housekeep")
    runner: Line | None = key(None, "Which runner of rota.toml runs the prompt.", "claude")
    path: tuple[SearchDirectory, ...] = key(
        (),
        "Directories where programs are looked up, before the standard ones: ExecSearchPath=, and $PATH.",
        ["/opt/tool/bin"],
    )
    schedule: Annotated[tuple[Schedule, ...], BeforeValidator(one_or_many)] = key(
        (), "One schedule or a list; none: runs on demand only.", {"every": "5min"}
    )
    catch_up: CatchUp = key(CatchUp(), "After downtime.", {"mode": "once"})
    when: When | None = later("Run on a condition.", {"path_changed": "/srv/inbox"})
    after_success: tuple[AgentName, ...] | None = later("Run after these agents succeeded.", ["fetch"])
    after_failure: tuple[AgentName, ...] | None = later("Run after these agents failed.", ["fetch"])
    keep_running: StrictBool | None = later("Always running, restarted when it ends.", True)
    timeout: Duration = key("1h", "A run is stopped after this: RuntimeMaxSec=.", "30min", "infinity")
    retries: Retries | None = later("Try a failed run again.", {"max": 3})
    priority: Priority = key("medium", "Share of processor and disk against other agents.", "low")
    notify: Notify | None = key(
        None,
        "Tell people of its runs: on what, and by which channels.",
        {"on": ["failure", "recovery"], "channels": ["ops"]},
    )
    tags: tuple[Tag, ...] = key((), "Words to group agents by.", ["backup"])
    environment: Mapping[VariableName, Argument] = key(
        {}, "Environment variables; not for secrets, the unit is world-readable.", {"LANG": "C.UTF-8"}
    )
    environment_files: tuple[EnvironmentFile, ...] = key(
        (),
        "Files with environment variables, read by systemd; with a leading -, may be absent.",
        ["/etc/rota/agent.env"],
    )
    credentials: Mapping[CredentialName, AbsolutePath] = key(
        {},
        "Secrets by name: files systemd hands over in $CREDENTIALS_DIRECTORY.",
        {"api-key": "/run/secrets/api-key"},
    )
    working_directory: AbsolutePath | None = key(
        None, "Where the program starts; its state directory by default.", "/srv/repo"
    )
    result_file: StrictBool = key(
        False,
        "true: the run may leave its result, a JSON object, in the file $ROTA_RESULT_FILE; takes one more "
        "process per run.",
        True,
    )
    sandbox: Sandbox = key(Sandbox(), "What the strict sandbox is opened for.")
    resources: Resources = key(Resources(), "Limits of one run.")


class Runner(Record):
    """How prompts run."""

    command: tuple[Argument, ...] = Field(
        description="Program and arguments; {prompt} is replaced by the agent's prompt.",
        examples=[["claude", "-p", "{prompt}"]],
    )
    environment: Mapping[VariableName, Argument] = key(
        {}, "Environment variables for its agents.", {"LANG": "C.UTF-8"}
    )


class Retention(Record):
    """How long rotad remembers; the journal keeps what it keeps. The last run of each agent is kept always.

    So are all runs of agents of critical priority.
    """

    detail: Duration = key("30d", "Runs and events are kept so long.", "90d", "infinity")
    runs: StrictInt = key(10_000, "Of each agent, no more runs than this.", 1000, ge=1)
    totals: Duration = key("365d", "What the runs of a day came to is kept so long.", "3y")


class Metrics(Record):
    """Where metrics for Prometheus are served: nowhere, unless an address is named."""

    listen: Annotated[tuple[ListenAddress, ...], AfterValidator(_distinct)] = key(
        (),
        "Loopback addresses with a port, and absolute paths of UNIX sockets that end in .sock; none: off.",
        [listen.EXAMPLE],
    )


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
