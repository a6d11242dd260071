"""The ledger's events as others see them: what people may want to hear of under words of its own. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .ledger import Recorded
from .messages import Event

VERSION = 1
"""Of what an event looks like to others: raised when a field changes its meaning or goes."""

Data = dict[str, Any]


_ABOUT = ("problem", "severity", "summary", "since")


def _found(event: Event) -> Data:
    return {name: event.data[name] for name in (*_ABOUT, "said") if event.data.get(name) not in (None, "")}


def _healed(event: Event) -> Data:
    return {name: event.data[name] for name in (*_ABOUT, "took", "tried", "left")}


def _summaries(findings: Sequence[str], otherwise: str) -> Data:
    worst, *also = findings or [otherwise]
    return {"summary": worst, "also": also}


def _escalated(event: Event) -> Data:
    data = event.data
    told = {name: data[name] for name in ("id", "severity", "since", "why", "tried", "hands_off")}
    return {"problem": data.get("problem", ""), **_summaries(data["findings"], data["why"]), **told}


def _asked(event: Event) -> Data:
    data = event.data
    told = {name: data[name] for name in ("id", "remedy", "expires", "problem", "severity", "since")}
    return {**_summaries(data["findings"], ""), **told}


_WORDS: Mapping[str, tuple[str, Callable[[Event], Data]]] = {
    "trouble": ("found", _found),
    "trouble-over": ("healed", _healed),
    "escalated": ("escalated", _escalated),
    "asked": ("asked", _asked),
}
ALERTS = ("found", "healed", "escalated", "asked")
"""Kinds of which the signal Alert tells."""

REMEDIES: Mapping[str, Callable[[Event], str]] = {
    "remedy-begun": lambda _: "begun",
    "remedy-ended": lambda event: str(event.data["outcome"]),
    "remedy-judged": lambda event: str(event.data["verdict"]),
}
"""Kinds of which the signal Remedy tells, and what became of it."""


def kind(event: Event) -> str:
    """Return what others call an event."""
    return _WORDS[event.kind][0] if event.kind in _WORDS else event.kind


def _plain(value: Any) -> Any:
    """Return a value as D-Bus takes it: what is nested in other ways is JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return list(value)
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if isinstance(value, float) else value


def table(recorded: Recorded) -> Data:
    """Return an event as others see it; `data` of those that people are told of names its target, too."""
    event = recorded.event
    data = _WORDS[event.kind][1](event) if event.kind in _WORDS else dict(event.data)
    return {
        "version": VERSION,
        "seq": recorded.seq,
        "at": event.at,
        "kind": kind(event),
        "target": event.target,
        "data": _plain({"target": event.target, **data}),
    }
