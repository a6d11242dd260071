"""What ended a unit, by what systemd says of it in signals; against the real one: tests/machine."""

from __future__ import annotations

import pytest
from dbus_next.signature import Variant
from rota_agents.home_keeper.probes.unit_facts import _meet
from rota_agents.home_keeper.probes.units import UnitSource

from rota.unit_watches import Units

S = 1_000_000
NOW = 1_800_000_000 * S
JOB = "/org/freedesktop/systemd1/job"
WEB = "web.service"


def source() -> UnitSource:
    return UnitSource(Units(running=(WEB,)), now=lambda: NOW)


def changes(to: UnitSource, name: str, active: str, job: int = 0, at: int = NOW) -> None:
    properties = {
        "ActiveState": Variant("s", active),
        "SubState": Variant("s", "dead"),
        "Job": Variant("(uo)", [job, f"{JOB}/{job}" if job else "/"]),
        "StateChangeTimestamp": Variant("t", at),
        "StateChangeTimestampMonotonic": Variant("t", 1),
        "ActiveExitTimestamp": Variant("t", at),
    }
    to._changed(name, properties)


def test_a_job_that_ended_a_unit_is_the_one_that_it_had_then() -> None:
    units = source()
    changes(units, WEB, "active")
    changes(units, WEB, "deactivating", 7)
    changes(units, WEB, "inactive", 7)
    assert units._known[WEB].stopped is False
    units._job_removed(WEB, f"{JOB}/7", "done")
    assert units._known[WEB].stopped is True
    changes(units, WEB, "active")
    assert units._known[WEB].stopped is False


def test_a_job_that_did_nothing_to_what_had_ended_by_itself() -> None:
    units = source()
    changes(units, WEB, "active")
    changes(units, WEB, "inactive")
    changes(units, WEB, "inactive", 8)
    units._job_removed(WEB, f"{JOB}/8", "done")
    assert units._known[WEB].stopped is False
    assert units._known[WEB].job == 0


@pytest.mark.parametrize(
    ("left", "ended", "met"),
    [
        (100, 101, True),
        (95, 96, True),
        (60, 99, True),
        (10, 20, False),
        (105, 109, True),
        (200, 201, False),
        # never active: over before, while it stopped, and long after
        (0, 99, False),
        (0, 101, True),
        (0, 200, False),
        (0, 0, False),
    ],
)
def test_what_went_down_with_a_unit(left: int, ended: int, met: bool) -> None:
    """The other unit stops from second 100 to second 102."""
    assert _meet(left * S, ended * S, 100 * S, 102 * S) is met
