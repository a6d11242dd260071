"""What a person sees: words, times, tables on a terminal of 80 columns and in a pipe, JSON."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota import output
from rota.clock import wall_clock
from rota.events import BAD, OVER
from rota.quantity import USEC

MIN, HOUR, DAY = 60 * USEC, 3600 * USEC, 86_400 * USEC
NOW = 1_802_000_000 * USEC  # Sunday 2027-02-07 11:33:20 UTC


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    """Words are in local time: of a place without summer time."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("past", "words"),
    [
        (-5 * USEC, "just now"),
        (0, "just now"),
        (999_999, "just now"),
        (USEC, "1s ago"),
        (59 * USEC, "59s ago"),
        (2 * MIN + 59 * USEC, "2min ago"),
        (3 * HOUR - 1, "2h ago"),
        (26 * HOUR, "1d ago"),
        (13 * DAY, "1w ago"),
        (30 * DAY, "4w ago"),
        (31 * DAY, "2027-01-07 11:33:20"),
    ],
)
def test_ago(past: int, words: str) -> None:
    assert output.ago(NOW - past, NOW) == words


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (-HOUR, "in 1s"),
        (0, "in 1s"),
        (USEC, "in 1s"),
        (3 * MIN + 59 * USEC, "in 3min"),
        (12 * HOUR - USEC, "in 11h"),
        (12 * HOUR, "Sun 23:33 (in 12h)"),
        (2 * DAY, "Tue 11:33 (in 2d)"),
        (6 * DAY - USEC, "Sat 11:33 (in 5d)"),
        (6 * DAY, "2027-02-13 11:33 (in 6d)"),
        (400 * DAY, "2028-03-13 11:33 (in 57w)"),
    ],
)
def test_until(left: int, words: str) -> None:
    assert output.until(NOW + left, NOW) == words


@pytest.mark.parametrize(
    ("usec", "words"),
    [
        (0, "0.00s"),
        (1, "0.00s"),
        (10_000, "0.01s"),
        (49_999, "0.05s"),
        (50_000, "0.1s"),
        (400_000, "0.4s"),
        (9_940_000, "9.9s"),
        (10 * USEC, "10s"),
        (12_900_000, "12s"),
        (60 * USEC, "1min"),
        (200 * USEC, "3min 20s"),
        (25 * HOUR + MIN, "1d 1h"),
    ],
)
def test_seconds(usec: int, words: str) -> None:
    assert output.seconds(usec) == words


def test_the_present() -> None:
    assert abs(wall_clock() - time.time() * USEC) < 5 * USEC
    assert output.date(NOW) == "2027-02-07 11:33:20"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"state": "succeeded", "started": NOW, "ended": NOW + 400_000}, "0.4s"),
        ({"state": "failed", "started": NOW, "ended": NOW + 200 * USEC}, "3min 20s"),
        ({"state": "skipped", "started": NOW, "ended": NOW}, ""),
        ({"state": "running", "started": NOW}, ""),
        ({"state": "unknown", "started": NOW}, ""),
        ({"state": "killed", "ended": NOW}, ""),
    ],
)
def test_took(run: dict[str, Any], words: str) -> None:
    assert output.took(run) == words


