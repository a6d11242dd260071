"""What rotad says of itself and of agents, as metrics of Prometheus; computed at each scrape, pure.

Labels cannot grow beyond what is declared: `agent` is an installed agent, `result` one of the states in which
runs end, `le` one of fixed bounds. Nothing that an agent writes or a caller asks becomes a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rota import __version__
from rota.events import REAL
from rota.lifetime import BEYOND, HISTOGRAMS
from rota.quantity import USEC

RESULTS = REAL
"""Values of the label `result`."""

_Table = Mapping[str, Any]
_Point = tuple[tuple[str, ...], tuple[Any, ...]]
"""Values of the labels, and what add_metric() of the family takes beside them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What org.rota1.Manager.Metrics and org.rota1.Keeper.Metrics returned.

    Attributes:
        rotad: its table; None if rotad did not answer.
        keeper: the keeper's; None if there is none, or it did not answer.
    """

    rotad: _Table | None = None
    keeper: _Table | None = None

    @property
    def agents(self) -> Sequence[_Table]:
        """Tables of the agents."""
        agents: Sequence[_Table] = () if self.rotad is None else self.rotad["agents"]
        return agents


@dataclass(frozen=True, slots=True)
class Family:
    """A metric.

    Attributes:
        name: as it is exposed.
        kind: gauge, counter, histogram or info.
        about: its help text.
        labels: names of its labels.
        points: its values in a reading.
    """

    name: str
    kind: str
    about: str
    labels: tuple[str, ...]
    points: Callable[[Reading], Iterable[_Point]]

    def metric(self, reading: Reading) -> Metric:
        """Return it with its values."""
        found = _KINDS[self.kind](self.name.removesuffix("_info"), self.about, labels=self.labels)
        for labels, values in self.points(reading):
            found.add_metric(labels, *values)
        metric: Metric = found
        return metric


_KINDS: Mapping[str, Callable[..., Any]] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
    "info": InfoMetricFamily,
}


def _of_rotad(field: str, unit: int = 1) -> Callable[[Reading], Iterator[_Point]]:
    """Return what finds a field of rotad's table, and divides it."""

    def points(reading: Reading) -> Iterator[_Point]:
        if reading.rotad is not None:
            yield (), (reading.rotad[field] / unit,)

    return points


def _of_agents(field: str, unit: int = 1, **default: int) -> Callable[[Reading], Iterator[_Point]]:
    """Return what finds a field of each agent, and divides it; agents without it have none, or `default=`."""

    def points(reading: Reading) -> Iterator[_Point]:
        for agent in reading.agents:
            value = agent.get(field, default.get("default"))
            if value is not None:
                yield (agent["agent"],), (value / unit,)

    return points


def _runs(reading: Reading) -> Iterator[_Point]:
    for agent in reading.agents:
        for result in RESULTS:
            yield (agent["agent"], result), (agent["results"].get(result, 0),)


def _missed(reading: Reading) -> Iterator[_Point]:
    for agent in reading.agents:
        yield (agent["agent"],), (agent["results"].get("missed", 0),)


def _histogram(field: str) -> Callable[[Reading], Iterator[_Point]]:
    """Return what makes a histogram of each agent's buckets; of durations with the last run as exemplar."""
    bounds = (*HISTOGRAMS[field].bounds, BEYOND)
    names = (*(str(bound / USEC) for bound in bounds[:-1]), "+Inf")

    def points(reading: Reading) -> Iterator[_Point]:
        for agent in reading.agents:
            counts = {int(bound): count for bound, count in agent[field].items()}
            cumulated = accumulate(counts.get(bound, 0) for bound in bounds)
            buckets: list[tuple[Any, ...]] = list(zip(names, cumulated, strict=True))
            if field == "durations" and (sample := agent["sample"]) is not None:
                took, ended = sample["took"] / USEC, sample["ended"] / USEC
                index = bounds.index(HISTOGRAMS[field].bucket(sample["took"]))
                buckets[index] += (Exemplar({"run": sample["run"]}, took, ended),)
            yield (agent["agent"],), (buckets, agent.get(HISTOGRAMS[field].total, 0) / USEC)

    return points


def _keeper_up(reading: Reading) -> Iterator[_Point]:
    if reading.rotad is not None and (there := reading.rotad.get("keeper")) is not None:
        yield (), (float(there),)


def _of_keeper(field: str, unit: int = 1) -> Callable[[Reading], Iterator[_Point]]:
    """Return what finds a field of the keeper's table, and divides it."""

    def points(reading: Reading) -> Iterator[_Point]:
        if reading.keeper is not None:
            yield (), (reading.keeper[field] / unit,)

    return points


def _findings(reading: Reading) -> Iterator[_Point]:
    if reading.keeper is not None:
        for severity, count in reading.keeper["findings"].items():
            yield (severity,), (count,)


