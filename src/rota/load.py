"""TOML and JSON to declarations, or every mistake at once with its file and key."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from rota import instead, keeper_parts, names, rules, schedule
from rota.errors import Exit, Problem, RotaError, nearest
from rota.model import Agent, Declaration
from rota.naming import Naming
from rota.settings import HomeKeeper, Settings

_TYPES: Mapping[str, str] = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "tuple_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "float_type": "a number",
}
_IDENTIFIER = "must be letters, digits and"
_PATTERNS: Mapping[str, str] = {
    names.AGENT_NAME: "must be a name: lower-case letters, digits and -, 63 characters at most",
    r"[a-z0-9][a-z0-9-]*": "must be lower-case letters, digits and -",
    r"[A-Za-z_][A-Za-z0-9_.-]{0,30}": f"{_IDENTIFIER} _ . -, beginning with a letter or _, 31 at most",
    r"[A-Za-z_][A-Za-z0-9_]*": f"{_IDENTIFIER} _, not beginning with a digit",
    r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}": f"{_IDENTIFIER} _ . -, not beginning with a dot, 255 at most",
    r"[a-z0-9*?\[\]!-]+": "must be an agent's name, perhaps with * and ?",
    r"[^\s/:]{1,15}": "must be the name of a network interface: 15 characters at most, no blank, / or :",
    r"(X-)?[A-Z][A-Za-z0-9]*": "is not the name of a [Service] key; systemd's begin with a capital",
}


_FILES = Naming()


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found in a configuration.

    Attributes:
        declarations: valid agents that are enabled, by name.
        settings: valid settings.
        problems: every mistake; as long as there is one, nothing may be written.
        declared: how many declarations were looked at.
        origin: the configuration itself, for units that belong to no one agent.
        places: the file and key prefix under which a person finds each declaration.
        warnings: what is right, but perhaps not meant.
        naming: how keys are called to the person.
    """

    declarations: tuple[Declaration, ...]
    settings: Settings
    problems: tuple[Problem, ...]
    declared: int
    origin: str
    places: Mapping[str, tuple[str, str]]
    warnings: tuple[Problem, ...] = ()
    naming: Naming = _FILES

    def problem(self, name: str, key: str, message: str, value: str = "") -> Problem:
        """Return a mistake in an agent's declaration that was found after loading."""
        file, prefix = self.places[name]
        path = ".".join(part for part in (prefix, self.naming.key(key)) if part)
        return _printable(Problem(file, path, self.naming.message(message), value))


def _printable(problem: Problem) -> Problem:
    """Return a problem that is safe to show: one line, nothing that a terminal takes for a command."""
    return Problem(*map(_escaped, (problem.file, problem.key, problem.message, problem.value)))


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _key_path(loc: Sequence[int | str], raw: object, *, missing: bool) -> tuple[str, object]:
    """Turn pydantic's location into the path as written, and the value there.

    pydantic adds the branches of unions and the index of a schedule that was not written as a list.
    """
    path = ""
    value: object = raw
    for index, part in enumerate(loc):
        if part == "[key]":
            value = ""  # what is wrong is the key, which the path ends in
        elif isinstance(value, dict) and part in value:
            path, value = _below(path, str(part)), value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path, value = f"{path}[{part}]", value[part]
        elif missing and index == len(loc) - 1:
            path = _below(path, str(part))
    return path, value


def _below(path: str, key: str) -> str:
    return f"{path}.{rules.dotted(key)}" if path else rules.dotted(key)


def _literal(error: Mapping[str, Any]) -> str:
    choices = re.findall(r"'([\w-]+)'", error["ctx"]["expected"])
    word = error["input"]
    hint = nearest(word, choices) if isinstance(word, str) else ""
    return f"must be one of {', '.join(choices)}{hint}"


def _bare(pattern: str) -> str:
    return pattern.removeprefix("^").removesuffix("$")


_MESSAGES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is required",
    "literal_error": _literal,
    "string_pattern_mismatch": lambda error: _PATTERNS[_bare(error["ctx"]["pattern"])],
    "greater_than_equal": lambda error: f"must be at least {error['ctx']['ge']}",
    "too_short": lambda _: "must name one at least",
    "too_long": lambda error: f"must name {error['ctx']['max_length']} at most",
    "less_than_equal": lambda error: f"must be at most {error['ctx']['le']}",
    "value_error": lambda error: str(error["ctx"]["error"]),
}


def _message(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"unknown key{instead.unknown(model, error['loc'])}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}"
    return _MESSAGES[kind](error) if kind in _MESSAGES else str(error["msg"])


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value) if abs(value) < 10**18 else ""
    if not isinstance(value, str) or "://" in value:
        return ""  # a URL may hold a password
    return value if "\n" not in value and len(value) <= 80 else ""


