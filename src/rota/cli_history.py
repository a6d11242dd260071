"""Verbs about what happened: runs, events, stats, export."""

from __future__ import annotations

# isort: off
import rota.lean  # noqa: F401  (before what it keeps out)
# isort: on

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from rota import output
from rota.client import PAGE, Client, client
from rota.clock import wall_clock
from rota.errors import Exit, RotaError
from rota.moments import parse_moment
from rota.output import Cell
from rota.quantity import format_size

Table = Mapping[str, Any]


def moment(option: str, text: str) -> int:
    """Return what an option that takes a moment says, in microseconds since 1970.

    Raises:
        RotaError: it is none.
    """
    try:
        return parse_moment(text, wall_clock())
    except ValueError as error:
        raise RotaError(f'{option}: "{text}" is {error}', exit_code=Exit.USAGE) from None


def wanted(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return which runs the command line asks for, as ListRuns and Stats take it."""
    found: dict[str, Any] = {}
    for name in ("agent", "tag", "state", "trigger"):
        values = getattr(arguments, name, None)
        if values:
            found[name] = [values] if isinstance(values, str) else list(values)
    for name in ("since", "until"):
        if text := getattr(arguments, name, None):
            found[name] = moment(f"--{name}", text)
    return found


def run_row(run: Table, present: int, *, named: bool) -> list[Cell | list[Cell]]:
    """Return a run as a row of a table."""
    text, style = output.word(run["state"])
    cpu, memory = output.usage(run)
    row: list[Cell | list[Cell]] = [(run["id"][:8], "")]
    if named:
        row.append((run["agent"], "bold"))
    start = run.get("started")
    took = output.took(run) or (
        output.seconds(present - start) if start and run["state"] in ("activated", "running") else "-"
    )
    return [
        *row,
        (output.date(start) if start else "-", ""),
        (took, ""),
        [(text, style), (f" {output.why(run)}".rstrip(), "")],
        (output.trigger(run), ""),
        (output.late(run) or "-", ""),
        (cpu, ""),
        (memory, ""),
    ]


def runs_table(runs: Sequence[Table], *, named: bool) -> None:
    """Print runs as a table."""
    headers = [
        "RUN",
        *(["AGENT"] if named else []),
        "STARTED",
        ">TOOK",
        "RESULT",
        "BY",
        ">LATE",
        ">CPU",
        ">MEM",
    ]
    present = wall_clock()
    output.table(
        headers, [run_row(run, present, named=named) for run in runs], flexible=(1, 4) if named else (3,)
    )


async def list_runs(user: bool, query: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    """Return the newest of the runs that are wanted; see `wanted`."""
    async with client(user=user) as rotad:
        return await rotad.list_runs(query, limit)


def runs(arguments: argparse.Namespace) -> int:
    """List runs, newest first."""
    query = wanted(arguments)
    found = asyncio.run(list_runs(arguments.user, query, arguments.lines))
    if arguments.json:
        output.emit_json(list(map(output.opened, found)))
    elif found:
        runs_table(found, named=not arguments.agent)
    elif query.keys() - {"agent"}:
        output.line("No such runs.")
    else:
        output.line(f"No runs of {arguments.agent} yet." if arguments.agent else "No runs yet.")
    return int(Exit.OK)


async def _pages(rotad: Client, query: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
    while page := await rotad.ask_runs("ListRuns", query, PAGE):
        yield page
        query = {**query, "before": page[-1]["id"]}


async def _export(arguments: argparse.Namespace, fields: Sequence[str]) -> None:
    import csv  # noqa: PLC0415  (only here)

    writer = csv.writer(sys.stdout, lineterminator="\n")
    if arguments.format == "csv":
        writer.writerow(fields)
    async with client(user=arguments.user) as rotad:
        async for page in _pages(rotad, wanted(arguments)):
            if arguments.format == "csv":
                writer.writerows([[run.get(field, "") for field in fields] for run in page])
            else:
                sys.stdout.writelines(
                    f"{json.dumps(output.opened(run), ensure_ascii=False)}\n" for run in page
                )
            sys.stdout.flush()


def export(arguments: argparse.Namespace) -> int:
    """Write runs as JSON lines or CSV, newest first."""
    from rota.events import Run  # noqa: PLC0415  (only here)

    asyncio.run(_export(arguments, Run._fields))
    return int(Exit.OK)


def _event_line(event: Table, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(event, ensure_ascii=False)
    told = {key: str(value) for key, value in event["data"].items() if key not in ("boot", "cursor")}
    data = " ".join(f"{key}={value if len(value) <= 80 else value[:79] + '…'}" for key, value in told.items())
    words = (f"{event['seq']:>8}", output.date(event["at"]), event["agent"], event["run"][:8], event["kind"])
    return "  ".join((*words, data)).rstrip()


class _Replay:
    """Events in order and without a gap, from a number on: read first, then followed."""

    def __init__(self, rotad: Client, since: int, agents: Sequence[str]) -> None:
        self._rotad = rotad
        self._agents = agents
        self.seq = since
        self.store = ""

    async def read(self) -> AsyncIterator[dict[str, Any]]:
        """Yield all that is recorded by now."""
        while True:
            store, first, _, page = await self._rotad.call_all("Events", "tu", self.seq, PAGE)
            if self.store and store != self.store:
                output.talk("The store was lost, and numbers begin anew.", "yellow")
                self.seq = 0
            elif first > self.seq + 1 and self.seq:
                output.talk(f"Events {self.seq + 1} to {first - 1} are no longer kept.", "yellow")
            self.store = store
            for event in page:
                self.seq = event["seq"]
                if not self._agents or event["agent"] in self._agents:
                    yield event
            if len(page) < PAGE:
                return

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what is recorded from now on, as long as it goes."""
        while True:
            if await self._rotad.recorded() <= self.seq:
                continue
            # Not from the signal: another may have been lost before it.
            async for found in self.read():
                yield found


async def _events(arguments: argparse.Namespace) -> None:
    async with client(user=arguments.user) as rotad:
        if arguments.follow:
            await rotad.follow_events()
        since = 0
        if arguments.since:
            text = arguments.since
            numbered = text.isdecimal()
            since = int(text) if numbered else await rotad.call("SeqAt", "x", moment("--since", text))
        replay = _Replay(rotad, since, [arguments.agent] if arguments.agent else [])
        async for event in replay.read():
            output.line(_event_line(event, as_json=arguments.json))
        while arguments.follow:
            sys.stdout.flush()
            async for event in replay.follow():
                output.line(_event_line(event, as_json=arguments.json))
                sys.stdout.flush()


def events(arguments: argparse.Namespace) -> int:
    """Show what was recorded, oldest first, and go on with what is."""
    asyncio.run(_events(arguments))
    return int(Exit.OK)


def _share(part: int, whole: int) -> Cell:
    if not whole:
        return ("-", "")
    return (f"{100 * part / whole:.0f}%" if part else "0%", "red" if part else "")


def _stats_rows(found: Iterable[Table]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for agent in found:
        failed = sum(agent.get(state, 0) for state in ("failed", "timed-out", "killed", "unknown"))
        rows.append(
            [
                (agent["agent"], "bold"),
                (str(agent["runs"]), ""),
                _share(failed, agent["runs"]),
                (output.seconds(agent["p50"]) if "p50" in agent else "-", ""),
                (output.seconds(agent["p95"]) if "p95" in agent else "-", ""),
                (output.seconds(agent["cpu_usec"]), ""),
                (format_size(agent["memory_peak"]) if agent.get("memory_peak") else "-", ""),
                (output.seconds(agent["late_p95"]) if "late_p95" in agent else "-", ""),
                (str(agent.get("skipped", 0) or "-"), ""),
                (str(agent.get("missed", 0) or "-"), "red" if agent.get("missed") else ""),
            ]
        )
    return rows


async def _stats(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    query = wanted(arguments)
    async with client(user=arguments.user) as rotad:
        return await rotad.ask_runs("Stats", query)


def stats(arguments: argparse.Namespace) -> int:
    """Show what runs come to: how many, how many failed, how long they took, what they used."""
    found = asyncio.run(_stats(arguments))
    if arguments.json:
        output.emit_json(found)
    elif not found:
        output.line("No runs in that time.")
    else:
        headers = (
            "AGENT",
            ">RUNS",
            ">FAILED",
            ">P50",
            ">P95",
            ">CPU",
            ">MEM",
            ">LATE95",
            ">SKIPPED",
            ">MISSED",
        )
        output.table(headers, _stats_rows(found), flexible=(0,))
    return int(Exit.OK)


VERBS = {"runs": runs, "events": events, "stats": stats, "export": export}
