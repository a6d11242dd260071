"""A house that is kept: what is declared, the units in it, and what is asked of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rota.names import RULES_DIR
from tests.machine import test_notify
from tests.machine.dockerd import Docker
from tests.machine.house import House
from tests.machine.machine import Machine

ENGINE, SOCKET, FULL = "/run/engine", "/run/rota-keeper/docker.sock", "/srv/full"
SETTINGS, RULES = test_notify.SETTINGS, f"{RULES_DIR}/50-rota-keeper.rules"
PROXY = "rota-docker-proxy"
DOORS = {"door": 7811, "gate": 7812}
WORST = 20.0
DECLARED = f"""
[channels.ops]
url = "{test_notify.SECRET}"
[[routes]]
channels = ["ops"]
on = ["escalation"]
group = "1s"

[keeper]
enable = true
actions_per_hour = 500
[keeper.policy]
strikes = ["act", "act", "act", "escalate"]
settle = "2s"
cooldown = "500ms"
growth = 1
[keeper.watch]
interval = "1s"
[keeper.containers]
sockets = ["{SOCKET}"]
docker = "{ENGINE}/docker.sock"

[keeper.targets."unit:kept-*.service"]
[keeper.targets."unit:kept-hopeless.service"]
attempts = 2
window = "6s"
[keeper.targets."unit:kept-stubborn.service"]
attempts = 1
[keeper.targets."unit:kept-asked-*.service"]
mode = "ask"
[keeper.targets."unit:kept-client-*.service"]
after = ["unit:kept-db.service"]
[keeper.targets."container:kept-*"]
settle = "4s"

[keeper.endpoints.door]
tcp = "127.0.0.1:{DOORS["door"]}"
interval = "1s"
timeout = "1s"
hold = "0s"
[keeper.targets."endpoint:door"]
remedy = "agent:opener"
[keeper.endpoints.gate]
tcp = "127.0.0.1:{DOORS["gate"]}"
interval = "1s"
timeout = "1s"
hold = "0s"
[keeper.targets."endpoint:gate"]
remedy = "command:open-gate"
[keeper.commands.open-gate]
command = ["/usr/bin/touch", "/run/opener/gate"]
user = "root"
writable = ["/run/opener"]

[keeper.disks."{FULL}"]
space = {{ warning = "80%", critical = "99%", margin = "20%", hold = "0s" }}
[keeper.targets."disk:{FULL}"]
[keeper.clean]
journal = false
tmp = false
paths = [{{ path = "{FULL}/cache", older_than = "1d", keep = 2 }}]
"""
OPENER = """
command = ["/usr/bin/touch", "/run/opener/door"]
[sandbox]
writable = ["/run/opener"]
"""
FOREVER = "ExecStart=/bin/sleep infinity\n"
STARTS = "ExecStartPre=/bin/sh -c 'echo >>/run/starts.%N'\n"
SLOW = "ExecStartPre=/bin/sleep 3\n"
OPENS = "ExecStart=/bin/sh -c 'until test -e /run/opener/%N; do sleep 0.1; done; exec python3 -m http.server"
UNITS = {
    **dict.fromkeys(("kept-web", "kept-later", "kept-by-hand", "kept-patient", "other", "late"), FOREVER),
    **dict.fromkeys(("kept-asked-yes", "kept-asked-no"), FOREVER),
    "kept-hopeless": f"{STARTS}ExecStart=/bin/sh -c 'test -e /run/hope && exec sleep infinity'\n",
    "kept-slow": f"{STARTS}{SLOW}{FOREVER}",
    "kept-stubborn": f"{STARTS}{SLOW}ExecStart=/bin/false\n",
    "kept-db": f"ExecStartPre=/bin/sleep 1\n{FOREVER}",
    **dict.fromkeys((f"kept-client-{number}" for number in range(4)), FOREVER),
    **{name: f"{OPENS} -b 127.0.0.1 {port}'\n" for name, port in DOORS.items()},
}
RUNNING = tuple(name for name in UNITS if name not in ("kept-hopeless", "kept-stubborn"))
CURED: dict[str, Any] = {  # sick when its file is gone, which a restart brings back
    "command": "trap 'exit 0' TERM; touch /run/well; while :; do sleep 0.1; done",
    "check": "test -e /run/well",
    "Tmpfs": {"/run": ""},
}
OBEYS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


class Kept(House):
    """A house with a keeper, a Docker engine, a webhook and a small disk."""

    def __init__(self, machine: Machine, docker: Docker) -> None:
        super().__init__(machine)
        self.docker = docker
        self._applied = ""

    def settings(self, text: str) -> str:
        """Apply settings, and return what was said."""
        self.machine.write(SETTINGS, text)
        self._applied = text
        return self.apply()

    def as_declared(self) -> None:
        """Go back to what this file declares, if a test left something else."""
        if self._applied != DECLARED:
            self.settings(DECLARED)
        self.answers()

    def answers(self) -> None:
        """Wait for the keeper."""
        self.until(lambda: self.machine.run("rota keeper", check=False).returncode == 0, "the keeper")

    def engine(self) -> None:
        """Start the engine as Debian's unit does: who is in the group docker may ask it."""
        self.docker.start()
        self.let_in()

    def let_in(self) -> None:
        """Give the engine's socket to the machine's group docker."""
        group = int(self.machine.run(["getent", "group", "docker"]).stdout.split(":")[2])
        os.chown(self.docker.socket, 0, group)
        Path(self.docker.socket).chmod(0o660)

    def until(self, condition: Any, what: str, timeout: float = WORST) -> None:
        self.machine.wait_for(condition, timeout, what)

    def state(self, unit: str) -> str:
        return self.show(unit, "ActiveState")

    def show(self, unit: str, name: str) -> str:
        return self.machine.run(["systemctl", "show", "-P", name, unit]).stdout.strip()

    def active(self, *units: str) -> None:
        for unit in units:
            self.until(lambda unit=unit: self.state(unit) == "active", f"{unit} to be active")

    def kill(self, *units: str) -> None:
        self.machine.run(["systemctl", "kill", "--signal", "KILL", *units])

    def target(self, name: str) -> dict[str, Any]:
        """Return what the keeper knows of a target, {} for nothing to tell."""
        return next((one for one in self.json("keeper")["targets"] if one["target"] == name), {})

    def problems(self, name: str) -> list[str]:
        return [one["problem"] for one in self.target(name).get("findings", ())]

    def history(self, name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return remedies and findings of a target, oldest first."""
        found = self.json(f"keeper history {name}")
        return found["remedies"][::-1], found["findings"][::-1]

    def healed(self, name: str) -> dict[str, Any]:
        """Wait until one remedy healed a target, the first that was tried; return it."""
        self.until(lambda: any(one["verdict"] for one in self.history(name)[0]), f"{name} to be healed")
        (remedy,), _ = self.history(name)
        assert remedy["verdict"] == "healed", remedy
        return remedy

    def starts(self, name: str) -> int:
        return len(self.machine.read(f"/run/starts.{name}").splitlines())

    def told(self, name: str) -> list[dict[str, Any]]:
        """Return the messages that came about a target."""
        return [one for one in test_notify.got(self.machine) if name in one["title"] + one["message"]]
