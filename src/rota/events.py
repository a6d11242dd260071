"""What happened to a run, and how events add up to it: fold(run, event) -> run, pure.

A run's state is one of `activated`, `running`, then `succeeded`, `failed`, `timed-out`, `killed`,
`skipped` or `unknown`. `archived` says that its resources and trigger are filed too. Slots that nothing came
of are a row of their own, `missed`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

OVER = frozenset(("succeeded", "failed", "timed-out", "killed", "skipped", "unknown", "missed"))
REAL = tuple(sorted(OVER - {"missed"}))
"""States of what was at least tried to be started, and is over."""
NOTHING_RAN = frozenset(("skipped", "missed"))
BAD = frozenset(("failed", "timed-out", "killed", "unknown"))


KEEPER_LOST, KEEPER_BACK = "keeper-lost", "keeper-back"
OF_NO_RUN = frozenset((KEEPER_LOST, KEEPER_BACK))
"""Events that are of no run: what they have for its id, is the same for a loss and its end."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


# Tuples, because a hundred thousand are made when rotad catches up.
class Event(NamedTuple):
    """One step in the life of a run.

    Attributes:
        kind: a key of `_STEPS`.
        agent: whose run.
        run: systemd's invocation id, 32 hex digits; made from the journal entry's own identity
            where systemd gave none because nothing was started.
        at: when, in microseconds since 1970 (UTC).
        data: what is particular to the kind.
        monotonic: the same on the clock that nobody sets (CLOCK_MONOTONIC), in microseconds since boot;
            None where the journal entry has none.
    """

    kind: str
    agent: str
    run: str
    at: int
    data: Mapping[str, Any] = _NOTHING
    monotonic: int | None = None


class Run(NamedTuple):
    """One run of an agent. Times are microseconds since 1970 (UTC), sizes bytes, None where not known.

    Attributes:
        id: systemd's invocation id, 32 hex digits.
        agent: whose run.
        state: see the module.
        reason: why, in systemd's word (exit-code, signal, timeout, oom-kill, ...) or rota's
            (stopped, paused, condition).
        started: when systemd began to start it; if the journal lost that, the first that is known of it.
        ended: when it was over.
        took: how long it took, in microseconds, by the clock that nobody sets; without time asleep.
        status: exit status of the main process; not known after a signal.
        status_name: systemd's name of the status, for its own (203 is EXEC).
        signal: name of the signal that ended the main process.
        attempt: 1, or more for a retry.
        trigger: timer, path, socket, boot, person, or manual (not by rota: systemctl, another unit).
        requested_by: the person, for trigger person.
        stopped_by: the person who had it stopped through rota.
        cpu_usec: processor time, in microseconds.
        memory_peak: most memory at once.
        io_read: bytes read from disks.
        io_write: bytes written to disks.
        net_in: bytes received over the network; not known of runs without one of their own.
        net_out: bytes sent over the network.
        boot: boot id of the machine's boot it ran in.
        cursor: journal cursor of its first entry.
        began: when systemd began to start it, in microseconds since boot.
        pid: id of the main process.
        archived: whether resources and trigger are filed.
        slot: the moment of its schedule that a run served; of `missed`, the first that nothing came of.
        late: by how much it began later than that and its jitter, in microseconds.
        held: what held it up, if it was late: as the reasons of `missed`.
        slot_until: of `missed`, the last moment; `started` and `ended` are the same as these two.
        slots: of `missed`, how many there were.
        cause_since: since when that reason, or what held it up, was so.
        cause_until: until when; None if that was not over then.
        first_line: first line that it wrote, at most 200 characters.
        last_line: last line that it wrote, at most 200 characters.
        result: what it told as its result, a JSON object as text of at most 16 KiB.
        result_error: why what it told as its result is none.
        output_filed: whether its lines and result are filed: soon after the run is archived.
    """

    id: str
    agent: str
    state: str
    reason: str | None = None
    started: int | None = None
    ended: int | None = None
    took: int | None = None
    status: int | None = None
    status_name: str | None = None
    signal: str | None = None
    attempt: int = 1
    trigger: str | None = None
    requested_by: str | None = None
    stopped_by: str | None = None
    cpu_usec: int | None = None
    memory_peak: int | None = None
    io_read: int | None = None
    io_write: int | None = None
    net_in: int | None = None
    net_out: int | None = None
    boot: str | None = None
    cursor: str | None = None
    began: int | None = None
    pid: int | None = None
    archived: bool = False
    slot: int | None = None
    late: int | None = None
    held: str | None = None
    slot_until: int | None = None
    slots: int | None = None
    cause_since: int | None = None
    cause_until: int | None = None
    first_line: str | None = None
    last_line: str | None = None
    result: str | None = None
    result_error: str | None = None
    output_filed: bool = False

    @staticmethod
    def of(table: Mapping[str, Any]) -> Run:
        """Return a run from a table of its fields; what is none, of another version, is left out."""
        return Run(**{name: table[name] for name in Run._fields if name in table})

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.state in OVER

    @property
    def filed(self) -> bool:
        """Whether it is to be counted: it has ended, and all that is known of it is there."""
        return self.over and self.archived

    @property
    def duration(self) -> int | None:
        """See the function of this name."""
        return duration(self.state, self.started, self.ended, self.took)


