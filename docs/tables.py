"""What the code says, as tables: keys, verbs, exit codes, D-Bus members, fields of a run.

Where a table needs words of its own, a thing the code has and the words lack is an error here.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from completions import options, positionals, takes_value, verbs
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from render import Table, Text

from rota import bus, cli, events, model, rules, units
from rota.errors import Exit
from rota.names import AGENT_INTERFACE, MANAGER_INTERFACE

Record = type[BaseModel]

_TYPES: Sequence[tuple[Any, str, str]] = (
    (model.UnitValue, "boolean, whole number, string or list of strings", ""),
    (model.Line, "string of one line", "strings"),
    (model.Argument, "string", "strings"),
    (model.AbsolutePath, "absolute path", "absolute paths"),
    (model.EnvironmentFile, "absolute path", "absolute paths"),
    (model.Duration, "time span", "time spans"),
    (model.CronText, "cron expression", ""),
    (model.Size, "size, or percentage of the machine's memory", ""),
    (model.Percent, "percentage", ""),
    (
        model.Network,
        "address",
        "addresses, prefixes, and the words `any`, `localhost`, `link-local`, `multicast`",
    ),
    (model.TimeZone, "time zone", ""),
    (model.Moment, "date and time", ""),
    (model.Tag, "word of lower-case letters, digits and -", "words of lower-case letters, digits and -"),
    (model.UserName, "user or group name", "group names"),
    (model.VariableName, "variable", "variables"),
    (model.CredentialName, "name", "names"),
    (model.UnitKey, "key", "keys"),
    (model.AgentName, "name", "names"),
    (model.StrictBool, "boolean", ""),
    (model.StrictInt, "whole number", ""),
)


def _words(kind: Any, *, many: bool = False) -> str:
    """Return a type in words."""
    for known, one, several in _TYPES:
        if kind == known:
            if many and not several:
                raise LookupError(f"docs/tables.py: no plural for {one}")
            return several if many else one
    arguments = [item for item in get_args(kind) if item not in (type(None), Ellipsis)]
    match get_origin(kind):
        case typing.Annotated:
            return f"{_words(arguments[0])[8:].rstrip('s')}, or a list" if _wraps(kind) else _words(arguments[0])
        case types.UnionType | Union:
            return " or ".join(dict.fromkeys(_words(item) for item in arguments))
        case typing.Literal:
            return ", ".join(f"`{item}`" for item in arguments[:-1]) + f" or `{arguments[-1]}`"
    if get_origin(kind) is tuple:
        return f"list of {_words(arguments[0], many=True)}"
    if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
        return f"table: {_words(arguments[0])} = {_words(arguments[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "tables" if many else "table"
    raise LookupError(f"docs/tables.py: no words for the type {kind}")


def _wraps(kind: Any) -> bool:
    """Tell whether a list of one may be written without its brackets."""
    return any(getattr(item, "func", None) is model._one_or_many for item in kind.__metadata__)


def toml(value: object) -> str:
    """Return a value as a declaration has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key} = {toml(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return str(value)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return "" if value is None or value in ((), {}, "") or isinstance(value, BaseModel) else f"`{toml(value)}`"


def _later(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("x-available") is False


def _examples(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    found = field.examples or (extra.get("examples") if isinstance(extra, dict) else None) or []
    return " or ".join(f"`{toml(item)}`" for item in typing.cast(list[object], found))


def _type_of(record: Record, name: str) -> str:
    text = _words(get_type_hints(record, include_extras=True)[name])
    least = next((item.ge for item in record.model_fields[name].metadata if hasattr(item, "ge")), None)
    return text if least is None else f"{text}, at least {least}"


def keys(record: Record) -> Table:
    """Return the keys of a record that this version has."""
    rows = [
        (f"`{name}`", field.description or "", _type_of(record, name), _default(field), _examples(field))
        for name, field in record.model_fields.items()
        if not _later(field)
    ]
    return Table(("Key", "What it says", "type", "default", "for example"), rows)


def later(*records: tuple[str, Record]) -> Table:
    """Return the keys of records that are refused as not available yet, each with its path."""
    rows = [
        (f"`{path}{name}`", (field.description or "").removesuffix(" (not available in this version)"))
        for path, record in records
        for name, field in record.model_fields.items()
        if _later(field)
    ]
    return Table(("Key", "What it will say"), rows)


def refused() -> Table:
    """Return the [Service] keys that sandbox.unit may not set."""
    rows = [(f"`{key}`", reason[0].upper() + reason[1:] + ".") for key, reason in sorted(rules._OWNED.items())]
    return Table(("Key", "Why not, or what instead"), rows)


def weights() -> Table:
    """Return priorities with their weights."""
    rows = [(f"`{name}`", str(weight)) for name, weight in units.WEIGHTS.items()]
    return Table(("Priority", "CPUWeight= and IOWeight="), rows)


def usage(parser: argparse.ArgumentParser, common: set[str] | None = None) -> str:
    """Return how a program or verb is written, as argparse would not say it: the same on any Python."""
    words: list[str] = []
    for item in options(parser):
        if item.dest in ("help", "version") or (common and item.option_strings[0] in common):
            continue
        value = f" {item.metavar}" if takes_value(item) else ""
        text = f"{item.option_strings[0]}{value}"
        words.append(text if item.required else f"[{text}]")
    for item in positionals(parser):
        name = str(item.metavar or "|".join(map(str, item.choices or (item.dest,))))
        words.append(f"[{name}]" if item.nargs == "?" else name)
    return " ".join(words)


def option_rows(parser: argparse.ArgumentParser, common: set[str] | None = None) -> Iterator[tuple[str, str]]:
    """Yield the options and arguments of a parser, without those common to all verbs."""
    for item in (*options(parser), *positionals(parser)):
        if common and item.option_strings and item.option_strings[0] in common:
            continue
        value = f" {item.metavar}" if takes_value(item) else ""
        name = item.metavar or "|".join(map(str, item.choices or ()))
        term = ", ".join(f"`{one}{value}`" for one in item.option_strings) or f"`{name}`"
        about = item.help or ""
        yield term, about[0].upper() + about[1:] + "."


def common_options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options that go before any verb or after it."""
    return {item.option_strings[0] for item in options(parser) if item.dest != "version"}


@dataclasses.dataclass(frozen=True, slots=True)
class Verb:
    """A verb of rota.

    Attributes:
        name: the word.
        usage: how it is written.
        about: what it does, from the parser and in full.
        options: its own options and arguments.
    """

    name: str
    usage: str
    about: tuple[Text, ...]
    options: Table


def all_verbs(notes: Mapping[str, str]) -> list[Verb]:
    """Return the verbs with their notes; a verb without one is an error, and a note without a verb."""
    parser = cli.parser()
    common, table = common_options(parser), verbs(parser)
    if set(notes) != set(table):
        raise LookupError(f"docs/pages.py: notes and verbs differ: {sorted(set(notes) ^ set(table))}")
    found = []
    for name, (about, one) in table.items():
        rows = list(option_rows(one, common))
        written = " ".join(filter(None, ("rota", name, usage(one, common))))
        first = Text(about[0].upper() + about[1:] + ".")
        found.append(
            Verb(name, written, (first, *((Text(notes[name]),) if notes[name] else ())), Table(("Option", "Meaning"), rows))
        )
    return found


def exits(words: Mapping[Exit, str], *more: tuple[str, str]) -> Table:
    """Return exit codes."""
    return Table(("Code", "Meaning"), [*((f"`{int(code)}`", words[code]) for code in Exit), *more])


def sets_variables() -> set[str]:
    """Return the environment variables that rota itself writes into the units of an agent."""
    agent = model.Agent(command=("true",), schedule=(model.Schedule(every="1h"),))
    made = units.agent_units(model.Declaration("name", agent, "/name.toml"), {}, units.Context())
    text = made[0].text or ""
    return {word for line in re.findall(r"^Environment=(.*)$", text, re.M) for word in re.findall(r"(\w+)=", line)}


def environment(rows: Sequence[tuple[str, str]]) -> Table:
    """Return the variables an agent sees; one that rota sets and nobody describes is an error."""
    missing = sets_variables() - {name.strip("`") for name, _ in rows}
    if missing:
        raise LookupError(f"docs/pages.py: not described: {sorted(missing)}")
    return Table(("Variable", "What it holds"), rows)


def run_fields() -> Table:
    """Return the fields of a run, from the docstring of events.Run."""
    text = inspect.getdoc(events.Run) or ""
    _, _, listed = text.partition("Attributes:\n")
    found = dict(re.findall(r"^    (\w+): ((?:.*\n?)(?:        .*\n?)*)", listed, re.M))
    hints = get_type_hints(events.Run)
    rows = []
    for field in dataclasses.fields(events.Run):
        kind = next(item for item in (get_args(hints[field.name]) or (hints[field.name],)) if item is not type(None))
        about = " ".join(found[field.name].split())
        about = "see below." if about == "see the module." else about
        rows.append((f"`{field.name}`", about[0].upper() + about[1:], {str: "s", int: "x", bool: "b"}[kind]))
    return Table(("Field", "What it says", "type"), rows)


def _signature(arguments: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"`{kind}` {name}" for name, kind in arguments)


def methods(interface: str, reading: set[str]) -> Table:
    """Return the methods of an interface, and who may call them."""
    rows = [
        (
            f"`{name}`",
            method.about,
            _signature(method.arguments),
            _signature(method.returns),
            "everyone" if name in reading else "who is authorised",
        )
        for name, method in bus.INTERFACES[interface].items()
    ]
    return Table(("Method", "What it does", "in", "out", "who may call it"), rows)


def signals(words: Mapping[str, str]) -> Table:
    """Return the signals of the manager."""
    found = bus.SIGNALS[MANAGER_INTERFACE]
    return Table(
        ("Signal", "When it is sent", "arguments"),
        [(f"`{name}`", words[name], _signature(arguments)) for name, arguments in found.items()],
    )


def properties(words: Mapping[str, str]) -> Table:
    """Return the properties of both interfaces."""
    rows = [
        (f"`{interface}.{name}`", words[name], f"`{kind}`")
        for interface in (MANAGER_INTERFACE, AGENT_INTERFACE)
        for name, kind in bus.PROPERTIES[interface].items()
    ]
    return Table(("Property", "What it holds", "type"), rows)


def errors(words: Mapping[Exit, str]) -> Table:
    """Return the names of errors with the exit codes rota gives for them."""
    rows = [(f"`{name}`", words[code], f"`{int(code)}`") for code, name in bus.ERRORS.items()]
    return Table(("Error", "Meaning", "exit code of rota"), rows)
