"""What a person sees: tables that fit the terminal, times, colour only where it is wanted."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rota.quantity import USEC, format_duration, format_size

if TYPE_CHECKING:
    from rich.text import Text

_WORDS: Mapping[str, tuple[str, str]] = {
    "succeeded": ("ok", "green"),
    "failed": ("failed", "red"),
    "timed-out": ("timed out", "red"),
    "killed": ("killed", "red"),
    "skipped": ("skipped", "yellow"),
    "missed": ("missed", "red"),
    "unknown": ("unknown", "magenta"),
    "running": ("running", "cyan"),
    "activated": ("starting", "cyan"),
}
_MARKS: Mapping[str, tuple[str, str]] = {
    "succeeded": ("+", "green"),
    "skipped": ("o", "yellow"),
    "missed": ("_", "red"),
    "unknown": ("?", "magenta"),
}
_NARROW = 8
"""A column is not cut to fewer characters, though the table be wider than the terminal."""
_DAY = 86_400 * USEC

Cell = tuple[str, str]
"""Text and its style, "" for none."""


def colour(stream: TextIO) -> bool:
    """Tell whether a stream gets colour: a terminal, and no NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def ago(at: int, present: int) -> str:
    """Return a past moment in words: "2min ago", with the date beyond a month."""
    if present - at > 30 * _DAY:
        return date(at)
    past = max(present - at, 0) // USEC * USEC
    return f"{format_duration(past, 1)} ago" if past else "just now"


def until(at: int, present: int) -> str:
    """Return a coming moment in words: "in 3min", or the day and time if it is hours away."""
    left = max(at - present, 0)
    short = f"in {format_duration(max(left // USEC, 1) * USEC, 1)}"
    if left < 12 * 3600 * USEC:
        return short
    form = "%a %H:%M" if left < 6 * _DAY else "%Y-%m-%d %H:%M"
    return f"{time.strftime(form, time.localtime(at / USEC))} ({short})"


def date(at: int) -> str:
    """Return a moment as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at / USEC))


def took(run: Mapping[str, Any]) -> str:
    """Return how long a run took, "" if that is not known."""
    if run["state"] in ("skipped", "missed"):
        return ""
    if "took" in run:
        return seconds(run["took"])
    if "started" not in run or "ended" not in run:
        return ""
    return seconds(max(run["ended"] - run["started"], 0))  # the clock may have been put back


def seconds(usec: int) -> str:
    """Return a span as people time things: "0.4s", "12s", "3min 20s"."""
    if usec < 10 * USEC:
        return f"{usec / USEC:.1f}s" if usec >= 50_000 else f"{usec / USEC:.2f}s"
    return format_duration(usec, 2 if usec >= 60 * USEC else 1)


def why(run: Mapping[str, Any]) -> str:
    """Return why a run ended as it did, shortly: "exit 3", "SIGKILL", "stopped by ada"."""
    reason = run.get("reason")
    if reason == "stopped":
        return f"stopped by {run['stopped_by']}" if "stopped_by" in run else "stopped"
    if reason == "timeout" or run["state"] == "succeeded":
        return ""
    if reason in ("oom-kill", "core-dump", "watchdog"):
        return str(reason)
    if "signal" in run:
        return str(run["signal"])
    if "status" in run and run["state"] == "failed":
        name = run.get("status_name")
        own = name and run["status"] >= 200
        return f"exit {run['status']}" + (f" {name}" if own else "")
    more = f", {run['slots']} slots" if run.get("slots", 1) > 1 else ""
    return f"{reason or ''}{more}"


def word(state: str) -> Cell:
    """Return a run's state as a person calls it, with its colour."""
    return _WORDS[state]


def trend(states: Iterable[str]) -> list[Cell]:
    """Return results as one mark each, oldest first."""
    return [_MARKS.get(state, ("-", "red")) for state in states]


def trigger(run: Mapping[str, Any]) -> str:
    """Return who or what started a run."""
    return str(run.get("requested_by") or run.get("trigger") or "-")


def late(run: Mapping[str, Any]) -> str:
    """Return how late a run of a slot began, jitter aside; "" if it had no slot."""
    return seconds(run["late"]) if "late" in run and run["state"] not in ("skipped", "missed") else ""


