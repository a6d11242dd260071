"""What goes and what stays: pure, over facts and the time. Times: microseconds since 1970; sizes: bytes."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rota.clean_rules import CleanRules, DockerRule, JournalRule, NixRule, PathRule, TmpRule
from rota.watches import Disk

from ..checks.disks import scaled

MOST = 200_000
"""Most files of a path that one run removes: they are held in memory."""
DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """A file system, as statvfs(3) has it.

    Attributes:
        total: bytes there are.
        used: bytes in use.
        available: bytes that programs without privileges may still take.
        inodes: how many there are; 0 where they are made as needed.
        inodes_free: how many are left.
    """

    total: int
    used: int
    available: int
    inodes: int = 0
    inodes_free: int = 0

    @property
    def full(self) -> float:
        """Percent in use, as df counts."""
        return 100 * self.used / (self.used + self.available) if self.used + self.available else 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """How much is to be freed; 0 of both: enough is free."""

    size: int = 0
    inodes: int = 0

    def __bool__(self) -> bool:
        return self.size > 0 or self.inodes > 0


def needed(usage: Usage, disk: Disk) -> Need:
    """Return what must go until the mildest finding of a disk closes: its threshold less the margin."""
    size = inodes = 0
    space = scaled(disk.space, usage.total, disk.enough)
    if space:
        size = math.ceil(usage.used - space[0].closes / 100 * (usage.used + usage.available))
    if disk.inodes and usage.inodes:
        inodes = math.ceil(usage.inodes - usage.inodes_free - disk.inodes[0].closes / 100 * usage.inodes)
    return Need(max(size, 0), max(inodes, 0))


ORDER = (
    "tmp",  # was to go anyway
    "build-cache",  # is made again
    "journal",  # old entries
    "nix",  # is fetched or built again; old generations
    "images",  # are pulled again
    "paths",  # what people declared
    "containers",  # hold what they wrote
)
"""Steps, the cheapest and least harmful first."""
_NO_INODES = frozenset(("journal",))

Rule = JournalRule | DockerRule | NixRule | TmpRule | PathRule


@dataclass(frozen=True, slots=True)
class Step:
    """Something that may be cleaned: a word of ORDER, which of several, and by which rule."""

    kind: str
    which: str
    rule: Rule

    def __str__(self) -> str:
        return f"{self.kind} {self.which}".rstrip()


def steps(rules: CleanRules, need: Need) -> tuple[Step, ...]:
    """Return what may help, in order; journals are few and large files, and no help with inodes."""
    found = [one for one in _all(rules) if need.size or one.kind not in _NO_INODES]
    return tuple(sorted(found, key=lambda one: ORDER.index(one.kind))) if need else ()


def _all(rules: CleanRules) -> Iterator[Step]:
    if rules.tmp is not None:
        yield Step("tmp", "", rules.tmp)
    if rules.journal is not None:
        yield Step("journal", "", rules.journal)
    if rules.nix is not None:
        yield Step("nix", "", rules.nix)
    for path in rules.paths:
        yield Step("paths", path.path, path)
    if rules.docker is not None:
        yield from _of_engines(rules.docker)


def _of_engines(rule: DockerRule) -> Iterator[Step]:
    kinds = {"build-cache": rule.build_cache, "images": rule.images, "containers": rule.containers}
    for socket in rule.sockets:
        yield from (Step(kind, socket, rule) for kind, wanted in kinds.items() if wanted)


@dataclass(frozen=True, slots=True)
class File:
    """A regular file below a declared path.

    Attributes:
        path: relative to it, as os.fsdecode has it.
        size: bytes on the disk; of a file with several names, its share.
        changed: when it was changed or put there last: its mtime or ctime, whichever is later; of a journal
            when its last entry was written, its mtime.
        inode: its number.
    """

    path: str
    size: int
    changed: int
    inode: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Files that go, the oldest first, and what all the files that were seen come to."""

    files: tuple[File, ...]
    seen: int
    size: int

    @property
    def frees(self) -> int:
        """Bytes that go with them."""
        return sum(one.size for one in self.files)


def choose(files: Iterable[File], rule: PathRule, now: int, most: int = MOST) -> Chosen:
    """Return which files may go: none that is younger than the age, the oldest first, down to the floor.

    What is older goes before what is younger, so that what is left are the newest: at least `keep` of them,
    and at least `keep_size` bytes. The first that would break the floor is the end.
    """
    seen = size = 0
    latest = now - rule.older_than

    def old() -> Iterator[File]:
        nonlocal seen, size
        for file in files:
            seen, size = seen + 1, size + file.size
            if file.changed <= latest:
                yield file

    oldest = heapq.nsmallest(most, old(), key=lambda one: (one.changed, one.path))
    chosen, left, left_size = [], seen, size
    for file in oldest:
        left, left_size = left - 1, left_size - file.size
        if left < rule.keep or left_size < rule.keep_size:
            break
        chosen.append(file)
    return Chosen(tuple(chosen), seen, size)


