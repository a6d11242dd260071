"""What comes in: in order, bounded, and nothing of it lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rota_agents.home_keeper.intake import Inbox, Item, keep_following, merged, observed
from rota_agents.home_keeper.messages import Observed, Reply, Tick
from rota_agents.home_keeper.probes.polling import Observation
from rota_agents.home_keeper.words import Finding, Target

from .kit import WEB, House, finding
from .loop import FakeLoop

DATABASE = "unit:postgresql.service"


def seen(*bad: str, check: str = "units", well: tuple[str, ...] = (), first: bool = False) -> Observation:
    found: dict[Target, tuple[Finding, ...]] = {Target.parse(name): (finding(name),) for name in bad}
    return Observation(check, 1, found | {Target.parse(name): () for name in well}, first)


def ran(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def taken(inbox: Inbox) -> list[Item]:
    async def all_of_it() -> list[Item]:
        return [item for _ in range(len(inbox)) if (item := await inbox.get(1)) is not None]

    return asyncio.run(all_of_it())


def test_first_in_first_out() -> None:
    inbox = Inbox()
    inbox.put_nowait(seen(WEB))
    inbox.tell(Tick())
    inbox.put_nowait(seen(well=(WEB,)))
    assert [type(item.what) for item in taken(inbox)] == [Observation, Tick, Observation]


def test_beyond_its_length_the_newest_word_counts() -> None:
    inbox = Inbox(limit=3)
    for number in range(1000):
        inbox.put_nowait(seen(WEB) if number % 2 else seen(DATABASE, well=(WEB,)))
        inbox.put_nowait(seen(check="other", well=(f"disk:/{number % 4}",)))
    inbox.tell(Tick())
    assert len(inbox) <= 6
    last: dict[str, Any] = {}
    for item in taken(inbox):
        if isinstance(item.what, Observation):
            last |= {str(target): found for target, found in item.what.findings.items()}
    assert [len(last[name]) for name in (WEB, DATABASE, "disk:/0", "disk:/3")] == [1, 1, 0, 0]


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.booleans(), st.booleans()), min_size=1))
def test_merged_observations_lead_to_the_same_findings(looks: list[tuple[set[str], bool, bool]]) -> None:
    """Whether taken in one by one or all at once, what is open in the end is the same."""
    names = [f"disk:/{letter}" for letter in "abc"]

    def look(bad: set[str], whole: bool, first: bool) -> Observation:
        wrong = [f"disk:/{letter}" for letter in sorted(bad)]
        well = tuple(name for name in names if name not in wrong) if whole or first else ()
        return seen(*wrong, check="disks", well=well, first=first)

    one_by_one, at_once = House(), House()
    whole: Observation | None = None
    for item in looks:
        observation = look(*item)
        whole = observation if whole is None else merged(whole, observation)
        for happening in observed(observation, one_by_one.state):
            one_by_one.step(happening)
    assert whole is not None
    for happening in observed(whole, at_once.state):
        at_once.step(happening)
    assert [bool(one_by_one.case(name).open) for name in names] == [
        bool(at_once.case(name).open) for name in names
    ]


def test_the_first_look_closes_what_is_gone() -> None:
    house = House()
    house.fails(WEB)
    house.fails(DATABASE)
    house.fails("disk:/", "space", check="disks")
    found = list(observed(seen(DATABASE, well=("unit:new.service",), first=True), house.state))
    assert found == [
        Observed("units", Target.parse(DATABASE), (finding(DATABASE),)),
        Observed("units", Target.parse(WEB)),
    ]
    later = list(observed(seen(DATABASE, well=("unit:new.service",)), house.state))
    assert [str(item.target) for item in later] == [DATABASE], "what is well and was, is no news"


def test_who_asks_is_answered() -> None:
    async def work() -> None:
        inbox = Inbox()
        asked = asyncio.create_task(inbox.ask(Tick()))
        item = await inbox.get(1)
        assert item is not None and item.reply is not None
        item.reply.set_result(Reply(True, "done"))
        assert (await asked).text == "done"
        assert await inbox.get(0.01) is None

    ran(work)


class Breaks:
    """A source that ends in different ways, each time it is followed."""

    name = "units"

    def __init__(self) -> None:
        self.times = 0

    async def follow(self, put: Callable[[Observation], None]) -> None:
        self.times += 1
        if self.times == 1:
            raise ValueError("a mistake")
        if self.times == 2:
            return
        put(seen(first=True))
        await asyncio.sleep(60)


def test_a_source_that_breaks_is_blind_and_begun_again() -> None:
    async def work() -> None:
        inbox, now = Inbox(), asyncio.get_running_loop().time
        task = asyncio.create_task(keep_following(Breaks(), inbox.put_nowait))
        found, times = [], []
        for _ in range(3):
            item = await inbox.get(5)
            assert item is not None
            found.append(item.what)
            times.append(now())
        task.cancel()
        await asyncio.wait([task])
        blind = [
            one.findings[Target("check", "units")][0] for one in found[:2] if isinstance(one, Observation)
        ]
        assert [one.problem for one in blind] == ["blind", "blind"]
        assert blind[0].summary == "check units cannot look: ValueError: a mistake"
        assert blind[0].since == blind[1].since
        assert isinstance(found[2], Observation) and found[2].first
        assert [round(later - at, 3) for at, later in itertools.pairwise(times)] == [1, 2]

    loop = FakeLoop()
    loop.run_until_complete(work())
    loop.close()
