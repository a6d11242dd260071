"""Remedy `run-command`: starts the unit that root has made of a declared command, and waits for its end.

Nothing of the trouble is handed to it: who may start the unit must not be able to tell it anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rota.clean_rules import COMMAND_UNIT, CommandRule
from rota.errors import Exit, RotaError

from ..words import Action
from .jobs import Jobs

Remedy = Callable[[Action], Awaitable[Mapping[str, Any]]]


def remedies(jobs: Jobs, commands: Mapping[str, CommandRule]) -> Mapping[str, Remedy]:
    """Return this remedy, by its word.

    Args:
        jobs: systemd.
        commands: those that are declared, by name.
    """

    async def run_command(action: Action) -> Mapping[str, Any]:
        name = action.remedy.argument
        if name not in commands:
            raise RotaError(
                f'no command "{name}" is declared', f"Declare it: [keeper.commands.{name}].", Exit.NOT_FOUND
            )
        unit = COMMAND_UNIT.format(name)
        done = await jobs.run(unit)
        if not done.good:
            raise RotaError(f"{name} failed: {done.why()}", f"See journalctl -u '{unit}'.")
        return {"unit": unit, "result": done.result or "success"}

    return {"run-command": run_command}
