"""The only caller of systemd-analyze(1): calendar events, unit files and exposure, in bulk."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rota.errors import Exit, RotaError
from rota.quantity import USEC, is_zone

NEVER = "never happens: there is no such date, or it is past"
_BATCH = 1000
_RUNTIME = Path("/run/systemd")
_DYNAMIC_USER = re.compile(r"^DynamicUser=.*$", re.MULTILINE)
# "(in UTC):" follows where local time is another.
_IN_UTC = re.compile(r": \w+ (\d+-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", re.MULTILINE)
_REFUSED = re.compile(r"Failed to parse calendar (?:specification|expression) '(.*)': (.*)")


def _run(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["systemd-analyze", "--no-pager", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_LOG_LEVEL": "warning"}
            | environment,
        )
    except FileNotFoundError:
        raise RotaError(
            "systemd-analyze is not installed",
            "rota checks calendar events and units with it; install systemd.",
            Exit.UNREACHABLE,
        ) from None


def without_zone(event: str) -> str:
    """Return a calendar event without its time zone, if it ends in one that Python knows.

    In a Nix build systemd knows no time zone: it looks for them in /etc/zoneinfo, and there is none.
    """
    rest, _, zone = event.rstrip().rpartition(" ")
    return rest.rstrip() if rest and is_zone(zone) else event


def calendar_errors(events: Iterable[str]) -> dict[str, str]:
    """Return the calendar events that systemd refuses or that never elapse, each with the reason."""
    asked: dict[str, list[str]] = {}
    for event in dict.fromkeys(events):
        asked.setdefault(without_zone(event), []).append(event)
    found = _calendar_errors(list(asked))
    return {event: message for short, message in found.items() for event in asked[short]}


def _calendar_errors(wanted: list[str]) -> dict[str, str]:
    errors: dict[str, str] = {}
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        done = _run(["calendar", "--", *batch])
        for line in done.stderr.split("\n"):
            if refused := _REFUSED.fullmatch(line.strip()):
                errors[refused[1]] = "not a calendar event; see systemd.time(7), CALENDAR EVENTS"
        accepted = iter(event for event in batch if event not in errors)
        for line in done.stdout.split("\n"):
            if "Next elapse:" in line:
                event = next(accepted)
                if line.rstrip().endswith("never"):
                    errors[event] = NEVER
    return errors


def elapses(events: Sequence[str], base: int, count: int) -> dict[str, list[int]]:
    """Return when calendar events elapse, as systemd reckons it: in local time, and in whole seconds.

    Args:
        events: calendar events that systemd takes.
        base: only moments after this one, microseconds since 1970.
        count: no more of each.

    Returns:
        Moments in microseconds since 1970, sorted; fewer than `count` where there are no more.

    Raises:
        RotaError: systemd-analyze did not answer.
    """
    found: dict[str, list[int]] = {}
    for start in range(0, len(events), _BATCH):
        batch = events[start : start + _BATCH]
        options = (f"--base-time=@{max(base, 0) // USEC}", f"--iterations={count}")
        done = _run(["calendar", *options, "--", *batch])
        if done.returncode:
            raise RotaError(f"systemd-analyze calendar failed: {done.stderr.strip()}")
        # An event that is written as systemd would write it has no "Original form:".
        blocks = done.stdout.split("Normalized form:")[1:]
        for event, block in zip(batch, blocks, strict=True):
            moments = {_moment(line) for line in _IN_UTC.findall(block)}
            found[event] = sorted(moment for moment in moments if moment > base)
    return found


def _moment(text: str) -> int:
    return round(datetime.strptime(f"{text} +0000", "%Y-%m-%d %H:%M:%S %z").timestamp()) * USEC


def verify(units: Sequence[Path], *, anywhere: bool = False) -> list[str]:
    """Return every line systemd prints about unit files: nothing, if they are right.

    systemd-analyze exits with 0 on unknown keys, so what it prints is what counts. What the units refer
    to is looked up beside them, and then as ever: in $SYSTEMD_UNIT_PATH or systemd's own directories.

    Args:
        units: the files.
        anywhere: also where there is no /run/systemd, as in a Nix build. systemd-analyze makes it, or
            refuses to work for the system manager; so it is asked as for a user's.
    """
    if not units:
        return []
    directories = ":".join(sorted({str(unit.parent) for unit in units}))
    elsewhere = os.environ.get("SYSTEMD_UNIT_PATH", "")
    if not anywhere and (_RUNTIME.is_dir() or os.geteuid() == 0):
        return _verify(units, SYSTEMD_UNIT_PATH=f"{directories}:{elsewhere}")
    with tempfile.TemporaryDirectory(prefix="rota-verify-") as runtime:
        copies = [Path(runtime, unit.name) for unit in units]
        for unit, copy in zip(units, copies, strict=True):
            # The one key of rota's that a user's manager refuses; an empty line, so that line numbers stay.
            text = _DYNAMIC_USER.sub("", unit.read_text(encoding="utf-8"))
            copy.write_text(text, encoding="utf-8")
        path = f"{runtime}:{directories}:{elsewhere}"
        return _verify(copies, "--user", XDG_RUNTIME_DIR=runtime, SYSTEMD_UNIT_PATH=path)


def _verify(units: Sequence[Path], *options: str, **environment: str) -> list[str]:
    lines: list[str] = []
    for start in range(0, len(units), _BATCH):
        batch = [str(unit) for unit in units[start : start + _BATCH]]
        done = _run(["verify", "--man=no", *options, *batch], **environment)
        lines += [line for line in done.stderr.split("\n") if line.strip()]
    return lines


@dataclass(frozen=True, slots=True)
class Exposure:
    """What systemd-analyze security says of one unit.

    Attributes:
        score: overall exposure, 0 (safest) to 10.
        costs: settings that cost something: name, exposure, description; the dearest first.
    """

    score: float
    costs: tuple[tuple[str, float, str], ...]


def exposure(unit: Path) -> Exposure:
    """Return the exposure of a service file, without its being installed.

    Raises:
        RotaError: systemd-analyze did not answer.
    """
    done = _run(["security", "--offline=true", "--json=short", str(unit)])
    overall = _run(["security", "--offline=true", str(unit)])
    score = re.search(r"Overall exposure level for .*?: (\d+\.\d+)", overall.stdout)
    if done.returncode or score is None:
        raise RotaError(f"systemd-analyze security failed on {unit.name}: {done.stderr.strip()}")
    rows = [
        (row["name"], float(row["exposure"]), row["description"])
        for row in json.loads(done.stdout)
        if row["exposure"] and float(row["exposure"]) > 0
    ]
    return Exposure(float(score[1]), tuple(sorted(rows, key=lambda row: (-row[1], row[0]))))
