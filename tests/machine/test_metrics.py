"""Metrics on a booted machine: from settings to a scrape; what clients, and a rotad in trouble, cannot do."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.machine.house import House
from tests.machine.install import install_rota
from tests.machine.machine import Machine
from tests.machine.nixos import MODULE, Nixos
from tests.prometheus import ROOT, program, promtool
from tests.test_dashboards import queries

SOCKET, SERVICE = "rotad-metrics.socket", "rotad-metrics.service"
TCP, PATH = "127.0.0.1:7682", "/run/rota/metrics.sock"
SETTINGS = "/etc/rota/rota.toml"
OK = 'command = ["/bin/true"]\nschedule = { every = "1h" }\n'
BAD = 'command = ["/bin/sh", "-c", "exit 3"]\n'


def listening(*addresses: str) -> str:
    return f"[metrics]\nlisten = {json.dumps(addresses)}\n"


def scrape(machine: Machine, how: str = f"http://{TCP}/metrics", *, user: str = "alice") -> dict[Any, float]:
    """Return every sample by its name and the values of its labels, which are sorted by name."""
    text = machine.run(f"curl --silent --show-error --fail --max-time 20 {how}", user=user).stdout
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def up(machine: Machine) -> float:
    return scrape(machine)["rota_up",]


def show(machine: Machine, unit: str, name: str) -> str:
    return machine.run(["systemctl", "show", "-P", name, unit]).stdout.strip()


@pytest.fixture
def measured(house: House) -> Iterator[House]:
    """An agent that is well and one that is not, metrics on TCP and on a UNIX socket."""
    house.machine.write(SETTINGS, listening(TCP, PATH))
    house.declare("well", OK, apply=False)
    house.declare("unwell", BAD, apply=False)
    house.apply()
    yield house
    house.machine.run(f"rm -f {SETTINGS}; systemctl start rotad")


def test_off_by_default(house: House) -> None:
    house.declare("well", OK)
    assert not house.machine.exists(f"/etc/systemd/system/{SOCKET}")
    assert show(house.machine, SOCKET, "LoadState") == "not-found"
    refused = house.machine.run(f"curl --silent http://{TCP}/metrics", check=False)
    assert refused.returncode == 7, "somebody listens"


def test_what_is_scraped_is_what_rota_says(measured: House) -> None:
    for _ in range(2):
        measured.rota("run well --wait")
    measured.rota("run unwell --wait", code=3)
    measured.rota("pause unwell")
    measured.settled("well", 2)
    measured.settled("unwell")
    by_tcp = scrape(measured.machine)
    by_path = scrape(measured.machine, f"--unix-socket {PATH} http://localhost/metrics")
    assert {key: value for key, value in by_tcp.items() if "rotad" not in key[0]} == {
        key: value for key, value in by_path.items() if "rotad" not in key[0]
    }
    stats = {item["agent"]: item for item in measured.json("stats --since 3d")}
    for agent in ("well", "unwell"):
        for result in ("succeeded", "failed", "skipped"):
            assert by_tcp["rota_runs_total", agent, result] == stats[agent].get(result, 0)
        assert by_tcp["rota_run_duration_seconds_count", agent] == stats[agent]["runs"]
        assert by_tcp["rota_run_cpu_seconds_total", agent] == pytest.approx(stats[agent]["cpu_usec"] / 1e6)
    last = measured.runs("well")[-1]
    assert by_tcp["rota_agent_last_success_timestamp_seconds", "well"] == pytest.approx(last["ended"] / 1e6)
    listed = {agent["name"]: agent for agent in measured.json("list")}
    assert by_tcp["rota_agent_next_run_timestamp_seconds", "well"] == pytest.approx(
        listed["well"]["next"] / 1e6
    )
    assert ("rota_agent_next_run_timestamp_seconds", "unwell") not in by_tcp
    assert (by_tcp["rota_agent_paused", "well"], by_tcp["rota_agent_paused", "unwell"]) == (0, 1)
    assert by_tcp["rota_rotad_journal_lag_seconds",] < 1
    (newest,) = measured.rota("--json events").stdout.splitlines()[-1:]
    assert by_tcp["rota_rotad_events_total",] >= json.loads(newest)["seq"]
    text = measured.machine.run(f"curl --silent http://{TCP}/metrics").stdout
    assert promtool("check", "metrics", text=text).stderr == ""
    # What is gone has no series.
    measured.rota("resume unwell")
    measured.remove("unwell")
    measured.apply()
    assert ("rota_runs_total", "unwell", "failed") not in scrape(measured.machine)


def test_counters_survive_what_is_forgotten_and_rotads_death(measured: House) -> None:
    machine = measured.machine
    measured.rota("run well --wait")
    measured.rota("run unwell --wait", code=3)
    before = scrape(machine)
    # It forgets some seconds after its start.
    machine.write(SETTINGS, f'{listening(TCP)}[retention]\ndetail = "1s"\ntotals = "1s"\n')
    measured.apply()
    machine.run("sleep 1; systemctl kill --signal KILL rotad; systemctl reset-failed rotad")
    machine.wait_for(
        lambda: len(measured.runs("well")) == 1 and up(machine) == 1, 20, "old runs to be forgotten"
    )
    measured.rota("run well --wait")
    measured.settled("well", 1)
    after = scrape(machine)
    assert after["rota_runs_total", "well", "succeeded"] == before["rota_runs_total", "well", "succeeded"] + 1
    assert after["rota_runs_total", "unwell", "failed"] == before["rota_runs_total", "unwell", "failed"]
    falling = [
        key for key, value in before.items() if key[0].endswith(("_total", "_bucket")) and after[key] < value
    ]
    assert falling == []


def test_apply_follows_the_settings(measured: House) -> None:
    machine = measured.machine
    assert up(machine) == 1
    assert show(machine, SERVICE, "ActiveState") == "active"
    assert measured.apply().startswith("Nothing changed")
    pid = show(machine, SERVICE, "MainPID")
    measured.declare("another", OK)
    assert show(machine, SERVICE, "MainPID") == pid, "agents that come and go are nothing to it"
    # Another address: not at the old one any more.
    machine.write(SETTINGS, listening("[::1]:7683"))
    assert "Metrics are served at [::1]:7683." in measured.apply()
    assert scrape(machine, "http://[::1]:7683/metrics")["rota_up",] == 1
    assert machine.run(f"curl --silent http://{TCP}/metrics", check=False).returncode == 7
    assert not machine.exists(PATH)
    # Stopped by hand, as by an apply that was killed: the next one starts it.
    machine.run(f"systemctl stop {SOCKET}")
    measured.apply()
    assert scrape(machine, "http://[::1]:7683/metrics")["rota_up",] == 1
    # Refused: nothing changes.
    machine.write(SETTINGS, listening("0.0.0.0:7683"))
    refused = measured.rota("apply", code=2)
    assert (
        'rota.toml: metrics.listen[0]: "0.0.0.0:7683": metrics are served on this machine only'
        in refused.stderr
    )
    assert scrape(machine, "http://[::1]:7683/metrics")["rota_up",] == 1
    machine.write(SETTINGS, "")
    assert "Metrics are no longer served." in measured.apply()
    assert machine.run("curl --silent http://[::1]:7683/metrics", check=False).returncode == 7
    assert show(machine, SERVICE, "ActiveState") == "inactive"
    assert "rota" not in machine.run("find /etc/systemd/system/ -path '*.wants/*' -name '*socket'").stdout


def test_an_address_that_is_taken(measured: House) -> None:
    machine = measured.machine
    machine.run("systemd-run --unit=taker --socket-property=ListenStream=127.0.0.1:7690 cat")
    try:
        machine.write(SETTINGS, listening("127.0.0.1:7690"))
        measured.declare("beside", OK, apply=False)
        refused = measured.rota("apply", code=1)
        assert f"agents are applied, but metrics are not served: {SOCKET} did not start" in refused.stderr
        assert machine.run("systemctl is-active rota-beside.timer").stdout.strip() == "active"
    finally:
        machine.run("systemctl stop taker.socket")
    measured.apply()
    assert scrape(machine, "http://127.0.0.1:7690/metrics")["rota_up",] == 1


def test_a_rotad_in_trouble(measured: House) -> None:
    machine = measured.machine
    assert up(machine) == 1
    machine.run("systemctl stop rotad")
    started = time.monotonic()
    assert set(scrape(machine)) == {("rota_up",), ("rota_build_info", "0.1.0")}
    assert up(machine) == 0
    assert time.monotonic() - started < 2
    assert machine.run("systemctl is-active rotad", check=False).stdout.strip() == "inactive", (
        "a scrape started it"
    )
    machine.run("systemctl start rotad; systemctl kill --signal STOP rotad")
    try:
        started = time.monotonic()
        assert up(machine) == 0
        assert time.monotonic() - started < 6
    finally:
        machine.run("systemctl kill --signal CONT rotad")
    machine.wait_for(lambda: up(machine) == 1, 5, "rotad to answer")


CROWD = """
import concurrent.futures, os, random, socket, sys, urllib.request

