"""What hardware tells: temperatures, GPUs, batteries, network interfaces."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rota.watches import Limits

from ..words import Target
from .host import AllLimits
from .readings import Reading, when_true
from .words import Malformed, share, size

FALLBACK = 95.0
"""Critical temperature (°C) of a sensor that names none; what most processors have."""
_PLAUSIBLE = (30.0, 150.0)


@dataclass(frozen=True, slots=True)
class Sensor:
    """A temperature, in °C (kernel's hwmon sysfs-interface.rst).

    Attributes:
        name: chip and label.
        celsius: how hot it is; None if it does not say.
        critical: the limit it names: tempN_crit, or else tempN_max; None if it names none that can be true.
    """

    name: str
    celsius: float | None
    critical: float | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU.

    Attributes:
        name: gpu and its number.
        model: what it is called.
        memory_used: bytes; None if it does not say.
        memory_total: bytes.
        celsius: how hot it is; None if it does not say.
        slowdown: °C at which it slows down; None if it does not say.
        xid: the last Xid error within the last ten minutes, 0 for none (NVIDIA's "XID Errors").
        unanswered: why it could not be asked, "" if it could.
        uuid: what it is known by wherever it is put, "" if that is not known.
    """

    name: str
    model: str = ""
    memory_used: int | None = None
    memory_total: int = 0
    celsius: float | None = None
    slowdown: float | None = None
    xid: int = 0
    unanswered: str = ""
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery of this machine (kernel's sysfs-class-power).

    Attributes:
        name: as the kernel has it.
        percent: its charge; None if it does not say.
        discharging: whether it is what the machine runs on.
    """

    name: str
    percent: float | None
    discharging: bool


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface (kernel's sysfs-class-net).

    Attributes:
        name: as the kernel has it; one that is watched and not there is listed too.
        hardware: whether it is a device, not a bridge, tunnel or the like.
        up: whether somebody has switched it on.
        carrier: whether the other side is there; None if it is off, and nobody can tell.
        there: whether there is such an interface.
    """

    name: str
    hardware: bool
    up: bool
    carrier: bool | None
    there: bool = True


def celsius(text: str, file: str) -> float:
    """Return what a hwmon file says, in °C.

    Raises:
        Malformed: it is no number of thousandths.
    """
    try:
        return int(text) / 1000
    except ValueError:
        raise Malformed(f"{file} is not as expected: {text.strip()[:40]!r}") from None


def critical(named: Iterable[float | None]) -> float | None:
    """Return the first limit that can be true: drivers name 0, 127.9 and 65261.85 where they know none."""
    low, high = _PLAUSIBLE
    return next(
        (value for value in named if value is not None and low <= value < high and value != 127.9), None
    )


def temperatures(facts: Iterable[Sensor], limits: AllLimits) -> Iterator[Reading]:
    """Judge sensors, each by its own limit."""
    if found := limits.get("temperature"):
        for sensor in facts:
            top = FALLBACK if sensor.critical is None else sensor.critical
            left = None if sensor.celsius is None else top - sensor.celsius
            text = f"{sensor.name} is at {sensor.celsius or 0:.0f} °C, critical is {top:.0f} °C; cool it"
            details = {"celsius": sensor.celsius, "critical": top}
            yield Reading(Target("host", sensor.name), "hot", left, found, text, details)


# NVIDIA, "XID Errors": what needs the GPU to be reset, or replaced; others are mostly a program's own fault.
_SEVERE_XIDS = frozenset((48, 62, 63, 64, 74, 79, 92, 94, 95, 119, 120, 140, 143))


def gpus(facts: Iterable[Gpu], limits: AllLimits) -> Iterator[Reading]:
    """Judge GPUs; memory, heat and errors of one are targets of their own."""
    for gpu in facts:
        about, known = f"{gpu.name} ({gpu.model})" if gpu.model else gpu.name, not gpu.unanswered
        lost = f"{about} does not answer: {gpu.unanswered}; often only a reboot brings it back"
        details: dict[str, Any] = {"model": gpu.model, "uuid": gpu.uuid}
        yield Reading(Target("host", gpu.name), "gpu", float(not known), when_true("critical"), lost, details)
        if (found := limits.get("gpu_memory")) and (gpu.memory_total or not known):
            left = gpu.memory_total - (gpu.memory_used or 0)
            used = None if gpu.memory_used is None else 100 * gpu.memory_used / gpu.memory_total
            room = f"{size(left)} of {size(gpu.memory_total)} left"
            text = f"memory of {about} is {share(used or 0)} in use: {room}"
            details = {"used": gpu.memory_used, "total": gpu.memory_total}
            yield Reading(Target("host", f"{gpu.name}-memory"), "memory", used, found, text, details)
        if (found := limits.get("gpu_temperature")) and (gpu.slowdown is not None or not known):
            top = gpu.slowdown or 0.0
            left_celsius = None if gpu.celsius is None else top - gpu.celsius
            text = (
                f"{about} is at {gpu.celsius or 0:.0f} °C: at {top:.0f} °C it slows down; see to its cooling"
            )
            details = {"celsius": gpu.celsius, "slowdown": gpu.slowdown}
            yield Reading(
                Target("host", f"{gpu.name}-temperature"), "hot", left_celsius, found, text, details
            )
        severe = gpu.xid in _SEVERE_XIDS
        what = "it must be reset" if severe else "a program misused it"
        text = f"{about} reported Xid {gpu.xid}: {what}; see journalctl -k"
        value = float(bool(gpu.xid)) if known else None
        limit = when_true("critical" if severe else "warning")
        yield Reading(Target("host", f"{gpu.name}-xid"), "gpu", value, limit, text, {"xid": gpu.xid})


def batteries(facts: Iterable[Battery], limits: AllLimits) -> Iterator[Reading]:
    """Judge batteries that are running down; one that is being charged is well."""
    if found := limits.get("battery"):
        for battery in facts:
            charge = battery.percent
            value = charge if battery.discharging or charge is None else 100.0
            text = f"{battery.name} is at {share(charge or 0)} and discharging: plug the machine in"
            details = {"percent": charge}
            yield Reading(Target("host", battery.name), "battery", value, found, text, details)


HOLD = 10_000_000
"""Microseconds a carrier must be gone: shorter is a switch that renegotiates."""


def interfaces(facts: Iterable[Interface], named: Collection[str], had: Collection[str]) -> Iterator[Reading]:
    """Judge network interfaces.

    Args:
        facts: all that there are, and those of `named` that are not.
        named: whose carrier a person wants watched: down or gone is as bad.
        had: names of others that have had a carrier; switched off by somebody, they are well.
    """
    limits: Limits = tuple(replace(limit, hold=HOLD) for limit in when_true("critical"))
    for one in facts:
        if one.name in named:
            why = "has no carrier: look at its cable, and at the other side"
            if not one.there:
                why = "is gone"
            elif not one.up:
                why = f"is switched off: ip link set {one.name} up"
            value = float(not one.carrier)
        elif one.name in had and one.hardware:
            why, value = (
                "has lost its carrier: look at its cable, and at the other side",
                float(one.carrier is False),
            )
        else:
            continue
        yield Reading(
            Target("host", one.name), "carrier", value, limits, f"network interface {one.name} {why}"
        )
