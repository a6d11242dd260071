"""The whole Home Keeper at rest: 1,000 units, 200 containers, all that it watches by default (needs root).

Beside it, in the same minute, what a watcher that polls every five seconds does at least: docker-autoheal's
question to the engine, and `systemctl list-units --failed`, from a shell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bench_idle import host_pid, state
from tests.bench.bench_keeper_units import init_usage, load, usage
from tests.bench.common import table, verdict
from tests.machine import dockerd
from tests.machine import machine as machines
from tests.machine.dockerd import Docker
from tests.machine.install import install_rota
from tests.machine.machine import Machine

CONTAINERS = int(os.environ.get("ROTA_CONTAINERS", "200"))
WATCHED = float(os.environ.get("ROTA_WATCHED", "60"))
SETTLE = 20
ENGINE = "/run/engine"
AIM_CPU, AIM_MEMORY = 0.5, 80.0
"""Of both of our processes: of the peer's processor time, and MiB (PSS)."""
OURS = ("rota-home-keeper.service", "rota-docker-proxy.service")
SETTINGS = f"""
[keeper]
enable = true
[keeper.containers]
sockets = ["/run/rota-keeper/docker.sock"]
docker = "{ENGINE}/docker.sock"
"""
PEER = f"""while :; do
  curl --silent --max-time 30 --unix-socket {ENGINE}/docker.sock \\
    'http://docker/containers/json?filters=%7B%22health%22%3A%5B%22unhealthy%22%5D%7D' >/dev/null
  systemctl list-units --failed --no-legend >/dev/null
  sleep 5
done
"""


@dataclass(frozen=True)
class Used:
    """What was used in a minute: seconds of processor time, times that a process went to sleep."""

    cpu: dict[str, float]
    wakes: dict[str, int]


def pss(pid: int) -> float:
    """Return the memory of a process, what it shares by its part: MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def engine_usage(docker: Docker) -> float:
    """Return seconds of processor time that dockerd has used, in all of its threads."""
    pid = int((docker.run / "pid").read_text("ascii"))
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(docker: Docker) -> int:
    """Start containers that sleep, as many as there are to be or this machine bears; return how many."""

    def start(number: int) -> bool:
        try:
            docker.run_one(f"many-{number}", "exec sleep 100000")
        except (RuntimeError, OSError) as error:
            print(f"  container {number} does not start: {error}")
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        return sum(threads.map(start, range(CONTAINERS)))


@contextmanager
def kept() -> Iterator[tuple[Machine, Docker, int, int]]:
    """Boot a machine with Home Keeper in it, before an engine; yield how many containers and units it has."""
    with Docker() as docker:
        count = fill(docker)
        docker.run.chmod(0o755)
        with Machine(options=[f"--bind={docker.run}:{ENGINE}"]) as booted:
            install_rota(booted)
            booted.run("getent group docker || groupadd --system docker")
            gid = int(booted.run("getent group docker").stdout.split(":")[2])
            os.chown(docker.socket, 0, gid)
            Path(docker.socket).chmod(0o660)
            load(booted)
            booted.write("/etc/rota/rota.toml", SETTINGS)
            booted.run("rota apply", timeout=120)
            booted.wait_for(lambda: told(booted), 60, "the keeper's first looks")
            units = len(booted.run("systemctl list-units --all --no-legend").stdout.splitlines())
            yield booted, docker, count, units


def told(booted: Machine) -> bool:
    """Tell whether the keeper answers."""
    return booted.run("rota keeper --json", check=False).returncode == 0


def minute(booted: Machine, docker: Docker, units: tuple[str, ...]) -> Used:
    """Look at units for a while, from outside, and at what they cost others."""
    pids = {unit: host_pid(booted, unit) for unit in units}

    def now() -> Used:
        cpu = {unit: usage(booted, unit) for unit in (*units, "dbus.service")}
        cpu |= {"systemd": init_usage(booted), "dockerd": engine_usage(docker)}
        return Used(cpu, {unit: state(pid).switches for unit, pid in pids.items()})

    before = now()
    time.sleep(WATCHED)
    after = now()
    share = 60 / WATCHED
    return Used(
        {name: (value - before.cpu[name]) * share for name, value in after.cpu.items()},
        {name: round((value - before.wakes[name]) * share) for name, value in after.wakes.items()},
    )


def main() -> None:
    reason = machines.missing() or dockerd.missing()
    if reason:
        print(f"not run: {reason}")
        return
    with kept() as (booted, docker, count, units):
        time.sleep(SETTLE)
        ours = minute(booted, docker, OURS)
        memory = {unit: host_pid(booted, unit) for unit in OURS}
        found = {unit: (state(pid).resident / 1024, pss(pid)) for unit, pid in memory.items()}
        booted.run(["systemctl", "stop", *OURS, "rota-docker-proxy.socket"])
        booted.write("/run/peer.sh", PEER)
        booted.run(["systemd-run", "--quiet", "--unit=peer", "/bin/sh", "/run/peer.sh"])
        time.sleep(3)
        peer = minute(booted, docker, ("peer.service",))
        others = ("systemd", "dbus.service", "dockerd")
        rows = [
            (unit, f"{ours.cpu[unit]:.3f}", str(ours.wakes[unit]), *(f"{mib:.1f}" for mib in found[unit]))
            for unit in OURS
        ]
        rows += [("the peer's shell and what it starts", f"{peer.cpu['peer.service']:.3f}", "-", "-", "-")]
        rows += [(f"{name} meanwhile", f"{ours.cpu[name]:.3f}", "-", "-", "-") for name in others]
        rows += [(f"{name} while the peer polls", f"{peer.cpu[name]:.3f}", "-", "-", "-") for name in others]
        table(
            f"{units} units loaded, {count} containers, {WATCHED:g} s at rest: in a minute",
            ("", "CPU s", "sleeps", "RSS MiB", "PSS MiB"),
            rows,
        )
        own, theirs = sum(ours.cpu[unit] for unit in OURS), peer.cpu["peer.service"]
        whole = [sum(used.cpu.values()) for used in (ours, peer)]
        print(f"  with what others do for it: {whole[0]:.2f} s, the peer {whole[1]:.2f} s")
        print(f"  ours / the peer's of that: {whole[0] / whole[1]:.2f}")
        verdict("processor time, ours / the peer's", own / theirs, AIM_CPU)
        verdict("PSS of both", sum(mib for _, mib in found.values()), AIM_MEMORY, " MiB")


if __name__ == "__main__":
    main()
