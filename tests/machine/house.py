"""Declaring agents in a machine and asking rota about them, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from subprocess import CompletedProcess
from typing import Any

from tests.machine.machine import Machine

AGENTS = "/etc/rota/agents.d"
OVER = ("succeeded", "failed", "timed-out", "killed", "skipped", "unknown")


class House:
    """A machine with agents in it; what a test declared is gone after `clear`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._declared: set[str] = set()

    def declare(self, name: str, text: str, *, apply: bool = True) -> None:
        """Write one declaration, and apply it."""
        self._declared.add(name)
        self.machine.write(f"{AGENTS}/{name}.toml", text)
        if apply:
            self.apply()

    def apply(self) -> str:
        """Run `rota apply` and return what it said."""
        return self.machine.run("rota apply").stdout

    def remove(self, name: str) -> None:
        """Delete one declaration; nothing is applied."""
        self._declared.discard(name)
        self.machine.run(["rm", "-f", f"{AGENTS}/{name}.toml"])

    def clear(self) -> None:
        """Delete what was declared, stop what still runs, and forget it."""
        for name in list(self._declared):
            self.machine.run(f"systemctl stop rota-{name}.timer rota-{name}.service", check=False)
            self.machine.run(f"rm -rf /var/lib/rota/paused/{name}")
            self.remove(name)
        self.apply()
        self.machine.run("systemctl reset-failed", check=False)

    def rota(self, arguments: str, *, user: str | None = None, code: int = 0) -> CompletedProcess[str]:
        """Run rota, and check its exit code."""
        done = self.machine.run(f"rota {arguments}", user=user, check=False)
        assert done.returncode == code, f"rota {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, arguments: str) -> Any:
        """Run a reading verb with --json and return what it printed."""
        return json.loads(self.rota(f"--json {arguments}").stdout)

    def runs(self, agent: str) -> list[dict[str, Any]]:
        """Return an agent's runs, oldest first."""
        return list(reversed(self.json(f"runs {agent} -n 1000")))

    def runs_of_all(self, agent: str) -> list[dict[str, Any]]:
        """Return the runs of an agent that may no longer be declared, oldest first."""
        return [run for run in reversed(self.json("runs -n 1000")) if run["agent"] == agent]

    def settled(self, agent: str, count: int = 1, timeout: float = 10) -> list[dict[str, Any]]:
        """Wait until so many runs are over and filed; return all of them, oldest first."""

        def enough() -> bool:
            done = [run for run in self.runs(agent) if run["state"] in OVER]
            filed = all(run.get("archived") or run["state"] == "skipped" for run in done)
            return len(done) >= count and filed

        self.machine.wait_for(enough, timeout, f"{count} filed runs of {agent}")
        return self.runs(agent)

    def said(self, agent: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until what so many runs said is filed, too; return all of them, oldest first."""
        self.settled(agent, count)
        self.machine.wait_for(
            lambda: all(run["output_filed"] for run in self.runs(agent)), 10, f"what {agent} said to be filed"
        )
        return self.runs(agent)

    def once(self, name: str, text: str, how: str = "") -> Mapping[str, Any]:
        """Declare an agent, start it through systemd, and return its one run when it is filed."""
        self.declare(name, text)
        self.machine.run(how or f"systemctl start rota-{name}.service", check=False)
        (run,) = self.settled(name)
        return run
