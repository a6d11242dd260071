"""The Home Keeper looks at another machine: a real sshd with a forced command, for once in the same one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.install import install_rota
from tests.machine.machine import Machine
from tests.machine.unit_kit import Watch, copy_scripts, declare, pause, say

PORT = 2222
CREDENTIALS = "/run/ssh-test"
SSHD = f"""set -e
install -d -m 755 {CREDENTIALS} /run/sshd
useradd --system --create-home --shell /bin/sh rota-probe
usermod -p '*' rota-probe
install -d -m 700 -o rota-probe ~rota-probe/.ssh
ssh-keygen -q -t ed25519 -N '' -f {CREDENTIALS}/key
ssh-keygen -q -t ed25519 -N '' -f {CREDENTIALS}/other
ssh-keygen -q -t ed25519 -N '' -f {CREDENTIALS}/host
ssh-keygen -q -t ed25519 -N '' -f {CREDENTIALS}/new-host
echo "[127.0.0.1]:{PORT} $(cut -d' ' -f1,2 {CREDENTIALS}/host.pub)" >{CREDENTIALS}/known
chmod 644 {CREDENTIALS}/*
"""
SERVER = f"/usr/sbin/sshd -D -e -p {PORT} -o ListenAddress=127.0.0.1 -o UsePAM=no -o StrictModes=no"
AUTHORIZED = "/home/rota-probe/.ssh/authorized_keys"
PROBE = "/usr/share/rota/rota-probe"
NAS: dict[str, Any] = {
    "address": "127.0.0.1",
    "port": PORT,
    "user": "rota-probe",
    "key": "key",
    "known_hosts": "known",
    "interval": 1_000_000,
    "timeout": 1_000_000,
    "patience": 3_000_000,
    "severity": "critical",
    "units": {"running": ["t-run.service", "t-unknown.service"], "stuck": 3_000_000},
}
CHECK = "check:host-nas"


@pytest.fixture(scope="module")
def box(bootable: None) -> Iterator[Machine]:
    with Machine() as booted:
        install_rota(booted, start=False)
        copy_scripts(booted)
        booted.run(SSHD)
        # sshd reads no host key that others may read
        booted.run(f"chmod 600 {CREDENTIALS}/host {CREDENTIALS}/new-host")
        declare(booted, run="[Service]\nExecStart=/bin/sleep 1000\n", bad="[Service]\nExecStart=/bin/false\n")
        yield booted


def authorize(box: Machine, command: str = f"sh {PROBE}") -> None:
    box.run(f'echo "restrict,command=\\"{command}\\" $(cat {CREDENTIALS}/key.pub)" >{AUTHORIZED}')


def serve(box: Machine, key: str = "host") -> None:
    box.run("systemctl stop test-sshd.service; systemctl reset-failed test-sshd.service", check=False)
    # With its sessions, as when the machine is gone.
    box.run(f"systemd-run --quiet --unit=test-sshd {SERVER} -h {CREDENTIALS}/{key}")
    box.wait_for(f"bash -c ': </dev/tcp/127.0.0.1/{PORT}'", 10)


def look(box: Machine, **more: Any) -> Watch:
    properties = f"-p Environment=CREDENTIALS_DIRECTORY={CREDENTIALS}"
    return Watch(box, {"hosts": {"nas": NAS | more}}, "hosts", properties)


def logins(box: Machine) -> int:
    return box.run("journalctl -u test-sshd.service").stdout.count("Accepted publickey")


@pytest.fixture
def nas(box: Machine) -> Iterator[Machine]:
    authorize(box)
    serve(box)
    box.run("systemctl start t-run.service")
    yield box
    box.run("systemctl stop watch.service 't-*'; systemctl reset-failed", check=False)


def test_another_machine(nas: Machine) -> None:
    watch = look(nas)
    watch.until("unit:nas/t-unknown.service", "inactive")
    (first,) = [line for line in watch.lines() if line["first"]]
    assert first["findings"][CHECK] == []
    assert first["findings"]["unit:nas/dbus.service"] == []
    assert first["findings"]["unit:nas/t-run.service"] == []
    connections = logins(nas)
    began = time.time()
    nas.run("systemctl start t-bad.service", check=False)
    bad = watch.until("unit:nas/t-bad.service", "failed")
    assert "t-bad.service on nas failed: it exited with status 1" in bad["summary"]
    say("noticed, looking once a second", watch.lines()[-1]["at"] - began)
    nas.run("systemctl stop t-run.service; systemctl reset-failed t-bad.service")
    watch.until("unit:nas/t-bad.service")
    assert watch.until("unit:nas/t-run.service", "inactive")["severity"] == "critical"
    assert logins(nas) == connections, "all of it over one connection"


def test_a_machine_that_is_gone_and_comes_back(nas: Machine) -> None:
    watch = look(nas)
    nas.run("systemctl start t-bad.service", check=False)
    watch.until("unit:nas/t-bad.service", "failed")
    nas.run("systemctl kill -s STOP test-sshd.service")
    silent = watch.until(CHECK, "blind")
    assert silent["severity"] == "critical"
    assert "no answer within 1s" in silent["summary"]
    assert watch.problems("unit:nas/t-bad.service") == ["failed"], "nobody knows that it is healed"
    nas.run("systemctl kill -s KILL test-sshd.service; systemctl reset-failed test-sshd.service", check=False)
    nas.wait_for(
        lambda: "Connect call failed" in watch.state()[CHECK][0]["summary"], 15, "a refused connection"
    )
    nas.run("systemctl reset-failed t-bad.service")
    serve(nas)
    watch.until(CHECK)
    assert watch.lines()[-1]["first"]
    watch.until("unit:nas/t-bad.service")


def test_a_machine_that_is_back_within_patience_is_no_finding(nas: Machine) -> None:
    watch = look(nas)
    watch.until("unit:nas/t-unknown.service", "inactive")
    nas.run("systemctl stop test-sshd.service")
    pause(1.5)
    serve(nas)
    nas.run("systemctl start t-bad.service", check=False)
    watch.until("unit:nas/t-bad.service", "failed")
    assert not any(watch.told(CHECK))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("known_hosts", "has new keys"),
        ("wrong key", "does not let rota-probe in with this key"),
        ("no key", "is no private key"),
        ("no credential", "cannot be read"),
        ("asks a shell", "begins with"),
        ("other words", 'fails on 127.0.0.1: only "rota-probe units" is answered'),
        ("says too much", "says more than 8.0 MiB"),
        ("cut off", "is cut off"),
    ],
)
def test_what_is_told_at_once(nas: Machine, change: str, told: str) -> None:
    more: dict[str, Any] = {"timeout": 10_000_000, "interval": 10_000_000}
    if change == "known_hosts":
        serve(nas, "new-host")
    elif change in ("wrong key", "no key", "no credential"):
        more["key"] = {"wrong key": "other", "no key": "known", "no credential": "absent"}[change]
    else:
        commands = {
            "asks a shell": "echo Welcome",
            "other words": f"env SSH_ORIGINAL_COMMAND='rm -rf' sh {PROBE}",
            "says too much": "yes rota-probe",
            "cut off": f"sh {PROBE} | head -n 20",
        }
        authorize(nas, commands[change])
    finding = look(nas, **more).until(CHECK, "blind")
    assert told in finding["summary"]
    assert "\n" not in finding["summary"]


def test_the_key_is_good_for_nothing_else(nas: Machine) -> None:
    base = f"ssh -i {CREDENTIALS}/key -p {PORT} -o UserKnownHostsFile={CREDENTIALS}/known -o BatchMode=yes"
    nas.run(f"chmod 600 {CREDENTIALS}/key")
    done = nas.run(f"{base} rota-probe@127.0.0.1 id", check=False)
    assert (done.returncode, done.stdout) == (64, "")
    assert nas.run(f"{base} rota-probe@127.0.0.1 rota-probe units").stdout.startswith("rota-probe 1\n")
    nas.run(f"chmod 644 {CREDENTIALS}/key")


def test_the_probe_is_a_posix_script() -> None:
    text = (Path(__file__).parents[2] / "share/rota-probe").read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n")
