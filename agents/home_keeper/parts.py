"""What the keeper is put together from: tables of event sources and of remedies, by what is declared.

A source follows events, see `intake.Source`. A remedy is a coroutine that carries out an action and returns
what it did, as JSON takes it; where it fails, it raises RotaError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .intake import Source
from .remedies import agents
from .settings import Config
from .words import Action

Carry = Callable[[Action], Awaitable[Mapping[str, Any]]]

_SOURCES: tuple[Callable[[Config, bool], list[Source]], ...] = ()
_REMEDIES: tuple[Callable[[Config, bool], Mapping[str, Carry]], ...] = (
    lambda _, user: agents.remedies(user=user),
)

PATIENCE = 300.0
"""Seconds that a remedy may take, unless it is one of these."""
LONGER: Mapping[str, float] = {"run-agent": 6 * 3600.0, "run-command": 3600.0, "clean": 3600.0}
"""Agents and declared commands have timeouts of their own, which are to come first."""


def sources(config: Config, *, user: bool) -> list[Source]:
    """Return what follows events, each with the name of its check."""
    return [source for make in _SOURCES for source in make(config, user)]


def remedies(config: Config, *, user: bool) -> dict[str, Carry]:
    """Return what carries out remedies, by `Remedy.word`."""
    return {word: carry for make in _REMEDIES for word, carry in make(config, user).items()}
