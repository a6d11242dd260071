"""What to write instead of a key that is unknown where it stands, or of a value of another type."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from rota.errors import nearest
from rota.record import is_table, records_in
from rota.rules import dotted

Loc = Sequence[int | str]
"""Where pydantic found a mistake: keys, indices, and the branches of unions."""

_TABLES = ("dict_type", "mapping_type", "model_type", "model_attributes_type")
_COLON = re.compile(r"\s*\[([A-Za-z0-9_.-]+)\.([a-z]+:[^\"'\]]+)\]\s*(?:#.*)?")


class _Table(NamedTuple):
    """A record on the way to a key, and what its table is called."""

    path: tuple[str, ...]
    record: type[BaseModel]

    @property
    def name(self) -> str:
        return f"[{dotted(*self.path)}]"


def _way(model: type[BaseModel], loc: Loc) -> tuple[list[_Table], tuple[str, ...]]:
    """Return the records down to the one in which a key stands, and the key's own path.

    A name that a person chose is NAME in the path of its table.
    """
    tables, path, chosen = [_Table((), model)], tuple[str, ...](), False
    for part in loc:
        if chosen:
            path, chosen = (*path, str(part)), False
            continue
        field = tables[-1].record.model_fields.get(str(part))
        if field is None:
            continue  # the branch of a union, an index, or a key that is unknown
        path, chosen = (*path, str(part)), is_table(field.annotation)
        for record in records_in(field.annotation):
            tables.append(_Table((*path, "NAME") if chosen else path, record))
            break
    return tables, path


def unknown(model: type[BaseModel], loc: Loc) -> str:
    """Return "; did you mean X?", or of which table it is a key, "" if nothing is like it."""
    tables, _ = _way(model, loc[:-1])
    *above, here = tables
    word = str(loc[-1])
    near = nearest(word, here.record.model_fields)
    if near:
        return near
    inner = [
        _Table((*here.path, name), record)
        for name, field in here.record.model_fields.items()
        if not is_table(field.annotation)
        for record in records_in(field.annotation)
    ]
    places = dict.fromkeys(
        table.name for table in (*above, *inner) if table.path and word in table.record.model_fields
    )
    return f"; it is a key of {' or '.join(places)}" if places else ""


def _toml(value: object) -> str:
    """Return a value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{dotted(str(name))} = {_toml(item)}' for name, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _words(key: str, value: str) -> list[str]:
    """Return a list of one: of a command, its words."""
    try:
        return shlex.split(value) if key == "command" else [value]
    except ValueError:
        return [value]


def example(kind: str, model: type[BaseModel], loc: Loc, value: object) -> str:
    """Return "; write ..." for a value of another type, "" if the type says it all.

    Args:
        kind: pydantic's word for the type that it should be of.
        model: the record in which it was found.
        loc: where.
        value: what was written, "" if that may not be shown.
    """
    tables, path = _way(model, loc)
    key = path[-1] if path else ""
    if kind == "tuple_type" and isinstance(value, str | int | float) and value != "":
        return f"; write {_toml(_words(key, value) if isinstance(value, str) else [value])}"
    if kind not in _TABLES or not path:
        return ""
    if len(tables[-1].path) == len(path) and tables[-1].path[-1:] == ("NAME",):
        return f"; write {tables[-1].name} for each"
    for table in reversed(tables):
        field = table.record.model_fields.get(key)
        if field is not None and field.examples:
            shown = field.examples[0]
            several = shown if isinstance(shown, list) and isinstance(loc[-1], int) else field.examples
            found = next((one for one in several if isinstance(one, Mapping)), None)
            return f"; write for example {_toml(found)}" if found else ""
    return ""


def unquoted(text: str) -> str:
    """Return "; write ..." for the header of a table whose name needs quotes, "" if there is none."""
    for line in text.splitlines():
        if found := _COLON.fullmatch(line):
            return f'; write [{found[1]}."{found[2]}"]: a name with : needs quotes'
    return ""