def duration(state: str, started: int | None, ended: int | None, took: int | None) -> int | None:
    """Return how long a run took, in microseconds; None if that is not known, or nothing ran."""
    if state in NOTHING_RAN:
        return None
    if took is not None:
        return took
    if started is None or ended is None:
        return None
    return max(ended - started, 0)  # the clock may have been put back


DURATION = f"""CASE WHEN state NOT IN ({", ".join(f"'{state}'" for state in sorted(NOTHING_RAN))})
    THEN coalesce(took, max(ended - started, 0)) END"""
"""What `duration` returns, of a row of the store, in SQL."""


# systemd.service(5), "$SERVICE_RESULT"; what is not named here is a failure.
_RESULTS: Mapping[str, str] = {
    "timeout": "timed-out",
    "watchdog": "timed-out",
    "signal": "killed",
    "core-dump": "killed",
    "oom-kill": "killed",
    "exec-condition": "skipped",
    "start-limit-hit": "skipped",
}


def signal_name(number: int) -> str:
    """Return the name of a signal, "SIG99" for one that has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _exit(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return status or signal from how the main process ended (waitid(2)'s code in words)."""
    if "status" not in data:
        return {}
    if data.get("code") == "exited":
        return {"status": int(data["status"]), "status_name": data.get("status_name"), "signal": None}
    return {"signal": signal_name(int(data["status"])), "status": None}


def _end(run: Run, event: Event, state: str, reason: str | None) -> Run:
    if run.reason == "stopping" and state in ("succeeded", "killed", "failed", "timed-out"):
        state, reason = "killed", "stopped"
    # A start that was refused has nothing to file.
    if state == "skipped":
        run = run._replace(archived=True, output_filed=True)
    return _ended(run, event)._replace(state=state, reason=reason)


def _ended(run: Run, event: Event) -> Run:
    """Return a run with its end, told for the first time."""
    if run.ended is not None:
        return run
    took = None
    if run.began is not None and event.monotonic is not None and event.monotonic >= run.began:
        took = event.monotonic - run.began  # one boot: no end is told after the next, only that it was lost
    return run._replace(ended=event.at, took=took)


def _running(run: Run, _: Event) -> Run:
    return run._replace(state="running") if run.state == "activated" else run


def _exited(run: Run, event: Event) -> Run:
    return run._replace(**_exit(event.data)) if event.data.get("command") == "ExecStart" else run


def _failed(run: Run, event: Event) -> Run:
    result = str(event.data["result"])
    return _end(run, event, _RESULTS.get(result, "failed"), result)


def _deactivated(run: Run, event: Event) -> Run:
    return run if run.over and run.state != "unknown" else _end(run, event, "succeeded", None)


def _skipped(run: Run, event: Event) -> Run:
    # Nothing ran, so there is nothing to file.
    return _end(run, event, "skipped", str(event.data["reason"]))


def _not_started(run: Run, event: Event) -> Run:
    result = str(event.data["result"])
    return run if run.over else _end(run, event, "failed", result)


def _stopping(run: Run, _: Event) -> Run:
    return run if run.over else run._replace(reason="stopping")


