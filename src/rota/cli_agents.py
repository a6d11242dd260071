"""Verbs about agents and one run: list, show, run, stop, pause, resume, logs, rearm."""

from __future__ import annotations

# isort: off
import rota.lean  # noqa: F401  (before what it keeps out)
# isort: on

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rota import definitions, keeper_glance, output, pauses, portrait
from rota.cli_history import list_runs, moment, runs_table
from rota.client import Client, client
from rota.clock import wall_clock
from rota.errors import Exit, RotaError
from rota.events import BAD, OVER, Run
from rota.keeper_glance import Glance
from rota.names import AGENT_NAME, service_of, timer_of
from rota.output import Cell
from rota.quantity import format_size
from rota.systemd import Systemd, connect

Table = Mapping[str, Any]

_RUN_ID = re.compile(r"[0-9a-f]{1,32}")
_LATE_LINES, _LATE_AFTER_SOME = 20, 4
"""How often the journal is looked at, every 50 ms, after a run is over; and if it has had some output."""
_TIMED_OUT = 124
"""Exit code of `rota run --wait` for a run that timed out, as timeout(1) has it."""


async def _ask(user: bool, member: str, signature: str = "", *body: Any, activate: bool = True) -> Any:
    async with client(user=user) as rotad:
        return await rotad.call(member, signature, *body, activate=activate)


def _state_directory(user: bool) -> Path:
    return Path.home() / ".local/state/rota" if user else Path("/var/lib/rota")


async def _from_units(user: bool) -> tuple[list[dict[str, Any]], Glance | None]:
    """Return what unit files and systemd alone tell of agents, no history; and of Home Keeper."""
    bus = await connect(user=user)
    try:
        systemd = Systemd(bus)
        found = definitions.read(await systemd.unit_files("rota-*.service"))
        states = await systemd.loaded("rota-*.service", "rota-*.timer")
        agents = []
        for agent in found.values():
            active = states.get(service_of(agent.name)) in ("active", "activating", "deactivating")
            timer = states.get(timer_of(agent.name), "inactive")
            agents.append(
                {
                    "name": agent.name,
                    "description": agent.description,
                    "schedule": agent.schedule,
                    "paused": pauses.paused(_state_directory(user), agent.name) is not None,
                    "state": "running" if active else "idle",
                    "timer": agent.timer(timer),
                    "next": await systemd.next_elapse(timer_of(agent.name)) if timer == "active" else None,
                    "trend": [],
                }
            )
        return agents, await keeper_glance.look(systemd)
    finally:
        bus.disconnect()


def _warn(keeper: Table) -> None:
    """Say so if Home Keeper is gone."""
    if keeper.get("lost"):
        since = f" since {output.date(keeper['since'])}" if "since" in keeper else ""
        output.talk(f"Home Keeper is gone{since}: {keeper.get('why', '')}.", "red")


async def _agents(user: bool) -> tuple[list[dict[str, Any]], Glance | None, bool]:
    """Return all agents, a glance at Home Keeper, and whether rotad was there to tell agents' history."""
    try:
        async with client(user=user) as rotad:
            agents = await rotad.call("ListAgents", activate=False)
            _warn(await rotad.call("Keeper", activate=False))
            return agents, await keeper_glance.look(Systemd(rotad.bus)), True
    except RotaError as error:
        if error.exit_code is not Exit.UNREACHABLE:
            raise
    return *await _from_units(user), False


def _next(agent: Table, present: int) -> Cell:
    if agent["state"] == "running":
        since = agent.get("running", {}).get("started")
        return (f"running {output.seconds(present - since)}" if since else "running", "cyan")
    if agent["paused"]:
        return ("paused", "yellow")
    if agent.get("timer") is None:
        return ("-", "")
    if agent["timer"] == "next-boot":
        return ("at next boot", "")
    if agent["timer"] != "active":
        return ("timer is stopped", "red")
    return (output.until(agent["next"], present) if agent.get("next") else "-", "")


def _last(agent: Table, present: int) -> list[Cell]:
    run = agent.get("last")
    missed: list[Cell] = [(f"  {agent['missed']} missed since", "red")] if agent.get("missed") else []
    if run is None:
        return [("-", ""), *missed]
    text, style = output.word(run["state"])
    detail = "" if run["state"] == "unknown" else output.why(run) or output.took(run)
    return [
        (f"{text:<9} ", style),
        (f"{output.ago(run['started'], present)}  {detail}".rstrip(), ""),
        *missed,
    ]


