"""A connection to a bus that reads a bounded amount at a time, and can hand calls out unread."""

from __future__ import annotations

import asyncio
import fcntl
import io
import sys
import termios
from collections import deque
from collections.abc import Callable
from typing import Any

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio.message_bus import MessageBus
from dbus_next.message import Message

from rota.wire import ERROR, METHOD_CALL, METHOD_RETURN, SIGNAL, Head, Splitter, head

_AT_ONCE = 1 << 16

_REFUSALS = 1000
"""So many may wait to be sent; beyond that callers get none, and the bus's own limit is what they meet."""
_IN_A_ROW = 16
_PAUSE = 0.005
"""Seconds between two looks whether the bus has read what was sent."""


class _Patient:
    """A socket whose full buffer is "nothing sent yet"; as an error, dbus-next gives up the connection."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def send(self, data: Any) -> int:
        try:
            return int(self._socket.send(data))
        except BlockingIOError:
            return 0


class Connection(MessageBus):
    """dbus-next's connection, but for how it reads: that never ends as long as somebody floods."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._writer.sock = _Patient(self._sock)
        self._splitter = Splitter()
        self._calls: Callable[[Head, bytes], None] | None = None
        self._refusals: deque[bytes] = deque()
        self._refusing: asyncio.TimerHandle | None = None

    def hand_out(self, calls: Callable[[Head, bytes], None]) -> None:
        """Hand method calls to somebody from now on, instead of to dbus-next."""
        self._calls = calls

    def refuse(self, refusal: bytes) -> None:
        """Send a message that matters less than all others: when the bus has read them."""
        if len(self._refusals) < _REFUSALS:
            self._refusals.append(refusal)
        if self._refusing is None:
            self._send_refusals()

    def _send_refusals(self) -> None:
        """Send some, unless the bus has something to read: it takes 2 KiB at a time from each connection."""
        self._refusing = None
        if not self.connected:
            return
        if self._writer.buf is None and self._writer.messages.empty() and not self._unread():
            some = [self._refusals.popleft() for _ in range(min(_IN_A_ROW, len(self._refusals)))]
            self._writer.messages.put_nowait((b"".join(some), [], None))
            self._writer.schedule_write()
        if self._refusals:
            self._refusing = self._loop.call_later(_PAUSE, self._send_refusals)

    def _unread(self) -> bool:
        """Tell whether the bus has not yet read all that was written to the socket (SIOCOUTQ)."""
        waiting = fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(waiting, sys.byteorder) > 1

    @staticmethod
    def whole(data: bytes) -> Message:
        """Return a message as dbus-next has it.

        Raises:
            Exception: dbus-next cannot read it.
        """
        message: Message = Unmarshaller(io.BytesIO(data)).unmarshall()
        return message

    def pass_on(self, message: Message) -> None:
        """Let dbus-next's handlers have a message."""
        self._on_message(message)

    def _message_reader(self) -> None:
        try:
            data = self._sock.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError as error:
            self._finalize(error)
            return
        try:
            if not data:
                raise EOFError
            for message in self._splitter.feed(data):
                self._take(message)
        except Exception as error:  # noqa: BLE001  (whatever dbus-next raises; the bus lets no such thing pass)
            self._finalize(error)

    def _take(self, data: bytes) -> None:
        found = head(data)
        if found.kind == METHOD_CALL and self._calls is not None:
            self._calls(found, data)
            return
        # What the bus and systemd signal is for all who asked for it. Anybody may send one to us alone.
        told = found.kind == SIGNAL and not found.addressed
        if told or found.kind in (METHOD_CALL, METHOD_RETURN, ERROR):
            self._on_message(self.whole(data))
