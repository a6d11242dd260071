"""What a step has to offer, and doing it: journal files, systemd-tmpfiles, Nix, files of declared paths."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rota.clean_rules import JournalRule, NixRule, PathRule, TmpRule
from rota.errors import RotaError

from ..checks.words import clip, size, span
from .plan import (
    File,
    Generation,
    Need,
    choose,
    old_generations,
    tmp_lines,
    vacuum,
    whole_days,
)
from .tree import Tree, file_system, open_directory, size_of

JOURNALS = "/var/log/journal"
STORE = "/nix/store"
_DAEMON = Path("/nix/var/nix/daemon-socket/socket")
_PATH = ":".join(
    (
        "/run/current-system/sw/bin",
        "/nix/var/nix/profiles/default/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    )
)
_PATIENCE = 50 * 60
"""Seconds that a program may take; the unit ends a little later."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What steps are looked at for.

    Attributes:
        device: "major:minor" of the file system that is too full.
        need: how much is to go.
        now: microseconds since 1970.
    """

    device: str
    need: Need
    now: int


@dataclass(frozen=True, slots=True)
class Did:
    """What a step did, by its own account.

    Attributes:
        count: of what it removed; 0 where it does not say.
        size: bytes; None where it does not say, and only df tells.
        error: what went wrong, "" if nothing did.
    """

    count: int = 0
    size: int | None = None
    error: str = ""


Enough = Callable[[int], bool]
"""Told how many bytes went in this step so far, whether the disk is no longer too full."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a step would do.

    Attributes:
        what: in words.
        frees: bytes, about; None where it cannot be known before.
        count: of what; 0 where it cannot be known.
        names: some of what would go, the first.
        act: does it; raises RotaError or OSError.
    """

    what: str
    act: Callable[[Enough], Did]
    frees: int | None = None
    count: int = 0
    names: tuple[str, ...] = ()


NAMED = 10
"""So many names are told of what would go."""


class Nothing(RotaError):  # noqa: N818  (it is no error)
    """A step has nothing to offer here; why."""


def program(name: str) -> str:
    """Return the path of a program.

    Raises:
        Nothing: it is not there.
    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise Nothing(f"{name} is not installed")
    return found


def output(command: Sequence[str], text: str = "", **environment: str) -> str:
    """Run a program; return what it printed, errors too.

    Raises:
        RotaError: it failed.
    """
    words: Mapping[str, str] = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **environment}
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            env=dict(words),
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise RotaError(f"{name} took longer than {span(_PATIENCE * 1_000_000)}") from None
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or [f"status {done.returncode}"]
        raise RotaError(f"{name} failed: {clip(lines[-1], 200)}")
    return done.stdout


def is_on(path: str, device: str) -> bool:
    """Tell whether a directory is on a file system; one that is not there is on none."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return file_system(opened) == device
    finally:
        os.close(opened)


def _elsewhere(what: str) -> Nothing:
    return Nothing(f"{what} is not on this file system")


# --- journal ---


def journal(rule: JournalRule, scene: Scene) -> Offer:
    """Return what vacuuming this machine's journal offers; raises Nothing."""
    machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    directory = f"{JOURNALS}/{machine}"
    if not is_on(directory, scene.device):
        raise _elsewhere(f"{directory}, the journal,")
    with Tree(directory, content=True) as tree:
        chosen = vacuum(tree.files(), rule, scene.now)
    if not chosen:
        raise Nothing(
            f"no archived journal file is older than {span(rule.keep_time)} beyond the "
            f"{size(rule.keep_size)} that are kept"
        )
    what = f"archived journal files whose last entry is older than {span(rule.keep_time)}"
    return _removal(what, directory, chosen, scene.now - rule.keep_time, scene, content=True)


def _removal(
    what: str,
    directory: str,
    chosen: tuple[File, ...],
    latest: int,
    scene: Scene,
    *,
    content: bool = False,
) -> Offer:
    """Return the removal of files below a directory, which was looked at before, by the same times."""

    def act(enough: Enough) -> Did:
        with Tree(directory, content=content) as tree:
            if file_system(tree.descriptor) != scene.device:
                raise _elsewhere(directory)
            done = tree.remove(iter(chosen), latest, enough)
        error = f"{done.errors} files could not be removed: {clip(done.error, 200)}" if done.errors else ""
        return Did(done.count, done.size, error)

    names = tuple(f"{directory}/{file.path}" for file in chosen[:NAMED])
    return Offer(what, act, sum(file.size for file in chosen), len(chosen), names)


# --- temporary files ---

_WOULD = re.compile(r'Would (?:remove|unlink) (?:file |directory )?"?(/.*?)"?\.?$', re.MULTILINE)


