"""The clock is set, changes to summer time and back, and stands still: no run is doubled, none unheard of.

One virtual machine runs guest_clock.py once for all tests here: some ten minutes.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.vm import vm
from tests.vm.vm import part

SECOND = 1_000_000
Told = dict[str, Any]


@pytest.fixture(scope="session")
def verdict() -> dict[str, Any]:
    reason = vm.missing()
    if reason:
        pytest.skip(reason)
    return vm.run("guest_clock")


@pytest.fixture
def asleep(verdict: dict[str, Any]) -> dict[str, Any]:
    found = part(verdict, "asleep")
    if "unable" in found:
        pytest.skip(f"no suspend in this virtual machine: {found['unable']}")
    return found


def ran(told: Told) -> list[Told]:
    """Return the runs in rota's record, without the rows of slots that were missed."""
    return [run for run in told["runs"] if run["state"] != "missed"]


def check(told: Told, state: str = "succeeded", status: int = 0) -> None:
    """Hold an agent's own ledger against rota's record: each start is one run, with its result."""
    spans: dict[str, list[float]] = {}
    for line in told["ledger"]:
        spans.setdefault(line["run"], []).append(line["monotonic"])
    recorded = Counter(run["id"] for run in ran(told))
    assert recorded.keys() >= spans.keys(), "a run was lost"
    assert set(recorded.values()) == {1}, "a run was doubled"
    for run in ran(told):
        if run["id"] not in spans:
            continue  # of before the ledger was begun anew
        begin, end = spans[run["id"]]
        # of a success systemd forgets the status, if rotad does not come to ask at once
        assert (run["state"], run.get("status", 0)) == (state, status)
        # what systemd and Python take to start, on a slow machine, is part of it
        assert (end - begin) * SECOND - 50_000 < run["took"] < (end - begin + 30) * SECOND


def starts(told: Told) -> list[float]:
    """Return when an agent began, by its own account, seconds since 1970."""
    return [line["at"] for line in told["ledger"] if line["what"] == "start"]


def missed(told: Told) -> list[Told]:
    """Return the rows of slots that were missed."""
    return [run for run in told["runs"] if run["state"] == "missed"]


def served(told: Told) -> list[int]:
    """Return the slots that runs served, seconds since 1970."""
    return sorted(run["slot"] // SECOND for run in ran(told) if "slot" in run)


def without_gaps(told: Told, every: int) -> bool:
    """Tell whether each slot, so many seconds after the one before, is accounted for, and once."""
    spans = [(slot, slot) for slot in served(told)]
    spans += [(row["slot"] // SECOND, row["slot_until"] // SECOND) for row in missed(told)]
    spans.sort()
    return all(later[0] - span[1] == every for span, later in pairwise(spans))


@pytest.mark.parametrize("agent", ["slots", "every"])
def test_set_forward_and_back(verdict: dict[str, Any], agent: str) -> None:
    told = part(verdict, "jumps", "agents", agent)
    check(told)
    assert len(starts(told)) >= 4
    # who started a run that is over at once, rotad may not come to ask
    assert {run.get("trigger", "timer") for run in ran(told)} == {"timer"}


def test_set_while_an_agent_runs(verdict: dict[str, Any]) -> None:
    found = part(verdict, "jumps")
    told = found["agents"]["across"]
    check(told, "failed", 4)
    assert len(starts(told)) == len(found["steps"])
    assert all(9 * SECOND - 50_000 < run["took"] < 60 * SECOND for run in ran(told))


# Which of guest_clock.SLOTS come. In spring there is no 02:30; in autumn there are two, and one counts.
COME = {
    ("daily", "spring"): [],
    ("daily", "autumn"): ["00:30"],
    ("often", "spring"): ["00:15", "00:45", "01:15", "01:45"],
    ("often", "autumn"): ["00:15", "00:45", "01:15", "01:45"],
}


@pytest.mark.parametrize(("agent", "night"), COME)
def test_a_night_in_which_clocks_change(verdict: dict[str, Any], agent: str, night: str) -> None:
    found = part(verdict, "nights", night)
    told = found["agents"][agent]
    check(told)
    tonight = [slot for slot in served(told) if slot >= found["slots"][0]]
    assert [f"{datetime.fromtimestamp(slot, UTC):%H:%M}" for slot in tonight] == COME[agent, night]
    # systemd makes up for a slot that passed since a timer was stopped, when it is started again
    before = [at for at in starts(told) if at < found["slots"][0] - 60]
    assert len(starts(told)) - len(before) == len(tonight)
    assert len(before) <= 1


def test_of_half_a_year_no_slot_is_silent(verdict: dict[str, Any]) -> None:
    """The timer of each half hour was stopped between the two nights: thousands of slots."""
    told = part(verdict, "nights", "autumn")["agents"]["often"]
    assert without_gaps(told, 1800)
    assert {row["reason"] for row in missed(told)} <= {"timer-stopped", "clock-changed"}
    assert sum(row["slots"] for row in missed(told)) > 10_000


def test_asleep(asleep: dict[str, Any]) -> None:
    assert asleep["slept"] > 5
    for told in asleep["agents"].values():
        check(told)
    slotted = asleep["agents"]["slotted"]
    assert without_gaps(slotted, 2)
    rows = Counter({row["reason"]: row["slots"] for row in missed(slotted)})
    assert rows["suspended"] * 2 > asleep["slept"] - 4
    (run,) = asleep["agents"]["sleeper"]["runs"]
    assert run["took"] < 25 * SECOND
    # by the clock on the wall it was longer: asleep it was, too
    assert run["ended"] - run["started"] > run["took"] + 5 * SECOND


def test_rotad_never_fell(verdict: dict[str, Any]) -> None:
    found = part(verdict, "rotad")
    assert found["restarts"] == 0
    assert found["warnings"] == []
