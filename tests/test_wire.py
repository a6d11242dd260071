"""Messages as bytes, held against how dbus-next makes and reads them."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import pytest
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.constants import MessageType
from dbus_next.message import Message
from hypothesis import given
from hypothesis import strategies as st

from rota.wire import ERROR, METHOD_CALL, NO_REPLY_EXPECTED, SIGNAL, Head, Splitter, head, refusal

_NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
_UNIQUE = st.from_regex(r":1\.[0-9]{1,10}", fullmatch=True)
_NUMBER = st.integers(1, 2**32 - 1)
_TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)


def call(serial: int = 7, sender: str | None = ":1.5", text: str = "x", **more: str) -> bytes:
    """Return a call as bytes."""
    made = Message(
        destination="org.rota1",
        path=f"/org/{more.get('path', 'rota1')}",
        interface=f"org.{more.get('interface', 'rota1')}",
        member=more.get("member", "GetAgent"),
        sender=sender,  # type: ignore[arg-type]  # dbus-next leaves it out
        signature="s",
        body=[text],
        serial=serial,
    )
    data = bytearray(made._marshall())
    if sender is not None:
        # dbus-next leaves the sender to the bus, which puts it behind the other fields.
        (length,) = struct.unpack_from("<I", data, 12)
        name = sender.encode()
        fields = bytes(data[16 : 16 + length])
        fields += bytes(-len(fields) % 8) + b"\7\1s\0" + struct.pack("<I", len(name)) + name + b"\0"
        body = bytes(data[16 + length + (-length % 8) :])
        struct.pack_into("<I", data, 12, len(fields))
        data = data[:16] + fields + bytes(-len(fields) % 8) + body
    return bytes(data)


def read(data: bytes) -> Message:
    """Return a message as dbus-next reads it."""
    message: Message = Unmarshaller(io.BytesIO(data)).unmarshall()
    return message


@given(_NUMBER, st.none() | _UNIQUE, _NAME, _NAME, _TEXT)
def test_a_head_says_what_dbus_next_reads(
    serial: int, sender: str | None, member: str, path: str, text: str
) -> None:
    data = call(serial, sender, text, member=member, path=path, interface=path)
    known = read(data)
    assert head(data) == Head(METHOD_CALL, known.flags.value, known.serial, known.sender or "", True)


def test_a_head_of_the_other_byte_order() -> None:
    name = b":1.42"
    fields = b"\7\1s\0" + struct.pack(">I", len(name)) + name + b"\0"
    data = b"B\4\1\1" + struct.pack(">III", 0, 9, len(fields)) + fields + bytes(-len(fields) % 8)
    assert head(data) == Head(SIGNAL, NO_REPLY_EXPECTED, 9, ":1.42", False)
    assert Splitter().feed(data * 2) == [data, data]


def test_a_field_of_a_type_that_none_has() -> None:
    fields = b"\7\1v\0" + b"\1y\0\5"
    data = b"l\1\0\1" + struct.pack("<III", 0, 9, len(fields)) + fields
    with pytest.raises(ValueError, match="field 7 is of type v"):
        head(data)


@given(st.lists(_TEXT, max_size=6), st.lists(st.integers(1, 300), min_size=1, max_size=30))
def test_a_stream_is_cut_the_same_however_it_comes(texts: Sequence[str], sizes: Sequence[int]) -> None:
    messages = [call(serial, text=text) for serial, text in enumerate(texts, 1)]
    stream, splitter, found, turn = b"".join(messages), Splitter(), list[bytes](), 0
    while stream:
        size = sizes[turn % len(sizes)]
        found += splitter.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert found == messages


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"l\1\0\2" + bytes(20), b"l\1\0\1\xff\xff\xff\x7f" + bytes(8)],
    ids=["no message", "another version", "too long"],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(ValueError, match="message"):
        Splitter().feed(data)


@given(_NUMBER, _NUMBER, _UNIQUE, _NAME, _TEXT)
def test_a_refusal_is_read_as_an_error(serial: int, own: int, sender: str, name: str, text: str) -> None:
    asked = Head(METHOD_CALL, 0, serial, sender, True)
    data = refusal(f"org.{name}", text)(asked, own)
    assert Splitter().feed(data) == [data]
    assert head(data) == Head(ERROR, NO_REPLY_EXPECTED, own, "", True)
    reply = read(data)
    assert reply.message_type is MessageType.ERROR
    assert (reply.serial, reply.reply_serial, reply.destination) == (own, serial, sender)
    assert (reply.error_name, reply.signature, reply.body) == (f"org.{name}", "s", [text])
