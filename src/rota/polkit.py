"""The only caller of polkit: may this caller do that (org.freedesktop.PolicyKit1.Authority)?"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from dbus_next.aio.message_bus import MessageBus
from dbus_next.message import Message
from dbus_next.signature import Variant

from rota.errors import Exit, RotaError
from rota.systemd import ABSENT, CallError, ask_bus, call

_NAME = "org.freedesktop.PolicyKit1"
_ALLOW_INTERACTION = 1
_ABSENT = (
    *ABSENT,
    "org.freedesktop.DBus.Error.Spawn.ChildExited",
    "org.freedesktop.systemd1.NoSuchUnit",
)


async def uid_of(bus: MessageBus, sender: str) -> int:
    """Return the user id of a bus name's owner."""
    return int((await ask_bus(bus, "GetConnectionUnixUser", sender))[0])


def user_name(uid: int) -> str:
    """Return the name of a user, the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


async def authorised(
    bus: MessageBus, sender: str, action: str, details: Mapping[str, str], *, interactive: bool
) -> bool:
    """Tell whether the owner of a bus name may do an action.

    Root and rotad's own user may. Without polkit on the bus, nobody else.

    Args:
        bus: the bus both are on.
        sender: the caller's unique name.
        action: polkit's action id.
        details: shown to the person who is asked, and to rules.
        interactive: the caller is willing to wait for a person to be asked.
    """
    if await uid_of(bus, sender) in (0, os.getuid()):
        return True
    subject = ["system-bus-name", {"name": Variant("s", sender)}]
    try:
        found = await call(
            bus,
            Message(
                destination=_NAME,
                path="/org/freedesktop/PolicyKit1/Authority",
                interface=f"{_NAME}.Authority",
                member="CheckAuthorization",
                signature="(sa{sv})sa{ss}us",
                body=[subject, action, dict(details), _ALLOW_INTERACTION if interactive else 0, ""],
            ),
        )
    except CallError as error:
        if error.name in _ABSENT:
            return False
        if "not registered" in error.message or "Only trusted callers" in error.message:
            raise RotaError(
                f"polkit does not know the action {action}",
                "Its file belongs into /usr/share/polkit-1/actions; see make install.",
                Exit.NOT_AUTHORISED,
            ) from None
        raise
    return bool(found[0][0])
