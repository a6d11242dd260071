"""How a declaration's keys are called to the person who wrote them: by file, or by NixOS option."""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from rota.model import Agent
from rota.settings import Settings

_ROOT = "services.rota"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*")


def camel(key: str) -> str:
    """Return a key as NixOS options write it: `after_boot` is afterBoot."""
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def attribute(name: str) -> str:
    """Return a name as Nix writes an attribute, quoted where it must be (Nix manual, Identifiers)."""
    if _PLAIN.fullmatch(name):
        return name
    text = name.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{text}"'


def _records(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _records(argument)


def _is_table(annotation: object) -> bool:
    origin = typing.get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return any(_is_table(argument) for argument in typing.get_args(annotation))


@functools.cache
def _keys() -> tuple[frozenset[str], frozenset[str]]:
    """Return all keys of the schema, and those that hold a table whose keys a person chooses."""
    found: set[str] = set()
    tables: set[str] = set()
    todo: list[type[BaseModel]] = [Agent, Settings]
    while todo:
        for key, info in todo.pop().model_fields.items():
            todo += [record for record in _records(info.annotation) if key not in found]
            found.add(key)
            if _is_table(info.annotation):
                tables.add(key)
    return frozenset(found), frozenset(tables)


def _option(key: str) -> str:
    """Return a key's path below an agent, or below `services.rota`, in camelCase."""
    keys, tables = _keys()
    path = ""
    rest = key
    while rest:
        part, _, rest = rest.partition(".")
        name, bracket, index = part.partition("[")
        path += f"{'.' if path else ''}{camel(name) if name in keys else attribute(name)}{bracket}{index}"
        if name in tables and rest:
            if name in ("runners", "channels"):  # their tables have keys of the schema again
                chosen, _, rest = rest.partition(".")
                path += f".{attribute(chosen)}"
            else:
                return f"{path}.{attribute(rest)}"
    return path


@dataclass(frozen=True, slots=True)
class Naming:
    """Where a person finds what they declared.

    Attributes:
        nixos: in NixOS options, whose files Nix knows and rota does not; else in a file with the
            keys as they are.
    """

    nixos: bool = False

    def agent(self, file: str, name: str) -> tuple[str, str]:
        """Return the file and the key of an agent that stands in a file with all of them."""
        return ("", f"{_ROOT}.agents.{attribute(name)}") if self.nixos else (file, f"agents.{name}")

    def setting(self, file: str, key: str) -> tuple[str, str]:
        """Return the file and the full key of a setting."""
        if not self.nixos:
            return file, key
        below = "" if key.startswith("runners") else "settings."
        return "", f"{_ROOT}.{below}{_option(key)}"

    def key(self, key: str) -> str:
        """Return a key within an agent."""
        return _option(key) if self.nixos else key

    def message(self, text: str) -> str:
        """Return a sentence with the keys that it names."""
        if not self.nixos:
            return text
        found = "|".join(sorted((key for key in _keys()[0] if "_" in key), key=len, reverse=True))
        text = re.sub(rf"\b(?:{found})\b", lambda match: camel(match[0]), text)
        text = re.sub(r"\[(runners\.[^\]]+)\] in \S+\.(?:toml|json)", rf"{_ROOT}.\1", text)
        return re.sub(r"\[(channels\.[^\]]+)\] in \S+\.(?:toml|json)", rf"{_ROOT}.settings.\1", text)

    def source(self, path: str, key: str) -> str:
        """Return where something is declared, for the head of a unit file.

        With NixOS the option's name: the file has another path whenever any declaration changes, and
        units must not change with it.
        """
        return (key or _ROOT) if self.nixos else path
