"""What Home Keeper may clean, resolved: frozen dataclasses, to JSON and back by `frozen`, without pydantic.

Made by `clean_declared` from what a person declared; rota-clean reads it, as root. Spans are microseconds,
sizes bytes. Each rule has its floor: what is kept however full the disk is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from rota.frozen import from_plain, to_plain
from rota.watches import Disk

CREDENTIAL = "rules"
"""Name of the credential in which rota-clean is handed its rules."""
CLEAN_UNIT = "rota-clean@{}.service"
PREVIEW_UNIT = "rota-clean-preview@{}.service"
COMMAND_UNIT = "rota-command@{}.service"
"""Units; no agent can have such a name, so that rotad takes none of them for an agent's."""


@dataclass(frozen=True, slots=True)
class JournalRule:
    """Archived journal files.

    Attributes:
        keep_time: a file whose last entry is younger is kept.
        keep_size: so many bytes of archived files are kept.
    """

    keep_time: int
    keep_size: int


@dataclass(frozen=True, slots=True)
class DockerRule:
    """What Docker or Podman keeps and nothing uses; volumes never.

    Attributes:
        sockets: paths of the API's sockets.
        older_than: not used, not stopped, not pulled since.
        build_cache: whether that goes.
        keep_cache: so many bytes of it are kept.
        images: whether those go that no container has, running or not.
        containers: whether stopped ones go, with what they have written.
        keep: patterns of names of images and containers that stay.
    """

    sockets: tuple[str, ...]
    older_than: int
    build_cache: bool = True
    keep_cache: int = 0
    images: bool = True
    containers: bool = False
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NixRule:
    """Store paths that nothing needs, and generations older than this but for the one then in use."""

    older_than: int


@dataclass(frozen=True, slots=True)
class TmpRule:
    """Temporary files, by systemd-tmpfiles(8).

    Attributes:
        paths: directories, those below them too.
        older_than: instead of the age that tmpfiles.d(5) says; None: that.
    """

    paths: tuple[str, ...]
    older_than: int | None = None


@dataclass(frozen=True, slots=True)
class PathRule:
    """Files below a directory.

    Attributes:
        path: the directory, which itself stays, as all directories do.
        older_than: files neither changed nor put there since (mtime, ctime) may go, the oldest first.
        keep: so many files are left, the newest.
        keep_size: so many bytes of files are left, the newest.
    """

    path: str
    older_than: int
    keep: int = 0
    keep_size: int = 0


@dataclass(frozen=True, slots=True)
class CleanRules:
    """All of it.

    Attributes:
        disk: how disks are watched that are not in `disks`, which says when one is clean enough; None: they
            are not, nor cleaned.
        disks: by mount point; None: neither watched nor cleaned.
        journal, docker, nix, tmp: None: is left alone.
        paths: those that were declared.
    """

    disk: Disk | None = None
    disks: Mapping[str, Disk | None] = field(default_factory=dict)
    journal: JournalRule | None = None
    docker: DockerRule | None = None
    nix: NixRule | None = None
    tmp: TmpRule | None = None
    paths: tuple[PathRule, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandRule:
    """A declared command, as the keeper has to know it: how long systemd lets it run."""

    timeout: int


def to_json(rules: CleanRules) -> str:
    """Return rules as one line of JSON."""
    return json.dumps(to_plain(rules), sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> CleanRules:
    """Return what `to_json` wrote.

    Raises:
        ValueError: it is something else.
    """
    return from_plain(CleanRules, json.loads(text))
