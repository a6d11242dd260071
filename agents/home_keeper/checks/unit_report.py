"""What another machine says of its units, taken apart. It may say anything: what does not fit is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rota.quantity import INFINITY, parse_duration

from .units import Unit
from .words import Malformed, clip

FIRST, LAST = "rota-probe 1", "end"
MOST_UNITS = 20_000
_LINE = 16_384
_TYPES = "service|socket|mount|automount|swap|target|path|timer|scope|snapshot"
_NAME = re.compile(rf"[A-Za-z0-9:_.\\@-]{{1,240}}\.(?:{_TYPES})")
_WORD = re.compile(r"[a-z][a-z-]{0,39}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_LOAD = ("stub", "loaded", "not-found", "bad-setting", "error", "merged", "masked")
_ACTIVE = (
    "active", "reloading", "inactive", "failed", "activating", "deactivating", "maintenance", "refreshing"
)  # fmt: skip


def _word(text: str) -> str:
    if text and not _WORD.fullmatch(text):
        raise ValueError
    return text


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return int(text)


def _span(text: str) -> int | None:
    found = parse_duration(text)
    return None if found >= INFINITY else found


def _flag(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _names(text: str) -> tuple[str, ...]:
    # Slices and devices among them are passed over.
    return tuple(name for name in text.split(" ") if _NAME.fullmatch(name))


_PROPERTIES: Mapping[str, Callable[[str], Any]] = {
    "Id": str,
    "Type": _word,
    "Result": _word,
    "ExecMainCode": _number,
    "ExecMainStatus": _number,
    "NRestarts": _number,
    "TimeoutStartUSec": _span,
    "TimeoutStopUSec": _span,
    "ConditionResult": _flag,
    "ConditionTimestampMonotonic": lambda text: text not in ("", "0"),
    "Job": lambda text: text not in ("", "0"),
    "WantedBy": _names,
    "RequiredBy": _names,
    "RemainAfterElapse": _flag,
}


def parse(answer: bytes) -> dict[str, Unit]:
    """Return the units of a machine by name.

    Args:
        answer: what share/rota-probe printed there, or whoever answered in its place.

    Raises:
        Malformed: it is something else; cut off, for example.
    """
    try:
        lines = answer.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Malformed("its answer is not ASCII") from None
    if lines[0] != FIRST or lines[-2:] != [LAST, ""]:
        said = "is cut off" if lines[0] == FIRST else f'begins with "{clip(lines[0], 40)}", not "{FIRST}"'
        raise Malformed(f"its answer {said}")
    if "" not in lines[1:-2]:
        raise Malformed("its answer has no properties")
    middle = lines.index("", 1)
    units = _states(lines[1:middle])
    for table in _tables(lines[middle + 1 : -2]):
        unit = units.get(table.get("Id", ""))
        # One that was asked for by another of its names, or came only now, is not among those listed.
        if unit is not None:
            units[unit.name] = _with(unit, table, units)
    return units


def _states(lines: list[str]) -> dict[str, Unit]:
    if len(lines) > MOST_UNITS:
        raise Malformed(f"it has more than {MOST_UNITS} units")
    units = {}
    for line in lines:
        name, *states = line.split(" ")
        if len(states) != 3 or not _NAME.fullmatch(name):
            raise Malformed(f'it lists "{clip(line, 60)}", which is no unit')
        load, active, sub = states
        if load not in _LOAD or active not in _ACTIVE or not _WORD.fullmatch(sub):
            raise Malformed(f'it says that {name} is "{clip(" ".join(states), 60)}"')
        units[name] = Unit(name, active, sub, load)
    return units


def _tables(lines: list[str]) -> Iterator[dict[str, Any]]:
    """Yield what is said between two empty lines, by property."""
    table: dict[str, Any] = {}
    for line in (*lines, ""):
        if not line:
            if table:
                yield table
            table = {}
            continue
        name, sign, text = line.partition("=")
        read = _PROPERTIES.get(name)
        if not sign or read is None or name in table or len(line) > _LINE:
            raise Malformed(f'it says "{clip(line, 60)}", which was not asked')
        try:
            table[name] = read(text)
        except (ValueError, KeyError):
            raise Malformed(f'it says "{clip(line, 60)}"') from None


def _with(unit: Unit, table: Mapping[str, Any], units: Mapping[str, Unit]) -> Unit:
    wanting = (units.get(name) for name in (*table.get("WantedBy", ()), *table.get("RequiredBy", ())))
    wanted = any(one is not None and one.active == "active" for one in wanting)
    limit = "TimeoutStopUSec" if unit.active == "deactivating" else "TimeoutStartUSec"
    return replace(
        unit,
        queued=table.get("Job", False),
        condition=table.get("ConditionResult", True) or not table.get("ConditionTimestampMonotonic", True),
        kind=table.get("Type", ""),
        limit=table.get(limit),
        result=table.get("Result", ""),
        code=table.get("ExecMainCode", 0),
        status=table.get("ExecMainStatus", 0),
        restarts=table.get("NRestarts"),
        wanted=unit.name.endswith(".timer") and wanted and table.get("RemainAfterElapse", True),
    )
