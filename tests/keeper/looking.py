"""One look at an endpoint, as it would be declared."""

from __future__ import annotations

import asyncio
from typing import Any

from rota_agents.home_keeper.probes.polling import Watcher, wall_clock
from rota_agents.home_keeper.probes.polls import polls

from rota.watch_rules import breaches, resolve
from rota.watching import Watching


def look(**declared: Any) -> dict[str, str]:
    """Look once at an endpoint as it would be declared; return problems with their summaries."""
    keys = {"hold": "0s", "timeout": "5s", **declared}
    watching = Watching.model_validate({"endpoints": {"nas": keys}})
    assert not list(breaches(watching))
    (poll,) = (one for one in polls(resolve(watching)) if one.name == "endpoint-nas")

    async def live() -> dict[str, str]:
        observation = await Watcher(poll).look(wall_clock)
        assert observation is not None
        return {one.problem: one.summary for found in observation.findings.values() for one in found}

    return asyncio.run(live())
