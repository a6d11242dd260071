"""nix/home-keeper.json: the keys of [keeper] from the schema, of which nix/keeper.nix makes NixOS options.

An option is a table: `key` (as in TOML), `description`, `example`, and `default` unless it must be written;
its `type` is the name of a type, or a table with one key that says what is made of others (`_MADE`). One
with `options` is a set of options.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic.fields import FieldInfo
from tables import known, sentence

from rota import record, watching
from rota.naming import Naming, camel
from rota.settings import HomeKeeper

Record = type[BaseModel]
Table = dict[str, Any]

_NAMES: Sequence[tuple[Any, str]] = (
    (StrictBool, "bool"),
    (StrictInt, "int"),
    (StrictFloat, "number"),
    (StrictStr, "str"),
    (watching.Number, "number"),
    (record.UnitValue, "unitValue"),
    (record.AbsolutePath, "absolutePath"),
    (record.AgentName, "agentName"),
    (record.Argument, "str"),
    (record.CredentialFile, "externalPath"),
    (record.Duration, "duration"),
    (record.Line, "line"),
    (record.Network, "network"),
    (record.Percent, "share"),
    (watching.Percent, "share"),
    (record.QuietHours, "quietHours"),
    (record.Size, "size"),
    (record.UserName, "userName"),
)


def _type(kind: Any) -> Any:
    """Return a type in the words of nix/keeper.nix."""
    of = known(kind, (one for one, _ in _NAMES))
    if of is not None:
        return next(name for one, name in _NAMES if one == of)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {"record": _options(kind, inside=True)}
    origin = get_origin(kind)
    found = [item for item in get_args(kind) if item not in (type(None), Ellipsis)]
    return _MADE[origin](found)


def _union(found: Sequence[Any]) -> Any:
    kinds = [_type(item) for item in found]
    if all(kind in ("int", "number") for kind in kinds):
        return "number"
    return {"either": kinds} if len(kinds) > 1 else kinds[0]


_MADE: Mapping[Any, Callable[[Sequence[Any]], Any]] = {
    typing.Annotated: lambda found: _type(found[0]),
    typing.Union: _union,
    types.UnionType: _union,
    typing.Literal: lambda found: {"enum": list(found)},
    tuple: lambda found: {"list": _type(found[0])},
    Mapping: lambda found: {"table": _type(found[1])},
}


def _bounded(kind: Any, field: FieldInfo) -> Any:
    least = next((item.ge for item in field.metadata if hasattr(item, "ge")), None)
    most = next((item.le for item in field.metadata if hasattr(item, "le")), None)
    return {"between": [least, most]} if kind == "int" and None not in (least, most) else kind


def _value(kind: Any, value: Any) -> Any:
    """Return a default or an example with the keys of its records in camelCase."""
    if isinstance(kind, dict):
        ((word, inner),) = kind.items()
        if word == "either":
            inner = next((one for one in inner if isinstance(one, dict)), None)
            return _value(inner, value) if isinstance(value, dict) else value
        if word == "record" and isinstance(value, dict):
            by_key = {option["key"]: (name, option["type"]) for name, option in inner.items()}
            return {by_key[key][0]: _value(by_key[key][1], item) for key, item in value.items()}
        if word == "table" and isinstance(value, dict):
            return {key: _value(inner, item) for key, item in value.items()}
        if word == "list" and isinstance(value, list | tuple):
            return [_value(inner, item) for item in value]
    return value


def _described(field: FieldInfo) -> str:
    text = Naming(nixos=True).message(sentence(field.description or ""))
    return text if text.endswith(".") else f"{text}."


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _example(name: str, kind: Any, field: FieldInfo) -> Any:
    for value in field.examples or ():
        return _value(kind, value)
    if isinstance(default := _default(field), str | bool | int):
        return default
    raise LookupError(f"docs/options.py: {name} has no example")


def _option(name: str, kind: Any, field: FieldInfo, *, inside: bool) -> Table:
    of = _bounded(_type(kind), field)
    option = {"key": name, "type": of, "description": _described(field)}
    if not field.is_required():
        # Nix cannot tell what was written of a record from its defaults, and only that is handed over.
        option["default"] = None if inside else _value(of, _default(field))
        if inside and _default(field) not in (None, "", (), {}):
            option["description"] += f" By default {_literal(_default(field))}."
    return {**option, "example": _example(name, of, field)}


def _literal(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _options(of: Record, *, inside: bool = False) -> Table:
    hints = get_type_hints(of, include_extras=True)
    found: Table = {}
    for name, field in of.model_fields.items():
        default = None if field.is_required() else _default(field)
        if isinstance(default, BaseModel) and not inside:
            found[camel(name)] = {"key": name, "options": _options(type(default))}
        else:
            found[camel(name)] = _option(name, hints[name], field, inside=inside)
    return found


def table() -> str:
    """Return nix/home-keeper.json."""
    return json.dumps(_options(HomeKeeper), indent=1, ensure_ascii=False, default=list) + "\n"
