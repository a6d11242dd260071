"""Calling rotad in a machine by D-Bus itself: every method there is, and the client that does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rota.interface import INTERFACES
from rota.names import AGENT_INTERFACE, AGENT_PATH, MANAGER_INTERFACE, MANAGER_PATH
from tests.machine.machine import Machine

CLIENT = "/usr/local/lib/bus_client.py"


def put_client(machine: Machine) -> None:
    """Put bus_client.py into a machine."""
    machine.write(CLIENT, Path(__file__).with_name("bus_client.py").read_text(encoding="utf-8"))


def methods() -> list[list[Any]]:
    """Return path, interface, name, argument types and right arguments of every method there is."""
    right = {"agent": "sleeper", "why": "tired", "run": "ff", "filter": {}, "limit": 5, "since": 0, "at": 0}
    paths = {MANAGER_INTERFACE: MANAGER_PATH, AGENT_INTERFACE: AGENT_PATH + "sleeper"}
    return [
        [paths[interface], interface, name, [kind for _, kind in method.arguments],
         [right[argument] for argument, _ in method.arguments]]
        for interface, table in INTERFACES.items()
        for name, method in table.items()
    ]  # fmt: skip


def client(machine: Machine, *arguments: str, user: str | None = None) -> Any:
    """Run the client in the machine, and return what it found."""
    return json.loads(machine.run(["python3", CLIENT, *arguments], user=user).stdout)
