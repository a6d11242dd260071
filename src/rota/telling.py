"""What people may want to hear of, told from runs and from the keeper's events; pure.

A recovery is the first success after one failure or more. What a person stopped is neither; nor is what was
skipped. A run is told of once, when it is over and filed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rota.events import BAD, KEEPER_LOST, OF_NO_RUN, Run
from rota.names import KEEPER_SERVICE
from rota.quantity import format_duration
from rota.routes import MINUTE, Facts, Happening

SETTLES = frozenset(("archived", "lost", "missed"))
"""Events of rotad's after which a run may be told of."""
OUTPUT = "output"
"""The event after which its last line is known."""

_SHORTEST_TAIL = 12
_REASONS: Mapping[str, str] = {
    "timeout": "took longer than its timeout",
    "watchdog": "its watchdog fired",
    "oom-kill": "the kernel killed it for want of memory",
    "core-dump": "crashed",
    "host-down": "the machine was down",
    "suspended": "the machine was asleep",
    "clock-changed": "the clock was set forward",
    "timer-stopped": "its timer was stopped",
    "still-running": "the run before was still going on",
    "jitter": "the slot before was put off past it",
    "not-known": "it is not known why",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """That an agent keeps failing.

    Attributes:
        since: since when, microseconds since 1970.
        times: how many times in a row.
        run: the last run that failed.
    """

    since: int
    times: int
    run: str


def run_key(run: str) -> str:
    """Return what tells the happening of a run from all others."""
    return f"run:{run}"


def _why(run: Run) -> str:
    """Return why a run failed, or slots were missed: "exit status 3", "SIGKILL"."""
    if run.reason is not None and run.reason in _REASONS:
        return _REASONS[run.reason]
    if run.signal is not None:
        return run.signal
    if run.state == "failed" and run.status is not None:
        name = f" ({run.status_name})" if run.status_name and run.status >= 200 else ""
        return f"exit status {run.status}{name}"
    return run.reason or run.state


def _took(run: Run) -> str:
    took = run.duration
    if took is None or took < 1000:
        return ""
    return f" after {format_duration(took, 2 if took >= MINUTE else 1)}"


def _failure(run: Run, facts: Facts, standing: Standing) -> Happening:
    again = f", for the {_ordinal(standing.times)} time in a row" if standing.times > 1 else ""
    return Happening(
        key=run_key(run.id),
        kinds=("failure",),
        severity="critical" if facts.critical else "warning",
        at=run.ended or run.started or 0,
        about=run.agent,
        title=f"{run.state.replace('-', ' ')}: {_why(run)}{_took(run)}{again}",
        agent=run.agent,
        run=run.id,
        since=standing.since if standing.times > 1 else None,
        times=standing.times,
        last_line=run.last_line or "",
        command=f"rota logs {run.id[:_SHORTEST_TAIL]}",
    )


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _success(run: Run, facts: Facts, standing: Standing | None) -> Happening:
    at = run.ended or run.started or 0
    title = f"succeeded{_took(run)}"
    kinds: tuple[str, ...] = ("success",)
    if standing is not None:
        failures = f"{standing.times} failure{'' if standing.times == 1 else 's'}"
        title = f"is well again, after {failures} in {format_duration(max(at - standing.since, 1))}"
        kinds = ("recovery", "success")
    told_before = "critical" if facts.critical else "warning"
    return Happening(
        key=run_key(run.id),
        kinds=kinds,
        # As bad as what it puts an end to: who heard of that is to hear of this.
        severity=told_before if standing is not None else "info",
        at=at,
        about=run.agent,
        title=title,
        agent=run.agent,
        run=run.id,
        since=standing.since if standing is not None else None,
        last_line=run.last_line or "",
        command=f"rota show {run.id[:_SHORTEST_TAIL]}",
    )


def _missed(run: Run, facts: Facts) -> Happening:
    slots = run.slots or 1
    return Happening(
        key=run_key(run.id),
        kinds=("missed",),
        severity="critical" if facts.critical else "warning",
        at=run.slot_until or run.started or 0,
        about=run.agent,
        title=f"missed {f'{slots} slots' if slots > 1 else 'its slot'}: {_why(run)}",
        agent=run.agent,
        run=run.id,
        since=run.slot if slots > 1 else None,
        command=f"rota why {run.agent}",
    )


def judge(run: Run, standing: Standing | None, facts: Facts) -> tuple[Happening | None, Standing | None]:
    """Return what people may want to hear of a run, and how its agent stands after it.

    Args:
        run: over, and filed if it ran.
        standing: how its agent stood before; None if it was well.
        facts: what is declared of its agent.
    """
    if run.state == "missed":
        return _missed(run, facts), standing
    if run.state == "succeeded":
        return _success(run, facts, standing), None
    if run.state not in BAD or run.reason == "stopped" or run.stopped_by:
        return None, standing
    if standing is not None and standing.run == run.id:
        return None, standing  # first lost, then filed
    at = run.ended or run.started or 0
    now = Standing(standing.since, standing.times + 1, run.id) if standing else Standing(at, 1, run.id)
    return _failure(run, facts, now), now


def from_guard(event: Mapping[str, Any]) -> Happening | None:
    """Return what people may want to hear of rotad's watch over the keeper; None for other events."""
    if event["kind"] not in OF_NO_RUN:
        return None
    lost, data = event["kind"] == KEEPER_LOST, event["data"]
    title = f"needs a person: it is gone, and nothing is healed: {data.get('why', '')}"
    if not lost:
        title = "is back" if data.get("enabled", True) else "is no longer enabled"
    since = data.get("since") if lost else data.get("lost")
    return Happening(
        key=f"{event['kind']}:{event['run']}",
        kinds=("escalation" if lost else "recovery",),
        severity="critical",
        at=int(event["at"]),
        about="Home Keeper",
        title=title,
        since=int(since) if since is not None else None,
        command=f"systemctl status {KEEPER_SERVICE}",
    )


_ASIDE = "; look at "
"""In a summary: what follows is where to look."""


def _phrase(target: str, summary: str) -> str:
    """Return a summary as it follows the target's name: without that, if it begins with it."""
    name = target.partition(":")[2]
    host, _, last = name.rpartition("/")
    for own in (target, f"{last} on {host}", name, last):
        if own and summary.startswith(f"{own} "):
            return summary.removeprefix(f"{own} ")
        if own and summary.startswith(f"{own}: "):
            return summary.removeprefix(own)
    return f": {summary}" if summary else ""


def short(target: str, summary: str) -> str:
    """Return a summary beside its target's name: without that, and without where to look."""
    return _phrase(target, summary.partition(_ASIDE)[0]).removeprefix(": ")


def _found(data: Mapping[str, Any], what: str) -> dict[str, Any]:
    return {"title": what or str(data.get("problem", "")), "last_line": str(data.get("said", ""))}


def _healed(data: Mapping[str, Any], what: str) -> dict[str, Any]:
    left = ", ".join(map(str, data.get("left", ())))
    was = what.removeprefix(": ") or str(data.get("problem", ""))
    lines = [f"Was:    {was}"] if was else []
    if "took" in data:
        took = max(int(data["took"]), 1000)
        lines.append(f"For:    {format_duration(took, 2 if took >= MINUTE else 1)}")
    return {"title": f"is well again{left and f', but for: {left}'}", "lines": tuple(lines)}


def _escalated(data: Mapping[str, Any], what: str) -> dict[str, Any]:
    why = str(data.get("why", ""))
    it = "it " if what and what[0] not in ":(" else ""
    title = f"needs a person: {it}{what.removeprefix(': ') or data.get('problem', '')}"
    return {"title": title, "lines": (f"Why:    {why}",) if why and why not in title else ()}


def _asked(data: Mapping[str, Any], what: str) -> dict[str, Any]:
    number = int(data["id"])
    return {
        "title": f"needs an answer: a person is asked whether to {data['remedy']}",
        "lines": (f"What:   {what.removeprefix(': ')}",),
        "answers": (f"rota keeper approve {number}", f"rota keeper deny {number}"),
        "until": int(data["expires"]),
    }


_KEEPERS: Mapping[str, tuple[str, Callable[[Mapping[str, Any], str], dict[str, Any]]]] = {
    "found": ("failure", _found),
    "healed": ("recovery", _healed),
    "escalated": ("escalation", _escalated),
    "asked": ("escalation", _asked),
}
STANDING = frozenset(("escalated", "asked"))
"""Kinds of the keeper's events that wait for a person."""


def from_keeper(store: str, event: Mapping[str, Any]) -> Happening | None:
    """Return what people may want to hear of an event of the keeper's; None for its other steps.

    Args:
        store: see `interface.Events`.
        event: `seq`, `at`, `kind` (found, healed, escalated, asked) and `data`: `target`, `problem`,
            `severity`, `summary`, and perhaps `since` and `tried`, a list of lines; see docs/dbus.md.
    """
    if event["kind"] not in _KEEPERS:
        return None
    word, told = _KEEPERS[event["kind"]]
    data = event["data"]
    target, summary = str(data["target"]), str(data.get("summary", ""))
    said = str(data.get("said", ""))
    if said:
        summary = summary.removesuffix(f": {said}")
    what, _, where = summary.partition(_ASIDE)
    about = told(data, _phrase(target, what))
    also = [f"Also:   {other.partition(_ASIDE)[0]}" for other in map(str, data.get("also", ()))]
    look = [f"Look:   {where}"] if where and word != "recovery" else []
    about["lines"] = (*about.get("lines", ()), *also, *look)
    return Happening(
        key=f"keeper:{store}:{event['seq']}",
        kinds=(word,),
        severity=str(data.get("severity", "warning")),
        at=int(event["at"]),
        about=target,
        agent=target.removeprefix("agent:") if target.startswith("agent:") else "",
        since=int(data["since"]) if "since" in data else None,
        tried=tuple(map(str, data.get("tried", ()))),
        command=f"rota keeper explain {shlex.quote(target)}",
        **about,
    )


def own_unit(happening: Happening) -> str:
    """Return the unit of this machine whose output says more of what happened, "" if there is none."""
    kind, _, name = happening.about.partition(":")
    return name if kind == "unit" and "/" not in name and happening.kind != "recovery" else ""


def gap(source: str, store: str, since: int, first: int, now: int) -> Happening:
    """Return that events after `since` and before `first` were forgotten before anybody heard of them."""
    return Happening(
        key=f"gap:{source}:{store}:{first}",
        kinds=("failure",),
        severity="warning",
        at=now,
        about=source,
        title=f"events {since + 1} to {first - 1} were forgotten before anybody could be told of them",
        command="rota runs --state failed",
    )


def not_understood(source: str, store: str, event: Mapping[str, Any]) -> Happening:
    """Return that something was recorded of which nobody can be told what: who reads it can find out."""
    return Happening(
        key=f"not-understood:{source}:{store}:{event['seq']}",
        kinds=("escalation", "failure"),
        severity="critical",
        at=int(event["at"]),
        about=source,
        title=f"recorded event {event['seq']} ({event['kind']}), which rotad-notify does not understand",
        lines=("Why:    rotad-notify is perhaps of another version: restart it",),
        command="rota keeper history" if source == "keeper" else "rota events",
    )