def _closing(agents: list[dict[str, Any]], present: int) -> str:
    failed = sum(agent.get("last", {}).get("state") in BAD for agent in agents)
    paused = sum(bool(agent["paused"]) for agent in agents)
    running = sum(agent["state"] == "running" for agent in agents)
    missed = sum(bool(agent.get("missed")) for agent in agents)
    parts = [f"{len(agents)} agent{'' if len(agents) == 1 else 's'}"]
    parts += [
        f"{count} {what}"
        for count, what in (
            (running, "running"),
            (failed, "failed"),
            (missed, "missed slots"),
            (paused, "paused"),
        )
        if count
    ]
    due = min(
        ((agent["next"], agent["name"]) for agent in agents if agent.get("next") and not agent["paused"]),
        default=None,
    )
    coming = f" Next: {due[1]} {output.until(due[0], present)}." if due else ""
    return f"{', '.join(parts)}.{coming}"


def list_(arguments: argparse.Namespace) -> int:
    """List agents: schedule, next run, last result."""
    agents, keeper, complete = asyncio.run(_agents(arguments.user))
    if not complete:
        output.talk("rotad is not running: no history, only what the units say.", "yellow")
    if arguments.json:
        output.emit_json(agents)
        return int(Exit.OK)
    present = wall_clock()
    if agents:
        _table(agents, present)
    else:
        output.line("No agents. Declare one in agents.d/NAME.toml, then: rota apply")
    if keeper is not None:
        output.line(*keeper.line(present))
    return int(Exit.OK)


def _table(agents: list[dict[str, Any]], present: int) -> None:
    rows = [
        (
            (agent["name"], "bold"),
            (agent["schedule"], ""),
            _next(agent, present),
            _last(agent, present),
            output.trend(agent.get("trend", [])) or ("", ""),
        )
        for agent in agents
    ]
    output.table(("AGENT", "SCHEDULE", "NEXT", "LAST", "TREND"), rows, flexible=(1, 2))
    output.line(_closing(agents, present))


