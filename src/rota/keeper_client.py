"""The way to Home Keeper on D-Bus, for the command line: errors turned into exit codes."""

from __future__ import annotations

import json
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageFlag
from dbus_next.message import Message

from rota.errors import Exit, RotaError
from rota.names import ERRORS, KEEPER_BUS_NAME, KEEPER_INTERFACE, KEEPER_PATH, KEEPER_SERVICE
from rota.systemd import ABSENT, CallError, Systemd, call, connect, plain

_EXITS = {name: code for code, name in ERRORS.items()}


async def ask(member: str, signature: str = "", *body: Any, user: bool, address: str | None = None) -> Any:
    """Call a method of the keeper and return its one value.

    Raises:
        RotaError: it refused, is not running, or not enabled.
    """
    bus = await connect(user=user, address=address)
    try:
        return await call_keeper(bus, member, signature, *body)
    except CallError as error:
        if error.name in ABSENT:
            raise await _absent(bus) from None
        text, _, hint = error.message.partition("\n")
        raise RotaError(text, hint, _EXITS.get(error.name, error.exit_code)) from None
    finally:
        bus.disconnect()


async def call_keeper(bus: MessageBus, member: str, signature: str = "", *body: Any) -> Any:
    """Call a method of the keeper and return its one value.

    Raises:
        CallError: it refused, or there is none.
        RotaError: the bus is gone.
    """
    message = Message(
        destination=KEEPER_BUS_NAME,
        path=KEEPER_PATH,
        interface=KEEPER_INTERFACE,
        member=member,
        signature=signature,
        body=list(body),
        flags=MessageFlag.NO_AUTOSTART | MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION,
    )
    return plain((await call(bus, message))[0])


async def tell(member: str, signature: str = "", *body: Any, user: bool) -> dict[str, Any]:
    """Call a method that answers in JSON; raises as `ask`."""
    return dict(json.loads(await ask(member, signature, *body, user=user)))


async def _absent(bus: MessageBus) -> RotaError:
    """Return why there is nobody to be asked."""
    try:
        wanted = await Systemd(bus).wanted(KEEPER_SERVICE)
    except RotaError:
        wanted = True  # nobody can tell
    if wanted:
        return RotaError(
            "Home Keeper is not running", f"See systemctl status {KEEPER_SERVICE}.", Exit.UNREACHABLE
        )
    return RotaError(
        "Home Keeper is not enabled",
        "Declare [keeper] with enable = true in rota.toml, then run rota apply.",
        Exit.UNREACHABLE,
    )
