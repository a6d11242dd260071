"""Schedules as [Timer] lines, in words, and as calendar events to be checked by systemd."""

from __future__ import annotations

from collections.abc import Iterable

from rota import cron
from rota.model import Agent, Schedule
from rota.quantity import format_duration, parse_duration

ACCURACY = "100ms"
"""AccuracySec= of every timer: systemd's own default lets a slot be a minute late."""


def kind(schedule: Schedule) -> str:
    """Return which of cron, every, calendar, once, on_boot a schedule is."""
    return next(
        name
        for name in ("cron", "every", "calendar", "once", "on_boot")
        if getattr(schedule, name) not in (None, False)
    )


def calendar_events(schedule: Schedule) -> tuple[str, ...]:
    """Return the OnCalendar= expressions of a schedule, none for monotonic ones."""
    if schedule.cron is not None:
        return cron.on_calendar(cron.parse(schedule.cron), schedule.timezone)
    if schedule.calendar is not None:
        return (schedule.calendar,)
    if schedule.once is not None:
        return (f"{schedule.once} {schedule.timezone}" if schedule.timezone else schedule.once,)
    return ()


def boot_delay(schedule: Schedule) -> str | None:
    """Return the time an on_boot schedule waits after boot, None for other schedules."""
    if schedule.on_boot in (None, False):
        return None
    return "0" if schedule.on_boot is True else str(schedule.on_boot)


def _trigger_lines(schedule: Schedule, user: bool) -> list[tuple[str, str]]:
    lines = [("OnCalendar", event) for event in calendar_events(schedule)]
    if schedule.every is not None:
        # Not OnActiveSec=: whenever systemd is reloaded, that counts anew (systemd#31914). A timer started
        # later than this after boot gets another time from `timers.runtime_override`.
        lines.append(("OnStartupSec", schedule.after_boot or schedule.every))
        lines.append(("OnUnitActiveSec", schedule.every))
    if (delay := boot_delay(schedule)) is not None:
        lines.append(("OnStartupSec" if user else "OnBootSec", delay))
    return lines


def timer_lines(agent: Agent, *, user: bool = False) -> tuple[tuple[str, str], ...]:
    """Return the keys and values of an agent's [Timer] section, () if it needs no timer.

    Args:
        agent: the declaration, already checked.
        user: for the user manager, whose boot is the user's first login.
    """
    triggers = [line for schedule in agent.schedule for line in _trigger_lines(schedule, user)]
    if not triggers:
        return ()
    lines = [*triggers, ("AccuracySec", ACCURACY)]
    if jitter := next((s.jitter for s in agent.schedule if s.jitter), None):
        lines += [("RandomizedDelaySec", jitter), ("FixedRandomDelay", "yes")]
    if agent.catch_up.mode == "once" and any(key == "OnCalendar" for key, _ in triggers):
        lines.append(("Persistent", "yes"))
    return tuple(lines)


def _words(schedule: Schedule) -> str:
    zone = f" {schedule.timezone}" if schedule.timezone else ""
    match kind(schedule):
        case "cron":
            return cron.describe(cron.parse(schedule.cron or "")) + zone
        case "every":
            return f"every {format_duration(parse_duration(schedule.every or ''))}"
        case "calendar":
            return schedule.calendar or ""
        case "once":
            return f"once {schedule.once}{zone}"
        case _:
            delay = parse_duration("0s" if schedule.on_boot is True else str(schedule.on_boot))
            return f"{format_duration(delay)} after boot" if delay else "at boot"


def describe(schedules: Iterable[Schedule]) -> str:
    """Return schedules in words for a person ("Mon 09:00 Europe/Rome"), "on demand" for none."""
    return ", ".join(_words(schedule) for schedule in schedules) or "on demand"
