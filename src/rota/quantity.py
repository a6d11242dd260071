"""Durations and sizes in systemd's own grammar (systemd.time(7), systemd.syntax(7)), and time zones."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

USEC = 1_000_000
INFINITY = 2**64 - 1

# systemd.time(7), "Parsing time spans"; a month is 30.44 days and a year 365.25, as there.
_SPANS: Mapping[str, int] = {
    word: factor
    for words, factor in (
        ("usec us µs", 1),
        ("msec ms", 1_000),
        ("seconds second sec s", USEC),
        ("minutes minute min m", 60 * USEC),
        ("hours hour hr h", 3_600 * USEC),
        ("days day d", 86_400 * USEC),
        ("weeks week w", 604_800 * USEC),
        ("months month M", 2_629_800 * USEC),
        ("years year y", 31_557_600 * USEC),
    )
    for word in words.split()
}
_SIZES: Mapping[str, int] = {suffix: 1024**power for power, suffix in enumerate("BKMGTPE")} | {"": 1}
_SPAN = re.compile(r"[ \t]*([0-9]+(?:\.[0-9]+)?)[ \t]*([^\W\d_]*)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)[ \t]*([^\W\d_]*)")
_PRINTED = (
    ("w", 604_800 * USEC),
    ("d", 86_400 * USEC),
    ("h", 3_600 * USEC),
    ("min", 60 * USEC),
    ("s", USEC),
    ("ms", 1_000),
    ("us", 1),
)


@functools.cache
def parse_duration(text: str) -> int:
    """Return a time span such as "5min" or "1h 30min" in microseconds; "infinity" is INFINITY.

    Stricter than systemd in one point: a bare number is refused, because readers take it for
    whatever unit they have in mind.

    Raises:
        ValueError: what is wrong with the text, and what to write.
    """
    if text.strip(" \t") == "infinity":
        return INFINITY
    total, at = 0.0, 0
    while match := _SPAN.match(text, at):
        number, unit = match.groups()
        if not unit:
            raise ValueError(f'has no unit; write for example "{number}s" or "{number}min"')
        if unit not in _SPANS:
            raise ValueError(f"unknown unit {unit}; systemd's are us, ms, s, min, h, d, w, M (months), y")
        total += float(number) * _SPANS[unit]
        at = match.end()
    if at == 0 or text[at:].strip(" \t"):
        raise ValueError('not a time span; write for example "30s", "5min" or "1h 30min"')
    if total >= INFINITY:
        raise ValueError('too long; write "infinity" for no limit')
    return round(total)


def format_duration(usec: int, parts: int = 2) -> str:
    """Return microseconds in systemd's grammar, at most `parts` units, rounded down ("1h 30min")."""
    if usec >= INFINITY:
        return "infinity"
    words: list[str] = []
    for unit, factor in _PRINTED:
        if usec >= factor and len(words) < parts:
            count, usec = divmod(usec, factor)
            words.append(f"{count}{unit}")
        elif words:
            break
    return " ".join(words) or "0"


def parse_size(text: str) -> int:
    """Return a size such as "512M" (powers of 1024, as in systemd.resource-control(5)) in bytes.

    Raises:
        ValueError: what is wrong with the text, and what to write.
    """
    if text == "infinity":
        return INFINITY
    match = _SIZE.fullmatch(text)
    if not match or match[2] not in _SIZES:
        raise ValueError('not a size; write for example "512M" or "2G" (K, M, G, T: powers of 1024)')
    size = int(float(match[1]) * _SIZES[match[2]])
    if not 0 < size < INFINITY:
        raise ValueError('must be more than 0 and less than 16E; write "infinity" for no limit')
    return size


def parse_percent(text: str) -> int:
    """Return a percentage such as "50%" as an integer above 0; "200%" is two processors' worth.

    Raises:
        ValueError: what is wrong with the text, and what to write.
    """
    match = re.fullmatch(r"([0-9]{1,7})%", text)
    if not match or int(match[1]) == 0:
        raise ValueError('not a percentage; write for example "50%" (of one processor), "200%" for two')
    return int(match[1])


def format_size(count: int) -> str:
    """Return bytes with a binary suffix and three figures at most ("512M", "1.5G")."""
    value, suffixes = float(count), iter("BKMGTPE")
    suffix = next(suffixes)
    while value >= 1024 and suffix != "E":
        value, suffix = value / 1024, next(suffixes)
    return f"{value:.0f}{suffix}" if value >= 10 or value == int(value) else f"{value:.1f}{suffix}"


@functools.cache
def is_zone(text: str) -> bool:
    """Tell whether a word is the name of an IANA time zone."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415  (only when a declaration names one)

    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        return False
    return True
