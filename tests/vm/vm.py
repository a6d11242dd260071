"""A whole virtual machine with every control group controller: slow, for what a container cannot show.

The disk is the test machines' root file system with rota and the scripts of this directory (guest*.py), kept
in .cache by a hash of what went into it. One of them runs at each boot and reports on the serial console:
lines with SAYS are its own, the last a verdict as JSON, or AGAIN to be booted once more. What it writes is
gone in the end. There is no network.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from tests.machine.install import NEEDED, SOURCES
from tests.machine.rootfs import (
    CACHE,
    CHECKOUT,
    HOSTNAME,
    SUITE,
    MachineError,
    debian_mirror,
    display,
    ensure_rootfs,
    locked,
    missing_tools,
    rootfs_path,
    say,
    tail,
)

KERNEL = "linux-image-cloud-amd64"
QEMU = "qemu-system-x86_64"
SAYS = "rota-vm: "
VERDICT = "verdict "
AGAIN = "again"

UNIT = """[Unit]
Description=The script of a test
After=multi-user.target rotad.service
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=exec
WorkingDirectory=/usr/local/lib/vm
ExecStart=/usr/bin/python3 -m tests.vm.${ROTA_GUEST}
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
"""

# $1 root file system, $2 checkout, $3 what to copy from it, $4 where to, $5 scripts, $6 image, $7 its size
BUILD = f"""set -eu
work=$(mktemp -d)
trap 'cd /; umount -l "$work"; rmdir "$work"' EXIT
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
cd "$(dirname "$1")"
mount -t overlay -o "lowerdir=$(basename "$1"),upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
root=$work/root
mkdir -p "$root$4"
tar -C "$2" --exclude=__pycache__ --owner=0 --group=0 -c -- $3 | tar -C "$root$4" -x
chroot "$root" make --silent -C "$4" install PREFIX=/usr
chroot "$root" systemd-sysusers
chroot "$root" systemctl enable --quiet rotad.service
mkdir -p "$root/usr/local/lib/vm"
tar -C "$2" --owner=0 --group=0 -c -- $5 | tar -C "$root/usr/local/lib/vm" -x
cat >"$root/etc/systemd/system/vm-script.service" <<'UNIT'
{UNIT}UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../vm-script.service "$root/etc/systemd/system/default.target.wants/"
mke2fs -q -t ext4 -L {HOSTNAME} -d "$root" "$6" "$7"
"""

COMMAND_LINE = (
    *("root=/dev/nvme0n1", "rw", "console=ttyS0", "panic=-1", "quiet", "net.ifnames=0"),
    # what a processor emulated beside others needs to come up
    *("tsc=reliable", "no_timer_check", "random.trust_cpu=on"),
    *("systemd.mask=serial-getty@ttyS0.service", "systemd.mask=systemd-modules-load.service"),
)


def missing() -> str | None:
    """Return why no virtual machine can be run on this host, or None if one can."""
    if os.geteuid() != 0:
        return "not root: making the disk of a virtual machine needs it (run the same as root)"
    if os.uname().machine != "x86_64":
        return f"the virtual machine is made for x86_64 only, this is {os.uname().machine}"
    packages = {QEMU: "qemu-system-x86", "mke2fs": "e2fsprogs", "mmdebstrap": "mmdebstrap"}
    tools = missing_tools(*packages)
    if tools:
        wanted = " ".join(packages[tool] for tool in tools)
        return f"{', '.join(tools)} not installed (apt-get install --no-install-recommends {wanted})"
    return None


def run(guest: str, timeout: float = 1200) -> dict[str, Any]:
    """Boot a machine of its own, run a script in it, and return the verdict; one at a time in a checkout.

    Args:
        guest: the script, a module of this package.
        timeout: seconds until it must have given its verdict.

    Raises:
        MachineError: there is no verdict in time.
    """
    reason = missing()
    if reason:
        raise MachineError(f"cannot run a virtual machine: {reason}")
    CACHE.mkdir(exist_ok=True)
    with locked(CACHE / "vm-run.lock"):
        return run_alone(guest, timeout)


def part(verdict: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return what was found in one part of a verdict; fail with the error that ended it."""
    found = verdict
    for name in names:
        assert "error" not in found, found["error"]
        found = found[name]
    assert "error" not in found, found["error"]
    return found


def run_alone(guest: str, timeout: float) -> dict[str, Any]:
    """Do what `run` does, with the console and the processors for itself."""
    kernel, image = ensure_kernel(), ensure_image()
    console = CACHE / "vm-console.log"
    say(f"running {guest} in a virtual machine: some minutes (console: {display(console)})")
    started = time.monotonic()
    # a file without a name: nothing is left of it, however we end
    with tempfile.TemporaryFile() as disk, console.open("wb") as output:
        own = f"/proc/self/fd/{disk.fileno()}"
        subprocess.run(["cp", "--sparse=always", image, own], pass_fds=[disk.fileno()], check=True)
        said = AGAIN
        while said == AGAIN:
            boot(qemu(kernel, disk.fileno(), guest), disk.fileno(), output, started + timeout)
            said = (["", *said_in(console)])[-1]
    if not said.startswith(VERDICT):
        raise MachineError(f"the script gave no verdict:\n{tail(console, 40)}")
    say(f"verdict after {time.monotonic() - started:.0f} s")
    verdict: dict[str, Any] = json.loads(said.removeprefix(VERDICT))
    return verdict


