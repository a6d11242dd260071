"""The only caller of org.freedesktop.systemd1 (org.freedesktop.systemd1(5)), over dbus-next."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageType
from dbus_next.errors import AuthError, DBusError
from dbus_next.message import Message
from dbus_next.signature import Variant

from rota.connection import Connection
from rota.errors import Exit, RotaError

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_NAME}.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_UNIT = f"{_NAME}.Unit"

# dbus-next loses the connection on bursts of unawaited calls.
_IN_FLIGHT = 32

_NEVER = 2**64 - 1

_EXITS: Mapping[str, Exit] = {
    "org.freedesktop.systemd1.NoSuchUnit": Exit.NOT_FOUND,
    "org.freedesktop.DBus.Error.AccessDenied": Exit.NOT_AUTHORISED,
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": Exit.NOT_AUTHORISED,
    "org.freedesktop.DBus.Error.ServiceUnknown": Exit.UNREACHABLE,
    "org.freedesktop.DBus.Error.NameHasNoOwner": Exit.UNREACHABLE,
    "org.freedesktop.DBus.Error.NoReply": Exit.UNREACHABLE,
}


class CallError(RotaError):
    """A D-Bus call was answered with an error; `name` is the error's name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message, exit_code=_EXITS.get(name, Exit.FAILED))
        self.name = name


_NO_BUS = (
    ("system", "See systemctl status dbus."),
    ("session", "There is one while you are logged in, and with loginctl enable-linger."),
)
"""What is missing, and what to do about it: of the system, of a user."""


async def connect(*, user: bool, address: str | None = None) -> Connection:
    """Connect to the system bus, or the session bus of the user.

    Raises:
        RotaError: there is no such bus.
    """
    kind = BusType.SESSION if user else BusType.SYSTEM
    try:
        bus = Connection(address, kind) if address else Connection(bus_type=kind)
        await bus.connect()
    except (OSError, AuthError, DBusError, ValueError) as error:
        which, hint = _NO_BUS[user]
        raise RotaError(f"no {which} bus: {error}", hint, Exit.UNREACHABLE) from None
    return bus


async def until_lost(bus: MessageBus) -> None:
    """Wait until a connection is lost.

    Raises:
        RotaError: it is.
    """
    with contextlib.suppress(EOFError, OSError):
        await bus.wait_for_disconnect()
    raise RotaError("the connection to the bus was lost", exit_code=Exit.UNREACHABLE)


async def call(bus: MessageBus, message: Message) -> list[Any]:
    """Call a method and return the values of its reply.

    Raises:
        CallError: the reply is an error.
        RotaError: the connection was lost.
    """
    try:
        reply = await bus.call(message)
    except (OSError, EOFError, DBusError) as error:
        raise RotaError(f"the bus is gone: {error}", exit_code=Exit.UNREACHABLE) from None
    if reply is None:
        return []
    if reply.message_type is MessageType.ERROR:
        raise CallError(reply.error_name, str(reply.body[0]) if reply.body else reply.error_name)
    return list(reply.body)


async def ask_bus(bus: MessageBus, member: str, argument: str) -> list[Any]:
    """Call a method of the bus itself that takes one string, such as AddMatch; raises as `call`."""
    name = "org.freedesktop.DBus"
    message = Message(
        destination=name,
        path="/org/freedesktop/DBus",
        interface=name,
        member=member,
        signature="s",
        body=[argument],
    )
    return await call(bus, message)