def _shown(value: object) -> object:
    """Return a value that may be shown, else ""."""
    return value if _quoted(value) else ""


def _explain(failed: ValidationError, model: type[BaseModel], raw: object) -> Iterator[rules.Breach]:
    """Turn pydantic's errors into ours; the branches of a union become one."""
    by_key: dict[str, list[tuple[str, str, object]]] = {}
    places: dict[str, tuple[int | str, ...]] = {}
    for error in failed.errors(include_url=False):
        key, value = _key_path(error["loc"], raw, missing=error["type"] == "missing")
        by_key.setdefault(key, []).append((error["type"], _message(error, model), value))
        places.setdefault(key, error["loc"])
    for key, found in by_key.items():
        if isinstance(found[0][2], list | dict) and any(
            other.startswith((f"{key}[", f"{key}.")) for other in by_key
        ):
            continue  # the other branch of a union; the item's own error says more
        specific = [item for item in found if item[0] not in _TYPES] or found
        messages = list(dict.fromkeys(message.removeprefix("must be ") for _, message, _ in specific))
        messages = [
            one for one in messages if one != _TYPES["int_type"] or _TYPES["float_type"] not in messages
        ]
        if specific is found and found[0][0] in _TYPES:
            message = f"must be {' or '.join(messages)}"
            message += instead.example(found[0][0], model, places[key], _shown(found[0][2]))
        else:
            message = specific[0][1]
        hide = any(kind in ("extra_forbidden", "missing") for kind, _, _ in found)
        yield rules.Breach(key, message, "" if hide else _quoted(specific[0][2]))


@functools.cache
def _later_keys(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("x-available") is False
    )


def _unavailable(record: BaseModel, path: str = "") -> Iterator[rules.Breach]:
    """Yield the keys that are set but belong to a later version."""
    later = _later_keys(type(record))
    for name in sorted(record.model_fields_set):
        value = getattr(record, name)
        if name in later:
            yield rules.Breach(f"{path}{name}", "not available in this version of rota; remove it")
        elif isinstance(value, BaseModel):
            yield from _unavailable(value, f"{path}{name}.")
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    key = f"{path}{name}[{index}]" if len(value) > 1 else f"{path}{name}"
                    yield from _unavailable(item, f"{key}.")


