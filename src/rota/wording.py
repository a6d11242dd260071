"""Messages a person can act on: what, since when, the last output, what was tried, what to type; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from rota.quantity import USEC
from rota.routes import KINDS, SEVERITIES, Happening

TAIL = 10
"""Lines of output in a message about one thing."""
DETAILED = 3
"""So many things of one message are told with their output; the worst, then the latest."""
LISTED = 20
"""So many have a line of their own; of the others only how many there are of each."""
_LONGEST_SUBJECT = 120

_PLURALS: Mapping[str, tuple[str, str]] = {
    "failure": ("failure", "failures"),
    "recovery": ("recovery", "recoveries"),
    "success": ("success", "successes"),
    "missed": ("missed", "missed"),
    "escalation": ("escalation", "escalations"),
}


@dataclass(frozen=True, slots=True)
class Text:
    """A message: its subject, one line, and its body."""

    subject: str
    body: str


def detailed(happenings: Sequence[Happening]) -> list[Happening]:
    """Return those that are told in full, the worst first."""
    worst = sorted(happenings, key=lambda one: (_rank(one), one.at), reverse=True)
    return worst[:DETAILED] if len(happenings) > 1 else list(happenings)


def _rank(happening: Happening) -> tuple[int, int]:
    severity = SEVERITIES.index(happening.severity) if happening.severity in SEVERITIES else len(SEVERITIES)
    return severity, {"escalation": 2, "failure": 1}.get(happening.kind, 0)


def _moment(at: int, zone: tzinfo | None) -> str:
    try:
        return datetime.fromtimestamp(at / USEC, zone).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{at // USEC} s after 1970"  # beyond the year 9999


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _counts(happenings: Sequence[Happening]) -> str:
    found = Counter(one.kind for one in happenings)
    return ", ".join(f"{found[kind]} {_PLURALS[kind][found[kind] > 1]}" for kind in KINDS if found[kind])


def _names(happenings: Sequence[Happening]) -> str:
    found = Counter(one.about for one in happenings)
    few = [name for name, _ in found.most_common(3)]
    return ", ".join(few) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _line(one: Happening) -> str:
    """Return what happened to whom; a title that begins with a colon follows the name at once."""
    return f"{one.about}{'' if one.title.startswith(':') else ' '}{one.title}"


def _typed(command: str, rota: str) -> str:
    return f"{rota}{command.removeprefix('rota')}" if command else ""


def _in_full(one: Happening, tail: Sequence[str], rota: str, zone: tzinfo | None) -> list[str]:
    rows = [_line(one), f"When:   {_moment(one.at, zone)}"]
    if one.since is not None:
        rows.append(f"Since:  {_moment(one.since, zone)}")
    rows += one.lines
    if one.tried:
        rows += ["Tried:", *(f"  {line}" for line in one.tried)]
    said = tail or ([one.last_line] if one.last_line else [])
    if said:
        rows += ["Output:", *(f"  {line}" for line in said)]
    if one.command:
        rows.append(f"See:    {_typed(one.command, rota)}")
    for number, answer in enumerate(one.answers):
        rows.append(f"{'Answer:' if number == 0 else '    or:'} {_typed(answer, rota)}")
    if one.answers and one.until is not None:
        rows.append(f"Until:  {_moment(one.until, zone)}")
    return rows


def _in_short(one: Happening, rota: str, zone: tzinfo | None) -> str:
    command = _typed(one.answers[0] if one.answers else one.command, rota)
    return f"- {_moment(one.at, zone)} {_line(one)}{command and f' ({command})'}"


def _many(
    happenings: Sequence[Happening], tails: Mapping[str, Sequence[str]], rota: str, zone: tzinfo | None
) -> list[str]:
    full = detailed(happenings)
    keys = {one.key for one in full}
    others = [one for one in happenings if one.key not in keys]
    rows: list[str] = [f"{_counts(happenings)}, {_span(happenings, zone)}."]
    for one in full:
        rows += ["", *_in_full(one, tails.get(one.key, ())[-TAIL // 2 :], rota, zone)]
    if others:
        rows += ["", "Also:", *(_in_short(one, rota, zone) for one in others[-LISTED:])]
    if rest := others[:-LISTED]:
        found = Counter((one.about, one.kind) for one in rest).most_common()
        told = [f"{name} ({count} {_PLURALS[kind][count > 1]})" for (name, kind), count in found[:LISTED]]
        more = f" and {len(found) - LISTED} others" if len(found) > LISTED else ""
        rows.append(f"And {len(rest)} before these: {', '.join(told)}{more}.")
    since = _moment(min(one.at for one in happenings), zone)
    runs = f"runs --since '{since}'"
    kept = all(one.command.startswith("rota keeper ") for one in happenings)
    return [*rows, "", f"See:    {rota} {'keeper history' if kept else runs}"]


def _span(happenings: Sequence[Happening], zone: tzinfo | None) -> str:
    first, last = (_moment(choose(one.at for one in happenings), zone) for choose in (min, max))
    return f"from {first} to {last}" if first != last else f"at {first}"


def message(
    happenings: Sequence[Happening],
    tails: Mapping[str, Sequence[str]],
    host: str,
    *,
    held_since: int | None = None,
    rota: str = "rota",
    zone: tzinfo | None = None,
) -> Text:
    """Return one message about all that happened.

    Args:
        happenings: at least one, in order.
        tails: last lines of output by `Happening.key`, oldest first; of those that `detailed` returns.
        host: name of the machine.
        held_since: since when the rate limit held some of it back.
        rota: how people call rota for these agents.
        zone: local time; the machine's by default.
    """
    if len(happenings) == 1:
        (one,) = happenings
        subject = f"[{host}] {_line(one)}"
        rows = _in_full(one, tails.get(one.key, ())[-TAIL:], rota, zone)
    else:
        subject = f"[{host}] {_counts(happenings)}: {_names(happenings)}"
        rows = _many(happenings, tails, rota, zone)
    if held_since is not None:
        rows += ["", f"Held back since {_moment(held_since, zone)}: the limit of messages was reached."]
    return Text(_cut(" ".join(subject.split()), _LONGEST_SUBJECT), "\n".join(rows) + "\n")


AGAIN = (
    "\nThis may be the second time: sending it was cut off before, and nobody knows whether it went out.\n"
)
"""Put below a message that is sent again after rotad-notify died while it was being sent."""


def test_message(channel: str, host: str, now: int, zone: tzinfo | None = None) -> Text:
    """Return what `rota notify test` sends."""
    return Text(
        f"[{host}] test of the channel {channel}",
        f"Sent by `rota notify test {channel}` on {host}, {_moment(now, zone)}.\nNothing is wrong.\n",
    )
