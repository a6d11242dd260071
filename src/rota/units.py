"""An agent as unit files: text, and back from the text what rota wrote into it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rota import names, sandbox, schedule
from rota.model import Declaration, Metrics, Runner, Sandbox
from rota.said import LONGEST_RESULT, MARK
from rota.settings import Settings

# CPUWeight= and IOWeight=, systemd.resource-control(5): 100 is everyone else's.
WEIGHTS: Mapping[str, int] = {"critical": 1000, "high": 300, "medium": 100, "low": 30, "background": 5}

# What systemd takes where ExecSearchPath= says nothing: systemd.exec(5).
SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")

# What NixOS gives to all units that it makes itself: systemd.globalEnvironment, by paths that stay.
NIXOS_ENVIRONMENT = {
    "LOCALE_ARCHIVE": "/run/current-system/sw/lib/locale/locale-archive",
    "TZDIR": "/etc/zoneinfo",
}

# Hands a result over to the journal, as the agent's own user and in its sandbox, when nothing of the run is
# left: what is no plain file is not touched, of a large one no more is read than is too much. One process
# writes all of it: journald would break the line where another goes on.
_HAND_OVER = (
    "PATH=/usr/bin:/bin:/run/current-system/sw/bin; "
    '[ -f "$ROTA_RESULT_FILE" ] && [ ! -L "$ROTA_RESULT_FILE" ] || exit 0; exec 2>/dev/null; '
    f"{{ printf {MARK}; head -c {LONGEST_RESULT + 1} \"$ROTA_RESULT_FILE\"; }} | tr '\\000-\\037' ' '"
)

_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_ESCAPED = str.maketrans(
    {chr(code): f"\\x{code:02x}" for code in (*range(1, 0x20), 0x7F)}
    | {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "%": "%%"}
)
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@/.:=+,-]+")
_UNQUOTED = re.compile(r"(?:(?![\"'\\;])[!-~])+")


@dataclass(frozen=True, slots=True)
class UnitFile:
    """One file below the unit directory.

    Attributes:
        name: its path there, usually just a unit's name.
        text: its content; None for a symlink.
        target: where the symlink points, else None.
    """

    name: str
    text: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What units depend on beside their declaration.

    Attributes:
        user: they are for a user's manager.
        rota_agent: absolute path of the program that runs bundled agents.
        search_path: directories where programs are looked up after those an agent names.
        nixos: they are for NixOS, which gives units of packages no environment and reads them itself.
    """

    user: bool = False
    rota_agent: str = "/usr/bin/rota-agent"
    search_path: tuple[str, ...] = SEARCH_PATH
    nixos: bool = False


def quote_argument(argument: str, *, variables: bool = False) -> str:
    """Return a word as systemd.syntax(7) quotes it, so that systemd hands over exactly `argument`.

    Args:
        argument: any text without NUL.
        variables: the place expands $NAME (ExecStart= does, Environment= does not).
    """
    if _PLAIN_WORD.fullmatch(argument):
        return argument
    text = argument.translate(_ESCAPED)
    if variables:
        text = text.replace("$", "$$")
    return text if _UNQUOTED.fullmatch(argument) else f'"{text}"'


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def arguments(declaration: Declaration, runners: Mapping[str, Runner], context: Context) -> list[str]:
    """Return the program and arguments of an agent, its prompt put into its runner's command."""
    agent = declaration.agent
    if agent.command is not None:
        first, *rest = agent.command
        return [context.rota_agent if first == "rota-agent" else first, *rest]
    runner = runners[agent.runner or ""]
    return [word.replace("{prompt}", agent.prompt or "") for word in runner.command]


def command_line(words: list[str]) -> str:
    """Return a value of ExecStart=; a program's path knows no $$, so that one with $ needs the : prefix."""
    literal = "$" in words[0]
    return ":" * literal + " ".join(quote_argument(word, variables=not literal) for word in words)


def _environment(declaration: Declaration, runners: Mapping[str, Runner], context: Context) -> list[str]:
    agent = declaration.agent
    variables = dict(NIXOS_ENVIRONMENT) if context.nixos else {}
    variables |= runners[agent.runner].environment if agent.runner is not None else {}
    variables |= agent.environment
    lines = [quote_argument(f"{name}={value}") for name, value in sorted(variables.items())]
    if agent.sandbox.user is None and not context.user and "HOME" not in variables:
        lines.insert(0, f"HOME=%S/rota-agents/{declaration.name}")
    return lines


