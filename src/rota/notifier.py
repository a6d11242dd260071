"""rotad-notify: follows what rotad and the keeper record, files what is to be told, and sends it.

A process of its own with a network, so that rotad needs none. Each channel has a worker of its own: one that
fails or hangs keeps no other waiting.
"""

from __future__ import annotations

# isort: off
import rota.lean  # noqa: F401  (before what it keeps out)
# isort: on

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from dbus_next.constants import NameFlag, RequestNameReply
from systemd import daemon as sd

from rota import program
from rota.clock import wall_clock
from rota.desk import Desk
from rota.errors import Exit, RotaError
from rota.events import Run
from rota.grouping import FIRST_RETRY
from rota.hearing import Hearing
from rota.logs import tail, unit_tail
from rota.names import NOTIFIER_BUS_NAME
from rota.notify import PATIENCE, deliver
from rota.outbox import Outbox, open_outbox
from rota.quantity import USEC
from rota.routes import Happening, Rules, from_json
from rota.sending import Worker
from rota.sources import KEEPER, ROTAD, Source
from rota.systemd import connect, until_lost
from rota.telling import own_unit
from rota.wording import TAIL, test_message

log = logging.getLogger("rotad-notify")

_GRACE = 10.0
"""Well within what systemd waits after it told a service to stop."""
_HOUR = 3600.0
_KEPT = 30 * 86_400 * USEC
"""Messages are remembered so long after they are done with."""
_SHOWN = 20
_BEFORE, _AFTER = 60 * USEC, 2 * USEC
"""So long before it went wrong, and after that was noticed, what a unit wrote is of interest."""