def _json(text: str) -> Any:
    """Read JSON, where null is a key that is not written: Nix has no other way to leave one out."""
    raw = json.loads(text, object_hook=lambda table: {k: v for k, v in table.items() if v is not None})
    if "\\ud" in text.lower():
        json.dumps(raw, ensure_ascii=False).encode()  # ValueError for half a surrogate pair: no file takes it
    return raw


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Put a person's keys over a bundled agent's; tables of single keys are merged, schedules are not."""
    merged = {**base, **own}
    for key in ("sandbox", "resources", "environment", "credentials"):
        if isinstance(base.get(key), dict) and isinstance(own.get(key), dict):
            merged[key] = {**base[key], **own[key]}
    return merged


def _unknown_channel(name: str, known: Iterable[str], file: str, path: str = "") -> rules.Breach:
    hint = nearest(name, known) or f"; declare [channels.{name}] in {file}"
    return rules.Breach(f"{path}channels", f"unknown channel{hint}", name)


class _Reader:
    """Collects declarations and problems over several files."""

    def __init__(self, naming: Naming) -> None:
        self.naming = naming
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.declarations: dict[str, Declaration] = {}
        self.settings = Settings()
        self.keeper = HomeKeeper()
        self.written: object = None
        self.settled = True
        self.declared = 0
        self.agents: dict[str, bool] = {}
        self.places: dict[str, tuple[str, str]] = {}

    def report(self, file: str, prefix: str, found: Iterable[rules.Breach]) -> None:
        for key, message, value in found:
            path = ".".join(part for part in (prefix, self.naming.key(key)) if part)
            self.problems.append(Problem(file, path, self.naming.message(message), value))

    def report_setting(self, file: str, prefix: str, found: Iterable[rules.Breach]) -> None:
        self.problems += self.setting(file, prefix, found)

    def setting(self, file: str, prefix: str, found: Iterable[rules.Breach]) -> Iterator[Problem]:
        for key, message, value in found:
            where, path = self.naming.setting(file, ".".join(part for part in (prefix, key) if part))
            yield Problem(where, path, self.naming.message(message), value)

    def parse(self, path: Path, file: str, parser: Callable[[str], Any]) -> dict[str, Any] | None:
        """Return a file's content, or None after reporting why there is none."""
        try:
            raw = parser(path.read_bytes().decode())  # not read_text(): it takes a lone CR for a newline
        except OSError as error:
            self.problems.append(Problem(file, "", f"cannot be read: {error.strerror}"))
        except UnicodeDecodeError as error:
            self.problems.append(Problem(file, "", f"is not UTF-8 (byte {error.start})"))
        except RecursionError:
            self.problems.append(Problem(file, "", "is nested too deeply"))
        except ValueError as error:  # tomllib's and json's errors are both
            kind = "JSON" if parser is _json else "TOML"
            hint = instead.unquoted(path.read_text("utf-8")) if kind == "TOML" else ""
            self.problems.append(Problem(file, "", f"not valid {kind}: {error}{hint}"))
        else:
            if isinstance(raw, dict):
                return raw
            self.problems.append(Problem(file, "", "must be a table of keys"))
        return None

    def agent(self, name: str, raw: object, source: Path, file: str, prefix: str = "") -> None:
        """Check one agent's declaration, and keep it if it is right."""
        self.declared += 1
        before = len(self.problems)
        self.agents[name] = not isinstance(raw, dict) or raw.get("enabled") is not False
        if not re.fullmatch(names.AGENT_NAME, name):
            message = "an agent's name is lower-case letters, digits and -, 63 characters at most"
            self.problems.append(Problem(file, prefix, message, name))
        elif name in names.RESERVED:
            message = self.naming.message(f"the name {name} {names.RESERVED[name]}")
            self.problems.append(Problem(file, prefix, message))
        if not isinstance(raw, dict):
            self.problems.append(Problem(file, prefix, "must be a table"))
            return
        broken = list(rules.breaches(raw))
        self.report(file, prefix, broken)
        try:
            agent = Agent.model_validate(raw)
        except ValidationError as failed:
            # What a rule has said already, it has said better.
            said = {breach.key for breach in broken if breach.key == "schedule"}
            self.report(file, prefix, (b for b in _explain(failed, Agent, raw) if b.key not in said))
            return
        self.report(file, prefix, _unavailable(agent))
        if len(self.problems) == before and agent.enabled:
            self.declarations[name] = Declaration(name, agent, self.naming.source(str(source), prefix))
            self.places[name] = (file, prefix)

    def shared(self, raw: dict[str, Any], file: str) -> None:
        """Check the settings."""
        self.declared += 1
        self.written = raw.get("keeper")
        runners = raw.get("runners")
        for name, runner in (runners if isinstance(runners, dict) else {}).items():
            if isinstance(runner, dict):
                self.report_setting(file, f"runners.{name}", rules.runner_breaches(runner))
        try:
            settings = Settings.model_validate(raw)
        except ValidationError as failed:
            self.report_setting(file, "", _explain(failed, Settings, raw))
            self.settled = False
            self.keeper = keeper_parts.sound(self.written)
        else:
            self.report_setting(file, "", _unavailable(settings))
            self.settings, self.keeper = settings, settings.keeper

    def check_keeper(self, settings_file: str) -> None:
        """Report rules of [keeper] that are broken: also where some other key of it is wrong."""
        broken = list(keeper_parts.breaches(self.keeper, self.agents, self.written))
        self.report_setting(settings_file, "keeper", broken)
        if self.settled and not broken:
            doubts = keeper_parts.doubts(self.keeper)
            self.warnings += self.setting(settings_file, "keeper", doubts)

    def check_runners(self, settings_file: str) -> None:
        if not self.settled:
            return  # the settings' own mistakes come first
        known = self.settings.runners
        for name, declaration in list(self.declarations.items()):
            runner = declaration.agent.runner
            if runner is not None and runner not in known:
                hint = nearest(runner, known) or f"; declare [runners.{runner}] in {settings_file}"
                self.report(*self.places[name], [rules.Breach("runner", f"unknown runner{hint}", runner)])
                del self.declarations[name]

    def check_channels(self, settings_file: str) -> None:
        """Report channels that somebody is to be told by and nobody declared."""
        if not self.settled:
            return
        known = self.settings.channels
        for index, route in enumerate(self.settings.routes):
            found = [
                _unknown_channel(name, known, settings_file) for name in route.channels if name not in known
            ]
            self.report_setting(settings_file, f"routes[{index}]", found)
        for name, declaration in list(self.declarations.items()):
            told = declaration.agent.notify.channels if declaration.agent.notify else ()
            if unknown := [one for one in told if one not in known]:
                found = [_unknown_channel(one, known, settings_file, "notify.") for one in unknown]
                self.report(*self.places[name], found)
                del self.declarations[name]

    def bundled(self, raw: dict[str, tuple[dict[str, Any], Path, str]], file: str) -> None:
        """Put the declarations of enabled bundled agents under what the user wrote of the same name."""
        if not self.settings.bundled:
            return
        import rota_agents  # noqa: PLC0415  (only when one is enabled)

        for name in self.settings.bundled:
            if name not in rota_agents.names():
                hint = nearest(name, rota_agents.names()) or f"; there are {', '.join(rota_agents.names())}"
                breach = rules.Breach("bundled", f"no such bundled agent{hint}", name)
                self.report_setting(file, "", [breach])
                continue
            path = rota_agents.declaration(name)
            base = self.parse(path, f"bundled {name}", tomllib.loads) or {}
            own, source, own_file = raw.get(name, ({}, path, f"bundled {name}"))
            raw[name] = (_merged(base, own) if isinstance(own, dict) else own, source, own_file)


