"""When what waits is told: grouped, within limits, not at night; and whatever they are, all of it at last."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st

from rota.grouping import (
    FIRST_RETRY,
    LAST_RETRY,
    Ahead,
    Decision,
    Due,
    Item,
    decide,
    free_at,
    held_back,
    in_the_present,
    is_expired,
    retry_at,
)
from rota.quiet import Quiet
from rota.routes import HOUR, MINUTE, Channel, Rate, Route

S = 1_000_000
CHANNEL = Channel("ops", Rate(3, HOUR))
NIGHT = Quiet(22 * 60 + 30, 7 * 60)
ROUTE = Route("r", ("ops",), ("failure",), group=30 * S)
DAY = 24 * HOUR


def items(*moments: int, critical: bool = False) -> list[Item]:
    return [Item(number, at, at, critical) for number, at in enumerate(moments)]


def at(waiting: list[Item], now: int, sends: list[int] | None = None, route: Route = ROUTE) -> Decision:
    return decide(waiting, CHANNEL, route, (sends or [], []), now=now, zone=UTC)


def test_a_hundred_within_the_span_are_one() -> None:
    waiting = items(*range(0, 30 * S, 300_000))
    assert len(waiting) == 100
    assert at(waiting, 29 * S) == Decision(until=30 * S, why="grouping")
    assert at(waiting, 30 * S).items == tuple(range(100))


def test_output_is_waited_for_but_not_for_long() -> None:
    alone = replace(ROUTE, group=0)
    assert at([Item(1, 0, 3 * S, False)], 0, route=alone) == Decision(until=3 * S, why="grouping")
    assert at([Item(1, 0, DAY, False)], 5 * S, route=alone).items == (1,)


def test_the_limit_holds_back_and_then_all_goes_in_one() -> None:
    sends = [MINUTE, 2 * MINUTE, 3 * MINUTE]
    waiting = items(*range(4 * MINUTE, 40 * MINUTE, MINUTE))
    held = at(waiting, 50 * MINUTE, sends)
    assert held == Decision(until=HOUR + MINUTE, why="rate")
    told = at(waiting, HOUR + MINUTE, sends)
    assert told.items == tuple(range(36))
    assert told.held_since == 4 * MINUTE
    assert at(waiting, 50 * MINUTE, sends[:2]).held_since is None


def test_a_routes_own_limit() -> None:
    route = replace(ROUTE, rate=Rate(1, HOUR))
    found = decide(items(0), CHANNEL, route, ([5 * S], [5 * S]), now=MINUTE, zone=UTC)
    assert found == Decision(until=HOUR + 5 * S, why="rate")
    assert decide(items(0), CHANNEL, route, ([5 * S], []), now=MINUTE, zone=UTC).items == (0,)


def test_quiet_hours_but_not_for_what_is_critical() -> None:
    route = replace(ROUTE, quiet=(NIGHT,))
    night = 23 * HOUR
    waiting = items(night)
    assert at(waiting, night + MINUTE, route=route) == Decision(until=31 * HOUR, why="quiet")
    both = [*waiting, Item(7, night, night, True)]
    told = at(both, night + MINUTE, route=route)
    assert (told.items, told.until, told.why) == ((7,), 31 * HOUR, "quiet")
    assert at(both, 31 * HOUR, route=route).items == (0, 7)


def test_behind_a_message_that_cannot_be_sent() -> None:
    alone = replace(ROUTE, group=0, quiet=())
    waiting = [Item(1, 0, 0, False), Item(2, 0, 0, True)]

    def told(*ahead: tuple[int, bool]) -> Decision:
        return decide(waiting, CHANNEL, alone, ([], []), [Ahead(*one) for one in ahead], now=MINUTE)

    assert told().items == (1, 2)
    assert told((0, False)).items == (2,), "what is critical waits for nothing else"
    assert told((2, True)) == Decision(why="retry")
    assert told((3, True)).items == (2,)
    assert told((7, True)).items == (1, 2)
    assert told((7, False), (3, False)).items == (2,)
    assert told((100, True), (8, True)).items == (2,)
    assert told((100, True), (9, True)).items == (1, 2)


@given(st.lists(st.tuples(st.integers(0, DAY), st.booleans()), max_size=30))
def test_a_channel_that_is_down_for_two_days_makes_few_messages(early: list[tuple[int, bool]]) -> None:
    """Something comes every minute, critical or not, and nothing can be sent."""
    made: list[list[int | bool]] = []
    due: list[int] = []
    came = sorted([*early, *((minute * MINUTE, minute % 2 == 0) for minute in range(2 * DAY // MINUTE))])
    waiting = {False: 0, True: 0}
    for now, critical in came:
        for number, one in enumerate(made):
            while due[number] <= now:
                one[0] += 1
                due[number] = retry_at(one[0], due[number], 0.5)
        waiting[critical] += 1
        ahead = [Ahead(int(attempts), bool(grave)) for attempts, grave in made]
        passing = [grave for grave in waiting if waiting[grave] and not held_back(ahead, critical=grave)]
        if passing:
            made.append([0, True in passing])
            due.append(now)
            waiting |= dict.fromkeys(passing, 0)
    assert 5 < len(made) <= 35


def test_nothing_waits() -> None:
    assert at([], 0) == Decision()


@given(st.integers(1, 5), st.lists(st.integers(0, 10 * HOUR), max_size=30).map(sorted))
def test_a_limit_is_never_passed(messages: int, sends: list[int]) -> None:
    rate = Rate(messages, HOUR)
    now = free_at(rate, sends)
    assert len([one for one in sends if now - HOUR < one]) < messages or now == 0
    assert free_at(None, sends) == 0


RATES = st.none() | st.builds(Rate, st.integers(1, 4), st.integers(1, 3 * HOUR))


@given(
    st.lists(st.tuples(st.integers(0, DAY), st.integers(0, 10 * S), st.booleans()), min_size=1, max_size=40),
    st.integers(0, HOUR),
    RATES,
    RATES.filter(bool),
    st.booleans(),
)
def test_all_is_told_once_within_every_limit(
    happened: list[tuple[int, int, bool]], group: int, of_route: Rate | None, of_channel: Rate, quiet: bool
) -> None:
    """A day by a clock that jumps from one decision to the next."""
    route = replace(ROUTE, group=group, rate=of_route, quiet=(NIGHT,) if quiet else ())
    channel = replace(CHANNEL, rate=of_channel)
    coming = [Item(n, at, at + more, critical) for n, (at, more, critical) in enumerate(sorted(happened))]
    told: list[int] = []
    sends: list[int] = []
    now = 0
    for _ in range(10 * len(coming) + 20):
        waiting = [one for one in coming if one.filed <= now and one.id not in told]
        found = decide(waiting, channel, route, (sends, sends), now=now, zone=UTC)
        if found.items:
            told += found.items
            sends.append(now)
            hour = now % DAY // MINUTE
            if quiet and (hour >= 22 * 60 + 30 or hour < 7 * 60):
                assert all(coming[number].critical for number in found.items)
        moments = [one.filed for one in coming if one.filed > now]
        moments += [found.until] if found.until is not None and not found.items else []
        if found.items and len(told) < len(coming):
            continue
        if not moments:
            break
        assert min(moments) > now, "it would turn in a circle"
        now = min(moments)
    assert sorted(told) == list(range(len(coming)))
    for rate in filter(None, (of_route, of_channel)):
        for index in range(len(sends) - rate.messages):
            assert sends[index + rate.messages] - sends[index] >= rate.per


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_retries_are_further_and_further_apart(attempts: int, chance: float) -> None:
    delay = retry_at(attempts, 100, chance) - 100
    assert 0.75 * FIRST_RETRY <= delay <= 1.25 * LAST_RETRY
    assert retry_at(attempts + 1, 100, chance) - 100 >= delay


def test_retries_of_many_machines_are_not_at_the_same_moment() -> None:
    assert retry_at(1, 0, 0.1) != retry_at(1, 0, 0.9)


def test_given_up_by_age_and_by_attempts() -> None:
    def expired(age: int, attempts: int, expiry: int = 2 * DAY) -> bool:
        return is_expired(Due(0, attempts, 0), expiry, age)

    assert not expired(3 * DAY, 1)
    assert not expired(3 * DAY, 9)
    assert expired(3 * DAY, 12)
    assert not expired(2 * DAY - 1, 12)
    assert not expired(-DAY, 500)
    assert expired(0, 1, expiry=0)
    assert not expired(MINUTE, 3, expiry=MINUTE)
    assert expired(MINUTE, 4, expiry=MINUTE)


@given(st.integers(-DAY, DAY), st.integers(0, 500), st.integers(-DAY, DAY), st.floats(0, 1))
def test_nothing_waits_for_a_future_that_the_clock_has_left(
    created: int, attempts: int, jump: int, chance: float
) -> None:
    next_at = retry_at(attempts, created, chance) if attempts else created
    now = created + jump
    found = in_the_present(Due(created, attempts, next_at), now)
    assert found.created <= now
    assert found.next_at <= now + (1.25 * LAST_RETRY if attempts else 0)
    assert jump < 0 or found == Due(created, attempts, next_at), "without a jump nothing changes"
