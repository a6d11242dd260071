"""D-Bus messages as bytes (D-Bus Specification, "Message Protocol"): cut apart, heads read, errors made.

dbus-next takes a tenth of a millisecond to read a message. Here it takes a few microseconds to know who
sent it, so that who floods can be refused at less than it cost to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
"""The types of messages; others are to be ignored."""
NO_REPLY_EXPECTED = 1
"""A flag."""
LONGEST = 1 << 27
"""No message is longer, in bytes."""

_FIXED = 16
_NUMBERS = {ord("l"): Struct("<III"), ord("B"): Struct(">III")}
_NUMBER = {ord("l"): Struct("<I"), ord("B"): Struct(">I")}
_DESTINATION, _SENDER = 6, 7
_TEXT, _SIGNATURE, _UINT32 = frozenset(b"so"), ord("g"), ord("u")


class Head(NamedTuple):
    """What a message says of itself.

    Attributes:
        kind: its type: 1 a method call, 2 a return, 3 an error, 4 a signal.
        flags: see NO_REPLY_EXPECTED.
        serial: the sender's number for it.
        sender: the unique bus name; "" if it has none.
        addressed: whether it is for one receiver; signals mostly are for all who asked for them.
    """

    kind: int
    flags: int
    serial: int
    sender: str
    addressed: bool


def _length(data: bytes | bytearray, at: int) -> int:
    """Return how long the message is that begins there, in bytes.

    Raises:
        ValueError: no message begins there.
    """
    if data[at] not in _NUMBERS or data[at + 3] != 1:
        raise ValueError("not a message of D-Bus, version 1")
    body, _, fields = _NUMBERS[data[at]].unpack_from(data, at + 4)
    length: int = _FIXED + (fields + 7 & ~7) + body
    if length > LONGEST:
        raise ValueError(f"a message of {length} bytes")
    return length


class Splitter:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; return the messages that are whole by now.

        Raises:
            ValueError: these are no messages.
        """
        rest = self._rest
        rest += data
        found, at, end = [], 0, len(rest)
        with memoryview(rest) as view:
            while end - at >= _FIXED and end - at >= (length := _length(rest, at)):
                found.append(bytes(view[at : at + length]))
                at += length
        del rest[:at]
        return found


def head(message: bytes) -> Head:
    """Return the head of a whole message.

    Raises:
        ValueError: it has a header field of a type that none has.
    """
    number = _NUMBER[message[0]]
    _, serial, length = _NUMBERS[message[0]].unpack_from(message, 4)
    at, end, sender, addressed = _FIXED, _FIXED + length, "", False
    while at < end:
        # Each is a struct, aligned to 8: its code, and a variant: a signature of one type, and a value.
        code, kind = message[at], message[at + 2]
        at += 4
        if kind in _TEXT:
            (size,) = number.unpack_from(message, at)
            if code == _SENDER:
                sender = message[at + 4 : at + 4 + size].decode("ascii")
            elif code == _DESTINATION:
                addressed = True
            at += 4 + size + 1
        elif kind == _SIGNATURE:
            at += 1 + message[at] + 1
        elif kind == _UINT32:
            at += 4
        else:
            raise ValueError(f"header field {code} is of type {chr(kind)}")
        at = at + 7 & ~7
    return Head(message[1], message[2], serial, sender, addressed)


def _text(value: str) -> bytes:
    data = value.encode()
    return _NUMBER[ord("l")].pack(len(data)) + data + b"\0"


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def refusal(name: str, text: str) -> Callable[[Head, int], bytes]:
    """Return what makes an error of this name and text out of the head of a call, and a number of our own."""
    body = _text(text)
    known = _aligned(b"\x08\1g\0\1s\0") + _aligned(b"\x04\1s\0" + _text(name))
    start = b"l\3\1\1" + _NUMBER[ord("l")].pack(len(body))
    pack = _NUMBER[ord("l")].pack

    def make(call: Head, serial: int) -> bytes:
        fields = b"\x05\1u\0" + pack(call.serial) + known + b"\x06\1s\0" + _text(call.sender)
        return start + pack(serial) + pack(len(fields)) + _aligned(fields) + body

    return make