def _text(lines: Iterable[tuple[str, str]]) -> str:
    return "\n".join([f"{key}={value}" for key, value in lines])


def _section(name: str, *texts: str) -> str:
    return "\n".join([f"[{name}]", *(text for text in texts if text)])


def made_file(source: str, *sections: str) -> str:
    """Return the text of a file that rota makes.

    Args:
        source: what it is made from.
        sections: of the unit.
    """
    edit = "edit that file, not this one" if source.startswith("/") else "edit that option, not this file"
    return f"{names.MARKER} from {_plain(source)}: {edit}.\n\n" + "\n\n".join(sections) + "\n"


def _source_path(source: str) -> list[tuple[str, str]]:
    return [("SourcePath", _plain(source))] if source.startswith("/") else []


def _unit_lines(declaration: Declaration, context: Context) -> list[tuple[str, str]]:
    name, agent = declaration.name, declaration.agent
    state = "%h/.local/state" if context.user else "%S"
    description = agent.description or f"Agent {name}"
    if context.nixos and description.startswith(("'", '"')):
        description = f"{name}: {description}"  # see sandbox.unreadable
    lines = [
        ("Description", _plain(description)),
        *_source_path(declaration.source),
        ("ConditionPathExists", f"!{state}/rota/paused/{name}"),
        # Counts every start, so that a frequent agent would lock itself out.
        ("StartLimitIntervalSec", "0"),
        ("X-StopOnRemoval", "false"),
    ]
    if agent.sandbox.network is not False and not context.user:
        lines += [("Wants", "network-online.target"), ("After", "network-online.target")]
    return lines


def _result_lines(directory: str) -> list[tuple[str, str]]:
    """Return what lets a run leave its result in a file; see _HAND_OVER."""
    return [
        ("ExecStopPost", f"-{command_line(['/bin/sh', '-c', _HAND_OVER])}"),
        ("RuntimeDirectory", directory),
        ("RuntimeDirectoryMode", "0700"),
        ("Environment", f"ROTA_RESULT_FILE=%t/{directory}/result"),
    ]


def _service_lines(
    declaration: Declaration, runners: Mapping[str, Runner], context: Context
) -> list[tuple[str, str]]:
    name, agent = declaration.name, declaration.agent
    directory = f"rota-agents/{name}"
    words = arguments(declaration, runners, context)
    where = _plain(agent.working_directory) if agent.working_directory else f"%S/{directory}"
    lines = [
        ("Type", "exec"),
        ("ExecStart", command_line(words)),
        *(_result_lines(directory) if agent.result_file else ()),
        *(("ExecSearchPath", _plain(":".join((*agent.path, *context.search_path)))) for _ in agent.path[:1]),
        ("Slice", f"rota-{agent.priority}.slice"),
        ("RuntimeMaxSec", agent.timeout),
        ("TimeoutStopSec", "30s"),
        ("KillMode", "control-group"),
        ("IOAccounting", "yes"),
        ("StateDirectory", directory),
        ("StateDirectoryMode", "0700"),
        ("WorkingDirectory", where),
        ("SyslogIdentifier", f"rota-{name}"),
        ("LogExtraFields", f"ROTA_AGENT={name}"),
        ("Environment", f"ROTA_AGENT={name} ROTA_ATTEMPT=1"),
        *(("Environment", line) for line in _environment(declaration, runners, context)),
        *(("EnvironmentFile", _plain(path)) for path in agent.environment_files),
        *(("LoadCredential", _plain(f"{key}:{path}")) for key, path in sorted(agent.credentials.items())),
    ]
    return [line for line in lines if line[0] not in agent.sandbox.unit]


def _keys_text(keys: sandbox.Keys) -> str:
    return _text((key, value) for key, values in keys.items() for value in values)


@functools.cache
def _closed(user: bool) -> str:
    """Return the sandbox that opens nothing, which most agents have."""
    return _keys_text(sandbox.service_keys(Sandbox(), user=user))


def _service_text(declaration: Declaration, runners: Mapping[str, Runner], context: Context) -> str:
    box = declaration.agent.sandbox
    if box.model_fields_set:
        closed = _keys_text(sandbox.service_keys(box, user=context.user))
    else:
        closed = _closed(context.user)
    return _section(
        "Service",
        _text(_service_lines(declaration, runners, context)),
        closed,
        _keys_text(sandbox.resource_keys(declaration.agent.resources)),
        "X-RestartIfChanged=false",
    )


