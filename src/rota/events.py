"""What happened to a run, and how events add up to it: fold(run, event) -> run, pure.

A run's state is one of `activated`, `running`, then `succeeded`, `failed`, `timed-out`, `killed`,
`skipped` or `unknown`. `archived` says that its resources and trigger are filed too.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

OVER = frozenset(("succeeded", "failed", "timed-out", "killed", "skipped", "unknown"))
BAD = frozenset(("failed", "timed-out", "killed", "unknown"))


@dataclass(frozen=True, slots=True)
class Event:
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
    data: Mapping[str, Any] = field(default_factory=dict)
    monotonic: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
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
        boot: boot id of the machine's boot it ran in.
        cursor: journal cursor of its first entry.
        began: when systemd began to start it, in microseconds since boot.
        archived: whether resources and trigger are filed.
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
    boot: str | None = None
    cursor: str | None = None
    began: int | None = None
    archived: bool = False

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.state in OVER


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
    archived = run.archived or state == "skipped"
    return replace(_ended(run, event), state=state, reason=reason, archived=archived)


def _ended(run: Run, event: Event) -> Run:
    """Return a run with its end, told for the first time."""
    if run.ended is not None:
        return run
    took = None
    if run.began is not None and event.monotonic is not None and event.monotonic >= run.began:
        took = event.monotonic - run.began  # one boot: no end is told after the next, only that it was lost
    return replace(run, ended=event.at, took=took)


def _running(run: Run, _: Event) -> Run:
    return replace(run, state="running") if run.state == "activated" else run


def _exited(run: Run, event: Event) -> Run:
    return replace(run, **_exit(event.data)) if event.data.get("command") == "ExecStart" else run


def _failed(run: Run, event: Event) -> Run:
    result = str(event.data["result"])
    return _end(run, event, _RESULTS.get(result, "failed"), result)


def _deactivated(run: Run, event: Event) -> Run:
    return run if run.over and run.state != "unknown" else _end(run, event, "succeeded", None)


def _skipped(run: Run, event: Event) -> Run:
    # Nothing ran, so there is nothing to file.
    return replace(_ended(run, event), state="skipped", reason=str(event.data["reason"]), archived=True)


def _not_started(run: Run, event: Event) -> Run:
    result = str(event.data["result"])
    return run if run.over else _end(run, event, "failed", result)


def _stopping(run: Run, _: Event) -> Run:
    return run if run.over else replace(run, reason="stopping")


def _stopped(run: Run, event: Event) -> Run:
    """A stop job is done: what systemd then calls a success (SIGTERM is clean to it) was not one."""
    if run.state in ("succeeded", "killed", "activated", "running", "timed-out"):
        return replace(_ended(run, event), state="killed", reason="stopped")
    return run


def _resources(run: Run, event: Event) -> Run:
    known: dict[str, Any] = {name: int(value) for name, value in event.data.items() if name in _MEASURED}
    return replace(run, **known)


_MEASURED = ("cpu_usec", "memory_peak", "io_read", "io_write")


def _triggered(run: Run, event: Event) -> Run:
    if run.trigger is not None:
        return run  # told twice, by a rotad that was killed and the next: the first was there
    return replace(run, trigger=event.data.get("trigger"), requested_by=event.data.get("by"))


def _stop_requested(run: Run, event: Event) -> Run:
    return replace(run, stopped_by=event.data.get("by"))


def _archived(run: Run, event: Event) -> Run:
    run = replace(_resources(run, event), archived=True)
    if run.signal is None and run.status is None:
        run = replace(run, **_exit(event.data))
    if not run.over:
        # The end is told before; systemd's word alone does not tell a stop from a success.
        return replace(run, state="unknown", reason="the journal does not say how it ended")
    if run.state == "succeeded" and run.signal is not None:
        # systemd counts death by SIGTERM, SIGINT, SIGHUP and SIGPIPE as success (systemd.service(5)).
        return replace(run, state="killed", reason="signal")
    return run


def _lost(run: Run, event: Event) -> Run:
    return run if run.over else replace(run, state="unknown", reason=str(event.data["reason"]))


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
    "lost": _lost,
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