def test_a_clock_that_was_put_back_makes_no_negative_time() -> None:
    assert output.took({"state": "succeeded", "started": NOW, "ended": NOW - HOUR}) == "0.00s"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"state": "succeeded"}, ""),
        ({"state": "succeeded", "status": 0}, ""),
        ({"state": "failed", "reason": "exit-code", "status": 3, "status_name": "NOTIMPLEMENTED"}, "exit 3"),
        ({"state": "failed", "reason": "exit-code", "status": 203, "status_name": "EXEC"}, "exit 203 EXEC"),
        ({"state": "failed", "reason": "exit-code", "status": 250}, "exit 250"),
        ({"state": "failed", "reason": "dependency"}, "dependency"),
        ({"state": "failed"}, ""),
        ({"state": "timed-out", "reason": "timeout", "signal": "SIGTERM"}, ""),
        ({"state": "timed-out", "reason": "watchdog", "signal": "SIGABRT"}, "watchdog"),
        ({"state": "killed", "reason": "signal", "signal": "SIGKILL"}, "SIGKILL"),
        ({"state": "killed", "reason": "oom-kill", "signal": "SIGKILL"}, "oom-kill"),
        ({"state": "killed", "reason": "core-dump", "signal": "SIGSEGV"}, "core-dump"),
        ({"state": "killed", "reason": "stopped", "signal": "SIGTERM"}, "stopped"),
        ({"state": "killed", "reason": "stopped", "stopped_by": "ada"}, "stopped by ada"),
        ({"state": "skipped", "reason": "paused"}, "paused"),
        ({"state": "unknown", "reason": "the machine went down"}, "the machine went down"),
        ({"state": "running"}, ""),
        ({"state": "activated", "reason": "stopping"}, "stopping"),
    ],
)
def test_why(run: dict[str, Any], words: str) -> None:
    assert output.why(run) == words


def test_every_state_has_a_word_and_a_colour() -> None:
    for state in OVER | {"activated", "running"}:
        text, style = output.word(state)
        assert text
        assert (style == "red") == (state in BAD - {"unknown"} | {"missed"})


def test_trend_is_a_mark_each() -> None:
    marks = output.trend(["succeeded", "failed", "timed-out", "killed", "skipped", "missed", "unknown"])
    assert "".join(mark for mark, _ in marks) == "+---o_?"
    assert output.trend([]) == []


def test_who_and_how_much() -> None:
    assert output.trigger({"trigger": "person", "requested_by": "ada"}) == "ada"
    assert output.trigger({"trigger": "timer"}) == "timer"
    assert output.trigger({}) == "-"
    assert output.usage({}) == ("-", "-")
    assert output.usage({"cpu_usec": 0, "memory_peak": 0}) == ("0.00s", "0B")
    assert output.usage({"cpu_usec": 1_715_391, "memory_peak": 108_126_208}) == ("1.7s", "103M")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    value: list[dict[str, Any]] = [{"why": 'ünd "so" \x1b', "next": None, "list": []}]
    output.emit_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert "ü" in said
    assert "\x1b" not in said
    assert said.endswith("]\n")


def test_talk_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.talk("hello", "red")
    output.line("there")
    assert capsys.readouterr() == ("there\n", "hello\n")


def test_a_stream_of_another_kind_has_no_colour() -> None:
    stream = io.StringIO()
    output.line("x", "red", stream)
    assert stream.getvalue() == "x\n"


PROGRAM = """
from rota import output

LAST = [("failed    ", "red"), ("5d ago  exit 203 EXEC", "")]
TREND = output.trend(["succeeded"] * 6 + ["failed", "skipped", "unknown", "killed"])
AGENTS = [
    ("disk-report", "every 5min", "in 3min"),
    ("weekly-audit-of-everything", "Mon..Fri 09:00,17:00 Europe/Rome; at boot", "Mon 09:00 (in 2d)"),
]
LIST = ("AGENT", "SCHEDULE", "NEXT", "LAST", "TREND")

def agents(count):
    rows = [((name, "bold"), (when, ""), (then, ""), LAST, TREND) for name, when, then in AGENTS[:count]]
    output.table(LIST, rows, flexible=(1,))

agents(1)
agents(2)
row = [("9f2c51d0", ""), ("weekly-audit-of-everything", "bold"), ("2027-02-01 09:00:00", ""),
       ("3min 20s", ""), [("failed", "red"), (" exit 203 EXEC", "")], ("timer", ""), ("12s", ""),
       ("512M", "")]
output.table(["RUN", "AGENT", "STARTED", ">TOOK", "RESULT", "BY", ">CPU", ">MEM"], [row], flexible=(1,))
output.table(("A", ">B"), [(("[red]x[/red] :smile:", ""), ("", "")), (("ünd", ""), ("10", ""))])
output.line("closing", "green")
"""
LAST = "failed    5d ago  exit 203 EXEC  ++++++-o?-"
NOTHING_CUT = [
    "AGENT        SCHEDULE    NEXT     LAST                             TREND",
    f"disk-report  every 5min  in 3min  {LAST}",
    "AGENT                       SCHEDULE                                   NEXT               "
    "LAST                             TREND",
    f"disk-report                 every 5min                                 in 3min            {LAST}",
    f"weekly-audit-of-everything  Mon..Fri 09:00,17:00 Europe/Rome; at boot  Mon 09:00 (in 2d)  {LAST}",
    "RUN       AGENT                       STARTED                  TOOK  RESULT                "
    "BY     CPU   MEM",
    "9f2c51d0  weekly-audit-of-everything  2027-02-01 09:00:00  3min 20s  failed exit 203 EXEC  "
    "timer  12s  512M",
    "A                      B",
    "[red]x[/red] :smile:",
    "ünd                   10",
    "closing",
]


