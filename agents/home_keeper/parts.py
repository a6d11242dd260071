"""What the keeper is put together from: tables of event sources and of remedies, by what is declared.

A source follows events, see `intake.Source`. A remedy is a coroutine that carries out an action and returns
what it did, as JSON takes it; where it fails, it raises RotaError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from rota.keeper_config import Config
from rota.quantity import USEC

from .intake import Source
from .probes import containers as engines
from .probes import hosts
from .probes.units import UnitSource
from .remedies import agents, clean, commands, containers, units
from .remedies.jobs import Jobs
from .words import Action, Finding, Remedy

Carry = Callable[[Action], Awaitable[Mapping[str, Any]]]

PATIENCE = 300.0
"""Seconds that a remedy may take, unless it is one of these."""
_UNIT = 3600.0
LONGER: Mapping[str, float] = {"clean": _UNIT, "restart-unit": _UNIT, "start-unit": _UNIT}
"""What is started has a timeout of its own, which is to come first: units take as long as they say."""
_CONTAINER = 3600.0
"""Seconds that a container may be given to end."""
MARGIN = 120.0
"""Seconds from a timeout until systemd, or an engine, has ended what took too long."""


class Parts:
    """Sources and remedies, which share the way to what they are about.

    Attributes:
        sources: what follows events, each with the name of its check.
        remedies: what carries out remedies, by `Remedy.word`.
    """

    def __init__(self, config: Config, *, user: bool) -> None:
        followed = engines.sources(config.containers)
        here = [UnitSource(config.units)] if config.units.watch else []
        jobs = Jobs()
        self.sources: list[Source] = [*here, *hosts.sources(config.hosts), *followed]
        self.remedies: dict[str, Carry] = {
            **agents.remedies(user=user),
            **clean.remedies(jobs),
            **commands.remedies(jobs, config.commands),
            **containers.remedies(followed, config.containers),
            **units.remedies(),
        }
        self._config = config

    def recall(self, left: Mapping[str, Sequence[Finding]]) -> None:
        """Tell sources which of their findings were open when the keeper ended, by check."""
        for source in self.sources:
            if isinstance(source, UnitSource | hosts.HostSource):
                source.recall(left.get(source.name, ()))

    def patience(self, remedy: Remedy) -> float | None:
        """Return how long a remedy may take, seconds: longer than what it starts is given by others.

        None: it sees to that itself. Which limit an agent has is known when it is run.
        """
        word, config = remedy.word, self._config
        if word == "run-agent":
            return None
        if word == "run-command" and (command := config.commands.get(remedy.argument)) is not None:
            return command.timeout / USEC + MARGIN
        if word.endswith("-container"):
            return _CONTAINER + config.containers.patience / USEC + MARGIN
        return LONGER[word] + MARGIN if word in LONGER else PATIENCE
