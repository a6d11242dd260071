"""Names that users, tests and other programs rely on; see docs/architecture.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from rota.errors import Exit

AGENT_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
PREFIX = "rota-"
_UNIT = re.compile(rf"{PREFIX}({AGENT_NAME})\.(?:service|timer)")

BUS_NAME = "org.rota1"
MANAGER_PATH = "/org/rota1"
AGENT_PATH = "/org/rota1/agent/"
MANAGER_INTERFACE = "org.rota1.Manager"
AGENT_INTERFACE = "org.rota1.Agent"
KEEPER_BUS_NAME = "org.rota1.Keeper"
KEEPER_PATH = "/org/rota1/Keeper"
KEEPER_INTERFACE = "org.rota1.Keeper"
KEEPER_SERVICE = "rota-home-keeper.service"
KEEPER_AGENT = "home-keeper"
NOTIFIER_BUS_NAME = "org.rota1.Notifier"
NOTIFIER_PATH = "/org/rota1/Notifier"
NOTIFIER_INTERFACE = "org.rota1.Notifier"
POLKIT_ACTION = "org.rota1.manage-agents"

ERRORS: Mapping[Exit, str] = {
    Exit.FAILED: f"{BUS_NAME}.Error.Failed",
    Exit.USAGE: "org.freedesktop.DBus.Error.InvalidArgs",
    Exit.NOT_FOUND: f"{BUS_NAME}.Error.NotFound",
    Exit.UNREACHABLE: f"{BUS_NAME}.Error.Unreachable",
    Exit.NOT_AUTHORISED: "org.freedesktop.DBus.Error.AccessDenied",
}
"""D-Bus error names by the exit code `rota` gives for them."""

CONFIG_DIR = "/etc/rota"
SYSTEM_UNIT_DIR = "/etc/systemd/system"

TARGET = "rota-agents.target"

METRICS_SOCKET = "rotad-metrics.socket"
METRICS_SERVICE = "rotad-metrics.service"
"""Who serves metrics: no agent, whose units begin with PREFIX."""

NOTIFY_SERVICE = "rotad-notify.service"
NOTIFY_DROP_IN = f"{NOTIFY_SERVICE}.d/50-rota.conf"
NOTIFY_LINKS = (f"multi-user.target.wants/{NOTIFY_SERVICE}", f"default.target.wants/{NOTIFY_SERVICE}")
"""Who tells people; what is declared of it; and what starts it, on the system and for a user."""

KEEPER_USER = "rota-keeper"
KEEPER_DROP_IN = f"{KEEPER_SERVICE}.d/50-rota.conf"
KEEPER_LINK = f"multi-user.target.wants/{KEEPER_SERVICE}"
KEEPER_RULES = "polkit-1/rules.d/50-rota-keeper.rules"
"""What its user may do: among the units in what `rota generate` writes, below /etc where it is installed."""
RULES_DIR = "/etc/polkit-1/rules.d"

PROXY_SOCKET = "rota-docker-proxy.socket"
PROXY_SERVICE = "rota-docker-proxy.service"
PROXY_DROP_IN = f"{PROXY_SERVICE}.d/50-rota.conf"
PROXY_LINK = f"sockets.target.wants/{PROXY_SOCKET}"
"""Who asks Docker for the keeper, which may do so at that socket."""

SMART_TIMER = "rotad-smart.timer"
SMART_SERVICE = "rotad-smart.service"
SMART_DROP_IN = f"{SMART_TIMER}.d/50-rota.conf"
"""Who asks drives for their own diagnosis for the keeper, and when."""

RESERVED: Mapping[str, str] = {
    KEEPER_AGENT: "is the Home Keeper's own, which [keeper] in rota.toml turns on",
    "docker-proxy": "is rota-docker-proxy's, through which the Home Keeper asks Docker",
}
"""Names that no agent can have, because a service of rota's own has such a unit; and whose they are."""

MARKER = "# Made by rota"
RULES_MARKER = "// Made by rota"
"""Begin every file that rota writes; what does not begin so is never touched."""

SECTION = "X-Rota"
"""Section of a service file that says what was declared; systemd passes over X- sections."""


def service_of(agent: str) -> str:
    """Return the name of an agent's service unit."""
    return f"{PREFIX}{agent}.service"


def timer_of(agent: str) -> str:
    """Return the name of an agent's timer unit."""
    return f"{PREFIX}{agent}.timer"


@lru_cache(1024)
def agent_of(unit: str) -> str | None:
    """Return the agent a service or timer unit belongs to, None for other units and those in RESERVED."""
    found = _UNIT.fullmatch(unit)
    return found[1] if found and found[1] not in RESERVED else None
