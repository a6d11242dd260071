"""systemd's manager as the Home Keeper needs it: signals about all units, their list, single properties."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota.systemd import CallError, Systemd, ask_bus, plain, unescape, unit_path

from .together import together

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_UNITS = f"{_PATH}/unit"
_MANAGER = f"{_NAME}.Manager"
_UNIT = f"{_NAME}.Unit"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_BUS = "org.freedesktop.DBus"
_TIMEOUT = 60
"""Seconds; at a daemon-reload with many timers systemd answers nobody for long."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of ListUnits()."""

    name: str
    load: str
    active: str
    sub: str
    job: int


@dataclass(slots=True)
class Hearers:
    """Who is told of what systemd says.

    Attributes:
        job_removed: a job on a unit is over; its path and its result.
        away: systemd has left the bus, or is there again; who hears it is to begin anew.
        changed: a unit's properties (of the interface Unit, those that come with a change).
        of_type: the same of its type's interface (Service, ...); told of one unit only.
        removed: a unit is no longer in memory.
        reloaded: systemd has read all unit files anew.
    """

    job_removed: Callable[[str, str, str], None]
    away: Callable[[], None]
    changed: Callable[[str, dict[str, Any]], None] | None = None
    removed: Callable[[str], None] | None = None
    reloaded: Callable[[], None] | None = None
    of_type: Callable[[str, dict[str, Any]], None] | None = None


class Manager(Systemd):
    """The manager of the bus this connection is on. Every coroutine raises as those of Systemd.

    Signals count only from whoever owns systemd's name: on the system bus anybody may send one to anybody.
    """

    def __init__(self, bus: MessageBus) -> None:
        super().__init__(bus)
        self.bus = bus
        self._owner = ""
        self._hearers: Hearers | None = None

    async def hear(self, hearers: Hearers, unit: str = "") -> None:
        """Have signals told from now on, those for which there is somebody to hear them.

        Args:
            hearers: who hears them.
            unit: whose properties; "" for all units.
        """
        self._hearers = hearers
        self.bus.add_message_handler(self._on_signal)
        wanted = {
            "JobRemoved": hearers.job_removed,
            "UnitRemoved": hearers.removed,
            "Reloading": hearers.reloaded,
        }
        rule = f"type='signal',sender='{_NAME}'"
        for member in (member for member, hearer in wanted.items() if hearer is not None):
            await self._match(f"{rule},interface='{_MANAGER}',member='{member}'")
        if hearers.changed is not None:
            where = f"path='{unit_path(unit)}'" if unit else f"path_namespace='{_UNITS}',arg0='{_UNIT}'"
            await self._match(f"{rule},interface='{_PROPERTIES}',member='PropertiesChanged',{where}")
        await self._match(
            f"type='signal',sender='{_BUS}',interface='{_BUS}',member='NameOwnerChanged',arg0='{_NAME}'"
        )
        self._owner = str((await ask_bus(self.bus, "GetNameOwner", _NAME))[0])
        await self._subscribe()

    def _on_signal(self, message: Message) -> None:
        hearers, body = self._hearers, message.body
        if message.message_type is not MessageType.SIGNAL or hearers is None:
            return
        if message.sender == _BUS and message.member == "NameOwnerChanged" and body[0] == _NAME:
            self._owner = str(body[2])
            hearers.away()
        elif message.sender != self._owner:
            return
        elif message.interface == _PROPERTIES:
            told = hearers.changed if body[0] == _UNIT else hearers.of_type
            if told is not None:
                told(unescape(message.path.removeprefix(f"{_UNITS}/")), body[1])
        elif message.interface == _MANAGER:
            if message.member == "JobRemoved":
                hearers.job_removed(str(body[2]), str(body[1]), str(body[3]))
            elif message.member == "UnitRemoved" and hearers.removed is not None:
                hearers.removed(str(body[0]))
            elif message.member == "Reloading" and body == [False] and hearers.reloaded is not None:
                hearers.reloaded()

    @property
    def there(self) -> bool:
        """Whether somebody owns systemd's name, as far as was heard."""
        return bool(self._owner)

    async def has_job(self, job: str) -> bool:
        """Tell whether a job, by its object path, is not over yet."""
        try:
            await self._call(job, _PROPERTIES, "Get", "ss", f"{_NAME}.Job", "Id")
        except CallError as error:
            if not error.name.startswith("org.freedesktop.DBus.Error.Unknown"):
                raise
            return False
        return True

    async def units(self) -> list[Listed]:
        """Return all units in memory."""
        async with asyncio.timeout(_TIMEOUT):
            found = await self._manager("ListUnits")
        return [Listed(unit[0], unit[2], unit[3], unit[4], unit[7]) for unit in found[0]]

    async def get(self, unit: str, **wanted: str) -> dict[str, Any]:
        """Return properties of a unit by name, without those that this systemd does not have.

        Args:
            unit: its name; one that is not in memory is loaded for a moment.
            wanted: the interface ("Unit", "Service", ...) by the property's name.
        """

        async def one(name: str, interface: str) -> tuple[str, Any]:
            try:
                body = (_PROPERTIES, "Get", "ss", f"{_NAME}.{interface}", name)
                return name, plain((await self._call(unit_path(unit), *body))[0])
            except CallError as error:
                if not error.name.startswith(("org.freedesktop.DBus.Error.Unknown", f"{_NAME}.NoSuchUnit")):
                    raise
                return name, None

        async with asyncio.timeout(_TIMEOUT):
            found = await together(one(name, interface) for name, interface in wanted.items())
        return {name: value for name, value in found if value is not None}

    async def queue(self, verb: str, unit: str, mode: str) -> str:
        """Queue a job; return its object path.

        Args:
            verb: Start or Restart.
            unit: its name.
            mode: what becomes of other jobs (systemctl(1), --job-mode=): `fail`, `replace`, ...
        """
        return str((await self._manager(f"{verb}Unit", "ss", unit, mode))[0])
