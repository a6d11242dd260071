"""What people and programs may ask of the keeper, and what they may have it do: desk.Service."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota import __version__
from rota.bus_object import Caller
from rota.errors import DamagedError, Exit, RotaError
from rota.names import NOTIFIER_BUS_NAME
from rota.polkit import authorised, uid_of, user_name
from rota.quantity import USEC
from rota.systemd import CallError, ask_bus

from . import sums, view
from .core import Core
from .desk import ACTIONS
from .intake import Inbox
from .ledger import Ledger, Recorded
from .messages import Acknowledge, Answer, EndMaintenance, Happening, Maintain
from .messages import Resume as ResumeTarget
from .words import PROBLEMS, Escalation

log = logging.getLogger("rota-home-keeper")

T = TypeVar("T")

_BUS = "org.freedesktop.DBus"
_LONGEST = 30 * 86_400
"""Seconds that maintenance may last at most: who forgets about it has no keeper."""
_REMEDIES = 10
PAGE = 100
"""Events in a reply to anybody but rotad-notify: no call takes the loop for long."""
_LONGEST_NAME, _WILDCARDS = 512, 8
"""What is longer, or has more of them, is none: a unit's name has 255 characters at most, its host's 253."""


def _now() -> int:
    return time.time_ns() // 1000


def _pattern(text: str) -> str:
    """Return a target, or a pattern of targets.

    Raises:
        RotaError: it is none.
    """
    kind, _, name = text.partition(":")
    known = text == "*" or (bool(name) and (kind in PROBLEMS or "*" in kind or "?" in kind))
    strange = len(text) > _LONGEST_NAME or not text.isprintable() or text.count("*") > _WILDCARDS
    if not known or strange:
        hint = f"Write KIND:NAME, for example unit:nginx.service; kinds are {', '.join(sorted(PROBLEMS))}."
        raise RotaError(f'"{text[:80]}" is no target', hint, Exit.USAGE)
    return text


class Reception:
    """Answers from the core's state and the ledger; what changes something goes through the inbox."""

    def __init__(self, core: Core, inbox: Inbox, bus: MessageBus, *, user: bool) -> None:
        self._core = core
        self._inbox = inbox
        self._bus = bus
        self._user = user
        self._notifier = ""
        self.turned = 0

    def ask(self, question: Callable[[Ledger], T]) -> T:
        """Ask the ledger.

        Raises:
            RotaError: it cannot be opened or read.
        """
        if self._core.ledger is None:
            raise RotaError("the ledger cannot be opened", "See rota keeper explain check:ledger.")
        try:
            return question(self._core.ledger)
        except DamagedError as error:
            raise RotaError(f"the ledger is damaged: {error}") from None

    async def events(self, caller: Caller, since: int, limit: int) -> tuple[str, int, int, list[Recorded]]:
        """Return the store, its bounds, and events after a number.

        rotad-notify asks with the number of the last event that is safe with it: which is how escalations up
        to it are acknowledged. Its bus name is how it is known.
        """
        first, last = self.ask(Ledger.bounds)
        heard = self._core.state.escalations and 0 < since <= last
        if caller.sender != self._notifier:
            limit = min(limit, PAGE)
        elif heard:
            self._taken_over(since)
        return self.ask(Ledger.id), first, last, self.ask(lambda ledger: ledger.events(since, limit))

    async def know_notifier(self) -> None:
        """Know from now on who rotad-notify is.

        If the bus were asked at each call, it would answer many at once, which then went on all at once.
        """
        self._bus.add_message_handler(self._on_message)
        rule = f"type='signal',sender='{_BUS}',member='NameOwnerChanged',arg0='{NOTIFIER_BUS_NAME}'"
        await ask_bus(self._bus, "AddMatch", rule)
        with suppress(CallError):
            self._notifier = str((await ask_bus(self._bus, "GetNameOwner", NOTIFIER_BUS_NAME))[0])

    def _on_message(self, message: Message) -> None:
        of_bus = message.message_type is MessageType.SIGNAL and message.sender == _BUS
        if of_bus and message.member == "NameOwnerChanged" and message.body[0] == NOTIFIER_BUS_NAME:
            self._notifier = str(message.body[2])

    def _taken_over(self, upto: int) -> None:
        numbers = self._numbers()
        for item in self._core.state.escalations:
            if numbers.get(item.id, upto + 1) <= upto:
                self._inbox.tell(Acknowledge(item.id))

    def _numbers(self) -> dict[int, int]:
        """Return the events' numbers of escalations, by their ids; of an id that came again, the last."""
        return {int(one.event.data["id"]): one.seq for one in self.ask(Ledger.escalated)}

    def seq_at(self, at: int) -> int:
        """Return the number after which events from a moment on are found."""
        return self.ask(lambda ledger: ledger.seq_before(at))

    def unheard(self) -> int:
        """Return the number after which are the escalations that nobody took over, and the open questions."""
        numbers, state = self._numbers(), self._core.state
        waiting = [numbers[one.id] - 1 for one in state.escalations if one.id in numbers]
        open_ = {case.ask.id for case in state.cases.values() if case.ask is not None and not case.ask.by}
        asked = self.ask(Ledger.asked) if open_ else []
        waiting += [one.seq - 1 for one in asked if one.event.data["id"] in open_]
        return min(waiting, default=self.ask(Ledger.bounds)[1])

    def event_of(self, escalation: Escalation) -> list[Recorded]:
        """Return the event of an escalation, none if it is not filed."""
        found = self.ask(lambda ledger: ledger.escalated(target=str(escalation.target)))
        return [one for one in found if one.event.data["id"] == escalation.id][-1:]

    def status(self) -> dict[str, Any]:
        """Return how the house does."""
        now, state = _now(), self._core.state
        remedies: list[dict[str, Any]] = []
        if self._core.ledger is not None:
            remedies = self.ask(lambda ledger: ledger.actions(limit=_REMEDIES))
        return {
            "version": __version__,
            "now": now,
            "summary": view.summary(state),
            **view.house(state, self._core.rules, now),
            "remedies": remedies,
        }

    def history(self, target: str, limit: int) -> dict[str, Any]:
        """Return actions and findings, newest first."""
        name = _pattern(target) if target else ""
        return {
            "remedies": self.ask(lambda ledger: ledger.actions(name, limit)),
            "findings": self.ask(lambda ledger: ledger.findings(name, limit)),
        }

    def explain(self, target: str) -> dict[str, Any]:
        """Return why a target is treated as it is."""
        try:
            return view.explained(self._core.state, self._core.rules, _pattern(target), _now())
        except ValueError as error:
            raise RotaError(f'"{target}": {error}', exit_code=Exit.USAGE) from None

    def metrics(self) -> dict[str, Any]:
        """Return what there is to measure; `turned`: when the step loop came round last."""
        counted = sums.table(self.ask(Ledger.sums))
        return {
            **view.measured(self._core.state, self._core.rules, counted, _now()),
            "turned": self.turned,
        }

    async def approve(self, caller: Caller, ask: int, yes: bool) -> str:
        """Answer a question."""
        by = await self._authorise(caller, "Approve", f"{'approve' if yes else 'deny'} question {ask}")
        return await self._do(Answer(ask, yes, by), Exit.NOT_FOUND)

    async def resume(self, caller: Caller, pattern: str) -> str:
        """Give targets back to the keeper."""
        name = _pattern(pattern)
        by = await self._authorise(caller, "Resume", f"resume {name}")
        return await self._do(ResumeTarget(name, by), Exit.NOT_FOUND)

    async def maintain(self, caller: Caller, pattern: str, seconds: int) -> str:
        """Begin to work on targets."""
        name = _pattern(pattern or "*")
        if not 0 < seconds <= _LONGEST:
            raise RotaError("maintenance lasts from a second to 30 days", exit_code=Exit.USAGE)
        by = await self._authorise(caller, "Maintain", f"begin maintenance of {name}")
        return await self._do(Maintain(name, seconds * USEC, by), Exit.FAILED)

    async def end_maintenance(self, caller: Caller, number: int) -> str:
        """End work before its time."""
        by = await self._authorise(caller, "EndMaintenance", "end maintenance")
        return await self._do(EndMaintenance(number or None, by), Exit.NOT_FOUND)

    async def _do(self, happening: Happening, otherwise: Exit) -> str:
        reply = await self._inbox.ask(happening)
        if not reply.done:
            text, _, hint = reply.text.partition("; ")
            raise RotaError(text.rstrip("."), hint[:1].upper() + hint[1:], otherwise)
        return reply.text

    async def _authorise(self, caller: Caller, method: str, what: str) -> str:
        """Return the caller's user name if they may do it.

        Raises:
            RotaError: they may not.
        """
        uid = await uid_of(self._bus, caller.sender)
        if not self._user and not await authorised(
            self._bus, caller.sender, ACTIONS[method], {"what": what}, interactive=caller.interactive
        ):
            hint = "Root and members of the group rota are; see rota(1)."
            raise RotaError(f"not authorised to {what}", hint, Exit.NOT_AUTHORISED)
        by = user_name(uid)
        log.info("%s: %s", by, what)
        return by
