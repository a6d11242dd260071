"""Files what runs said when they are over: one at a time, and never in the way of what happens now."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict

from rota.clock import wall_clock
from rota.errors import RotaError
from rota.events import Run
from rota.logs import said
from rota.recorder import Recorder
from rota.totals import DAY

log = logging.getLogger("rotad")

_SETTLED = 0.3
"""Seconds without a new line after which a run that is over has said what it had to say."""
_PATIENCE = 10.0
"""Seconds after which it has, although lines still come; and after which an entry of ours is given up."""
_AT_ONCE = 100
_BREATH = 0.02
"""Seconds between two runs, for what else there is to do."""


class Filing:
    """Looks at the output of runs that the store has as not looked at, and logs what it finds.

    Restarted at any time, it goes on with what the store says is left.
    """

    def __init__(self, recorder: Recorder, *, user: bool) -> None:
        self._recorder = recorder
        self._user = user
        self._wake = asyncio.Event()
        self._seen: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def begin(self) -> None:
        """There may be something to file."""
        self._wake.set()

    def on_run(self, run: Run) -> None:
        """Take in a run that changed."""
        if run.archived and not run.output_filed:
            self._wake.set()

    async def forever(self) -> None:
        """File whenever there is something, from the first `begin` on."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._file_some():
                    await asyncio.sleep(_SETTLED)
            except (RotaError, OSError) as error:
                log.warning("what runs said was not filed: %s", error)

    async def _file_some(self) -> bool:
        """File what is ready; tell whether there is more."""
        since = wall_clock() - DAY
        runs = self._recorder.ask(lambda store: store.unfiled(since, _AT_ONCE))
        waiting = {run.id for run in runs}
        self._seen = {run: at for run, at in self._seen.items() if run in waiting}
        self._told = {run: at for run, at in self._told.items() if run in waiting}
        for run in runs:
            now = time.monotonic()
            seen = self._seen.setdefault(run.id, now)
            if now - seen < _SETTLED or now - self._told.get(run.id, -_PATIENCE) < _PATIENCE:
                continue
            found, newest = said(run, user=self._user)
            settled = newest is None or time.monotonic() - newest >= _SETTLED
            if not settled and now - seen < _PATIENCE:
                continue
            data = {key: value for key, value in asdict(found).items() if value is not None}
            message = f"{run.agent}: what run {run.id[:8]} said is filed"
            self._told[run.id] = now
            self._recorder.record("output", run.agent, run.id, message, data)
            await asyncio.sleep(_BREATH)
        return bool(runs)
