"""rota: the parser, and from words to verbs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rota import __version__
from rota.errors import DeclarationError, Exit, RotaError
from rota.names import CONFIG_DIR, KEEPER_AGENT, RULES_DIR, SYSTEM_UNIT_DIR

_EPILOG = "Exit codes: 0 done, 1 it failed, 2 wrong usage or bad declaration, 3 no such agent or run, \
4 rotad or systemd out of reach, 5 not authorised. rota(1) has the rest."


_STATES = ("succeeded", "failed", "timed-out", "killed", "skipped", "missed", "unknown")
_TRIGGERS = ("timer", "boot", "person", "manual")
_EITHER = "an agent, or a run's id or how it begins"


def _declare(verb: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        import gc  # noqa: PLC0415

        from rota import cli_declare  # noqa: PLC0415  (pydantic only for verbs that read declarations)

        gc.disable()  # over before garbage matters, and a seventh faster for thousands of agents

        return int(cli_declare.VERBS[verb](arguments))

    return run


def _agents(verb: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from rota import cli_agents  # noqa: PLC0415  (D-Bus only for verbs that ask rotad)

        _no_keeper(verb, arguments)
        return int(cli_agents.VERBS[verb](arguments))

    return run


def _no_keeper(verb: str, arguments: argparse.Namespace) -> None:
    if getattr(arguments, "agent", "") == KEEPER_AGENT:
        from rota import keeper_glance  # noqa: PLC0415  (only for this one name)

        keeper_glance.check(verb)


def _common(defaults: bool) -> argparse.ArgumentParser:
    """Return the options every verb takes, before it (with their defaults) or after it."""
    parser = argparse.ArgumentParser(add_help=False)

    def default(value: object) -> object:
        return value if defaults else argparse.SUPPRESS

    parser.add_argument(
        "--config",
        type=Path,
        metavar="DIR",
        default=default(None),
        help=f"directory with rota.toml and agents.d/, or one JSON file (default: {CONFIG_DIR})",
    )
    parser.add_argument(
        "--user", action="store_true", default=default(False), help="your own agents, in your user manager"
    )
    parser.add_argument(
        "--json", action="store_true", default=default(False), help="print the result as JSON"
    )
    return parser


def _declaring(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    def add(name: str, about: str) -> argparse.ArgumentParser:
        parser = verbs.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", parents=[common]
        )
        parser.set_defaults(run=_declare(name))
        return parser

    def unit_dir(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--unit-dir",
            type=Path,
            metavar="DIR",
            help="where units are installed (default: /etc/systemd/system)",
        )

    def nixos(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--nixos",
            action="store_true",
            help="the configuration was made from NixOS options: call keys by those, and verify all units",
        )

    def rules_dir(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--rules-dir",
            type=Path,
            metavar="DIR",
            help=f"where the keeper's rules for polkit are installed (default: {RULES_DIR})",
        )

    check = add("check", "read all declarations and report every mistake")
    check.add_argument(
        "--exposure", action="store_true", help="show how open each agent's sandbox is, and what costs what"
    )
    nixos(check)
    schema = add("schema", "print the JSON Schema of declarations, for editors")
    schema.add_argument(
        "what",
        nargs="?",
        choices=("agent", "settings", "config"),
        default="agent",
        help="of agents.d/NAME.toml (default), of rota.toml, or of one JSON file with everything",
    )
    generate = add("generate", "write all units into a directory of their own")
    generate.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        required=True,
        help="directory to make, or to replace as a whole; only one that rota made",
    )
    nixos(generate)
    for name, about in (
        ("plan", "show what apply would change"),
        ("apply", "install the units, let systemd reload, start the timers"),
    ):
        parser = add(name, about)
        unit_dir(parser)
        rules_dir(parser)
    rearm = add("rearm", "let timers that something else has installed start afresh, instead of at once")
    rearm.add_argument(
        "--replaced-by",
        type=Path,
        metavar="DIR",
        help="first step: directory with the units that are about to be installed; without it, second step",
    )
    unit_dir(rearm)
    rearm.set_defaults(run=_agents("rearm"))  # the one that reads no declarations


def _asking(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    def add(name: str, about: str, agent: str = "", metavar: str = "NAME") -> argparse.ArgumentParser:
        parser = verbs.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", parents=[common]
        )
        parser.set_defaults(run=_agents(name))
        if agent:
            parser.add_argument("agent", metavar=metavar, help=agent)
        return parser

    add("list", "list agents: schedule, next run, last result")
    add("show", "show an agent or a run with all that is known", _EITHER, "NAME|RUN")
    why = add("why", "say why an agent ran or did not, and when it will", "the agent")
    why.add_argument(
        "--at",
        metavar="TIME",
        help="at that moment instead of the last: a date and time, or a span (2h, meaning ago)",
    )
    run = add("run", "start an agent now", "the agent")
    run.add_argument(
        "--wait", action="store_true", help="stream its output, wait, and exit with its exit status"
    )
    add("stop", "stop the run of an agent that is under way", "the agent")
    pause = add("pause", "keep an agent from starting, whatever its schedule, until resumed", "the agent")
    pause.add_argument("--why", default="", metavar="TEXT", help="a reason, shown by show")
    add("resume", "let a paused agent start again", "the agent")
    logs = add(
        "logs", "show what an agent or one run of it logged", "an agent, or a run's id or how it begins"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is logged from now on")
    logs.add_argument("-n", "--lines", type=_count, metavar="N", help="only the last N lines, at most 10000")


def _history(verb: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from rota import cli_history  # noqa: PLC0415  (D-Bus only for verbs that ask rotad)

        _no_keeper(verb, arguments)
        return int(cli_history.VERBS[verb](arguments))

    return run


def _remembering(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    def add(name: str, about: str) -> argparse.ArgumentParser:
        parser = verbs.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", parents=[common]
        )
        parser.set_defaults(run=_history(name))
        parser.add_argument("agent", metavar="NAME", nargs="?", default="", help="only of this agent")
        return parser

    def filters(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tag", action="append", metavar="TAG", help="only of agents with this tag")
        parser.add_argument(
            "--state", action="append", choices=_STATES, metavar="STATE", help=f"only {', '.join(_STATES)}"
        )
        parser.add_argument(
            "--trigger", action="append", choices=_TRIGGERS, metavar="TRIGGER", help="only started by this"
        )
        when(parser, "only begun then or later")
        parser.add_argument("--until", metavar="TIME", help="only begun before then")

    def when(parser: argparse.ArgumentParser, about: str) -> None:
        text = f"{about}: a span (2h, meaning ago), today, yesterday, a date, or date and time"
        parser.add_argument("--since", metavar="TIME", help=text)

    runs = add("runs", "list runs, newest first")
    runs.add_argument(
        "-n", "--lines", type=_count, default=20, metavar="N", help="how many, at most 10000 (default: 20)"
    )
    filters(runs)
    events = add("events", "show what was recorded, oldest first")
    events.add_argument(
        "--since",
        metavar="SEQ|TIME",
        help="only after this number, or from then on: 2h (ago), today, a date, or date and time",
    )
    events.add_argument("-f", "--follow", action="store_true", help="go on with what is recorded from now on")
    stats = add("stats", "show what runs come to: how many, how many failed, how long they took")
    stats.add_argument("--tag", action="append", metavar="TAG", help="only of agents with this tag")
    when(stats, "from then on (default: 7d)")
    export = add("export", "write runs as JSON lines or CSV, newest first")
    export.add_argument(
        "--format", choices=("jsonl", "csv"), default="jsonl", help="what to write (default: jsonl)"
    )
    filters(export)


def _notify(arguments: argparse.Namespace) -> int:
    from rota import cli_notify  # noqa: PLC0415  (D-Bus only for verbs that ask somebody)

    return int(cli_notify.notify(arguments))


def _telling(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    about = "show how channels do, what waits and what was sent; or test a channel"
    parser = verbs.add_parser("notify", help=about, description=f"S{about[1:]}.", parents=[common])
    parser.set_defaults(run=_notify)
    parser.add_argument("what", nargs="?", choices=("test",), help="send a test message, now")
    parser.add_argument("channel", nargs="?", default="", metavar="CHANNEL", help="by which channel")


def _keeper(arguments: argparse.Namespace) -> int:
    from rota import cli_keeper  # noqa: PLC0415  (D-Bus only for verbs that ask somebody)

    return int(cli_keeper.keeper(arguments))


def _keeping(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    about = "show what Home Keeper found and did; or answer it, resume a target, begin maintenance"
    parser = verbs.add_parser("keeper", help=about, description=f"S{about[1:]}.", parents=[common])
    parser.set_defaults(run=_keeper, what="")
    found = parser.add_subparsers(metavar="WHAT")

    def add(name: str, about: str, **argument: str) -> argparse.ArgumentParser:
        one = found.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}.", parents=[common]
        )
        one.set_defaults(what=name)
        if argument:
            one.add_argument("argument", **argument)  # type: ignore[arg-type]
        return one

    target = "a target, KIND:NAME"
    history = add(
        "history",
        "list what was found and done, newest first",
        nargs="?",
        metavar="TARGET",
        help="only of this",
    )
    history.add_argument("-n", "--lines", type=_count, default=20, metavar="N", help="how many (default: 20)")
    add("explain", "say why a target is treated as it is, and what comes next", metavar="TARGET", help=target)
    add("approve", "have done what the keeper asks about", metavar="ID", help="of the question")
    add(
        "deny",
        "let be what the keeper asks about, until it is well again",
        metavar="ID",
        help="of the question",
    )
    add(
        "resume",
        "give back what the keeper lets be",
        metavar="TARGET",
        help=f"{target}, or a pattern with * and ?",
    )
    work = add(
        "maintenance",
        "have nothing done, nor counted, for a while",
        nargs="?",
        metavar="SPAN",
        help="for how long: 2h",
    )
    work.add_argument(
        "target", nargs="?", default="", metavar="TARGET", help=f"{target}, or a pattern (default: the house)"
    )
    work.add_argument("--end", nargs="?", const="", metavar="ID", help="end it before its time: this, or all")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 10000")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the parser of rota's command line."""
    top = argparse.ArgumentParser(
        prog="rota",
        description="Declared agents as systemd timers and sandboxed services, with a memory of every run.",
        epilog=_EPILOG,
        parents=[_common(defaults=True)],
    )
    top.add_argument(
        "--version", action="version", version=f"rota {__version__}", help="print rota's version"
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    common = _common(defaults=False)
    _declaring(verbs, common)
    _asking(verbs, common)
    _remembering(verbs, common)
    _telling(verbs, common)
    _keeping(verbs, common)
    return top


def _default_directory(user: bool, system: str, own: str) -> Path:
    """Return a directory of the system's, or of one's own below ~/.config."""
    if not user:
        return Path(system)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / own


def main(argv: Sequence[str] | None = None) -> int:
    """Run rota; return its exit code."""
    arguments = parser().parse_args(argv)
    if arguments.config is None:
        arguments.config = _default_directory(arguments.user, CONFIG_DIR, "rota")
    if getattr(arguments, "unit_dir", ...) is None:
        arguments.unit_dir = _default_directory(arguments.user, SYSTEM_UNIT_DIR, "systemd/user")
    if getattr(arguments, "rules_dir", ...) is None and not arguments.user:
        arguments.rules_dir = Path(RULES_DIR)
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
    except DeclarationError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        print(error.message, file=sys.stderr)
        return int(error.exit_code)
    except RotaError as error:
        print(f"rota: {error.message}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return int(error.exit_code)
    except BrokenPipeError:
        # Whoever read us has enough; the interpreter must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
