"""What rota reads back from the text of its timers: when they elapse, and what boot has to do with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from rota.names import MARKER, agent_of
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


def _split(text: str) -> tuple[list[str], list[str]]:
    """Return what starts a timer: boot, and all else."""
    lines = [line for line in triggers(text) if line.startswith("On")]
    return (
        [line for line in lines if line.startswith(_BY_BOOT)],
        [line for line in lines if not line.startswith(_BY_BOOT)],
    )


def only_boot(text: str) -> bool:
    """Tell whether nothing but boot triggers a timer."""
    boot, others = _split(text)
    return bool(boot) and not others


def boot_override(text: str) -> str | None:
    """Return a drop-in that takes a timer's boot trigger away until the next boot, None if it has none.

    A timer with OnBootSec= elapses at once when it is started later than that after boot, which
    installing it must not do. One without other triggers is not to be started at all.
    """
    boot, others = _split(text)
    if not boot:
        return None
    if not others:
        return f"{MARKER}: nothing but boot starts it, and that is past.\n[Unit]\nConditionPathExists=!/run\n"
    # An empty value takes all triggers away, not only those of its own kind (systemd.timer(5)).
    reset = boot[0].partition("=")[0]
    return f"{MARKER}: boot is past.\n[Timer]\n{reset}=\n" + "".join(f"{line}\n" for line in others)
