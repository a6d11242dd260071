"""Looks at the units of other machines, over SSH: from time to time, and over connections that are kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from rota.unit_watches import Host, Hosts

from ..checks.blind import blind
from ..checks.unit_report import parse
from ..checks.units import Past, Unit, judge, recalled
from ..checks.words import SECOND, Malformed
from ..words import Finding, Target
from . import Unavailable
from .polling import Observation
from .ssh import Connection, Unreachable

log = logging.getLogger("rota-home-keeper")

_Found = dict[Target, tuple[Finding, ...]]

MOST_FINDINGS = 200
"""Units of a machine with a finding; a machine that says more of them than that is told of no others."""


def _now() -> int:
    return time.time_ns() // 1000


class HostSource:
    """The units of another machine."""

    def __init__(self, name: str, host: Host, *, now: Callable[[], int] = _now) -> None:
        """Prepare to follow; `follow` does.

        Args:
            name: what the machine is called.
            host: where it is, and how it is watched.
            now: returns microseconds since 1970.
        """
        self.name = f"host-{name}"
        self._label, self._host, self._now = name, host, now
        self._connection = Connection(host)
        self._target = Target("check", self.name)
        self._past: dict[str, Past] = {}
        self._told: _Found = {}
        self._first = True
        self._silent_since: float | None = None
        self._blind_since = 0

    def recall(self, left: Iterable[Finding]) -> None:
        """Take up what was open when the keeper ended."""
        found = recalled(left, self._host.units)
        self._past = {name.removeprefix(f"{self._label}/"): past for name, past in found.items()}

    async def follow(self, put: Callable[[Observation], None]) -> None:
        """Put what is found, for ever; when the machine has been silent for too long, put that."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self._look(put)
                # Looking takes at most `timeout`, which is not longer than `interval`.
                await asyncio.sleep(max(began + self._host.interval / SECOND - loop.time(), 0.1))
        finally:
            self._connection.close()

    async def _look(self, put: Callable[[Observation], None]) -> None:
        began = time.monotonic()
        try:
            answer = await self._connection.ask()
            # A machine may say much, and others are not to wait for it.
            found = await asyncio.to_thread(self._judge, answer, self._now())
        except Unreachable as error:
            # From when it was asked in vain first; a machine that starts anew is back before long.
            self._silent_since = began if self._silent_since is None else self._silent_since
            silent = round((time.monotonic() - self._silent_since) * SECOND)
            if silent >= self._host.patience:
                self._put_blind(put, str(error), silent)
        except (Unavailable, Malformed) as error:
            self._put_blind(put, str(error))
        except Exception as error:  # our own mistake must not end the keeper's other checks
            log.exception("check %s failed", self.name)
            self._put_blind(put, f"{type(error).__name__}: {error}")
        else:
            self._silent_since = None
            self._put(put, *found)

    def _put_blind(self, put: Callable[[Observation], None], why: str, silent: int = 0) -> None:
        at = self._now()
        self._blind_since = self._blind_since or at - silent
        finding = blind(self.name, self._blind_since, why, self._host.severity, host=self._label)
        put(Observation(self.name, at, {self._target: (finding,)}))
        # Then it is looked at afresh.
        self._first = True

    def _judge(self, answer: bytes, at: int) -> tuple[_Found, dict[str, Past], int]:
        """Return what is wrong with which unit, and what is to be remembered; raises Malformed."""
        rules, units = self._host.units, parse(answer)
        units |= {name: Unit(name, "inactive", "dead") for name in rules.running if name not in units}
        found: _Found = {}
        past: dict[str, Past] = {}
        for name, unit in units.items():
            if rules.watches(name):
                verdict = judge(unit, self._past.get(name, Past()), rules, at, self._label)
                past[name] = verdict.past
                found[Target("unit", f"{self._label}/{name}")] = verdict.findings
        return self._bounded(found), past, at

    def _put(self, put: Callable[[Observation], None], found: _Found, past: dict[str, Past], at: int) -> None:
        self._past = past
        gone = {target: () for target in self._told if target not in found}
        news = {
            target: findings
            for target, findings in (found | gone).items()
            if self._first or findings != self._told.get(target, ())
        }
        self._told = {target: findings for target, findings in found.items() if findings}
        if self._first or self._blind_since:
            news[self._target] = ()
        if news:
            put(Observation(self.name, at, news, self._first))
        self._first, self._blind_since = False, 0

    def _bounded(self, found: _Found) -> _Found:
        bad = sorted(target for target, findings in found.items() if findings)
        if len(bad) > MOST_FINDINGS:
            log.warning(
                "%s says that %d units are in trouble; %d are told", self.name, len(bad), MOST_FINDINGS
            )
            found = dict.fromkeys(found, ()) | {target: found[target] for target in bad[:MOST_FINDINGS]}
        return found


def sources(hosts: Hosts) -> list[HostSource]:
    """Return a source for each machine."""
    return [HostSource(name, host) for name, host in hosts.hosts.items()]
