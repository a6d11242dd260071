"""`rota --user`: the same for a person's own manager, without root."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.machine.machine import Machine

HOME = "/home/alice"


@pytest.fixture
def alice(machine: Machine) -> Iterator[Machine]:
    machine.linger("alice")
    machine.run(f"mkdir -p {HOME}/.config/rota/agents.d", user="alice")
    machine.run("systemctl --user start rotad.service", user="alice")
    yield machine
    machine.run(f"rm -f {HOME}/.config/rota/agents.d/*; rota --user apply", user="alice")
    machine.run("systemctl --user stop rotad.service", user="alice", check=False)
    # what failed is remembered although its agent is gone, and would leave her manager degraded
    machine.run("systemctl --user reset-failed", user="alice")


def declare(machine: Machine, name: str, text: str) -> None:
    path = f"{HOME}/.config/rota/agents.d/{name}.toml"
    machine.run(["sh", "-c", f"cat > {path}"], user="alice", input=text)
    machine.run("rota --user apply", user="alice")


def test_a_user_has_agents_of_their_own(alice: Machine) -> None:
    tries = "for path in ~/x /usr/x; do touch $path || echo refused; done"
    program = f"touch $STATE_DIRECTORY/mine && echo state; {tries}"
    declare(alice, "mine", f'command = ["/bin/sh", "-c", "{program}"]\nschedule = {{ every = "1h" }}')
    done = alice.run("rota --user run mine --wait", user="alice", cwd=HOME)
    assert done.stdout.split().count("refused") == 2
    assert "state" in done.stdout.split()
    declare(alice, "fails", 'command = ["/bin/sh", "-c", "exit 6"]')
    assert alice.run("rota --user run fails --wait", user="alice", check=False).returncode == 6
    runs = json.loads(alice.run("rota --user --json runs", user="alice").stdout)
    assert [(run["agent"], run["state"]) for run in runs[:2]] == [("fails", "failed"), ("mine", "succeeded")]
    assert runs[0]["requested_by"] == "alice"
    timers = alice.run("systemctl --user list-timers --no-legend 'rota-*'", user="alice").stdout
    assert "rota-mine.timer" in timers
    alice.run("rota --user pause mine", user="alice")
    alice.run("rota --user run mine", user="alice", check=False)
    alice.run("systemctl --user start rota-mine.service", user="alice")
    listed = json.loads(alice.run("rota --user --json list", user="alice").stdout)
    assert next(agent["paused"] for agent in listed if agent["name"] == "mine") is True
    assert len(json.loads(alice.run("rota --user --json runs mine", user="alice").stdout)) <= 2
    alice.run("rota --user resume mine", user="alice")
    assert "refused" in alice.run("rota --user logs mine", user="alice").stdout


def test_the_systems_agents_are_not_the_users(alice: Machine) -> None:
    listed = json.loads(alice.run("rota --user --json list", user="alice").stdout)
    assert listed == []


def test_slots_of_a_users_timer(alice: Machine) -> None:
    declare(alice, "tick", 'command = ["/bin/true"]\nschedule = { calendar = "*:*:0/3" }')

    def missed() -> list[dict[str, object]]:
        return [run for run in runs() if run["state"] == "missed"]

    def runs() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(
            alice.run("rota --user --json runs tick", user="alice").stdout
        )
        return found

    alice.wait_for(lambda: any("slot" in run for run in runs()), 20, "a served slot")
    alice.run("systemctl --user stop rota-tick.timer", user="alice")
    alice.wait_for(missed, 20, "a missed slot")
    assert {run["reason"] for run in missed()} == {"timer-stopped"}
    assert "missed: its timer was stopped" in alice.run("rota --user why tick", user="alice").stdout
