"""Errors that a person reads: what is wrong, where, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

_AGENT = re.compile(r'(?:services\.rota\.)?agents\.("[^"]*"|[^.]+)')


class Exit(IntEnum):
    """Exit codes of `rota`, as documented in rota(1)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    NOT_AUTHORISED = 5


class RotaError(Exception):
    """Something a person can act on.

    Attributes:
        message: one sentence, what is wrong.
        hint: what to do about it, or "".
        exit_code: what `rota` exits with.
    """

    def __init__(self, message: str, hint: str = "", exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class DamagedError(Exception):
    """The database file is not what rota wrote; what is wrong with it is the argument."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in one declaration.

    Attributes:
        file: the file as the person knows it, relative to the configuration directory; "" for a
            NixOS option, which the key names in full.
        key: dotted path of the key inside the file, "" for the file as a whole.
        message: what is wrong and what to write, without a full stop.
        value: the offending value as written, "" if there is none to quote.
    """

    file: str
    key: str
    message: str
    value: str = ""

    def __str__(self) -> str:
        quoted = f'"{self.value}"' if self.value else ""
        return ": ".join(part for part in (self.file, self.key, quoted, self.message) if part)


class DeclarationError(RotaError):
    """Every problem found in a set of declarations, at once.

    Attributes:
        problems: sorted by file and key.
        declared: how many declarations were looked at.
    """

    def __init__(self, problems: Iterable[Problem], declared: int) -> None:
        self.problems = tuple(sorted(set(problems)))
        self.declared = declared
        wrong = len({(problem.file, _agent_of(problem.key)) for problem in self.problems})
        count = len(self.problems)
        summary = (
            f"{count} error{'s' if count != 1 else ''} in {wrong} of {declared} "
            f"declaration{'s' if declared != 1 else ''}; nothing was changed."
        )
        super().__init__(summary, exit_code=Exit.USAGE)


def _agent_of(key: str) -> str:
    """Return the part of a key that names an agent, where one file has many."""
    found = _AGENT.match(key)
    return found[0] if found else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known words that look like `word`, or ""."""
    from difflib import get_close_matches  # noqa: PLC0415  (only when something is wrong)

    matches = get_close_matches(word, sorted(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
