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

from rota import generate, rearm, serving
from rota.errors import Exit, RotaError
from rota.generate import Plan
from rota.systemd import Systemd, connect

_STAGE = ".rota-apply-"


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


def _stage(plan: Plan, directory: Path, start: frozenset[str]) -> Path:
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
        target = generate.place(name, directory, plan.rules_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        source = stage / name
        if not target.is_relative_to(directory):  # it may be on another file system
            source = Path(shutil.move(source, target.with_name(f".{target.name}.new")))
        source.rename(target)
    for name in plan.removed:
        path = generate.place(name, directory, plan.rules_dir)
        path.unlink(missing_ok=True)
        below = path.is_relative_to(directory) and path.parent != directory
        if below and not any(path.parent.iterdir()):
            path.parent.rmdir()  # of drop-ins and links
    _sync(directory)


async def _install(plan: Plan, directory: Path, *, user: bool) -> Applied:
    leftovers = list(directory.glob(f"{_STAGE}*"))
    bus = await connect(user=user)
    try:
        systemd = Systemd(bus)
        states = await systemd.loaded("rota-*")
        after = {name: file.text or "" for name, file in plan.files.items()}
        change = rearm.change(plan.before, after, states, interrupted=_interrupted(directory))
        stage = _stage(plan, directory, change.afresh)
        remembered = await rearm.release(systemd, change, states, user=user)
        for made, units in serving.MADE_OF.items():
            await serving.release(systemd, units, plan.before.get(made), after.get(made))
        # Before the files go: an apply that is killed after that knows of them no more.
        for unit in plan.left_failed(await systemd.loaded("rota-*", states=["failed"])):
            await systemd.reset_failed(unit)
        _move(plan, stage, directory)
        await rearm.arm(systemd, change, user=user)
        start = sorted(change.afresh - change.at_next_boot)
        for timer in start:
            await systemd.start(timer)
        for old in (stage, *leftovers):
            shutil.rmtree(old, ignore_errors=True)
        for made, units in serving.MADE_OF.items():
            if made in after:
                await serving.start(systemd, units[0])
    finally:
        bus.disconnect()
    return Applied(tuple(start), rearm.agents_of(change.at_next_boot), rearm.agents_of(remembered))


def apply(plan: Plan, directory: Path, *, user: bool) -> Applied:
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
        return asyncio.run(_install(plan, directory, user=user))
    except OSError as error:
        raise RotaError(f"{error.filename or directory}: {error.strerror}") from None