def _remedies(reading: Reading) -> Iterator[_Point]:
    if reading.keeper is not None:
        for one in reading.keeper["remedies"]:
            yield (one["remedy"], one["result"]), (one["count"],)


def _recoveries(reading: Reading) -> Iterator[_Point]:
    if reading.keeper is not None:
        for one in reading.keeper["recoveries"]:
            bounds = [str(bound / USEC) for bound, _ in one["buckets"][:-1]]
            cumulated = accumulate(count for _, count in one["buckets"])
            yield (one["by"],), (list(zip((*bounds, "+Inf"), cumulated, strict=True)), one["usec"] / USEC)


_AGENT = ("agent",)

FAMILIES = (
    Family(
        "rota_up",
        "gauge",
        "Whether rotad answered; where it did not, this and rota_build_info are all there is.",
        (),
        lambda reading: [((), (float(reading.rotad is not None),))],
    ),
    Family("rota_build_info", "info", "Version of rota.", ("version",), lambda _: [((__version__,), ({},))]),
    Family(
        "rota_rotad_journal_lag_seconds",
        "gauge",
        "For how long the oldest journal entry about agents has been waiting to be recorded; 0 when none is.",
        (),
        _of_rotad("lag", USEC),
    ),
    Family(
        "rota_rotad_events_total",
        "counter",
        "Events recorded since the store began.",
        (),
        _of_rotad("events"),
    ),
    Family(
        "rota_agent_info",
        "info",
        "An installed agent.",
        ("agent", "priority", "schedule"),
        lambda reading: [((a["agent"], a["priority"], a["schedule"]), ({},)) for a in reading.agents],
    ),
    Family("rota_agent_running", "gauge", "Whether a run is under way.", _AGENT, _of_agents("running")),
    Family("rota_agent_paused", "gauge", "Whether it is paused.", _AGENT, _of_agents("paused")),
    Family(
        "rota_agent_next_run_timestamp_seconds",
        "gauge",
        "When its timer starts it next; absent if none does.",
        _AGENT,
        _of_agents("next", USEC),
    ),
    Family(
        "rota_agent_last_run_timestamp_seconds",
        "gauge",
        "When the last run that was started ended; absent before the first.",
        _AGENT,
        _of_agents("last_run", USEC),
    ),
    Family(
        "rota_agent_last_success_timestamp_seconds",
        "gauge",
        "When the last run that succeeded ended; absent before the first.",
        _AGENT,
        _of_agents("last_success", USEC),
    ),
    Family("rota_runs_total", "counter", "Runs that are over, by result.", ("agent", "result"), _runs),
    Family(
        "rota_run_duration_seconds",
        "histogram",
        "How long runs took, of those that were started.",
        _AGENT,
        _histogram("durations"),
    ),
    Family(
        "rota_run_lateness_seconds",
        "histogram",
        "By how much runs of a calendar's slot began later than that and its jitter.",
        _AGENT,
        _histogram("lateness"),
    ),
    Family("rota_slots_missed_total", "counter", "Calendar slots that no run came of.", _AGENT, _missed),
    Family(
        "rota_run_cpu_seconds_total",
        "counter",
        "Processor time that runs used.",
        _AGENT,
        _of_agents("cpu_usec", USEC, default=0),
    ),
    Family(
        "rota_keeper_up",
        "gauge",
        "Whether Home Keeper is there, as rotad sees it; absent if it is not enabled.",
        (),
        _keeper_up,
    ),
    Family(
        "rota_keeper_findings",
        "gauge",
        "Findings that are open. This and what follows: absent without a keeper.",
        ("severity",),
        _findings,
    ),
    Family(
        "rota_keeper_actions_under_way",
        "gauge",
        "Actions that are being carried out.",
        (),
        _of_keeper("under_way"),
    ),
    Family(
        "rota_keeper_remedies_total",
        "counter",
        "What came of remedies: healed, failed, unknown or not-begun.",
        ("remedy", "result"),
        _remedies,
    ),
    Family(
        "rota_keeper_recovery_seconds",
        "histogram",
        "For how long what is well again was in trouble, by what it got well: a remedy, or itself.",
        ("by",),
        _recoveries,
    ),
    Family(
        "rota_keeper_actions_left",
        "gauge",
        "How many more actions the whole house may have within this hour.",
        (),
        _of_keeper("actions_left"),
    ),
    Family(
        "rota_keeper_last_step_timestamp_seconds",
        "gauge",
        "When its step loop came round last: once a minute at least.",
        (),
        _of_keeper("turned", USEC),
    ),
)
"""Every metric there is, in the order in which they are exposed; docs/metrics.md is made from this."""


class Scrape(Collector):
    """A reading, as prometheus_client collects it."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its values."""
        return (family.metric(self._reading) for family in FAMILIES)
