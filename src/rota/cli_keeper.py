"""The verb keeper: what is wrong in the house, what was done about it and why; what a person says to it."""

from __future__ import annotations

# isort: off
import rota.lean  # noqa: F401  (before what it keeps out)
# isort: on

import argparse
import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rota import output
from rota.clock import wall_clock
from rota.errors import Exit, RotaError
from rota.keeper_client import ask, tell
from rota.output import Cell
from rota.quantity import USEC, parse_duration
from rota.telling import short

Table = Mapping[str, Any]

_COLOURS = {"critical": "red", "warning": "yellow", "info": "dim"}
_RESULTS: Mapping[str, Cell] = {
    "healed": ("healed", "green"),
    "failed": ("failed", "red"),
    "unknown": ("unknown", "magenta"),
    "not-begun": ("not begun", "yellow"),
}
_WAITS: Mapping[str, str] = {
    "observe": "only observed",
    "never": "never touched",
    "no-remedy": "no remedy",
    "dependency": "what it needs first",
    "unhealed": "what nobody heals",
    "blind": "nobody can look",
    "quiet": "quiet hours",
    "house": "the house's limit",
    "attempts": "attempts used up",
}


# What is shown.


def _next(target: Table, present: int) -> Cell:
    """Return what comes next of a target, in a few words."""
    question, acting = target["question"], target["under_way"]
    if acting:
        return (f"{acting['remedy']['word']} under way", "cyan")
    if question and not question["by"]:
        return (f"question {question['id']}", "yellow")
    if target["hands_off"]:
        return _let_be(target)
    waits = ", ".join(_WAITS.get(word, word) for word in target["waits"].split(", ") if word)
    if target["next"] is None:
        return (waits or "-", "")
    if target["next"] > present:
        return (f"{output.until(target['next'], present)}{f': {waits}' if waits else ''}", "")
    decision = target["decision"]
    again = decision["again"] if decision else None
    return (f"looked at {output.until(again, present)}" if again else "may act", "")


def _let_be(target: Table) -> Cell:
    kind = target["hands_off"]["kind"]
    if kind == "told":
        return ("only observed, told" if target["mode"] == "observe" else "no remedy, told", "")
    return ("denied", "yellow") if kind == "denied" else (f"hands off: {target['hands_off']['why']}", "red")


def _findings(status: Table, present: int) -> Iterator[list[Cell]]:
    for target in status["targets"]:
        strikes = f"{target['strikes']}/{len(target['steps'])}" if target["strikes"] else "-"
        first = [(strikes, ""), _next(target, present)]
        for found in target["findings"]:
            problem = (found["problem"], _COLOURS.get(found["severity"], ""))
            yield [(target["target"], "bold"), problem, (_since(found["since"], present), ""), *first]
            first = [("", ""), ("", "")]
        if not target["findings"]:
            well = (_since(target["since"], present) if target["since"] else "-", "")
            yield [(target["target"], "bold"), ("well again", "green"), well, *first]


def _since(at: int, present: int) -> str:
    return output.ago(at, present).removesuffix(" ago").replace("just now", "0s")


def _result(remedy: Table) -> Cell:
    if remedy["outcome"] is None:
        return ("under way", "cyan")
    result = remedy["verdict"] or ("not-begun" if remedy["outcome"] == "not-begun" else "")
    if not result:
        return ("being proved", "cyan")
    text, style = _RESULTS[result]
    took = f" in {output.seconds(remedy['recovered'])}" if remedy["recovered"] is not None else ""
    why = f": {remedy['error']}" if result == "failed" and remedy["error"] else ""
    return (f"{text}{took}{why}", style)


def _remedies(remedies: list[Table], present: int) -> None:
    rows: list[list[Cell]] = [
        [
            (output.ago(one["begun"], present), ""),
            (one["target"], "bold"),
            (one["remedy"], ""),
            _result(one),
        ]
        for one in remedies
    ]
    output.table(("BEGUN", "TARGET", "REMEDY", "RESULT"), rows, flexible=(1, 3))


def _questions(status: Table, present: int) -> Iterator[list[Cell]]:
    for target in status["targets"]:
        question = target["question"]
        if question:
            said = (
                f"approved by {question['by']}" if question["by"] else f"rota keeper approve {question['id']}"
            )
            until = output.until(question["expires"], present)
            yield [
                (str(question["id"]), ""),
                (target["target"], "bold"),
                (question["remedy"], ""),
                (until, ""),
                (said, ""),
            ]


def _maintenance(status: Table, present: int) -> Iterator[list[Cell]]:
    for one in status["maintenance"]:
        whose = "the house" if one["pattern"] == "*" else one["pattern"]
        yield [
            (str(one["id"]), ""),
            (whose, "bold"),
            (one["by"], ""),
            (output.until(one["until"], present), ""),
        ]


