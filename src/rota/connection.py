"""A connection to a bus that reads a bounded amount at a time, and can hand calls out unread."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio.message_bus import MessageBus
from dbus_next.message import Message

from rota.wire import METHOD_CALL, SIGNAL, Head, Splitter, head

_AT_ONCE = 1 << 16

Calls = Callable[[Head, bytes], bytes]
"""Takes a call; returns a message to be sent at once, or b""."""


class _Patient:
    """A socket whose full buffer is "nothing sent yet"; as an error, dbus-next gives up the connection."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def send(self, data: Any) -> int:
        try:
            return int(self._socket.send(data))
        except BlockingIOError:
            return 0


class Connection(MessageBus):  # type: ignore[misc]  # dbus-next has no types
    """dbus-next's connection, but for how it reads: that never ends as long as somebody floods."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._writer.sock = _Patient(self._sock)
        self._splitter = Splitter()
        self._calls: Calls | None = None

    def hand_out(self, calls: Calls) -> None:
        """Hand method calls to somebody from now on, instead of to dbus-next."""
        self._calls = calls

    @staticmethod
    def whole(data: bytes) -> Message:
        """Return a message as dbus-next has it.

        Raises:
            Exception: dbus-next cannot read it.
        """
        return Unmarshaller(io.BytesIO(data)).unmarshall()

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
            answers = [self._take(message) for message in self._splitter.feed(data)]
        except Exception as error:  # as dbus-next has it: the bus does not say such things
            self._finalize(error)
            return
        if any(answers):
            self._writer.messages.put_nowait((b"".join(answers), [], None))
            self._writer.schedule_write()

    def _take(self, data: bytes) -> bytes:
        found = head(data)
        if found.kind == METHOD_CALL and self._calls is not None:
            return self._calls(found, data)
        if METHOD_CALL <= found.kind <= SIGNAL:
            self._on_message(self.whole(data))
        return b""
