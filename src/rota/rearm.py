"""Timers that start afresh: systemd is made to forget what an edited schedule would fire at once for.

A timer counts from when it and its service were last active, and from the stamp it keeps on disk; a new
schedule has slots in between. systemd forgets the former only with a unit that it unloads, and it unloads
what is stopped and what nothing refers to.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rota import names, serving, timers
from rota.systemd import Systemd, connect

_PATIENCE = 2.0
"""Seconds that systemd may take to unload a timer; it does so as soon as it is idle."""

_RUNNING = ("active", "activating", "deactivating")

_DROP_IN = "50-rota-applied.conf"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of timers.

    Attributes:
        wanted: those there are to be, by name, with their texts.
        afresh: those of them that are new, edited, or do not run.
        gone: those there are no longer.
        target: the text of the target that is in force until then.
    """

    wanted: Mapping[str, str]
    afresh: frozenset[str]
    gone: tuple[str, ...]
    target: str

    @property
    def at_next_boot(self) -> frozenset[str]:
        """Timers to be started afresh that nothing but boot triggers: not before the next one."""
        return frozenset(timer for timer in self.afresh if timers.only_boot(self.wanted[timer]))


def change(
    before: Mapping[str, str],
    after: Mapping[str, str],
    states: Mapping[str, str],
    interrupted: Collection[str] = (),
    *,
    target_starts: bool = False,
) -> Change:
    """Return what has to become of timers between two sets of units: a pure function.

    Args:
        before: texts of the units that were installed, by name.
        after: texts of those that are to be.
        states: active states of loaded units.
        interrupted: timers that an earlier change was cut off before starting.
        target_starts: the target is started afterwards, and with it every timer that does not run:
            also those that only boot triggers, which had better not be.
    """

    def idle(name: str, text: str) -> bool:
        return states.get(name) != "active" and (target_starts or not timers.only_boot(text))

    wanted = {name: text for name, text in after.items() if name.endswith(".timer")}
    afresh = {
        name
        for name, text in wanted.items()
        if name in interrupted
        or idle(name, text)
        or timers.triggers(before.get(name, "")) != timers.triggers(text)
    }
    gone = sorted(name for name in before if name.endswith(".timer") and name not in wanted)
    return Change(wanted, frozenset(afresh), tuple(gone), before.get(names.TARGET, ""))


def without(target: str, timers_: Collection[str]) -> str:
    """Return the text of a target that refers neither to these timers nor to their services."""
    left_out = {f"Wants={timer}" for timer in timers_} | {f"Before={_service(timer)}" for timer in timers_}
    return "".join(line for line in target.splitlines(keepends=True) if line.rstrip() not in left_out)


def _runtime_units(user: bool) -> Path:
    base = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")) if user else Path("/run")
    return base / "systemd" / ("user" if user else "system")


def _interim_target(user: bool) -> Path:
    """Return where a target goes that takes the place of the installed one until the next boot.

    systemd.unit(5): system.control comes before /etc in the search path.
    """
    runtime = _runtime_units(user)
    return runtime.with_name(f"{runtime.name}.control") / names.TARGET


def _override(change: Change, running: int, user: bool) -> None:
    """Let timers that are to be started count from now, not from boot; what was so before is given back."""
    runtime = _runtime_units(user)
    for timer in (*change.gone, *sorted(change.afresh)):
        shutil.rmtree(runtime / f"{timer}.d", ignore_errors=True)
    for timer in sorted(change.afresh):
        if text := timers.runtime_override(change.wanted[timer], running):
            folder = runtime / f"{timer}.d"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _DROP_IN).write_text(text, encoding="utf-8")


def _service(timer: str) -> str:
    return timer.removesuffix(".timer") + ".service"


async def _loaded(systemd: Systemd, timer: str) -> bool:
    return await systemd.is_loaded(timer) or await systemd.is_loaded(_service(timer))


async def _forget(systemd: Systemd, change: Change, states: Mapping[str, str], *, user: bool) -> list[str]:
    """Make systemd unload the timers that start afresh, stopped before; return those that stayed loaded.

    The target refers to them, so it has to let go of them first.
    """
    known = {timer for timer in change.afresh if await _loaded(systemd, timer)}
    if not known:
        return []
    for timer in known:
        if states.get(service := _service(timer)) == "failed":
            await systemd.reset_failed(service)
    if change.target:
        path = _interim_target(user)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(without(change.target, known), encoding="utf-8")
    await systemd.reload()
    running = {timer for timer in known if states.get(_service(timer)) in _RUNNING}
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while True:
        left = [timer for timer in sorted(known - running) if await _loaded(systemd, timer)]
        if not left or asyncio.get_running_loop().time() > deadline:
            return left
        await asyncio.sleep(0.01)


