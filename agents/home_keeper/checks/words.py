"""How checks put numbers: a few words that all summaries share."""

from __future__ import annotations

from rota.quantity import USEC
from rota.watches import seconds

SECOND = USEC
"""Microseconds in a second."""


class Malformed(ValueError):  # noqa: N818  (it is a source that is malformed)
    """A source says what cannot be understood; the text names the file, or who said it."""


def size(count: float) -> str:
    """Return bytes with three figures at most: 3.1 GiB, 80 GiB, 512 B."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 999.5 or unit == "PiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}" if unit != "B" and value < 9.95 else f"{value:.0f} {unit}"


def share(value: float) -> str:
    """Return percent as a whole number, rounded down: what is not full must not read 100 %."""
    return f"{int(value)} %"


def span(usec: float) -> str:
    """Return microseconds in words, whole seconds from one second on."""
    if usec < SECOND:
        return f"{max(usec, 0) / 1000:.0f}ms"
    return seconds(int(usec) // SECOND)


def clip(text: str, width: int = 120) -> str:
    """Return `text` as one line of at most `width` characters that a terminal and a log can bear."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= width else f"{line[: width - 1]}…"
