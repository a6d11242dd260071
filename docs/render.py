"""What a page is made of, and its two forms: Markdown and man(7).

Prose is written once, in a little Markdown: `code` and *emphasis*. Man pages are ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Lines shown as they are; `language` is for Markdown."""

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Terms, each with what it is and further columns.

    Attributes:
        columns: titles: of the terms, of what they are, and of the further columns.
        rows: one cell a column; a cell may be empty.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what is below it."""

    title: str
    blocks: Sequence[Text | Code | Table | Section]


Block = Text | Code | Table | Section

_MARKS = re.compile(r"`(?P<code>[^`]+)`|\*(?P<emphasis>[^*`\s][^*`]*)\*")


def _markdown_cell(text: str) -> str:
    return text.replace("|", "\\|") or " "


def _markdown_table(table: Table) -> str:
    # A column in which no row has anything would only take room.
    used = [index for index in range(len(table.columns)) if any(row[index] for row in table.rows)]
    lines = [[table.columns[index] for index in used], ["---"] * len(used)]
    lines += [[_markdown_cell(row[index]) for index in used] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def markdown(blocks: Iterable[Block], level: int = 1) -> str:
    """Return blocks as Markdown; sections begin at a level of headings."""
    parts: list[str] = []
    for block in blocks:
        match block:
            case Text(text):
                parts.append(text)
            case Code(text, language):
                parts.append(f"```{language}\n{text.strip()}\n```")
            case Table():
                parts.append(_markdown_table(block))
            case Section(title, below):
                parts.append(f"{'#' * level} {title}\n\n{markdown(below, level + 1).rstrip()}")
    return "\n\n".join(parts) + "\n"


def _escape(text: str) -> str:
    """Return text as roff takes it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti").replace('"', "\\(dq")
    return "".join(char if ord(char) < 128 else f"\\[u{ord(char):04X}]" for char in text)


def _prose(text: str) -> str:
    """Return prose as roff, code in bold and emphasis in italics."""
    parts: list[str] = []
    at = 0
    for mark in _MARKS.finditer(text):
        parts.append(_escape(text[at : mark.start()]))
        font, word = ("B", mark["code"]) if mark["code"] else ("I", mark["emphasis"])
        parts.append(f"\\f{font}{_escape(word)}\\fR")
        at = mark.end()
    parts.append(_escape(text[at:]))
    return _lines("".join(parts))


def _lines(text: str) -> str:
    """Keep a dot at the beginning of a line from being a request."""
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in text.splitlines())


def _roff_row(columns: Sequence[str], row: Sequence[str]) -> str:
    term, about, *more = row
    term = term if "`" in term else f"`{term}`"
    extras = [
        f"{title[0].upper()}{title[1:]}: {cell}."
        for title, cell in zip(columns[2:], more, strict=True)
        if cell
    ]
    about = " ".join((about, *extras)).strip()
    return f".TP\n{_prose(term)}\n{_prose(about)}"


def _roff_blocks(blocks: Iterable[Block]) -> str:
    parts: list[str] = []
    for block in blocks:
        match block:
            case Text(text):
                parts.append(f".PP\n{_prose(text)}")
            case Code(text, _):
                body = _lines(_escape(text.strip()))
                parts.append(f".PP\n.RS 4\n.nf\n{body}\n.fi\n.RE")
            case Table(columns, rows):
                parts += [_roff_row(columns, row) for row in rows]
            case Section(title, below):
                parts.append(f".SS {_quoted(title)}\n{_roff_blocks(below)}")
    return "\n".join(parts)


def _quoted(text: str) -> str:
    return f'"{_escape(text.replace("`", ""))}"'


def man(title: str, number: int, version: str, sections: Iterable[Section]) -> str:
    """Return a man page; it carries no date, so that the same code makes the same page."""
    lines = [
        '.\\" Made by docs/generate.py from the code; do not edit.',
        f'.TH {title} {number} "" "{version}" "rota"',
        ".nh",
        ".ad l",
    ]
    for section in sections:
        name = section.title.upper()
        lines.append(f".SH {_quoted(name)}")
        body = _roff_blocks(section.blocks)
        # man(7) begins a paragraph after a heading by itself.
        lines.append(body.removeprefix(".PP\n"))
    return "\n".join(lines) + "\n"