def _load_directory(reader: _Reader, directory: Path) -> None:
    settings_file = directory / "rota.toml"
    if settings_file.exists():
        raw = reader.parse(settings_file, "rota.toml", tomllib.loads)
        if raw is None:
            reader.declared += 1
            reader.settled = False
        else:
            reader.shared(raw, "rota.toml")
    found: dict[str, tuple[dict[str, Any], Path, str]] = {}
    folder = directory / "agents.d"
    for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
        file = f"agents.d/{path.name}"
        content = reader.parse(path, file, tomllib.loads)
        if content is None:
            reader.declared += 1
        else:
            found[path.stem] = (content, path, file)
    reader.bundled(found, "rota.toml")
    for name, (content, path, file) in sorted(found.items()):
        reader.agent(name, content, path, file)
    reader.check_runners("rota.toml")
    reader.check_channels("rota.toml")
    reader.check_keeper("rota.toml")


def _load_json(reader: _Reader, path: Path) -> None:
    raw = reader.parse(path, path.name, _json)
    if raw is None:
        reader.declared += 1
        return
    agents = raw.pop("agents", {})
    if not isinstance(agents, dict):
        reader.problems.append(Problem(path.name, "agents", "must be a table"))
        agents = {}
    if raw:
        reader.shared(raw, path.name)
    found = {name: (content, path, path.name) for name, content in agents.items()}
    reader.bundled(found, path.name)
    for name, (content, source, _) in sorted(found.items()):
        file, prefix = reader.naming.agent(path.name, name)
        reader.agent(name, content, source, file, prefix)
    reader.check_runners(path.name)
    reader.check_channels(path.name)
    reader.check_keeper(path.name)


def load(config: Path, *, nixos: bool = False) -> Loaded:
    """Read a configuration: a directory with rota.toml and agents.d/, or one JSON file.

    Args:
        config: the directory or file.
        nixos: the file was made from NixOS options, which is how keys are to be called.

    Raises:
        RotaError: there is no such file or directory; mistakes in it are returned, not raised.
    """
    config = config.absolute()
    if not config.exists():
        raise RotaError(
            f"{config}: no such file or directory",
            "Declarations are read from DIR/agents.d/NAME.toml; see rota(1) for --config.",
            Exit.USAGE,
        )
    if not str(config).isprintable():
        # It becomes part of unit files, as text.
        raise RotaError(
            f"{_escaped(str(config))}: the name has characters that are not printable",
            "Name the directory differently.",
            Exit.USAGE,
        )
    naming = Naming(nixos)
    reader = _Reader(naming)
    if config.is_dir():
        _load_directory(reader, config)
    else:
        _load_json(reader, config)
    return Loaded(
        declarations=tuple(reader.declarations.values()),
        settings=reader.settings,
        problems=tuple(map(_printable, reader.problems)),
        declared=reader.declared,
        origin=naming.source(str(config), ""),
        places=reader.places,
        warnings=tuple(map(_printable, reader.warnings)),
        naming=naming,
    )


def calendar_events(loaded: Loaded) -> dict[str, list[tuple[str, str]]]:
    """Return the calendar events that only systemd can judge, each with the agents and keys it stands at."""
    events: dict[str, list[tuple[str, str]]] = {}
    for declaration in loaded.declarations:
        schedules = declaration.agent.schedule
        for index, item in enumerate(schedules):
            if (kind := schedule.kind(item)) in ("calendar", "once"):
                key = f"schedule[{index}].{kind}" if len(schedules) > 1 else f"schedule.{kind}"
                for event in schedule.calendar_events(item):
                    events.setdefault(event, []).append((declaration.name, key))
    return events
