"""Starts and restarts containers by the engine's API: looks right before, and until the outcome is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from rota.container_watches import Containers
from rota.errors import RotaError

from ..checks.containers import by_hand
from ..checks.engine import Container
from ..checks.words import SECOND, Malformed
from ..probes import Unavailable
from ..probes.containers import ContainerSource
from ..probes.engine import Gone, Refused
from ..probes.polling import wall_clock
from ..words import Action

_STEADY = SECOND
"""What runs for so long after it was started, and has no health check, runs."""
_STEP, _STEPS_GROW, _LONGEST_STEP = 0.1, 1.5, 1.0
_SHORTEST = 10.0
_LAG = 1.0
_FOR_EVER = 300
"""Seconds that are given to end to what is to be given as long as it takes."""
_LONGEST_STOP = 3600
"""Most seconds that are given: rota-docker-proxy lets no more through."""

Do = Callable[[Action], Awaitable[Mapping[str, Any]]]


def remedies(sources: Iterable[ContainerSource], rules: Containers) -> Mapping[str, Do]:
    """Return what can be done about containers, by the words of remedies.

    Each takes an action and returns a report, or raises RotaError where it failed, or where a person has
    stopped or paused the container meanwhile.
    """
    by_prefix = {source.engine.prefix: source for source in sources}

    def doing(act: Callable[[ContainerSource, str, int], Awaitable[Mapping[str, Any]]]) -> Do:
        async def do(action: Action) -> Mapping[str, Any]:
            engine, slash, name = action.target.name.rpartition("/")
            source = by_prefix.get(engine + slash)
            if source is None:
                raise RotaError(f"no engine is followed that has {action.target}")
            try:
                return await act(source, name, rules.patience)
            except Refused as error:
                raise RotaError(f"the engine refuses: {error}") from None
            except (Gone, Malformed, Unavailable, OSError) as error:
                raise RotaError(f"the engine cannot be asked: {error}") from None

        return do

    return {"restart-container": doing(_restart), "start-container": doing(_start)}


async def _restart(source: ContainerSource, name: str, patience: int) -> Mapping[str, Any]:
    one = await source.connection.inspect(name)
    if one.status == "running" and one.health != "unhealthy" and not source.track(one.id).looping:
        return {"done": "nothing", "why": f"it is {one.health or 'running'} by now"}
    if one.status == "paused":
        raise RotaError(f"{name} is paused, and so let be")
    if one.over or one.status in ("created", "removing"):
        return await _start(source, name, patience)
    timeout = min(one.stop_timeout, _LONGEST_STOP) if one.stop_timeout >= 0 else _FOR_EVER
    return await _done(source, one, patience, lambda: source.connection.restart(one.id, timeout))


async def _start(source: ContainerSource, name: str, patience: int) -> Mapping[str, Any]:
    one = await source.connection.inspect(name)
    if one.status == "running":
        return {"done": "nothing", "why": "it runs by now"}
    if not one.over and one.status != "created":
        raise RotaError(f"{name} is {one.status}, and so let be")
    track = source.track(one.id)
    if one.over and not track.died and not track.asked:
        await asyncio.sleep(_LAG)  # until it is heard who ended it
    if by_hand(one, source.track(one.id), starts_again=not source.connection.podman):
        raise RotaError(f"{name} was stopped by hand meanwhile, and so let be")
    return await _done(source, one, patience, lambda: source.connection.start(one.id))


async def _done(
    source: ContainerSource, before: Container, patience: int, act: Callable[[], Awaitable[None]]
) -> Mapping[str, Any]:
    began = time.monotonic()
    source.own.begin(before.id, wall_clock())
    try:
        await act()
    finally:
        # Right away: what is done to it while it settles, a person does.
        source.own.end(before.id, wall_clock())
    after = await _settled(source, before, patience)
    took = round((time.monotonic() - began) * SECOND)
    return {
        "done": "restarted" if before.status == "running" else "started",
        "health": after.health,
        "took": took,
    }


async def _settled(source: ContainerSource, before: Container, patience: int) -> Container:
    """Wait until it is known whether a container runs.

    Raises:
        RotaError: it does not, or is unhealthy again.
    """
    until, step = time.monotonic() + max(patience / SECOND, _SHORTEST), _STEP
    while True:
        one = await source.connection.inspect(before.id)
        if one.status == "paused":
            raise RotaError(f"{one.name} was paused meanwhile")
        if one.status != "running" and one.finished > before.finished and one.finished >= one.started:
            raise RotaError(f"{one.name} ended again right away, with exit code {one.exit_code}")
        if one.health == "unhealthy":
            raise RotaError(f"{one.name} is unhealthy again{one.said and f': {one.said}'}")
        steady = one.status == "running" and wall_clock() - one.started >= _STEADY
        if steady and one.health != "starting":
            return one
        if time.monotonic() > until:
            if one.status != "running":
                raise RotaError(f"{one.name} does not run: it is {one.status}")
            return one
        await asyncio.sleep(step)
        step = min(step * _STEPS_GROW, _LONGEST_STEP)