def environment(**changes: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    return kept | {"TERM": "xterm-256color"} | changes


def on_terminal(columns: int, **changes: str) -> str:
    """Run the program on a terminal of its own, and return all that appears there."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment(**changes)) as program:
        os.close(its)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65_536)
            except OSError:  # EIO: the other end is closed
                break
        assert program.wait(10) == 0, shown.decode()
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def bare(text: str) -> list[str]:
    """Return lines without what sets colours and without blanks at their ends."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]


def test_a_table_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", ">B"), [])
    assert capsys.readouterr().out == "A  B\n"


def test_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", "B"), [(("x\ny\r\nz", ""), ("", "")), (("字", ""), ("1", ""))])
    assert capsys.readouterr().out == "A      B\nx y z\n字     1\n"


def test_in_a_pipe_nothing_is_cut_or_coloured() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, env=environment(), check=True)
    assert done.stdout.decode() == "\n".join([*NOTHING_CUT, ""])


@pytest.fixture(scope="module")
def terminal() -> str:
    """The program on a terminal of 80 columns."""
    return on_terminal(80)


def test_colour_on_a_terminal(terminal: str) -> None:
    assert "\x1b[31mfailed" in terminal
    assert "\x1b[1mdisk-report" in terminal
    assert "\x1b[32mclosing\x1b[0m" in terminal


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(changes: dict[str, str]) -> None:
    shown = on_terminal(80, **changes)
    assert not set(re.findall(r"\x1b\[([0-9;]*)m", shown)) - {"0", "1"}  # bold is no colour
    assert "failed" in shown


@pytest.mark.parametrize("kind", ["xterm-256color", "dumb"])
def test_a_wide_terminal_shows_all(kind: str) -> None:
    assert bare(on_terminal(200, TERM=kind)) == NOTHING_CUT


def test_a_table_that_fits_is_whole(terminal: str) -> None:
    assert bare(terminal)[:2] == NOTHING_CUT[:2]
    assert bare(terminal)[-4:] == NOTHING_CUT[-4:]


def test_no_line_is_wider_than_the_terminal(terminal: str) -> None:
    lines = bare(terminal)
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(NOTHING_CUT)


def test_what_may_be_cut_is_cut_first_and_no_column_is_lost(terminal: str) -> None:
    lines = bare(terminal)
    assert lines[2].split() == ["AGENT", "SCHEDULE", "NEXT", "LAST", "TREND"]
    assert all(line.endswith("++++++-o?-") for line in lines[3:5])
    assert "Mon 09:00 (in 2d)" in lines[4]
    assert "…" in lines[4]
    assert lines[5].split() == ["RUN", "AGENT", "STARTED", "TOOK", "RESULT", "BY", "CPU", "MEM"]
    assert lines[6].startswith("9f2c51d0  weekly-…  2027-02-01")
    assert lines[6].endswith("timer  12s  512M")


@settings(max_examples=50)
@given(st.integers(-(2**50), 2**50), st.integers(-(2**50), 2**50))
def test_times_have_words_whatever_the_clock_says(at: int, present: int) -> None:
    assert output.ago(at, present).strip()
    assert "in " in output.until(at, present)
