"""Installs units in place: each file whole, nothing of others touched, no run started or stopped."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rota import generate, names
from rota.errors import Exit, RotaError
from rota.generate import Plan
from rota.load import Loaded
from rota.systemd import Systemd, connect
from rota.units import UnitFile

_STAGE = ".rota-apply-"
_PATIENCE = 2.0
"""Seconds that systemd may take to unload a timer; it does so as soon as it is idle."""

_RUNNING = ("active", "activating", "deactivating")

_DROP_IN = "50-rota-applied.conf"


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did beside the files.

    Attributes:
        started: timers that were started.
        at_next_boot: agents that only boot starts: nothing to start before.
        remembered: agents whose last run systemd could not be made to forget, because another unit
            refers to them: they may have started at once.
    """

    started: tuple[str, ...]
    at_next_boot: tuple[str, ...]
    remembered: tuple[str, ...]


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep a second apply out of a directory, which is made if it does not exist.

    To be entered before declarations are read: else the later of two would undo what the other read.

    Raises:
        RotaError: another one is at work, or the directory may not be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RotaError(f"{error.filename}: {error.strerror}", exit_code=Exit.NOT_AUTHORISED) from None
    if not os.access(directory, os.W_OK):
        hint = "Run rota apply as root, or with --user."
        if os.geteuid() == 0:
            hint = "It is read-only; on NixOS declare agents in configuration.nix, or use rota generate."
        raise RotaError(f"{directory} may not be written", hint, Exit.NOT_AUTHORISED)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RotaError(
                f"another rota apply is at work in {directory}", "Try again when it is done."
            ) from None
        yield
    finally:
        os.close(descriptor)


def _interrupted(directory: Path) -> set[str]:
    """Return the timers that an apply which did not finish had yet to start."""
    pending: set[str] = set()
    for stage in directory.glob(f"{_STAGE}*"):
        todo = stage / "start.json"
        if todo.is_file():
            try:
                pending.update(json.loads(todo.read_text(encoding="utf-8")))
            except ValueError:
                continue  # cut off while it was written: nothing had been changed yet
    return pending


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stage(plan: Plan, directory: Path, start: set[str]) -> Path:
    """Write what is new or changed next to where it goes, all of it before anything is moved."""
    stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=directory))
    try:
        generate.write_files((plan.files[name] for name in (*plan.added, *plan.changed)), stage)
        for path in stage.rglob("*"):
            if path.is_file() and not path.is_symlink():
                _sync(path)
        (stage / "start.json").write_text(json.dumps(sorted(start)), encoding="utf-8")
        _sync(stage / "start.json")
        _sync(stage)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    return stage


def _move(plan: Plan, stage: Path, directory: Path) -> None:
    for name in (*plan.added, *plan.changed):
        (directory / name).parent.mkdir(exist_ok=True)
        (stage / name).rename(directory / name)
    for name in plan.removed:
        (directory / name).unlink(missing_ok=True)
    _sync(directory)


def _runtime_units(user: bool) -> Path:
    base = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")) if user else Path("/run")
    return base / "systemd" / ("user" if user else "system")


def _interim_target(user: bool) -> Path:
    """Return where a target goes that takes the place of the installed one until the next boot.

    systemd.unit(5): system.control comes before /etc in the search path.
    """
    runtime = _runtime_units(user)
    return runtime.with_name(f"{runtime.name}.control") / names.TARGET


def _override(overrides: Mapping[str, str | None], timers: set[str], removed: list[str], user: bool) -> None:
    """Take past boots away from timers that are to be started; what an earlier apply took, it gives back."""
    runtime = _runtime_units(user)
    for timer in (*removed, *sorted(timers)):
        shutil.rmtree(runtime / f"{timer}.d", ignore_errors=True)
    for timer in sorted(timers):
        if text := overrides[timer]:
            folder = runtime / f"{timer}.d"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _DROP_IN).write_text(text, encoding="utf-8")


async def _stop(systemd: Systemd, timers: set[str], states: Mapping[str, str]) -> None:
    for timer in sorted(timers):
        if states.get(timer) == "active":
            await systemd.settle(partial(systemd.stop, timer), timer)


