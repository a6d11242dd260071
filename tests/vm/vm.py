"""A whole virtual machine with every control group controller: slow, for what a container cannot show.

The disk is the test machines' root file system with rota installed, kept in .cache by a hash of what
went into it. A script comes on a second disk, runs once at each boot and reports on the serial console:
lines beginning with SAYS are its own, the last of them a verdict as JSON. There is no network.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    remove_tree,
    rootfs_path,
    say,
    tail,
)

KERNEL = "linux-image-cloud-amd64"
QEMU = "qemu-system-x86_64"
SAYS = "rota-vm: "
VERDICT = "verdict "

UNIT = """[Unit]
Description=The script on the second disk
After=multi-user.target rotad.service
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/tar -x -C /run -f /dev/nvme1n1
ExecStart=/usr/bin/python3 /run/guest.py
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
"""

# $1 root file system, $2 checkout, $3 what to copy from it, $4 where to, $5 image, $6 its size
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
cat >"$root/etc/systemd/system/rota-vm.service" <<'UNIT'
{UNIT}UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../rota-vm.service "$root/etc/systemd/system/default.target.wants/"
mke2fs -q -t ext4 -L {HOSTNAME} -d "$root" "$5" "$6"
"""

COMMAND_LINE = (
    *("root=/dev/nvme0n1", "rw", "console=ttyS0", "panic=-1", "quiet", "net.ifnames=0"),
    # what a processor emulated beside others needs to come up
    *("tsc=reliable", "no_timer_check", "random.trust_cpu=on"),
    "systemd.mask=serial-getty@ttyS0.service",
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


def run(guest: Path, timeout: float = 600) -> dict[str, Any]:
    """Boot a machine of its own, run the script in it, and return the verdict it printed.

    Raises:
        MachineError: it printed none in time.
    """
    reason = missing()
    if reason:
        raise MachineError(f"cannot run a virtual machine: {reason}")
    kernel, image = ensure_kernel(), ensure_image()
    console = CACHE / "vm-console.log"
    with tempfile.NamedTemporaryFile(suffix=".tar") as disk:
        with tarfile.open(fileobj=disk, mode="w") as archive:
            archive.add(guest, "guest.py")
        disk.flush()
        say(f"running {display(guest)} in a virtual machine: some minutes (console: {display(console)})")
        started = time.monotonic()
        with console.open("wb") as output:
            try:
                subprocess.run(
                    # it ends with us, whatever happens to us
                    ["setpriv", "--pdeathsig", "KILL", *qemu(kernel, image, Path(disk.name))],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=timeout,
                    check=True,
                )
            except subprocess.TimeoutExpired:
                raise MachineError(f"no verdict within {timeout:g} s:\n{tail(console)}") from None
            except subprocess.CalledProcessError as error:
                raise MachineError(f"qemu exited with {error.returncode}:\n{tail(console)}") from None
    said = [line for line in said_in(console) if line.startswith(VERDICT)]
    if not said:
        raise MachineError(f"the script gave no verdict:\n{tail(console, 40)}")
    say(f"verdict after {time.monotonic() - started:.0f} s")
    verdict: dict[str, Any] = json.loads(said[-1].removeprefix(VERDICT))
    return verdict


def said_in(console: Path) -> Iterator[str]:
    """Yield what the script said on the console."""
    for line in console.read_text(encoding="utf-8", errors="replace").splitlines():
        # the kernel or systemd may have left a line unfinished
        _, found, text = line.partition(SAYS)
        if found:
            yield text


def qemu(kernel: Path, image: Path, disk: Path) -> list[str]:
    """Return the command that boots a machine; what it writes to its disks is thrown away."""
    return [
        *(QEMU, "-accel", "tcg,thread=multi", "-cpu", "max,cx16=off", "-smp", "2", "-m", "1024"),
        *("-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"),
        *("-kernel", str(kernel), "-append", " ".join(COMMAND_LINE)),
        *nvme(image, 0),
        *nvme(disk, 1),
        *("-device", "virtio-rng-pci"),
    ]


def nvme(file: Path, number: int) -> list[str]:
    """Return the options for a file as disk /dev/nvmeNUMBERn1."""
    # qemu wants a comma in a value doubled
    name = str(file).replace(",", ",,")
    drive = f"if=none,id=d{number},file={name},format=raw,snapshot=on"
    return ["-drive", drive, "-device", f"nvme,drive=d{number},serial=rota{number}"]


def ensure_kernel() -> Path:
    """Return a kernel with nvme and ext4 built in, fetching it first when there is none in the cache."""
    path = CACHE / f"vm-kernel-{SUITE}"
    with cache_lock():
        if not path.exists():
            mirror = debian_mirror()
            log = CACHE / "vm-kernel.log"
            say(f"fetching the kernel {KERNEL} of Debian {SUITE}: about 10 s, once (log: {display(log)})")
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="vm-kernel-") as unpacked, log.open("wb") as out:
                command = ["mmdebstrap", "--variant=extract", f"--include={KERNEL}", SUITE, unpacked, mirror]
                status = subprocess.run(command, stdout=out, stderr=out, check=False).returncode
                found = sorted(Path(unpacked, "boot").glob("vmlinuz-*"))
                if status or not found:
                    raise MachineError(f"mmdebstrap could not fetch {KERNEL} from {mirror}:\n{tail(log)}")
                found[-1].rename(path)
    return path


def ensure_image() -> Path:
    """Return the disk with rota as it is in this checkout, making it first when it is another."""
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
        values = (rootfs, CHECKOUT, " ".join(NEEDED), SOURCES, building, "1G")
        # what it mounts is seen by nobody else and ends with it
        command = ["unshare", "--mount", "sh", "-c", BUILD, "build", *map(str, values)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            building.unlink(missing_ok=True)
            raise MachineError(f"could not make the disk {display(path)}:\n{done.stdout}{done.stderr}")
        building.rename(path)
        say(f"made the disk {display(path)} in {time.monotonic() - started:.0f} s")
    return path


def cache_lock() -> Any:
    """Hold the lock on what is kept for virtual machines."""
    CACHE.mkdir(exist_ok=True)
    return locked(CACHE / "vm.lock")


def content_hash() -> str:
    """Return what names a disk: a hash of all that goes into it."""
    digest = hashlib.sha256(f"{rootfs_path().name}\n{BUILD}".encode())
    for name in NEEDED:
        top = CHECKOUT / name
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                text = file.read_bytes()
                digest.update(f"{file.relative_to(CHECKOUT)} {len(text)}\n".encode())
                digest.update(text)
    return digest.hexdigest()[:12]
