"""Home Keeper as systemd runs it: its watchdog, who may tell it what, and rotad that misses it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota.frozen import to_plain
from rota.keeper_rules import Override, Policy, Rules
from rota.names import KEEPER_INTERFACE, KEEPER_SERVICE
from rota.watches import Endpoint, Limit, Tcp, Watches
from tests.machine import test_notify
from tests.machine.house import House
from tests.machine.machine import Machine

S = 1_000_000
DOOR, GATE = "endpoint:door", "endpoint:gate"
PORTS = {"door": 7801, "gate": 7802}
CONFIG, DROP_IN = "/run/keeper-config", f"/etc/systemd/system/{KEEPER_SERVICE}.d/90-test.conf"
KEEPER = "org.rota1.Keeper /org/rota1/Keeper org.rota1.Keeper"
RULES = "/etc/polkit-1/rules.d/60-test-keeper.rules"
MAY_START = """
polkit.addRule(function (action, subject) {
    if (subject.user == "rota-keeper" && action.id == "org.rota1.manage-agents" &&
        action.lookup("verb") == "start" && action.lookup("agent") == "opener") {
        return polkit.Result.YES;
    }
});
"""


def config() -> str:
    policy = Policy(strikes=("act", "escalate"), cooldown=S, settle=3 * S, healthy_after=10 * S)
    asked = Override(GATE, mode="ask", remedy="agent:opener")
    rules = Rules(policy=policy, targets=(asked, Override(DOOR, remedy="agent:opener")), timezone="UTC")
    closed = (Limit("critical", 1, 0),)
    doors = {
        name: Endpoint(S // 2, S, unreachable=closed, tcp=Tcp("127.0.0.1", port))
        for name, port in PORTS.items()
    }
    return json.dumps({"rules": to_plain(rules), "watches": to_plain(Watches(endpoints=doors))})


def opened(machine: Machine, *names: str) -> None:
    for name in names:
        machine.run(
            f"systemd-run --quiet --collect --unit test-{name} "
            f"python3 -m http.server -b 127.0.0.1 {PORTS[name]};"
            f"until curl --silent http://127.0.0.1:{PORTS[name]} >/dev/null; do sleep 0.1; done"
        )


def closed(machine: Machine, *names: str) -> None:
    for name in names:
        machine.run(f"systemctl stop test-{name}", check=False)


@pytest.fixture
def kept(house: House) -> Iterator[House]:
    """A keeper that watches two doors, which are open."""
    machine = house.machine
    machine.write(CONFIG, config())
    machine.write(DROP_IN, f"[Service]\nWatchdogSec=3\nLoadCredential=config:{CONFIG}\n")
    machine.write(RULES, MAY_START)
    opened(machine, *PORTS)
    machine.run(f"systemctl add-wants --quiet multi-user.target {KEEPER_SERVICE}; systemctl daemon-reload")
    machine.run(f"systemctl start {KEEPER_SERVICE}")
    yield house
    machine.run(f"systemctl stop {KEEPER_SERVICE}")
    closed(machine, *PORTS)
    machine.run(f"rm -rf {DROP_IN} {RULES} /etc/systemd/system/multi-user.target.wants/{KEEPER_SERVICE}")
    machine.run("rm -rf /var/lib/rota-home-keeper /var/lib/rota-keeper; systemctl daemon-reload")


def status(house: House) -> dict[str, Any]:
    return dict(house.json("keeper"))


def targets(house: House) -> dict[str, dict[str, Any]]:
    return {one["target"]: one for one in status(house)["targets"]}


def shown(machine: Machine, name: str) -> str:
    return machine.run(["systemctl", "show", "-P", name, KEEPER_SERVICE]).stdout.strip()


def test_it_runs_as_nobody_in_particular(kept: House) -> None:
    machine = kept.machine
    assert kept.rota("keeper").stdout.startswith("No findings; 0 of 20 actions")
    pid = shown(machine, "MainPID")
    assert machine.run(f"ps -o user= -p {pid}").stdout.strip() == "rota-keeper"
    assert machine.run(f"grep CapEff /proc/{pid}/status").stdout.split()[1] == "0" * 16
    assert shown(machine, "StatusText") == "no findings"


def test_it_is_listed_and_yet_no_agent(kept: House) -> None:
    machine = kept.machine
    last = kept.rota("list").stdout.splitlines()[-1]
    assert re.fullmatch(r"Home Keeper: running for \d+\w+; no findings \(rota keeper\)\.", last), last
    assert "home-keeper" not in {agent["name"] for agent in kept.json("list")}
    kept.rota("show home-keeper", code=3)
    machine.run("systemctl stop rotad")
    assert kept.rota("list").stdout.splitlines()[-1].startswith("Home Keeper: running for ")
    machine.run("systemctl start rotad")
    closed(machine, "gate")
    machine.wait_for(lambda: "1 finding, 1 question open" in kept.rota("list").stdout, 20, "a finding")
    machine.run(f"systemctl kill --signal KILL {KEEPER_SERVICE}")
    machine.wait_for(lambda: "running for" in kept.rota("list").stdout, 20, "another one")
    machine.run(f"systemctl stop {KEEPER_SERVICE}")
    assert "Home Keeper: not running, inactive" in kept.rota("list").stdout


def test_an_agent_is_run_by_the_keeper(kept: House) -> None:
    """From a door that closes to one that is open again, by an agent of rota's: rotad knows who asked."""
    machine = kept.machine
    opens = 'command = ["/usr/bin/touch", "/run/opener/open-it"]\n[sandbox]\nwritable = ["/run/opener"]\n'
    machine.run("install -d -m 1777 /run/opener")
    kept.declare("opener", opens)
    machine.run(
        "systemd-run --quiet --collect --unit test-opener --property Restart=no sh -c"
        " 'until test -e /run/opener/open-it; do sleep 0.1; done;"
        f" exec python3 -m http.server -b 127.0.0.1 {PORTS['door']}'"
    )
    closed(machine, "door")
    machine.wait_for(
        lambda: [one for one in status(kept)["remedies"] if one["verdict"] == "healed"], 30, "it to be healed"
    )
    (remedy,) = status(kept)["remedies"]
    assert (remedy["target"], remedy["remedy"], remedy["attempt"]) == (DOOR, "run-agent opener", 1)
    (run,) = kept.settled("opener")
    assert remedy["report"]["run"] == run["id"]
    assert (run["trigger"], run["requested_by"]) == ("person", "rota-keeper")
    machine.run("systemctl stop test-opener; rm -rf /run/opener", check=False)


