"""Totals: what is added up can be taken back and added to others, and percentiles are near the truth."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from rota.events import OVER, Run
from rota.totals import DAY, GROUP, Totals, alone, changes, day_of, from_json, group

BEGAN = 1_795_212_587_000_000


def run(took: int | None = 1_000_000, state: str = "succeeded", number: int = 0, **more: int) -> Run:
    ended = None if took is None else BEGAN + took
    return Run(f"{number:032x}", "a", state, started=BEGAN, ended=ended, took=took, archived=True, **more)  # type: ignore[arg-type]


RUNS = st.lists(
    st.builds(
        lambda took, state, cpu, memory: run(took, state, cpu_usec=cpu, memory_peak=memory),
        st.integers(1, 10**13),
        st.sampled_from(["succeeded", "failed", "killed", "skipped", "unknown"]),
        st.integers(0, 10**12),
        st.integers(0, 2**45),
    ),
    min_size=1,
    max_size=40,
)


def total(runs: list[Run]) -> Totals:
    found = Totals()
    for one in runs:
        found.add(alone(one))
    return found


@given(RUNS, RUNS)
def test_adding_up_in_parts_is_adding_up(one: list[Run], other: list[Run]) -> None:
    parts = total(one)
    parts.merge(total(other))
    assert parts == total([*one, *other])
    assert from_json(parts.to_json()) == parts


@given(RUNS, RUNS)
def test_what_is_taken_back_was_never_there(kept: list[Run], gone: list[Run]) -> None:
    found = total([*kept, *gone])
    for one in gone:
        found.add(alone(one), -1)
    wanted = total(kept)
    assert (+found.states, +found.took) == (wanted.states, wanted.took)
    assert (found.took_usec, found.cpu_usec) == (wanted.took_usec, wanted.cpu_usec)


TIMES = st.none() | st.integers(BEGAN, BEGAN + 10**9)
QUERY = f"SELECT agent, {GROUP} FROM runs GROUP BY agent, state"  # noqa: S608
FIELDS = ("agent", "state", "started", "ended", "took", "cpu_usec", "memory_peak", "late", "slots")


@given(
    st.lists(
        st.builds(
            Run,
            st.just(""),
            st.sampled_from("ab"),
            st.sampled_from(sorted(OVER)),
            started=TIMES,
            ended=TIMES,
            took=st.none() | st.integers(0, 10**9),
            cpu_usec=st.none() | st.integers(0, 10**12),
            memory_peak=st.none() | st.integers(0, 2**45),
            late=st.none() | st.integers(0, 10**9),
            slots=st.none() | st.integers(1, 99),
        )
    )
)
def test_sqlite_adds_up_the_same(runs: list[Run]) -> None:
    with closing(sqlite3.connect(":memory:")) as store:
        store.execute(f"CREATE TABLE runs ({', '.join(FIELDS)})")
        values = ([getattr(one, name) for name in FIELDS] for one in runs)
        store.executemany(f"INSERT INTO runs VALUES ({', '.join('?' * len(FIELDS))})", values)  # noqa: S608
        found = {"a": Totals(), "b": Totals()}
        for agent, *row in store.execute(QUERY):
            found[agent].add(group(row))
    for agent, totals in found.items():
        assert totals == total([one for one in runs if one.agent == agent])


@given(st.lists(st.integers(1, 10**13), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 1.0]))
def test_percentiles_are_within_nine_per_cent(durations: list[int], share: float) -> None:
    found = total([run(took) for took in durations]).percentile(share)
    exact = sorted(durations)[math.ceil(len(durations) * share) - 1]
    assert found is not None
    assert abs(found - exact) <= max(0.09 * exact, 1)


def test_nothing_has_no_percentile() -> None:
    assert Totals().percentile(0.5) is None
    assert total([run(None, "skipped")]).percentile(0.5) is None
    assert total([run(None, "skipped")]).runs == 0


def test_how_long_a_run_took() -> None:
    def span(state: str, ended: int | None, took: int | None) -> int | None:
        return Run("", "a", state, started=BEGAN, ended=ended, took=took).duration

    assert span("failed", BEGAN + 9, 5) == 5
    assert span("failed", BEGAN + 7, None) == 7
    assert span("failed", BEGAN - 7, None) == 0
    assert span("unknown", None, None) is None
    assert span("skipped", BEGAN, 0) is None
    assert day_of(run()) == BEGAN // DAY


def test_a_run_that_changes_is_moved() -> None:
    lost, found = run(state="unknown", number=1), run(state="succeeded", number=1)
    open_ = Run(lost.id, "a", "running", started=BEGAN)
    assert changes({}, {lost.id: open_}) == {}
    assert changes({lost.id: open_}, {lost.id: lost})["a", BEGAN // DAY].states == {"unknown": 1}
    moved = changes({lost.id: lost}, {lost.id: found})["a", BEGAN // DAY]
    assert moved.states == Counter({"succeeded": 1, "unknown": -1})
    assert moved.took.total() == 0
