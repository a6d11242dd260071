"""What the Home Keeper's user may do on a booted machine: real polkit, systemd and rota apply decide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rota.names import KEEPER_DROP_IN, KEEPER_LINK, KEEPER_SERVICE, RULES_DIR, SYSTEM_UNIT_DIR
from tests.machine.house import House
from tests.machine.machine import Machine

SETTINGS, SECRET = "/etc/rota/rota.toml", "/etc/rota/secrets/db"
RULES = f"{RULES_DIR}/50-rota-keeper.rules"
UNITS = ("kept-web", "kept-app-one", "kept-app-db", "kept-other", "kept-watched")
NAMED = ("kept-web", "kept-app-one")
SYSTEMD = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
DECLARED = f"""
[keeper]
enable = true
never = ["unit:kept-app-db.service"]
[keeper.targets."unit:kept-web.service"]
[keeper.targets."unit:kept-app-*.service"]
mode = "ask"
[keeper.targets."unit:kept-watched.service"]
mode = "observe"
[keeper.targets."disk:/srv"]
remedy = "agent:tidy-up"
[keeper.databases.main]
url = "{SECRET}"
"""
DENIED = ("Access denied", "authentication required", "Access to the requested operation is not permitted")


@pytest.fixture
def kept(house: House) -> Iterator[House]:
    """Units, and a keeper whose policy names some of them."""
    machine = house.machine
    for name in UNITS:
        text = "[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/true\n"
        machine.write(f"{SYSTEM_UNIT_DIR}/{name}.service", text)
    for name in ("tidy-up", "other"):
        house.declare(name, 'command = ["/bin/true"]\n', apply=False)
    try:
        declare(house, DECLARED)
        machine.run(["systemctl", "start", *UNITS])
        settled(machine, *NAMED)
        yield house
    finally:
        machine.run(
            f"systemctl stop {' '.join(UNITS)}; rm -f /etc/systemd/system/kept-*.service {SETTINGS} {SECRET}"
        )
        house.clear()
        machine.run("rm -rf /var/lib/rota-home-keeper; systemctl daemon-reload")


def declare(house: House, text: str) -> str:
    """Apply settings."""
    house.machine.write(SETTINGS, text)
    return house.apply()


def settled(machine: Machine, *units: str) -> None:
    """Wait until polkitd has read its rules: these units may be started, and no others."""
    machine.wait_for(lambda: allowed(machine, "start") == set(units), 10, f"rules for {units}")


def may(machine: Machine, verb: str, unit: str, user: str = "rota-keeper") -> bool:
    done = machine.run(["systemctl", "--no-ask-password", verb, unit], user=user, check=False)
    assert not done.returncode or any(words in done.stderr for words in DENIED), done.stderr
    return done.returncode == 0


def allowed(machine: Machine, verb: str) -> set[str]:
    return {unit for unit in UNITS if may(machine, verb, f"{unit}.service")}


def show(machine: Machine, name: str) -> str:
    return machine.run(["systemctl", "show", "-P", name, KEEPER_SERVICE]).stdout.strip()


def test_what_is_named_is_restarted_and_nothing_else(kept: House) -> None:
    machine = kept.machine
    for verb in ("restart", "start", "reset-failed"):
        assert allowed(machine, verb) == set(NAMED), verb
    for verb in ("stop", "try-restart", "reload", "kill", "freeze", "disable", "mask"):
        assert allowed(machine, verb) == set(), verb
    for unit in (
        KEEPER_SERVICE,
        "rotad.service",
        "systemd-logind.service",
        "dbus.service",
        "rota-other.service",
    ):
        assert not may(machine, "restart", unit), unit
    for verb in ("daemon-reload", "reset-failed", "daemon-reexec"):
        done = machine.run(["systemctl", "--no-ask-password", verb], user="rota-keeper", check=False)
        assert done.returncode, verb


def test_where_all_may_be_touched_the_machine_is_not_given_away(kept: House) -> None:
    """A shell as root, other states of the machine, and what everybody runs."""
    machine = kept.machine
    declare(kept, '[keeper]\nenable = true\nunnamed = "act"\n')
    settled(machine, *UNITS)
    for unit in ("debug-shell.service", "rescue.target", "sleep.target", "ctrl-alt-del.target", "user.slice"):
        for verb in ("start", "restart"):
            assert not may(machine, verb, unit), (verb, unit)
    assert machine.run("systemctl is-active debug-shell rescue.target", check=False).stdout.split() == [
        "inactive",
        "inactive",
    ]


def test_nothing_of_its_own_making_is_started(kept: House) -> None:
    machine = kept.machine
    transient = (
        f'busctl call {SYSTEMD} StartTransientUnit "ssa(sv)a(sa(sv))" kept-web.service replace 1 '
        'ExecStart "a(sasb)" 1 /usr/bin/touch 2 /usr/bin/touch /root/owned false 0'
    )
    assert machine.run(transient, user="rota-keeper", check=False).returncode
    properties = f"busctl call {SYSTEMD} SetUnitProperties 'sba(sv)' kept-web.service true 1 Description s x"
    assert machine.run(properties, user="rota-keeper", check=False).returncode
    assert not machine.exists("/root/owned")


def test_agents_that_are_remedies_are_started_by_rotad(kept: House) -> None:
    machine = kept.machine
    call = "busctl call org.rota1 /org/rota1 org.rota1.Manager"
    machine.run(f"{call} StartAgent s tidy-up", user="rota-keeper")
    (run,) = kept.settled("tidy-up")
    assert (run["trigger"], run["requested_by"]) == ("person", "rota-keeper")
    for refused in ("StartAgent s other", "StopAgent s tidy-up", "PauseAgent ss tidy-up why"):
        done = machine.run(f"{call} {refused}", user="rota-keeper", check=False)
        assert "not authorised" in done.stderr or "denied" in done.stderr, refused


def test_rules_follow_what_is_declared(kept: House) -> None:
    machine = kept.machine
    said = declare(kept, DECLARED.replace("never =", 'unnamed = "act"\nnever ='))
    assert "The Home Keeper goes by what is declared." in said
    settled(machine, *NAMED, "kept-other")
    assert allowed(machine, "restart") == {*NAMED, "kept-other"}
    assert not may(machine, "restart", "systemd-journald.service")
    assert "The Home Keeper is stopped." in declare(kept, DECLARED.replace("enable = true", "enable = false"))
    settled(machine)
    assert allowed(machine, "restart") == set()
    assert not machine.exists(RULES)


def test_others_may_what_they_might_before(kept: House) -> None:
    assert not may(kept.machine, "restart", "kept-web.service", "alice")
    assert not may(kept.machine, "stop", KEEPER_SERVICE, "bob")
    assert not may(kept.machine, "stop", KEEPER_SERVICE, "rota")


def test_it_comes_and_goes_with_the_settings(kept: House) -> None:
    machine = kept.machine
    assert show(machine, "ActiveState") == "active"
    assert show(machine, "User") == "rota-keeper"
    pid = show(machine, "MainPID")
    kept.apply()
    assert show(machine, "MainPID") == pid
    declare(kept, DECLARED.replace("kept-app-*", "kept-*"))
    assert show(machine, "MainPID") not in (pid, "0")
    declare(kept, "")
    assert show(machine, "ActiveState") == "inactive"
    for name in (KEEPER_DROP_IN, KEEPER_LINK):
        assert not machine.exists(f"{SYSTEM_UNIT_DIR}/{name}")


def test_it_is_handed_its_config_and_its_secrets(kept: House) -> None:
    machine = kept.machine
    assert show(machine, "ActiveState") == "active"  # although that of the database is missing
    machine.run("install -d -m 700 /etc/rota/secrets")
    machine.write(SECRET, "postgresql://me@db/main\n")
    machine.run(f"chmod 600 {SECRET}; systemctl restart {KEEPER_SERVICE}")
    folder = f"/run/credentials/{KEEPER_SERVICE}"
    assert machine.run(f"cat {folder}/database-main").stdout == "postgresql://me@db/main\n"
    code = (
        "import sys; from rota.keeper_config import from_json; print(from_json(sys.stdin.read()).rules.never)"
    )
    read = f"PYTHONPATH=/usr/lib/rota python3 -c '{code}' <{folder}/config"
    assert machine.run(read).stdout == "('unit:kept-app-db.service',)\n"
    assert not machine.run(f"cat {folder}/config", user="alice", check=False).stdout


def test_its_sandbox(kept: House) -> None:
    machine = kept.machine
    verdict = machine.run(["systemd-analyze", "security", "--no-pager", KEEPER_SERVICE]).stdout
    assert float(verdict.rpartition(f"{KEEPER_SERVICE}: ")[2].split()[0]) <= 2.0
    run = machine.run(f"systemctl show -P InvocationID {KEEPER_SERVICE}").stdout.strip()
    of_it = f"INVOCATION_ID={run} + _SYSTEMD_INVOCATION_ID={run}"
    assert not machine.run(f"journalctl --priority err --quiet {of_it}").stdout
