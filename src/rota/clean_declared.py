"""What was declared to be cleaned, as rota-clean reads it: rules between keys, and paths that never are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

from rota import watches
from rota.clean_rules import (
    CleanRules,
    CommandRule,
    DockerRule,
    JournalRule,
    NixRule,
    PathRule,
    TmpRule,
)
from rota.cleaning import (
    Cleaning,
    DockerClean,
    JournalClean,
    KeeperCommand,
    NixClean,
    PathClean,
    TmpClean,
)
from rota.quantity import INFINITY, USEC, parse_duration, parse_size
from rota.rules import Breach, program

_HOUR, _DAY = 3600 * USEC, 86_400 * USEC

TREES = (
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/dpkg",
    "/var/lib/nixos",
    "/var/lib/pacman",
    "/var/lib/private",
    "/var/lib/rota",
    "/var/lib/rota-agents",
    "/var/lib/rota-home-keeper",
    "/var/lib/rota-keeper",
    "/var/lib/rota-notify",
    "/var/lib/rpm",
    "/var/lib/systemd",
    "/var/log/journal",
    "/var/run",
)
"""Never cleaned as declared paths: neither these, nor what is in them, nor what holds them."""
ROOTS = re.compile(
    r"/home|/home/[^/]+|/root|/media|/mnt|/opt|/srv|/var/backups|/var/cache|/var/lib/[^/]+|/var/mail|/var/spool|"
    r"/var/spool/[^/]+|/var/log|/tmp|/var/tmp"
)
"""Never cleaned as a whole, while a directory in them may be."""
KEYS = re.compile(r"(?:/home/[^/]+|/root)/(?:\.ssh|\.gnupg|\.config|\.local|\.password-store)(?:/.*)?")
"""Never cleaned: what people cannot make again. A cache below .local is declared by its own path."""
_NOT_KEYS = re.compile(r"(?:/home/[^/]+|/root)/\.local/share/(?:Trash|[^/]+/[Cc]ache)(?:/.*)?")

_OWNED = {
    "Type": "rota's own",
    "ExecStart": "write command instead",
    "TimeoutStartSec": "write timeout instead",
    "RemainAfterExit": "it would never run again",
    "Restart": "the policy says how often it is run",
    "User": "write user instead",
    "DynamicUser": "write user instead",
    "Environment": "write environment instead",
    "ReadWritePaths": "write writable instead",
}

T = TypeVar("T")


def _below(path: str, top: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{top.rstrip('/')}/")


def forbidden(path: str) -> str:
    """Return why the files below a path must never be cleaned, "" if they may."""
    for tree in TREES:
        if _below(path, tree):
            return f"must never be cleaned: {tree} is the system's" + (
                " or rota's own" if "rota" in tree else ""
            )
        if _below(tree, path):
            return f"must never be cleaned: it holds {tree}; name a directory in it"
    if path in ("/tmp", "/var/tmp"):  # noqa: S108
        return "is cleaned by systemd-tmpfiles, which knows what has to stay; write it into clean.tmp"
    if ROOTS.fullmatch(path):
        return "must never be cleaned as a whole; name a directory in it"
    if KEYS.fullmatch(path) and not _NOT_KEYS.fullmatch(path):
        return "must never be cleaned: nobody can make again what is in there"
    return ""


def _age(key: str, text: str, least: int) -> Iterator[Breach]:
    span = parse_duration(text)
    if span >= INFINITY:
        yield Breach(key, "must have an end; leave the table out for what is not to be cleaned", text)
    elif span < least:
        yield Breach(key, f"must be at least {watches.seconds(least / USEC)}", text)


def _ages(cleaning: Cleaning) -> Iterator[Breach]:
    clean = cleaning.clean
    if isinstance(clean.journal, JournalClean):
        yield from _age("clean.journal.keep_time", clean.journal.keep_time, _HOUR)
    for name in ("docker", "nix"):
        declared = getattr(clean, name)
        if not isinstance(declared, bool):
            yield from _age(f"clean.{name}.older_than", declared.older_than, _DAY)
    if isinstance(clean.tmp, TmpClean) and clean.tmp.older_than is not None:
        yield from _age("clean.tmp.older_than", clean.tmp.older_than, _HOUR)


_TMP_ROOTS = ("/tmp", "/var/tmp")  # noqa: S108


def _tmp(declared: TmpClean) -> Iterator[Breach]:
    for index, path in enumerate(declared.paths):
        if not any(_below(path, top) for top in _TMP_ROOTS):
            told = "must be /tmp, /var/tmp or below; write other directories into clean.paths"
            yield Breach(f"clean.tmp.paths[{index}]", told, path)


def _path(key: str, one: PathClean) -> Iterator[Breach]:
    if why := forbidden(one.path):
        yield Breach(f"{key}.path", why, one.path)
    yield from _age(f"{key}.older_than", one.older_than, _HOUR)
    if one.keep is None and one.keep_size is None:
        yield Breach(
            key, 'needs a floor: write keep = 10 (files) or keep_size = "5G"; keep = 0 if all may go'
        )


def _paths(declared: tuple[PathClean, ...]) -> Iterator[Breach]:
    for index, one in enumerate(declared):
        key = f"clean.paths[{index}]"
        yield from _path(key, one)
        for other in declared[:index]:
            if _below(one.path, other.path) or _below(other.path, one.path):
                told = f"and {other.path} hold the same files, so that neither floor would count; keep one"
                yield Breach(f"{key}.path", told, one.path)


def _command(key: str, one: KeeperCommand) -> Iterator[Breach]:
    for found in program(list(one.command)):
        yield Breach(f"{key}.{found.key}", found.message, found.value)
    yield from _age(f"{key}.timeout", one.timeout, USEC)
    for name in one.unit:
        if name in _OWNED:
            yield Breach(f"{key}.unit.{name}", f"is not yours to set: {_OWNED[name]}")


def breaches(declared: Cleaning) -> Iterator[Breach]:
    """Yield every rule between keys that is broken; keys are those below [keeper]."""
    yield from _ages(declared)
    if isinstance(declared.clean.tmp, TmpClean):
        yield from _tmp(declared.clean.tmp)
    yield from _paths(declared.clean.paths)
    for name, command in declared.commands.items():
        yield from _command(f"commands.{name}", command)


def _given(declared: T | bool, default: T) -> T | None:
    """Return what was declared, the default where it is true, None where it is false."""
    if isinstance(declared, bool):
        return default if declared else None
    return declared


def _docker(declared: DockerClean) -> DockerRule:
    return DockerRule(
        sockets=declared.sockets,
        older_than=parse_duration(declared.older_than),
        build_cache=declared.build_cache,
        keep_cache=parse_size(declared.keep_cache),
        images=declared.images,
        containers=declared.containers,
        keep=declared.keep,
    )


def _path_rule(one: PathClean) -> PathRule:
    return PathRule(
        one.path,
        parse_duration(one.older_than),
        one.keep or 0,
        parse_size(one.keep_size) if one.keep_size is not None else 0,
    )


def resolve(declared: Cleaning, watched: watches.Watches) -> CleanRules:
    """Return what rota-clean reads.

    Args:
        declared: must break no rule, see `breaches`.
        watched: says which disks are watched, and when one is full.
    """
    clean = declared.clean
    journal = _given(clean.journal, JournalClean())
    docker = _given(clean.docker, DockerClean())
    nix = _given(clean.nix, NixClean())
    tmp = _given(clean.tmp, TmpClean())
    made: dict[str, Any] = {}
    if journal is not None:
        made["journal"] = JournalRule(parse_duration(journal.keep_time), parse_size(journal.keep_size))
    if docker is not None:
        made["docker"] = _docker(docker)
    if nix is not None:
        made["nix"] = NixRule(parse_duration(nix.older_than))
    if tmp is not None:
        made["tmp"] = TmpRule(
            tmp.paths, parse_duration(tmp.older_than) if tmp.older_than is not None else None
        )
    return CleanRules(
        disk=watched.disk, disks=watched.disks, paths=tuple(map(_path_rule, clean.paths)), **made
    )


def resolve_commands(declared: Cleaning) -> dict[str, CommandRule]:
    """Return the commands as the keeper has to know them, by name."""
    return {name: CommandRule(parse_duration(one.timeout)) for name, one in sorted(declared.commands.items())}
