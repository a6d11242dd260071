"""What Home Keeper watches of systemd units, resolved: frozen dataclasses, to JSON and back by `frozen`.

Made by `unit_watching` from what a person declared; no pydantic. Spans are microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rota.keeper_rules import matches
from rota.quantity import USEC

_MINUTE = 60 * USEC

OURS = ("rota-*.service", "rota-*.timer")
"""Units of agents: of these there are runs, and findings of the kind `agent`."""


@dataclass(frozen=True, slots=True)
class Units:
    """How the units of a machine are watched.

    Attributes:
        watch: whether they are.
        ignore: names and patterns of those that are not.
        running: names of those that are to be active at all times.
        stopped: what it means that somebody stopped one of them, or a timer: `note` or `finding`.
        timers: whether timers are watched that an active unit wants.
        stuck: a unit that changes its state for longer is stuck.
        restarts: so many restarts `within` are a loop.
        within: see `restarts`.
    """

    watch: bool = True
    ignore: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    stopped: str = "note"
    timers: bool = True
    stuck: int = 5 * _MINUTE
    restarts: int = 5
    within: int = 10 * _MINUTE

    def watches(self, unit: str) -> bool:
        """Return whether a unit is watched."""
        return self.watch and not any(matches(pattern, unit) for pattern in (*OURS, *self.ignore))


@dataclass(frozen=True, slots=True)
class Host:
    """Another machine, looked at by SSH.

    Attributes:
        address: its name or address.
        port: of its SSH server.
        user: who is logged in there.
        key: name of the credential that holds the private key.
        known_hosts: name of the credential that holds the keys by which the machine is known.
        interval: from one look to the next.
        timeout: of one look, connecting included.
        patience: so long nothing is said of a machine that does not answer.
        severity: how bad it is then.
        units: how its units are watched.
        key_file: where the private key is from, as it was declared.
        known_hosts_file: the same of known_hosts.
    """

    address: str
    user: str
    key: str
    known_hosts: str
    port: int = 22
    interval: int = 30 * USEC
    timeout: int = 10 * USEC
    patience: int = 2 * _MINUTE
    severity: str = "warning"
    units: Units = Units()
    key_file: str = ""
    known_hosts_file: str = ""


@dataclass(frozen=True, slots=True)
class Hosts:
    """All other machines.

    Attributes:
        hosts: by name.
        credentials: files that hold secrets, by the names under which systemd hands them over.
    """

    hosts: Mapping[str, Host] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)
