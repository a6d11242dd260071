"""What a person declares of cleaning disks, and of commands that Home Keeper may run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr

from rota.record import (
    AbsolutePath,
    AgentName,
    Argument,
    Duration,
    Line,
    Network,
    Record,
    Size,
    UnitKey,
    UnitValue,
    UserName,
    VariableName,
    key,
)


def _amount(text: str) -> str:
    if text.endswith("%"):
        raise ValueError('must be a size such as "512M", not a share')
    return text


def _directory(text: str) -> str:
    return text.rstrip("/") or "/"


def _socket(text: str) -> str:
    if re.search(r"""[\s:'"\\%]""", text):
        raise ValueError("must not contain blanks, colons, quotes, percent signs or backslashes")
    return text


Amount = Annotated[Size, AfterValidator(_amount)]
Directory = Annotated[AbsolutePath, AfterValidator(_directory)]
Socket = Annotated[AbsolutePath, AfterValidator(_socket)]
Name = Annotated[StrictStr, Field(pattern=r"^\S+$")]


class JournalClean(Record):
    """Archived journal files that are older than keep_time, down to keep_size."""

    keep_time: Duration = key("14d", "Entries that are younger are kept.", "30d")
    keep_size: Amount = key("256M", "So much of archived files is kept, whatever its age.", "1G")


class DockerClean(Record):
    """What Docker or Podman keeps, and nothing has used for an age. Volumes are never touched."""

    sockets: tuple[Socket, ...] = key(
        ("/run/docker.sock",),
        "Sockets of the API; root's own, not that of the keeper's proxy.",
        ["/run/podman/podman.sock"],
        min_length=1,
    )
    older_than: Duration = key("30d", "Unused, stopped and not pulled for so long.", "14d")
    build_cache: StrictBool = key(True, "false: the build cache is left alone.", False)
    keep_cache: Amount = key("2G", "So much of the build cache is kept.", "10G")
    images: StrictBool = key(True, "false: images that no container has are left alone.", False)
    containers: StrictBool = key(
        False, "true: stopped containers go, too, and with them what they have written.", True
    )
    keep: tuple[Name, ...] = key(
        (), "Names of images and containers that stay, with * and ?.", ["registry.home/*"]
    )


class NixClean(Record):
    """nix-collect-garbage: what no generation needs, and generations of an age."""

    older_than: Duration = key("30d", "Whole days; the generation of that day stays, to go back to.", "14d")


class TmpClean(Record):
    """Temporary files, by systemd-tmpfiles and all that tmpfiles.d(5) excludes."""

    paths: tuple[Directory, ...] = key(
        ("/tmp", "/var/tmp"),  # noqa: S108  (names, nothing is written there)
        "Directories; rules of tmpfiles.d for what is below them count, too.",
        ["/var/tmp"],  # noqa: S108
        min_length=1,
    )
    older_than: Duration | None = key(
        None, "Age in these directories themselves; as tmpfiles.d says by default.", "3d"
    )


class PathClean(Record):
    """Files below a directory. It needs a floor: keep, keep_size or both."""

    path: Directory = Field(
        description="The directory; only files below it go, directories stay.",
        examples=["/srv/camera"],
    )
    older_than: Duration = Field(
        description="Files that were not changed for so long, the oldest first.", examples=["30d"]
    )
    keep: StrictInt | None = key(
        None, "So many files are left, the newest; 0: none need be.", 10, ge=0, le=1_000_000_000
    )
    keep_size: Amount | None = key(None, "So much is left, the newest.", "5G")


class Clean(Record):
    """What is cleaned on a disk that is too full, cheapest and least harmful first, until it is not."""

    journal: JournalClean | StrictBool = key(
        True, "Archived journal files; true: the defaults, false: left alone.", {"keep_time": "30d"}
    )
    docker: DockerClean | StrictBool = key(
        False, "Docker's or Podman's unused images and build cache; true: the defaults.", True
    )
    nix: NixClean | StrictBool = key(
        False, "Nix's store and old generations; true: the defaults.", {"older_than": "14d"}
    )
    tmp: TmpClean | StrictBool = key(
        True, "Temporary files; true: as tmpfiles.d says, false: left alone.", {"older_than": "3d"}
    )
    paths: tuple[PathClean, ...] = key(
        (),
        "Files of your own that may go by age.",
        [{"path": "/srv/camera", "older_than": "30d", "keep_size": "5G"}],
    )


class KeeperCommand(Record):
    """A command that Home Keeper may run: remedy = "command:NAME". Sandboxed as an agent is."""

    command: tuple[Argument, ...] = Field(
        description="Program and arguments; no shell is involved. It is not told of what the matter is.",
        examples=[["/usr/local/bin/renew-lease"]],
    )
    description: Line = key("", "One line for people.", "Renew the lease")
    timeout: Duration = key("5min", "It is stopped after this.", "30s")
    user: UserName | None = key(
        None,
        "Run as this existing user instead of one that lives as long as the run; root must be said.",
        "root",
    )
    environment: Mapping[VariableName, Argument] = key(
        {}, "Environment variables; not for secrets, the unit is world-readable.", {"LANG": "C.UTF-8"}
    )
    network: StrictBool | tuple[Network, ...] = key(
        False, "As an agent's sandbox.network: false, true or a list of addresses.", True
    )
    writable: tuple[AbsolutePath, ...] = key((), "Paths that it may write to.", ["/srv/state"])
    unit: Mapping[UnitKey, UnitValue] = key(
        {},
        "Any key of the [Service] section as the way out; replaces what rota would write.",
        {"SupplementaryGroups": "video"},
    )


class Cleaning(Record):
    """The keys of [keeper] that say what may be cleaned, and which commands there are."""

    clean: Clean = key(Clean(), "What is cleaned on a disk that is too full.", {"nix": True})
    commands: Mapping[AgentName, KeeperCommand] = key(
        {},
        "Commands by name, for remedy.",
        {"renew-lease": {"command": ["/usr/local/bin/renew-lease"], "user": "root"}},
    )
