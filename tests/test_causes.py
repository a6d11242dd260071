"""Boots, sleeps and stops of a timer, as the journal has them, to times in which it could start nothing."""

from __future__ import annotations

import pytest

from rota.causes import (
    ASLEEP,
    AWAKE,
    CAME_UP,
    COMING_UP,
    GOING_DOWN,
    STARTED,
    STOPPED,
    WENT_OFF,
    Fact,
    Moment,
    jump,
    spans,
)
from rota.quantity import USEC
from rota.slots import CLOCK_CHANGED, HOST_DOWN, SUSPENDED, TIMER_STOPPED, Span

MIN = 60 * USEC
HOUR = 60 * MIN


def facts(*pairs: tuple[str, int]) -> list[Fact]:
    return [Fact(kind, at) for kind, at in pairs]


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ([], []),
        ([(STARTED, 5)], []),
        ([(STOPPED, 5)], [Span(TIMER_STOPPED, 5, None)]),
        ([(STOPPED, 5), (STARTED, 9)], [Span(TIMER_STOPPED, 5, 9)]),
        ([(STOPPED, 5), (STOPPED, 7), (STARTED, 9)], [Span(TIMER_STOPPED, 5, 9)]),
        ([(ASLEEP, 5), (AWAKE, 9), (ASLEEP, 20)], [Span(SUSPENDED, 5, 9), Span(SUSPENDED, 20, None)]),
        # The plug was pulled.
        (
            [(WENT_OFF, HOUR), (CAME_UP, 2 * HOUR), (STARTED, 2 * HOUR + 5)],
            [Span(HOST_DOWN, HOUR, 2 * HOUR + 5)],
        ),
        # Powered off in order: the timer is stopped by that.
        (
            [(STOPPED, HOUR - 5), (WENT_OFF, HOUR), (CAME_UP, 2 * HOUR), (STARTED, 2 * HOUR + 5)],
            [Span(HOST_DOWN, HOUR - 5, 2 * HOUR + 5)],
        ),
        # Stopped by somebody, long before.
        (
            [(STOPPED, 5), (WENT_OFF, HOUR), (CAME_UP, 2 * HOUR), (STARTED, 2 * HOUR + 5)],
            [Span(TIMER_STOPPED, 5, HOUR), Span(HOST_DOWN, HOUR, 2 * HOUR + 5)],
        ),
        # Started by somebody, long after boot.
        (
            [(WENT_OFF, HOUR), (CAME_UP, 2 * HOUR), (STARTED, 3 * HOUR)],
            [Span(HOST_DOWN, HOUR, 2 * HOUR), Span(TIMER_STOPPED, 2 * HOUR, 3 * HOUR)],
        ),
        # Twice off, and never started between.
        (
            [
                (WENT_OFF, HOUR),
                (CAME_UP, 2 * HOUR),
                (WENT_OFF, 3 * HOUR),
                (CAME_UP, 4 * HOUR),
                (STARTED, 4 * HOUR + 9),
            ],
            [Span(HOST_DOWN, HOUR, 4 * HOUR + 9)],
        ),
        # It went off asleep.
        ([(ASLEEP, 5), (WENT_OFF, 6), (CAME_UP, 9), (STARTED, 10)], [Span(HOST_DOWN, 6, 10)]),
        # Booting just now.
        ([(WENT_OFF, 5), (CAME_UP, 10 * HOUR - 9)], [Span(HOST_DOWN, 5, None)]),
        # Booted long ago, and the timer was not started.
        (
            [(WENT_OFF, 5), (CAME_UP, 2 * HOUR)],
            [Span(HOST_DOWN, 5, 2 * HOUR), Span(TIMER_STOPPED, 2 * HOUR, None)],
        ),
    ],
)
def test_spans(told: list[tuple[str, int]], wanted: list[Span]) -> None:
    assert spans(facts(*told), 10 * HOUR) == wanted


def test_what_is_close_to_a_shutdown_and_to_a_boot() -> None:
    def off(stopped: int, started: int) -> list[str]:
        told = facts((STOPPED, 10 * HOUR - stopped), (WENT_OFF, 10 * HOUR), (CAME_UP, 11 * HOUR))
        return [span.reason for span in spans([*told, Fact(STARTED, 11 * HOUR + started)], 20 * HOUR)]

    assert off(GOING_DOWN, COMING_UP) == [HOST_DOWN]
    assert off(GOING_DOWN + 1, COMING_UP) == [TIMER_STOPPED, HOST_DOWN]
    assert off(GOING_DOWN, COMING_UP + 1) == [HOST_DOWN, TIMER_STOPPED]


def test_clocks_that_part() -> None:
    before = Moment(HOUR, 100, "a")
    assert jump(before, Moment(HOUR + MIN, 100 + MIN, "a"), 0) is None
    assert jump(before, Moment(HOUR + MIN, 100 + MIN - USEC, "a"), 0) is None
    assert jump(before, Moment(3 * HOUR, 100 + MIN, "a"), 0) == Span(CLOCK_CHANGED, HOUR, 3 * HOUR)
    assert jump(before, Moment(3 * HOUR, 100 + MIN, "a"), 2 * HOUR) == Span(SUSPENDED, HOUR, 3 * HOUR)
    assert jump(before, Moment(3 * HOUR, 5, "b"), 0) == Span(HOST_DOWN, HOUR, 3 * HOUR)
    # Set back: no slot was jumped over.
    assert jump(before, Moment(HOUR - MIN, 100 + MIN, "a"), 0) is None
