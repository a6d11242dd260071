"""Declarations with what is expected of them beside them, and the strict reader of unit files for both.

A case is an agent's file; comments that begin with `##` say what has to come of it:

    ## settings LINE                    a line of rota.toml
    ## user                             made for the user manager
    ## assert-service-key SECTION KEY VALUE...    exactly these values, in this order; none: no such key
    ## assert-timer-key SECTION KEY VALUE...
    ## assert-no-timer
    ## assert-missing-program           systemd may warn that there is no such program
    ## assert-arguments JSON            what systemd hands to the program
    ## assert-environment JSON          what it finds in its environment
    ## assert-description TEXT          what the schedule is called for people
    ## assert-error KEY MESSAGE         one mistake; all of a case's mistakes are named

Words are quoted as in a shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rota.generate import Files, build
from rota.load import Loaded, load
from rota.units import Context

FOLDER = Path(__file__).parent
CASES = sorted(FOLDER.glob("*.toml"))
Unit = dict[str, dict[str, list[str]]]

_SECTION = re.compile(r"\[([A-Za-z-]+)\]")
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9-]*)=(.*)")
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|(.))")
_SHORT = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


@dataclass
class Case:
    """One file: its expectations by word, each with what follows it."""

    path: Path
    expectations: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> Iterator[str]:
        return (rest for found, rest in self.expectations if found == word)

    def has(self, word: str) -> bool:
        return any(found == word for found, _ in self.expectations)

    def words(self, word: str) -> Iterator[list[str]]:
        return (shlex.split(rest) for rest in self.all(word))


def read_case(path: Path) -> Case:
    case = Case(path)
    for line in path.read_text().splitlines():
        if line.startswith("## "):
            word, _, rest = line[3:].partition(" ")
            case.expectations.append((word, rest.strip()))
    return case


def configuration(folder: Path, agents: dict[str, str], settings: str = "") -> Path:
    """Write a configuration as a person would, and return its directory."""
    (folder / "agents.d").mkdir(parents=True)
    for name, text in agents.items():
        (folder / "agents.d" / f"{name}.toml").write_text(text)
    if settings:
        (folder / "rota.toml").write_text(settings)
    return folder


def load_case(case: Case, folder: Path) -> tuple[Loaded, Files]:
    """Return what comes of a case's file, as the only declaration of a configuration."""
    settings = "\n".join(case.all("settings"))
    loaded = load(configuration(folder, {case.path.stem: case.path.read_text()}, settings))
    return loaded, {} if loaded.problems else build(loaded, Context(user=case.has("user")))


def read_unit(text: str) -> Unit:
    """Read a unit file, stricter than systemd: no continued lines, no blanks around =, no odd characters."""
    sections: Unit = {}
    current: dict[str, list[str]] | None = None
    assert text.endswith("\n")
    for line in text.split("\n"):
        assert not _CONTROL.search(line), f"raw control character: {line!r}"
        assert not line.endswith("\\"), f"line continues: {line!r}"
        assert len(line.encode()) < 2**20, "systemd takes lines up to 1 MiB"
        if not line or line.startswith("#"):
            continue
        if section := _SECTION.fullmatch(line):
            assert section[1] not in sections, f"section twice: {line}"
            current = sections.setdefault(section[1], {})
            continue
        pair = _LINE.fullmatch(line)
        assert pair and current is not None, f"not a line of a unit file: {line!r}"
        current.setdefault(pair[1], []).append(pair[2])
    return sections


def _specifiers(word: str) -> str:
    assert not re.search(r"(?<!%)(?:%%)*%(?!%)", word), f"specifier left in {word!r}"
    return word.replace("%%", "%")


def read_words(value: str) -> list[str]:
    """Take a value apart as systemd.syntax(7) says, quotes, escapes and specifiers undone."""
    words: list[str] = []
    at = 0
    while at < len(value):
        if value[at] == " ":
            at += 1
            continue
        word, quote = "", ""
        while at < len(value) and (quote or value[at] != " "):
            char = value[at]
            if char == "\\":
                escape = _ESCAPE.match(value, at)
                assert escape, f"unfinished escape in {value!r}"
                word += chr(int(escape[1], 16)) if escape[1] else _SHORT[escape[2]]
                at = escape.end()
                continue
            if quote:
                quote, word = ("", word) if char == quote else (quote, word + char)
            elif char in "\"'":
                quote = char
            else:
                assert char != ";" or word, "an unquoted ; ends a command"
                word += char
            at += 1
        assert not quote, f"quote left open in {value!r}"
        words.append(_specifiers(word))
    return words


def read_command(value: str) -> list[str]:
    """Return the arguments systemd hands over for a value of ExecStart=."""
    if value.startswith(":"):
        return read_words(value[1:])
    program, *rest = read_words(value)
    assert "$" not in program, "systemd does not undo $$ in the program's path"
    for word in rest:
        assert not re.search(r"(?<!\$)(?:\$\$)*\$(?!\$)", word), f"variable left in {word!r}"
    return [program, *(word.replace("$$", "$") for word in rest)]


def read_environment(service: Unit) -> dict[str, str]:
    """Return the environment that the Environment= lines of a service make."""
    lines = service["Service"].get("Environment", [])
    return dict(
        word.split("=", 1)
        for line in lines
        for word in read_words(line.replace("%S", "/var/lib").replace("%t", "/run"))
    )
