"""What is known about one slot or run of an agent, for `why` to put into words; and its coming slots."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rota import pauses
from rota.clock import wall_clock
from rota.definitions import Definition
from rota.events import Run
from rota.expected import Expected
from rota.interface import run_table
from rota.ledger import Ledger
from rota.names import service_of, timer_of
from rota.quantity import USEC
from rota.query import Query
from rota.recorder import Recorder
from rota.slots import Timer
from rota.systemd import Systemd
from rota.why import Facts, text

_COMING = 3
_LATEST = 20
_MINUTE, _DAY = 60 * USEC, 86_400 * USEC
# So far back the slot before a moment is looked for: systemd only tells what comes after one.
_BACK = (600 * USEC, _DAY, 32 * _DAY, 400 * _DAY)
_MOST = 2000
_ACTIVE = ("active", "activating", "deactivating", "reloading")


class Inquiry:
    """Looks up facts; changes nothing."""

    def __init__(self, state: Path, recorder: Recorder, systemd: Systemd, ledger: Ledger) -> None:
        self._state = state
        self._recorder = recorder
        self._systemd = systemd
        self._ledger = ledger
        self._expected = Expected()  # questions about the past must not drive out what the ledger needs

    async def coming(self, agent: str) -> list[int]:
        """Return the next slots of an agent, as systemd reckons them: microseconds since 1970."""
        timer = self._ledger.timers.get(agent)
        if timer is None:
            return []
        return await self._ledger.expected.next(timer.events, wall_clock(), _COMING)

    async def why(self, agent: Definition, asked: int | None) -> dict[str, Any]:
        """Return why the last slot or run of an agent, or that at a moment, did or did not happen.

        Args:
            agent: the agent.
            asked: a moment, microseconds since 1970; None for the latest.

        Returns:
            `text`, and the facts it was made from: those of why.Facts, runs with the fields of a run.
        """
        await self._ledger.bring_up(agent.name)
        facts = await self._facts(agent, asked)
        table = {key: value for key, value in asdict(facts).items() if value not in (None, "")}
        for key in ("row", "before_row", "after_row"):
            run = getattr(facts, key)
            if run is not None:
                table[key] = run_table(run)
        return {"text": text(facts), **table}

    async def _facts(self, agent: Definition, asked: int | None) -> Facts:
        name = agent.name
        states = await self._systemd.loaded(service_of(name), timer_of(name))
        active = states.get(timer_of(name)) in _ACTIVE
        pause = pauses.paused(self._state, name)
        timer = self._ledger.timers.get(name)
        common: dict[str, Any] = {
            "agent": name,
            "now": wall_clock(),
            "scheduled": agent.scheduled,
            "timer": agent.timer(states.get(timer_of(name), "inactive")),
            "catch_up": (agent.declaration.get("catch_up") or {}).get("mode") == "once",
            "jitter": timer.jitter if timer else 0,
            "next": await self._systemd.next_elapse(timer_of(name)) if active else None,
            "paused_by": None if pause is None else str(pause.get("by") or ""),
            "paused_at": (pause or {}).get("at"),
            "paused_why": str((pause or {}).get("why") or ""),
        }
        if asked is None:
            return Facts(**common, row=self._latest(name))
        return Facts(**common, asked=asked, **await self._at(name, timer, asked))

    def _latest(self, agent: str) -> Run | None:
        """Return the run under way, else what came of the last slot, else the last run."""
        rows = self._recorder.ask(lambda store: store.runs(Query((agent,)), _LATEST))
        if rows and not rows[0].over:
            return rows[0]
        return max(rows, key=lambda row: row.slot_until or row.started or 0, default=None)

    async def _at(self, agent: str, timer: Timer | None, asked: int) -> dict[str, Any]:
        """Return what there was at a moment: a slot, a run under way, or the slots around it."""
        before = after = None
        if timer is not None:
            before, after = await self._around(timer, asked)
        if before == asked:
            return {"slot": True, "row": self._of(agent, before)}
        earlier = self._recorder.ask(lambda store: store.runs(Query((agent,), until=asked + 1), _LATEST))
        for row in earlier:
            end = row.slot_until if row.state == "missed" else row.ended
            if (end is None and not row.over) or (end or 0) >= asked:
                return {"row": row}
        rows = {
            "before_row": before and self._of(agent, before),
            "after_row": after and self._of(agent, after),
        }
        return {"before": before, "after": after, **rows}

    def _of(self, agent: str, slot: int) -> Run | None:
        return self._recorder.ask(lambda store: store.of_slot(agent, slot))

    async def _around(self, timer: Timer, asked: int) -> tuple[int | None, int | None]:
        """Return the slot at a moment or before it, and the one after it."""
        coming = await self._expected.next(timer.events, asked)
        for back in _BACK:
            found = await self._expected.between(timer.events, asked - back, asked, _MOST)
            if found:
                return found[-1], next(iter(coming), None)
        return None, next(iter(coming), None)
