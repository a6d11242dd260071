"""Control groups of a test machine: one of its own in every hierarchy systemd-nspawn touches."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.machine.rootfs import MachineError

SYS = Path("/sys/fs/cgroup")


def unified() -> Path | None:
    """Return where cgroup v2 is mounted: alone, beside v1 (hybrid), or nowhere."""
    for path in (SYS, SYS / "unified"):
        if (path / "cgroup.procs").exists() and (path / "cgroup.controllers").exists():
            return path
    return None


def hierarchies() -> list[Path]:
    """Return the hierarchies in which a machine needs a group."""
    v2 = unified()
    v1 = SYS / "systemd"
    return [path for path in (v2, v1 if v2 != SYS and v1.is_dir() else None) if path]


def groups(name: str) -> list[Path]:
    """Return the groups that the machine `name` has or would have."""
    return [hierarchy / name for hierarchy in hierarchies()]


def of_process(pid: int) -> Path:
    """Return the v2 group a process is in."""
    v2 = unified()
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
        if v2 and line.startswith("0::"):
            return v2 / line[3:].lstrip("/")
    raise MachineError(f"process {pid} is in no cgroup v2 group")


def tree(top: Path) -> list[Path]:
    """Return a group and those below it, the lowest first; one may go away meanwhile."""
    return [Path(path) for path, _, _ in os.walk(top, topdown=False)]


def processes(group: Path) -> set[int]:
    """Return the processes in a group and in those below it."""
    found: set[int] = set()
    for path in tree(group):
        # a group may go away between listing and reading
        with suppress(OSError):
            found.update(int(pid) for pid in (path / "cgroup.procs").read_text(encoding="ascii").split())
    return found


def kill(group: Path, timeout: float = 10) -> None:
    """Kill every process in a group and below, and wait until none is left."""
    deadline = time.monotonic() + timeout
    while left := processes(group):
        if time.monotonic() > deadline:
            raise MachineError(f"processes {sorted(left)} in {group} outlive SIGKILL; see /proc/PID/stack")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def remove(group: Path, timeout: float = 10) -> None:
    """Kill what is left in a group, then remove it and those below it."""
    deadline = time.monotonic() + timeout
    while group.is_dir():
        kill(group)
        try:
            for path in tree(group):
                path.rmdir()
        except OSError as error:
            # busy while the last process is being buried
            if time.monotonic() > deadline:
                raise MachineError(f"control group {group} cannot be removed: {error}") from error
            time.sleep(0.005)
