"""Rules between keys that a type cannot say, each one a row: they see what was written, valid or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rota import quantity


class Breach(NamedTuple):
    """One broken rule: the key's path in the declaration, what is wrong, the value if worth quoting."""

    key: str
    message: str
    value: str = ""


def dotted(*keys: str) -> str:
    """Return keys as one, as TOML writes it: quoted where it must be, `targets."unit:a.service".mode`."""
    return ".".join(key if _BARE.fullmatch(key) else f'"{_QUOTED.sub(_escape, key)}"' for key in keys)


def _escape(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


Raw = Mapping[str, Any]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = re.compile(r'["\\]')

KINDS = ("cron", "every", "calendar", "once", "on_boot", "solar")
_COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "timezone": ("cron", "once"),
    "after_boot": ("every",),
    "jitter": ("cron", "calendar", "once", "on_boot"),
    "offset": ("solar",),
}
_CALENDAR_KINDS = frozenset(("cron", "calendar", "once"))
OWNED: Mapping[str, str] = {
    "Type": "rota's record of runs depends on it",
    "ExecStart": "write command instead",
    "ExecCondition": "rota's own",
    "ExecSearchPath": "write path instead",
    "RemainAfterExit": "rota's record of runs depends on it",
    "Restart": "a restart would hide a failed run",
    "RestartSec": "a restart would hide a failed run",
    "RestartForceExitStatus": "a restart would hide a failed run",
    "RestartMode": "a restart would hide a failed run",
    "RestartSteps": "a restart would hide a failed run",
    "RestartMaxDelaySec": "a restart would hide a failed run",
    "LogNamespace": "its output would be lost to rota logs",
    "KillMode": "nothing may survive a run",
    "Slice": "write priority instead",
    "RuntimeMaxSec": "write timeout instead",
    "LogExtraFields": "rota's record of runs depends on it",
    "LogLevelMax": "it would hide what systemd says of a run, and rota's record depends on that",
    "SendSIGKILL": "nothing may survive a run",
    "X-RestartIfChanged": "rota's own",
    "StateDirectory": "every agent has one already, $STATE_DIRECTORY",
    "Environment": "write environment instead",
    "EnvironmentFile": "write environment_files instead",
    "LoadCredential": "write credentials instead",
    "WorkingDirectory": "write working_directory instead",
    "User": "write sandbox.user instead",
    "DynamicUser": "write sandbox.user instead",
    "SupplementaryGroups": "write sandbox.groups instead",
    "MemoryMax": "write resources.memory instead",
    "CPUQuota": "write resources.cpu instead",
    "TasksMax": "write resources.tasks instead",
}
"""Keys that [sandbox] unit may not set, with the reason or what to write instead."""

