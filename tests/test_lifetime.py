"""Lifetimes: sums that only grow, whatever is told of a run later and whatever is forgotten."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rota.events import NOTHING_RAN, OVER, Event, Run
from rota.lifetime import BEYOND, BOUNDS, Lifetime, bucket, from_json, gains
from rota.store import Store
from rota.totals import DAY
from tests.store_kit import START, life, run_id

RUNS = st.lists(
    st.builds(
        lambda number, took, state, cpu: Run(
            run_id(number),
            "a",
            state,
            started=START,
            ended=START + took,
            took=took,
            cpu_usec=cpu,
            archived=True,
        ),
        st.integers(0, 2**64),
        st.integers(0, 10**12),
        st.sampled_from(sorted(OVER)),
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
    assert found.results == Counter(run.state for run in runs)
    assert found.durations.total() == len(ran)
    assert found.numbers.get("took_usec", 0) == sum(run.took or 0 for run in ran)
    assert found.numbers.get("cpu_usec", 0) == sum(run.cpu_usec or 0 for run in runs)
    assert found.numbers.get("last_run", 0) == max((run.ended or 0 for run in ran), default=0)
    succeeded = [run.ended or 0 for run in ran if run.state == "succeeded"]
    assert found.numbers.get("last_success", 0) == max(succeeded, default=0)
    assert (found.sample or ("",))[0] == (ran[-1].id if ran else "")


@given(st.integers(0, 10**13))
def test_a_bucket_holds_what_its_bound_says(usec: int) -> None:
    bound = bucket(usec)
    assert usec <= bound
    below = bisect_left(BOUNDS, bound) - 1
    assert below < 0 or usec > BOUNDS[below]
    assert bucket(BOUNDS[-1]) == BOUNDS[-1]
    assert bucket(BOUNDS[-1] + 1) == BEYOND


def test_a_run_is_counted_once_as_it_was_filed_first() -> None:
    open_ = Run(run_id(1), "a", "running", started=START)
    lost = open_._replace(state="unknown", archived=True)
    found = lost._replace(state="succeeded", ended=START + 5)
    assert gains({}, {lost.id: open_}) == {}
    assert gains({lost.id: open_}, {lost.id: open_._replace(state="failed")}) == {}
    assert gains({lost.id: open_}, {lost.id: lost})["a"].results == {"unknown": 1}
    assert gains({lost.id: lost}, {lost.id: found}) == {}


def test_slots_that_were_missed_are_counted_as_their_row_goes_on() -> None:
    row = Run(run_id(1), "a", "missed", started=START, archived=True, slots=3)
    longer = row._replace(slots=8)
    assert gains({}, {row.id: row})["a"].results == {"missed": 3}
    assert gains({row.id: row}, {row.id: longer})["a"].results == {"missed": 5}
    assert gains({row.id: longer}, {row.id: longer}) == {}


def test_how_late_runs_of_a_slot_were() -> None:
    kept = Lifetime()
    for run in (
        Run(run_id(1), "a", "succeeded", late=5),
        Run(run_id(2), "a", "failed", late=7),
        Run(run_id(3), "a", "succeeded"),
        Run(run_id(4), "a", "skipped", late=9),
    ):
        kept.add(run)
    assert (kept.table()["served"], kept.table()["late_usec"]) == (2, 12)


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
        assert all(now.durations[bound] >= count for bound, count in seen.durations.items())
        assert all(now.numbers.get(name, 0) >= value for name, value in seen.numbers.items())
        seen = now
    store.close()
