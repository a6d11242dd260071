"""The installed agents, read back from their unit files; without pydantic, so that rotad stays small."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rota.names import MARKER, SECTION
from rota.quantity import USEC, parse_duration

log = logging.getLogger("rotad")


@dataclass(frozen=True, slots=True)
class Definition:
    """An installed agent.

    Attributes:
        name: the agent's name.
        schedule: in words.
        declaration: the keys that were written.
        path: its service file.
    """

    name: str
    schedule: str
    declaration: dict[str, Any]
    path: str

    @property
    def description(self) -> str:
        """What it says of itself."""
        return str(self.declaration.get("description", ""))

    @property
    def tags(self) -> list[str]:
        """Words it is grouped by."""
        return list(self.declaration.get("tags", []))

    @property
    def scheduled(self) -> bool:
        """Whether it has a timer."""
        return bool(self.declaration.get("schedule"))

    def timer(self, state: str) -> str | None:
        """Return its timer's state for people: systemd's word, or `next-boot`; None if it has no timer.

        A timer that only boot starts is not started before, lest it elapse at once.
        """
        if not self.scheduled:
            return None
        only_boot = all("on_boot" in schedule for schedule in self.declaration["schedule"])
        return "next-boot" if only_boot and state == "inactive" else state

    @property
    def boot_delays(self) -> list[int]:
        """How long after boot it is started, in microseconds; none if boot does not start it."""
        delays = []
        for schedule in self.declaration.get("schedule", ()):
            if (delay := schedule.get("on_boot")) is not None:
                jitter = schedule.get("jitter", "0s")
                delays.append(parse_duration("0s" if delay is True else delay) + parse_duration(jitter))
        return delays


def parse(text: str, path: str = "") -> Definition | None:
    """Return what rota wrote into a service file, None if rota did not write it.

    Raises:
        ValueError, KeyError: it was changed by hand.
    """
    _, found, section = text.partition(f"\n[{SECTION}]\n")
    if not found or not text.startswith(MARKER):
        return None
    pairs = dict(line.split("=", 1) for line in section.split("\n") if "=" in line)
    return Definition(pairs["Agent"], pairs["Schedule"], json.loads(pairs["Declaration"]), path)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rotad remembers.

    Attributes:
        detail: runs and events, in microseconds.
        runs: most runs of each agent.
        totals: totals of days, in microseconds.
    """

    detail: int = 30 * 86_400 * USEC
    runs: int = 10_000
    totals: int = 365 * 86_400 * USEC


def read_retention(path: Path) -> Retention:
    """Return what the slice of all agents says rotad is to keep; the defaults where it says nothing."""
    try:
        text = path.read_text(encoding="utf-8")
        line = text.partition(f"\n[{SECTION}]\n")[2].partition("Settings=")[2].partition("\n")[0]
        told = json.loads(line or "{}").get("retention", {})
        spans = {name: parse_duration(told[name]) for name in ("detail", "totals") if name in told}
        return replace(Retention(), **spans, **({"runs": int(told["runs"])} if "runs" in told else {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s is not readable: %s", path, error)
        return Retention()


def read(paths: list[str]) -> dict[str, Definition]:
    """Return the agents whose service files these are, by name; files of others are passed over."""
    found: dict[str, Definition] = {}
    for path in sorted(paths):
        try:
            definition = parse(Path(path).read_text(encoding="utf-8"), path)
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s is not readable: %s", path, error)
            continue
        if definition is not None:
            found[definition.name] = definition
    return found
