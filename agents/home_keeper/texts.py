"""Names and texts from outside, as every reader takes them: D-Bus, SQLite, terminals. Pure.

A file system's name is any bytes, and Python reads what is not UTF-8 in it as half a surrogate pair, which
neither the ledger nor D-Bus takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte, see os.fsdecode
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def printable(text: str) -> str:
    """Return a name or a line with what does not print as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def valid(value: Any) -> Any:
    """Return what JSON takes with all its texts as UTF-8 takes them."""
    if isinstance(value, str):
        return _valid(value)
    if isinstance(value, Mapping):
        return {valid(key): valid(item) for key, item in value.items()}
    return type(value)(map(valid, value)) if isinstance(value, list | tuple) else value