def plain(value: Any) -> Any:
    """Return a D-Bus value without its Variants, at any depth."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def escape(label: str) -> str:
    """Return a text as systemd and rota escape it in object paths (sd_bus_path_encode(3))."""
    if not label:
        return "_"
    return "".join(
        char
        if char.isascii() and char.isalnum() and not (index == 0 and char.isdigit())
        else f"_{ord(char):02x}"
        for index, char in enumerate(label)
    )


def unescape(label: str) -> str:
    """Return the text that `escape` made a label of."""
    return "" if label == "_" else re.sub(r"_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), label)


def unit_path(unit: str) -> str:
    """Return the object path of a unit."""
    return f"{_PATH}/unit/{escape(unit)}"


@dataclass(frozen=True, slots=True)
class UnitChange:
    """Something systemd said about a unit.

    Attributes:
        kind: `job-new`, `job-removed` (`state` is the job's result) or `state` (active state).
        unit: the unit's name.
        state: see kind.
        job: object path of the job, for the first two.
    """

    kind: str
    unit: str
    state: str = ""
    job: str = ""


class Systemd:
    """The manager of the bus this connection is on.

    Raises (every coroutine):
        CallError: systemd refused; RotaError: the bus is gone.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._watched: dict[str, str] = {}
        self._subscribed = False
        self._changed: Callable[[UnitChange], None] | None = None
        self._reloaded: Callable[[], None] | None = None

    async def _call(
        self, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        message = Message(
            destination=_NAME,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        async with self._slots:
            return await call(self._bus, message)

    async def _manager(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        return await self._call(_PATH, _MANAGER, member, signature, *body)

    async def start(self, unit: str) -> str:
        """Queue a start job and return its object path."""
        return str((await self._manager("StartUnit", "ss", unit, "replace"))[0])

    async def stop(self, unit: str) -> str:
        """Queue a stop job and return its object path."""
        return str((await self._manager("StopUnit", "ss", unit, "replace"))[0])

    async def reload(self) -> None:
        """Let systemd read all unit files anew; returns when it has."""
        await self._manager("Reload")

    async def reset_failed(self, unit: str) -> None:
        """Forget that a unit failed, so that systemd can unload it."""
        await self._manager("ResetFailedUnit", "s", unit)

    async def clean_state(self, timer: str) -> None:
        """Forget when a persistent timer elapsed last (its stamp file)."""
        await self._manager("CleanUnit", "sas", timer, ["state"])

    async def is_loaded(self, unit: str) -> bool:
        """Tell whether systemd has a unit in memory, with what it remembers of it."""
        try:
            await self._manager("GetUnit", "s", unit)
        except CallError as error:
            if error.name == "org.freedesktop.systemd1.NoSuchUnit":
                return False
            raise
        return True

    async def unit_files(self, pattern: str) -> list[str]:
        """Return the paths of installed unit files whose names match, the one that counts of each name.

        Looked up along UnitPath=: ListUnitFiles() reads and judges every unit there is, which takes
        systemd a fifth of a second.
        """
        found = await self._call(_PATH, _PROPERTIES, "Get", "ss", _MANAGER, "UnitPath")
        paths: dict[str, str] = {}
        for directory in plain(found[0]):
            for path in Path(directory).glob(pattern):
                paths.setdefault(path.name, str(path))
        return list(paths.values())

    async def loaded(self, *patterns: str, states: Iterable[str] = ()) -> dict[str, str]:
        """Return the active states of loaded units whose names match one of the patterns."""
        found = await self._manager("ListUnitsByPatterns", "asas", list(states), list(patterns))
        return {str(unit[0]): str(unit[3]) for unit in found[0]}

    async def properties(self, unit: str, interface: str = "Unit") -> dict[str, Any]:
        """Return all properties of a unit; asking for a unit that is not loaded loads it for a moment."""
        found = await self._call(unit_path(unit), _PROPERTIES, "GetAll", "s", f"{_NAME}.{interface}")
        return dict(plain(found[0]))

    async def unit_property(self, unit: str, name: str, interface: str = "Unit", **default: Any) -> Any:
        """Return one property of a unit, or `default=` if this systemd has no such property."""
        try:
            found = await self._call(unit_path(unit), _PROPERTIES, "Get", "ss", f"{_NAME}.{interface}", name)
        except CallError as error:
            if default and error.name == "org.freedesktop.DBus.Error.UnknownProperty":
                return default["default"]
            raise
        return plain(found[0])

    async def wanted(self, unit: str) -> bool:
        """Tell whether a unit is installed, and another one is to start it: a target, at boot."""
        if await self.unit_property(unit, "LoadState") != "loaded":
            return False
        for name in ("WantedBy", "RequiredBy", "UpheldBy"):
            if await self.unit_property(unit, name, default=[]):
                return True
        return False

    async def next_elapse(self, timer: str) -> int | None:
        """Return when a timer elapses next, microseconds since 1970, None if it does not."""
        realtime = await self.unit_property(timer, "NextElapseUSecRealtime", "Timer")
        monotonic = await self.unit_property(timer, "NextElapseUSecMonotonic", "Timer")
        moments = [realtime] if 0 < realtime < _NEVER else []
        if 0 < monotonic < _NEVER:
            moments.append((time.time_ns() - time.monotonic_ns()) // 1000 + monotonic)
        return min(moments, default=None)

    async def started(self) -> int:
        """Return when the manager itself started, in microseconds of the monotonic clock."""
        found = await self._call(_PATH, _PROPERTIES, "Get", "ss", _MANAGER, "UserspaceTimestampMonotonic")
        return int(plain(found[0]))

    async def _match(self, rule: str, member: str = "AddMatch") -> None:
        await ask_bus(self._bus, member, rule)

    async def follow(self, changed: Callable[[UnitChange], None], reloaded: Callable[[], None]) -> None:
        """Call back on jobs, on state changes of watched units, and after each daemon-reload."""
        self._changed, self._reloaded = changed, reloaded
        self._bus.add_message_handler(self._on_message)
        for member in ("JobNew", "JobRemoved", "Reloading"):
            await self._match(f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='{member}'")
        await self._subscribe()

    async def _subscribe(self) -> None:
        if not self._subscribed:
            self._subscribed = True
            await self._manager("Subscribe")

    def _rule(self, unit: str) -> str:
        return (
            f"type='signal',sender='{_NAME}',interface='{_PROPERTIES}',member='PropertiesChanged',"
            f"path='{unit_path(unit)}',arg0='{_UNIT}'"
        )

    async def watch(self, unit: str) -> None:
        """Follow a unit's active state from now on."""
        if unit_path(unit) not in self._watched:
            self._watched[unit_path(unit)] = unit
            await self._match(self._rule(unit))

    async def unwatch(self, unit: str) -> None:
        """No longer follow a unit's active state."""
        if self._watched.pop(unit_path(unit), None):
            await self._match(self._rule(unit), "RemoveMatch")

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL or self._changed is None:
            return
        if message.interface == _MANAGER:
            if message.member == "JobNew":
                _, job, unit = message.body
                self._changed(UnitChange("job-new", unit, job=job))
            elif message.member == "JobRemoved":
                _, job, unit, result = message.body
                self._changed(UnitChange("job-removed", unit, result, job))
            elif message.member == "Reloading" and message.body == [False] and self._reloaded:
                self._reloaded()
        elif message.interface == _PROPERTIES and (unit := self._watched.get(message.path)):
            state = message.body[1].get("ActiveState")
            if state is not None:
                self._changed(UnitChange("state", unit, str(state.value)))

    async def settle(self, job: Callable[[], Awaitable[str]], unit: str) -> str:
        """Queue a job and wait until it is gone; return its result ("done", "failed", ...).

        For programs that end after a few jobs; rotad has the signals anyway.
        """
        results: dict[str, asyncio.Future[str]] = {}
        loop = asyncio.get_running_loop()

        def removed(message: Message) -> None:
            if message.member == "JobRemoved" and message.interface == _MANAGER and message.body[2] == unit:
                future = results.setdefault(message.body[1], loop.create_future())
                if not future.done():
                    future.set_result(str(message.body[3]))

        rule = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved'"
        self._bus.add_message_handler(removed)
        try:
            await self._match(rule)
            await self._subscribe()
            queued = await job()
            return await results.setdefault(queued, loop.create_future())
        finally:
            self._bus.remove_message_handler(removed)
            await self._match(rule, "RemoveMatch")
