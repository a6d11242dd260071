"""Starts a unit that root has made, and waits for what becomes of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.message import Message

from rota.errors import Exit, RotaError
from rota.systemd import CallError, ask_bus, call, connect, unit_path

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_NAME}.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_SERVICE = f"{_NAME}.Service"
_NO_UNIT = frozenset(
    (f"{_NAME}.NoSuchUnit", f"{_NAME}.LoadFailed", f"{_NAME}.UnitMasked", f"{_NAME}.BadUnitSetting")
)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a start of a oneshot unit.

    Attributes:
        job: systemd's word for the job: done, failed, canceled, timeout, dependency, skipped, ...
        result: the service's own: success, exit-code, signal, timeout, ...; "" where nothing was said.
        status: exit status or signal of its process, 0 where nothing was said.
    """

    job: str
    result: str = ""
    status: int = 0

    @property
    def good(self) -> bool:
        """Whether all went as it should."""
        return self.job == "done" and self.result in ("", "success")

    def why(self) -> str:
        """Return what went wrong, in words."""
        if self.result == "exit-code":
            return f"it ended with exit status {self.status}"
        if self.result in ("signal", "core-dump"):
            return f"it was killed by signal {self.status}"
        if self.result == "timeout":
            return "it took too long, and systemd stopped it"
        return f"systemd says {self.result or self.job}"


class Jobs:
    """systemd's jobs, each over a connection of its own, which goes when nobody waits any more."""

    def __init__(self, address: str | None = None) -> None:
        """Name the bus.

        Args:
            address: instead of the system bus's own.
        """
        self._address = address

    async def run(self, unit: str) -> Done:
        """Start a oneshot unit and wait for its end. One that runs already is waited for, not started again.

        Raises:
            RotaError: there is no such unit, it may not be started, or systemd cannot be reached.
        """
        bus = await connect(user=False, address=self._address)
        try:
            return await _Wait(bus, unit).done()
        except CallError as error:
            if error.name in _NO_UNIT:
                raise RotaError(f"there is no {unit}: {error.message}", "Run rota apply.") from None
            raise
        finally:
            bus.disconnect()


class _Wait:
    """One start, and the signals that tell of it.

    systemd sends what changed of a unit before it says that the job is gone, also where it forgets the unit
    right then; asked afterwards, it would say "success" of whatever it has forgotten.
    """

    def __init__(self, bus: MessageBus, unit: str) -> None:
        self._bus = bus
        self._unit = unit
        self._path = unit_path(unit)
        self._jobs: dict[str, str] = {}
        self._result = ""
        self._status = 0
        self._news = asyncio.Event()

    async def done(self) -> Done:
        self._bus.add_message_handler(self._heard)
        rules = (
            f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved',arg2='{self._unit}'",
            f"type='signal',sender='{_NAME}',interface='{_PROPERTIES}',member='PropertiesChanged',"
            f"path='{self._path}',arg0='{_SERVICE}'",
        )
        for rule in rules:
            await ask_bus(self._bus, "AddMatch", rule)
        await self._manager("Subscribe")
        job = str((await self._manager("StartUnit", "ss", self._unit, "replace"))[0])
        gone = asyncio.ensure_future(self._bus.wait_for_disconnect())
        try:
            while job not in self._jobs:
                self._news.clear()
                heard = asyncio.ensure_future(self._news.wait())
                await asyncio.wait((heard, gone), return_when=asyncio.FIRST_COMPLETED)
                heard.cancel()
                if gone.done():
                    raise RotaError(
                        f"the bus is gone: what became of {self._unit} is not known",
                        exit_code=Exit.UNREACHABLE,
                    )
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError, OSError, EOFError):
                await gone
        return Done(self._jobs[job], self._result, self._status)

    async def _manager(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        message = Message(
            destination=_NAME,
            path=_PATH,
            interface=_MANAGER,
            member=member,
            signature=signature,
            body=list(body),
        )
        return await call(self._bus, message)

    def _heard(self, message: Message) -> None:
        if message.member == "JobRemoved" and message.interface == _MANAGER:
            _, job, _unit, result = message.body
            self._jobs[job] = str(result)
            self._news.set()
        elif message.member == "PropertiesChanged" and message.path == self._path:
            changed = message.body[1]
            if "Result" in changed:
                self._result = str(changed["Result"].value)
            if "ExecMainStatus" in changed:
                self._status = int(changed["ExecMainStatus"].value)
