"""Containers and the policy: what they need is healed first, and their labels are heard."""

from __future__ import annotations

import pytest
from rota_agents.home_keeper.words import Target, remedy_for

from rota.keeper_rules import Override
from tests.keeper.kit import House, rules

WEB, DB = "container:shop-web-1", "container:shop-db-1"


def house() -> House:
    return House(rules(Override("container:*"), strikes=("act", "escalate"), cooldown=0))


def acted(found: House) -> list[str]:
    return [str(action.target) for _, action in found.acts]


@pytest.mark.parametrize("first", [WEB, DB])
def test_what_a_container_needs_is_healed_first(first: str) -> None:
    found = house()
    for target in (first, DB if first == WEB else WEB):
        if target == DB:
            found.fails(DB, "exited", check="containers")
        else:
            found.fails(WEB, "unhealthy", check="containers", needs=[DB])
        found.wait(1)
    assert acted(found) == [DB]
    assert found.verdict(WEB) == ("hold", "dependency")
    found.works(DB)
    found.heals(DB, "containers")
    found.wait(29)
    assert acted(found) == [DB]
    found.wait(61)
    assert acted(found) == [DB, WEB], "it did not get well with what it needs"


def test_what_it_needs_may_be_well() -> None:
    found = house()
    found.fails(WEB, "unhealthy", check="containers", needs=[DB])
    found.wait(4)
    assert found.verdict(WEB) == ("hold", "grace")
    found.wait(2)
    assert acted(found) == [WEB]


def test_two_that_need_each_other_do_not_wait_for_ever() -> None:
    found = house()
    found.fails(WEB, "unhealthy", check="containers", needs=[DB])
    found.fails(DB, "unhealthy", check="containers", needs=[WEB])
    found.wait(10)
    assert sorted(acted(found)) == [DB, WEB]


def test_one_that_asks_for_people_is_not_acted_on() -> None:
    found = house()
    found.fails(WEB, "exited", check="containers", label="escalate")
    found.wait(300)
    assert acted(found) == []
    assert [str(item.target) for _, item in found.told[:1]] == [WEB]


def test_a_label_that_means_nothing_is_noted_and_no_strike() -> None:
    found = house()
    found.fails(WEB, "label", "info", check="containers", label="escalate")
    found.wait(300)
    assert (acted(found), found.told, found.case(WEB).strikes) == ([], [], 0)
    assert found.kinds("finding-opened") == ["finding-opened"]
    found.fails(WEB, "exited", check="containers", label="escalate")
    found.wait(300)
    assert acted(found) == []


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        ("unhealthy", "restart-container"),
        ("restart-loop", "restart-container"),
        ("exited", "start-container"),
        ("oom-killed", "start-container"),
        ("label", "None"),
    ],
)
def test_remedies(problem: str, remedy: str) -> None:
    for name in ("web", "podman/web"):
        assert str(remedy_for(Target("container", name), problem, "restart")) == remedy
