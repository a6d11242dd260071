"""rotad at rest: memory, wake-ups, and how long it takes to start (needs root)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.common import apply, machine, median, sleepers, table, verdict
from tests.machine.machine import Machine

AGENTS = (0, 100)
SETTLE, WATCHED = 10, 60
STARTS = 10
AIM_MEMORY, AIM_START = 35.0, 300.0
# The watchdog's sleep; and once in a while a turn has to wait for something.
SWITCHES_A_TURN = 2

# The same unit, with a program that does nothing but say that it is there.
PEER = """#!/usr/bin/python3 -sP
import signal
from systemd import daemon
daemon.notify("READY=1")
signal.pause()
"""
PEER_PROGRAM = "/usr/local/bin/bench-peer"
MAKE_PEER = f"""sed -e 's|^ExecStart=.*|ExecStart={PEER_PROGRAM}|' \\
  -e '/^\\(StateDirectory\\|RuntimeDirectory\\|WatchdogSec\\)/d' \\
  "$(systemctl show -P FragmentPath rotad)" >/run/systemd/system/bench-peer.service
systemctl daemon-reload
"""


@dataclass(frozen=True)
class State:
    """What the kernel tells of a process: KiB, switches, seconds."""

    resident: int
    private: int
    switches: int
    cpu: float


def state(pid: int) -> State:
    """Read it from outside, so that nothing happens in the machine."""
    process = Path("/proc", str(pid))
    fields = dict(line.split(":\t", 1) for line in (process / "status").read_text("utf-8").splitlines())
    switches = 0
    for task in (process / "task").iterdir():
        for line in (task / "status").read_text("utf-8").splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                switches += int(line.split()[1])
    return State(
        int(fields["VmRSS"].split()[0]),
        int(fields["RssAnon"].split()[0]),
        switches,
        int((process / "schedstat").read_text("ascii").split()[0]) / 1e9,
    )


def host_pid(booted: Machine, unit: str) -> int:
    """Return the main process of a unit of the machine as the host numbers it."""
    wanted = booted.run(["systemctl", "show", "-P", "MainPID", unit]).stdout.strip()
    namespace = Path(f"/proc/{booted.init}/ns/pid").readlink()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "ns/pid").readlink() != namespace:
                    continue
                status = (process / "status").read_text("utf-8")
            except OSError:
                continue
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid")).split()
            if numbers[-1] == wanted:
                return int(process.name)
    raise SystemExit(f"{unit} has no process")


def rest(booted: Machine, agents: int) -> tuple[tuple[str, ...], State, float]:
    """Watch rotad do nothing; return a row, its state, and wake-ups beside the watchdog's."""
    apply(booted, sleepers(agents))
    booted.run(["systemctl", "reset-failed", "rotad.service"])
    booted.run(["systemctl", "restart", "rotad.service"])
    pid = host_pid(booted, "rotad.service")
    turn = int(
        booted.run(["systemctl", "show", "-P", "WatchdogUSec", "rotad.service"]).stdout.split("min")[0]
    )
    time.sleep(SETTLE)
    before = state(pid)
    time.sleep(WATCHED)
    after = state(pid)
    switches = after.switches - before.switches
    turns = WATCHED / (turn * 60 / 2)
    row = (
        f"{agents} agents",
        f"{after.resident / 1024:.1f}",
        f"{after.private / 1024:.1f}",
        str(switches),
        f"{turns:.0f}",
        f"{(after.cpu - before.cpu) * 1000:.1f}",
    )
    return row, after, switches - turns * SWITCHES_A_TURN


def start_time(booted: Machine, unit: str) -> float:
    """Restart a unit and return how many milliseconds it took from the fork to READY=1."""
    booted.run(["systemctl", "reset-failed", unit], check=False)
    booted.run(["systemctl", "restart", unit])
    shown = booted.run(
        [
            "systemctl",
            "show",
            unit,
            "-p",
            "InactiveExitTimestampMonotonic",
            "-p",
            "ActiveEnterTimestampMonotonic",
        ]
    )
    found = dict(line.split("=") for line in shown.stdout.split())
    return (int(found["ActiveEnterTimestampMonotonic"]) - int(found["InactiveExitTimestampMonotonic"])) / 1000


def main() -> None:
    with machine() as booted:
        rows, states, extra = [], [], []
        for agents in AGENTS:
            row, found, beyond = rest(booted, agents)
            rows.append(row)
            states.append(found)
            extra.append(beyond)
        headers = ("rotad at rest", "RSS MiB", "private MiB", "switches/min", "watchdog turns", "CPU ms/min")
        table(f"{WATCHED} s, rotad started {SETTLE} s before", headers, rows)
        verdict("largest RSS", max(found.resident for found in states) / 1024, AIM_MEMORY, " MiB")
        verdict("switches a minute beyond the watchdog's", max(*extra, 0), 0)

        booted.write(PEER_PROGRAM, PEER, mode=0o755)
        booted.run(MAKE_PEER)
        units = ("rotad.service", "bench-peer.service")
        times: dict[str, list[float]] = {unit: [] for unit in units}
        for _ in range(STARTS):
            for unit in units:
                times[unit].append(start_time(booted, unit))
        ratio = median([a / b for a, b in zip(*times.values(), strict=True)])
        names = (f"rotad, {AGENTS[-1]} agents", "a Python that says READY=1, same unit")
        table(
            f"{STARTS} starts: ms from fork to READY=1",
            ("", "median", "least", "most"),
            [
                (name, f"{median(found):.0f}", f"{min(found):.0f}", f"{max(found):.0f}")
                for name, found in zip(names, times.values(), strict=True)
            ],
        )
        verdict("median start", median(times[units[0]]), AIM_START, " ms")
        print(f"  rotad / the other: {ratio:.2f}")


if __name__ == "__main__":
    main()
