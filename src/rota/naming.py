"""How a declaration's keys are called to the person who wrote them: by file, or by NixOS option."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from pydantic import BaseModel

from rota.model import Agent
from rota.record import is_table, records_in
from rota.settings import Settings

_ROOT = "services.rota"
_APART = {"runners": "runners", "keeper": "homeKeeper"}
"""Settings with options of their own; the others are below `settings`."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*")
_PART = re.compile(r"""("(?:[^"\\]|\\.)*"|[^."\[]+)((?:\[[0-9]+\])*)\.?""")
_ESCAPED = re.compile(r"\\(.)")
_TABLE = re.compile(r"\[((?:runners|channels|keeper)(?:\.[^\]]+)?)\](?: in \S+\.(?:toml|json))?")
"""As messages name a table, and perhaps its file."""


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


@functools.cache
def _keys() -> frozenset[str]:
    """Return all keys of the schema."""
    found: set[str] = set()
    todo: list[type[BaseModel]] = [Agent, Settings]
    while todo:
        for key, info in todo.pop().model_fields.items():
            todo += [record for record in records_in(info.annotation) if key not in found]
            found.add(key)
    return frozenset(found)


def _unquoted(name: str) -> str:
    return _ESCAPED.sub(r"\1", name[1:-1]) if name.startswith('"') else name


def _option(key: str, record: type[BaseModel]) -> str:
    """Return a key of a record, as `rules.dotted` writes it, as a path of NixOS options."""
    known: tuple[type[BaseModel], ...] = (record,)
    chosen = False  # by a person: the next name is no key of ours
    path: list[str] = []
    for found in _PART.finditer(key):
        name, index = _unquoted(found[1]), found[2]
        if chosen and not known:
            path.append(attribute(_unquoted(key[found.start() :])))
            break
        if chosen:
            path.append(attribute(name) + index)
            chosen = False
            continue
        field = next((one.model_fields[name] for one in known if name in one.model_fields), None)
        path.append((attribute(name) if field is None else camel(name)) + index)
        known = () if field is None else tuple(records_in(field.annotation))
        chosen = field is not None and is_table(field.annotation)
    return ".".join(path)


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
        option = _option(key, Settings)
        for apart, root in _APART.items():
            if option.partition(".")[0].partition("[")[0] == apart:
                return "", f"{_ROOT}.{root}{option.removeprefix(apart)}"
        return "", f"{_ROOT}.settings.{option}"

    def key(self, key: str) -> str:
        """Return a key within an agent."""
        return _option(key, Agent) if self.nixos else key

    def message(self, text: str) -> str:
        """Return a sentence with the keys that it names."""
        if not self.nixos:
            return text
        found = "|".join(sorted((key for key in _keys() if "_" in key), key=len, reverse=True))
        text = re.sub(rf"\b(?:{found})\b", lambda match: camel(match[0]), text)
        return _TABLE.sub(lambda match: self.setting("", match[1])[1], text)

    def source(self, path: str, key: str) -> str:
        """Return where something is declared, for the head of a unit file.

        With NixOS the option's name: the file has another path whenever any declaration changes, and
        units must not change with it.
        """
        return (key or _ROOT) if self.nixos else path