_LONGEST = 200_000
"""Characters of a command: escaped, they still fit into the one line systemd reads at a time (1 MiB)."""
_OFFSET = re.compile(r"\d\d:\d\d(?::\d\d)?(?:\.\d+)? ?(?:Z|UTC|[+-]\d\d:?\d\d)$")
# systemd takes no others: string_is_safe() in its config_parse_exec().
_PROGRAM = re.compile(r"/[^\0-\x1f\x7f\"'\\]*(?<!/)|[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def _table(value: object) -> Raw:
    return value if isinstance(value, dict) else {}


def program(command: object) -> Iterator[Breach]:
    """Yield what is wrong with a command as it was written: program and arguments."""
    if isinstance(command, list):
        if sum(len(word) for word in command if isinstance(word, str)) > _LONGEST:
            yield Breach("command", f"is longer than {_LONGEST} characters in all")
        if not command:
            yield Breach("command", "must not be empty")
        elif isinstance(command[0], str) and not _PROGRAM.fullmatch(command[0]):
            told = "must be a program's absolute path without quotes or backslashes, or a name without /"
            yield Breach("command[0]", told, command[0])


def _what_runs(raw: Raw) -> Iterator[Breach]:
    command, prompt, runner = raw.get("command"), raw.get("prompt"), raw.get("runner")
    if command is not None and prompt is not None:
        yield Breach("prompt", "not together with command; keep one of them")
    elif command is None and prompt is None:
        yield Breach("", 'says nothing to run; write command = ["/path/to/program"] or prompt = "…"')
    if prompt is not None and runner is None:
        yield Breach("prompt", "needs a runner; write runner = NAME, declared as [runners.NAME] in rota.toml")
    if runner is not None and prompt is None:
        yield Breach("runner", "only goes with prompt", runner if isinstance(runner, str) else "")
    yield from program(command)


def _span(raw: Raw, key: str) -> int | None:
    """Return a duration in microseconds if there is a valid one; types are another's business."""
    try:
        return quantity.parse_duration(raw[key])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _one_schedule(raw: Raw) -> Iterator[Breach]:
    kinds = [kind for kind in KINDS if kind in raw]
    if not kinds:
        yield Breach("", f"needs one of {', '.join(KINDS[:-1])}")
    if len(kinds) > 1:
        yield Breach("", f"has {' and '.join(kinds)}; keep one, or write a list of schedules")
    for key, hosts in _COMPANIONS.items():
        if key in raw and not any(kind in hosts for kind in kinds):
            yield Breach(key, f"only goes with {' or '.join(hosts)}")
    if "timezone" in raw and _OFFSET.search(str(raw.get("once", ""))):
        yield Breach("timezone", "does not go with a time that has an offset", str(raw["timezone"]))
    if raw.get("on_boot") is False:
        yield Breach("on_boot", "write true, or the time to wait after boot, or leave it out")
    every = _span(raw, "every")
    if every is not None and not quantity.USEC <= every < quantity.INFINITY:
        yield Breach("every", "must be at least 1s", str(raw["every"]))
    for key in ("jitter", "after_boot", "on_boot"):
        if _span(raw, key) == quantity.INFINITY:
            yield Breach(key, "must have an end", "infinity")


def _schedules(raw: Raw) -> Iterator[Breach]:
    written = raw.get("schedule", [])
    many = isinstance(written, list)
    if not many and not isinstance(written, dict):
        yield Breach(
            "schedule", 'must be a table such as { every = "5min" }, or a list of them', str(written)
        )
        return
    tables = [_table(item) for item in (written if many else [written])]
    for index, table in enumerate(tables):
        path = f"schedule[{index}]" if many else "schedule"
        for key, message, value in _one_schedule(table):
            yield Breach(f"{path}.{key}" if key else path, message, value)
    jitters = {table.get("jitter") for table in tables if isinstance(table.get("jitter"), str | None)}
    if len(jitters) > 1:
        yield Breach("schedule", "one timer has one jitter: write the same for each")
    kinds = {kind for table in tables for kind in table}
    if _table(raw.get("catch_up")).get("mode") == "once" and not kinds & _CALENDAR_KINDS:
        yield Breach(
            "catch_up.mode", "needs a cron, calendar or once schedule: no other has slots to catch up", "once"
        )


def _durations(raw: Raw) -> Iterator[Breach]:
    if _span(raw, "timeout") == 0:
        yield Breach("timeout", 'must be more than 0; write "infinity" for none', str(raw["timeout"]))


def _sandbox(raw: Raw) -> Iterator[Breach]:
    sandbox = _table(raw.get("sandbox"))
    for key in _table(sandbox.get("unit")):
        if key in OWNED:
            yield Breach(f"sandbox.unit.{key}", f"not settable here: {OWNED[key]}")
    if sandbox.get("network") == []:
        yield Breach("sandbox.network", "must not be empty; write false for no network")
    writable = sandbox.get("writable")
    for index, path in enumerate(writable if isinstance(writable, list) else ()):
        if isinstance(path, str) and f"{path}/".startswith(("/tmp/", "/var/tmp/")):  # noqa: S108
            yield Breach(
                f"sandbox.writable[{index}]", "every agent has a /tmp of its own, writable anyway", path
            )
    devices = sandbox.get("devices")
    for index, path in enumerate(devices if isinstance(devices, list) else ()):
        if isinstance(path, str) and not path.startswith("/dev/"):
            yield Breach(f"sandbox.devices[{index}]", "must be below /dev", path)


_RESULT_NEEDS = ("ExecStopPost", "RuntimeDirectory", "RuntimeDirectoryPreserve", "StandardOutput")


def _result_file(raw: Raw) -> Iterator[Breach]:
    if raw.get("result_file") is True:
        for key in _table(_table(raw.get("sandbox")).get("unit")):
            if key in _RESULT_NEEDS:
                yield Breach(f"sandbox.unit.{key}", "not together with result_file, which needs it")


def _environment(raw: Raw) -> Iterator[Breach]:
    for name in _table(raw.get("environment")):
        if isinstance(name, str) and name.startswith("ROTA_"):
            yield Breach(f"environment.{name}", "ROTA_ variables are set by rota")


_RULES = (_what_runs, _schedules, _durations, _sandbox, _result_file, _environment)


def breaches(raw: Raw) -> Iterator[Breach]:
    """Yield every rule that an agent's declaration, as written, breaks."""
    for rule in _RULES:
        yield from rule(raw)


def runner_breaches(raw: Raw) -> Iterator[Breach]:
    """Yield every rule that a runner, as written, breaks."""
    command = raw.get("command")
    yield from program(command)
    words = [word for word in command if isinstance(word, str)] if isinstance(command, list) else []
    if words and not any("{prompt}" in word for word in words[1:]):
        yield Breach("command", "must contain {prompt} after the program, where the agent's prompt goes")
    yield from _environment(raw)
