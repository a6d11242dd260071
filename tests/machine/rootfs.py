"""The file system that test machines share: Debian trixie, made once by mmdebstrap and kept in .cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache"
HOSTNAME = "rota-test"
SUITE = "trixie"
PACKAGES = (
    # the machine
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libnss-systemd",
    "libpam-systemd",
    "polkitd",
    "procps",
    "iproute2",
    "tzdata",
    # to make journals with (tests/bench)
    "systemd-journal-remote",
    # to read the NixOS module with (tests/nix)
    "nix-bin",
    # to ask for metrics with
    "curl",
    # another machine, as the Home Keeper looks at them
    "openssh-server",
    "python3-asyncssh",
    # what rota needs, and to install it
    "apprise",
    "make",
    "python3",
    "python3-dbus-next",
    "python3-docker",
    "python3-h11",
    "python3-prometheus-client",
    "python3-pydantic",
    "python3-rich",
    "python3-systemd",
)
UNINSTALLED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "ssh.service",
    "ssh.socket",
    "sshd-keygen.service",
    "systemd-pstore.service",
    "systemd-update-utmp.service",
)
CUSTOMISE = f"""set -eu
cd "$1"
for unit in {" ".join(MASKED)}; do ln -sf /dev/null "etc/systemd/system/$unit"; done
echo {HOSTNAME} >etc/hostname
echo '127.0.0.1 localhost {HOSTNAME}' >etc/hosts
echo LANG=C.UTF-8 >etc/locale.conf
: >etc/machine-id
rm -f var/lib/dbus/machine-id
mkdir -p var/log/journal
for user in alice bob; do chroot . useradd --create-home --shell /bin/bash "$user"; done
# nothing to bring up to date at boot
touch etc/.updated var/.updated
"""
RELEASES = {"bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"}


class MachineError(Exception):
    """A test machine could not be built, started or used: what happened, where, and what to do."""


def say(text: str) -> None:
    """Tell the person what takes time."""
    print(f"machine: {text}", file=sys.stderr, flush=True)


def rootfs_path() -> Path:
    """Return where the root file system of this recipe is kept, built or not."""
    recipe = "\n".join((SUITE, *PACKAGES, *UNINSTALLED, CUSTOMISE, os.uname().machine))
    return CACHE / f"rootfs-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def ensure_rootfs() -> Path:
    """Return the root file system, building it first when this recipe was never built here."""
    path = rootfs_path()
    if path.is_dir():
        return path
    CACHE.mkdir(exist_ok=True)
    with locked(CACHE / "rootfs.lock"):
        if not path.is_dir():
            for leftover in CACHE.glob("rootfs-*.building"):
                remove_tree(leftover)
            build(path)
    return path


def build(path: Path) -> None:
    """Build the root file system beside `path`, and rename it once it is whole."""
    mirror = debian_mirror()
    building = path.with_suffix(".building")
    log = path.with_suffix(".log")
    say(f"building Debian {SUITE} in {display(path)}: about 30 s, once (log: {display(log)})")
    started = time.monotonic()
    command = [
        # mmdebstrap's mounts end with it, whatever happens to it or to us
        *("setpriv", "--pdeathsig", "TERM", "unshare", "--mount"),
        *("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNINSTALLED),
        *(f"--customize-hook={CUSTOMISE}", SUITE, str(building), mirror),
    ]
    with log.open("wb") as output:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if status.returncode:
        remove_tree(building)
        raise MachineError(
            f"mmdebstrap could not build Debian {SUITE} from {mirror} (exit status {status.returncode}).\n"
            f"{tail(log)}\n"
            "Check that the mirror answers; another one can be named with ROTA_MIRROR=URL."
        )
    building.rename(path)
    say(f"built in {time.monotonic() - started:.0f} s")


def debian_mirror() -> str:
    """Return the Debian mirror this host uses, from ROTA_MIRROR or its apt sources."""
    chosen = os.environ.get("ROTA_MIRROR")
    if chosen:
        return chosen
    for text in apt_sources(Path("/etc/apt")):
        for uri, suites, components in parse_sources(text):
            if "main" in components and RELEASES.intersection(suites):
                return uri
    raise MachineError(
        "no Debian mirror found in /etc/apt/sources.list, sources.list.d/*.list or *.sources; "
        "name one with ROTA_MIRROR=URL, for example a line of https://www.debian.org/mirror/list."
    )


def apt_sources(apt: Path) -> Iterator[str]:
    """Yield the text of each apt sources file, the main one first."""
    directory = apt / "sources.list.d"
    for path in (
        apt / "sources.list",
        *sorted(directory.glob("*.sources")),
        *sorted(directory.glob("*.list")),
    ):
        if path.is_file():
            yield path.read_text(encoding="utf-8", errors="replace")


def parse_sources(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield (URI, suites, components) of each binary source in either of apt's two forms."""
    for line in text.splitlines():
        one = re.match(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)", line.partition("#")[0].strip())
        if one:
            yield one[1], [one[2]], one[3].split()
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", uncommented):
        fields = {
            match[1].lower(): match[2].split()
            for match in re.finditer(r"^([\w-]+):((?:.*)(?:\n[ \t]+.*)*)", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[0].lower() != "no":
            for uri in fields.get("uris", []):
                yield uri, fields.get("suites", []), fields.get("components", [])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, waiting for whoever has it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it, but nothing that is mounted there."""
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(path)], check=True)


def tail(path: Path, lines: int = 20) -> str:
    """Return the last lines of a log, "(empty log)" if there are none."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return "\n".join(text.splitlines()[-lines:]) or "(empty log)"


def display(path: Path) -> str:
    """Return a path as a person in the checkout would write it."""
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)


def missing_tools(*tools: str) -> list[str]:
    """Return those of the named programs that are not on PATH."""
    return [tool for tool in tools if shutil.which(tool) is None]
