"""Asks file systems for their use, and drives for their diagnosis."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ...disk_report.mounts import FileSystem, Wanted, file_systems, parse
from ..checks.disks import MOUNTINFO, Drive, Volume, given_up, parse_scan, parse_smart
from ..checks.words import SECOND, Malformed, span
from ..words import Finding
from .recall import of_this_boot
from .threads import Threads

_SMARTCTL = "/run/current-system/sw/bin:/usr/sbin:/sbin"


class Volumes:
    """File systems, and which of them could be written to before."""

    def __init__(
        self, threads: Threads, timeout: int, declared: frozenset[str], mountinfo: Path = Path(MOUNTINFO)
    ) -> None:
        self._threads = threads
        self._timeout = timeout
        self._declared = declared
        self._mountinfo = mountinfo
        self._writable: set[str] = set()
        self._became: set[str] = set()

    def recall(self, left: Iterable[Finding]) -> None:
        """Take up what was open when the keeper ended: what became read-only was not meant to be."""
        self._became = {one.target.name for one in of_this_boot(left, "read-only")}

    async def __call__(self) -> list[Volume]:
        """Look at all that count, and at those that were declared, all at the same time."""
        text = os.fsdecode(self._mountinfo.read_bytes())
        try:
            mounts = parse(text)
        except ValueError as error:
            raise Malformed(f"{self._mountinfo} is not as expected: {error}") from None
        broken = given_up(text)
        found = file_systems(mounts, Wanted())
        known = {point for one in found for point in one.points}
        for mount in mounts:
            if mount.point in self._declared and mount.point not in known:
                found.append(FileSystem(mount, (mount.point,)))
        wrong = {mount.device: broken[mount.id] for mount in mounts if mount.id in broken}
        looked = await asyncio.gather(*(self._look(one, wrong) for one in found if one.points))
        return [one for one in looked if one is not None]

    def _name(self, one: FileSystem) -> str:
        """Return which mount point to call it by: the one that was declared, or else the shortest."""
        return next((point for point in one.points if point in self._declared), one.points[0])

    def _read_only(self, one: FileSystem, wrong: Mapping[str, str]) -> str:
        device = one.mount.device
        if device in wrong:
            return wrong[device]
        if not one.mount.read_only:
            self._writable.add(device)
            return ""
        return "remounted" if device in self._writable or self._name(one) in self._became else "meant"

    async def _look(self, one: FileSystem, wrong: Mapping[str, str]) -> Volume | None:
        point, mount = self._name(one), one.mount
        found = Volume(
            point, mount.source, mount.type, read_only=self._read_only(one, wrong), points=one.points
        )
        try:
            async with asyncio.timeout(self._timeout / SECOND):
                answer = await self._threads.run(f"statvfs {point}", lambda: os.statvfs(point))
        except TimeoutError:
            return replace(found, unanswered=f"no answer within {span(self._timeout)}")
        except OSError as error:
            hidden = isinstance(error, PermissionError | FileNotFoundError)
            if hidden and point not in self._declared:
                return None  # not for the keeper's eyes: its sandbox, or somebody's own mount
            return replace(found, unanswered=error.strerror or str(error))
        if not answer.f_blocks:
            return None
        used, available = answer.f_blocks - answer.f_bfree, max(answer.f_bavail, 0)
        return replace(
            found,
            total=answer.f_blocks * answer.f_frsize,
            available=available * answer.f_frsize,
            used_percent=100 * used / (used + available) if used + available else None,
            inodes=answer.f_files,
            inodes_free=answer.f_ffree,
        )


def smartctl() -> str | None:
    """Return the path of smartctl, None where it is not."""
    return shutil.which("smartctl", path=f"{os.environ.get('PATH', os.defpath)}:{_SMARTCTL}")


async def said_by_drives() -> dict[str, str]:
    """Ask each drive for its diagnosis, one after the other; those that sleep are left alone.

    Returns what smartctl printed, by the drives' nodes; nothing where it is not installed.

    Raises:
        Malformed: its list of drives is not as expected.
    """
    program = smartctl()
    if program is None:
        return {}
    found = {}
    for device, kind in parse_scan(await _output(program, "--json", "--scan")):
        # To it every disk of Linux's is SCSI at first sight; what speaks ATA behind that it finds out itself.
        which = () if kind == "scsi" else (f"--device={kind}",)
        # An exit status is a set of bits, and repeated in the answer.
        found[device] = await _output(program, "--json", "--all", "--nocheck=standby", *which, device)
    return found


async def drives() -> list[Drive]:
    """Return what drives say, asked by this process."""
    return [parse_smart(device, text) for device, text in (await said_by_drives()).items()]


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode(errors="replace")