async def _agent_or_run(user: bool, name: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the agent of that name, else the run whose id begins so."""
    async with client(user=user) as rotad:
        missing: RotaError | None = None
        if re.fullmatch(AGENT_NAME, name):
            try:
                return await rotad.call("GetAgent", "s", name), None
            except RotaError as error:
                if error.exit_code is not Exit.NOT_FOUND:
                    raise
                missing = error
        if not _RUN_ID.fullmatch(name):
            raise missing or RotaError(f'"{name}" is no agent and no run', exit_code=Exit.NOT_FOUND)
        try:
            return None, await rotad.call("GetRun", "s", name)
        except RotaError as error:
            raise (
                missing if missing and error.exit_code is Exit.NOT_FOUND and len(name) < 4 else error
            ) from None


def _fields(pairs: list[tuple[str, str]]) -> None:
    for label, value in pairs:
        if value:
            output.line(f"{label:>12}: {value}")


def _show_run(run: Table) -> None:
    text, _ = output.word(run["state"])
    output.line(f"Run {run['id']} of {run['agent']}", "bold")
    cpu, memory = output.usage(run)
    started, ended = run.get("started"), run.get("ended")
    error = run.get("result_error", "")
    _fields(
        [
            ("Result", f"{text} {output.why(run)}".strip()),
            ("Started", f"{output.date(started)} ({output.ago(started, wall_clock())})" if started else ""),
            ("Ended", f"{output.date(ended)}, after {output.took(run)}" if ended else ""),
            ("Slot", output.slot(run)),
            ("Started by", output.trigger(run)),
            ("Attempt", str(run["attempt"])),
            ("CPU", cpu),
            ("Memory", f"{memory} at most" if memory != "-" else ""),
            ("Read", format_size(run["io_read"]) if "io_read" in run else ""),
            ("Written", format_size(run["io_write"]) if "io_write" in run else ""),
            ("Received", format_size(run["net_in"]) if "net_in" in run else ""),
            ("Sent", format_size(run["net_out"]) if "net_out" in run else ""),
            ("First line", run.get("first_line", "")),
            ("Last line", run["last_line"] if run.get("last_line") != run.get("first_line") else ""),
            ("ROTA_RESULT", run.get("result") or (error and f"none: {error}")),
            ("Log", f"rota logs {run['id'][:8]}"),
        ]
    )


def _show_agent(agent: Table, found: list[dict[str, Any]], exposure: str) -> None:
    output.line(f"{agent['name']}{': ' if agent['description'] else ''}{agent['description']}", "bold")
    present = wall_clock()
    last = agent.get("last", {})
    paused = ""
    if agent["paused"]:
        who = f"by {agent['paused_by']}" if agent.get("paused_by") else "by hand"
        since = f" {output.ago(agent['paused_at'], present)}" if agent.get("paused_at") else ""
        paused = f"{who}{since}" + (f": {agent['paused_why']}" if agent.get("paused_why") else "")
    _fields(
        [
            ("Schedule", agent["schedule"]),
            ("Next", _next(agent, present)[0]),
            (
                "Slots",
                ", ".join(map(output.date, agent.get("coming", [])))
                if agent.get("timer") == "active"
                else "",
            ),
            ("Paused", paused),
            ("Last line", last.get("last_line", "") if last.get("state") in BAD else ""),
            ("Priority", agent["priority"]),
            ("Tags", ", ".join(agent["tags"])),
            ("Unit", agent["unit"]),
            ("Exposure", exposure),
        ]
    )
    output.line(f"{'Declared':>12}:")
    for key, value in sorted(json.loads(agent["declaration"]).items()):
        output.line(f"{'':14}{key} = {json.dumps(value, ensure_ascii=False)}")
    if found:
        output.line(f"{'Last runs':>12}: {portrait.sparkline(found)}")
        output.line()
        runs_table(found[: portrait.SHOWN], named=False)


def show(arguments: argparse.Namespace) -> int:
    """Show an agent or a run with all that is known."""
    agent, run = asyncio.run(_agent_or_run(arguments.user, arguments.agent))
    if run is not None:
        if arguments.json:
            output.emit_json(output.opened(run))
        else:
            _show_run(run)
        return int(Exit.OK)
    assert agent is not None  # noqa: S101  (one of the two, or an error was raised)
    found = asyncio.run(list_runs(arguments.user, {"agent": [agent["name"]]}, portrait.RUNS))
    exposure, unknown = portrait.exposure(agent["unit"])
    if arguments.json:
        told = {**agent, "declaration": json.loads(agent["declaration"])}
        told |= {name: output.opened(agent[name]) for name in ("last", "running") if name in agent}
        told |= {"exposure": exposure} if exposure is not None else {}
        output.emit_json({**told, "runs": list(map(output.opened, found[: portrait.SHOWN]))})
    else:
        _show_agent(agent, found, unknown if exposure is None else f"{exposure:.1f} of 10")
    return int(Exit.OK)


def why(arguments: argparse.Namespace) -> int:
    """Say why an agent ran or did not."""
    at = moment("--at", arguments.at) if arguments.at else 0
    found = asyncio.run(_ask(arguments.user, "Why", "sx", arguments.agent, at))
    if arguments.json:
        output.emit_json(found)
    else:
        output.line(found["text"])
    return int(Exit.OK)


async def _start(arguments: argparse.Namespace) -> tuple[str, dict[str, Any] | None]:
    async with client(user=arguments.user) as rotad:
        if arguments.wait:
            await rotad.follow_runs()
        run = str(await rotad.call("StartAgent", "s", arguments.agent))
        if not arguments.wait:
            return run, None
        return run, await _stream(rotad, run, quiet=arguments.json, user=arguments.user)


async def _stream(rotad: Client, run: str, *, quiet: bool, user: bool) -> dict[str, Any]:
    """Print a run's output while it goes on; return the run when it is over and filed."""
    from rota.logs import Output, readable  # noqa: PLC0415  (only to stream)

    lines = Output(run)
    if not readable(user=user) and not quiet:
        output.talk("Its output is not shown: only root and the group systemd-journal may read the journal.")

    shown = 0

    def show_new() -> None:
        nonlocal shown
        for text in lines.new():
            shown += 1
            if not quiet:
                output.line(text)
        sys.stdout.flush()

    while True:
        await rotad.changed(run, 0.1)
        show_new()
        known = await _known(rotad, run)
        if known["state"] in OVER and known.get("archived"):
            # journald takes in what programs write after what it is told directly.
            for looked in range(0 if quiet else _LATE_LINES):
                if shown and looked >= _LATE_AFTER_SOME:
                    break
                await asyncio.sleep(0.05)
                lines.over(Run.of(known), user=user)
                show_new()
            return dict(known)


async def _known(rotad: Client, run: str) -> dict[str, Any]:
    """Return a run that has begun; a busy machine may be a while in recording it."""
    for patience in (1, 3, 10, 0):
        try:
            return dict(await rotad.call("GetRun", "s", run))
        except RotaError as error:
            if error.exit_code is not Exit.NOT_FOUND or not patience:
                raise
        await asyncio.sleep(patience)
    raise AssertionError("the last try returns or raises")


def _exit_status(run: Table) -> int:
    """Return what `rota run --wait` exits with: the agent's own status, else as a shell would say it."""
    if run["state"] == "succeeded":
        return int(Exit.OK)
    if run["state"] == "timed-out":
        return _TIMED_OUT
    if "status" in run:
        return int(run["status"]) or int(Exit.FAILED)
    if "signal" in run:
        import signal  # noqa: PLC0415  (only here)

        return 128 + int(getattr(signal, run["signal"], 0))
    return int(Exit.FAILED)


def run(arguments: argparse.Namespace) -> int:
    """Start an agent now."""
    started, over = asyncio.run(_start(arguments))
    if over is None:
        if arguments.json:
            output.emit_json({"run": started})
        else:
            output.talk(f"{arguments.agent} is running: rota logs -f {started[:8]}")
        return int(Exit.OK)
    if arguments.json:
        output.emit_json(output.opened(over))
    else:
        text, style = output.word(over["state"])
        detail = " ".join(part for part in (output.why(over), f"after {output.took(over)}") if part)
        output.talk(f"{arguments.agent}: {text} {detail} (run {started[:8]})", style)
    return _exit_status(over)


def _act(work: Coroutine[Any, Any, Any], done: str) -> int:
    asyncio.run(work)
    output.talk(done)
    return int(Exit.OK)


def stop(arguments: argparse.Namespace) -> int:
    """Stop the run of an agent that is under way."""
    name = arguments.agent
    return _act(_ask(arguments.user, "StopAgent", "s", name), f"{name} is stopped.")


def pause(arguments: argparse.Namespace) -> int:
    """Keep an agent from starting."""
    name = arguments.agent
    work = _ask(arguments.user, "PauseAgent", "ss", name, arguments.why)
    return _act(work, f"{name} is paused; a run under way goes on. Undo: rota resume {name}")


def resume(arguments: argparse.Namespace) -> int:
    """Let a paused agent start again."""
    name = arguments.agent
    return _act(_ask(arguments.user, "ResumeAgent", "s", name), f"{name} is resumed.")


async def _has_runs(arguments: argparse.Namespace) -> bool:
    try:
        return bool(await list_runs(arguments.user, {"agent": [arguments.agent]}, 1))
    except RotaError:
        return False


def logs(arguments: argparse.Namespace) -> int:
    """Show what an agent or one run of it logged, by handing over to journalctl."""
    from rota.logs import agent_matches, run_matches  # noqa: PLC0415  (only here)

    try:
        _, found = asyncio.run(_agent_or_run(arguments.user, arguments.agent))
    except RotaError as error:
        # An agent that is gone has left its runs.
        if error.exit_code is not Exit.NOT_FOUND or not asyncio.run(_has_runs(arguments)):
            raise
        found = None
    if found is not None and found["state"] in ("skipped", "missed"):
        output.talk(f"Nothing ran: {found['state']}, {output.why(found)}.")
        return int(Exit.OK)
    chosen = (
        agent_matches(arguments.agent, user=arguments.user)
        if found is None
        else run_matches(Run.of(found), user=arguments.user)
    )
    command = ["journalctl", "--no-hostname", "--quiet"]
    command += ["--user"] if arguments.user else []
    command += ["--follow"] if arguments.follow else []
    command += [f"--lines={arguments.lines}"] if arguments.lines else []
    command += ["--output=json"] if arguments.json else []
    sys.stdout.flush()
    try:
        os.execvp("journalctl", [*command, *chosen])  # noqa: S606  (no shell wanted)
    except FileNotFoundError:
        raise RotaError("journalctl is not installed", exit_code=Exit.UNREACHABLE) from None


def rearm(arguments: argparse.Namespace) -> int:
    """Let timers that something else has installed start afresh."""
    from rota import rearm as rearming  # noqa: PLC0415  (only for this verb)

    done = rearming.rearm(arguments.unit_dir, arguments.replaced_by, user=arguments.user)
    if arguments.json:
        output.emit_json(asdict(done))
        return int(Exit.OK)
    for name in done.afresh:
        output.line(f"{name} counts from now.")
    output.not_started(done.at_next_boot, done.remembered)
    return int(Exit.OK)


VERBS = {
    "rearm": rearm,
    "list": list_,
    "show": show,
    "why": why,
    "run": run,
    "stop": stop,
    "pause": pause,
    "resume": resume,
    "logs": logs,
}
