"""The bundled agents: one folder each, holding `agent.toml` and the program it declares.

A folder beside this file is an agent when it holds an `agent.toml`; its name is the folder's
with dashes, its program the `main` of its `__main__`. Nothing is imported until it is needed:
rota's loader asks for names and declarations at every start.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's, without the milliseconds of importing it
if TYPE_CHECKING:
    from pathlib import Path

USAGE = "usage: rota-agent NAME [ARGUMENT ...]\n       rota-agent NAME --help\n"


def names() -> tuple[str, ...]:
    """Return the names of the bundled agents, sorted."""
    return tuple(sorted(found.parent.name.replace("_", "-") for found in _home().glob("*/agent.toml")))


def declaration(name: str) -> Path:
    """Return the path of the declaration of the bundled agent `name`.

    Raises:
        KeyError: no bundled agent has this name.
    """
    if name not in names():
        raise KeyError(name)
    return _home() / _folder(name) / "agent.toml"


def main(argv: list[str] | None = None) -> int:
    """Run a bundled agent: `rota-agent NAME [ARGUMENT ...]`.

    Args:
        argv: the arguments without the program's name; those of this process if None.

    Returns:
        The exit status: the agent's own, or 2 for a name that is not there.
    """
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    if name not in names():
        from rota.errors import nearest  # noqa: PLC0415  (only when something is wrong)

        guess, known = nearest(name, names()), ", ".join(names())
        sys.stderr.write(f'rota-agent: no bundled agent "{name}"{guess} (there are {known})\n')
        return 2
    from importlib import import_module  # noqa: PLC0415  (one program, not all of them)

    program = import_module(f".{_folder(name)}.__main__", __name__)
    try:
        status = int(program.main(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has read enough (`| head`); what is buffered must not fail again at exit.
        import os  # noqa: PLC0415

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _home() -> Path:
    from pathlib import Path  # noqa: PLC0415  (a few milliseconds that `import rota_agents` need not cost)

    return Path(__file__).parent


def _folder(name: str) -> str:
    return name.replace("-", "_")


def _help() -> str:
    import tomllib  # noqa: PLC0415

    width = max(map(len, names()))
    lines = [
        f"  {name.ljust(width)}  {tomllib.loads(declaration(name).read_text())['description']}"
        for name in names()
    ]
    return "\n".join([USAGE, "Agents:", *lines, ""])