async def _forget(
    systemd: Systemd, target: UnitFile, known: set[str], states: Mapping[str, str], *, user: bool
) -> list[str]:
    """Make systemd unload timers, so that it forgets when they and their services were last active.

    It counts the first elapse of a timer from that, and a new schedule has slots in between. Only what
    nothing refers to is unloaded, so the target has to let go of them first.

    Args:
        systemd: whose memory it is.
        target: the target of all timers, without these.
        known: the timers, all of them stopped.
        states: active states before.
        user: for the user manager.

    Returns:
        Timers that stayed loaded.
    """
    for timer in known:
        if states.get(service := _service(timer)) == "failed":
            await systemd.reset_failed(service)
    path = _interim_target(user)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(target.text or "", encoding="utf-8")
    await systemd.reload()
    running = {timer for timer in known if states.get(_service(timer)) in _RUNNING}
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while True:
        left = [timer for timer in sorted(known - running) if await _loaded(systemd, timer)]
        if not left or asyncio.get_running_loop().time() > deadline:
            return left
        await asyncio.sleep(0.01)


async def _loaded(systemd: Systemd, timer: str) -> bool:
    return await systemd.is_loaded(timer) or await systemd.is_loaded(_service(timer))


def _service(timer: str) -> str:
    return timer.removesuffix(".timer") + ".service"


async def _forget_stamps(systemd: Systemd, loaded: Loaded, timers: set[str]) -> None:
    """Remove what a persistent timer of this name left on disk: the same memory, across boots."""
    persistent = {
        names.timer_of(item.name) for item in loaded.declarations if item.agent.catch_up.mode == "once"
    }
    for timer in sorted(timers & persistent):
        await systemd.clean_state(timer)


async def _install(loaded: Loaded, plan: Plan, directory: Path, *, user: bool) -> Applied:
    leftovers = list(directory.glob(f"{_STAGE}*"))
    wanted = {name for name in plan.files if name.endswith(".timer")}
    overrides = {timer: generate.boot_override(loaded, timer, user=user) for timer in wanted}
    never = {timer for timer, text in overrides.items() if text == ""}
    gone = [name for name in plan.removed if name.endswith(".timer")]
    bus = await connect(user=user)
    try:
        systemd = Systemd(bus)
        states = await systemd.loaded("rota-*")
        inactive = {timer for timer in wanted if states.get(timer) != "active"} - never
        afresh = (set(plan.rescheduled()) | _interrupted(directory) | inactive) & wanted
        stage = _stage(plan, directory, afresh)
        await _stop(systemd, afresh | set(gone), states)
        for name in plan.removed:
            if states.get(name) == "failed":
                await systemd.reset_failed(name)
        known = {timer for timer in afresh if await _loaded(systemd, timer)}
        without = generate.target(loaded, plan.files, without=known)
        remembered = await _forget(systemd, without, known, states, user=user) if known else []
        _move(plan, stage, directory)
        _override(overrides, afresh, gone, user)
        _interim_target(user).unlink(missing_ok=True)
        await systemd.reload()
        start = afresh - never
        await _forget_stamps(systemd, loaded, start)
        for timer in sorted(start):
            await systemd.start(timer)
        for old in (stage, *leftovers):
            shutil.rmtree(old, ignore_errors=True)
    finally:
        bus.disconnect()
    return Applied(tuple(sorted(start)), _names(never & afresh), _names(remembered))


def _names(timers: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names.agent_of(timer) or "" for timer in timers))


def apply(loaded: Loaded, plan: Plan, directory: Path, *, user: bool) -> Applied:
    """Make a unit directory and systemd hold exactly what is declared.

    To be called within `alone`. A run that is under way goes on, whatever becomes of its agent. Killed
    at any moment, the next apply finishes what was begun.

    Raises:
        RotaError: the directory may not be written, is full, or systemd is out of reach.
    """
    if plan.foreign:
        raise RotaError(
            f"{directory} has files of these names that rota did not write: {', '.join(plan.foreign)}",
            "Move them away, or name the agents differently.",
            Exit.USAGE,
        )
    try:
        return asyncio.run(_install(loaded, plan, directory, user=user))
    except OSError as error:
        raise RotaError(f"{error.filename or directory}: {error.strerror}") from None