async def release(systemd: Systemd, change: Change, states: Mapping[str, str], *, user: bool) -> list[str]:
    """Stop the timers that go or start afresh, and make systemd forget them; runs under way go on.

    To be called while the old units are in place. systemd has to be told of units again afterwards.

    Args:
        systemd: the manager.
        change: what becomes of timers.
        states: active states before.
        user: for the user manager.

    Returns:
        Timers whose last run systemd could not be made to forget, because other units refer to them.
    """
    for timer in sorted({*change.afresh, *change.gone}):
        if states.get(timer) == "active":
            await systemd.settle(partial(systemd.stop, timer), timer)
    for timer in change.gone:
        if states.get(timer) == "failed":
            await systemd.reset_failed(timer)
    try:
        return await _forget(systemd, change, states, user=user)
    finally:
        _interim_target(user).unlink(missing_ok=True)


async def arm(systemd: Systemd, change: Change, *, user: bool) -> None:
    """Make timers that are about to be started count from then; to be called when the new units are in place.

    A boot that is past does not start their agents, nor does what they left on disk.
    """
    _interim_target(user).unlink(missing_ok=True)  # of a `release` that was killed
    running = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 - await systemd.started()
    _override(change, running, user)
    await systemd.reload()
    for timer in sorted(change.afresh - change.at_next_boot):
        if timers.is_persistent(change.wanted[timer]):
            await systemd.clean_state(timer)


@dataclass(frozen=True, slots=True)
class Rearmed:
    """Agents whose timers a `rearm` has seen to.

    Attributes:
        afresh: new, edited or stopped: they count from now.
        at_next_boot: nothing but boot triggers them.
        remembered: systemd could not be made to forget their last run: they may start at once.
    """

    afresh: tuple[str, ...] = ()
    at_next_boot: tuple[str, ...] = ()
    remembered: tuple[str, ...] = ()


def agents_of(names_of_timers: Iterable[str]) -> tuple[str, ...]:
    """Return the agents of timers, sorted."""
    return tuple(sorted(names.agent_of(timer) or "" for timer in names_of_timers))


async def _rearm(old: Mapping[str, str], new: Mapping[str, str] | None, *, user: bool) -> Rearmed:
    bus = await connect(user=user)
    try:
        systemd = Systemd(bus)
        states = await systemd.loaded("rota-*")
        found = change(old, old if new is None else new, states, target_starts=True)
        remembered: list[str] = []
        if found.afresh or found.gone:
            # In the second step, for those that somebody stopped: systemd remembers them.
            remembered = await release(systemd, found, states, user=user)
        if new is None and (found.afresh or _interim_target(user).exists()):
            await arm(systemd, found, user=user)
        if new is not None:
            socket = names.METRICS_SOCKET
            await serving.release(systemd, serving.METRICS, old.get(socket), new.get(socket))
        elif names.METRICS_SOCKET in old:
            await systemd.start(names.METRICS_SOCKET)
    finally:
        bus.disconnect()
    return Rearmed(
        agents_of(found.afresh - found.at_next_boot), agents_of(found.at_next_boot), agents_of(remembered)
    )


def _installed(directory: Path) -> dict[str, str]:
    """Return the texts of rota's timers, target and socket in a directory, by name, symlinks followed."""
    found: dict[str, str] = {}
    shared = (directory / name for name in (names.TARGET, names.METRICS_SOCKET))
    for path in (*directory.glob("rota-*.timer"), *shared):
        if path.is_file() and (text := path.read_text("utf-8", "replace")).startswith(names.MARKER):
            found[path.name] = text
    return found


def rearm(directory: Path, replaced_by: Path | None, *, user: bool) -> Rearmed:
    """Let timers that something else than `apply` installs start afresh.

    In two steps, for in between the units are replaced and systemd is told of it.

    Args:
        directory: where units are installed.
        replaced_by: before that, a directory with the units that are to be there: timers that differ are
            stopped and forgotten. None after it: timers that do not run are made to count from their start.
        user: for the user manager.

    Raises:
        RotaError: systemd is out of reach, or refuses.
    """
    old = _installed(directory)
    new = None if replaced_by is None else _installed(replaced_by)
    if not old and not new:
        return Rearmed()
    return asyncio.run(_rearm(old, new, user=user))
