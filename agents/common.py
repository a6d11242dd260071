"""What the bundled agents share: text for people, and the result they leave behind."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

WIDTH = 80
"""Columns of a terminal that every table fits."""

RESULT_BYTES = 16 * 1024
"""Longest ROTA_RESULT that rota takes."""

Result = dict[str, Any]
"""A result: what `json.dumps` takes."""


def printable(text: str) -> str:
    """Return `text` with what a terminal would act on (or choke on) written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clip(text: str, width: int) -> str:
    """Cut `text` at its end to `width` columns."""
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."


def clip_middle(text: str, width: int) -> str:
    """Cut `text` in its middle to `width` columns: both ends of a path tell the most."""
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return text[:head] + "..." + text[len(text) - (width - 3 - head) :]


def columns(rows: Sequence[Sequence[str]], left: frozenset[int]) -> list[str]:
    """Align `rows` (the first being the header): columns in `left` to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def plural(count: int, one: str, many: str = "") -> str:
    """Return "1 file", "2 files"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def fit(result: Mapping[str, Any], key: str, limit: int = RESULT_BYTES) -> str:
    """Return `result` as one line of JSON of at most `limit` bytes.

    Args:
        result: what to write.
        key: the list in it that is cut at its end when there is too much; `left_out` then
            says how many of its items are missing.
        limit: bytes.
    """
    kept = list(result[key])
    line = json.dumps(result, separators=(",", ":"))
    while len(line) > limit and kept:
        kept = kept[: len(kept) // 2]
        shorter = {**result, key: kept, "left_out": len(result[key]) - len(kept)}
        line = json.dumps(shorter, separators=(",", ":"))
    return line


def say(text: str) -> None:
    """Write `text` to stdout, escaping what its encoding lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def conclude(summary: str, logged: bool) -> None:
    """Write the last line of a report, unless stdout is a log that `publish` has put it into."""
    if not logged or sys.stdout.isatty():
        say(f"{clip(summary, WIDTH)}\n")


def complain(agent: str, text: str) -> None:
    """Write a line to stderr, headed by the agent's name."""
    sys.stderr.write(f"{agent}: {text}\n")


def write_whole(path: Path, text: str) -> None:
    """Replace the file `path` by `text`: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def publish(agent: str, result: Result, key: str, file: str, summary: str) -> bool:
    """Leave `result` where rota and people look for it.

    It goes to `file` in $STATE_DIRECTORY, and, in a run that systemd started, to the journal as
    an entry with the field ROTA_RESULT. Without the one or the other (a person tries the agent
    by hand) that part is left out.

    Args:
        agent: name of the agent.
        result: what was found.
        key: the list in `result` that may be cut in the journal, see `fit`.
        file: file name in the state directory.
        summary: the journal entry's text.

    Returns:
        Whether `summary` is in the journal.

    Raises:
        OSError: the file could not be written, or journald refused the entry.
    """
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        write_whole(Path(state) / file, json.dumps(result, indent=2) + "\n")
    run = os.environ.get("INVOCATION_ID", "")
    if not run:
        return False
    try:
        from systemd import journal  # noqa: PLC0415  (C library; absent where only the file is wanted)
    except ImportError:
        return False
    journal.send(summary, SYSLOG_IDENTIFIER=agent, ROTA_RUN=run, ROTA_RESULT=fit(result, key))
    return True
