"""Processors, memory and pressure: what /proc says (proc_stat(5), proc_meminfo(5), kernel's psi.rst)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from rota.watches import Limits

from ..words import Target
from .readings import Reading
from .words import Malformed, share, size

STAT, LOADAVG, MEMINFO = "/proc/stat", "/proc/loadavg", "/proc/meminfo"
PRESSURE = "/proc/pressure"

Given = ParamSpec("Given")
Parsed = TypeVar("Parsed")
AllLimits = Mapping[str, Limits]
"""By key of [keeper.watch]; what is absent is not watched."""


def naming(file: str) -> Callable[[Callable[Given, Parsed]], Callable[Given, Parsed]]:
    """Have a parser's errors name the file."""

    def decorate(parse: Callable[Given, Parsed]) -> Callable[Given, Parsed]:
        @functools.wraps(parse)
        def checked(*args: Given.args, **kwargs: Given.kwargs) -> Parsed:
            try:
                return parse(*args, **kwargs)
            except (ValueError, KeyError, IndexError) as error:
                raise Malformed(f"{file} is not as expected: {error}") from None

        return checked

    return decorate


@dataclass(frozen=True, slots=True)
class Ticks:
    """Processor time since boot, in clock ticks.

    Attributes:
        busy: spent on something.
        total: all there was.
        processors: how many are online.
    """

    busy: int
    total: int
    processors: int


@dataclass(frozen=True, slots=True)
class Processors:
    """What the processors do.

    Attributes:
        busy: percent of their time, all of them together, since the last look; None at the first.
        load: the load average of five minutes.
        processors: how many are online.
    """

    busy: float | None
    load: float
    processors: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What the memory holds, in bytes."""

    total: int
    available: int
    swap_total: int
    swap_free: int


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much time is lost waiting, percent of the last minute.

    Attributes:
        some: during which some task waited.
        full: during which all did.
    """

    some: float
    full: float


@naming(STAT)
def parse_stat(text: str) -> Ticks:
    """Return the first line of /proc/stat, and how many processors follow.

    Raises:
        Malformed: it is not as expected.
    """
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    if not lines or lines[0][0] != "cpu" or len(lines[0]) < 5:
        raise ValueError("no line cpu")
    # Guest time is part of user time already.
    user, nice, system, idle, *more = map(int, lines[0][1:9])
    iowait = more[0] if more else 0
    total = user + nice + system + idle + sum(more)
    return Ticks(total - idle - iowait, total, max(len(lines) - 1, 1))


@naming(LOADAVG)
def parse_loadavg(text: str) -> float:
    """Return the load average of five minutes.

    Raises:
        Malformed: it is not as expected.
    """
    load = float(text.split()[1])
    if not 0 <= load < 1e9:
        raise ValueError(f"a load of {load}")
    return load


@naming(MEMINFO)
def parse_meminfo(text: str) -> Memory:
    """Return memory and swap.

    Raises:
        Malformed: it is not as expected.
    """
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree"):
            number, unit = value.split()
            if unit != "kB":
                raise ValueError(f"{name} in {unit}")
            found[name] = int(number) * 1024
    memory = Memory(found["MemTotal"], found["MemAvailable"], found["SwapTotal"], found["SwapFree"])
    if not 0 <= memory.available <= memory.total or not 0 <= memory.swap_free <= memory.swap_total:
        raise ValueError("more is free than there is")
    return memory


def parse_pressure(text: str, file: str) -> Pressure:
    """Return the pressure of the last minute, from a file of /proc/pressure.

    Raises:
        Malformed: it is not as expected.
    """

    @naming(file)
    def parse() -> Pressure:
        found = {}
        for line in text.splitlines():
            kind, *values = line.split()
            found[kind] = float(dict(value.split("=") for value in values)["avg60"])
        # Before Linux 5.13, cpu had no line full.
        pressure = Pressure(found["some"], found.get("full", 0.0))
        if not (0 <= pressure.some <= 100 and 0 <= pressure.full <= 100):
            raise ValueError("not a percentage")
        return pressure

    return parse()


def busy(before: Ticks | None, after: Ticks) -> float | None:
    """Return the share of time between two looks that processors were busy, percent; None if not known."""
    if before is None or after.total <= before.total:
        return None
    return min(max(100 * (after.busy - before.busy) / (after.total - before.total), 0.0), 100.0)


def processors(facts: Processors, limits: AllLimits) -> Iterator[Reading]:
    """Judge the processors."""
    count = f"{facts.processors} processor{'s' if facts.processors != 1 else ''}"
    if "cpu" in limits:
        text = f"{count}: {share(facts.busy or 0)} of their time is in use, load average {facts.load:.1f}"
        details = {"percent": round(facts.busy or 0, 1), "load": facts.load}
        yield Reading(Target("host", "cpu"), "load", facts.busy, limits["cpu"], text, details)
    if "load" in limits:
        each = facts.load / facts.processors
        text = f"load average of 5 minutes is {facts.load:.1f} on {count}: so many want to run"
        details = {"load": facts.load, "processors": facts.processors}
        yield Reading(Target("host", "load"), "load", each, limits["load"], text, details)


def memory(facts: Memory, limits: AllLimits) -> Iterator[Reading]:
    """Judge memory and swap; a machine without swap has no reading of it."""
    if "memory" in limits and facts.total:
        used = 100 * (1 - facts.available / facts.total)
        text = f"memory is {share(used)} in use: {size(facts.available)} of {size(facts.total)} left"
        details = {"available": facts.available, "total": facts.total}
        yield Reading(Target("host", "memory"), "memory", used, limits["memory"], text, details)
    if "swap" in limits and facts.swap_total:
        used = 100 * (1 - facts.swap_free / facts.swap_total)
        text = f"swap is {share(used)} in use: {size(facts.swap_free)} of {size(facts.swap_total)} left"
        details = {"free": facts.swap_free, "total": facts.swap_total}
        yield Reading(Target("host", "swap"), "swap", used, limits["swap"], text, details)


_WAITS = {
    "cpu": ("some", "tasks wait for a processor"),
    "memory": ("full", "all tasks wait for memory"),
    "io": ("full", "all tasks wait for disks"),
}


def pressure(facts: Mapping[str, Pressure], limits: AllLimits) -> Iterator[Reading]:
    """Judge the pressure: on processors some always wait under load, for the others all must."""
    for name, one in facts.items():
        if found := limits.get(f"pressure_{name}"):
            which, waits = _WAITS[name]
            value = one.some if which == "some" else one.full
            text = f"{waits} for {share(value)} of the last minute"
            details = {"some": one.some, "full": one.full}
            yield Reading(Target("host", f"pressure-{name}"), "pressure", value, found, text, details)
