"""Metrics: what is exposed is what rotad said, in every format, and Prometheus's own tools find no fault."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from rota_agents.home_keeper import sums
from rota_agents.home_keeper.messages import Event
from rota_agents.home_keeper.state import State
from rota_agents.home_keeper.sums import gains
from rota_agents.home_keeper.view import measured

from rota import __version__
from rota.events import REAL, Run
from rota.keeper_rules import Rules
from rota.lifetime import HISTOGRAMS, Lifetime
from rota.metrics import FAMILIES, Reading, Scrape
from tests.prometheus import promtool
from tests.store_kit import START, run_id

OPEN = "application/openmetrics-text; version=1.0.0"
PLAIN = "text/plain; version=0.0.4"
Parse = Callable[[str], Iterable[Metric]]
FORMATS: dict[str, Parse] = {
    PLAIN: parser.text_string_to_metric_families,
    OPEN: openmetrics.text_string_to_metric_families,
}


def lifetime(*tooks: int, state: str = "succeeded", late: int | None = None) -> Lifetime:
    found = Lifetime()
    for number, took in enumerate(tooks):
        found.add(
            Run(
                run_id(number),
                "a",
                state,
                started=START,
                ended=START + took,
                took=took,
                archived=True,
                cpu_usec=9,
                late=late,
            )
        )
    return found


def agent(name: str, past: Lifetime, **more: Any) -> dict[str, Any]:
    base = {"schedule": "every 5min", "priority": "low", "paused": False, "running": False, "next": None}
    return {"agent": name, **base, **past.table(), **more}


def reading(*agents: dict[str, Any], lag: int = 0, events: int = 7) -> Reading:
    """Return a reading that has gone through what goes through D-Bus."""
    return Reading(json.loads(json.dumps({"lag": lag, "events": events, "agents": agents})))


def text(found: Reading, accept: str = PLAIN) -> str:
    encoder, _ = choose_encoder(accept)
    return encoder(Scrape(found)).decode()


def samples(found: Reading, accept: str = PLAIN) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, which are sorted by name."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in FORMATS[accept](text(found, accept))
        for sample in family.samples
    }


PAST = lifetime(50_000, 100_000, 100_001, 3_600_000_000, 10**12)
BUSY = reading(
    agent("a", PAST, running=True, next=START + 500_000),
    agent("b", lifetime(2_000_000, state="failed", late=700_000), paused=True),
    agent("never", Lifetime(), schedule='cron "0 9 * * *"\n\\ Rom'),
    lag=1_500_000,
)


@pytest.mark.parametrize("accept", FORMATS)
def test_what_rotad_said_is_exposed(accept: str) -> None:
    found = samples(BUSY, accept)
    assert found["rota_up",] == 1
    assert found["rota_build_info", __version__] == 1
    assert found["rota_rotad_journal_lag_seconds",] == 1.5
    assert found["rota_rotad_events_total",] == 7
    assert found["rota_runs_total", "a", "succeeded"] == 5
    assert found["rota_runs_total", "a", "failed"] == 0
    assert found["rota_runs_total", "b", "failed"] == 1
    assert {key[2] for key in found if key[0] == "rota_runs_total"} == set(REAL)
    assert (found["rota_agent_running", "a"], found["rota_agent_running", "b"]) == (1, 0)
    assert (found["rota_agent_paused", "a"], found["rota_agent_paused", "b"]) == (0, 1)
    assert found["rota_agent_next_run_timestamp_seconds", "a"] == (START + 500_000) / 1e6
    assert ("rota_agent_next_run_timestamp_seconds", "b") not in found
    assert found["rota_agent_last_run_timestamp_seconds", "b"] == (START + 2_000_000) / 1e6
    assert ("rota_agent_last_success_timestamp_seconds", "b") not in found
    assert found["rota_run_cpu_seconds_total", "a"] == pytest.approx(45e-6)
    assert found["rota_run_cpu_seconds_total", "never"] == 0
    assert found["rota_agent_info", "never", "low", 'cron "0 9 * * *"\n\\ Rom'] == 1


@pytest.mark.parametrize("accept", FORMATS)
def test_durations_are_a_histogram(accept: str) -> None:
    found = samples(BUSY, accept)
    of_a = {
        key[2]: value for key, value in found.items() if key[:2] == ("rota_run_duration_seconds_bucket", "a")
    }
    assert [float(bound) for bound in of_a] == [
        *(bound / 1e6 for bound in HISTOGRAMS["durations"].bounds),
        float("inf"),
    ]
    assert list(of_a.values()) == sorted(of_a.values())
    assert (of_a["0.1"], of_a["0.25"], of_a["1800.0"], of_a["3600.0"], of_a["86400.0"]) == (2, 3, 3, 4, 4)
    assert of_a["+Inf"] == found["rota_run_duration_seconds_count", "a"] == 5
    assert found["rota_run_duration_seconds_sum", "a"] == pytest.approx(1_003_600.250001)
    assert found["rota_run_duration_seconds_count", "never"] == 0
    assert found["rota_run_lateness_seconds_bucket", "b", "0.5"] == 0
    assert found["rota_run_lateness_seconds_bucket", "b", "1.0"] == 1
    assert found["rota_run_lateness_seconds_sum", "b"] == 0.7


def test_the_last_run_is_the_example_of_its_bucket() -> None:
    (family,) = (one for one in FORMATS[OPEN](text(BUSY, OPEN)) if one.name == "rota_run_duration_seconds")
    found = {
        (s.labels["agent"], s.labels["le"]): s.exemplar for s in family.samples if s.exemplar is not None
    }
    assert set(found) == {("a", "+Inf"), ("b", "2.5")}
    assert found["b", "2.5"].labels == {"run": run_id(0)}
    assert found["b", "2.5"].value == 2


def test_without_rotad_only_that_is_told() -> None:
    assert samples(Reading()) == {("rota_up",): 0, ("rota_build_info", __version__): 1}


AGENTS = st.lists(
    st.builds(
        lambda name, schedule, tooks, state, following: agent(
            name, lifetime(*tooks, state=state), schedule=schedule, next=following
        ),
        st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.lists(st.integers(0, 10**14), max_size=5),
        st.sampled_from(sorted(REAL)),
        st.none() | st.integers(1, 2**53),
    ),
    max_size=4,
    unique_by=lambda table: table["agent"],
)


@given(AGENTS)
def test_both_formats_say_the_same(agents: list[dict[str, Any]]) -> None:
    found = reading(*agents)
    assert samples(found, PLAIN) == samples(found, OPEN)
    assert len(samples(found)) == len([line for line in text(found).split("\n") if line and line[0] != "#"])


def test_promtool_finds_no_fault() -> None:
    for found in (BUSY, Reading()):
        done = promtool("check", "metrics", text=text(found))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_would_find_one() -> None:
    done = promtool("check", "metrics", text="# TYPE rota_runs counter\nrota_runs 1\n")
    assert done.returncode != 0
    assert "_total" in done.stderr


def test_names_follow_the_conventions() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"rota_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.name.endswith("_info") == (family.kind == "info")
        assert family.about.endswith(".")
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_labels_are_bounded() -> None:
    """Only agents and what is declared of them, results, bounds and the version; words of the keeper's."""
    known = {"agent", "result", "le", "version", "priority", "schedule", "severity", "remedy", "by"}
    assert {label for family in FAMILIES for label in family.labels} <= known
    one, two = (
        len(samples(reading(*(agent(f"a{n}", PAST, next=1) for n in range(count))))) for count in (1, 2)
    )
    of_histograms = sum(len(one.bounds) + 3 for one in HISTOGRAMS.values())
    assert two - one == 6 + len(REAL) + of_histograms + 2


