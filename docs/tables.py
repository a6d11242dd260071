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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic.fields import FieldInfo
from render import Table, Text

from rota import cli, events, keeping, model, names, record, rules, units, watching
from rota.errors import Exit
from rota.interface import FILTERS, INTERFACES, PROPERTIES, SIGNALS
from rota.names import AGENT_INTERFACE, MANAGER_INTERFACE

Record = type[BaseModel]

_TYPES: Sequence[tuple[Any, str, str]] = (
    (record.UnitValue, "boolean, whole number, string or list of strings", ""),
    (record.Line, "string of one line", "strings"),
    (record.Argument, "string", "strings"),
    (record.AbsolutePath, "absolute path", "absolute paths"),
    (record.EnvironmentFile, "absolute path", "absolute paths"),
    (record.SearchDirectory, "absolute path", "absolute paths"),
    (record.Duration, "time span", "time spans"),
    (record.CronText, "cron expression", ""),
    (record.Size, "size, or percentage of the machine's memory", ""),
    (record.Percent, "percentage", ""),
    (watching.Percent, "percentage", ""),
    (
        record.Network,
        "address",
        "addresses and prefixes, or `any`, `localhost`, `link-local`, `multicast`",
    ),
    (record.TimeZone, "time zone", ""),
    (record.Moment, "date and time", ""),
    (record.ListenAddress, "address", "addresses"),
    (record.CredentialFile, "absolute path of a file", ""),
    (record.QuietHours, "span of the day", "spans of the day"),
    (record.Pattern, "name with * and ?", "names with * and ?"),
    (model.Kind, "", "words"),
    (record.Tag, "word of lower-case letters, digits and -", "words of lower-case letters, digits and -"),
    (record.UserName, "user or group name", "group names"),
    (record.VariableName, "variable", "variables"),
    (record.CredentialName, "name", "names"),
    (record.UnitKey, "key", "keys"),
    (record.AgentName, "name", "names"),
    (keeping.Pattern, "target", "targets"),
    (keeping.RemedyText, "remedy", ""),
    (keeping.Step, "", "words"),
    (watching.Host, "name or address of a host", ""),
    (watching.Address, "host:port", ""),
    (watching.Url, "URL", ""),
    (watching.InterfaceName, "network interface", "network interfaces"),
    (StrictFloat, "number", "numbers"),
    (StrictBool, "boolean", ""),
    (StrictInt, "whole number", "whole numbers"),
    (StrictStr, "string", "strings"),
)


def known(kind: Any, types_: Iterable[Any]) -> Any:
    """Return which of some types a type is, or is a narrower one of; None if it is none."""
    found = [one for one in types_ if one == kind or _narrows(kind, one)]
    return max(found, key=lambda one: (one == kind, len(get_args(one))), default=None)


def _narrows(kind: Any, wide: Any) -> bool:
    if get_origin(kind) is not typing.Annotated or get_origin(wide) is not typing.Annotated:
        return False
    inner, outer = get_args(kind), get_args(wide)
    return bool(inner[: len(outer)] == outer)


def _words(kind: Any, *, many: bool = False) -> str:
    """Return a type in words."""
    of = known(kind, (one for one, _, _ in _TYPES))
    if of is not None:
        one, several = next((one, several) for item, one, several in _TYPES if item == of)
        if many and not several:
            raise LookupError(f"docs/tables.py: no plural for {one}")
        return several if many else one
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "tables" if many else "table"
    origin = get_origin(kind)
    found = [item for item in get_args(kind) if item not in (type(None), Ellipsis)]
    if origin not in _GENERIC:
        raise LookupError(f"docs/tables.py: no words for the type {kind}")
    return _GENERIC[origin](found)


def _annotated(found: Sequence[Any]) -> str:
    return f"{'table or ' if _wraps(found[1:]) else ''}{_words(found[0])}"


def _union(found: Sequence[Any]) -> str:
    words = dict.fromkeys(map(_words, found))
    return " or ".join(word for word in words if word != "whole number" or "number" not in words)


_GENERIC: Mapping[Any, Callable[[Sequence[Any]], str]] = {
    typing.Annotated: _annotated,
    typing.Union: _union,
    types.UnionType: _union,
    typing.Literal: lambda found: ", ".join(f"`{item}`" for item in found[:-1]) + f" or `{found[-1]}`",
    tuple: lambda found: f"list of {_words(found[0], many=True)}",
    Mapping: lambda found: f"table: {_words(found[0])} = {_words(found[1])}",
}


def _wraps(metadata: Sequence[Any]) -> bool:
    """Tell whether a list of one may be written without its brackets."""
    return any(getattr(item, "func", None) is record.one_or_many for item in metadata)


def sentence(text: str) -> str:
    """Return text with a capital, unless it begins with a name that has none."""
    return (
        text
        if text.startswith(("rota", "systemd", "true:", "false:", "once:"))
        else text[:1].upper() + text[1:]
    )


