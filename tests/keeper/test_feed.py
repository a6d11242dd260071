"""What others see of the ledger: events in their words, sums, and what is known as tables for JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rota_agents.home_keeper import feed, sums, view
from rota_agents.home_keeper.core import Core
from rota_agents.home_keeper.ledger import Recorded
from rota_agents.home_keeper.messages import EVENTS, Acknowledge, Act, Ended, Event, Observed, Tick
from rota_agents.home_keeper.state import Reading
from rota_agents.home_keeper.words import Target

from rota.interface import vardict
from rota.keeper_rules import Override, Rules
from rota.quantity import USEC
from rota.telling import from_keeper

from .kit import NOON, WEB, finding, rules

CHECKS = frozenset(("units",))
LOST: Rules = rules(Override(WEB), strikes=("act", "escalate"), cooldown=USEC, settle=USEC)


def clock(seconds: float) -> Reading:
    usec = round(seconds * USEC)
    return Reading(NOON + usec, usec, "a")


def lived(path: Path) -> Core:
    """Return a keeper after a unit failed, was restarted in vain, escalated, and got well."""
    keeper = Core(path, LOST, CHECKS, clock(0))
    for effect in keeper.handle(Observed("units", Target.parse(WEB), (finding(),)), clock(1)):
        if isinstance(effect, Act):
            keeper.handle(Ended(effect.action.id, "ok", "", {"lines": [1, 2]}), clock(2))
    for second in range(3, 9):
        keeper.handle(Tick(), clock(second))
    keeper.handle(Observed("units", Target.parse(WEB)), clock(10))
    for second in range(11, 20):
        keeper.handle(Tick(), clock(second))
    return keeper


def tables(keeper: Core) -> list[dict[str, Any]]:
    assert keeper.ledger is not None
    return [feed.table(one) for one in keeper.ledger.events(0)]


def test_what_people_are_told(tmp_path: Path) -> None:
    told = [one for one in tables(lived(tmp_path / "keeper.db")) if one["kind"] in feed.ALERTS]
    assert [one["kind"] for one in told] == ["found", "escalated", "healed"]
    happenings = [from_keeper("x", one) for one in told]
    assert all(one is not None and one.about == WEB for one in happenings)
    found, escalated, healed = (one for one in happenings if one is not None)
    assert found.title == "is failed"
    assert healed.title == "is well again"
    assert healed.lines == ("Was:    is failed", "For:    10s")
    assert healed.severity == found.severity == "warning"
    assert escalated.title == "needs a person: it is failed"
    assert escalated.lines == ("Why:    strike 2 of 2",)
    assert escalated.tried == ("restart-unit: failed, the finding is still there",)


def test_every_event_is_what_d_bus_takes(tmp_path: Path) -> None:
    for one in tables(lived(tmp_path / "keeper.db")):
        assert set(one) == {"version", "seq", "at", "kind", "target", "data"}
        assert vardict(one)["data"].signature == "a{sv}"
    odd = Event("decided", WEB, NOON, {"a": [1, {"b": 2}], "c": 1.5, "d": None, "e": {"f": []}, "g": True})
    data = feed.table(Recorded(1, 1, odd))["data"]
    assert data == {"target": WEB, "a": '[1, {"b": 2}]', "c": "1.5", "e": {"f": []}, "g": True}
    assert vardict(data)["g"].signature == "b"


def test_words_are_of_events_that_there_are() -> None:
    assert {*feed._WORDS, *feed.REMEDIES} <= EVENTS


def test_sums_outlive_what_they_are_sums_of(tmp_path: Path) -> None:
    keeper = lived(tmp_path / "keeper.db")
    assert keeper.ledger is not None
    before = sums.table(keeper.ledger.sums())
    assert before["remedies"] == [{"remedy": "restart-unit", "result": "failed", "count": 1}]
    assert [sum(count for _, count in one["buckets"]) for one in before["recoveries"]] == [1, 0]
    assert before["recoveries"][0]["usec"] == 9 * USEC
    while keeper.ledger.prune(NOON + 10**12):
        pass
    assert keeper.ledger.actions() == []
    assert sums.table(keeper.ledger.sums()) == before


def test_events_are_found_by_time_and_escalations_among_them(tmp_path: Path) -> None:
    keeper = lived(tmp_path / "keeper.db")
    assert keeper.ledger is not None
    events = keeper.ledger.events(0)
    for at in (0, NOON + USEC, NOON + 5 * USEC, NOON + 10**9, 10**18):
        assert keeper.ledger.seq_before(at) == max(
            (one.seq for one in events if one.event.at < at), default=0
        )
    (escalated,) = keeper.ledger.escalated()
    assert escalated.event.kind == "escalated"
    assert keeper.ledger.escalated(escalated.seq) == []
    keeper.handle(Acknowledge(escalated.event.data["id"]), clock(30))
    assert keeper.state.escalations == ()


def test_what_is_known_goes_into_json(tmp_path: Path) -> None:
    keeper = lived(tmp_path / "keeper.db")
    house = view.house(keeper.state, LOST, NOON + 20 * USEC)
    told = json.loads(json.dumps(house))
    (target,) = told["targets"]
    assert (target["target"], target["findings"], target["hands_off"]["kind"]) == (WEB, [], "escalated")
    assert (target["next"], target["waits"]) == (None, "hands off")
    assert [one["target"] for one in told["escalations"]] == [WEB]
    assert view.summary(keeper.state) == "no findings"
    assert json.loads(json.dumps(view.explained(keeper.state, LOST, WEB, NOON)))["sentences"]
