"""All that the Home Keeper goes by, resolved, and handed to it as one credential: JSON, without pydantic."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from rota.clean_rules import CommandRule
from rota.container_watches import Containers
from rota.frozen import from_plain, to_plain
from rota.keeper_rules import Rules
from rota.unit_watches import Hosts, Units
from rota.watches import Watches

CREDENTIAL = "config"
"""Name under which systemd hands it over; secrets are credentials of their own."""


@dataclass(frozen=True, slots=True)
class Config:
    """What `[keeper]` comes to, each of its parts apart.

    Attributes:
        rules: the policy.
        watches: what is polled.
        units: how the units of this machine are watched.
        hosts: other machines.
        containers: how containers are watched.
        commands: those that may be run, by name.
    """

    rules: Rules = field(default_factory=Rules)
    watches: Watches = field(default_factory=Watches)
    units: Units = field(default_factory=Units)
    hosts: Hosts = field(default_factory=Hosts)
    containers: Containers = field(default_factory=Containers)
    commands: Mapping[str, CommandRule] = field(default_factory=dict)

    @property
    def credentials(self) -> Mapping[str, str]:
        """Files that hold secrets, by the names under which systemd hands them over."""
        found: dict[str, str] = {}
        for item in dataclasses.fields(self):
            found |= getattr(getattr(self, item.name), "credentials", {})
        return found


def to_json(config: Config) -> str:
    """Return a config as one line of JSON, ASCII only; equal configs are equal texts."""
    return json.dumps(to_plain(config), sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Config:
    """Return a config from what `to_json` wrote.

    Raises:
        ValueError: it was not written by this version.
    """
    return from_plain(Config, json.loads(text), "config")