def _stopped(run: Run, event: Event) -> Run:
    """A stop job is done: what systemd then calls a success (SIGTERM is clean to it) was not one."""
    if run.state in ("succeeded", "killed", "activated", "running", "timed-out"):
        return _ended(run, event)._replace(state="killed", reason="stopped")
    return run


def _resources(run: Run, event: Event) -> Run:
    known: dict[str, Any] = {name: int(value) for name, value in event.data.items() if name in _MEASURED}
    return run._replace(**known)


_MEASURED = ("cpu_usec", "memory_peak", "io_read", "io_write", "net_in", "net_out", "pid")


def _triggered(run: Run, event: Event) -> Run:
    if run.trigger is not None:
        return run  # told twice, by a rotad that was killed and the next: the first was there
    return run._replace(trigger=event.data.get("trigger"), requested_by=event.data.get("by"))


def _stop_requested(run: Run, event: Event) -> Run:
    return run._replace(stopped_by=event.data.get("by"))


def _archived(run: Run, event: Event) -> Run:
    run = _resources(run, event)._replace(archived=True)
    if run.signal is None and run.status is None:
        run = run._replace(**_exit(event.data))
    if not run.over:
        # The end is told before; systemd's word alone does not tell a stop from a success.
        return run._replace(state="unknown", reason="the journal does not say how it ended")
    if run.state == "succeeded" and run.signal is not None:
        # systemd counts death by SIGTERM, SIGINT, SIGHUP and SIGPIPE as success (systemd.service(5)).
        return run._replace(state="killed", reason="signal")
    return run


def _output(run: Run, event: Event) -> Run:
    said: dict[str, Any] = {name: event.data.get(name) for name in _SAID}
    return run._replace(**said, output_filed=True)


_SAID = ("first_line", "last_line", "result", "result_error")


def _lost(run: Run, event: Event) -> Run:
    return run if run.over else run._replace(state="unknown", reason=str(event.data["reason"]))


def _served(run: Run, event: Event) -> Run:
    data = event.data
    return run._replace(
        slot=int(data["slot"]),
        late=int(data["late"]),
        held=data.get("held"),
        cause_since=data.get("since"),
        cause_until=data.get("until"),
    )


def _missed(run: Run, event: Event) -> Run:
    """Slots were missed; told again, it is the same row, which may go on."""
    data = event.data
    first, last = int(data["slot"]), int(data["slot_until"])
    return run._replace(
        state="missed",
        reason=str(data["reason"]),
        started=first,
        ended=last,
        slot=first,
        slot_until=last,
        slots=int(data["slots"]),
        cause_since=data.get("since"),
        cause_until=data.get("until"),
        boot=None,
        began=None,
        archived=True,
        output_filed=True,
    )


def _unchanged(run: Run, _: Event) -> Run:
    return run


_STEPS: Mapping[str, Callable[[Run, Event], Run]] = {
    "activated": _unchanged,
    "running": _running,
    "exited": _exited,
    "failed": _failed,
    "deactivated": _deactivated,
    "skipped": _skipped,
    "not-started": _not_started,
    "stopping": _stopping,
    "stopped": _stopped,
    "restart-scheduled": _unchanged,
    "resources": _resources,
    "triggered": _triggered,
    "stop-requested": _stop_requested,
    "archived": _archived,
    "output": _output,
    "lost": _lost,
    "served": _served,
    "missed": _missed,
    KEEPER_LOST: _unchanged,
    KEEPER_BACK: _unchanged,
}

KINDS = tuple(_STEPS)
_BEGINNINGS = ("activated", "running", "skipped", "not-started")
"""Of a run whose first event is another, the journal lost the beginning: how long it took is not known."""


def fold(run: Run | None, event: Event) -> Run:
    """Return the run after an event; None before its first, whichever that is.

    The first event known need not be the first that happened: the journal may have lost others.
    """
    if run is None:
        run = Run(
            id=event.run,
            agent=event.agent,
            state="activated",
            started=event.at,
            boot=event.data.get("boot"),
            cursor=event.data.get("cursor"),
            began=event.monotonic if event.kind in _BEGINNINGS else None,
        )
    return _STEPS[event.kind](run, event)
