"""Run in the machine: the Home Keeper's source of units, or of other machines, printing JSON lines.

usage: unit_watch.py units|hosts JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

sys.path.insert(0, "/usr/lib/rota")


def put(observation: Any) -> None:
    found = {
        str(target): [
            {"problem": one.problem, "severity": one.severity, "since": one.since, "summary": one.summary}
            | {"details": dict(one.details)}
            for one in findings
        ]
        for target, findings in observation.findings.items()
    }
    line = {"at": time.time(), "first": observation.first, "check": observation.check, "findings": found}
    print(json.dumps(line), flush=True)


def main() -> None:
    from rota.frozen import from_plain
    from rota.unit_watches import Hosts, Units

    kind, rules = sys.argv[1], json.loads(sys.argv[2])
    if kind == "units":
        from rota_agents.home_keeper.probes.units import UnitSource

        asyncio.run(UnitSource(from_plain(Units, rules)).follow(put))
    from rota_agents.home_keeper.probes.hosts import sources

    async def all_hosts() -> None:
        await asyncio.gather(*(source.follow(put) for source in sources(from_plain(Hosts, rules))))

    asyncio.run(all_hosts())


if __name__ == "__main__":
    main()
