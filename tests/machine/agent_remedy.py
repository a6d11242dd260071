"""Run in the machine: an agent, as Home Keeper runs it for a remedy; prints what came of it.

usage: agent_remedy.py AGENT ENDLESS      (ENDLESS: seconds that a run without a timeout is waited for)
"""

from __future__ import annotations

import asyncio
import json
import sys

sys.path.insert(0, "/usr/lib/rota")


def main() -> None:
    from rota_agents.home_keeper.remedies.agents import RunFailedError, run_agent
    from rota_agents.home_keeper.words import Action, Remedy, Target

    name, endless = sys.argv[1:]
    action = Action(1, Target("unit", "web.service"), "failed", Remedy("run-agent", name), 0, "", 1)
    try:
        print(json.dumps(asyncio.run(run_agent(action, user=False, endless=float(endless)))))
    except RunFailedError as error:
        print(json.dumps({**error.report, "error": error.message}))


if __name__ == "__main__":
    main()
