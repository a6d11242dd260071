"""Frozen dataclasses to plain values for JSON, and back; and moved in time, moment by moment.

What is at its default is left out, so that a field can be added later. Types that are known: str, int, float,
bool, plain mappings, other such dataclasses, tuples and mappings (by str) of them, and None beside one of them.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

Moment = Annotated[int, "moment"]
"""Microseconds since 1970 (UTC); what `moved` moves. Other numbers stay."""


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def to_plain(value: Any) -> Any:
    """Return a value as `json.dumps` takes it."""
    if dataclasses.is_dataclass(value):
        return dict(_written(value))
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


def _written(value: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        made = field.default_factory is not dataclasses.MISSING
        if found != (field.default_factory() if made else field.default):  # type: ignore[misc]
            yield field.name, to_plain(found)


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
    hints = _hints(kind)
    if unknown := raw.keys() - hints.keys():
        raise ValueError(f"{where or kind.__name__}: unknown key {min(unknown)}")
    try:
        return kind(**{name: _read(hints[name], item, f"{where}.{name}") for name, item in raw.items()})
    except TypeError as error:
        raise ValueError(f"{where or kind.__name__}: {error}") from None


def _read(hint: Any, raw: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _read(inner[0], raw, where)
    if origin in (Union, types.UnionType):
        found = [item for item in inner if item is not type(None)]
        return None if raw is None else _read(found[0], raw, where)
    if origin is tuple and isinstance(raw, list):
        return tuple(_read(inner[0], item, f"{where}[{index}]") for index, item in enumerate(raw))
    if hint is Any or origin is type(None):
        return raw
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(raw, dict):
        return {key: _read(inner[1], item, f"{where}.{key}") for key, item in raw.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, raw, where)
    if hint is float and type(raw) is int:
        return float(raw)
    if type(raw) is hint:
        return raw
    raise ValueError(f"{where}: must be {getattr(hint, '__name__', hint)}, is {raw!r}")


def moved(value: T, by: int) -> T:
    """Return a dataclass with every moment in it later by so many microseconds."""
    changes: dict[str, Any] = {}
    for name, hint in _hints(type(value)).items():
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
    if isinstance(origin, type) and issubclass(origin, Mapping):
        mover = _mover(inner[1])
        return mover and (lambda value, by: {key: mover(item, by) for key, item in value.items()})
    return moved if dataclasses.is_dataclass(hint) else None
