"""Verbs about declarations: check, schema, generate, plan, apply."""

from __future__ import annotations

import argparse
import difflib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rota import analyze, generate, names, output
from rota.errors import DeclarationError, Exit, Problem
from rota.generate import Plan, Verdict
from rota.load import Loaded
from rota.units import WEIGHTS

_MANY_TIMERS = 1000


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _warn(problems: Iterable[Problem]) -> None:
    for problem in problems:
        output.talk(f"warning: {problem}", "yellow")


def _judged(loaded: Loaded, verdict: Verdict) -> None:
    if verdict.problems:
        raise DeclarationError(verdict.problems, loaded.declared)
    _warn((*loaded.warnings, *verdict.warnings))


def _problem_table(problem: Problem) -> dict[str, str]:
    return {"file": problem.file, "key": problem.key, "value": problem.value, "message": problem.message}


def _made(arguments: argparse.Namespace) -> tuple[Loaded, generate.Files]:
    loaded = generate.checked(arguments.config, user=arguments.user, nixos=arguments.nixos)
    made_for = generate.context(user=arguments.user, nixos=arguments.nixos)
    return loaded, generate.build(loaded, made_for)


def check(arguments: argparse.Namespace) -> int:
    """Read all declarations, let systemd read the units, report every mistake."""
    try:
        loaded, files = _made(arguments)
        verdict = generate.verify(loaded, files, anywhere=arguments.nixos)
        if verdict.problems:
            raise DeclarationError(verdict.problems, loaded.declared)
    except DeclarationError as error:
        if not arguments.json:
            raise
        output.emit_json({"errors": [_problem_table(problem) for problem in error.problems], "warnings": []})
        return int(error.exit_code)
    warnings = (*loaded.warnings, *verdict.warnings)
    if arguments.exposure:
        return _exposure(loaded, files, as_json=arguments.json)
    if arguments.json:
        output.emit_json({"errors": [], "warnings": [_problem_table(item) for item in warnings]})
        return int(Exit.OK)
    _warn(warnings)
    output.line(f"{_plural(len(loaded.declarations), 'agent')} checked, no errors.")
    return int(Exit.OK)


def _exposure(loaded: Loaded, files: generate.Files, *, as_json: bool) -> int:
    found: dict[str, analyze.Exposure] = {}
    with tempfile.TemporaryDirectory(prefix="rota-exposure-") as directory:
        generate.write_files(files.values(), Path(directory))
        for declaration in loaded.declarations:
            found[declaration.name] = analyze.exposure(Path(directory, names.service_of(declaration.name)))
    if as_json:
        output.emit_json(
            {
                name: {
                    "score": item.score,
                    "costs": [{"setting": s, "exposure": e, "description": d} for s, e, d in item.costs],
                }
                for name, item in found.items()
            }
        )
        return int(Exit.OK)
    for name, item in found.items():
        output.line(f"{name}: {item.score}", "bold")
        output.table(
            (">COST", "SETTING", "WHY"),
            [((f"{cost}", ""), (setting, ""), (about, "dim")) for setting, cost, about in item.costs],
            flexible=(2,),
        )
        output.line()
    output.line("0 is closed, 10 open; a service without a sandbox has 9.6 (systemd-analyze security).")
    return int(Exit.OK)


def schema(arguments: argparse.Namespace) -> int:
    """Print a JSON Schema."""
    output.emit_json(json_schema(arguments.what))
    return int(Exit.OK)


def json_schema(what: str) -> dict[str, Any]:
    """Return the JSON Schema of an agent's declaration, of the settings, or of both in one file."""
    from rota import model, record, settings  # noqa: PLC0415  (only for this verb)

    records: dict[str, type[record.Record]] = {
        "agent": model.Agent,
        "settings": settings.Settings,
        "config": settings.Config,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **records[what].model_json_schema()}


def generate_(arguments: argparse.Namespace) -> int:
    """Write all units into a directory of their own."""
    loaded, files = _made(arguments)
    # For NixOS this is the only look that anybody takes at them before they are installed.
    only = None if arguments.nixos else generate.written_by_hand(loaded)
    _judged(loaded, generate.verify(loaded, files, only, anywhere=arguments.nixos))
    generate.write_directory(files, arguments.output)
    if arguments.json:
        output.emit_json({"output": str(arguments.output), "units": sorted(files)})
    else:
        output.talk(
            f"{_plural(len(files), 'file')} for {_plural(len(loaded.declarations), 'agent')} "
            f"in {arguments.output}."
        )
    return int(Exit.OK)


def _planned(arguments: argparse.Namespace) -> tuple[Loaded, Plan]:
    loaded = generate.checked(arguments.config, user=arguments.user)
    files = generate.build(loaded, generate.context(user=arguments.user))
    plan = generate.compare(files, arguments.unit_dir, arguments.rules_dir)
    _judged(loaded, generate.verify(loaded, files, (*plan.added, *plan.changed)))
    timers = sum(name.endswith(".timer") for name in files)
    if timers > _MANY_TIMERS:
        output.talk(
            f"warning: {timers} timers: beyond {_MANY_TIMERS} a daemon-reload takes seconds, "
            "growing with their square: systemd's own cost, see rota(1).",
            "yellow",
        )
    return loaded, plan


