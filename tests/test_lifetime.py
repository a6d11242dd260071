"""Lifetimes: sums that only grow, whatever is told of a run later and whatever is forgotten."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rota.events import NOTHING_RAN, REAL, Event, Run
from rota.lifetime import BEYOND, HISTOGRAMS, Lifetime, from_json, gains
from rota.store import Store
from rota.totals import DAY
from tests.store_kit import START, life, run_id

RUNS = st.lists(
    st.builds(
        lambda number, took, state, cpu, late: Run(
            run_id(number),
            "a",
            state,
            started=START,
            ended=START + took,
            took=took,
            cpu_usec=cpu,
            archived=True,
            late=late,
        ),
        st.integers(0, 2**64),
        st.integers(0, 10**12),
        st.sampled_from(REAL),
        st.none() | st.integers(0, 10**12),
        st.none() | st.integers(0, 10**12),
    ),
    max_size=40,
)


def of(runs: list[Run]) -> Lifetime:
    found = Lifetime()
    for run in runs:
        found.add(run)
    return found


@given(RUNS, RUNS)
def test_adding_up_in_parts_is_adding_up(one: list[Run], other: list[Run]) -> None:
    parts = of(one)
    parts.merge(of(other))
    assert parts == of([*one, *other])
    assert from_json(parts.to_json()) == parts


@given(RUNS)
def test_what_is_added_up(runs: list[Run]) -> None:
    found = of(runs)
    ran = [run for run in runs if run.state not in NOTHING_RAN]
    lates = [run.late for run in ran if run.late is not None]
    assert found.results == Counter(run.state for run in runs)
    assert found.buckets["durations"].total() == len(ran)
    assert found.buckets["lateness"].total() == len(lates)
    assert found.numbers.get("late_usec", 0) == sum(lates)
    assert found.numbers.get("took_usec", 0) == sum(run.took or 0 for run in ran)
    assert found.numbers.get("cpu_usec", 0) == sum(run.cpu_usec or 0 for run in runs)
    assert found.numbers.get("last_run", 0) == max((run.ended or 0 for run in ran), default=0)
    succeeded = [run.ended or 0 for run in ran if run.state == "succeeded"]
    assert found.numbers.get("last_success", 0) == max(succeeded, default=0)
    assert (found.sample or ("",))[0] == (ran[-1].id if ran else "")


@given(st.sampled_from(sorted(HISTOGRAMS)), st.integers(0, 10**13))
def test_a_bucket_holds_what_its_bound_says(name: str, usec: int) -> None:
    histogram = HISTOGRAMS[name]
    bound = histogram.bucket(usec)
    assert usec <= bound
    below = bisect_left(histogram.bounds, bound) - 1
    assert below < 0 or usec > histogram.bounds[below]
    assert histogram.bucket(histogram.bounds[-1]) == histogram.bounds[-1]
    assert histogram.bucket(histogram.bounds[-1] + 1) == BEYOND


def test_a_run_is_counted_once_as_it_was_filed_first() -> None:
    open_ = Run(run_id(1), "a", "running", started=START)
    lost = open_._replace(state="unknown", archived=True)
    found = lost._replace(state="succeeded", ended=START + 5)
    assert gains({}, {lost.id: open_}) == {}
    assert gains({lost.id: open_}, {lost.id: open_._replace(state="failed")}) == {}
    assert gains({lost.id: open_}, {lost.id: lost})["a"].results == {"unknown": 1}
    gain = gains({lost.id: lost}, {lost.id: found})["a"]
    assert (gain.results, gain.buckets["durations"].total()) == ({}, 1), "its end is known now, and counted"
    assert gains({lost.id: found}, {lost.id: found._replace(output_filed=True)}) == {}


def test_what_is_known_later_is_counted_then() -> None:
    """Which slot a run served may be told when it is over and filed."""
    over = Run(run_id(1), "a", "succeeded", started=START, ended=START + 7, took=7, archived=True)
    late = over._replace(slot=START - 9, late=9)
    before, after = gains({}, {over.id: over})["a"], gains({over.id: over}, {over.id: late})["a"]
    assert (before.buckets["lateness"].total(), after.buckets["lateness"].total()) == (0, 1)
    before.merge(after)
    assert before == gains({}, {over.id: late})["a"]


def test_slots_that_were_missed_are_counted_one_by_one() -> None:
    row = Run(run_id(1), "a", "missed", started=START, ended=START, archived=True, slots=1)
    grown = row._replace(ended=START + DAY, slots=30)
    assert gains({}, {row.id: row})["a"].results == {"missed": 1}
    found = gains({row.id: row}, {row.id: grown})["a"]
    assert (found.results, found.numbers, found.sample) == ({"missed": 29}, {}, None)
    assert gains({row.id: grown}, {row.id: row})["a"].results == {"missed": 0}, "never back"


def filed(number: int, agent: str = "a", day: int = 0) -> list[Event]:
    at = START + day * DAY + number
    return [*life(number, agent=agent, at=at), Event("archived", agent, run_id(number), at + 3)]


def test_what_is_forgotten_was_counted(tmp_path: Path) -> None:
    store = Store(tmp_path / "rota.db")
    for day in range(40):
        store.append([*filed(day, day=day), *filed(100 + day, "b", day)], "c")
    before = store.lifetime("a")
    assert before.results == {"succeeded": 40}
    while store.prune(START + 500 * DAY, 1):
        pass
    store.forget_totals(START // DAY + 500)
    assert store.totals(0) == {}
    assert store.lifetime("a") == before
    store.append(filed(900, day=41), "c")
    store.close()
    again = Store(tmp_path / "rota.db")
    assert again.lifetime("a").results == {"succeeded": 41}
    assert again.lifetime("b").results == {"succeeded": 40}
    assert again.lifetime("nobody") == Lifetime()


@given(st.lists(st.sampled_from([*range(6)]), min_size=1, max_size=60))
def test_counters_never_fall(steps: list[int]) -> None:
    """Whichever events come, in whatever order and how often."""
    with tempfile.TemporaryDirectory() as folder:
        _counters_never_fall(Store(Path(folder, "rota.db")), steps)


def _counters_never_fall(store: Store, steps: list[int]) -> None:
    seen = Lifetime()
    kinds: tuple[tuple[str, dict[str, str]], ...] = (
        *(("activated", {}), ("deactivated", {}), ("failed", {"result": "exit-code"})),
        *(("archived", {}), ("lost", {"reason": "x"}), ("stopped", {})),
    )
    for number, step in enumerate(steps):
        kind, data = kinds[step]
        store.append([Event(kind, "a", run_id(number % 3), START + number, data)], "c")
        now = store.lifetime("a")
        assert all(now.results[state] >= count for state, count in seen.results.items())
        for name in HISTOGRAMS:
            assert all(now.buckets[name][bound] >= count for bound, count in seen.buckets[name].items())
        assert all(now.numbers.get(name, 0) >= value for name, value in seen.numbers.items())
        seen = now
    store.close()
