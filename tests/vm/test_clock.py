"""The clock is set, changes to summer time and back, and stands still: no run is doubled, none unheard of.

One virtual machine runs guest_clock.py once for all tests here: some three minutes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.vm import vm

SECOND = 1_000_000
Told = dict[str, Any]
NEAR = 2 * 8
"""Seconds after a slot in which its run must have begun: guest_clock.SOON, and the time an emulator takes."""


@pytest.fixture(scope="session")
def verdict() -> dict[str, Any]:
    reason = vm.missing()
    if reason:
        pytest.skip(reason)
    return vm.run("guest_clock")


def part(verdict: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return what was found in one part; fail with the error that ended it."""
    found = verdict
    for name in names:
        assert "error" not in found, found["error"]
        found = found[name]
    assert "error" not in found, found["error"]
    return found


@pytest.fixture
def asleep(verdict: dict[str, Any]) -> dict[str, Any]:
    found = part(verdict, "asleep")
    if "unable" in found:
        pytest.skip(f"no suspend in this virtual machine: {found['unable']}")
    return found


def check(told: Told, state: str = "succeeded", status: int = 0) -> None:
    """Hold an agent's own ledger against rota's record: each start is one run, with its result."""
    spans: dict[str, list[float]] = {}
    for line in told["ledger"]:
        spans.setdefault(line["run"], []).append(line["monotonic"])
    recorded = Counter(run["id"] for run in told["runs"])
    assert recorded.keys() >= spans.keys(), "a run was lost"
    assert set(recorded.values()) == {1}, "a run was doubled"
    for run in told["runs"]:
        if run["id"] not in spans:
            continue  # of before the ledger was begun anew
        begin, end = spans[run["id"]]
        assert (run["state"], run["status"]) == (state, status)
        # what systemd and Python take to start, on a slow machine, is part of it
        assert (end - begin) * SECOND - 50_000 < run["took"] < (end - begin + 12) * SECOND


def starts(told: Told) -> list[float]:
    """Return when an agent began, by its own account, seconds since 1970."""
    return [line["at"] for line in told["ledger"] if line["what"] == "start"]


def by_slot(told: Told, slots: list[float]) -> list[int]:
    """Return how many runs began in each slot: none is to be accounted for by others."""
    return [sum(slot <= at < slot + NEAR for at in starts(told)) for slot in slots]


@pytest.mark.parametrize("agent", ["slots", "every"])
def test_set_forward_and_back(verdict: dict[str, Any], agent: str) -> None:
    told = part(verdict, "jumps", "agents", agent)
    check(told)
    assert len(starts(told)) >= 4
    assert {run["trigger"] for run in told["runs"]} == {"timer"}


def test_set_while_an_agent_runs(verdict: dict[str, Any]) -> None:
    found = part(verdict, "jumps")
    told = found["agents"]["across"]
    check(told, "failed", 4)
    assert len(starts(told)) == len(found["steps"])
    assert all(9 * SECOND - 50_000 < run["took"] < 25 * SECOND for run in told["runs"])


@pytest.mark.parametrize("night", ["spring", "autumn"])
@pytest.mark.parametrize("agent", ["daily", "often"])
def test_a_night_in_which_clocks_change(verdict: dict[str, Any], night: str, agent: str) -> None:
    found = part(verdict, "nights", night)
    told = found["agents"][agent]
    check(told)
    ran = by_slot(told, found["slots"])
    # each start belongs to a slot, and no slot has two
    assert sum(ran) == len(starts(told))
    assert max(ran) <= 1


def test_asleep(asleep: dict[str, Any]) -> None:
    assert asleep["slept"] > 5
    for told in asleep["agents"].values():
        check(told)
    (run,) = asleep["agents"]["sleeper"]["runs"]
    assert run["took"] < 25 * SECOND
    # by the clock on the wall it was longer: asleep it was, too
    assert run["ended"] - run["started"] > run["took"] + 5 * SECOND


def test_rotad_never_fell(verdict: dict[str, Any]) -> None:
    found = part(verdict, "rotad")
    assert found["restarts"] == 0
    assert found["warnings"] == []
