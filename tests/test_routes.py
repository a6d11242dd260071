"""Who is told what: every key of a route narrows it, and nobody hears of one thing twice by one channel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.routes import KINDS, OWN, SEVERITIES, Channel, Facts, Happening, Route, Rules, routed, severe

FAILURE = Happening("run:1", ("failure",), "warning", 1, "backup-check", "failed", agent="backup-check")
ROUTE = Route("r", ("ops",), ("failure",))


def ways(happening: Happening, *routes: Route, **facts: Facts) -> list[tuple[str, str]]:
    channels = {name: Channel(name) for route in routes for name in route.channels if name != "gone"}
    return list(
        routed(happening, Rules(channels, routes, {k.replace("_", "-"): v for k, v in facts.items()}))
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"on": ("recovery", "success")}, False),
        ({"on": ("missed", "failure")}, True),
        ({"agents": ("backup-*",)}, True),
        ({"agents": ("*-check", "x")}, True),
        ({"agents": ("backup",)}, False),
        ({"agents": ("Backup-*",)}, False),
        ({"tags": ("nightly", "y")}, True),
        ({"tags": ("y",)}, False),
        ({"agents": ("backup-*",), "tags": ("y",)}, False),
        ({"severity": "warning"}, True),
        ({"severity": "critical"}, False),
        ({"channels": ("gone",)}, False),
    ],
)
def test_every_key_narrows(changes: dict[str, Any], told: bool) -> None:
    found = ways(FAILURE, replace(ROUTE, **changes), backup_check=Facts(("nightly",)))
    assert bool(found) is told


def test_a_recovery_is_a_success_too() -> None:
    recovery = replace(FAILURE, kinds=("recovery", "success"))
    for on in (("recovery",), ("success",)):
        assert ways(recovery, replace(ROUTE, on=on)) == [("ops", "r")]


def test_the_first_route_to_a_channel_counts() -> None:
    own = replace(ROUTE, name=f"{OWN}:0", agents=("backup-check",))
    other = replace(ROUTE, name="other", channels=("ops", "pager"))
    assert ways(FAILURE, own, ROUTE, other) == [("ops", OWN), ("pager", "other")]


def test_what_is_of_no_agent_goes_by_routes_for_all() -> None:
    target = replace(FAILURE, about="unit:nginx.service", agent="")
    assert ways(target, ROUTE) == [("ops", "r")]
    assert ways(target, replace(ROUTE, agents=("*",))) == [("ops", "r")]
    assert ways(target, replace(ROUTE, agents=("n*",))) == []


def test_severities_have_an_order_and_what_is_unknown_is_not_passed_over() -> None:
    assert [severe(one, "warning") for one in (*SEVERITIES, "catastrophic")] == [False, True, True, True]


@given(st.lists(st.builds(
    Route,
    st.sampled_from(["a", "b", OWN + ":1"]),
    st.lists(st.sampled_from("xyz"), max_size=3).map(tuple),
    st.lists(st.sampled_from(KINDS), max_size=5).map(tuple),
), max_size=5))  # fmt: skip
def test_nobody_is_told_twice(routes: list[Route]) -> None:
    found = ways(FAILURE, *routes)
    channels = [channel for channel, _ in found]
    assert len(channels) == len(set(channels))
    assert set(channels) == {c for route in routes if "failure" in route.on for c in route.channels}
