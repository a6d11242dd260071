"""Why a slot or a run happened, did not, or will: facts to one or two sentences; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo

from rota.events import Run
from rota.quantity import USEC, format_duration
from rota.slots import (
    CLOCK_CHANGED,
    HOST_DOWN,
    JITTER,
    NOT_KNOWN,
    ON_TIME,
    STILL_RUNNING,
    SUSPENDED,
    TIMER_STOPPED,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about an agent and the slot or run that was asked about.

    Times are microseconds since 1970.

    Attributes:
        agent: its name.
        now: the present.
        scheduled: whether it has a timer.
        timer: systemd's state of its timer, or `next-boot`; None if it has none.
        catch_up: whether a slot that fell into downtime is made up for.
        jitter: most that a start is put off on purpose, in microseconds.
        row: the run, or row of missed slots, that was asked about or is the latest; None if there is none.
        next: when it runs next.
        paused_by: who paused it, "" if that is not known; None if it is not paused.
        paused_at: when.
        paused_why: why, as they said.
        asked: the moment that was asked about; None for the latest.
        slot: whether that is a slot.
        before: the slot before it.
        before_row: what became of that.
        after: the slot after it.
        after_row: what became of that.
    """

    agent: str
    now: int
    scheduled: bool
    timer: str | None = None
    catch_up: bool = False
    jitter: int = 0
    row: Run | None = None
    next: int | None = None
    paused_by: str | None = None
    paused_at: int | None = None
    paused_why: str = ""
    asked: int | None = None
    slot: bool = False
    before: int | None = None
    before_row: Run | None = None
    after: int | None = None
    after_row: Run | None = None


def text(facts: Facts, zone: tzinfo | None = None) -> str:
    """Return one or two sentences, and what can be done if something can.

    Args:
        facts: what is known.
        zone: whose time is told; the machine's by default.
    """
    say = _Words(facts, zone)
    parts = [say.latest(), say.coming()] if facts.asked is None else [say.moment(facts.asked)]
    return " ".join(part for part in (*parts, say.logs()) if part)


