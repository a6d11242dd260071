"""The verb notify: how channels do, what waits, the last messages, and a test of a channel."""

from __future__ import annotations

# isort: off
import rota.lean  # noqa: F401  (before what it keeps out)
# isort: on

import argparse
import asyncio
import json
from collections.abc import Mapping
from typing import Any

from dbus_next.constants import MessageFlag
from dbus_next.message import Message

from rota import output
from rota.clock import wall_clock
from rota.errors import Exit, RotaError
from rota.names import ERRORS, NOTIFIER_BUS_NAME, NOTIFIER_INTERFACE, NOTIFIER_PATH
from rota.output import Cell
from rota.systemd import CallError, call, connect, plain

Table = Mapping[str, Any]

_EXITS = {name: code for code, name in ERRORS.items()}
_HELD: Mapping[str, str] = {
    "grouping": "more may come",
    "quiet": "quiet hours",
    "rate": "the limit of messages is reached",
}


async def ask(member: str, signature: str = "", *body: Any, user: bool) -> Any:
    """Call a method of rotad-notify and return its value.

    Raises:
        RotaError: it refused, or is out of reach.
    """
    bus = await connect(user=user)
    message = Message(
        destination=NOTIFIER_BUS_NAME,
        path=NOTIFIER_PATH,
        interface=NOTIFIER_INTERFACE,
        member=member,
        signature=signature,
        body=list(body),
        flags=MessageFlag.NO_AUTOSTART,
    )
    try:
        return plain((await call(bus, message))[0])
    except CallError as error:
        raise _translated(error) from None
    finally:
        bus.disconnect()


def _translated(error: CallError) -> RotaError:
    if error.name == "org.freedesktop.DBus.Error.AccessDenied":
        hint = "Root and members of the group rota may ask rotad-notify."
        return RotaError("not authorised to ask who is told what", hint, Exit.NOT_AUTHORISED)
    if error.name in _EXITS:
        text, _, hint = error.message.partition("\n")
        return RotaError(text, hint, _EXITS[error.name])
    return RotaError(
        "rotad-notify is not running",
        "It runs where [channels.NAME] in rota.toml says whom to tell; see systemctl status rotad-notify.",
        Exit.UNREACHABLE,
    )


def _state(channel: Table, present: int) -> Cell:
    """Return how a channel does, in a few words."""
    if channel["messages"]:
        again = output.until(channel["next_attempt"], present) if channel["next_attempt"] else "now"
        if not channel["error"]:
            return ("being sent", "cyan")
        return (f"not sent, attempt {channel['attempts']}: {channel['error']}; again {again}", "red")
    for held in channel["held"]:
        if held["why"] in _HELD and held["until"] is not None:
            return (f"{_HELD[held['why']]}: {output.until(held['until'], present)}", "yellow")
    return ("ok", "green") if channel["last_sent"] else ("nothing sent yet", "")


def _result(message: Table) -> Cell:
    if message["state"] == "sent":
        return ("sent", "green")
    if message["state"] == "given-up":
        return (f"given up: {message['error']}", "red")
    return (f"not yet: {message['error']}" if message["error"] else "being sent", "yellow")


def _show(status: Table) -> None:
    present = wall_clock()
    rows: list[list[Cell]] = [
        [
            (channel["channel"], "bold"),
            (str(channel["waiting"] or "-"), ""),
            (output.ago(channel["last_sent"], present) if channel["last_sent"] else "-", ""),
            (str(channel["given_up"] or "-"), "red" if channel["given_up"] else ""),
            _state(channel, present),
        ]
        for channel in status["channels"]
    ]
    output.table(("CHANNEL", ">WAITING", "LAST SENT", ">GIVEN UP", "STATE"), rows, flexible=(4,))
    if status["messages"]:
        output.line()
        messages: list[list[Cell]] = [
            [
                (output.date(message["created"]), ""),
                (message["channel"], "bold"),
                (str(message["things"]), ""),
                (message["subject"], ""),
                _result(message),
            ]
            for message in status["messages"]
        ]
        output.table(("MADE", "CHANNEL", ">ABOUT", "SUBJECT", "RESULT"), messages, flexible=(3, 4))
    for source in status["sources"]:
        if source["error"] and source["source"] == "rotad":
            output.talk(f"warning: nothing is heard of rotad: {source['error']}.", "yellow")


def notify(arguments: argparse.Namespace) -> int:
    """Show how channels do, or test one."""
    if arguments.what == "test":
        if not arguments.channel:
            raise RotaError("which channel?", "Write: rota notify test CHANNEL.", Exit.USAGE)
        took = asyncio.run(ask("Test", "s", arguments.channel, user=arguments.user))
        if arguments.json:
            output.emit_json({"channel": arguments.channel, "took": took})
        else:
            output.line(f"Sent to {arguments.channel} in {output.seconds(took)}.")
        return int(Exit.OK)
    status = json.loads(asyncio.run(ask("Status", user=arguments.user)))
    if arguments.json:
        output.emit_json(status)
    else:
        _show(status)
    return int(Exit.OK)
