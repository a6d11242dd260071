"""Frozen dataclasses to plain values for JSON, and back; and moved in time, moment by moment.

What is at its default is left out, so that a field can be added later. Types that are known: str, int, float,
bool, other such dataclasses, tuples and mappings (by str) of them, None beside one of them, and Any.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

Moment = Annotated[int, "moment"]
"""Microseconds since 1970 (UTC); what `moved` moves. Other numbers stay."""


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def to_plain(value: Any, *, whole: bool = False) -> Any:
    """Return a value as `json.dumps` takes it; whole: with what is at its default."""
    if dataclasses.is_dataclass(value):
        return dict(_written(value, whole))
    if isinstance(value, Mapping):
        return {key: to_plain(item, whole=whole) for key, item in value.items()}
    return [to_plain(item, whole=whole) for item in value] if isinstance(value, tuple) else value


def _written(value: Any, whole: bool) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        found, factory = getattr(value, field.name), field.default_factory
        if whole or found != (field.default if factory is dataclasses.MISSING else factory()):
            yield field.name, to_plain(found, whole=whole)


def from_plain(kind: type[T], raw: Any, where: str = "") -> T:
    """Return a dataclass from what `to_plain` made of it.

    Args:
        kind: the dataclass.
        raw: what `json.loads` returned.
        where: path of the value, for errors.

    Raises:
        ValueError: the path of the value that does not fit, and why.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{where or kind.__name__}: must be an object")
    hints = _hints(cast("Any", kind))
    if unknown := raw.keys() - hints.keys():
        raise ValueError(f"{where or kind.__name__}: unknown key {min(unknown)}")
    try:
        return kind(**{name: _read(hints[name], item, f"{where}.{name}") for name, item in raw.items()})
    except TypeError as error:
        raise ValueError(f"{where or kind.__name__}: {error}") from None


def _read(hint: Any, raw: Any, where: str) -> Any:
    hint = _bare(hint)
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, types.UnionType):
        known = next(item for item in inner if item is not type(None))
        return None if raw is None else _read(known, raw, where)
    if kind is tuple and isinstance(raw, list):
        return tuple(_read(inner[0], item, f"{where}[{index}]") for index, item in enumerate(raw))
    if kind is Mapping and isinstance(raw, dict):
        return {key: _read(inner[1], item, f"{where}.{key}") for key, item in raw.items()}
    if dataclasses.is_dataclass(kind):
        return from_plain(cast("Any", kind), raw, where)
    if kind is Any or type(raw) is kind or (kind is float and type(raw) is int):
        return float(raw) if kind is float else raw
    raise ValueError(f"{where}: must be {getattr(kind, '__name__', kind)}, is {raw!r}")


def _bare(hint: Any) -> Any:
    """Return a type without its annotation."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def moved(value: T, by: int) -> T:
    """Return a dataclass with every moment in it later by so many microseconds."""
    changes: dict[str, Any] = {}
    for name, hint in _hints(cast("Any", type(value))).items():
        if (mover := _mover(hint)) is not None:
            changes[name] = mover(getattr(value, name), by)
    return dataclasses.replace(value, **changes) if changes else value  # type: ignore[type-var]


@functools.cache
def _mover(hint: Any) -> Any:
    """Return what moves values of a type, None if there is nothing in them to be moved."""
    if hint == Moment:
        return lambda value, by: value + by
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        mover = _mover(next(item for item in inner if item is not type(None)))
        return mover and (lambda value, by: None if value is None else mover(value, by))
    if origin is tuple:
        mover = _mover(inner[0])
        return mover and (lambda value, by: tuple(mover(item, by) for item in value))
    if origin is Mapping:
        mover = _mover(inner[1])
        return mover and (lambda value, by: {key: mover(item, by) for key, item in value.items()})
    return moved if dataclasses.is_dataclass(hint) else None
