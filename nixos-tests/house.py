"""Asking rota about the agents of `machine`: every test's script goes on from here."""

import json
import shlex
from typing import Any

OVER = ("succeeded", "failed", "timed-out", "killed", "skipped", "unknown")


def ask(question: str) -> Any:
    """Return what a verb of rota's that reads has to say."""
    return json.loads(machine.succeed(f"rota --json {question}"))


def runs(agent: str) -> list[dict[str, Any]]:
    """Return the recorded runs of an agent, oldest first, whether it is still declared or not."""
    return [run for run in reversed(ask("runs -n 1000")) if run["agent"] == agent]


def ran(agent: str) -> list[dict[str, Any]]:
    """Return the runs in which the agent's program was started."""
    return [run for run in runs(agent) if run["state"] != "skipped"]


def filed(agent: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many runs of an agent are over and filed, and return all of them."""

    def enough(_: bool) -> bool:
        over = [run for run in runs(agent) if run["state"] in OVER]
        return len(over) >= count and all(run.get("archived") for run in over)

    retry(enough, 120)
    return runs(agent)


def run_agent(agent: str) -> str:
    """Start an agent, and return the id of its run."""
    return str(ask(f"run {agent}")["run"])


def show(unit: str, key: str) -> str:
    """Return a property of a unit as systemd knows it."""
    return machine.succeed(f"systemctl show --property={key} --value {unit}").strip()


def is_active(unit: str) -> bool:
    """Tell whether a unit is active."""
    return show(unit, "ActiveState") == "active"


def by(user: str, command: str) -> tuple[int, str]:
    """Run a command as a user who cannot be asked for a password; return its status and output."""
    return machine.execute(f"su --login {user} --command {shlex.quote(command)} </dev/null 2>&1")


start_all()
machine.wait_for_unit("rotad.service")
machine.wait_for_unit("rota-agents.target")
