"""Run in the machine: one remedy of the Home Keeper, as it would carry it out; prints what came of it.

usage: unit_remedy.py WORD UNIT PROBLEM
"""

from __future__ import annotations

import asyncio
import json
import sys

sys.path.insert(0, "/usr/lib/rota")


def main() -> None:
    from rota_agents.home_keeper.remedies.units import remedies
    from rota_agents.home_keeper.words import Action, Remedy, Target

    from rota.errors import RotaError

    word, unit, problem = sys.argv[1:]
    action = Action(1, Target("unit", unit), problem, Remedy(word), 0, "", 1)

    async def act() -> dict[str, object]:
        try:
            async with asyncio.timeout(20):
                return {"report": dict(await remedies()[word](action))}
        except RotaError as error:
            return {"error": error.message, "hint": error.hint, "code": int(error.exit_code)}

    print(json.dumps(asyncio.run(act())))


if __name__ == "__main__":
    main()
