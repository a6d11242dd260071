"""Endpoints, Prometheus and databases: what answers, how, and how soon."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rota.watches import Database, Dns, Endpoint, Http, Limits, Query, shown

from ..words import Target
from .readings import Reading, when_true
from .words import SECOND, Malformed, clip, span

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Tried:
    """A try to reach something.

    Attributes:
        took: until the whole answer was there, microseconds.
        why: why there was no answer; "" if there was.
    """

    took: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Answered(Tried):
    """An answer over HTTP, or none.

    Attributes:
        status: its number; 0 for none.
        location: where it redirects to, "" for nowhere.
        has_body: whether what must be in the answer is in it.
        expires: when the certificate does, microseconds since 1970; None if it was not seen.
        distrust: why the certificate is not trusted; "" if it is, or need not be.
    """

    status: int = 0
    location: str = ""
    has_body: bool = True
    expires: int | None = None
    distrust: str = ""


@dataclass(frozen=True, slots=True)
class Resolved(Tried):
    """An answer of a name server, or none.

    Attributes:
        code: NOERROR, NXDOMAIN, ...; "" if there was no answer.
        records: what it says, as text.
    """

    code: str = ""
    records: tuple[str, ...] = ()


def endpoint(name: str, facts: Tried, rules: Endpoint, now: int) -> Iterator[Reading]:
    """Judge an endpoint.

    Args:
        name: its name.
        facts: how the try went; of the class that goes with what `rules` ask for.
        rules: what is expected.
        now: microseconds since 1970.
    """
    target, where = Target("endpoint", name), place(rules)
    told_by_certificate = (
        isinstance(facts, Answered) and facts.distrust and rules.http and rules.http.certificate
    )
    down = bool(facts.why) and not told_by_certificate
    text = f"{name} ({where}) does not answer: {clip(facts.why)}"
    yield Reading(target, "unreachable", float(down), rules.unreachable, text, {"where": where})
    if rules.slow:
        took = None if facts.why else facts.took / SECOND
        text = f"{name} ({where}) took {span(facts.took)} to answer"
        yield Reading(target, "slow", took, rules.slow, text, {"took": facts.took})
    if isinstance(facts, Answered) and rules.http is not None:
        yield from _http(target, facts, rules.http, rules.unreachable, now)
    if isinstance(facts, Resolved) and rules.dns is not None:
        yield _dns(target, facts, rules.dns, rules.unreachable)


def place(rules: Endpoint) -> str:
    """Return what is tried, in words."""
    if rules.tcp is not None:
        host = f"[{rules.tcp.host}]" if ":" in rules.tcp.host else rules.tcp.host
        return f"tcp {host}:{rules.tcp.port}"
    if rules.http is not None:
        return shown(rules.http.url)
    if rules.dns is not None:
        return f"dns {rules.dns.record} {rules.dns.name}" + (
            f" at {rules.dns.server}" if rules.dns.server else ""
        )
    return f"ping {rules.ping}"


def _http(target: Target, facts: Answered, rules: Http, severity: Limits, now: int) -> Iterator[Reading]:
    name, known = target.name, not facts.why
    right = facts.status in rules.status if rules.status else 200 <= facts.status <= 299
    text = f"{name} ({shown(rules.url)}) answers with status {facts.status}"
    location = shown(facts.location)
    if location:
        text += f" and leads to {clip(location)}"
    details = {"status": facts.status, "location": location}
    yield Reading(target, "status", float(not right) if known else None, severity, text, details)
    if rules.body:
        # An answer of another status is not expected to say it.
        value = float(not facts.has_body) if known and right else None
        text = f"{name} ({shown(rules.url)}) answers without {clip(rules.body, 40)!r}"
        yield Reading(target, "body", value, severity, text)
    if rules.certificate:
        yield _certificate(target, facts, rules, now)


def _certificate(target: Target, facts: Answered, rules: Http, now: int) -> Reading:
    where = f"certificate of {target.name} ({shown(rules.url)})"
    if facts.distrust:
        # However long it may be valid, nobody gets in.
        text = f"the {where} is not trusted: {clip(facts.distrust)}"
        return Reading(target, "certificate", -math.inf, rules.certificate, text, {"why": facts.distrust})
    left = None if facts.expires is None else (facts.expires - now) / SECOND
    text = f"the {where} expires in {span(max(left or 0, 0) * SECOND)}: renew it"
    if left is not None and left <= 0:
        text = f"the {where} expired {span(-left * SECOND)} ago: renew it"
    return Reading(target, "certificate", left, rules.certificate, text, {"expires": facts.expires})


def _dns(target: Target, facts: Resolved, rules: Dns, severity: Limits) -> Reading:
    wanted = [item for item in rules.expect if _name(item) not in {_name(record) for record in facts.records}]
    wrong = facts.code != "NOERROR" or not facts.records or bool(wanted)
    found = ", ".join(facts.records) if facts.records else "nothing"
    said = found if facts.code == "NOERROR" else facts.code
    text = f"{target.name}: {rules.record} {rules.name} is {clip(said)}"
    if wanted and facts.records:
        text += f", without {clip(', '.join(wanted), 60)}"
    details = {"code": facts.code, "records": list(facts.records)}
    return Reading(target, "answer", None if facts.why else float(wrong), severity, text, details)


def _name(text: str) -> str:
    return text.rstrip(".").lower()


@dataclass(frozen=True, slots=True)
class Series:
    """A value that Prometheus returned, and what it is of."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Alert:
    """A firing alert of Prometheus.

    Attributes:
        name: alertname.
        labels: the others.
        summary: its annotation summary, or description, or "".
        severity: as its label says, in our words.
        since: since when, as it says, RFC 3339.
    """

    name: str
    labels: Mapping[str, str]
    summary: str
    severity: str
    since: str = ""


