"""Prometheus and databases: answers that are read, and the real thing, started here."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rota_agents.home_keeper.checks import network
from rota_agents.home_keeper.checks.network import Alert, Series, parse_alerts, parse_query
from rota_agents.home_keeper.checks.readings import Memory, settle
from rota_agents.home_keeper.checks.words import Malformed
from rota_agents.home_keeper.probes.polling import Watcher, wall_clock
from rota_agents.home_keeper.probes.polls import polls

from rota.watch_rules import breaches, resolve
from rota.watches import Limit, Query
from rota.watching import Watching
from tests.keeper.servers import LOCALHOST, free_port, web_server
from tests.prometheus import program

S = 1_000_000


def answer(result: object, kind: str = "vector") -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}})


def test_series_are_read() -> None:
    text = answer([{"metric": {"a": "b"}, "value": [1, "3.5"]}, {"metric": {}, "value": [1, "NaN"]}])
    assert parse_query(text) == (Series({"a": "b"}, 3.5),)
    assert parse_query(answer([1, "7"], "scalar")) == (Series({}, 7),)
    assert parse_query(answer([{"metric": {}, "value": [1, "+Inf"]}])) == (Series({}, float("inf")),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<html>", "what answers is no Prometheus"),
        ("[]", "what answers is no Prometheus"),
        ('{"status": "error", "error": "parse error: no such thing"}', "Prometheus refuses: parse error"),
        (answer([], "matrix"), "the query's result is a matrix; write one"),
        (answer([{"metric": {}}]), "not as expected"),
        (answer(7), "not as expected"),
    ],
)
def test_what_prometheus_should_not_say(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse_query(text)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nothing_else_is_raised(data: object) -> None:
    for kind in ("vector", "scalar"):
        try:
            parse_query(answer(data, kind))
        except Malformed:
            continue
    for text in (json.dumps(data), json.dumps({"status": "success", "data": {"alerts": data}})):
        try:
            parse_alerts(text)
        except Malformed:
            continue


HOT = Query("main", "room_celsius", 30 * S, S, (Limit("warning", 30, 28),), " °C", (Limit("warning", 1, 0),))
COLD = Query("main", "room_celsius", 30 * S, S, (Limit("critical", 5, 6),), " °C")


def test_the_worst_series_counts() -> None:
    rooms = (("kitchen", 31), ("hall", 33.5), ("porch", 4))
    kitchen, hall, porch = (
        Series({"__name__": "room_celsius", "room": room}, value) for room, value in rooms
    )
    _, found = settle(Memory(), network.query("hot", [kitchen, hall, porch], HOT), S)
    assert [(str(one.target), one.problem, one.summary) for one in found] == [
        (
            "query:hot",
            "firing",
            'hot: room_celsius{room="hall"} is 33.5 °C (limit 30 °C, 2 series are beyond it)',
        )
    ]
    assert found[0].details["series"][0] == {"of": 'room_celsius{room="hall"}', "value": 33.5}
    _, found = settle(Memory(), network.query("cold", [kitchen, hall, porch], COLD), S)
    assert [(one.severity, one.summary) for one in found] == [
        ("critical", 'cold: room_celsius{room="porch"} is 4 °C (limit 5 °C)')
    ]


def test_details_are_json_whatever_is_measured() -> None:
    _, found = settle(Memory(), network.query("hot", [Series({}, float("inf"))], HOT), S)
    assert json.loads(json.dumps(found[0].details, allow_nan=False))["series"][0]["value"] == "+inf"


def test_no_series_is_a_finding_and_heals_nothing() -> None:
    memory, _ = settle(Memory(), network.query("hot", [Series({}, 33)], HOT), S)
    _, found = settle(memory, network.query("hot", [], HOT), 2 * S)
    assert [one.problem for one in found] == ["absent", "firing"]
    assert found[0].summary == "hot: Prometheus has no value for room_celsius"
    _, found = settle(Memory(), network.query("cold", [], COLD), S)
    assert found == ()


def test_no_series_is_well_where_that_is_fine() -> None:
    """As with `up == 0`, and whichever way the limits go."""
    down = Query("main", "up == 0", 30 * S, S, (Limit("warning", 0.5, 0.6), Limit("critical", 0.1, 0.2)))
    hot = Query("main", "x > 80", 30 * S, S, (Limit("warning", 80, 75), Limit("critical", 90, 85)))
    for rules, value in ((down, 0.0), (hot, 99.0)):
        memory, found = settle(Memory(), network.query("q", [Series({}, value)], rules), S)
        assert [one.severity for one in found] == ["critical"]
        memory, found = settle(memory, network.query("q", [], rules), 2 * S)
        assert found == ()
        assert settle(memory, network.query("q", [Series({}, value)], rules), 3 * S)[1]


def test_alerts_of_one_name_are_one_finding() -> None:
    facts = [
        Alert("DiskFull", {"instance": "a"}, "a is full", "warning"),
        Alert("DiskFull", {"instance": "b"}, "b is full", "critical"),
        Alert("Watchdog", {}, "", "info"),
    ]
    _, found = settle(Memory(), network.alerts("main", facts, ["Watchdog"]), S)
    assert [(str(one.target), one.severity, one.summary) for one in found] == [
        ("query:main/DiskFull", "critical", "alert DiskFull fires: b is full, and 1 more")
    ]


def test_of_many_alerts_the_worst_are_told() -> None:
    facts = [Alert(f"A{number:05}", {}, "", "warning") for number in range(5000)]
    _, found = settle(Memory(), network.alerts("main", [*facts, Alert("Z", {}, "", "critical")], []), S)
    names = [one.target.name for one in found]
    assert len(names) == network.MOST_ALERTS
    assert names[0] == "main/A00000" and names[-1] == "main/Z"


def checks(declared: dict[str, Any]) -> dict[str, Watcher[Any]]:
    watching = Watching.model_validate(declared)
    assert not list(breaches(watching))
    return {poll.name: Watcher(poll) for poll in polls(resolve(watching))}


async def look(watcher: Watcher[Any]) -> dict[str, str]:
    """Look once; return what is wrong now, by target and problem."""
    observation = await watcher.look(wall_clock)
    found = observation.findings if observation else {}
    return {f"{one.target} {one.problem}": one.summary for findings in found.values() for one in findings}


RULES = """
groups:
- name: house
  interval: 1s
  rules:
  - {record: room_celsius, expr: vector(31), labels: {room: kitchen}}
  - {record: room_celsius, expr: vector(25), labels: {room: hall}}
  - alert: TooHot
    expr: room_celsius > 30
    labels: {severity: page}
    annotations: {summary: "{{ $labels.room }} is at {{ $value }} degrees"}
  - {alert: NotYet, expr: room_celsius > 30, for: 1h}
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Prometheus whose rules make two series and let an alert fire; yield its URL."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    (folder / "rules.yml").write_text(RULES)
    (folder / "prometheus.yml").write_text("global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n")
    url = f"http://{LOCALHOST}:{port}"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [program("prometheus"), f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={LOCALHOST}:{port}"],
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{url}/api/v1/alerts", timeout=5) as found:  # noqa: S310
                    if b'"firing"' in found.read():
                        break
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        else:
            pytest.fail((folder / "log").read_text()[-2000:])
        yield url
    finally:
        server.kill()
        server.wait()


def test_a_real_prometheus(prometheus: str) -> None:
    found = checks(
        {
            "prometheus": {"main": {"url": prometheus}},
            "queries": {
                "hot": {"query": "room_celsius", "above": 30, "unit": " °C"},
                "well": {"query": "avg(room_celsius)", "above": 30},
                "cold": {"query": "room_celsius{room='hall'}", "below": 26},
                "none": {"query": "no_such_metric", "above": 1},
                "wrong": {"query": "room_celsius >", "above": 1},
                "range": {"query": "room_celsius[5m]", "above": 1},
            },
        }
    )

    async def live() -> dict[str, dict[str, str]]:
        return {
            name: await look(found[name]) for name in sorted(found) if name.startswith(("alerts", "query"))
        }

    said = asyncio.run(live())
    assert said["alerts-main"] == {"query:main/TooHot firing": "alert TooHot fires: kitchen is at 31 degrees"}
    assert said["query-hot"] == {
        "query:hot firing": 'hot: room_celsius{room="kitchen"} is 31 °C (limit 30 °C)'
    }
    assert said["query-well"] == {}
    assert said["query-cold"] == {"query:cold firing": 'cold: room_celsius{room="hall"} is 25 (limit 26)'}
    assert said["query-none"] == {"query:none absent": "none: Prometheus has no value for no_such_metric"}
    assert "Prometheus refuses: " in said["query-wrong"]["check:query-wrong blind"]
    assert "the query's result is a matrix" in said["query-range"]["check:query-range blind"]


def test_a_prometheus_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def told(url: str, **more: str) -> str:
        found = checks({"prometheus": {"main": {"url": url, **more}}})
        return (await look(found["alerts-main"]))["check:alerts-main blind"]

    port = free_port()
    assert "cannot be reached: connection refused" in asyncio.run(told(f"http://{LOCALHOST}:{port}"))
    with web_server() as other:
        # what answers puts who asked into its answer, which must not go further
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        (tmp_path / "prometheus-main").write_text("Bearer secret\n")
        said = asyncio.run(told(f"http://{LOCALHOST}:{other}/page?", authorization="/etc/rota/secrets/p"))
        assert "what answers is no Prometheus" in said and "secret" not in said
        assert "answers with status 404" in asyncio.run(told(f"http://{LOCALHOST}:{other}/page/404?"))
        (tmp_path / "prometheus-main").unlink()
        said = asyncio.run(told(f"http://{LOCALHOST}:{other}", authorization="/etc/rota/secrets/p"))
        assert "the credential prometheus-main cannot be read" in said
        assert said.endswith("; it is what /etc/rota/secrets/p held when the keeper was started")


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's server programs, or skip."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    pytest.skip("no PostgreSQL server (apt install postgresql)")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start a PostgreSQL of its own; yield its port. The user is keeper, the password secret."""
    pytest.importorskip("asyncpg", reason="no asyncpg")
    programs, port = postgres_programs(), free_port()
    # pytest's own folders are closed to other users, and PostgreSQL does not run as root
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    as_user: list[str] = []
    if os.geteuid() == 0:
        as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(folder, 65534, 65534)
    (folder / "password").write_text("secret")
    (folder / "password").chmod(0o644)
    options = ["--username=keeper", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync"]
    try:
        subprocess.run(
            [*as_user, str(programs / "initdb"), *options, "-D", f"{folder}/data"],
            check=True,
            capture_output=True,
            cwd="/",
        )
        server = subprocess.Popen(
            [*as_user, str(programs / "postgres"), "-D", f"{folder}/data", "-p", f"{port}",
             "-k", f"{folder}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        try:
            ready = [str(programs / "pg_isready"), "-h", LOCALHOST, "-p", str(port)]
            while subprocess.run(ready, capture_output=True, check=False).returncode:
                assert server.poll() is None
                time.sleep(0.1)
            yield port
        finally:
            server.terminate()
            server.wait()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what looks at a database by its URL."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    def told(url: str | None, **more: str) -> dict[str, str]:
        if url is not None:
            (tmp_path / "database-main").write_text(f"{url}\n")
        keys = {"url": "/etc/rota/secrets/main", "hold": "0s", **more}
        return asyncio.run(look(checks({"databases": {"main": keys}})["database-main"]))

    yield told


def test_a_real_database(postgres: int, database: Any) -> None:
    where = f"{LOCALHOST}:{postgres}/postgres"
    assert database(f"postgresql://keeper:secret@{where}") == {}
    assert database(f"postgres://keeper:secret@{where}", query="SELECT count(*) FROM pg_class") == {}
    slow = database(f"postgresql://keeper:secret@{where}", query="SELECT pg_sleep(0.5)", slow="200ms")
    assert slow["database:main slow"].startswith("database main took ")
    hung = database(f"postgresql://keeper:secret@{where}", query="SELECT pg_sleep(9)", timeout="500ms")
    assert hung == {"database:main unreachable": "database main does not answer: no answer within 500ms"}


def test_a_real_database_that_refuses(postgres: int, database: Any) -> None:
    where = f"{LOCALHOST}:{postgres}"
    said = database(f"postgresql://keeper:wrong@{where}/postgres")["database:main unreachable"]
    assert "password authentication failed" in said and "wrong" not in said
    assert "does not exist" in database(f"postgresql://keeper:secret@{where}/no")["database:main unreachable"]
    said = database(f"postgresql://keeper:secret@{where}/postgres", query="SELECT no")[
        "database:main unreachable"
    ]
    assert 'column "no" does not exist' in said
    port = free_port()
    said = database(f"postgresql://keeper:secret@{LOCALHOST}:{port}/postgres")["database:main unreachable"]
    assert "connection refused" in said.lower() and "secret" not in said


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (None, "cannot be read"),
        ("", "is empty"),
        ("mysql://u:secret@h/d", "is no URL; write postgresql://"),
        ("postgresql://u:secret@h:port/d", "is no URL that asyncpg understands"),
        ("postgresql://u:secret@h/d?sslmode=nonsense", "is no URL that asyncpg understands"),
        ("a\nb", "is not one line"),
    ],
)
def test_a_credential_that_is_no_url(url: str | None, why: str, database: Any) -> None:
    pytest.importorskip("asyncpg", reason="no asyncpg")
    said = database(url)["check:database-main blind"]
    assert why in said and "/etc/rota/secrets/main" in said and "secret" not in said.replace("/secrets/", "")


def test_without_asyncpg_the_check_says_what_to_install(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # here it is installed; None is how Python marks a module that is not to be found
    monkeypatch.setitem(__import__("sys").modules, "asyncpg", None)
    assert (
        "asyncpg is missing; install python3-asyncpg"
        in database("postgresql://h/d")["check:database-main blind"]
    )
