"""How systemd writes a path into the name of a unit (systemd.unit(5), systemd-escape --path)."""

from __future__ import annotations

import os

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")


def escaped(path: str) -> str:
    """Return an absolute path, without . and .., escaped; "/" is "-"."""
    raw = os.fsencode(path.strip("/"))
    return "".join(_escaped(byte, first=not index) for index, byte in enumerate(raw)) or "-"


def _escaped(byte: int, *, first: bool) -> str:
    if byte == ord("/"):
        return "-"
    if byte in _PLAIN and not (first and byte == ord(".")):
        return chr(byte)
    return f"\\x{byte:02x}"
