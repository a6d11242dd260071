"""What rota reads back from the text of its timers: when they elapse, and what boot has to do with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from rota.names import MARKER, agent_of
from rota.quantity import parse_duration
from rota.slots import Timer, read_timer

log = logging.getLogger("rotad")

_BY_BOOT = ("OnBootSec=", "OnStartupSec=")


def triggers(text: str) -> list[str]:
    """Return the lines of a timer that say when it elapses: its [Timer] section; none if it has none."""
    return text.partition("[Timer]\n")[2].splitlines()


def is_persistent(text: str) -> bool:
    """Tell whether a timer keeps a stamp on disk."""
    return "Persistent=yes" in triggers(text)


def read_timers(paths: Iterable[str]) -> dict[str, Timer]:
    """Return what the timers in these files say of slots, by agent; those that rota did not write not."""
    found: dict[str, Timer] = {}
    for path in paths:
        agent = agent_of(Path(path).name)
        try:
            text = Path(path).read_text(encoding="utf-8")
            timer = read_timer(triggers(text)) if text.startswith(MARKER) else None
        except (OSError, ValueError) as error:
            log.warning("%s is not readable: %s", path, error)
            continue
        if agent is not None and timer is not None:
            found[agent] = timer
    return found


@dataclass(frozen=True, slots=True)
class _Triggers:
    """What starts a timer: boot; first runs of `every`, each with its key; and all else."""

    boot: list[str]
    first: list[str]
    others: list[str]


def _split(text: str) -> _Triggers:
    lines = [line for line in triggers(text) if line.startswith("On")]
    found = _Triggers([], [], [])
    for line, after in zip_longest(lines, lines[1:], fillvalue=""):
        if not line.startswith(_BY_BOOT):
            found.others.append(line)
        elif after.startswith("OnUnitActiveSec="):  # as schedule.timer_lines has them
            found.first.append(line)
        else:
            found.boot.append(line)
    return found


def only_boot(text: str) -> bool:
    """Tell whether nothing but boot triggers a timer."""
    found = _split(text)
    return bool(found.boot) and not found.first and not found.others


def runtime_override(text: str, running: int) -> str | None:
    """Return a drop-in for a timer started after boot, to hold until the next one; None if it needs none.

    A timer with OnBootSec= or OnStartupSec= elapses at once when it is started later than that. So a boot
    trigger is taken away, and the first run of `every` is as long from now as it would be from boot. A timer
    without other triggers is not to be started at all.

    Args:
        text: of the timer.
        running: for how long the service manager has been, in microseconds.
    """
    found = _split(text)
    if not found.boot and not found.first:
        return None
    if not found.first and not found.others:
        return f"{MARKER}: nothing but boot starts it, and that is past.\n[Unit]\nConditionPathExists=!/run\n"
    # An empty value takes all triggers away, not only those of its own kind (systemd.timer(5)).
    reset = (found.boot or found.first)[0].partition("=")[0]
    spans = [running + parse_duration(line.partition("=")[2]) for line in found.first]
    head = [f"{MARKER}: boot is past.", "[Timer]", f"{reset}="]
    return "\n".join([*head, *found.others, *(f"OnStartupSec={span}us" for span in spans), ""])