def test_an_agent_is_waited_for_as_long_as_its_timeout_lets_it_run(house: House) -> None:
    """systemd knows the timeout; only a run that has none is not waited for until its end."""
    for name, timeout in (("brief", "3s"), ("endless", "infinity")):
        house.declare(name, f'command = ["sleep", "1000"]\ntimeout = "{timeout}"\n')
    program = Path(__file__).with_name("agent_remedy.py").read_text(encoding="utf-8")

    def act(name: str) -> dict[str, Any]:
        done = house.machine.run(["python3", "-sP", "-", name, "0.5"], input=program)
        return dict(json.loads(done.stdout))

    brief, endless = act("brief"), act("endless")
    assert brief["state"] == "timed-out"
    assert (endless["state"], endless["error"].partition(", ")[0].rpartition(" of ")[2]) == (
        "running",
        "endless still goes on",
    )
    assert house.runs("endless")[-1]["state"] == "running"


def test_a_keeper_that_hangs_is_started_again_and_has_forgotten_nothing(kept: House) -> None:
    machine = kept.machine
    closed(machine, "gate")
    machine.wait_for(lambda: targets(kept).get(GATE, {}).get("question"), 20, "a question")
    before = targets(kept)[GATE]
    pid = shown(machine, "MainPID")
    machine.run(f"kill -STOP {pid}")
    machine.wait_for(lambda: shown(machine, "MainPID") not in (pid, "0"), 30, "systemd to start another")
    machine.wait_for(
        lambda: machine.run("rota keeper", check=False).returncode == 0, 20, "the keeper to answer"
    )
    assert "watchdog" in machine.run(f"journalctl -u {KEEPER_SERVICE} -o cat --no-pager").stdout.lower()
    after = targets(kept)[GATE]
    for key in ("question", "strikes", "since", "tried"):
        assert after[key] == before[key], key
    machine.wait_for(lambda: targets(kept)[GATE]["findings"][0]["seen"], 20, "it to be seen again")
    kinds = [one["problem"] for one in kept.json(f"keeper history {GATE}")["findings"]]
    assert kinds == ["unreachable"], "it is the same finding"


def test_who_may_do_what(kept: House) -> None:
    machine = kept.machine
    closed(machine, "gate")
    machine.wait_for(lambda: targets(kept).get(GATE, {}).get("question"), 20, "a question")
    question = targets(kept)[GATE]["question"]["id"]
    changing = (
        f"approve {question}",
        f"deny {question}",
        f"resume {GATE}",
        "maintenance 1h",
        "maintenance --end",
    )
    for verb in changing:
        refused = kept.rota(f"keeper {verb}", user="alice", code=5).stderr
        assert refused.startswith("rota: not authorised to "), refused
    for verb in ("", f"explain {GATE}", "history"):
        kept.rota(f"keeper {verb}", user="alice")
    assert targets(kept)[GATE]["question"]["by"] == ""
    assert status(kept)["maintenance"] == []
    assert "Maintenance" in kept.rota("keeper maintenance 1h unit:*", user="bob").stdout
    assert status(kept)["maintenance"][0]["by"] == "bob"
    kept.rota("keeper maintenance --end", user="bob")
    assert "is denied" in kept.rota(f"keeper deny {question}", user="bob").stdout
    journal = machine.run(f"journalctl -u {KEEPER_SERVICE} -o cat --no-pager").stdout
    assert f"bob: deny question {question}" in journal
    owning = (
        "busctl --system call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus RequestName su"
    )
    for name in ("org.rota1.Keeper", "org.rota1.Notifier"):
        taken = machine.run(f"{owning} {name} 2", user="alice", check=False)
        assert taken.returncode != 0 and "denied" in taken.stderr.lower()
    assert machine.run(f"busctl --system introspect {KEEPER}", user="alice").stdout.count(" method ") >= 10


