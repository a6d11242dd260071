"""Follows containers as Home Keeper does, and tells as JSON lines what it finds; acts as told on stdin.

Usage: container_watch.py SOCKET KEYS     (KEYS: what [keeper.containers] says, resolved, as JSON)
A line of stdin is a remedy and a target: restart-container container:web
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any

from rota_agents.home_keeper.probes.containers import sources
from rota_agents.home_keeper.probes.polling import Observation
from rota_agents.home_keeper.remedies.containers import remedies
from rota_agents.home_keeper.words import Action, Remedy, Target

from rota.container_watches import Containers, Engine
from rota.errors import RotaError


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def tell(observation: Observation) -> None:
    found = {
        str(target): [
            {
                "problem": item.problem,
                "severity": item.severity,
                "since": item.since,
                "summary": item.summary,
                **item.details,
            }
            for item in findings
        ]
        for target, findings in observation.findings.items()
    }
    say(at=observation.at, first=observation.first, findings=found)


async def main(socket: str, keys: str) -> None:
    rules = Containers(engines=(Engine("", socket),), **json.loads(keys))
    (source,) = sources(rules)
    does = remedies([source], rules)
    loop = asyncio.get_running_loop()

    async def act(word: str, target: str) -> None:
        action = Action(1, Target.parse(target), "unhealthy", Remedy(word), 0, "a test says so", 1)
        try:
            say(remedy=word, target=target, report=await does[word](action))
        except RotaError as error:
            say(remedy=word, target=target, error=error.message)

    tasks = set[asyncio.Task[None]]()

    def begin(line: str) -> None:
        tasks.add(loop.create_task(act(*line.split())))

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(begin, line)

    threading.Thread(target=read, daemon=True).start()
    await source.follow(tell)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