def _data(text: str) -> Any:
    """Return what an answer of Prometheus's HTTP API holds."""
    try:
        raw = json.loads(text)
        if raw["status"] != "success":
            raise Malformed(f"Prometheus refuses: {clip(str(raw.get('error', raw['status'])))}")
        return raw["data"]
    except Malformed:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(f"what answers is no Prometheus: {error}") from None


def parse_query(text: str) -> tuple[Series, ...]:
    """Return the series of an answer to /api/v1/query; those that are no number are left out.

    Raises:
        Malformed: it is an error, or not as expected.
    """
    data = _data(text)
    try:
        kind, result = data["resultType"], data["result"]
        if kind == "scalar":
            found = [Series({}, float(result[1]))]
        elif kind == "vector":
            found = [Series(dict(one["metric"]), float(one["value"][1])) for one in result]
        else:
            raise Malformed(f"the query's result is a {kind}; write one whose result is a vector or a number")
    except Malformed:
        raise
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Malformed(f"Prometheus's answer is not as expected: {error}") from None
    return tuple(one for one in found if not math.isnan(one.value))


_SEVERITIES = {
    **dict.fromkeys(("critical", "page", "error", "emergency", "fatal", "high"), "critical"),
    **dict.fromkeys(("info", "informational", "notice", "none", "low"), "info"),
}


def parse_alerts(text: str) -> tuple[Alert, ...]:
    """Return the firing alerts of an answer to /api/v1/alerts.

    Raises:
        Malformed: it is an error, or not as expected.
    """
    data = _data(text)
    try:
        found = []
        for one in data["alerts"]:
            if one["state"] == "firing":
                labels = {str(key): str(value) for key, value in one["labels"].items()}
                notes = one.get("annotations", {})
                summary = str(notes.get("summary") or notes.get("description") or "")
                severity = _SEVERITIES.get(labels.get("severity", "").lower(), "warning")
                name = labels.pop("alertname")
                found.append(Alert(name, labels, summary, severity, str(one.get("activeAt", ""))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed(f"Prometheus's answer is not as expected: {error}") from None
    return tuple(found)


def _selector(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if key != "__name__")
    name = labels.get("__name__", "")
    return f"{name}{{{inside}}}" if inside else name or "its value"


def _plain(value: float) -> float | str:
    """Return a value as JSON has it: infinity is none of its numbers."""
    return value if math.isfinite(value) else f"{value:+}"


SHOWN = 10
"""So many series, or alerts of one name, are told in details."""
MOST_ALERTS = 200
"""Names of alerts of one server that are findings; the worst of them, if it says that more fire."""


def query(name: str, facts: Iterable[Series], rules: Query) -> Iterator[Reading]:
    """Judge a query by the worst of its series; without any all is well, where that is no finding itself.

    Comparisons such as `up == 0` have no series when what they ask for is not so.
    """
    low = rules.limits[0].opens < rules.limits[0].closes
    ordered = sorted(facts, key=lambda one: (one.value if low else -one.value, _selector(one.labels)))
    worst = ordered[0] if ordered else None
    details: dict[str, Any] = {"query": rules.expression}
    details["series"] = [{"of": _selector(one.labels), "value": _plain(one.value)} for one in ordered[:SHOWN]]
    text = ""
    if worst is not None:
        bad = sum(rules.limits[0].bad(one.value) for one in ordered)
        beyond = f", {bad} series are beyond it" if bad > 1 else ""
        limit = f"limit {rules.limits[0].opens:g}{rules.unit}{beyond}"
        text = f"{name}: {_selector(worst.labels)} is {worst.value:g}{rules.unit} ({limit})"
    value = worst.value if worst else None if rules.absent else rules.limits[0].closes
    yield Reading(Target("query", name), "firing", value, rules.limits, clip(text, 200), details)
    if rules.absent:
        text = f"{name}: Prometheus has no value for {clip(rules.expression, 80)}"
        yield Reading(Target("query", name), "absent", float(worst is None), rules.absent, text)


def alerts(server: str, facts: Iterable[Alert], ignored: Collection[str]) -> Iterator[Reading]:
    """Judge alerts that fire: those of one name are one finding, as severe as the worst."""
    order = ("critical", "warning", "info")
    by_name: dict[str, list[Alert]] = {}
    for alert in sorted(facts, key=lambda one: (order.index(one.severity), one.name)):
        if alert.name not in ignored:
            by_name.setdefault(alert.name, []).append(alert)
    for name in sorted([*by_name][:MOST_ALERTS]):
        found = sorted(by_name[name], key=lambda one: (order.index(one.severity), sorted(one.labels.items())))
        first = found[0]
        text = f"alert {name} fires: {first.summary or _selector(first.labels)}"
        if len(found) > 1:
            text += f", and {len(found) - 1} more"
        shown = [{**one.labels, "summary": one.summary, "since": one.since} for one in found[:SHOWN]]
        limit = when_true(first.severity)
        yield Reading(
            Target("query", f"{server}/{name}"), "firing", 1.0, limit, clip(text, 200), {"alerts": shown}
        )


def database(name: str, facts: Tried, rules: Database) -> Iterator[Reading]:
    """Judge a database."""
    target = Target("database", name)
    text = f"database {name} does not answer: {clip(facts.why)}"
    yield Reading(target, "unreachable", float(bool(facts.why)), rules.unreachable, text)
    if rules.slow:
        text = f"database {name} took {span(facts.took)} to answer"
        value = None if facts.why else facts.took / SECOND
        yield Reading(target, "slow", value, rules.slow, text, {"took": facts.took})
