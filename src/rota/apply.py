"""Installs units in place: each file whole, nothing of others touched, no run started or stopped."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rota import generate, names
from rota.errors import Exit, RotaError
from rota.generate import Plan
from rota.load import Loaded
from rota.systemd import CallError, Systemd, connect

_STAGE = ".rota-apply-"
_DROP_IN = "50-rota-applied.conf"


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did beside the files.

    Attributes:
        started: timers that were started.
        at_next_boot: agents that only boot starts: nothing to start before.
    """

    started: tuple[str, ...]
    at_next_boot: tuple[str, ...]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep a second apply out of a directory.

    Raises:
        RotaError: another one is at work, or the directory may not be written.
    """
    if not os.access(directory, os.W_OK):
        raise RotaError(
            f"{directory} may not be written", "Run rota apply as root, or with --user.", Exit.NOT_AUTHORISED
        )
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RotaError(
            f"another rota apply is at work in {directory}", "Try again when it is done."
        ) from None
    finally:
        os.close(descriptor)


def _interrupted(directory: Path) -> set[str]:
    """Return the timers that an apply which did not finish had yet to start, and remove its files."""
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


def _override(loaded: Loaded, timers: set[str], removed: list[str], *, user: bool) -> set[str]:
    """Take past boots away from timers that are to be started; return those that must not be at all."""
    runtime = _runtime_units(user)
    left: set[str] = set()
    for timer in removed:
        shutil.rmtree(runtime / f"{timer}.d", ignore_errors=True)
    for timer in sorted(timers):
        text = generate.boot_override(loaded, timer, user=user)
        if text == "":
            left.add(timer)
        elif text is not None:
            folder = runtime / f"{timer}.d"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _DROP_IN).write_text(text, encoding="utf-8")
    return left


async def _quiet(systemd: Systemd, timers: set[str]) -> None:
    """Stop timers, and make systemd forget when they and their services last ran.

    A timer's first elapse is counted from that: a new schedule would have slots in the past.
    """
    states = await systemd.loaded("rota-*")
    for timer in sorted(timers):
        if states.get(timer) == "active":
            await systemd.settle(lambda timer=timer: systemd.stop(timer), timer)  # type: ignore[misc]
        service = timer.removesuffix(".timer") + ".service"
        if states.get(service) == "failed":
            await systemd.reset_failed(service)


async def _forget_stamps(systemd: Systemd, loaded: Loaded, timers: set[str]) -> None:
    persistent = {
        names.timer_of(item.name) for item in loaded.declarations if item.agent.catch_up.mode == "once"
    }
    for timer in sorted(timers & persistent):
        try:
            await systemd.clean_state(timer)
        except CallError as error:
            raise RotaError(f"{timer}: its last elapse cannot be forgotten: {error.message}") from None


async def _install(loaded: Loaded, plan: Plan, directory: Path, *, user: bool) -> Applied:
    pending = _interrupted(directory)
    afresh = set(plan.rescheduled()) | pending
    wanted = {name for name in plan.files if name.endswith(".timer")}
    gone = [name for name in plan.removed if name.endswith(".timer")]
    leftovers = list(directory.glob(f"{_STAGE}*"))
    bus = await connect(user=user)
    try:
        systemd = Systemd(bus)
        stage = _stage(plan, directory, afresh & wanted)
        await _quiet(systemd, afresh | set(gone))
        _move(plan, stage, directory)
        states = await systemd.loaded("rota-*.timer")
        start = {timer for timer in wanted if timer in afresh or states.get(timer) != "active"}
        at_boot = _override(loaded, start, gone, user=user)
        await systemd.reload()
        start -= at_boot
        await _forget_stamps(systemd, loaded, start)
        for timer in sorted(start):
            await systemd.start(timer)
        for old in (stage, *leftovers):
            shutil.rmtree(old, ignore_errors=True)
    finally:
        bus.disconnect()
    return Applied(tuple(sorted(start)), tuple(sorted(names.agent_of(timer) or "" for timer in at_boot)))


def apply(loaded: Loaded, plan: Plan, directory: Path, *, user: bool) -> Applied:
    """Make a unit directory and systemd hold exactly what is declared.

    A run that is under way goes on, whatever becomes of its agent. Killed at any moment, the next
    apply finishes what was begun.

    Raises:
        RotaError: the directory may not be written, is full, or systemd is out of reach.
    """
    if plan.foreign:
        raise RotaError(
            f"{directory} has files of these names that rota did not write: {', '.join(plan.foreign)}",
            "Move them away, or name the agents differently.",
            Exit.USAGE,
        )
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        try:
            return asyncio.run(_install(loaded, plan, directory, user=user))
        except OSError as error:
            raise RotaError(f"{error.filename or directory}: {error.strerror}") from None
