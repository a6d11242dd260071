"""Shell completions from rota's parser: bash and zsh by shtab, fish by hand.

Names of agents come from the unit files, by the shell itself: starting Python would be felt.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import shtab
from tables import nested, options, positionals, takes_value, verbs

from rota import cli
from rota.names import RESERVED

MADE_WITH = "1.13"
"""The shtab whose output is committed; another one's may differ."""

_HEADER = "Made by docs/generate.py from rota's parser; do not edit."
_SYSTEM = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
_USER = ("/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")

_NONE = ("*@*", *RESERVED)
"""Parts of names of units that are no agents'."""

_BASH = f"""
# names of agents that begin with $1, from the unit files
_rota_agents() {{
  local directories=({" ".join(_SYSTEM)}) directory file names=
  case " ${{COMP_WORDS[*]}} " in
    *" --user "*) directories=("${{XDG_CONFIG_HOME:-$HOME/.config}}/systemd/user" {" ".join(_USER)}) ;;
  esac
  for directory in "${{directories[@]}}"; do
    for file in "$directory"/rota-*.service; do
      [ -e "$file" ] || continue
      file=${{file##*/rota-}}
      case $file in {" | ".join(f"{name}.service" for name in _NONE)}) continue ;; esac
      names+=" ${{file%.service}}"
    done
  done
  compgen -W "$names" -- "$1"
}}
"""
_ZSH = f"""
# names of agents, from the unit files
_rota_agents() {{
  local -a directories names
  directories=({" ".join(_SYSTEM)})
  if [[ " $BUFFER " == *" --user "* ]]; then
    directories=(${{XDG_CONFIG_HOME:-$HOME/.config}}/systemd/user {" ".join(_USER)})
  fi
  names=($^directories/rota-*.service(N:t:r))
  names=(${{names#rota-}})
  names=(${{names:#({"|".join(_NONE)})}})
  compadd "$@" -a names
}}
"""
_FISH = f"""
function __rota_agents --description "Names of agents, from the unit files"
    set -l directories {" ".join(_SYSTEM)}
    if contains -- --user (commandline -opc)
        set -l config $XDG_CONFIG_HOME
        test -n "$config"; or set config $HOME/.config
        set directories $config/systemd/user {" ".join(_USER)}
    end
    for directory in $directories
        for file in $directory/rota-*.service
            string replace -r '.*/rota-(.*)\\.service$' '$1' -- $file \\
                | string match -rv '@|^({"|".join(RESERVED)})$'
        end
    end
end

function __rota_verb --description "Whether one of these verbs is written, or any for none"
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case @TAKES_VALUE@
                set -e words[1]
            case '-*'
            case '*'
                test (count $argv) -eq 0; or contains -- $words[1] $argv
                return
        end
        set -e words[1]
    end
    return 1
end

function __rota_words --description "How many words follow the verb, options left out"
    set -l words (commandline -opc)
    set -l found 0
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case @ALL_TAKE_VALUE@
                set -e words[1]
            case '-*'
            case '*'
                set found (math $found + 1)
        end
        set -e words[1]
    end
    math $found - 1
end
"""
_AGENTS = {"bash": "_rota_agents", "zsh": "_rota_agents"}
_COMPLETE = {
    "agent": _AGENTS,
    "config": shtab.FILE,
    "output": shtab.DIRECTORY,
    "unit_dir": shtab.DIRECTORY,
}


def _annotated() -> argparse.ArgumentParser:
    """Return rota's parser with what completes each argument, where shtab looks for it."""
    parser = cli.parser()
    for one in (parser, *(item for _, item in verbs(parser).values())):
        for action in one._actions:
            if action.dest in _COMPLETE:
                action.complete = _COMPLETE[action.dest]  # type: ignore[attr-defined]
    return parser


def _made(shell: str, preamble: str) -> str:
    """Return shtab's script without its advice on where to copy it: install puts it there."""
    text = str(shtab.complete(_annotated(), shell, preamble=preamble))
    return re.sub(r"^# Usage:\n(?:#.*\n)+", "", text, flags=re.MULTILINE).rstrip()


def bash() -> str:
    """Return the completion of bash."""
    return f"# {_HEADER}\n{_made('bash', _BASH)}\n"


def zsh() -> str:
    """Return the completion of zsh."""
    first, _, rest = _made("zsh", _ZSH).partition("\n")  # "#compdef rota" has to be the first line
    return f"{first}\n# {_HEADER}\n{rest}\n"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(action: argparse.Action, condition: str) -> str:
    words = ["complete -c rota", *([f"-n {_fish_quote(condition)}"] if condition else [])]
    words += [
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in action.option_strings
    ]
    if takes_value(action):
        folder, file = ("output", "unit_dir"), ("config",)
        words.append("-r" + (" -F" if action.dest in file else ""))
        words += ["-a '(__fish_complete_directories)'"] if action.dest in folder else []
    return " ".join([*words, f"-d {_fish_quote(action.help or '')}"])


def _fish_argument(action: argparse.Action, condition: str) -> str:
    choices = "(__rota_agents)" if action.dest == "agent" else " ".join(map(str, action.choices or ()))
    return f"complete -c rota -n {_fish_quote(condition)} -a {_fish_quote(choices)}"


def _fish_nested(verb: str, parser: argparse.ArgumentParser, common: set[str]) -> Iterator[str]:
    """Yield what completes the verbs of a verb, and their options."""
    found = nested(parser)
    for name, (about, one) in found.items():
        first = f"__rota_verb {verb}; and test (__rota_words) -eq 0"
        yield f"complete -c rota -n {_fish_quote(first)} -a {name} -d {_fish_quote(about)}"
        for item in options(one):
            if not common & {*item.option_strings}:
                yield _fish_option(item, f"__rota_verb {verb}; and __fish_seen_subcommand_from {name}")


def _names_with_value(parsers: list[argparse.ArgumentParser]) -> str:
    found = {
        name for one in parsers for item in options(one) if takes_value(item) for name in item.option_strings
    }
    return " ".join(sorted(found))


def fish() -> str:
    """Return the completion of fish."""
    parser = cli.parser()
    table = verbs(parser)
    functions = _FISH.replace("@TAKES_VALUE@", _names_with_value([parser])).replace(
        "@ALL_TAKE_VALUE@",
        _names_with_value(
            [parser, *(item for _, item in table.values())]
            + [item for _, one in table.values() for _, item in nested(one).values()]
        ),
    )
    lines = [f"# {_HEADER}", functions, "complete -c rota -f"]
    common = {name for item in options(parser) for name in item.option_strings}
    lines += [
        _fish_option(item, "not __rota_verb" if item.dest == "version" else "") for item in options(parser)
    ]
    for name, (about, one) in table.items():
        lines.append(f"complete -c rota -n 'not __rota_verb' -a {name} -d {_fish_quote(about)}")
        lines += [
            _fish_option(item, f"__rota_verb {name}")
            for item in options(one)
            if not common & {*item.option_strings}
        ]
        lines += [
            _fish_argument(item, f"__rota_verb {name}; and test (__rota_words) -eq {index}")
            for index, item in enumerate(positionals(one))
        ]
        lines += _fish_nested(name, one, common)
    return "\n".join(lines) + "\n"