def connect():
    one = socket.create_connection(("127.0.0.1", 7682))
    one.settimeout(20)
    return one

held = [connect() for _ in range(400)]            # say nothing; more than are let in
for one in held[:100]:
    try:
        one.send(b"GET /metr")                    # never finish
    except OSError:
        pass
for number in range(200):                         # nonsense
    with connect() as one:
        try:
            one.send(random.Random(number).randbytes(300) + b"\\r\\n\\r\\n")
            one.recv(100)
        except OSError:
            pass
for one in held:
    one.close()

def scrape(_):
    with urllib.request.urlopen("http://127.0.0.1:7682/metrics", timeout=20) as answer:
        return b"rota_up 1.0" in answer.read()

with concurrent.futures.ThreadPoolExecutor(100) as pool:
    print(sum(pool.map(scrape, range(300))))
"""


def test_clients_do_no_harm(measured: House) -> None:
    machine = measured.machine
    assert up(machine) == 1
    pids = {unit: show(machine, unit, "MainPID") for unit in ("rotad.service", SERVICE)}
    assert machine.run(["python3", "-c", CROWD], user="alice").stdout.split() == ["300"]
    assert up(machine) == 1
    assert {unit: show(machine, unit, "MainPID") for unit in pids} == pids
    said = machine.run(f"journalctl --unit {SERVICE} --output cat _PID={pids[SERVICE]}").stdout
    assert "Traceback" not in said
    memory = machine.run(f"awk '/^VmRSS/ {{print $2}}' /proc/{pids[SERVICE]}/status").stdout
    assert int(memory) < 80 * 1024


def test_it_may_do_next_to_nothing(measured: House) -> None:
    machine = measured.machine
    assert up(machine) == 1
    verdict = machine.run(["systemd-analyze", "security", "--no-pager", SERVICE]).stdout
    exposure = float(verdict.rpartition(f"{SERVICE}: ")[2].split()[0])
    assert exposure <= 0.3
    assert show(machine, SERVICE, "User") == "rota-metrics"
    call = "busctl call org.rota1 /org/rota1 org.rota1.Manager StartAgent s well"
    refused = machine.run(call, user="rota-metrics", check=False)
    assert "denied" in refused.stderr
    machine.run("systemctl restart rotad", user="rota-metrics", check=False)
    assert measured.runs("well") == [
        run for run in measured.runs("well") if run["requested_by"] != "rota-metrics"
    ]
    # Its sockets are systemd's: it has no network to make others of.
    pid = show(machine, SERVICE, "MainPID")
    networks = machine.run(f"readlink /proc/1/ns/net /proc/{pid}/ns/net").stdout.split()
    assert len(set(networks)) == 2


def test_a_users_own(measured: House) -> None:
    machine = measured.machine
    machine.linger("alice")
    home = "/home/alice/.config/rota"
    text = f"{listening('127.0.0.1:7695')}"
    machine.run(f"mkdir -p {home}/agents.d; cat > {home}/rota.toml", user="alice", input=text)
    machine.run(f"cat > {home}/agents.d/own.toml", user="alice", input=OK)
    try:
        machine.run("systemctl --user start rotad.service; rota --user apply", user="alice")
        machine.run("rota --user run own --wait", user="alice")
        found = scrape(machine, "http://127.0.0.1:7695/metrics")
        assert (found["rota_up",], found["rota_runs_total", "own", "succeeded"]) == (1, 1)
        assert ("rota_runs_total", "well", "succeeded") not in found
    finally:
        machine.run(f"rm -f {home}/rota.toml {home}/agents.d/*; rota --user apply", user="alice")
        machine.run("systemctl --user stop rotad.service", user="alice", check=False)
    assert machine.run("curl --silent http://127.0.0.1:7695/", check=False).returncode == 7


def test_switches_of_nixos(bootable: None) -> None:
    module = replace(MODULE, sockets={"rotad-metrics": {"wantedBy": ["sockets.target"]}})
    agents = {"a": {"command": ["/bin/true"], "schedule": [{"every": "1h"}]}}

    def config(*addresses: str) -> dict[str, Any]:
        return {"agents": agents, "metrics": {"listen": list(addresses)}}

    def served(address: str) -> bool:
        return machine.run(f"curl --silent --fail http://{address}/metrics", check=False).returncode == 0

    with Machine() as machine:
        install_rota(machine)
        nixos = Nixos(machine)
        assert nixos.switch(nixos.build(config())).failed == []
        assert not served(TCP)
        for address, other in ((TCP, "127.0.0.1:7683"), ("127.0.0.1:7683", TCP)):
            done = nixos.switch(nixos.build(config(address), module))
            assert done.failed == []
            assert (served(address), served(other)) == (True, False)
            assert show(machine, SERVICE, "ActiveState") == "active"
        assert nixos.switch(nixos.build(config())).failed == []
        assert not served(TCP)
        assert show(machine, SOCKET, "ActiveState") == "inactive"


PROMETHEUS = f"""
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [/tmp/rota-alerts.yml]
scrape_configs:
  - job_name: rota
    static_configs: [{{ targets: ["{TCP}"] }}]