class Notifier:
    """The wiring: sources on one side, channels on the other, the outbox between."""

    def __init__(
        self,
        state: Path,
        credentials: Path,
        *,
        user: bool,
        address: str | None = None,
        patience: float = PATIENCE,
        grace: float = _GRACE,
        first_retry: int = FIRST_RETRY,
    ) -> None:
        """Read what is declared, and open the outbox.

        Args:
            state: directory of the outbox.
            credentials: directory with `rules` and `channel.NAME`, as systemd makes it (systemd.exec(5)).
            user: rotad is the user's own.
            address: of the bus, instead of the usual one.
            patience: seconds that a message may take to be sent.
            grace: seconds that what is being sent has to go out once it is told to stop.
            first_retry: microseconds until a message is tried again for the first time.

        Raises:
            RotaError: nothing is declared, or the outbox cannot be used.
        """
        self._credentials = credentials
        self._user = user
        self._address = address
        self._patience = patience
        self._grace = grace
        self._first_retry = first_retry
        self._rules = read_rules(credentials / "rules")
        self._outbox, damage = open_outbox(state / "outbox.db")
        if damage:
            log.error("the outbox was damaged: %s. The last day is heard again", damage)
        self._damaged = bool(damage)
        self._stop = asyncio.Event()
        self._workers: dict[str, Worker] = {}
        self._hearings: list[Hearing] = []

    @property
    def outbox(self) -> Outbox:
        """What waits, and what went out."""
        return self._outbox

    async def run(self) -> None:
        """Tell people until told to stop.

        Raises:
            RotaError: no bus, or another rotad-notify has the name.
        """
        self._bus = await connect(user=self._user, address=self._address)
        Desk(self._bus, self)
        if await self._bus.request_name(NOTIFIER_BUS_NAME, NameFlag.DO_NOT_QUEUE) is not (
            RequestNameReply.PRIMARY_OWNER
        ):
            raise RotaError(f"another rotad-notify has the name {NOTIFIER_BUS_NAME}")
        # Whoever has the name, and nobody else, touches the outbox.
        cut_off = self._outbox.recover(wall_clock())
        if cut_off:
            log.warning("%d messages were cut off while they were being sent, and are sent again", cut_off)
        gone = self._outbox.abandon(self._rules.channels, wall_clock())
        if gone:
            log.error("%d things were for channels that are no longer declared, and are given up", gone)
        for name, channel in self._rules.channels.items():
            self._workers[name] = Worker(
                channel,
                self._rules,
                self._outbox,
                self._credential(name),
                host=socket.gethostname(),
                user=self._user,
                patience=self._patience,
                first_retry=self._first_retry,
                chance=random.SystemRandom().random,
                tail=self._tail,
            )
        for name, where in (("rotad", ROTAD), ("keeper", KEEPER)):
            wake = asyncio.Event()
            source = Source(self._bus, name, where, wake)
            hearing = Hearing(
                source, wake, self._outbox, self._rules, self._filed, from_yesterday=self._damaged
            )
            self._hearings.append(hearing)
            await source.follow()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        sd.notify(f"READY=1\nSTATUS=Telling people by {', '.join(sorted(self._workers))}")
        await self._until_stopped(loop)

    async def _until_stopped(self, loop: asyncio.AbstractEventLoop) -> None:
        workers = [loop.create_task(worker.forever()) for worker in self._workers.values()]
        others = [loop.create_task(hearing.forever()) for hearing in self._hearings]
        beside = (self._watchdog(), self._forget(), until_lost(self._bus))
        others += [loop.create_task(work) for work in beside]
        stopped = loop.create_task(self._stop.wait())
        done, _ = await asyncio.wait((*workers, *others, stopped), return_when=asyncio.FIRST_COMPLETED)
        sd.notify("STOPPING=1")
        for worker in self._workers.values():
            worker.stop()
        for task in (*others, stopped):
            task.cancel()
        await asyncio.wait(workers, timeout=self._grace)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, *others, return_exceptions=True)
        self._outbox.close()
        self._bus.disconnect()
        for task in done:
            task.result()

    def stop(self) -> None:
        """End: what is being sent has some seconds to go out."""
        self._stop.set()

    async def _tail(self, happening: Happening) -> list[str]:
        """Return the last lines of a run, or of a unit about the time at which it went wrong.

        Of a run, all of them if rotad is there to say which process wrote them.
        """
        if unit := own_unit(happening):
            began = min(happening.since or happening.at, happening.at) - _BEFORE
            span = (began, happening.at + _AFTER)
            return await asyncio.to_thread(unit_tail, unit, span, TAIL, user=self._user)
        run = Run(happening.run, happening.agent, "failed")
        with contextlib.suppress(RotaError):
            table = await self._hearings[0].source.run(run.id)
            run = Run.of(table) if table else run
        return await asyncio.to_thread(tail, run, TAIL, user=self._user)

    def _credential(self, channel: str) -> Path:
        return self._credentials / f"channel.{channel}"

    def _filed(self, channels: Iterable[str]) -> None:
        for channel in set(channels):
            if channel in self._workers:
                self._workers[channel].wake()

    def status(self) -> str:
        """Return how channels and sources do, and the last messages, as JSON."""
        return json.dumps(
            {
                "channels": [worker.overview() for worker in self._workers.values()],
                "sources": [hearing.overview() for hearing in self._hearings],
                "messages": self._outbox.deliveries(_SHOWN),
            },
            ensure_ascii=False,
        )

    async def test(self, channel: str) -> int:
        """Send a test message to a channel, at once; return how long it took, in microseconds.

        Raises:
            RotaError: there is no such channel, or it was not sent.
        """
        if channel not in self._rules.channels:
            known = ", ".join(sorted(self._rules.channels))
            raise RotaError(f"no such channel: {channel}", f"There are {known}.", Exit.NOT_FOUND)
        begun = time.monotonic_ns()
        text = test_message(channel, socket.gethostname(), wall_clock())
        outcome = await deliver(self._credential(channel), text, self._patience)
        log.info("test of %s: %s", channel, outcome.error or "sent")
        if not outcome.ok:
            raise RotaError(
                f"{channel}: {outcome.error}",
                "Its file is read when rotad-notify starts: after a change, systemctl restart rotad-notify.",
            )
        return (time.monotonic_ns() - begun) // 1000

    async def _watchdog(self) -> None:
        period = int(os.environ.get("WATCHDOG_USEC", "120000000")) / 2_000_000
        while True:
            sd.notify("WATCHDOG=1")
            await asyncio.sleep(period)
            for hearing in self._hearings:
                hearing.look()

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(_HOUR)
            try:
                self._outbox.prune(wall_clock() - _KEPT)
            except RotaError as error:
                log.warning("what is old was not forgotten: %s", error.message)


def read_rules(path: Path) -> Rules:
    """Return what is declared about telling people.

    Raises:
        RotaError: nothing, or it is of another version of rota.
    """
    hint = "Declare [channels.NAME] in rota.toml, then run rota apply."
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise RotaError("nobody is to be told anything", hint, Exit.USAGE) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RotaError(f"the rules are of another version of rota: {error!r}", "Run rota apply.") from None


def parser() -> argparse.ArgumentParser:
    """Return the parser of rotad-notify's command line."""
    user = "follow the user's own rotad, on its bus"
    return program.parser("rotad-notify", "Tells people what became of rota's agents", user=user)


async def _main(*, user: bool) -> None:
    await Notifier(program.state_directory("rota-notify", user=user), program.credentials(), user=user).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run rotad-notify; return its exit code."""
    return program.run(log, _main(user=parser().parse_args(argv).user))
