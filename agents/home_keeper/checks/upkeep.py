"""What keeps the machine honest: its clock and its journal; and rota itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..words import Target
from .host import AllLimits
from .readings import Reading, when_true
from .words import SECOND, clip, span

_FAILED = frozenset(("failed", "timed-out", "killed"))
_PASSED_OVER = frozenset(("skipped", "missed", "unknown"))


@dataclass(frozen=True, slots=True)
class Clock:
    """The machine's clock.

    Attributes:
        synchronised: whether the kernel is told of a clock that is right.
        unsynchronised: for how long it has not been, as far as is known, microseconds.
    """

    synchronised: bool
    unsynchronised: int


def clock(facts: Clock, limits: AllLimits) -> Iterator[Reading]:
    """Judge the clock by how long nobody has set it: computer clocks drift by seconds a day."""
    if found := limits.get("clock"):
        value = 0.0 if facts.synchronised else facts.unsynchronised / SECOND
        text = (
            f"the clock has not been synchronised for {span(facts.unsynchronised)}: "
            "look at timedatectl timesync-status, or at chronyc tracking"
        )
        details = {"unsynchronised": facts.unsynchronised}
        yield Reading(Target("host", "clock"), "clock", value, found, text, details)


@dataclass(frozen=True, slots=True)
class Written:
    """An entry that was sent to journald.

    Attributes:
        found: whether it could be read back.
        waited: for how long, microseconds.
        why: what is known of the reason if not.
    """

    found: bool
    waited: int
    why: str = ""


def journal(facts: Written) -> Iterator[Reading]:
    """Judge journald by an entry of our own."""
    why = f" ({facts.why})" if facts.why else ""
    text = (
        f"journald loses what it is told: an entry could not be read back after {span(facts.waited)}{why}; "
        "look at df /var/log/journal and systemctl status systemd-journald"
    )
    yield Reading(Target("host", "journal"), "journal", float(not facts.found), when_true("critical"), text)


@dataclass(frozen=True, slots=True)
class Agent:
    """What rotad says of an agent.

    Attributes:
        name: its name.
        trend: states of its last runs that are over, oldest first.
        missed: how many slots it missed since its last run.
        paused: whether a person paused it, who then knows that it misses slots.
        last: how its last run ended, in words; "" if there was none.
    """

    name: str
    trend: tuple[str, ...]
    missed: int
    paused: bool
    last: str = ""


@dataclass(frozen=True, slots=True)
class Rotad:
    """What rotad says.

    Attributes:
        silent: for how long it has not answered, microseconds; 0 if it has, now.
        why: what it did instead.
        lag: how far its record is behind the journal, microseconds.
        agents: those it knows.
    """

    silent: int
    why: str = ""
    lag: int = 0
    agents: tuple[Agent, ...] = ()


def failures(trend: Iterable[str]) -> int:
    """Return how many of the last runs failed one after the other; what did not run is passed over."""
    count = 0
    for state in reversed([state for state in trend if state not in _PASSED_OVER]):
        if state not in _FAILED:
            break
        count += 1
    return count


def rotad(facts: Rotad, limits: AllLimits) -> Iterator[Reading]:
    """Judge rotad, and agents by what it says; while it is silent nothing is known of them."""
    if found := limits.get("rotad"):
        text = f"rotad has not answered for {span(facts.silent)}: {facts.why}; look at systemctl status rotad"
        silent = facts.silent / SECOND
        yield Reading(Target("rotad", "bus"), "unreachable", silent, found, text, {"silent": facts.silent})
    if found := limits.get("rotad_lag"):
        text = f"rotad's record is {span(facts.lag)} behind the journal; look at journalctl -u rotad"
        lag = None if facts.silent else facts.lag / SECOND
        yield Reading(Target("rotad", "lag"), "lag", lag, found, text)
    for agent in facts.agents:
        target, last = Target("agent", agent.name), f", {clip(agent.last)}" if agent.last else ""
        if found := limits.get("failing"):
            count = failures(agent.trend)
            text = f"{agent.name} has failed {count} times in a row{last}; rota logs {agent.name}"
            value = None if facts.silent else float(count)
            yield Reading(target, "failed", value, found, text, {"failures": count})
        if found := limits.get("missed"):
            slots = f"{agent.missed} slot{'s' if agent.missed != 1 else ''}"
            text = f"{agent.name} has missed {slots} since its last run; rota why {agent.name}"
            missed = None if facts.silent else 0.0 if agent.paused else float(agent.missed)
            yield Reading(target, "missed", missed, found, text, {"missed": agent.missed})
