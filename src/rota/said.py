"""What a run said: its first and last line, and its result if it told one; pure.

A run tells its result as a JSON object, in the field ROTA_RESULT of a journal entry, or in a line
`ROTA_RESULT={...}` of its output; the last one counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MARK = "ROTA_RESULT="
LONGEST_LINE = 200
"""Characters of a line that are kept."""
LONGEST_RESULT = 16 * 1024
"""Bytes of a result: journald breaks lines at 48 KiB (LineMax= in journald.conf(5))."""
DEEPEST = 20
"""Tables and lists of a result within each other."""

_TOO_DEEP = f"nested more than {DEEPEST} deep"
_LARGEST = 2**63
# ECMA-48: control sequences, strings such as titles of windows, and the shorter ones.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]|\x9b[0-?]*[ -/]*[@-~]"
)


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of a run's in the journal.

    Attributes:
        message: its text; of one that was logged, not written, maybe several lines.
        result: its field ROTA_RESULT, None without one.
    """

    message: str
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a run said; None where it did not.

    Attributes:
        first_line: first line that is not empty, at most LONGEST_LINE characters that print.
        last_line: last such line.
        result: a JSON object as text.
        result_error: why what it told as its result is none.
    """

    first_line: str | None = None
    last_line: str | None = None
    result: str | None = None
    result_error: str | None = None


def harmless(text: str) -> str:
    """Return a line as a terminal may be given it: no escape sequences, nothing that does not print."""
    text = _ESCAPES.sub("", text.rstrip()).rpartition("\r")[2]
    return "".join(char if char.isprintable() else " " for char in text).strip()


def shown(line: Line) -> list[str]:
    """Return what people may want to read of an entry."""
    if line.result is None and line.message.startswith(MARK):
        return []
    found = (harmless(part) for part in line.message.split("\n"))
    return [part if len(part) <= LONGEST_LINE else f"{part[: LONGEST_LINE - 1]}…" for part in found if part]


def _told(line: Line) -> str | None:
    if line.result is None and line.message.startswith(MARK):
        return line.message.removeprefix(MARK)
    return line.result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check(value: Any) -> None:
    """Refuse what another program might not take.

    Raises:
        ValueError: it is nested too deeply, or has a number that is too large.
    """
    level = [value]
    for depth in range(DEEPEST + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict | list):
                if depth == DEEPEST:
                    raise ValueError(_TOO_DEEP)
                inner += item.values() if isinstance(item, dict) else item
            elif isinstance(item, int | float) and not -_LARGEST <= item < _LARGEST:
                raise ValueError("a number beyond 64 bits")
        level = inner


def parse_result(text: str) -> tuple[str | None, str | None]:
    """Return a result as JSON that prints, on one line; or else why it is none."""
    if len(text.encode("utf-8", "replace")) > LONGEST_RESULT:
        return None, f"longer than {LONGEST_RESULT // 1024} KiB"
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if not isinstance(value, dict):
            return None, "not a JSON object"
        _check(value)
        written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        written.encode()
    except UnicodeEncodeError:
        return None, "half a surrogate pair"
    except (ValueError, RecursionError) as error:
        reason = _TOO_DEEP if isinstance(error, RecursionError) else str(error)
        return None, harmless(reason)[:LONGEST_LINE]
    written = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in written)
    if len(written.encode()) > LONGEST_RESULT:
        return None, f"longer than {LONGEST_RESULT // 1024} KiB"
    return written, None


def summary(head: Iterable[Line], tail: Iterable[Line]) -> Said:
    """Return what a run said.

    Args:
        head: its first entries, oldest first.
        tail: its last entries, newest first.
    """
    newest = list(tail)
    first = next((found[0] for line in head if (found := shown(line))), None)
    last = next((found[-1] for line in newest if (found := shown(line))), first)
    told = next((text for line in newest if (text := _told(line)) is not None), None)
    result, error = (None, None) if told is None else parse_result(told)
    return Said(first, last, result, error)
