"""One trouble is told of once, however often it comes and goes, and its end once it has stayed away."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rota_agents.home_keeper import feed
from rota_agents.home_keeper.core import Core
from rota_agents.home_keeper.ledger import Recorded
from rota_agents.home_keeper.messages import Act, Ended, Observed, Tick
from rota_agents.home_keeper.state import Reading
from rota_agents.home_keeper.words import Target

from rota.keeper_rules import Override
from rota.quantity import USEC
from rota.telling import from_keeper

from .kit import HOUR, MINUTE, NOON, WEB, House, finding, rules

SETTLE = 30


def titles(house: House) -> list[str]:
    """Return what people are told, line by line."""
    shown = [feed.table(Recorded(number, 1, event)) for number, event in enumerate(house.events)]
    found = [from_keeper("s", one) for one in shown]
    return [f"{one.kind}: {one.title}" for one in found if one is not None]


def kinds(house: House) -> list[str]:
    return [title.partition(":")[0] for title in titles(house)]


def test_what_crashes_right_after_a_restart_has_not_recovered() -> None:
    house = House(rules(strikes=("act", "act", "escalate"), settle=SETTLE * USEC, cooldown=USEC))
    house.fails()
    for _ in range(2):
        house.works()
        house.wait(0.1)
        house.fails()
        house.wait(20)
    assert kinds(house) == ["failure", "escalation"]
    house.heals()
    house.wait(SETTLE - 1)
    assert kinds(house) == ["failure", "escalation"]
    house.wait(1)
    assert kinds(house) == ["failure", "escalation", "recovery"]
    (over,) = house.data("trouble-over")
    assert over["took"] == house.now - SETTLE * USEC - NOON
    house.fails()
    assert kinds(house)[-1] == "failure", "that is another one"


def test_a_recovery_says_what_was_done() -> None:
    house = House(rules(strikes=("act",)))
    house.fails()
    house.works()
    house.wait(HOUR)
    (over,) = house.data("trouble-over")
    assert over["tried"] == ["restart-unit: healed"]


def test_it_is_told_again_when_it_is_worse_and_not_when_it_is_less_bad() -> None:
    house = House(rules(Override(WEB, mode="observe")))
    for severity in ("warning", "info", "warning", "critical", "warning", "critical"):
        house.fails(severity=severity)
        house.wait(5)
    assert [item["severity"] for item in house.data("trouble")] == ["warning", "critical"]
    house.fails(severity="info")
    house.wait(HOUR)
    assert [item["severity"] for item in house.data("trouble-over")] == ["critical"], (
        "who heard of it hears of it"
    )


def test_another_problem_is_another_trouble() -> None:
    house = House(rules(Override(WEB, mode="observe")))
    both = (finding(), finding(problem="restart-loop"))
    house.fails(problem="restart-loop")
    for _ in range(2):
        house.step(Observed("units", Target.parse(WEB), both))
        house.wait(HOUR)
        house.fails(problem="restart-loop")
        house.wait(HOUR)
    house.heals()
    house.wait(HOUR)
    once = ["failure: is failed", "recovery: is well again, but for: restart-loop"]
    told = [title for title in titles(house) if not title.startswith("escalation")]
    assert told == ["failure: is restart-loop", *once, *once, "recovery: is well again"]
    (escalation,) = house.data("escalated")
    assert escalation["findings"] == [f"{WEB} is failed", f"{WEB} is restart-loop"]


def test_what_is_only_noted_is_told_to_nobody() -> None:
    house = House(rules())
    house.fails(severity="info")
    house.wait(HOUR)
    house.heals()
    house.wait(HOUR)
    assert titles(house) == []


@pytest.mark.parametrize("yes", [True, False])
def test_a_question_is_told(yes: bool) -> None:
    house = House(rules(Override(WEB, mode="ask"), strikes=("act", "escalate")))
    house.fails()
    assert kinds(house) == ["failure", "escalation"]
    assert "a person is asked whether to restart-unit" in titles(house)[1]
    house.answer(yes)
    house.wait(MINUTE)
    assert kinds(house) == ["failure", "escalation"]


FLAPS = st.lists(st.tuples(st.floats(0.1, 90), st.floats(0.1, 90)), min_size=1, max_size=12)


@given(FLAPS)
def test_troubles_are_those_that_a_model_has(flaps: list[tuple[float, float]]) -> None:
    """Watched only: what is well for less than `settle` goes on."""
    house = House(rules(Override(WEB, mode="observe"), settle=SETTLE * USEC))
    expected, well = 0, HOUR * USEC
    for down, up in flaps:
        expected += well >= SETTLE * USEC
        house.fails()
        house.wait(down)
        house.heals()
        well = round(up * USEC)
        house.wait(up)
    house.wait(HOUR)
    told = [word for word in kinds(house) if word != "escalation"]
    assert told == ["failure", "recovery"] * expected


@settings(max_examples=40, deadline=None)
@given(FLAPS, st.sampled_from(("ok", "failed")), st.booleans(), st.integers(0, 2**32))
def test_acted_on_and_killed_at_any_step(
    tmp_path_factory: pytest.TempPathFactory,
    flaps: list[tuple[float, float]],
    outcome: str,
    heals: bool,
    seed: int,
) -> None:
    """However the keeper ends: of each trouble one failure, at most one escalation, one recovery."""
    life = Life(tmp_path_factory.mktemp("life") / "keeper.db", outcome, heals, random.Random(seed))  # noqa: S311
    for down, up in flaps:
        life.set(broken=True)
        life.wait(down)
        life.set(broken=False)
        life.wait(up)
    life.wait(HOUR)
    words = [one["kind"] for one in life.events() if one["kind"] in feed.ALERTS]
    rest = iter(words)
    for word in rest:
        assert word == "found"
        word = next(rest)  # noqa: PLW2901  (the next of the same trouble)
        if word == "escalated":
            word = next(rest)  # noqa: PLW2901  (likewise)
        assert word == "healed"
    assert words[0] == "found"


class Life:
    """A keeper that is killed now and then, before what it decided is on the disk, or right after."""

    def __init__(self, path: Path, outcome: str, heals: bool, dice: random.Random) -> None:
        self._path = path
        self._ends = (outcome, heals)
        self._dice = dice
        self._now = 0
        self._broken = False
        self._rules = rules(strikes=("act", "act", "escalate"), settle=SETTLE * USEC, cooldown=USEC)
        self._start()

    def _clock(self) -> Reading:
        return Reading(NOON + self._now, self._now, "a")

    def _start(self) -> None:
        self._core = Core(self._path, self._rules, frozenset(("units",)), self._clock())
        self._done(self._core.effects)
        self._look()

    def _tell(self, happening: Any) -> None:
        fate = self._dice.random()
        if fate > 0.1:
            effects = self._core.handle(happening, self._clock())
            if fate > 0.2:
                self._done(effects)
                return
        self._core.close()
        self._start()

    def _done(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Act):
                outcome, heals = self._ends
                self._now += USEC // 10
                self._broken = self._broken and not heals
                self._tell(Ended(effect.action.id, outcome))
                self._look()

    def _look(self) -> None:
        found = (finding(),) if self._broken else ()
        self._tell(Observed("units", Target.parse(WEB), found))

    def set(self, *, broken: bool) -> None:
        """Let it break, or get well."""
        self._broken = broken
        self._look()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        end = self._now + round(seconds * USEC)
        while (wake := self._core.wake) is not None and wake - NOON <= end:
            self._now = max(wake - NOON, self._now)
            self._tell(Tick())
        self._now = max(end, self._now)

    def events(self) -> list[dict[str, Any]]:
        """Return all that was filed, as others see it."""
        assert self._core.ledger is not None
        return [feed.table(one) for one in self._core.ledger.events(0, 10**6)]
