"""The machine itself: a real systemd, several users, and nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.machine import cgroup
from tests.machine.install import install_rota
from tests.machine.machine import CommandError, Machine, sweep
from tests.machine.rootfs import CHECKOUT, MachineError, debian_mirror, parse_sources

PARENT = """
import sys
from tests.machine.machine import Machine
with Machine() as machine:
    print(machine.name, machine.init, flush=True)
    sys.stdin.read()
"""


def traces(name: str) -> list[str]:
    """Return what can be seen of a machine on the host."""
    found = [str(path) for path in cgroup.groups(name) if path.exists()]
    found += [str(path) for path in (CHECKOUT / ".cache" / "machines").glob(f"*{name}*")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if name in line]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [line for line in [path.read_bytes().decode(errors="replace")] if name in line]
        except OSError:
            continue
    return found


def test_systemd_is_pid_1_and_all_units_are_well(machine: Machine) -> None:
    assert machine.read("/proc/1/comm") == "systemd\n"
    assert machine.run("hostname; date +%Z; locale -k charmap | tail -1").stdout.split() == [
        "rota-test",
        "UTC",
        'charmap="UTF-8"',
    ]
    assert machine.run("systemctl --failed --plain --no-legend").stdout == ""
    assert machine.run("ls /var/log/journal/$(cat /etc/machine-id)/system.journal").stdout


def test_commands_run_as_root_or_as_a_plain_user(machine: Machine) -> None:
    assert machine.run(["id", "-un"]).stdout == "root\n"
    assert machine.run("id -un; id -Gn; echo $HOME", user="alice").stdout == "alice\nalice\n/home/alice\n"
    assert machine.run(["cat"], input="x y\n").stdout == "x y\n"
    assert machine.run("pwd; echo $A", cwd="/tmp", env={"A": "a b"}).stdout == "/tmp\na b\n"


def test_failing_commands_say_what_and_why(machine: Machine) -> None:
    with pytest.raises(CommandError, match=r"`ls /nowhere` exited with 2:\nls: cannot access") as failed:
        machine.run(["ls", "/nowhere"])
    assert failed.value.result.returncode == 2
    assert machine.run("exit 3", check=False).returncode == 3
    with pytest.raises(MachineError, match=r"took longer than 0\.2 s and was killed:\nbefore"):
        machine.run("echo before; sleep 1234 & wait", timeout=0.2)
    assert "sleep 1234" not in machine.run("ps ax").stdout
    with pytest.raises(MachineError, match="has no user carol"):
        machine.run("true", user="carol")


def test_files_go_in_and_out(machine: Machine) -> None:
    machine.write("/var/run/a/b", "text\n", mode=0o600)
    assert machine.read("/run/a/b") == "text\n"
    assert machine.run("stat -c %a:%U /run/a/b").stdout == "600:root\n"
    assert machine.exists("/run/a/b")
    assert not machine.exists("/run/a/c")


def test_waiting_for_a_command_or_a_function(machine: Machine) -> None:
    machine.run("(sleep 0.2; touch /run/waited) >/dev/null 2>&1 &")
    machine.wait_for(["test", "-e", "/run/waited"])
    assert machine.wait_for(lambda: machine.read("/proc/uptime")[:1])
    with pytest.raises(MachineError, match=r"waited 0.1 s in vain for `false`, which last exited with 1"):
        machine.wait_for("false", timeout=0.1)


def test_sandboxing_works_as_on_real_hardware(machine: Machine) -> None:
    send = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"
    service = ["systemd-run", "--pipe", "--wait", "--quiet", "--property=DynamicUser=yes"]
    assert machine.run([*service, "id", "-un"]).stdout.startswith("run-")
    machine.run([*service, "python3", "-c", send])
    denied = machine.run([*service, "--property=IPAddressDeny=any", "python3", "-c", send], check=False)
    assert "Operation not permitted" in denied.stderr
    denied = machine.run([*service, "touch", "/usr/x"], check=False)
    assert "Read-only file system" in denied.stderr


def test_a_machine_that_cannot_boot_says_why_and_leaves_nothing(bootable: None) -> None:
    machine = Machine(options=["--nonsense"])
    with pytest.raises(MachineError, match=r"ended while booting \(status 1\):\n.*unrecognized option"):
        machine.start()
    assert traces(machine.name) == []


def test_a_user_has_a_service_manager(machine: Machine) -> None:
    machine.linger("alice")
    assert machine.run("systemctl --user is-system-running --wait", user="alice").stdout == "running\n"
    assert "org.freedesktop.systemd1" in machine.run("busctl --user list", user="alice").stdout


def test_a_persistent_machine_survives_the_plug_and_leaves_nothing(bootable: None) -> None:
    with Machine(persistent=True) as machine:
        identity = machine.read("/etc/machine-id")
        machine.write("/var/lib/kept", "yes")
        machine.power_off_hard()
        machine.start()
        assert machine.read("/var/lib/kept") == "yes"
        machine.stop()
        with pytest.raises(MachineError, match="is not running"):
            machine.run("true")
        machine.start()
        assert machine.read("/etc/machine-id") == identity
        assert len(machine.run("journalctl --list-boots --quiet").stdout.splitlines()) == 3
        name = machine.name
    assert traces(name) == []


def test_several_machines_at_once(machine: Machine) -> None:
    with Machine() as other:
        other.write("/run/other", "")
        assert not machine.exists("/run/other")
        assert other.read("/etc/machine-id") != machine.read("/etc/machine-id")
    assert traces(other.name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_parent_told_to_end_leaves_nothing(bootable: None, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        name, _ = parent.stdout.readline().split()
        assert traces(name)
        parent.send_signal(number)
        assert parent.wait(10) != 0
    assert traces(name) == []


def test_what_a_killed_parent_leaves_is_swept(bootable: None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        name, init = parent.stdout.readline().split()
        parent.kill()
    assert name in sweep()
    assert traces(name) == []
    deadline = time.monotonic() + 5
    while Path(f"/proc/{init}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_uninstall_takes_away_what_install_put(bootable: None) -> None:
    with Machine() as machine:
        listing = "find /usr /etc -xdev -path /usr/src -prune -o ! -type d -print | sort"
        before = machine.run(listing).stdout
        install_rota(machine, prefix="/usr", start=False)
        machine.write("/etc/rota/agents.d/kept.toml", "")
        machine.run(["make", "--silent", "-C", "/usr/src/rota", "uninstall", "PREFIX=/usr"])
        left = set(machine.run(listing).stdout.splitlines()) - set(before.splitlines())
        accounts = {f"/etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")}
        assert {path for path in left - accounts if "/etc/rota" not in path} == set()
        assert not machine.exists("/usr/lib/rota")
        assert not machine.exists("/usr/share/doc/rota")
        assert machine.exists("/etc/rota/agents.d/kept.toml")


def test_mirrors_are_read_from_both_forms_of_apt_sources() -> None:
    one_line = """
    # deb http://comment.example/debian trixie main
    deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian bookworm main contrib
    deb-src http://source.example/debian bookworm main
    """
    assert list(parse_sources(one_line)) == [("http://one.example/debian", ["bookworm"], ["main", "contrib"])]
    deb822 = """Types: deb deb-src
# comment
URIs: http://two.example/debian http://three.example/debian
Suites: bookworm
 bookworm-updates
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
    assert [uri for uri, _, _ in parse_sources(deb822)] == [
        "http://two.example/debian",
        "http://three.example/debian",
    ]
    assert next(parse_sources(deb822))[1] == ["bookworm", "bookworm-updates"]


def test_a_mirror_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_MIRROR", "http://four.example/debian")
    assert debian_mirror() == "http://four.example/debian"
