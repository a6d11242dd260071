"""Alerts and dashboard: Prometheus takes them, alerts fire when they should, metrics they name exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rota.metrics import FAMILIES
from tests.prometheus import promtool

ROOT = Path(__file__).parent.parent
ALERTS = ROOT / "share/prometheus/rota-alerts.yml"
TESTS = ROOT / "tests/alerts.test.yml"
DASHBOARD = ROOT / "share/grafana/rota.json"

_OF = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
EXPOSED = {family.name + suffix for family in FAMILIES for suffix in _OF.get(family.kind, ("",))}


def named(text: str) -> set[str]:
    """Return the metrics that an expression or label query asks for."""
    return set(re.findall(r"\brota_\w+", re.sub(r'"[^"]*"', "", text)))


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = dashboard["panels"]
    return found


def queries() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"]


def test_promtool_takes_the_alerts() -> None:
    done = promtool("check", "rules", str(ALERTS))
    assert (done.returncode, done.stderr) == (0, "")
    assert "SUCCESS" in done.stdout


def test_alerts_fire_when_they_should() -> None:
    done = promtool("test", "rules", str(TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8")))
    tests = TESTS.read_text(encoding="utf-8")
    fires = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", tests))
    assert alerts == fires


def test_alerts_and_dashboard_ask_for_what_there_is() -> None:
    rules = re.sub(r"(?m)^ *#.*$|(summary|description):.*", "", ALERTS.read_text(encoding="utf-8"))
    asked = named(rules).union(*(named(query) for query in queries()))
    assert asked <= EXPOSED
    assert len(asked) >= 10


def test_prometheus_takes_what_the_dashboard_asks(tmp_path: Path) -> None:
    asked = [query.replace("$__rate_interval", "5m") for query in queries()]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(asked)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    done = promtool("check", "rules", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(asked)} rules found" in done.stdout


def test_the_dashboard_groups_by_labels_that_there_are() -> None:
    labels = {family.name: {*family.labels, "le", "instance"} for family in FAMILIES}
    for query in queries():
        grouped = {word.strip() for group in re.findall(r"by \((.*?)\)", query) for word in group.split(",")}
        for metric in named(query):
            family = re.sub(r"_(bucket|sum|count)$", "", metric)
            assert grouped <= labels.get(metric, labels.get(family, set())), query


def test_the_dashboard_shows_the_keeper() -> None:
    shown = set().union(*(named(query) for query in queries()))
    kept = {name for name in EXPOSED if name.startswith("rota_keeper_")}
    # Its loop that stands still is an alert, and of its histogram the buckets say all.
    absent = {
        "rota_keeper_last_step_timestamp_seconds",
        *(f"rota_keeper_recovery_seconds{suffix}" for suffix in ("_sum", "_count")),
    }
    assert kept - shown == absent


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert {item["name"] for item in dashboard["templating"]["list"]} == {"datasource", "instance", "agent"}
    source = {"type": "prometheus", "uid": "${datasource}"}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) >= 10
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} covers another"
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == source
            assert panel["description"].endswith(".")
            assert all(target["datasource"] == source for target in panel["targets"])
