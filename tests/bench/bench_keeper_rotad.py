"""What Home Keeper's check of rotad costs rotad, with 1,000 agents (needs root).

Beside it, in the same machine, a watcher that asks as often for all that there is: ListAgents and Metrics.
"""

from __future__ import annotations

import os
import time

from tests.bench.bench_idle import host_pid, state
from tests.bench.bench_keeper_units import usage
from tests.bench.common import apply, machine, script, sleepers, table, verdict
from tests.machine.machine import Machine

AGENTS = int(os.environ.get("ROTA_AGENTS", "1000"))
SETTLE, WATCHED = 20, 60
AIM = 0.05
"""Of what rotad uses beside the other."""
KEEPER = "rota-home-keeper.service"
SETTINGS = "[keeper]\nenable = true\n"

# Each agent with a past of ten runs.
FILL = """
import sys
from pathlib import Path
sys.path.insert(0, "/usr/lib/rota")
from rota.events import Event
from rota.store import Store
store, at = Store(Path("/var/lib/rota/rota.db")), 1_795_000_000_000_000
for number in range(int(sys.argv[1])):
    agent, found = f"agent-{number:03}", []
    for turn in range(10):
        run, at = f"{10 * number + turn:032x}", at + 1000
        found += [Event(kind, agent, run, at) for kind in ("activated", "running", "deactivated", "archived")]
    store.append(found, store.cursor())
print("null")
"""
PEER = """
import asyncio, sys
sys.path.insert(0, "/usr/lib/rota")
from rota.client import client
async def main():
    async with client(user=False) as rotad:
        while True:
            await rotad.call("ListAgents")
            await rotad.call("Metrics")
            await asyncio.sleep(30)
asyncio.run(main())
"""


def minute(booted: Machine, *others: str) -> tuple[float, ...]:
    """Return the processor time, in milliseconds, of rotad and of other units in a minute."""
    time.sleep(SETTLE)
    pid = host_pid(booted, "rotad.service")

    def now() -> list[float]:
        return [state(pid).cpu, *(usage(booted, unit) for unit in others)]

    before = now()
    time.sleep(WATCHED)
    return tuple((b - a) * 1000 * 60 / WATCHED for a, b in zip(before, now(), strict=True))


def main() -> None:
    with machine() as booted:
        booted.write("/etc/rota/rota.toml", SETTINGS)
        apply(booted, sleepers(AGENTS))
        booted.run("rota run agent-000 --wait; systemctl stop rotad.service")
        script(booted, FILL, str(AGENTS))
        booted.run("chown -R --reference=/var/lib/rota /var/lib/rota/; systemctl restart rotad.service")
        booted.run(["systemctl", "restart", KEEPER])
        kept, keeper = minute(booted, KEEPER)
        booted.run(["systemctl", "stop", KEEPER])
        booted.run(["systemd-run", "--quiet", "--unit=peer", "python3", "-sP", "-c", PEER])
        asked, peer = minute(booted, "peer.service")
        booted.run(["systemctl", "stop", "peer"])
        (alone,) = minute(booted)
    rows = [
        ("Home Keeper", f"{kept:.1f}", f"{keeper:.1f}"),
        ("ListAgents and Metrics each 30 s", f"{asked:.1f}", f"{peer:.1f}"),
        ("nobody asks", f"{alone:.1f}", "-"),
    ]
    table(f"{AGENTS} agents at rest, ms of processor time in a minute", ("", "rotad", "who asks"), rows)
    verdict("rotad's beside Home Keeper / beside the other", kept / asked, AIM)


if __name__ == "__main__":
    main()
