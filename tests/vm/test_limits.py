"""What a container cannot show: limits that bite, what runs have used, a pulled plug, a clock that is set.

One virtual machine runs guest.py once for all tests here; each judges a part of its verdict.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.vm import vm
from tests.vm.vm import part

MIB = 1 << 20
SECOND = 1_000_000
Run = dict[str, Any]

# which way the clock is set
STEPS = pytest.mark.parametrize("step", ["forward", "back"], indirect=True)


@pytest.fixture(scope="session")
def verdict() -> dict[str, Any]:
    reason = vm.missing()
    if reason:
        pytest.skip(reason)
    return vm.run("guest")


@pytest.fixture
def limits(verdict: dict[str, Any]) -> dict[str, Any]:
    return part(verdict, "limits")


@pytest.fixture
def step(verdict: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    return part(verdict, "clock", request.param)


def took(run: Run) -> int:
    """Return how long a run took, in microseconds, by the clock that nobody sets."""
    span: int = run["took"]
    return span


@pytest.mark.parametrize("name", ["oom", "oom-child"])
def test_too_much_memory_is_an_oom_kill(limits: dict[str, Any], name: str) -> None:
    run = limits[name]
    assert (run["state"], run["reason"]) == ("killed", "oom-kill")
    assert 30 * MIB <= run["memory_peak"] <= 32 * MIB


def test_most_memory_is_recorded(limits: dict[str, Any]) -> None:
    assert limits["quiet"]["state"] == "succeeded"
    assert 40 * MIB < limits["quiet"]["memory_peak"] < 150 * MIB


def test_bytes_to_and_from_disk_are_recorded(limits: dict[str, Any]) -> None:
    assert limits["writer"]["state"] == "succeeded"
    assert 15 * MIB <= limits["writer"]["io_write"] < 40 * MIB
    assert 15 * MIB <= limits["writer"]["io_read"] < 40 * MIB


def test_processor_quota_holds(limits: dict[str, Any]) -> None:
    run = limits["slow"]
    assert took(run) > 3 * SECOND
    assert 0.05 < run["cpu_usec"] / took(run) < 0.35


def test_no_more_threads_than_tasks(limits: dict[str, Any]) -> None:
    # the fourth task is the program itself
    assert limits["started threads"] == 3


@pytest.mark.parametrize(("priority", "weight"), [("low", "30"), ("high", "300")])
def test_priority_is_a_weight(limits: dict[str, Any], priority: str, weight: str) -> None:
    assert limits[f"{priority} cpu.weight"] == weight
    assert limits[f"{priority} io.weight"] == weight


def test_priority_decides_who_gets_the_processors(limits: dict[str, Any]) -> None:
    assert limits["burn-high"]["cpu_usec"] > 2 * limits["burn-low"]["cpu_usec"]


def test_boot_is_the_trigger_of_a_boot_agent(verdict: dict[str, Any]) -> None:
    (run,) = part(verdict, "boot")["early"]
    assert (run["state"], run["trigger"]) == ("succeeded", "boot")


def test_a_pulled_plug_is_told(verdict: dict[str, Any]) -> None:
    (run,) = part(verdict, "boot")["cut"]
    assert (run["state"], run["reason"]) == ("unknown", "the machine went down")


@STEPS
def test_a_slot_the_clock_jumped_over_runs_once(step: dict[str, Any]) -> None:
    (run,) = step["slot"]
    assert (run["state"], run["trigger"]) == ("succeeded", "timer")


@STEPS
def test_every_goes_on_when_the_clock_is_set(step: dict[str, Any]) -> None:
    assert len(step["order"]) == len(set(step["order"])) >= 4
    assert {run["id"] for run in step["tick"]} == set(step["order"])
    assert {run["state"] for run in step["tick"]} == {"succeeded"}


@STEPS
def test_runs_are_listed_in_the_order_of_the_journal(step: dict[str, Any]) -> None:
    assert [run["id"] for run in step["tick"]] == step["order"]
    assert step["last"]["across"] == step["across"][-1]["id"]


@STEPS
def test_a_timer_is_told_whatever_the_clock_says(step: dict[str, Any]) -> None:
    assert {run["trigger"] for run in step["tick"]} == {"timer"}


@STEPS
def test_a_run_takes_as_long_as_it_took_whatever_the_clock_says(step: dict[str, Any]) -> None:
    assert {run["state"] for run in step["across"]} == {"succeeded"}
    assert all(7 * SECOND < took(run) < 60 * SECOND for run in step["across"])


def test_the_journal_gives_every_run_back(verdict: dict[str, Any]) -> None:
    found = part(verdict, "rebuilt")
    assert found["after"] == found["before"]


def test_rotad_never_fell(verdict: dict[str, Any]) -> None:
    for when in ("rotad at first", "rotad"):
        found = part(verdict, when)
        assert found["restarts"] == 0
        assert not [line for line in found["warnings"] if "the machine went down" not in line]