_ARCHIVED = re.compile(
    r"[^@/]+@(?:[0-9a-f]{32}-(?P<number>[0-9a-f]{16})-(?P<time>[0-9a-f]{16})\.journal"
    r"|(?P<broken>[0-9a-f]{16})-[0-9a-f]{16}\.journal~)"
)


def is_archive(name: str) -> bool:
    """Tell whether a file is an archived journal, by its name, which journald makes."""
    return _ARCHIVED.fullmatch(name) is not None


def _age(one: File) -> tuple[int, int]:
    """Return what journald sorts by when it removes the oldest: the first entry, and the number of it."""
    found = _ARCHIVED.fullmatch(one.path)
    if found is None:
        return one.changed, 0
    began = int(found["time"] or found["broken"], 16)
    return min(began, one.changed), int(found["number"] or "0", 16)


def vacuum(archives: Iterable[File], rule: JournalRule, now: int) -> tuple[File, ...]:
    """Return which archived journal files may go, the oldest first, up to the first that has a young entry.

    That is not what journalctl has to offer: --vacuum-time= removes a file whose *first* entry is old, and
    one that was written for a month would go with all it holds; --vacuum-size= goes by the bytes that there
    are when it looks, and takes a young file for each that journald has archived since.
    """
    ordered = sorted((one for one in archives if is_archive(one.path)), key=_age)
    left = sum(one.size for one in ordered)
    chosen = []
    for one in ordered:
        left -= one.size
        if one.changed > now - rule.keep_time or left < rule.keep_size:
            break
        chosen.append(one)
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class Held:
    """An image, a container, or a part of the build cache.

    Attributes:
        id: its id.
        names: what it is called; of an image, all its tags.
        size: bytes that may go with it.
        since: since when it is not needed: pulled, built, stopped or used last.
        used: whether something needs it now.
        label: what it asks of the keeper, in `rota.keeper`.
    """

    id: str
    names: tuple[str, ...]
    size: int
    since: int
    used: bool = False
    label: str = ""


def unused(held: Iterable[Held], rule: DockerRule, now: int) -> tuple[Held, ...]:
    """Return images or containers that may go, the oldest first: unused for the age, and not to be kept."""
    found = [
        one
        for one in held
        if not one.used
        and one.since <= now - rule.older_than
        and one.label != "ignore"
        and not any(fnmatchcase(name, pattern) for name in one.names for pattern in rule.keep)
    ]
    return tuple(sorted(found, key=lambda one: (one.since, one.id)))


def cache_frees(held: Iterable[Held], rule: DockerRule, now: int) -> int:
    """Return about how many bytes pruning the build cache frees: Docker keeps `keep_cache` of it."""
    known = tuple(held)
    old = sum(one.size for one in known if not one.used and one.since <= now - rule.older_than)
    return max(min(old, sum(one.size for one in known) - rule.keep_cache), 0)


def whole_days(span: int) -> int:
    """Return an age for nix-collect-garbage, which takes days: never shorter than what was declared."""
    return max(-(-span // DAY), 1)


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation of a Nix profile: the profile, its number, when it was made, and whether it is in use."""

    profile: str
    number: int
    made: int
    current: bool = False


def old_generations(known: Iterable[Generation], rule: NixRule, now: int) -> tuple[Generation, ...]:
    """Return which generations nix-collect-garbage --delete-older-than removes: none that was in use since.

    That is, of each profile, all before the youngest that is as old as that, but not the current one.
    """
    since = now - whole_days(rule.older_than) * DAY
    old: dict[str, list[Generation]] = {}
    for one in sorted(known, key=lambda one: (one.profile, -one.number)):
        if one.made < since:
            old.setdefault(one.profile, []).append(one)
    return tuple(one for profile in old.values() for one in profile[1:] if not one.current)


def tmp_lines(paths: Iterable[str], older_than: int) -> str:
    """Return lines of tmpfiles.d(5) with an age of one's own, for systemd-tmpfiles --clean."""
    seconds = -(-older_than // 1_000_000)
    return "".join(f'e "{_quoted(path)}" - - - {seconds}s\n' for path in paths)


def _quoted(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
