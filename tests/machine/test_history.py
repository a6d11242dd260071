"""What is asked of the record: which runs, every event, what runs come to; and what is forgotten."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.machine.house import House

KINDS = ["activated", "running", "deactivated", "triggered", "archived", "output"]


@pytest.fixture
def told(house: House) -> Iterator[list[str]]:
    """Three agents with a run each, in this order: ok, failed with 3, ok."""
    for name, status, tag in (("told-a", 0, "x"), ("told-b", 3, "x"), ("told-c", 0, "y")):
        house.declare(name, f'command = ["/bin/sh", "-c", "exit {status}"]\ntags = ["{tag}"]\n', apply=False)
    house.apply()
    runs = []
    for name in ("told-a", "told-b", "told-c"):
        house.rota(f"run --wait {name}", code=3 if name == "told-b" else 0)
        runs.append(house.said(name)[-1]["id"])
    yield runs


def events(house: House, arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in house.rota(f"--json events {arguments}").stdout.splitlines()]


def ids(house: House, arguments: str) -> list[str]:
    return [run["id"] for run in house.json(f"runs {arguments}")]


def test_which_runs(house: House, told: list[str]) -> None:
    a, b, c = told
    assert ids(house, "--tag x --since 1h -n 2") == [b, a]
    assert ids(house, "--tag x --tag y -n 3") == [c, b, a]
    assert (
        ids(house, "told-b --state failed") == ids(house, "--tag x --state failed --state killed -n 1") == [b]
    )
    assert ids(house, "told-a --trigger timer") == []
    began = house.json("show " + b)["started"]
    stamp = house.machine.run(f"date -d @{began / 1e6:.6f} '+%Y-%m-%d %H:%M:%S.%6N'").stdout.strip()
    assert ids(house, f"--tag x --tag y -n 3 --since '{stamp}'") == [c, b]
    assert ids(house, f"--tag x --tag y -n 3 --until '{stamp}'")[:1] == [a]
    assert "No such runs." in house.rota("runs --tag nowhere").stdout
    assert "no agent told-z" in house.rota("runs told-z", code=3).stderr
    assert '--since: "soon" is not a moment' in house.rota("runs --since soon", code=2).stderr


def test_every_event_has_its_number(house: House, told: list[str]) -> None:
    every = events(house, "")
    assert [event["seq"] for event in every] == list(range(every[0]["seq"], every[-1]["seq"] + 1))
    of_a = [event for event in every if event["run"] == told[0]]
    assert sorted(event["kind"] for event in of_a) == sorted(KINDS)
    assert all(event["version"] == 1 and event["agent"] == "told-a" for event in of_a)
    after = events(house, f"--since {of_a[-1]['seq']}")
    assert after == [event for event in every if event["seq"] > of_a[-1]["seq"]]
    assert events(house, "told-b") == [event for event in every if event["agent"] == "told-b"]
    assert events(house, f"--since {every[-1]['seq']}") == []


def test_who_follows_misses_nothing(house: House, told: list[str]) -> None:
    """Also while rotad is killed, and started again by whoever asks."""
    machine = house.machine
    since = events(house, "")[-1]["seq"]
    machine.run(f"setsid -f rota --json events --since {since} --follow >/tmp/followed </dev/null 2>&1")
    for _ in range(3):
        house.rota("run --wait told-a")
    assert events(house, f"--since {since}"), "nothing happened"

    def caught_up() -> bool:
        followed = machine.run("cat /tmp/followed").stdout.splitlines()
        return [json.loads(line) for line in followed] == events(house, f"--since {since}")

    machine.wait_for(caught_up, 5, "all events to be told")
    machine.run("pkill -f 'events --since'")


def test_what_runs_come_to(house: House, told: list[str]) -> None:
    found = {item["agent"]: item for item in house.json("stats --since 1h")}
    assert found["told-b"]["failed"] >= 1
    assert found["told-a"]["succeeded"] == found["told-a"]["runs"]
    assert 0 < found["told-a"]["p50"] <= found["told-a"]["p95"]
    # Of whole days, from the totals: the same, as all of it was today.
    days = {item["agent"]: item for item in house.json("stats --since 3d")}
    assert days["told-b"] == found["told-b"]
    assert set(days["told-a"]) == set(found["told-a"])
    table = house.rota("stats told-b").stdout.splitlines()
    assert table[0].split() == ["AGENT", "RUNS", "FAILED", "P50", "P95", "CPU", "MEM", "SKIPPED"]
    assert table[1].split()[:3] == ["told-b", str(days["told-b"]["runs"]), "100%"]


def test_export(house: House, told: list[str]) -> None:
    lines = house.rota("export --tag x --tag y").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [run["id"] for run in found][:3] == told[::-1]
    rows = list(csv.DictReader(io.StringIO(house.rota("export told-b --format csv").stdout)))
    assert (rows[0]["id"], rows[0]["status"], rows[0]["state"]) == (told[1], "3", "failed")


def test_how_long_a_run_took_is_not_told_by_the_clock(house: House, told: list[str]) -> None:
    run = house.json(f"show {told[0]}")
    assert abs(run["took"] - (run["ended"] - run["started"])) < 50_000


def test_what_is_old_is_forgotten(house: House, told: list[str]) -> None:
    machine = house.machine
    for name in ("told-a", "told-c"):
        house.rota(f"run --wait {name}")
    house.declare("told-c", 'command = ["/bin/true"]\npriority = "critical"\n')
    counted = {item["agent"]: item["runs"] for item in house.json("stats --since 3d")}
    kept = len(ids(house, "told-c"))
    machine.write("/etc/rota/rota.toml", '[retention]\ndetail = "1s"\n')
    try:
        house.apply()
        # It forgets some seconds after its start, and then once an hour.
        machine.run("sleep 1; systemctl restart rotad")
        machine.wait_for(lambda: len(ids(house, "told-a")) == 1, 20, "old runs to be forgotten")
        assert len(ids(house, "told-c")) == kept
        assert {item["agent"]: item["runs"] for item in house.json("stats --since 3d")} == counted
        left = events(house, "")
        assert {event["agent"] for event in left} == {"told-c"}
    finally:
        machine.run("rm -f /etc/rota/rota.toml")
        house.apply()
