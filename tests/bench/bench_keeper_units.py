"""Home Keeper's source of units at rest, with 1,000 units loaded, beside a loop of systemctl (needs root)."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.bench.bench_idle import host_pid, state
from tests.bench.common import machine, table, verdict
from tests.machine import cgroup
from tests.machine.machine import Machine
from tests.machine.unit_kit import copy_scripts

UNITS, BURST = 1000, 200
SETTLE, WATCHED = 3, 60
AIM_MEMORY, AIM_CPU = 40.0, 0.1

PEER = "while :; do systemctl list-units --all --output=json >/run/peer.out; sleep 5; done"
"""What a watcher that polls every five seconds does at least."""


def usage(booted: Machine, unit: str) -> float:
    """Return seconds of processor time that a unit and all that it started has used, and systemd's own."""
    group = booted.run(["systemctl", "show", "-P", "ControlGroup", unit]).stdout.strip()
    top = cgroup.of_process(booted.init)
    top = top.parent if top.name == "init.scope" else top
    text = (top / group.lstrip("/") / "cpu.stat").read_text("ascii")
    return int(text.split()[1]) / 1e6


def init_usage(booted: Machine) -> float:
    """Return seconds of processor time that systemd itself has used."""
    return int(Path(f"/proc/{booted.init}/schedstat").read_text("ascii").split()[0]) / 1e9


def load(booted: Machine) -> None:
    """Have so many units in memory: services that stay active without a process."""
    text = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
    booted.write("/run/systemd/system/many@.service", text)
    booted.write("/run/systemd/system/bad@.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
    booted.run("systemctl daemon-reload")
    for first in range(0, UNITS, 100):
        names = [f"many@{number}.service" for number in range(first, first + 100)]
        booted.run(["systemctl", "start", *names], timeout=120)


def rest(booted: Machine, unit: str) -> tuple[float, float]:
    """Return what a unit, and systemd because of it, use in a minute: seconds."""
    time.sleep(SETTLE)
    before, init = usage(booted, unit), init_usage(booted)
    time.sleep(WATCHED)
    return (usage(booted, unit) - before) * 60 / WATCHED, (init_usage(booted) - init) * 60 / WATCHED


def burst(booted: Machine) -> tuple[float, int, float]:
    """Let many units fail at once; return seconds until all are told, in how many observations, and CPU."""
    before = usage(booted, "watch.service")
    seen = len(booted.read("/run/watch.out").splitlines())
    names = [f"bad@{number}.service" for number in range(BURST)]
    booted.run(["systemctl", "start", "--no-block", *names])
    deadline = time.monotonic() + 60
    found: dict[str, float] = {}
    while len(found) < BURST and time.monotonic() < deadline:
        time.sleep(0.2)
        lines = [json.loads(line) for line in booted.read("/run/watch.out").splitlines()[seen:]]
        for line in lines:
            for target, findings in line["findings"].items():
                if findings and target.startswith("unit:bad@"):
                    found.setdefault(target, line["at"] - findings[0]["since"] / 1e6)
    return max(found.values()), len(lines), usage(booted, "watch.service") - before


def main() -> None:
    with machine() as booted:
        copy_scripts(booted)
        load(booted)
        count = len(booted.run("systemctl list-units --all --plain --no-legend").stdout.splitlines())
        booted.run(
            "systemd-run --quiet --unit=watch --uid=bob -p StandardOutput=file:/run/watch.out "
            "/usr/bin/python3 -sB /run/unit_watch.py units '{}'"
        )
        ours, systemd = rest(booted, "watch.service")
        found = state(host_pid(booted, "watch.service"))
        slowest, observations, cpu = burst(booted)
        after = state(host_pid(booted, "watch.service"))
        booted.run("systemctl stop watch.service; systemctl reset-failed")
        booted.run(["systemd-run", "--quiet", "--unit=peer", "/bin/sh", "-c", PEER])
        peer, because = rest(booted, "peer.service")
        table(
            f"{count} units loaded, {WATCHED} s at rest: seconds of processor time a minute",
            ("", "own", "systemd's", "RSS MiB"),
            [
                ("the source", f"{ours:.4f}", f"{systemd:.4f}", f"{found.resident / 1024:.1f}"),
                ("systemctl list-units every 5 s", f"{peer:.4f}", f"{because:.4f}", "-"),
            ],
        )
        print(f"  the peer / the source: {peer / max(ours, 1e-4):.0f}")
        print(
            f"  {BURST} units fail at once: the last told after {slowest * 1000:.0f} ms, in {observations} "
            f"observations, {cpu:.2f} s of processor time, RSS then {after.resident / 1024:.1f} MiB"
        )
        verdict("processor time at rest", ours, AIM_CPU, " s a minute")
        verdict("RSS", found.resident / 1024, AIM_MEMORY, " MiB")


if __name__ == "__main__":
    main()