"""


VICTIM = "victim.service"
KEPT = f"""
[keeper]
enable = true
[keeper.policy]
strikes = ["act", "act", "act", "act", "escalate"]
settle = "1s"
cooldown = "500ms"
growth = 1
[keeper.targets."unit:{VICTIM}"]
"""


def test_prometheus_scrapes_it_and_the_dashboard_has_data(bootable: None) -> None:
    server = Path(program("prometheus")).resolve()
    with Machine(options=(f"--bind-ro={server.parent}:/opt/prometheus",)) as machine:
        install_rota(machine)
        house = House(machine)
        machine.write(SETTINGS, listening(TCP) + KEPT)
        machine.write(f"/etc/systemd/system/{VICTIM}", "[Service]\nExecStart=/bin/sleep infinity\n")
        house.declare("well", 'command = ["/bin/true"]\nschedule = { calendar = "*:*:0/2" }\n', apply=False)
        house.declare("unwell", BAD, apply=False)
        house.apply()
        machine.write("/tmp/prometheus.yml", PROMETHEUS)
        machine.write("/tmp/rota-alerts.yml", (ROOT / "share/prometheus/rota-alerts.yml").read_text())
        machine.run(
            f"systemd-run --unit=prometheus /opt/prometheus/{server.name} --config.file=/tmp/prometheus.yml"
            " --storage.tsdb.path=/tmp/data --web.listen-address=127.0.0.1:9090"
        )

        def ask(path: str, **more: str) -> dict[str, Any]:
            url = f"http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(more)}"
            answer: dict[str, Any] = json.loads(
                machine.run(["curl", "--silent", "--fail", url], check=False).stdout or "{}"
            )
            return answer

        def data(query: str) -> list[Any]:
            answer = ask("query", query=query)
            assert answer.get("status", "success") == "success", (query, answer)
            found: list[Any] = answer.get("data", {}).get("result", [])
            return found

        def has(query: str) -> None:
            machine.wait_for(lambda: data(query), 20, f"data of `{query}`")

        has("rota_up == 1")
        house.rota("run unwell --wait", code=3)
        house.rota("pause unwell")
        house.settled("well", 3, 20)
        has('increase(rota_runs_total{agent="well",result="succeeded"}[1m]) > 0')
        has('increase(rota_run_duration_seconds_count{agent="well"}[1m]) > 0')
        has('increase(rota_run_lateness_seconds_count{agent="well"}[1m]) > 0')
        machine.run(f"systemctl start {VICTIM}")
        for times in (1, 2):  # Prometheus counts from the second on
            machine.run(f"systemctl kill --signal=KILL {VICTIM}")
            has(f"sum(rota_keeper_recovery_seconds_count) == {times}")
        for query in queries():
            plain = re.sub(r"\$(instance|agent)", ".*", query).replace("$__rate_interval", "1m")
            has(plain)  # of an agent that runs just then, when it runs next may not be known
        firing = {alert["labels"]["alertname"]: alert["labels"] for alert in ask("alerts")["data"]["alerts"]}
        assert firing["RotaAgentFailing"]["agent"] == "unwell"
        assert {"RotaDown", "RotaRecordingBehind"} & set(firing) == set()

        def scraped() -> int:
            return int(data("scrape_samples_scraped")[0]["value"][1])

        # while one runs, when it runs next may not be known: then there is a sample less, here or there
        machine.wait_for(lambda: scraped() == len(scrape(machine)), 20, "as many samples as there are")
        targets = ask("targets")["data"]["activeTargets"]
        assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]
