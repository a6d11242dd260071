"""Which mounts are file systems worth reporting: pure functions on the text of mountinfo."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_KERNEL = """
    autofs binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devfs devpts devtmpfs efivarfs
    functionfs fusectl hugetlbfs mqueue nfsd nsfs pipefs proc pstore resctrl rootfs rpc_pipefs securityfs
    selinuxfs smackfs sockfs sysfs tracefs usbfs xenfs
"""
_MEMORY = "ramfs tmpfs"
_IMAGES = "cramfs erofs fuse.snapfuse fuse.squashfuse fuse.squashfuse_ll iso9660 romfs squashfs"
_WINDOWS = """
    fuse.gvfsd-fuse fuse.kio-fuse fuse.lxcfs fuse.portal fuse.revokefs-fuse fuse.rofiles-fuse
    fuse.vmware-vmblk fuse.xdg-document-portal
"""

SKIPPED_TYPES = frozenset(f"{_KERNEL} {_MEMORY} {_IMAGES} {_WINDOWS}".split())
"""Types that never count by themselves: interfaces of the kernel, memory, images that are full by
nature, and views of other file systems."""

LAYERED_TYPES = frozenset({"aufs", "fuse.fuse-overlayfs", "overlay", "unionfs"})
"""Types that count as the root only: elsewhere they are containers, on a disk that is listed anyway."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    Attributes:
        id: the kernel's number of this mount.
        parent: the number of the mount it is mounted on.
        device: "major:minor" of the file system, the same for each of its mounts.
        point: where it is mounted.
        type: the file system's type.
        source: the device or export, as the kernel names it.
        read_only: the file system itself is; a read-only mount of a writable one is not.
    """

    id: int
    parent: int
    device: str
    point: str
    type: str
    source: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system to report.

    Attributes:
        mount: its mount with the shortest path.
        points: paths where it can be looked at, shortest first; empty if other mounts hide all.
    """

    mount: Mount
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What counts, on top of the tables.

    Attributes:
        include_types: types that count although a table skips them.
        exclude_types: types that do not count.
        exclude_paths: mount points that do not count, nor what is mounted below them.
    """

    include_types: Collection[str] = ()
    exclude_types: Collection[str] = ()
    exclude_paths: Collection[str] = ()

    def takes_type(self, mount: Mount) -> bool:
        """Return whether the type of `mount` counts there."""
        if mount.type in self.exclude_types:
            return False
        if mount.type in self.include_types:
            return True
        return mount.point == "/" if mount.type in LAYERED_TYPES else mount.type not in SKIPPED_TYPES

    def takes_path(self, path: str) -> bool:
        """Return whether a file system found at `path` counts."""
        tops = (excluded.rstrip("/") for excluded in self.exclude_paths)
        return not any(path == (top or "/") or path.startswith(f"{top}/") for top in tops)


def parse(text: str) -> list[Mount]:
    """Return the mounts in the text of /proc/self/mountinfo (see proc(5)), in its order."""
    mounts = []
    for line in text.split("\n"):
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        number, parent, device, _root, point, *_ = before.split(" ")
        type_, source, options = after.split(" ", 2)
        mounts.append(
            Mount(
                id=int(number),
                parent=int(parent),
                device=device,
                point=_unescape(point),
                type=_unescape(type_),
                source=_unescape(source),
                read_only="ro" in options.split(","),
            )
        )
    return mounts


def visible(mounts: Iterable[Mount]) -> set[int]:
    """Return the numbers of the mounts that a path leads to, the others being covered.

    A sandbox mounts much over what is there (an empty /home, a private /tmp): asking for the
    covered mount's path would answer with the numbers of the one on top.
    """
    listed = list(mounts)
    numbers = {mount.id for mount in listed}
    on: dict[tuple[int, str], int] = {}
    for mount in listed:
        outermost = mount.parent == mount.id or mount.parent not in numbers
        on[(0 if outermost else mount.parent, mount.point)] = mount.id
    return {mount.id for mount in listed if _resolve(mount.point, on) == mount.id}


def file_systems(mounts: Iterable[Mount], wanted: Wanted) -> list[FileSystem]:
    """Return the file systems that count, each once, sorted by mount point."""
    listed = list(mounts)
    seen = visible(listed)
    by_device: dict[str, list[Mount]] = {}
    for mount in listed:
        if wanted.takes_type(mount):
            by_device.setdefault(mount.device, []).append(mount)
    found = []
    for same in by_device.values():
        shown = [mount for mount in same if mount.id in seen]
        first, *rest = sorted(shown or same, key=lambda mount: (len(mount.point), mount.point))
        if not shown and first.type in LAYERED_TYPES:
            continue
        if wanted.takes_path(first.point):
            points = dict.fromkeys(mount.point for mount in (first, *rest)) if shown else {}
            found.append(FileSystem(first, tuple(points)))
    return sorted(found, key=lambda file_system: file_system.mount.point)


def _resolve(path: str, on: dict[tuple[int, str], int]) -> int:
    """Walk down `path` as the kernel does: at each step into what is mounted there, and on that."""
    here = 0
    steps = ["/", *(path[:index] for index in range(1, len(path)) if path[index] == "/")]
    for step in dict.fromkeys([*steps, path]):
        while (here, step) in on:
            here = on[(here, step)]
    return here


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline, backslash and #: all of them ASCII."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