def slot(run: Mapping[str, Any]) -> str:
    """Return the slot that a run served, or those that were missed."""
    if "slot" not in run:
        return ""
    if run["state"] == "missed" and run["slots"] > 1:
        return f"{run['slots']} from {date(run['slot'])} to {date(run['slot_until'])}"
    return date(run["slot"]) + (f", {late(run)} late" if late(run) else "")


def usage(run: Mapping[str, Any]) -> tuple[str, str]:
    """Return processor time and peak memory, "-" where not known."""
    cpu = seconds(run["cpu_usec"]) if "cpu_usec" in run else "-"
    memory = format_size(run["memory_peak"]) if "memory_peak" in run else "-"
    return cpu, memory


def opened(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run for --json: its result not as text, as which it comes over D-Bus."""
    return {**run, "result": json.loads(run["result"])} if "result" in run else dict(run)


def emit_json(value: object) -> None:
    """Write a value as JSON to standard output, indented."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def line(text: str = "", style: str = "", stream: TextIO | None = None) -> None:
    """Write a line, coloured if the stream wants it."""
    stream = stream or sys.stdout
    stream.write(f"{painted(text, style) if colour(stream) else text}\n")


def painted(text: str, style: str) -> str:
    """Return a text with the codes of its colour, "" for none."""
    codes = {"red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36, "bold": 1, "dim": 2}
    return f"\x1b[{codes[style]}m{text}\x1b[0m" if style else text


def talk(text: str, style: str = "") -> None:
    """Write a line to standard error."""
    line(text, style, sys.stderr)


def not_started(at_next_boot: Iterable[str], remembered: Iterable[str]) -> None:
    """Say which agents' timers wait for a boot, and which may elapse although they should count anew."""
    for name in at_next_boot:
        line(f"{name} starts at the next boot.")
    for name in remembered:
        talk(f"warning: {name} may start at once: other units refer to it.", "yellow")


def _widths(natural: Sequence[int], room: int, flexible: Sequence[int]) -> list[int]:
    """Return widths that fit: the widest flexible column gives way first, then the widest of all."""
    widths = list(natural)
    excess = sum(widths) + 2 * (len(widths) - 1) - room
    for candidates in (flexible, range(len(widths))):
        while excess > 0 and (wide := [index for index in candidates if widths[index] > _NARROW]):
            widths[max(wide, key=widths.__getitem__)] -= 1
            excess -= 1
    return widths


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Cell | Sequence[Cell]]], *, flexible: Sequence[int] = ()
) -> None:
    """Write a table: as wide as it needs to be, or as the terminal is.

    Args:
        headers: titles of the columns; one that begins with ">" is right-aligned.
        rows: a cell is a text with its style, or several that follow each other.
        flexible: columns that are cut first where the terminal is too narrow.
    """
    from rich.console import Console  # noqa: PLC0415  (a third of the time of `rota list`)
    from rich.text import Text  # noqa: PLC0415

    terminal, coloured = sys.stdout.isatty(), colour(sys.stdout)
    console = Console(
        file=sys.stdout, force_terminal=coloured, highlight=False, emoji=False, markup=False, soft_wrap=True
    )
    titles = [Text(header.lstrip(">"), "bold" if coloured else "") for header in headers]
    lines = [titles, *([_text(cell) for cell in row] for row in rows)]
    natural = [
        max(cells) for cells in zip(*([cell.cell_len for cell in line] for line in lines), strict=True)
    ]
    widths = _widths(natural, shutil.get_terminal_size().columns, flexible) if terminal else natural
    with console.capture() as captured:
        for line in lines:
            for cell, width, header in zip(line, widths, headers, strict=True):
                cell.truncate(width, overflow="ellipsis")
                cell.align("right" if header.startswith(">") else "left", width)
            console.print(Text("  ").join(line))
    sys.stdout.write("\n".join(text.rstrip() for text in captured.get().splitlines()) + "\n")


def _text(cell: Cell | Sequence[Cell]) -> Text:
    """Return one cell as rich's text, of one line."""
    from rich.text import Text  # noqa: PLC0415  (with the table's)

    parts = [cell] if cell and isinstance(cell[0], str) else list(cell)
    return Text.assemble(*((" ".join(str(part[0]).splitlines()), str(part[1])) for part in parts))