def boot(command: list[str], disk: int, console: BinaryIO, deadline: float) -> None:
    """Run a machine until it powers off, or would start anew."""
    try:
        subprocess.run(
            # it ends with us, whatever happens to us
            ["setpriv", "--pdeathsig", "KILL", *command],
            pass_fds=[disk],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            timeout=deadline - time.monotonic(),
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise MachineError(f"no verdict in time:\n{tail(Path(console.name))}") from None
    except subprocess.CalledProcessError as error:
        raise MachineError(f"qemu exited with {error.returncode}:\n{tail(Path(console.name))}") from None


def said_in(console: Path) -> Iterator[str]:
    """Yield what the script said on the console."""
    for line in console.read_text(encoding="utf-8", errors="replace").splitlines():
        # the kernel or systemd may have left a line unfinished
        _, found, text = line.partition(SAYS)
        if found:
            yield text


def qemu(kernel: Path, disk: int, guest: str) -> list[str]:
    """Return the command that boots a machine for a script, from a disk that is open as a file descriptor."""
    command_line = " ".join((*COMMAND_LINE, f"systemd.setenv=ROTA_GUEST={guest}"))
    return [
        *(QEMU, "-accel", "tcg,thread=multi", "-cpu", "max,cx16=off", "-smp", "2", "-m", "1024"),
        *("-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"),
        *("-kernel", str(kernel), "-append", command_line),
        # a warm start under TCG takes a minute longer than a cold one, and a panic shall end it
        "-no-reboot",
        *("-drive", f"if=none,id=disk,file=/proc/self/fd/{disk},format=raw,cache=unsafe"),
        *("-device", "nvme,drive=disk,serial=rota"),
    ]


def ensure_kernel() -> Path:
    """Return a kernel with nvme and ext4 built in, fetching it first when there is none in the cache."""
    path = CACHE / f"vm-kernel-{SUITE}"
    with cache_lock():
        if not path.exists():
            mirror = debian_mirror()
            log = CACHE / "vm-kernel.log"
            say(f"fetching the kernel {KERNEL} of Debian {SUITE}: about 10 s, once (log: {display(log)})")
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="vm-kernel-") as unpacked:
                command = ["mmdebstrap", "--variant=extract", f"--include={KERNEL}", SUITE, unpacked, mirror]
                with log.open("wb") as output:
                    status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
                found = sorted(Path(unpacked, "boot").glob("vmlinuz-*"))
                if status or not found:
                    raise MachineError(f"mmdebstrap could not fetch {KERNEL} from {mirror}:\n{tail(log)}")
                found[-1].rename(path)
    return path


def ensure_image() -> Path:
    """Return the disk with the scripts and rota as it is in this checkout, made first if it is another."""
    rootfs = ensure_rootfs()
    path = CACHE / f"vm-{content_hash()}.img"
    with cache_lock():
        if path.exists():
            return path
        for old in CACHE.glob("vm-*.img*"):
            # a machine that runs on it has it open
            old.unlink()
        started = time.monotonic()
        building = path.with_suffix(".img.building")
        scripts = " ".join(display(path) for path in guests())
        values = (rootfs, CHECKOUT, " ".join(NEEDED), SOURCES, scripts, building, "1G")
        # what it mounts is seen by nobody else and ends with it
        command = ["unshare", "--mount", "sh", "-c", BUILD, "build", *map(str, values)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            building.unlink(missing_ok=True)
            raise MachineError(f"could not make the disk {display(path)}:\n{done.stdout}{done.stderr}")
        building.rename(path)
        say(f"made the disk {display(path)} in {time.monotonic() - started:.0f} s")
    return path


def cache_lock() -> AbstractContextManager[None]:
    """Hold the lock on what is kept for virtual machines."""
    CACHE.mkdir(exist_ok=True)
    return locked(CACHE / "vm.lock")


def guests() -> list[Path]:
    """Return what is there of the scripts: those of this directory, with their package."""
    here = Path(__file__).parent
    return [here.parent / "__init__.py", here / "__init__.py", *sorted(here.glob("guest*.py"))]


def content_hash() -> str:
    """Return what names a disk: a hash of all that goes into it."""
    digest = hashlib.sha256(f"{rootfs_path().name}\n{BUILD}".encode())
    found = (path for name in NEEDED for path in (CHECKOUT / name, *(CHECKOUT / name).rglob("*")))
    for path in (*guests(), *sorted(found)):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"{display(path)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]
