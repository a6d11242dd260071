"""Who may do what: alice (nobody), bob (group rota), rotad's own user; real polkit, real bus policy."""

from __future__ import annotations

import json

import pytest

from rota.interface import INTERFACES
from rota.names import AGENT_INTERFACE, MANAGER_INTERFACE
from tests.machine.bus_calls import client, methods, put_client
from tests.machine.house import House

MANAGER = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
TRANSIENT = (
    f'busctl call {MANAGER} StartTransientUnit "ssa(sv)a(sa(sv))" rota-evil.service replace 1 '
    'ExecStart "a(sasb)" 1 /usr/bin/touch 2 /usr/bin/touch /root/owned false 0'
)
ROTA = "org.rota1 /org/rota1 org.rota1.Manager"


@pytest.fixture
def sleeper(house: House) -> House:
    house.declare("sleeper", 'command = ["/bin/sleep", "30"]')
    return house


def test_alice_may_look_and_nothing_else(sleeper: House) -> None:
    for verb in ("run sleeper", "stop sleeper", "pause sleeper", "resume sleeper"):
        refused = sleeper.rota(verb, user="alice", code=5)
        assert "not authorised" in refused.stderr
    for verb in ("list", "runs", "show sleeper", "--json list"):
        sleeper.rota(verb, user="alice")
    refused_ = sleeper.machine.run("systemctl start rota-sleeper.service", user="alice", check=False)
    assert refused_.returncode != 0
    called = sleeper.machine.run(f"busctl call {ROTA} StartAgent s sleeper", user="alice", check=False)
    assert "denied" in called.stderr
    assert sleeper.runs("sleeper") == []


# What everyone may call. A method that is in neither list fails the test below.
READING = {
    MANAGER_INTERFACE: {
        *("ListAgents", "GetAgent", "ListRuns", "GetRun", "Why"),
        *("Stats", "Events", "SeqAt", "Metrics", "Health", "Keeper"),
    },
    AGENT_INTERFACE: {"Describe", "ListRuns", "Events", "Why"},
}
DENIED = "org.freedesktop.DBus.Error.AccessDenied"


def test_alice_is_denied_every_method_that_changes_something(sleeper: House) -> None:
    put_client(sleeper.machine)
    before = sleeper.json("list")
    found = client(sleeper.machine, "each", json.dumps(methods()), user="alice")
    assert len(found) == sum(len(table) for table in INTERFACES.values())
    reading = {f"{interface}.{name}" for interface, names in READING.items() for name in names}
    assert {name for name, error in found.items() if error == DENIED} == found.keys() - reading
    # There is no run to get: but that may be said to everyone.
    assert {name for name in reading if found[name]} <= {f"{MANAGER_INTERFACE}.GetRun"}
    assert sleeper.json("list") == before
    assert sleeper.runs("sleeper") == []
    for_bob = client(sleeper.machine, "each", json.dumps(methods()), user="bob")
    assert DENIED not in for_bob.values()


def test_bob_manages_agents(sleeper: House) -> None:
    for verb in ("run sleeper", "stop sleeper", "pause sleeper", "resume sleeper"):
        sleeper.rota(verb, user="bob")
    machine = sleeper.machine
    machine.run("systemctl start rota-sleeper.service", user="bob")
    machine.run("systemctl kill rota-sleeper.service", user="bob")
    machine.run("systemctl stop rota-sleeper.service", user="bob")
    path = "/org/rota1/agent/sleeper"
    machine.run(f"busctl call org.rota1 {path} org.rota1.Agent Start", user="bob")
    machine.run(f"busctl call org.rota1 {path} org.rota1.Agent Stop", user="bob")


@pytest.mark.parametrize("user", ["alice", "bob", "rota"])
def test_nobody_gets_at_anything_else(sleeper: House, user: str) -> None:
    machine = sleeper.machine
    for command in (
        TRANSIENT,
        "systemctl restart rotad.service",
        "systemctl start systemd-tmpfiles-clean.service",
        "systemctl stop rota-medium.slice",
        "systemctl set-property --runtime rota-sleeper.service CPUWeight=7",
        "systemctl daemon-reload",
        "systemctl mask --runtime rota-sleeper.service",
        "systemctl enable rota-agents.target",
    ):
        assert machine.run(command, user=user, check=False).returncode != 0, f"{user}: {command}"
    assert not machine.exists("/root/owned")
    assert not machine.exists("/run/systemd/system/rota-evil.service")


def test_nobody_takes_the_name(sleeper: House) -> None:
    program = (
        "import asyncio; from dbus_next.aio import MessageBus; from dbus_next import BusType\n"
        "async def main():\n"
        "    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()\n"
        "    print(await bus.request_name('org.rota1'))\n"
        "asyncio.run(main())\n"
    )
    sleeper.machine.run("systemctl stop rotad.service")
    taken = sleeper.machine.run(["python3", "-c", program], user="alice", check=False)
    assert taken.returncode != 0
    assert "AccessDenied" in taken.stderr or "not allowed to own" in taken.stderr
    # The bus starts rotad for whoever needs it.
    sleeper.rota("runs", user="alice")
    assert sleeper.machine.run("systemctl is-active rotad.service").stdout.strip() == "active"


def test_busctl_shows_the_objects(sleeper: House) -> None:
    tree = sleeper.machine.run("busctl tree --list org.rota1", user="alice").stdout.split()
    assert "/org/rota1/agent/sleeper" in tree
    shown = sleeper.machine.run("busctl introspect org.rota1 /org/rota1", user="alice").stdout
    for member in ("ListAgents", "StartAgent", "PauseAgent", "ListRuns", "GetRun", "RunChanged", "Version"):
        assert f".{member} " in shown
