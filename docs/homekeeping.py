"""The sections of the reference about [keeper], one for each table that its schema has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import tables
from pydantic import BaseModel
from render import Block, Code, Section, Table, Text

from rota import keeper_rules
from rota.record import is_table, records_in
from rota.settings import HomeKeeper

_TOML = """
# in rota.toml
[keeper]
enable = true
quiet  = ["22:30-07:00"]

[keeper.targets."unit:postgresql.service"]
[keeper.targets."unit:app-*.service"]
after = ["unit:postgresql.service"]

[keeper.endpoints.router]
ping = "192.168.1.1"
"""
_KINDS = Table(
    ("Target", "What it is"),
    (
        ("`unit:nginx.service`", "A unit of this machine; `unit:nas/smbd.service` one of the host nas."),
        ("`container:web`", "A container."),
        ("`disk:/srv`", "A file system, by where it is mounted; or a drive, by its device."),
        ("`host:memory`", "Something that is measured of this machine."),
        ("`endpoint:router`", "Something on the network, by its name in [keeper.endpoints]."),
        ("`query:hot`", "A PromQL query, or an alert that fires."),
        ("`database:main`", "A database."),
        ("`agent:backup-check`", "An agent of rota's."),
        ("`rotad:lag`", "rotad itself."),
        ("`check:disks`", "A check that cannot look."),
    ),
)


def _tables(record: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the tables below a record, each with its path; those that stand in several places once."""
    for name, field in record.model_fields.items():
        inner = f"{path}.{name}{'.NAME' if is_table(field.annotation) else ''}"
        for found in records_in(field.annotation):
            yield inner, found
            yield from _tables(found, inner)


def _about(record: type[BaseModel]) -> str:
    return re.sub(r"\s+", " ", inspect.getdoc(record) or "")


def keys() -> list[Section]:
    """Return the sections of the reference."""
    places: dict[type[BaseModel], list[str]] = {}
    for path, record in _tables(HomeKeeper, "keeper"):
        places.setdefault(record, []).append(path)
    first: list[Block] = [
        Text(
            "What the Home Keeper watches, and what it may do about it. What it says something about is a"
            " target, KIND:NAME; patterns have * and ?. See keeper.md in the documentation."
        ),
        Code(_TOML, "toml"),
        tables.keys(HomeKeeper),
        _KINDS,
        Text(
            "Never touched, whatever is declared: "
            + ", ".join(f"`{name}`" for name in keeper_rules.NEVER)
            + "."
        ),
    ]
    found = [Section("[keeper]", first)]
    for record, paths in places.items():
        title = f"[{paths[0]}]" if len(paths) == 1 else f"{record.__name__}, in several tables of [keeper]"
        where = [] if len(paths) == 1 else [Text(f"In {', '.join(f'`{path}`' for path in paths)}.")]
        found.append(Section(title, [Text(_about(record)), *where, tables.keys(record)]))
    return found
