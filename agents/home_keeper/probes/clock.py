"""Asks the kernel whether the clock is synchronised, and journald whether it keeps what it is told."""

from __future__ import annotations

import ctypes
import errno
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from dbus_next.message import Message

from rota.systemd import call, connect, plain

from ..checks.upkeep import Clock, Written
from ..checks.words import SECOND
from ..words import Finding
from . import Unavailable
from .host import Unsynchronised
from .threads import Threads

_STA_UNSYNC = 0x0040  # <linux/timex.h>
_JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
_SHORT = 1024 * 1024


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and more room than the rest takes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def adjtimex() -> bool:
    """Return whether the kernel's clock is synchronised, by whomever.

    Raises:
        OSError: a sandbox does not let us ask (ProtectClock=).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    state = _Timex(modes=0)
    if libc.adjtimex(ctypes.byref(state)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "adjtimex")
    return not state.status & _STA_UNSYNC


async def timedated() -> bool:
    """Return the same, as systemd-timedated asks the kernel for us.

    Raises:
        RotaError: it cannot be asked either.
    """
    bus = await connect(user=False)
    try:
        message = Message(
            destination="org.freedesktop.timedate1",
            path="/org/freedesktop/timedate1",
            interface="org.freedesktop.DBus.Properties",
            member="Get",
            signature="ss",
            body=["org.freedesktop.timedate1", "NTPSynchronized"],
        )
        return bool(plain((await call(bus, message))[0]))
    finally:
        bus.disconnect()


class SystemClock:
    """Whether the clock is synchronised, and for how long it has not been."""

    def __init__(self) -> None:
        self._unsynchronised = Unsynchronised()

    def recall(self, left: Iterable[Finding]) -> None:
        """Take up what was open when the keeper ended: for how long it had not been synchronised by then."""
        for one in left:
            self._unsynchronised.recall(int(one.details.get("unsynchronised", 0)))

    async def __call__(self) -> Clock:
        """Look."""
        try:
            synchronised = adjtimex()
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                raise
            synchronised = await timedated()
        return Clock(synchronised, self._unsynchronised.span(synchronised))


def _room() -> str:
    """Return what may keep journald from writing."""
    for folder in _JOURNALS:
        try:
            answer = os.statvfs(folder)
        except OSError:
            continue
        if answer.f_flag & os.ST_RDONLY:
            return f"{folder} is read-only"
        if answer.f_bfree * answer.f_frsize < _SHORT:
            return f"there is no room left in {folder}"
    return ""


def write_and_read(patience: float) -> Written:
    """Send journald an entry, and wait until it can be read back.

    Args:
        patience: seconds to wait; journald tells readers up to half a second late.

    Raises:
        Unavailable: there is no journald, or we may not read what it keeps.
    """
    try:
        from systemd import journal  # noqa: PLC0415  (a C library, once in ten minutes)
    except ImportError as error:
        raise Unavailable(f"systemd-python is missing: {error}") from None
    token = uuid.uuid4().hex
    began = time.monotonic()
    try:
        journal.send(
            "a test of the journal",
            PRIORITY="7",
            SYSLOG_IDENTIFIER="rota-home-keeper",
            ROTA_KEEPER_TEST=token,
        )
    except OSError as error:
        raise Unavailable(f"journald cannot be reached: {error.strerror}") from None
    with journal.Reader(flags=journal.LOCAL_ONLY) as reader:
        reader.add_match(ROTA_KEEPER_TEST=token)
        while True:
            waited = time.monotonic() - began
            reader.seek_head()
            found = bool(reader.get_next())
            if found or waited >= patience:
                break
            reader.wait(min(0.25, patience - waited))
        if not found and not reader.get_usage():
            raise Unavailable(
                "the journal cannot be read: is journald there, and its user in the group systemd-journal?"
            )
    return Written(found, round(waited * SECOND), "" if found else _room())


async def journal(threads: Threads, patience: float) -> Written:
    """Look whether journald keeps what it is told, see `write_and_read`."""
    return await threads.run("journal", lambda: write_and_read(patience))
