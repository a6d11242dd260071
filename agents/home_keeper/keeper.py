"""rota-home-keeper: the wiring. All that happens goes through one queue, and is decided one step at a time.

Checks and event sources put what they find into the inbox; so do people, over D-Bus, and actions that end.
The step loop takes one thing after the other, has the core decide and file it, and then carries out what
comes of it: actions are tasks of their own, bounded in time; what people are to know is an event that
rotad-notify reads.
"""

from __future__ import annotations

# isort: off
import rota.no_glib  # noqa: F401  (before dbus-next)
# isort: on

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbus_next.constants import NameFlag, RequestNameReply
from systemd import daemon as sd

from rota import program
from rota.errors import DamagedError, RotaError
from rota.journal import boot_id
from rota.keeper_config import Config
from rota.names import KEEPER_BUS_NAME
from rota.quantity import USEC
from rota.systemd import connect, until_lost

from . import settings, view
from .core import Core
from .desk import Desk
from .intake import Inbox, Item, keep_following, left, observed
from .messages import Acknowledge, Act, Effect, Ended, Happening, Reply, Tell, Tick
from .parts import Parts
from .probes.polling import Observation, poll_all
from .probes.polls import polls
from .reception import Reception
from .state import Reading, set_clock
from .words import Action, Escalation

log = logging.getLogger("rota-home-keeper")

_HOUR = 3600.0
_KEPT = 90 * 86_400 * USEC
"""Events, findings and actions that are over are remembered so long."""
_GIVEN_UP = 7 * 86_400 * USEC
_UNHEARD = 500
"""So long an escalation waits to be taken over, and so many do: where there is nobody to tell."""


_AT_ONCE = 100
"""So many targets of which a check found something are filed in one transaction."""
_LINE, _REPORT = 2000, 16_384
"""Characters of an error, and of a report as JSON, that are filed: of 500 events all fit into a reply."""


