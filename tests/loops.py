"""Small file systems of their own for tests: ext4 on a loop device, really full or really broken."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

MIB = 1024 * 1024


def mount(folder: Path, name: str = "mnt", *, mib: int, inodes: int, options: str = "") -> Path:
    """Make and mount a file system; return where. Who calls it unmounts it.

    Args:
        folder: where its image and its mount point are made.
        name: of the mount point.
        mib: its size.
        inodes: how many it has.
        options: of mount(8), beside `loop`.
    """
    if os.geteuid() != 0:
        pytest.skip("not root: cannot mount a file system")
    image, point = folder / f"{name}.img", folder / name
    point.mkdir()
    with image.open("wb") as opened:
        opened.truncate(mib * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m0", "-N", str(inodes), str(image)], check=True)
    command = ["mount", "-o", ",".join(filter(None, ("loop", options))), str(image), str(point)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    return point


def unmount(point: Path) -> None:
    """Unmount it with all that is mounted in it, also while somebody is in it."""
    subprocess.run(["umount", "--recursive", "--lazy", str(point)], check=False, capture_output=True)
