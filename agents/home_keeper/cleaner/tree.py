"""Files below a directory, looked at and removed so that nobody can lead elsewhere meanwhile.

Every directory is opened from the one above it (openat(2), O_NOFOLLOW), and is of the same mount as the top.
What is removed is what was looked at: the same inode, still a regular file, still as old.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import ELOOP, ENOTDIR, EROFS
from pathlib import Path

from rota.errors import RotaError

from ...disk_report.mounts import parse
from .plan import File, Usage

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 200
_BLOCK = 512


def usage(where: int | str) -> Usage:
    """Return how full a file system is.

    Raises:
        OSError: it does not say.
    """
    found = os.statvfs(where)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    available = max(found.f_bavail, 0) * found.f_frsize
    return Usage(found.f_blocks * found.f_frsize, used, available, found.f_files, found.f_ffree)


def mount_of(descriptor: int) -> int:
    """Return the number of the mount that an open file is on: that of /proc/self/mountinfo."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines():
        word, _, number = line.partition(":")
        if word == "mnt_id":
            return int(number)
    raise OSError(f"/proc/self/fdinfo/{descriptor} has no mnt_id")


def file_system(descriptor: int) -> str:
    """Return "major:minor" of the file system of an open file; of subvolumes of btrfs it is the same."""
    number = mount_of(descriptor)
    mounts = parse(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
    for mount in mounts:
        if mount.id == number:
            return mount.device
    raise OSError(f"/proc/self/mountinfo has no mount {number}")


def open_directory(path: str, *, lasting: bool = False) -> int:
    """Open a directory, no part of whose path is a symlink.

    Args:
        path: its path.
        lasting: whether the path is to stay as it is, for a program that is told of it: nobody but root may
            then be able to put a symlink for a directory that is on the way.

    Raises:
        RotaError: there is none, or there is one.
    """
    here = os.open("/", _DIRECTORY)
    for name in path.strip("/").split("/"):
        if not name:
            break
        try:
            if lasting and (whose := _whose(here)):
                raise RotaError(f"{path}: leads through a directory {whose}, and so may be led elsewhere")
            below = os.open(name, _DIRECTORY, dir_fd=here)
        except OSError as error:
            link = error.errno in (ELOOP, ENOTDIR) and _is_link(name, here)
            told = "leads over a symlink; write the path it leads to" if link else error.strerror
            raise RotaError(f"{path}: {told}") from None
        finally:
            os.close(here)
        here = below
    return here


def _whose(directory: int) -> str:
    """Return in words who may swap what is in a directory, beside root and whoever runs this; "" for nobody.

    In one that all may write to, a sticky bit leaves to each what is theirs.
    """
    found = os.fstat(directory)
    if found.st_uid not in (0, os.geteuid()):
        return f"of user {found.st_uid}"
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    return "that others may write to" if shared else ""


def _is_link(name: str, directory: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False


def size_of(found: os.stat_result) -> int:
    """Return bytes on the disk: of a file with several names, the share of one."""
    return found.st_blocks * _BLOCK // max(found.st_nlink, 1)


class Tree:
    """An open directory and what is below it on the same mount."""

    def __init__(self, path: str, *, content: bool = False) -> None:
        """Open it; raises as `open_directory`.

        Args:
            path: its path.
            content: whether the age of a file is that of its content (mtime) alone. Else one is as young as
                anything done to it (ctime, too): what cp -p, rsync -a or tar put there is not old.
        """
        self.path = path
        self._content = content
        self.descriptor = open_directory(path)
        self._device = os.fstat(self.descriptor).st_dev
        self._mount = mount_of(self.descriptor)
        self.skipped: list[str] = []
        """Directories that could not be looked at, and why."""

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter(self, name: str, above: int) -> int | None:
        """Open a directory below another one; None if it is another mount or file system."""
        opened = os.open(name, _DIRECTORY, dir_fd=above)
        try:
            if os.fstat(opened).st_dev == self._device and mount_of(opened) == self._mount:
                return opened
        except OSError:
            os.close(opened)
            raise
        os.close(opened)
        return None

    def files(self) -> Iterator[File]:
        """Yield regular files; symlinks are neither followed nor files."""
        top = os.open(".", _DIRECTORY, dir_fd=self.descriptor)
        try:
            yield from self._below(top, "", 0)
        finally:
            os.close(top)

    def _below(self, directory: int, prefix: str, depth: int) -> Iterator[File]:
        if depth > _DEEPEST:
            self.skipped.append(f"{prefix}: too deep")
            return
        folders = []
        with os.scandir(directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        if found.st_dev == self._device:
                            changed = self._changed(found)
                            yield File(f"{prefix}{entry.name}", size_of(found), changed, found.st_ino)
        for name in folders:
            try:
                below = self._enter(name, directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.skipped.append(f"{prefix}{name}: {error.strerror}")
                continue
            if below is not None:
                try:
                    yield from self._below(below, f"{prefix}{name}/", depth + 1)
                finally:
                    os.close(below)

    def _changed(self, found: os.stat_result) -> int:
        """Return since when a file is as it is."""
        return (found.st_mtime_ns if self._content else max(found.st_mtime_ns, found.st_ctime_ns)) // 1000

    def _folder(self, path: str) -> int | None:
        """Open the directory that a file is in, step by step; None if a step is another mount."""
        here = os.open(".", _DIRECTORY, dir_fd=self.descriptor)
        for name in path.split("/")[:-1]:
            try:
                below = self._enter(name, here)
            finally:
                os.close(here)
            if below is None:
                return None
            here = below
        return here

    def remove(self, files: Iterator[File], latest: int, enough: Callable[[int], bool]) -> Removed:
        """Remove files, until all are gone or `enough` says so.

        Args:
            files: as `files` found them.
            latest: what was changed later than this has become younger, and stays.
            enough: told how many bytes went so far, whether that will do.

        Raises:
            OSError: nothing can be removed, as the file system is read-only.
        """
        done = Removed()
        for file in files:
            if enough(done.size):
                break
            try:
                done = done.also(self._remove(file, latest))
            except OSError as error:
                if error.errno == EROFS:
                    raise
                done = done.failed(f"{file.path}: {error.strerror}")
        return done

    def _remove(self, file: File, latest: int) -> int | None:
        """Remove one file; return its bytes, None if it is not there as it was."""
        name = file.path.rpartition("/")[2]
        try:
            folder = self._folder(file.path)
        except OSError as error:
            if error.errno in (ELOOP, ENOTDIR) or isinstance(error, FileNotFoundError):
                return None
            raise
        if folder is None:
            return None
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            same = stat.S_ISREG(found.st_mode) and found.st_ino == file.inode
            if not same or found.st_dev != self._device or self._changed(found) > latest:
                return None
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return None
        finally:
            os.close(folder)
        return size_of(found)


@dataclass(frozen=True, slots=True)
class Removed:
    """What came of it.

    Attributes:
        count: files that are gone now.
        size: bytes that went with them; those of one that is still open go when it is closed.
        changed: files that were not there any more as they had been, and were left alone.
        errors: files that could not be removed.
        error: about the first of them.
    """

    count: int = 0
    size: int = 0
    changed: int = 0
    errors: int = 0
    error: str = ""

    def also(self, size: int | None) -> Removed:
        """Return the same and one file more."""
        if size is None:
            return Removed(self.count, self.size, self.changed + 1, self.errors, self.error)
        return Removed(self.count + 1, self.size + size, self.changed, self.errors, self.error)

    def failed(self, error: str) -> Removed:
        """Return the same and one that could not be removed."""
        return Removed(self.count, self.size, self.changed, self.errors + 1, self.error or error)
