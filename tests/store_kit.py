"""Stores for tests: runs to write to them, stores of some pages, and what others see in the file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rota.events import Event
from rota.store import Store

START = 1_795_212_587_000_000


def run_id(number: int) -> str:
    return f"{number:032x}"


def life(number: int, *, agent: str = "a", at: int | None = None) -> list[Event]:
    """Return the events of a run that succeeded."""
    at = START + number * 1000 if at is None else at
    return [
        Event("activated", agent, run_id(number), at, {"boot": "b" * 32, "cursor": f"s=1;i={number}"}),
        Event("running", agent, run_id(number), at + 1),
        Event("deactivated", agent, run_id(number), at + 2),
    ]


def failure(number: int, status: int = 3, *, agent: str = "a") -> list[Event]:
    """Return the events of a run that ended with an exit status."""
    begun, running, ended = life(number, agent=agent)
    how = {"code": "exited", "status": status, "command": "ExecStart"}
    exited = Event("exited", agent, run_id(number), ended.at, how)
    return [begun, running, exited, Event("failed", agent, run_id(number), ended.at, {"result": "exit-code"})]


def missed_slots(number: int, slots: int, *, agent: str = "a") -> Event:
    """Return the event that says that slots were missed, after the run of the number before."""
    slot = START + number * 1000
    data = {"slot": slot, "slot_until": slot, "slots": slots, "reason": "host-down", "timer": "0" * 8}
    return Event("missed", agent, run_id(number), slot, data)


def filled(path: Path, count: int = 200) -> None:
    """Write a store of some pages, as rotad leaves it when it ends."""
    store = Store(path)
    for number in range(count):
        store.append(life(number), str(number))
    store.close()


def written(path: Path) -> list[tuple[Any, ...]]:
    """Return all events as another program sees them in the file."""
    with sqlite3.connect(path) as db:
        return db.execute("SELECT run, kind, at FROM events ORDER BY seq").fetchall()


def forked(work: Callable[[], object]) -> int:
    """Start a process that does the work and ends; return its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child
