"""Which run a line of output is of, where journald does not say; pure.

journald reads a run's id from /run/systemd/units/invocation:UNIT when it first looks at who writes, and
systemd removes that when the unit is inactive. Where journald is behind, as on a busy machine, the lines of a
run that is over already have their unit, but no id: they are strays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stray:
    """A line of an agent's unit without a run's id.

    Attributes:
        sender: journal match for all that came the same way: of its _STREAM_ID, else of its _PID.
        pid: the process that wrote it.
        at: when journald received it, in microseconds since boot.
    """

    sender: str
    pid: int | None
    at: int


def senders(strays: Iterable[Stray], began: int, until: int | None, pid: int | None) -> list[str]:
    """Return the senders of strays whose lines are a run's.

    Strays come after their run began and, as a rule, before the next one of the unit does. Where journald was
    behind by more than that, they can still be told by the main process. It takes connections in the order in
    which they were made, so that what came before the main process' own is of an earlier run.

    Args:
        strays: all of the unit and boot, or those around the run.
        began: when systemd began to start the run, in microseconds since boot.
        until: when it began to start the next one of the unit, None if it did not.
        pid: main process of the run, None if not known.
    """
    ordered = sorted((stray for stray in strays if stray.at >= began), key=lambda stray: stray.at)
    first: dict[str, int] = {}
    for stray in ordered:
        first.setdefault(stray.sender, stray.at)
    own = next((stray.sender for stray in ordered if pid is not None and stray.pid == pid), None)
    earliest = first[own] if own is not None else began
    return [
        sender
        for sender, at in first.items()
        if sender == own or (at >= earliest and (until is None or at < until))
    ]