def _closing(status: Table) -> str:
    actions = status["actions"]
    used = f"{actions['used']} of {actions['limit']} actions of this hour are used"
    waiting = len(status["escalations"])
    told = ""
    if waiting:
        told = f"\n{waiting} escalation{'s wait' if waiting > 1 else ' waits'} to be told: see rota notify."
    return f"{status['summary'][:1].upper()}{status['summary'][1:]}; {used}.{told}"


def _status(arguments: argparse.Namespace) -> None:
    status = asyncio.run(tell("Status", user=arguments.user))
    if arguments.json:
        output.emit_json(status)
        return
    present = wall_clock()
    parts = (
        (("TARGET", "PROBLEM", "FOR", "STRIKE", "NEXT"), list(_findings(status, present)), (4, 0)),
        (("QUESTION", "TARGET", "REMEDY", "OPEN UNTIL", "ANSWER"), list(_questions(status, present)), (1, 3)),
        (("MAINTENANCE", "TARGET", "BY", "UNTIL"), list(_maintenance(status, present)), (1,)),
    )
    for headers, rows, flexible in parts:
        if rows:
            output.table(headers, rows, flexible=flexible)
            output.line()
    if status["remedies"]:
        _remedies(status["remedies"], present)
        output.line()
    output.line(_closing(status))


def _history(arguments: argparse.Namespace) -> None:
    target = arguments.argument or ""
    history = asyncio.run(tell("History", "su", target, arguments.lines, user=arguments.user))
    if arguments.json:
        output.emit_json(history)
        return
    present = wall_clock()
    if not (history["findings"] or history["remedies"]):
        output.line(f"Nothing is known of {target}." if target else "Nothing was found yet.")
        return
    rows: list[list[Cell]] = [
        [
            (output.ago(one["opened"], present), ""),
            (one["target"], "bold"),
            (one["problem"], _COLOURS.get(one["severity"], "")),
            _lasted(one, present),
            (short(one["target"], one["summary"]), ""),
        ]
        for one in history["findings"]
    ]
    if rows:
        output.table(("FOUND", "TARGET", "PROBLEM", ">LASTED", "WHAT"), rows, flexible=(4,))
    if rows and history["remedies"]:
        output.line()
    if history["remedies"]:
        _remedies(history["remedies"], present)


def _lasted(finding: Table, present: int) -> Cell:
    if finding["closed"] is None:
        return (f"{output.seconds(max(present - finding['opened'], 0))} so far", "yellow")
    return (output.seconds(max(finding["closed"] - finding["opened"], 0)), "")


def _explain(arguments: argparse.Namespace) -> None:
    told = asyncio.run(tell("Explain", "s", arguments.argument, user=arguments.user))
    if arguments.json:
        output.emit_json(told)
        return
    for sentence in told["sentences"]:
        output.line(sentence)


# What a person says.


def _number(text: str, what: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 15:
        raise RotaError(f'"{text}" is no number of {what}', "rota keeper lists what there is.", Exit.USAGE)
    return int(text)


def _say(arguments: argparse.Namespace, member: str, signature: str, *body: Any) -> None:
    text = asyncio.run(ask(member, signature, *body, user=arguments.user))
    if arguments.json:
        output.emit_json({"text": text})
    else:
        output.line(text)


def _answer(arguments: argparse.Namespace) -> None:
    number = _number(arguments.argument, "a question")
    _say(arguments, "Approve", "tb", number, arguments.what == "approve")


def _resume(arguments: argparse.Namespace) -> None:
    _say(arguments, "Resume", "s", arguments.argument)


def _maintain(arguments: argparse.Namespace) -> None:
    if arguments.end is not None:
        if arguments.argument:
            raise RotaError("--end takes the number of a maintenance, or none", "", Exit.USAGE)
        _say(
            arguments, "EndMaintenance", "t", _number(arguments.end, "a maintenance") if arguments.end else 0
        )
        return
    write = "rota keeper maintenance 2h [TARGET], or --end"
    span = arguments.argument
    if not span:
        raise RotaError("for how long?", f"Write: {write}.", Exit.USAGE)
    try:
        usec = parse_duration(span)
    except ValueError as error:
        raise RotaError(f'"{span}": {error}', f"Write: {write}.", Exit.USAGE) from None
    _say(arguments, "Maintain", "st", arguments.target or "*", usec // USEC)


_WHAT: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "": _status,
    "history": _history,
    "explain": _explain,
    "approve": _answer,
    "deny": _answer,
    "resume": _resume,
    "maintenance": _maintain,
}


def keeper(arguments: argparse.Namespace) -> int:
    """Show what the keeper knows, or tell it something."""
    _WHAT[arguments.what](arguments)
    return int(Exit.OK)