def toml(value: object) -> str:
    """Return a value as a declaration has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{rules.dotted(key)} = {toml(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return str(value)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return (
        "" if value is None or value in ((), {}, "") or isinstance(value, BaseModel) else f"`{toml(value)}`"
    )


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
        (
            f"`{name}`",
            sentence(field.description or ""),
            _type_of(record, name),
            _default(field),
            _examples(field),
        )
        for name, field in record.model_fields.items()
        if not _later(field)
    ]
    return Table(("Key", "What it says", "type", "default", "for example"), rows)


def later(*records: tuple[str, Record]) -> Table:
    """Return the keys of records that are refused as not available yet, each with its path."""
    rows = [
        (
            f"`{path}{name}`",
            sentence((field.description or "").removesuffix(" (not available in this version)")),
        )
        for path, record in records
        for name, field in record.model_fields.items()
        if _later(field)
    ]
    return Table(("Key", "What it will say"), rows)


def refused() -> Table:
    """Return the [Service] keys that sandbox.unit may not set."""
    rows = [(f"`{key}`", sentence(reason) + ".") for key, reason in sorted(rules.OWNED.items())]
    return Table(("Key", "Why not, or what instead"), rows)


def weights() -> Table:
    """Return priorities with their weights."""
    rows = [(f"`{name}`", str(weight)) for name, weight in units.WEIGHTS.items()]
    return Table(("Priority", "CPUWeight= and IOWeight="), rows)


def verbs(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return what each verb of a parser is about, and its own parser."""
    found = next(item for item in parser._actions if isinstance(item, argparse._SubParsersAction))
    about = {item.dest: item.help or "" for item in found._choices_actions}
    return {name: (about[name], item) for name, item in found.choices.items()}


def nested(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return the verbs of a verb, if it has any."""
    has = any(isinstance(item, argparse._SubParsersAction) for item in parser._actions)
    return verbs(parser) if has else {}


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the options of a parser."""
    return (item for item in parser._actions if item.option_strings)


def positionals(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser that are not options, without its verbs."""
    found = (item for item in parser._actions if not item.option_strings)
    return (item for item in found if not isinstance(item, argparse._SubParsersAction))


def takes_value(action: argparse.Action) -> bool:
    """Tell whether an option is followed by a value."""
    return bool(action.option_strings) and action.nargs != 0


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
    if (found := nested(parser)) and common:
        words.append(f"[{'|'.join(found)}] [...]")
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
        yield term, sentence(about) + "."
    for name, (about, one) in nested(parser).items() if common else ():
        yield f"`{' '.join(filter(None, (name, usage(one, common))))}`", sentence(about) + "."
        for term, text in option_rows(one, common):
            yield f"`{name}`: {term}", text


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
        raise LookupError(f"docs/words.py: notes and verbs differ: {sorted(set(notes) ^ set(table))}")
    found = []
    for name, (about, one) in table.items():
        rows = list(option_rows(one, common))
        written = " ".join(filter(None, ("rota", name, usage(one, common))))
        first = Text(sentence(about) + ".")
        found.append(
            Verb(
                name,
                written,
                (first, *((Text(notes[name]),) if notes[name] else ())),
                Table(("Option", "Meaning"), rows),
            )
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
    return {
        word for line in re.findall(r"^Environment=(.*)$", text, re.M) for word in re.findall(r"(\w+)=", line)
    }


def environment(rows: Sequence[tuple[str, str]]) -> Table:
    """Return the variables an agent sees; one that rota sets and nobody describes is an error."""
    missing = sets_variables() - {name.strip("`") for name, _ in rows}
    if missing:
        raise LookupError(f"docs/words.py: not described: {sorted(missing)}")
    return Table(("Variable", "What it holds"), rows)


def run_fields() -> Table:
    """Return the fields of a run, from the docstring of events.Run."""
    text = inspect.getdoc(events.Run) or ""
    _, _, listed = text.partition("Attributes:\n")
    found = dict(re.findall(r"^    (\w+): ((?:.*\n?)(?:        .*\n?)*)", listed, re.M))
    hints = get_type_hints(events.Run)
    rows = []
    for name in events.Run._fields:
        kind = next(item for item in (get_args(hints[name]) or (hints[name],)) if item is not type(None))
        about = " ".join(found[name].split())
        about = "see below." if about == "see the module." else about
        rows.append((f"`{name}`", sentence(about), {str: "`s`", int: "`x`", bool: "`b`"}[kind]))
    return Table(("Field", "What it says", "type"), rows)


def signature(arguments: Sequence[tuple[str, str]]) -> str:
    """Return types and names as they stand in a table."""
    return ", ".join(f"`{kind}` {name}" for name, kind in arguments)


def methods(interface: str, reading: set[str]) -> Table:
    """Return the methods of an interface, and who may call them."""
    rows = [
        (
            f"`{name}`",
            method.about,
            signature(method.arguments),
            signature(method.returns),
            "everyone" if name in reading else "who is authorised",
        )
        for name, method in INTERFACES[interface].items()
    ]
    return Table(("Method", "What it does", "in", "out", "who may call it"), rows)


def filters(words: Mapping[str, str]) -> Table:
    """Return what ListRuns and Stats are asked by."""
    rows = [(f"`{name}`", words[name], f"`{kind}`") for name, kind in FILTERS.items()]
    return Table(("Key", "Runs", "type"), rows)


def signals(words: Mapping[str, str]) -> Table:
    """Return the signals of the manager."""
    found = SIGNALS[MANAGER_INTERFACE]
    return Table(
        ("Signal", "When it is sent", "arguments"),
        [(f"`{name}`", words[name], signature(arguments)) for name, arguments in found.items()],
    )


def properties(words: Mapping[str, str]) -> Table:
    """Return the properties of both interfaces."""
    rows = [
        (f"`{interface}.{name}`", words[name], f"`{kind}`")
        for interface in (MANAGER_INTERFACE, AGENT_INTERFACE)
        for name, kind in PROPERTIES[interface].items()
    ]
    return Table(("Property", "What it holds", "type"), rows)


def errors(words: Mapping[Exit, str]) -> Table:
    """Return the names of errors with the exit codes rota gives for them."""
    rows = [(f"`{name}`", words[code], f"`{int(code)}`") for code, name in names.ERRORS.items()]
    return Table(("Error", "Meaning", "exit code of rota"), rows)
