"""What people may do with agents through rotad, if polkit lets them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dbus_next.aio.message_bus import MessageBus

from rota import pauses
from rota.answers import ACTIVE, Answers
from rota.bus_object import Caller
from rota.clock import wall_clock
from rota.errors import Exit, RotaError
from rota.inquiry import Inquiry
from rota.ledger import Ledger
from rota.names import POLKIT_ACTION, service_of
from rota.observer import Observer
from rota.polkit import authorised, uid_of, user_name
from rota.recorder import Recorder
from rota.systemd import Systemd

log = logging.getLogger("rotad")


class Acts(Answers):
    """What is served on D-Bus: interface.Service."""

    def __init__(
        self,
        state: Path,
        recorder: Recorder,
        systemd: Systemd,
        observer: Observer,
        bus: MessageBus,
        *,
        ledger: Ledger,
        user: bool,
    ) -> None:
        super().__init__(state, recorder, systemd)
        self._inquiry = Inquiry(state, recorder, systemd, ledger)
        self._observer = observer
        self._bus = bus
        self._user = user

    async def _authorise(self, caller: Caller, name: str, verb: str) -> str:
        """Return the caller's user name if they may do it.

        Raises:
            RotaError: they may not.
        """
        uid = await uid_of(self._bus, caller.sender)
        details = {"agent": name, "verb": verb}
        if not self._user and not await authorised(
            self._bus, caller.sender, POLKIT_ACTION, details, interactive=caller.interactive
        ):
            raise RotaError(
                f"not authorised to {verb} {name}",
                "Members of the group rota are; see rota(1).",
                Exit.NOT_AUTHORISED,
            )
        return user_name(uid)

    async def get_agent(self, name: str) -> dict[str, Any]:
        """Return one agent with its declaration as JSON, and its coming slots."""
        return {**await super().get_agent(name), "coming": await self._inquiry.coming(name)}

    async def why(self, name: str, at: int | None) -> dict[str, Any]:
        """Return why the last slot or run, or that at a moment, did or did not happen; see why.Facts."""
        return await self._inquiry.why(self.definition(name), at)

    async def start(self, caller: Caller, name: str) -> str:
        """Start an agent and return the run's id."""
        self.definition(name)
        by = await self._authorise(caller, name, "start")
        if (pause := pauses.paused(self._state, name)) is not None:
            who = f" by {pause['by']}" if pause.get("by") else ""
            raise RotaError(f"{name} is paused{who}", f"Write rota resume {name} first.")
        unit = service_of(name)
        before = await self._observer.invocation(unit)
        if await self._systemd.unit_property(unit, "ActiveState") in ACTIVE:
            raise RotaError(f"{name} is running already, run {before[:8]}")
        self._observer.expect(unit, by)
        result = await self._observer.job_result(await self._systemd.start(unit))
        run = await self._observer.invocation(unit)
        if not run or run == before:
            self._observer.expect(unit, None)
            raise RotaError(f"{name} was not started: {result}", f"See systemctl status {unit}.")
        await self._recorder.known(run)
        return run

    async def stop(self, caller: Caller, name: str) -> None:
        """Stop the run of an agent that is under way."""
        self.definition(name)
        by = await self._authorise(caller, name, "stop")
        unit = service_of(name)
        if await self._systemd.unit_property(unit, "ActiveState") not in ACTIVE:
            raise RotaError(f"{name} is not running")
        run = await self._observer.invocation(unit)
        self._recorder.record("stop-requested", name, run, f"{name}: {by} stops run {run[:8]}", {"by": by})
        await self._observer.job_result(await self._systemd.stop(unit))

    async def pause(self, caller: Caller, name: str, why: str) -> None:
        """Keep an agent from being started."""
        self.definition(name)
        by = await self._authorise(caller, name, "pause")
        if len(why) > 1000 or not why.isprintable():
            raise RotaError("the reason must be one line of at most 1000 characters", exit_code=Exit.USAGE)
        try:
            pauses.pause(self._state, name, by=by, at=wall_clock(), why=why)
        except OSError as error:
            raise RotaError(f"{error.filename}: {error.strerror}") from None
        log.info("%s paused by %s%s", name, by, f": {why}" if why else "")

    async def resume(self, caller: Caller, name: str) -> None:
        """Let a paused agent be started again."""
        self.definition(name)
        by = await self._authorise(caller, name, "resume")
        try:
            was = pauses.resume(self._state, name)
        except OSError as error:
            raise RotaError(f"{error.filename}: {error.strerror}") from None
        if not was:
            raise RotaError(f"{name} is not paused")
        log.info("%s resumed by %s", name, by)
