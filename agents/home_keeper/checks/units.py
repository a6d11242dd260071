"""What is wrong with systemd units: facts about one to findings. The same for this machine and for others."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rota.unit_watches import Units

from ..words import Finding, Target
from .words import SECOND, clip, span

ENDED = ("failed", "inactive")
CHANGING = ("activating", "deactivating", "reloading")
RESTARTING = ("auto-restart", "auto-restart-queued", "failed-before-auto-restart", "dead-before-auto-restart")
"""Sub-states of a service that systemd starts again by itself; in the last two it seems to have ended."""
GONE = ("not-found", "masked")
"""What became of a unit whose file was removed, or that somebody masked; it may be in memory yet."""
BY_REQUEST = "request"
_SLACK = 10 * SECOND
"""After a unit's own timeout, for systemd to act on it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is known of a unit; words are systemd's own (org.freedesktop.systemd1(5)).

    Attributes:
        name: its name.
        active: ActiveState.
        sub: SubState.
        load: LoadState.
        since: since when it is in this state, microseconds since 1970; 0: not known.
        age: for how long, microseconds.
        queued: whether a job is waiting or under way.
        condition: whether its conditions were met when it was started last.
        kind: Type of a service, "" if not known or none.
        limit: how long systemd itself lets it be in this state; None: for ever, or not known.
        result: Result, "" if not known.
        code: ExecMainCode, as waitid(2) has it: 1 exited, 2 killed, 3 dumped; 0 if it was never started.
        status: ExecMainStatus, a status or a signal.
        restarts: NRestarts; None if not known.
        wanted: of a timer, whether an active unit wants it.
        stopped: "" if it ended by itself, BY_REQUEST, or the unit with which it was stopped.
    """

    name: str
    active: str
    sub: str = ""
    load: str = "loaded"
    since: int = 0
    age: int = 0
    queued: bool = False
    condition: bool = True
    kind: str = ""
    limit: int | None = None
    result: str = ""
    code: int = 0
    status: int = 0
    restarts: int | None = None
    wanted: bool = False
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of a unit between two looks.

    Attributes:
        restarts: NRestarts then; None: it was not known yet.
        moments: when it grew, the last ones, oldest first; microseconds since 1970.
        state: the state it was in.
        since: since when, for units that do not say so.
        looping: since when it is restarted again and again; 0 if it is not. Without moments: an earlier
            keeper found it, who did not say when they were.
    """

    restarts: int | None = None
    moments: tuple[int, ...] = ()
    state: tuple[str, str] = ("", "")
    since: int = 0
    looping: int = 0