def _rota_lines(declaration: Declaration) -> list[tuple[str, str]]:
    written = declaration.agent.model_dump(mode="json", exclude_unset=True)
    return [
        ("Agent", declaration.name),
        ("Schedule", schedule.describe(declaration.agent.schedule)),
        ("Declaration", _JSON.encode(written)),
    ]


def agent_units(
    declaration: Declaration, runners: Mapping[str, Runner], context: Context
) -> tuple[UnitFile, ...]:
    """Return an agent's service and, if it has a schedule, its timer: a function of its arguments only."""
    name, agent, source = declaration.name, declaration.agent, declaration.source
    service = made_file(
        source,
        _section("Unit", _text(_unit_lines(declaration, context))),
        _service_text(declaration, runners, context),
        _section(names.SECTION, _text(_rota_lines(declaration))),
    )
    files = [UnitFile(names.service_of(name), service)]
    timer = schedule.timer_lines(agent, user=context.user)
    if timer:
        about = [
            ("Description", f"Schedule of {_plain(agent.description or f'agent {name}')}"),
            *_source_path(source),
        ]
        text = made_file(source, _section("Unit", _text(about)), _section("Timer", _text(timer)))
        files.append(UnitFile(names.timer_of(name), text))
    return tuple(files)


def target_unit(timers: Iterable[str], on_demand: Iterable[str], source: str) -> UnitFile:
    """Return the target that starts every timer with the machine.

    Args:
        timers: timer units.
        on_demand: services without a timer. The target is ordered before them only to keep them
            loaded: systemd forgets what a run has used together with a unit nobody refers to.
        source: the configuration.
    """
    about = [("Description", "Timers of all agents")]
    wants = [("Wants", timer) for timer in sorted(timers)]
    before = [("Before", service) for service in sorted(on_demand)]
    unit = _section("Unit", _text([*about, *wants, *before]))
    return UnitFile(names.TARGET, made_file(source, unit, _section("Install", "WantedBy=timers.target")))


def rotads(settings: Settings) -> dict[str, Any]:
    """Return the settings that are rotad's."""
    return {"retention": settings.retention.model_dump(mode="json")}


def shared_units(
    target: UnitFile, settings: Settings, source: str, *, nixos: bool = False
) -> tuple[UnitFile, ...]:
    """Return what belongs to no one agent: slices, target, the socket of metrics if it is wanted, links.

    Args:
        target: see `target_unit`.
        settings: what is not agents' is handed to rotad in the slice of all of them.
        source: the configuration.
        nixos: the module enables target and socket; NixOS passes over the links of packages.
    """
    files = [
        UnitFile(
            "rota.slice",
            made_file(
                source,
                _section("Unit", "Description=Agents", "X-StopOnRemoval=false"),
                _section(names.SECTION, f"Settings={_JSON.encode(rotads(settings))}"),
            ),
        )
    ]
    for priority, weight in WEIGHTS.items():
        about = [("Description", f"Agents of {priority} priority"), ("X-StopOnRemoval", "false")]
        weights = [("CPUWeight", str(weight)), ("IOWeight", str(weight))]
        text = made_file(source, _section("Unit", _text(about)), _section("Slice", _text(weights)))
        files.append(UnitFile(f"rota-{priority}.slice", text))
    files.append(target)
    links = [("timers.target", names.TARGET)]
    if settings.metrics.listen:
        files.append(metrics_socket(settings.metrics, source))
        links.append(("sockets.target", names.METRICS_SOCKET))
    if not nixos:
        files += [UnitFile(f"{by}.wants/{name}", target=f"../{name}") for by, name in links]
    return tuple(files)


def metrics_socket(metrics: Metrics, source: str) -> UnitFile:
    """Return the socket at which systemd starts rotad-metrics.service."""
    lines = [
        *(("ListenStream", where) for where in metrics.listen),
        # Of packets the socket's filter counts, not that of the service it is handed to:
        # systemd.resource-control(5).
        ("IPAddressAllow", "localhost"),
        ("IPAddressDeny", "any"),
        ("RemoveOnStop", "yes"),
    ]
    text = made_file(
        source,
        _section("Unit", "Description=Metrics of agents"),
        _section("Socket", _text(lines)),
        _section("Install", "WantedBy=sockets.target"),
    )
    return UnitFile(names.METRICS_SOCKET, text)
