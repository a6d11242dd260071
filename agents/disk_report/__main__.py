"""disk-report: how full each real file system is, as a table and as JSON."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ..common import (
    WIDTH,
    Result,
    clip,
    clip_middle,
    columns,
    complain,
    conclude,
    plural,
    printable,
    publish,
    say,
)
from .mounts import FileSystem, Wanted, file_systems, parse

AGENT = "disk-report"
MOUNTINFO = Path("/proc/self/mountinfo")
PATIENCE = 5.0
"""Seconds a file system has to answer: a network one whose server is gone never does."""


class Statvfs(Protocol):
    """What is read of `os.statvfs_result`: counts of blocks (of `f_frsize` bytes) and of inodes."""

    @property
    def f_frsize(self) -> int: ...  # noqa: D102
    @property
    def f_blocks(self) -> int: ...  # noqa: D102
    @property
    def f_bfree(self) -> int: ...  # noqa: D102
    @property
    def f_bavail(self) -> int: ...  # noqa: D102
    @property
    def f_files(self) -> int: ...  # noqa: D102
    @property
    def f_ffree(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of one file system; percentages rounded up as df does, None where there is nothing to fill.

    Attributes:
        mount_point: where it was looked at.
        type: type of the file system.
        source: the device or export.
        device: "major:minor".
        read_only: it cannot fill up.
        total_bytes: its size.
        used_bytes: bytes in use.
        available_bytes: bytes an unprivileged user can still write.
        used_percent: of what unprivileged users can have.
        inodes_total: 0 where inodes are made as needed (btrfs, vfat).
        inodes_used: inodes in use.
        inodes_percent: of all inodes.
    """

    mount_point: str
    type: str
    source: str
    device: str
    read_only: bool
    total_bytes: int
    used_bytes: int
    available_bytes: int
    used_percent: int | None
    inodes_total: int
    inodes_used: int
    inodes_percent: int | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file system whose use could not be read.

    Attributes:
        mount_point: where it is mounted.
        type: type of the file system.
        reason: why.
    """

    mount_point: str
    type: str
    reason: str


def percent(used: int, available: int) -> int | None:
    """Return the use in percent, rounded up as df does, or None where both are 0."""
    total = used + available
    return -(-used * 100 // total) if total > 0 else None


def usage(file_system: FileSystem, point: str, answer: Statvfs) -> Usage:
    """Return the use of `file_system` by what statvfs answered at `point`."""
    mount = file_system.mount
    used = answer.f_blocks - answer.f_bfree
    inodes = answer.f_files - answer.f_ffree
    return Usage(
        mount_point=point,
        type=mount.type,
        source=mount.source,
        device=mount.device,
        read_only=mount.read_only,
        total_bytes=answer.f_blocks * answer.f_frsize,
        used_bytes=used * answer.f_frsize,
        available_bytes=max(answer.f_bavail, 0) * answer.f_frsize,
        used_percent=percent(used, max(answer.f_bavail, 0)),
        inodes_total=answer.f_files,
        inodes_used=inodes,
        inodes_percent=percent(inodes, answer.f_ffree) if answer.f_files else None,
    )


def look(file_system: FileSystem, ask: Callable[[str], Statvfs]) -> Usage | Unreadable | None:
    """Ask for the use of `file_system` at each of its mount points until one answers.

    Args:
        file_system: what to look at.
        ask: statvfs.

    Returns:
        Its use, or why that cannot be read, or None if it has no size (it holds no files of its own).
    """
    mount = file_system.mount
    reason = "hidden by another mount (the sandbox?)"
    for number, point in enumerate(file_system.points):
        try:
            answer = ask(point)
        except OSError as error:
            if number == 0:
                reason = error.strerror or str(error)
            continue
        return usage(file_system, point, answer) if answer.f_blocks > 0 else None
    return Unreadable(mount.point, mount.type, reason)


def statvfs(path: str) -> Statvfs:
    """Ask the kernel, and wait `PATIENCE` seconds at most.

    Raises:
        OSError: it refused, or did not answer in time.
    """
    answers: list[os.statvfs_result | OSError] = []

    def wait() -> None:
        try:
            answers.append(os.statvfs(path))
        except OSError as error:
            answers.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError("not asked: too many others do not answer") from error
    thread.join(PATIENCE)
    if not answers:
        raise TimeoutError(f"no answer within {PATIENCE:g}s")
    if isinstance(answers[0], OSError):
        raise answers[0]
    return answers[0]


def human(size: int) -> str:
    """Return `size` (bytes) in binary units as `df -h` names them: 512, 3.4G, 120T."""
    value = float(size)
    for unit in ("", "K", "M", "G", "T", "P"):
        if value < 999.5 or unit == "P":
            break
        value /= 1024
    return f"{value:.1f}{unit}" if unit and value < 9.95 else f"{value:.0f}{unit}"


def above(found: Iterable[Usage], limit: int) -> list[str]:
    """Return a line for each file system that is fuller than `limit` percent, in bytes or inodes."""
    lines = []
    for one in found:
        if one.read_only:
            continue
        where = printable(one.mount_point)
        if one.used_percent is not None and one.used_percent > limit:
            rest = human(one.available_bytes)
            lines.append(f"{where} is {one.used_percent}% full, {rest} left (limit {limit}%)")
        if one.inodes_percent is not None and one.inodes_percent > limit:
            left = one.inodes_total - one.inodes_used
            lines.append(
                f"{where} has {one.inodes_percent}% of its inodes in use, {left} left (limit {limit}%)"
            )
    return lines


def table(found: Iterable[Usage], unreadable: Collection[Unreadable]) -> str:
    """Return the report for people, 80 columns wide."""
    header = ("MOUNT POINT", "TYPE", "SIZE", "USED", "AVAIL", "USE%", "INODES%")
    listed = list(found)
    rows = [
        (
            clip_middle(printable(one.mount_point), 32),
            clip(printable(one.type) + (" ro" if one.read_only else ""), 10),
            human(one.total_bytes),
            human(one.used_bytes),
            human(one.available_bytes),
            "-" if one.used_percent is None else f"{one.used_percent}%",
            "-" if one.inodes_percent is None else f"{one.inodes_percent}%",
        )
        for one in listed
    ]
    lines = columns([header, *rows], left=frozenset({0, 1})) if rows else []
    for bad in unreadable:
        where = clip_middle(printable(bad.mount_point), 32)
        lines.append(clip(f"{where} ({printable(bad.type)}): {printable(bad.reason)}", WIDTH))
    return "".join(f"{line}\n" for line in lines)


def summary(found: Iterable[Usage], unreadable: Collection[Unreadable]) -> str:
    """Return the report in a sentence."""
    listed = list(found)
    text = plural(len(listed), "file system")
    if unreadable:
        text += f", {len(unreadable)} unreadable"
    fillable = [one for one in listed if not one.read_only and one.used_percent is not None]
    if fillable:
        fullest = max(fillable, key=lambda one: one.used_percent or 0)
        text += f"; fullest at {fullest.used_percent}%: {printable(fullest.mount_point)}"
    return text


def main(argv: list[str] | None = None) -> int:
    """Report the file systems of this machine.

    Args:
        argv: arguments without the program's name; those of this process if None.

    Returns:
        0; 1 if one is above the limit, or the report could not be made.
    """
    options = _parser().parse_args(argv)
    wanted = Wanted(options.include_type, options.exclude_type, options.exclude)
    try:
        mounts = parse(os.fsdecode(MOUNTINFO.read_bytes()))
    except OSError as error:
        complain(AGENT, f"cannot read the list of mounts: {error}")
        return 1
    looked = [look(one, statvfs) for one in file_systems(mounts, wanted)]
    found = [one for one in looked if isinstance(one, Usage)]
    unreadable = [one for one in looked if isinstance(one, Unreadable)]
    warnings = above(found, options.warn_percent)
    result: Result = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "warn_percent": options.warn_percent,
        "warnings": warnings,
        "file_systems": [asdict(one) for one in found],
        "unreadable": [asdict(one) for one in unreadable],
    }
    short = summary(found, unreadable)
    status = 1 if warnings else 0
    say(table(found, unreadable))
    sys.stdout.flush()
    try:
        logged = publish(AGENT, result, "file_systems", "report.json", short)
    except OSError as error:
        complain(AGENT, f"cannot leave the result: {error}")
        status, logged = 1, False
    conclude(short, logged)
    sys.stdout.flush()
    for line in warnings:
        complain(AGENT, line)
    return status


def _percent(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f'"{text}" is not a percentage from 1 to 100')
    return int(text)


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f'"{text}" is not an absolute path')
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"rota-agent {AGENT}",
        description="Report how full each real file system is. Sizes are binary, as df -h shows them.",
        epilog="The same as JSON goes to $STATE_DIRECTORY/report.json and, in a run that systemd "
        "started, to the journal (field ROTA_RESULT).",
    )
    parser.add_argument(
        "--warn-percent",
        metavar="N",
        type=_percent,
        default=90,
        help="exit with status 1 when a writable file system is above N percent in bytes or inodes "
        "(default 90; 100: never)",
    )
    parser.add_argument(
        "--exclude",
        metavar="PATH",
        type=_path,
        action="append",
        default=[],
        help="leave out what is mounted at PATH and below it (repeatable)",
    )
    parser.add_argument(
        "--exclude-type", metavar="TYPE", action="append", default=[], help="leave out this type (repeatable)"
    )
    parser.add_argument(
        "--include-type",
        metavar="TYPE",
        action="append",
        default=[],
        help="report this type although it is skipped by default, such as tmpfs or overlay (repeatable)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
