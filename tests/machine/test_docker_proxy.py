"""rota-docker-proxy as it is installed: its socket, its sandbox, and Home Keeper's source behind both."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota.container_watches import Grant, Proxy, to_json
from tests.machine.dockerd import Docker, missing
from tests.machine.install import install_rota
from tests.machine.machine import Machine

ENGINE = "/run/engine"
SOCKET = "/run/rota-keeper/docker.sock"
SERVICE = "rota-docker-proxy.service"
RULES = Proxy(f"{ENGINE}/docker.sock", grants=(Grant("container:web", allowed=True),))
MEMBER = ["setpriv", "--reuid=alice", "--regid=rota-keeper", "--clear-groups"]
STRANGER = ["setpriv", "--reuid=bob", "--regid=bob", "--clear-groups"]


@pytest.fixture(scope="module")
def docker(bootable: None) -> Iterator[Docker]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Docker() as found:
        yield found


@pytest.fixture(scope="module")
def machine(docker: Docker) -> Iterator[Machine]:
    docker.run.chmod(0o755)
    with Machine(options=[f"--bind={docker.run}:{ENGINE}"]) as booted:
        install_rota(booted, start=False)
        booted.run(["groupadd", "--system", "docker"])
        gid = int(booted.run(["getent", "group", "docker"]).stdout.split(":")[2])
        os.chown(docker.socket, 0, gid)
        Path(docker.socket).chmod(0o660)
        booted.write("/etc/rota-proxy.json", to_json(RULES), 0o600)
        drop_in = "[Service]\nLoadCredential=proxy:/etc/rota-proxy.json\n"
        booted.write(f"/etc/systemd/system/{SERVICE}.d/50-rota.conf", drop_in)
        booted.run("systemctl daemon-reload && systemctl start rota-docker-proxy.socket")
        yield booted


def ask(machine: Machine, method: str, target: str, who: list[str] = MEMBER) -> tuple[int, Any]:
    curl = ["curl", "--silent", "--unix-socket", SOCKET, "--write-out", "\n%{http_code}", "-X", method]
    done = machine.run([*who, *curl, f"http://docker{target}"], check=False)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body) if body else None


def test_who_is_in_the_group_may_ask_and_nobody_else(machine: Machine, docker: Docker) -> None:
    docker.run_one("web")
    docker.run_one("other")
    status, said = ask(machine, "GET", "/containers/web/json")
    assert (status, said["Name"]) == (200, "/web"), machine.run(["journalctl", "-u", SERVICE]).stdout
    assert "hunter2" not in json.dumps(said)
    assert ask(machine, "GET", "/_ping", STRANGER) == (0, None)
    assert machine.run(["stat", "-c", "%U:%G %a", SOCKET]).stdout.strip() == "root:rota-keeper 660"


def test_what_it_lets_be_done(machine: Machine, docker: Docker) -> None:
    began = docker.inspect("web")["State"]["StartedAt"]
    assert ask(machine, "POST", "/containers/web/restart?t=0") == (204, None)
    assert docker.inspect("web")["State"]["StartedAt"] != began
    for target in (
        "/containers/other/restart",
        "/containers/web/exec",
        "/containers/create",
        "/images/prune",
    ):
        status, said = ask(machine, "POST", target)
        assert status == 403, said
    said = machine.run(["journalctl", "--unit", SERVICE, "--output=cat"]).stdout
    assert "refused: POST /containers/create" in said


def test_its_sandbox(machine: Machine) -> None:
    said = machine.run(["systemd-analyze", "security", "--no-pager", SERVICE]).stdout
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    assert found is not None
    assert float(found[1]) <= 2.0
    pid = machine.run(["systemctl", "show", "-P", "MainPID", SERVICE]).stdout.strip()
    status = machine.read(f"/proc/{pid}/status")
    assert re.search(r"CapEff:\s+0+\n", status)
    assert re.search(r"NoNewPrivs:\s+1\n", status)
    links = machine.run(["nsenter", "--target", pid, "--net", "ip", "-brief", "link"]).stdout.split()
    assert links[0] == "lo"
    assert len([word for word in links if word.startswith("eth")]) == 0


def test_home_keeper_follows_through_it(machine: Machine, docker: Docker) -> None:
    """With Debian's SDK, as a user who may nothing else."""
    program = Path(__file__).with_name("container_watch.py").read_text(encoding="utf-8")
    machine.write("/run/follow/watch.py", program)
    lib = {"PYTHONPATH": "/usr/lib/rota", "PYTHONDONTWRITEBYTECODE": "1"}
    follow = [*MEMBER, "timeout", "8", "python3", "/run/follow/watch.py", SOCKET, "{}"]
    with machine.popen(follow, env=lib) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["findings"]["check:containers"] == []
        assert first["findings"]["container:web"] == []
        docker.run_one("falls", "exit 3")
        then = json.loads(process.stdout.readline())
        assert then["findings"]["container:falls"][0]["problem"] == "exited"
        process.kill()