def test_rotad_misses_it(kept: House) -> None:
    """Half a minute after it has gone, `rota list` says so, people are told; and again when it is back."""
    machine = kept.machine
    machine.run("rm -rf /run/webhook.*; install -d -m 700 /etc/rota/secrets")
    machine.write(test_notify.SECRET, f"json://127.0.0.1:{test_notify.PORT}/x\n")
    machine.write(test_notify.SETTINGS, test_notify.DECLARED)
    test_notify.serve(machine)
    try:
        kept.apply()
        assert "Home Keeper" not in kept.rota("list").stderr
        machine.run(f"systemctl stop {KEEPER_SERVICE}")
        assert kept.rota("keeper", code=4).stderr.startswith("rota: Home Keeper is not running\n")
        assert "gone" not in kept.rota("list").stderr
        machine.wait_for(
            lambda: "Home Keeper is gone since" in kept.rota("list").stderr, 60, "rotad to miss it"
        )
        assert "its service is inactive" in kept.rota("list").stderr
        # A rotad that is started meanwhile knows, and says nothing twice.
        machine.run("systemctl restart rotad")
        machine.wait_for(lambda: "Home Keeper is gone since" in kept.rota("list").stderr, 20, "rotad to know")
        machine.run(f"systemctl start {KEEPER_SERVICE}")
        machine.wait_for(lambda: "gone" not in kept.rota("list").stderr, 20, "rotad to see it")
        kinds = [
            json.loads(line)["kind"]
            for line in kept.rota("--json events home-keeper").stdout.splitlines()
            if '"keeper-' in line
        ]
        assert kinds == ["keeper-lost", "keeper-back"]
        titles = test_notify.titles
        machine.wait_for(lambda: len(titles(machine)) >= 1, 30, "people to be told")
        machine.wait_for(
            lambda: "is back" in " ".join(titles(machine)), 30, "people to be told that it is back"
        )
        assert "Home Keeper needs a person: it is gone" in titles(machine)[0]
    finally:
        machine.run(f"rm -rf {test_notify.SETTINGS} /etc/rota/secrets")
        kept.apply()
        machine.run("systemctl stop webhook; rm -rf /var/lib/rota-notify /run/webhook.*", check=False)


def test_one_that_ends_again_and_again_is_missed(kept: House) -> None:
    """It is there for most of the time, and never away for as long as rotad waits."""
    machine = kept.machine

    def process() -> str:
        found = machine.run(f"systemctl show --value -p MainPID {KEEPER_SERVICE}").stdout.strip()
        active = machine.run(f"systemctl is-active {KEEPER_SERVICE}", check=False).stdout
        return found if active == "active\n" else ""

    def restarts() -> int:
        return int(machine.run(f"systemctl show --value -p NRestarts {KEEPER_SERVICE}").stdout)

    machine.run(f"systemctl restart {KEEPER_SERVICE}")
    assert "gone" not in kept.rota("list").stderr
    for number in range(1, 4):
        assert machine.run(f"kill -9 {process()}").returncode == 0
        machine.wait_for(lambda n=number: restarts() == n and process(), 20, "it to be started again")  # type: ignore[misc]
    machine.wait_for(lambda: "Home Keeper is gone since" in kept.rota("list").stderr, 10, "rotad to miss it")
    assert "it ends again and again" in kept.rota("list").stderr
    machine.run(f"systemctl restart {KEEPER_SERVICE}")
    machine.wait_for(lambda: "gone" not in kept.rota("list").stderr, 20, "rotad to see it")


def test_disabled_is_not_missed(house: House) -> None:
    assert "Home Keeper" not in house.rota("list").stdout
    assert house.rota("keeper", code=4).stderr.startswith(
        "rota: Home Keeper is not enabled\nDeclare [keeper]"
    )
    shown_ = house.machine.run(
        "busctl call --json=short org.rota1 /org/rota1 org.rota1.Manager Keeper"
    ).stdout
    assert json.loads(shown_)["data"][0] == {
        name: {"type": "b", "data": False} for name in ("enabled", "lost")
    }
    assert KEEPER_INTERFACE not in house.machine.run("busctl list --no-pager").stdout
