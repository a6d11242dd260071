"""A file system that hangs, as one whose server is gone does: of FUSE, where nobody answers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store_kit import forked

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 1 << 14, 1 << 18
_INIT, _STATFS = 26, 17
_PATIENCE = 60


def alone(work: Callable[[], None]) -> None:
    """Do the work in a process with mounts of its own, which nobody else sees; skip where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("not root: cannot mount a file system")
    if not Path("/dev/fuse").exists():
        pytest.skip("no /dev/fuse: cannot make a file system that hangs")

    def inside() -> None:
        signal.alarm(_PATIENCE)
        if _LIBC.unshare(_CLONE_NEWNS):
            os._exit(77)
        _mount("none", Path("/"), "", _MS_REC | _MS_PRIVATE, "")
        try:
            work()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            raise

    status = os.waitstatus_to_exitcode(os.waitpid(forked(inside), 0)[1])
    if status == 77:
        pytest.skip("no mount namespace of one's own here")
    assert status == 0


def _mount(source: str, point: Path, type_: str, flags: int, options: str) -> None:
    if _LIBC.mount(source.encode(), os.fsencode(point), type_.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(point))


@contextlib.contextmanager
def hanging(point: Path) -> Iterator[Callable[[], None]]:
    """Mount a file system that hangs; yield what makes it answer from then on (linux/fuse.h)."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    _mount("server", point, "fuse.hanging", 0, options)
    _serve(device, _INIT, struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 0, 0, 0, 0))
    released = threading.Event()

    def serve() -> None:
        released.wait()
        while True:
            _serve(device, _STATFS, struct.pack("=5Q4I24x", 1000, 500, 500, 100, 50, 4096, 255, 4096, 0))

    threading.Thread(target=serve, daemon=True).start()
    yield released.set


def _serve(device: int, expected: int, answer: bytes) -> None:
    """Take the kernel's next request, which is to be of this kind, and answer it."""
    _, kind, number = struct.unpack_from("=IIQ", os.read(device, 1 << 17))
    assert kind == expected
    os.write(device, struct.pack("=IiQ", 16 + len(answer), 0, number) + answer)