def reading(boot: str) -> Reading:
    """Return the clocks as they are now, in a boot of this id."""
    boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    return Reading(time.time_ns() // 1000, boottime, boot)


class Keeper:
    """Checks and sources on one side, remedies and people on the other, the core between."""

    def __init__(self, state: Path, config: Config, *, user: bool) -> None:
        """Begin with nothing.

        Args:
            state: directory of the ledger.
            config: what is declared.
            user: ask the user's own bus and manager.
        """
        self._state = state
        self._config = config
        self._user = user
        self._boot = boot_id()
        self._stop = asyncio.Event()
        self._inbox = Inbox()
        self._acting: dict[int, asyncio.Task[None]] = {}
        self._parts = Parts(config, user=user)
        self._period = int(os.environ.get("WATCHDOG_USEC", "120000000")) / 3_000_000
        self._pinged = 0.0
        self._said = ""
        self._store, self._seq = "", 0
        self._told: set[int] = set()
        self._watching: list[asyncio.Task[Any]] = []

    async def run(self) -> None:
        """Keep the house until told to stop.

        Raises:
            RotaError: no bus, or another keeper has the name.
        """
        bus = await connect(user=self._user)
        reply = await bus.request_name(KEEPER_BUS_NAME, NameFlag.DO_NOT_QUEUE)
        if reply is not RequestNameReply.PRIMARY_OWNER:
            raise RotaError(f"another keeper has the name {KEEPER_BUS_NAME}")
        checks, sources = polls(self._config.watches), self._parts.sources
        names = frozenset((*(one.name for one in checks), *(one.name for one in sources)))
        self._core = Core(self._state / "keeper.db", self._config.rules, names, reading(self._boot))
        self._mark()
        self._reception = Reception(self._core, self._inbox, bus, user=self._user)
        await self._reception.know_notifier()
        self._desk = Desk(bus, self._reception)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        log.info("keeping the house with %d checks", len(names))
        put = self._inbox.put_nowait
        known = left(self._core.state)
        self._parts.recall(known)
        self._watching = [loop.create_task(keep_following(source, put)) for source in sources]
        self._watching += [loop.create_task(poll_all(checks, self._inbox, known))] if checks else []
        tasks = [*self._watching, *map(loop.create_task, (self._steps(), self._forget()))]
        tasks += [loop.create_task(self._stop.wait()), loop.create_task(until_lost(bus))]
        sd.notify("READY=1")
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        sd.notify("STOPPING=1")
        # What is under way has its row: what became of it, the next keeper has to find out.
        for task in (*tasks, *self._acting.values()):
            task.cancel()
        await asyncio.gather(*tasks, *self._acting.values(), return_exceptions=True)
        self._core.close()
        bus.disconnect()
        for task in done:
            task.result()

    def stop(self) -> None:
        """End."""
        self._stop.set()

    # The step loop.

    async def _steps(self) -> None:
        self._carry_out(self._core.effects, None)
        while True:
            self._alive()
            item = await self._inbox.get(self._patience())
            found = self._happenings(item)
            for start in range(0, len(found), _AT_ONCE):
                self._step(found[start : start + _AT_ONCE], item.reply if item is not None else None)
                self._alive()
                await asyncio.sleep(0)

    def _happenings(self, item: Item | None) -> list[Happening]:
        what = item.what if item is not None else None
        found: list[Happening] = []
        if isinstance(what, Observation):
            found += observed(what, self._core.state)
        elif what is not None:
            found.append(what)
        return found or ([Tick()] if self._due() else [])

    def _patience(self) -> float:
        """Return for how many seconds nothing is to be done if nothing comes in."""
        wake = self._core.wake
        if wake is None:
            return self._period
        return min(max((wake - reading(self._boot).real) / USEC, 0), self._period)

    def _due(self) -> bool:
        """Tell whether it is time for a tick: something waits for this moment, or the clock was set."""
        now, wake = reading(self._boot), self._core.wake
        return (wake is not None and wake <= now.real) or bool(set_clock(self._core.state, now)[1])

    def _step(self, happenings: list[Happening], reply: asyncio.Future[Reply] | None) -> None:
        effects = self._core.handle_all(happenings, reading(self._boot))
        self._carry_out(effects, reply)

    def _carry_out(self, effects: list[Effect], reply: asyncio.Future[Reply] | None) -> None:
        self._tell_of_events()
        for effect in effects:
            if isinstance(effect, Act):
                task = asyncio.get_running_loop().create_task(self._act(effect.action))
                self._acting[effect.action.id] = task
            elif isinstance(effect, Tell):
                self._tell(effect.escalation)
            elif reply is not None and not reply.done():
                reply.set_result(effect)
        if reply is not None and not reply.done():
            reply.set_result(Reply(True, ""))

    # What comes of it.

    async def _act(self, action: Action) -> None:
        """Carry out an action, and have its end decided upon."""
        what = f"{action.remedy} of {action.target}"
        log.warning("%s (action %d): %s", what, action.id, action.why)
        patience = self._parts.patience(action.remedy)
        try:
            carry = self._parts.remedies.get(action.remedy.word)
            if carry is None:
                raise RotaError(f"there is nothing that could {action.remedy}")
            async with asyncio.timeout(patience) as limit:
                report = await carry(action)
            ended = Ended(action.id, "ok", "", _filed(report))
        except RotaError as error:
            why = f"{error.message}. {error.hint}".rstrip(". ")
            ended = Ended(action.id, "failed", why[:_LINE], _filed(getattr(error, "report", {})))
        except Exception as error:  # a remedy's mistake must not end the keeper
            why = f"{type(error).__name__}: {error}"
            if isinstance(error, TimeoutError) and limit.expired():
                why = f"it was not over after {patience:g} s"
            else:
                log.exception("%s failed", what)
            ended = Ended(action.id, "failed", why[:_LINE])
        log.info("%s (action %d): %s%s", what, action.id, ended.outcome, ended.error and f", {ended.error}")
        del self._acting[action.id]
        self._inbox.tell(ended)

    def _tell(self, escalation: Escalation) -> None:
        """Hand an escalation over: it is an event already, of which rotad-notify hears now if it has not."""
        unheard = self._core.state.escalations
        last = time.time_ns() // 1000 - _GIVEN_UP
        if escalation.at < last or (len(unheard) > _UNHEARD and escalation.id == unheard[0].id):
            log.error("nobody has taken over that %s needs a person: %s", escalation.target, escalation.why)
            self._inbox.tell(Acknowledge(escalation.id))
            return
        if escalation.id not in self._told:
            self._told = {one.id for one in unheard if one.id in self._told} | {escalation.id}
            found = "; ".join(escalation.findings) or "see rota keeper"
            log.warning("%s needs a person: %s (%s)", escalation.target, found, escalation.why)
            return
        with contextlib.suppress(RotaError):
            self._desk.recorded(self._reception.event_of(escalation))

    def _mark(self) -> None:
        """Tell of what is recorded from now on."""
        if (ledger := self._core.ledger) is not None:
            with contextlib.suppress(DamagedError, RotaError):
                self._store, self._seq = ledger.id(), ledger.bounds()[1]

    def _tell_of_events(self) -> None:
        """Tell those who follow what was filed since."""
        ledger = self._core.ledger
        if ledger is None:
            return
        try:
            if ledger.id() != self._store:
                self._store, self._seq = ledger.id(), 0
            while found := ledger.events(self._seq):
                self._seq = found[-1].seq
                self._desk.recorded(found)
        except (DamagedError, RotaError) as error:
            log.warning("the ledger cannot be read: %s", error)  # the core finds out when it writes

    # systemd.

    def _alive(self) -> None:
        """Tell systemd that the loop turns, and that whoever looks out still does."""
        now = time.monotonic()
        self._reception.turned = time.time_ns() // 1000
        said = view.summary(self._core.state)
        if said != self._said:
            self._said = said
            sd.notify(f"STATUS={said}")
        if now >= self._pinged + self._period / 2 and not any(task.done() for task in self._watching):
            self._pinged = now
            sd.notify("WATCHDOG=1")

    async def _forget(self) -> None:
        """Forget what is old, a little at a time, once an hour."""
        while True:
            await asyncio.sleep(_HOUR)
            before = time.time_ns() // 1000 - _KEPT
            try:
                while self._core.ledger is not None and self._core.ledger.prune(before):
                    await asyncio.sleep(0.02)
            except (DamagedError, RotaError) as error:
                log.warning("what is old was not forgotten: %s", error)


def _filed(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report as the ledger takes it."""
    text = json.dumps(dict(report), default=str)
    return dict(json.loads(text)) if len(text) <= _REPORT else {"too_long": text[:_REPORT]}


def parser() -> argparse.ArgumentParser:
    """Return the parser of rota-home-keeper's command line."""
    about = "Notices what fails in the house, heals it by policy, tells someone"
    return program.parser("rota-home-keeper", about, user="keep what is the user's own, on their bus")


async def _main(*, user: bool) -> None:
    config = settings.read(program.credentials() / "config")
    await Keeper(program.state_directory("rota-home-keeper", user=user), config, user=user).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run rota-home-keeper; return its exit code."""
    return program.run(log, _main(user=parser().parse_args(argv).user))


if __name__ == "__main__":
    sys.exit(main())