def keeper(*events: Event) -> Reading:
    """Return what a keeper says to whom these happened, together with rotad."""
    counted: Counter[tuple[str, str]] = Counter()
    for event in events:
        for what, label, value in gains(event):
            counted[what, label] += value
    told = measured(State(), Rules(actions_per_hour=7), sums.table(counted), START) | {"turned": START}
    return Reading({"lag": 0, "events": 0, "agents": [], "keeper": True}, json.loads(json.dumps(told)))


def judged(verdict: str, remedy: str = "run-agent x") -> Event:
    return Event("remedy-judged", "unit:x", START, {"id": 1, "remedy": remedy, "verdict": verdict})


def recovered(took: int, *tried: str) -> Event:
    return Event("recovered", "unit:x", START, {"took": took, "tried": list(tried)})


KEPT = keeper(
    *(judged("healed"), judged("healed"), judged("failed"), judged("unknown", "restart-unit")),
    Event("remedy-ended", "unit:x", START, {"id": 1, "outcome": "not-begun", "remedy": "clean"}),
    *(recovered(500_000, "x"), recovered(1_000_000, "x"), recovered(10**12), recovered(2_000_000, "x")),
)


@pytest.mark.parametrize("accept", FORMATS)
def test_what_the_keeper_said_is_exposed(accept: str) -> None:
    found = samples(KEPT, accept)
    assert found["rota_keeper_up",] == 1
    assert found["rota_keeper_actions_left",] == 7
    assert found["rota_keeper_findings", "critical"] == 0
    assert found["rota_keeper_last_step_timestamp_seconds",] == START / 1e6
    remedies = {key[1:]: value for key, value in found.items() if key[0] == "rota_keeper_remedies_total"}
    assert remedies == {
        ("run-agent", "healed"): 2,
        ("run-agent", "failed"): 1,
        ("restart-unit", "unknown"): 1,
        ("clean", "not-begun"): 1,
    }
    buckets = {
        key[2]: value
        for key, value in found.items()
        if key[:2] == ("rota_keeper_recovery_seconds_bucket", "remedy")
    }
    assert (buckets["1.0"], buckets["5.0"], buckets["+Inf"]) == (2, 3, 3)
    assert found["rota_keeper_recovery_seconds_sum", "remedy"] == 3.5
    assert found["rota_keeper_recovery_seconds_count", "itself"] == 1


def test_without_a_keeper_there_are_no_series_of_it() -> None:
    assert not [key for key in samples(BUSY) if key[0].startswith("rota_keeper_")]
    gone = samples(Reading({"lag": 0, "events": 0, "agents": [], "keeper": False}))
    assert {key: value for key, value in gone.items() if key[0].startswith("rota_keeper_")} == {
        ("rota_keeper_up",): 0
    }


def test_promtool_finds_no_fault_with_the_keepers() -> None:
    done = promtool("check", "metrics", text=text(KEPT))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
