"""The Home Keeper's sources of units at work in a machine, and what they say there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.machine.machine import Machine

PLACE = "/run/systemd/system"
OUT = "/run/watch.out"
SCRIPTS = ("unit_watch.py", "unit_remedy.py")
Found = dict[str, Any]


def copy_scripts(machine: Machine) -> None:
    """Put the programs that run in the machine there."""
    for name in SCRIPTS:
        machine.write(f"/run/{name}", Path(__file__).with_name(name).read_text(encoding="utf-8"))


def declare(machine: Machine, **units: str) -> None:
    """Write units, by name without the type (a service, or NAME_timer), and have systemd read them."""
    for name, text in units.items():
        stem, _, kind = name.partition("_")
        machine.write(f"{PLACE}/t-{stem}.{kind or 'service'}", text)
    machine.run("systemctl daemon-reload")


class Watch:
    """A source under way, as a user without privileges."""

    def __init__(
        self, machine: Machine, rules: Found, kind: str = "units", properties: str = "", out: str = OUT
    ) -> None:
        """Start it; its first look is over when this returns, if it watches this machine."""
        self._machine, self._out = machine, out
        machine.run("systemctl stop watch.service; systemctl reset-failed watch.service", check=False)
        machine.run(f"rm -f {out}")
        machine.run(
            "systemd-run --quiet --unit=watch --uid=bob -p SupplementaryGroups=systemd-journal "
            f"-p StandardOutput=file:{out} {properties} /usr/bin/python3 -sB /run/unit_watch.py {kind} "
            f"'{json.dumps(rules)}'"
        )
        if kind == "units":
            machine.wait_for(lambda: bool(self.lines()), 20, "the first look")

    def stop(self) -> None:
        """Stop it."""
        self._machine.run("systemctl stop watch.service", check=False)

    def lines(self) -> list[Found]:
        """Return all observations."""
        text = self._machine.run(["cat", self._out], check=False).stdout
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def state(self) -> dict[str, list[Found]]:
        """Return what is found now, by target."""
        known: dict[str, list[Found]] = {}
        for line in self.lines():
            if line["first"]:
                known = {target: found for target, found in known.items() if target.startswith("check:")}
            known |= line["findings"]
        return {target: found for target, found in known.items() if found}

    def problems(self, target: str) -> list[str]:
        """Return what is wrong with a target now."""
        return [one["problem"] for one in self.state().get(target, [])]

    def until(self, target: str, *problems: str, timeout: float = 15) -> Found:
        """Wait until this and nothing else is wrong with a target; return its last finding, {} if none."""
        self._wait(
            lambda: self.problems(target) == [*problems], f"{target} to be {problems or 'well'}", timeout
        )
        found = self.state().get(target, [])
        return found[-1] if found else {}

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        try:
            self._machine.wait_for(condition, timeout, what)
        except Exception:
            print(json.dumps(self.state(), indent=1))
            print(self._machine.run("journalctl -u watch.service -n 30", check=False).stdout)
            raise

    def until_seen(self, count: int, target: str, timeout: float = 15) -> None:
        """Wait until a target was spoken of so many times."""
        self._wait(lambda: len(self.told(target)) >= count, f"{count} words of {target}", timeout)

    def told(self, target: str) -> list[list[Found]]:
        """Return all that was said of a target, in its order."""
        return [line["findings"][target] for line in self.lines() if target in line["findings"]]

    def noticed(self, target: str, problem: str) -> float:
        """Return how many seconds after a problem began it was told first; systemd says when that was."""
        for line in self.lines():
            for one in line["findings"].get(target, []):
                if one["problem"] == problem:
                    return float(line["at"] - one["since"] / 1e6)
        raise AssertionError(f"{target} was never {problem}")


def say(what: str, seconds: float) -> None:
    """Print how long something took."""
    print(f"  {what}: {seconds * 1000:.0f} ms")


def pause(seconds: float) -> None:
    """Give something that must not happen the time to happen."""
    time.sleep(seconds)