def recalled(findings: Iterable[Finding], rules: Units) -> dict[str, Past]:
    """Return what is remembered of units whose restart-loop was open when the keeper ended, by name."""
    return {
        one.target.name: Past(restarts=rules.restarts, looping=one.since)
        for one in findings
        if one.problem == "restart-loop"
    }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of a look at a unit.

    Attributes:
        findings: all that is wrong with it now.
        past: to be remembered.
        again: when to look again if nothing happens, microseconds since 1970; None: need not be.
    """

    findings: tuple[Finding, ...]
    past: Past
    again: int | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """A unit, and all that is needed to say something of it."""

    unit: Unit
    rules: Units
    host: str
    past: Past
    now: int

    @property
    def declared(self) -> bool:
        return self.unit.name in self.rules.running

    @property
    def severity(self) -> str:
        """How bad it is that it does not do what it is for."""
        return "critical" if self.declared else "warning"

    @property
    def label(self) -> str:
        return f"{self.unit.name} on {self.host}" if self.host else self.unit.name

    def finding(self, problem: str, severity: str, text: str, **details: Any) -> Finding:
        unit = self.unit
        known = {"active": unit.active, "sub": unit.sub, "load": unit.load} | details
        name = f"{self.host}/{unit.name}" if self.host else unit.name
        since = unit.since or self.past.since
        return Finding(
            Target("unit", name), problem, severity, since, clip(f"{self.label} {text}", 300), known
        )

    @property
    def where(self) -> str:
        """Where to read on."""
        return f"look at journalctl -u {self.unit.name}" + (" there" if self.host else "")


def judge(unit: Unit, past: Past, rules: Units, now: int, host: str = "") -> Verdict:
    """Return what is wrong with a unit.

    Args:
        unit: what is known of it now.
        past: what was remembered of it; Past() if nothing.
        rules: how the units of its machine are watched.
        now: microseconds since 1970.
        host: the machine's name, "" for this one.
    """
    past = _remember(unit, past, rules, now)
    case = _Case(unit, rules, host, past, now)
    if unit.load in GONE and not case.declared:
        return Verdict((), past)
    findings = [found for found in (_main(case), _looping(case)) if found is not None]
    return Verdict(tuple(findings), past, min(_moments(case), default=None))


def _remember(unit: Unit, past: Past, rules: Units, now: int) -> Past:
    state = (unit.active, unit.sub)
    since = past.since if past.state == state else now
    count, moments = past.restarts, past.moments
    if past.looping and not moments:
        moments = (unit.since or now,) * rules.restarts  # no later than it came into this state
    moments = tuple(at for at in moments if now - rules.within < at <= now)
    if unit.restarts is not None:
        if count is not None and unit.restarts < count:
            # Somebody started it, and systemd counts from the beginning.
            count, moments = 0, ()
        grown = 0 if count is None else unit.restarts - count
        moments = (*moments, *[now] * min(grown, rules.restarts))[-rules.restarts :]
        count = unit.restarts
    loops = len(moments) >= rules.restarts
    return Past(count, moments, state, since, (past.looping or moments[0]) if loops else 0)


def _main(case: _Case) -> Finding | None:
    """Return what keeps a unit from doing what it is for."""
    unit = case.unit
    if unit.sub in RESTARTING:
        return None
    if unit.active == "failed":
        return _failed(case)
    if unit.active in CHANGING:
        return _stuck(case)
    if unit.active == "inactive" and not unit.queued:
        if case.declared:
            return _inactive(case)
        if unit.wanted and unit.condition and case.rules.timers:
            return _timer(case)
    return None


_RESULTS: Mapping[str, str] = {
    "timeout": "it took longer than it may",
    "watchdog": "it no longer told systemd that it is alive",
    "start-limit-hit": "it was started too often, and systemd starts it no more",
    "oom-kill": "the kernel ran out of memory, and killed it",
    "resources": "systemd could not set it up",
    "protocol": "it did not tell systemd what its Type= promises",
    "exec-condition": "its ExecCondition= failed",
    "unit-condition-failed": "a condition of the unit was not met",
    "trigger-limit-hit": "it was triggered too often, and systemd does so no more",
    "mount-start-limit-hit": "it was mounted too often, and systemd does so no more",
    "service-start-limit-hit": "its service was started too often, and systemd starts it no more",
}


def how(unit: Unit) -> str:
    """Return in words how a unit failed."""
    if unit.result == "exit-code":
        # A status of 0 here: not the main process, but one of ExecStartPre= and the like.
        if unit.code == 1 and unit.status:
            return f"it exited with status {unit.status}"
        return "one of its control processes failed"
    if unit.result in ("signal", "core-dump"):
        if unit.code not in (2, 3):
            return "one of its control processes was killed"
        verb = "crashed with" if unit.result == "core-dump" else "was killed by"
        return f"it {verb} {_signal(unit.status)}"
    return _RESULTS.get(unit.result, unit.result)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _failed(case: _Case) -> Finding:
    unit = case.unit
    # Where systemd gave up restarting it, Result says why it ended, not that.
    often = f", and systemd restarted it {unit.restarts} times before" if unit.restarts else ""
    why = how(unit) + often
    details = {"result": unit.result} if unit.result else {}
    more: dict[str, Any] = {"status": unit.status} if unit.result == "exit-code" and unit.code == 1 else {}
    if unit.code in (2, 3):
        more = {"signal": _signal(unit.status)}
    told = f"failed{f': {why}' if why else ''}; {case.where}"
    return case.finding("failed", case.severity, told, **details, **more)


def _due(case: _Case) -> int | None:
    """Return at which age a unit that changes its state is stuck; None: never."""
    unit, stuck = case.unit, case.rules.stuck
    if unit.limit is not None:
        return max(stuck, unit.limit + _SLACK)
    return None if unit.kind == "oneshot" and unit.active == "activating" else stuck


def _age(case: _Case) -> int:
    # By the clock on the wall, which may be set, only where a unit does not say.
    unit = case.unit
    return unit.age if unit.age or unit.since else case.now - case.past.since


def _stuck(case: _Case) -> Finding | None:
    due = _due(case)
    if due is None or _age(case) < due:
        return None
    told = f"has been {case.unit.active} ({case.unit.sub}) for more than {span(due)}; {case.where}"
    return case.finding("stuck-activating", case.severity, told, limit=due)


def _inactive(case: _Case) -> Finding | None:
    """Return what is to be said of a unit that is to be active at all times."""
    unit, severity = case.unit, case.severity
    if unit.load == "masked":
        return case.finding("inactive", "info", "is not running: somebody masked it", why="masked")
    if unit.load != "loaded":
        text = f"is not running: its unit file is {'not there' if unit.load in GONE else 'bad'} ({unit.load})"
        return case.finding("inactive", "warning", text, why=unit.load)
    if not unit.condition:
        text = "is not running: a condition of the unit is not met; look at systemctl status"
        return case.finding("inactive", "info", text, why="condition")
    if unit.kind == "oneshot":
        return None
    return case.finding("inactive", *_ended(case, severity))


def _timer(case: _Case) -> Finding:
    """Return what is to be said of a timer that an active unit wants."""
    return case.finding("timer-stopped", *_ended(case, case.severity))


def _ended(case: _Case, severity: str) -> tuple[str, str]:
    stopped = case.unit.stopped
    if case.host:
        return severity, f"is not running; {case.where}"
    if stopped == BY_REQUEST:
        noted = "info" if case.rules.stopped == "note" else severity
        return noted, "is not running: it was stopped by request"
    if stopped:
        return severity, f"is not running: it was stopped with {stopped}, which it needs; {case.where}"
    return severity, f"is not running, and nobody stopped it; {case.where}"


def _looping(case: _Case) -> Finding | None:
    past, rules, unit = case.past, case.rules, case.unit
    if not past.looping or (unit.active in ENDED and unit.sub not in RESTARTING):
        return None
    told = f"is restarted again and again: {rules.restarts} times within {span(rules.within)}; {case.where}"
    found = case.finding("restart-loop", case.severity, told)
    # Whatever state it is in at the moment.
    return replace(found, since=past.looping, details={"restarts": rules.restarts, "within": rules.within})


def _moments(case: _Case) -> Iterator[int]:
    """Yield when something may be otherwise, if nothing happens."""
    unit, past = case.unit, case.past
    if unit.active in CHANGING and unit.sub not in RESTARTING:
        due = _due(case)
        if due is not None and _age(case) < due:
            yield case.now + due - _age(case)
    if past.looping:
        yield past.moments[0] + case.rules.within
