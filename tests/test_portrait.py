"""Results at a glance: height by duration, colour by result, and marks where there is no colour."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rota import output, portrait


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Make a terminal of some encoding our standard output, until the test is over."""
    opened = contextlib.ExitStack()

    def begin(encoding: str) -> None:
        master, slave = os.openpty()
        opened.callback(os.close, master)
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", opened.enter_context(os.fdopen(slave, "w", encoding=encoding)))

    with opened:
        yield begin


RUNS: list[dict[str, Any]] = [  # newest first
    {"state": "running"},
    {"state": "missed", "slots": 2},
    {"state": "failed", "took": 64_000_000},
    {"state": "succeeded", "took": 1_000_000},
]


def test_levels_are_by_the_logarithm() -> None:
    assert portrait.levels([1000, 2000, 4000, 8000, 16_000]) == [0, 1, 2, 3, 4]
    assert portrait.levels([5, 5, None, 5]) == [0, 0, None, 0]
    assert portrait.levels([1000, 1100]) == [0, 1]
    assert portrait.levels([0, None]) == [None, None]
    assert portrait.levels([]) == []


def test_on_a_terminal(terminal: Callable[[str], None]) -> None:
    terminal("utf-8")
    green, red = output.painted("▁", "green"), output.painted("▇", "red")
    assert portrait.sparkline(RUNS) == green + red + output.painted("_", "red")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_plain(terminal: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    terminal(encoding)
    if encoding == "utf-8":
        monkeypatch.setenv("NO_COLOR", "1")
    assert portrait.sparkline(RUNS) == "+-_"
    assert portrait.sparkline([]) == ""


def test_an_exposure_that_is_not_known_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert portrait.exposure("/none.service") == (None, "not known: systemd-analyze is not installed")


def test_lateness_and_slots_in_words() -> None:
    run = {"state": "succeeded", "slot": 0, "late": 3_000_000}
    assert output.late(run) == "3.0s"
    assert output.slot(run).endswith("3.0s late")
    assert output.late({"state": "succeeded"}) == output.slot({"state": "succeeded"}) == ""
    assert output.late({**run, "state": "skipped"}) == ""
    row = {"state": "missed", "slot": 0, "slot_until": 60_000_000, "slots": 2, "reason": "host-down"}
    assert output.slot(row).startswith("2 from 1970-01-01 ")
    assert output.why(row) == "host-down, 2 slots"
    assert output.why({**row, "slots": 1}) == "host-down"
    assert output.took(row) == ""