def tmp(rule: TmpRule, scene: Scene, *, preview: bool = False) -> Offer:
    """Return what systemd-tmpfiles --clean offers; raises Nothing.

    With an age of our own, lines are put before all others, so that what else tmpfiles.d(5) says of these
    directories, above all what to keep, still holds. It takes symlinks that are on the way to a directory,
    but not one in its place.
    """
    paths, unsafe = _lasting(rule.paths, scene.device)
    if not paths:
        raise RotaError(unsafe[0]) if unsafe else _elsewhere(" nor ".join(rule.paths))
    command = [program("systemd-tmpfiles"), "--clean", *(f"--prefix={path}" for path in paths)]
    lines = ""
    if rule.older_than is not None:
        command += ["--replace=/etc/tmpfiles.d/00-rota-clean.conf", "-"]
        lines = tmp_lines(paths, rule.older_than)

    def act(_: Enough) -> Did:
        output(command, lines)
        return Did()

    age = span(rule.older_than) if rule.older_than is not None else "what tmpfiles.d says"
    left = f"; left out: {clip('; '.join(unsafe), 200)}" if unsafe else ""
    what = f"systemd-tmpfiles --clean: {' and '.join(paths)}, older than {age}{left}"
    if not preview:
        return Offer(what, act)
    try:
        said = output([command[0], "--dry-run", *command[1:]], lines)
    except RotaError:  # systemd before 256 has no --dry-run
        return Offer(what, act)
    names = tuple(dict.fromkeys(_WOULD.findall(said)))
    frees = sum(_lsize(name) for name in names)
    return Offer(what, act, frees, len(names), names[:NAMED])


def _lasting(paths: Iterable[str], device: str) -> tuple[list[str], list[str]]:
    """Return which directories of a file system nobody can lead elsewhere, and why others are none."""
    found, unsafe = [], []
    for path in filter(os.path.lexists, paths):
        try:
            opened = open_directory(path, lasting=True)
        except RotaError as error:
            unsafe.append(error.message)
            continue
        try:
            found += [path] if file_system(opened) == device else []
        finally:
            os.close(opened)
    return found, unsafe


def _lsize(path: str) -> int:
    try:
        return size_of(os.lstat(path))
    except OSError:
        return 0


# --- Nix ---

_FREED = re.compile(r"([0-9]+) store paths deleted, ([0-9.]+) (B|[KMGT]iB) freed")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_PROFILES = Path("/nix/var/nix/profiles")
_GENERATION = re.compile(r"(.+)-([0-9]+)-link")
_MANY = 5000


def parse_freed(text: str) -> tuple[int, int] | None:
    """Return how many store paths nix-collect-garbage removed, and their bytes; None if it does not say."""
    found = _FREED.search(text)
    return (int(found[1]), int(float(found[2]) * _UNITS[found[3]])) if found else None


def nix_command(rule: NixRule, need: Need) -> list[str]:
    """Return the arguments of nix-collect-garbage; with bytes to free it stops at so many."""
    command = ["--delete-older-than", f"{whole_days(rule.older_than)}d"]
    return [*command, "--max-freed", str(need.size)] if need.size and not need.inodes else command


def nix(rule: NixRule, scene: Scene, *, preview: bool = False) -> Offer:
    """Return what nix-collect-garbage offers; raises Nothing.

    The store is nix-daemon's business where there is one: it has it writable, and this need not.
    """
    if not is_on(STORE, scene.device):
        raise _elsewhere(STORE)
    name = program("nix-collect-garbage")
    remote = {"NIX_REMOTE": "daemon"} if _DAEMON.exists() else {}
    arguments = nix_command(rule, scene.need)

    def act(_: Enough) -> Did:
        freed = parse_freed(output([name, *arguments], **remote))
        return Did(*freed) if freed else Did()

    what = f"nix-collect-garbage {' '.join(arguments)}"
    if not preview:
        return Offer(what, act)
    # --dry-run is silent of profiles that it may not write to.
    forgets = len(old_generations(generations(_PROFILES), rule, scene.now))
    printed = output([program("nix-store"), "--gc", "--print-dead"], **remote)
    dead = [line for line in printed.splitlines() if line.startswith(f"{STORE}/")]
    frees = sum(map(_weight, dead)) if len(dead) <= _MANY else None
    more = f", and what {forgets} old generations hold" if forgets else ""
    return Offer(f"{what}: {len(dead)} paths that nothing needs{more}", act, frees, len(dead))


def generations(top: Path) -> list[Generation]:
    """Return the generations of all profiles below a directory."""
    found = []
    for folder, folders, others in os.walk(top):
        for name in (*folders, *others):
            if link := _GENERATION.fullmatch(name):
                path, profile = Path(folder, name), Path(folder, link[1])
                with suppress(OSError):
                    current = os.path.lexists(profile) and profile.readlink().name == name
                    made = path.lstat().st_mtime_ns // 1000
                    found.append(Generation(str(profile), int(link[2]), made, current))
    return found


def _weight(path: str) -> int:
    try:
        with Tree(path) as tree:
            return sum(file.size for file in tree.files())
    except RotaError:
        return _lsize(path)


# --- declared paths ---


def files(rule: PathRule, scene: Scene) -> Offer:
    """Return what the files of a declared path offer; raises Nothing, or RotaError where it is not there."""
    opened = open_directory(rule.path)
    try:
        here = file_system(opened) == scene.device
    finally:
        os.close(opened)
    if not here:
        raise _elsewhere(rule.path)
    with Tree(rule.path) as tree:
        chosen = choose(tree.files(), rule, scene.now)
        skipped = tree.skipped
    if not chosen.files:
        told = f"no file below {rule.path} is older than {span(rule.older_than)} beyond the floor"
        raise Nothing(f"{told}; {chosen.seen} files, {size(chosen.size)}")

    more = f"; {clip(f'not looked at: {skipped[0]}')}" if skipped else ""
    what = f"files below {rule.path}, older than {span(rule.older_than)}{more}"
    return _removal(what, rule.path, chosen.files, scene.now - rule.older_than, scene)