def _span(usec: int) -> str:
    if usec < 10 * USEC:
        return f"{usec / USEC:.1f}s"
    return format_duration(usec // USEC * USEC)


class _Words:
    """Facts in words."""

    def __init__(self, facts: Facts, zone: tzinfo | None) -> None:
        self._facts = facts
        self._zone = zone
        self._failed: list[str] = []

    def logs(self) -> str:
        """Return where the logs of the runs are that were spoken of and came to no good end."""
        return f"Log: rota logs {' or '.join(self._failed)}" if self._failed else ""

    def at(self, moment: int | None) -> str:
        """Return a moment as local date and time: seconds where there are any."""
        if moment is None:
            return "a time that is not known"
        local = datetime.fromtimestamp(moment // USEC, self._zone)
        return local.strftime("%a %Y-%m-%d %H:%M:%S" if local.second else "%a %Y-%m-%d %H:%M")

    def latest(self) -> str:
        """Say what the agent does, or what became of its last slot or run."""
        run = self._facts.row
        if run is None:
            return "It has not run yet."
        if not run.over:
            return self._under_way(run)
        if run.state == "missed":
            which = self._which(run, "Its last slot")
            return f"{which}: {self._missed(run)}"
        if run.slot is not None:
            return f"Its last slot, {self.at(run.slot)}, {self._became(run)}"
        return f"It last ran {self.at(run.started)}, {self._started(run)}, and {self._ended(run)}"

    def _which(self, run: Run, one: str) -> str:
        if run.slots == 1:
            return f"{one}, {self.at(run.slot)}, was missed"
        return f"{run.slots} slots from {self.at(run.slot)} to {self.at(run.slot_until)} were missed"

    def _under_way(self, run: Run) -> str:
        since = f"It has been running since {self.at(run.started)}"
        if run.slot is None:
            return f"{since}, {self._started(run)}."
        late = f", {self._late(run)}" if self._is_late(run) else ""
        return f"{since}, for its slot {self.at(run.slot)}{late}."

    def _started(self, run: Run) -> str:
        if run.requested_by:
            return f"started by {run.requested_by}"
        known: Mapping[str | None, str] = {
            "timer": "started by its timer",
            "boot": "started by boot",
            "manual": "started by hand, or by another unit",
            None: "and nobody knows who started it",
        }
        return known.get(run.trigger, f"started by {run.trigger}")

    @staticmethod
    def _is_late(run: Run) -> bool:
        return (run.late or 0) > ON_TIME

    def _late(self, run: Run) -> str:
        return f"{_span(run.late or 0)} late ({self._held(run)})"

    def _held(self, run: Run) -> str:
        until = f" until {self.at(run.cause_until)}" if run.cause_until else ""
        held: Mapping[str | None, str] = {
            HOST_DOWN: f"the machine was off{until}",
            SUSPENDED: f"the machine slept{until}",
            CLOCK_CHANGED: "the clock was set forward past it",
            TIMER_STOPPED: f"its timer was stopped{until}",
            STILL_RUNNING: f"the run before went on{until}",
        }
        return held.get(run.held, "the machine was busy")

    def _became(self, run: Run) -> str:
        if run.state == "skipped":
            return f"was skipped: {self._skipped(run)}"
        when = "on time"
        if self._is_late(run):
            when = self._late(run)
        elif self._facts.jitter and run.started and run.slot and run.started - run.slot > ON_TIME:
            when = f"after {_span(run.started - run.slot)} of jitter"
        if not run.over:
            return f"is being run, {when}, since {self.at(run.started)} (run {run.id[:8]})."
        return f"ran {when} and {self._ended(run)}"

    @staticmethod
    def _skipped(run: Run) -> str:
        if run.reason == "paused":
            return "it was paused."
        return f"{run.reason} did not hold." if run.reason != "condition" else "a condition did not hold."

    def _ended(self, run: Run) -> str:
        if run.state == "skipped":
            return f"was skipped: {self._skipped(run)}"
        took = run.took
        if took is None and run.started is not None and run.ended is not None:
            took = max(run.ended - run.started, 0)
        after = f" after {_span(took)}" if took is not None else ""
        name = f"(run {run.id[:8]})"
        if run.state == "succeeded":
            return f"succeeded{after} {name}."
        self._failed.append(run.id[:8])
        return f"{_RESULTS[run.state](run)}{after}{self._detail(run)} {name}."

    @staticmethod
    def _detail(run: Run) -> str:
        if run.state == "failed" and run.status is not None:
            return f": exit status {run.status}"
        return f": {run.reason}" if run.state in ("failed", "unknown") and run.reason else ""

    def _missed(self, run: Run) -> str:
        since, until = self.at(run.cause_since), self.at(run.cause_until)
        stopped = f"its timer was stopped at {since}" + (f", until {until}" if run.cause_until else "")
        reasons: Mapping[str | None, str] = {
            HOST_DOWN: f"the machine was off from {since} to {until}",
            SUSPENDED: f"the machine slept from {since} to {until}",
            CLOCK_CHANGED: f"the clock was set forward between {since} and {until}",
            TIMER_STOPPED: stopped,
            STILL_RUNNING: f"the run that began {since} was still going on",
            JITTER: f"the slot before it, {since}, was put off by its jitter until {until}",
            NOT_KNOWN: "nothing in the journal says why",
        }
        lost = run.reason == HOST_DOWN and not self._facts.catch_up
        return reasons.get(run.reason, str(run.reason)) + (", and it has no catch_up." if lost else ".")

    def coming(self) -> str:
        """Say what keeps it from running, or when it runs next."""
        facts = self._facts
        if facts.paused_by is not None:
            who = f" by {facts.paused_by}" if facts.paused_by else ""
            since = f" since {self.at(facts.paused_at)}" if facts.paused_at else ""
            because = f": {facts.paused_why}" if facts.paused_why else ""
            return f"It is paused{since}{who}{because}. Undo: rota resume {facts.agent}"
        if not facts.scheduled:
            return "It has no schedule: it runs when somebody starts it."
        if facts.timer == "next-boot":
            return "Nothing but boot starts it, and that is past."
        if facts.timer != "active":
            return f"Its timer is stopped: systemctl start rota-{facts.agent}.timer"
        if facts.row is not None and not facts.row.over:
            return ""
        return f"Next: {self.at(facts.next)}." if facts.next else "Its schedule has no more slots."

    def moment(self, asked: int) -> str:
        """Say what there was, or will be, at a moment."""
        facts, run = self._facts, self._facts.row
        if run is not None and run.state == "missed":
            return f"{self._which(run, 'Its slot')}: {self._missed(run)}"
        if run is not None and run.slot is not None:
            return f"Its slot {self.at(run.slot)} {self._became(run)}"
        if run is not None:
            state = f"and {self._ended(run)}" if run.over else "and goes on."
            return f"It ran from {self.at(run.started)}, {self._started(run)}, {state}"
        if facts.slot:
            return self._slot(asked, None, "Its slot")
        if not facts.scheduled:
            return f"It has no schedule, and did not run at {self.at(asked)}."
        parts = [f"It has no slot at {self.at(asked)}."]
        if facts.before is not None:
            parts.append(self._slot(facts.before, facts.before_row, "The one before,"))
        if facts.after is not None:
            parts.append(self._slot(facts.after, facts.after_row, "The one after,"))
        return " ".join(parts)

    def _slot(self, slot: int, run: Run | None, which: str) -> str:
        facts = self._facts
        comma = "," if which.endswith(",") else ""
        name = f"{which} {self.at(slot)}{comma}"
        if run is not None and run.state == "missed":
            return f"{name} was missed: {self._missed(run)}"
        if run is not None:
            return f"{name} {self._became(run)}"
        if slot <= facts.now:
            return f"{name} is not in the record."
        if facts.paused_by is not None:
            return f"{name} will be skipped if it is still paused then."
        stopped = facts.timer != "active"
        return (
            f"{name} will come to nothing while its timer is stopped." if stopped else f"{name} is to come."
        )


_RESULTS: Mapping[str, Callable[[Run], str]] = {
    "failed": lambda _: "failed",
    "timed-out": lambda _: "timed out",
    "killed": lambda run: (
        f"was stopped{f' by {run.stopped_by}' if run.stopped_by else ''}"
        if run.reason == "stopped"
        else f"was killed{f' by {run.signal}' if run.signal else ''}"
    ),
    "unknown": lambda _: "came to an end that nobody knows",
}