def _agents_of(files: Iterable[str]) -> list[str]:
    return sorted({agent for name in files if (agent := names.agent_of(name))})


def _summary(plan: Plan) -> dict[str, list[str]]:
    """Return agents by what becomes of them; slices and the target follow from these."""
    added, removed = _agents_of(plan.added), _agents_of(plan.removed)
    services = set(plan.before)
    new = [name for name in added if names.service_of(name) not in services]
    gone = [name for name in removed if names.service_of(name) not in plan.files]
    changed = {*_agents_of(plan.changed), *added, *removed} - {*new, *gone}
    return {"add": new, "change": sorted(changed), "remove": gone}


def _sentence(summary: dict[str, list[str]], plan: Plan) -> str:
    parts = [f"{len(found)} to {verb}" for verb, found in summary.items() if found]
    if not parts:
        return "Nothing to change." if plan.empty else "Only shared units change."
    return f"Agents: {', '.join(parts)}."


def _diff(plan: Plan, name: str) -> None:
    before, after = plan.before.get(name, ""), plan.after(name)
    # The declaration at the end says again what the keys before it do, unless it is all that differs.
    cut = f"\n[{names.SECTION}]\n"
    if before.partition(cut)[0] != after.partition(cut)[0]:
        before, after = before.partition(cut)[0], after.partition(cut)[0]
    for text in difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        name if name in plan.before else "/dev/null",
        name if name in plan.files else "/dev/null",
        lineterm="",
        n=1,
    ):
        style = {"+": "green", "-": "red", "@": "cyan"}.get(text[0], "")
        output.line(text, "bold" if text.startswith(("+++", "---")) else style)


def plan(arguments: argparse.Namespace) -> int:
    """Show what apply would change."""
    _, found = _planned(arguments)
    summary = _summary(found)
    if arguments.json:
        files = {"added": found.added, "changed": found.changed, "removed": found.removed}
        output.emit_json({"agents": summary, "files": files, "foreign": list(found.foreign)})
        return int(Exit.OK)
    shared = {names.TARGET, "rota.slice", *(f"rota-{priority}.slice" for priority in WEIGHTS)}
    everything = [*found.added, *found.changed, *found.removed]
    # What follows from the agents would hide them: it is shown where nothing else changes.
    for name in [name for name in everything if name not in shared] or everything:
        _diff(found, name)
    for name in found.foreign:
        where = generate.place(name, arguments.unit_dir, arguments.rules_dir)
        output.talk(f"{where} exists and is not rota's: apply will refuse.", "red")
    output.line(_sentence(summary, found), "bold")
    return int(Exit.OK)


def apply(arguments: argparse.Namespace) -> int:
    """Install the units, let systemd reload, start the timers."""
    from rota import apply as installer  # noqa: PLC0415  (D-Bus only for this verb)

    directory = arguments.unit_dir
    with installer.alone(directory):
        loaded, found = _planned(arguments)
        done = installer.apply(found, directory, user=arguments.user)
    summary = _summary(found)
    if arguments.json:
        output.emit_json(
            {
                "agents": summary,
                "started": list(done.started),
                "at_next_boot": list(done.at_next_boot),
                "remembered": list(done.remembered),
                "metrics": list(loaded.settings.metrics.listen),
                "channels": sorted(loaded.settings.channels),
                "keeper": loaded.settings.keeper.enable,
            }
        )
        return int(Exit.OK)
    for verb, sign, style in (("add", "+", "green"), ("change", "~", "yellow"), ("remove", "-", "red")):
        for name in summary[verb]:
            output.line(f"{sign} {name}", style)
    output.not_started(done.at_next_boot, done.remembered)
    if names.METRICS_SOCKET in (*found.added, *found.changed, *found.removed):
        where = " and ".join(loaded.settings.metrics.listen)
        output.line(f"Metrics are served at {where}." if where else "Metrics are no longer served.")
    if names.NOTIFY_DROP_IN in (*found.added, *found.changed, *found.removed):
        by = ", ".join(sorted(loaded.settings.channels))
        output.line(f"People are told by {by}." if by else "Nobody is told any more.")
    if names.KEEPER_DROP_IN in (*found.added, *found.changed, *found.removed):
        on = loaded.settings.keeper.enable
        output.line("The Home Keeper goes by what is declared." if on else "The Home Keeper is stopped.")
    past = {"add": "added", "change": "changed", "remove": "removed"}
    parts = [f"{len(names_)} {past[verb]}" for verb, names_ in summary.items() if names_]
    none = "Nothing changed" if found.empty else "No agent changed"
    output.line(f"{', '.join(parts) or none}; {_plural(len(loaded.declarations), 'agent')} in all.")
    return int(Exit.OK)


VERBS = {
    "check": check,
    "schema": schema,
    "generate": generate_,
    "plan": plan,
    "apply": apply,
}
