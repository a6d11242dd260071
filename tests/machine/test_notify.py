"""Telling people on a booted machine: from a failing agent to a webhook, whoever is killed or away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.house import House
from tests.machine.machine import Machine

SERVICE = "rotad-notify.service"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/50-rota.conf"
SETTINGS, SECRET, GOT = "/etc/rota/rota.toml", "/etc/rota/secrets/ops-url", "/run/webhook.got"
TOKEN = "t0ken-of-mine"  # noqa: S105  (of nobody's)
PORT = 7790
DECLARED = f"""
[channels.ops]
url = "{SECRET}"

[[routes]]
channels = ["ops"]
on = ["failure", "recovery", "missed", "escalation"]
group = "1s"
"""
BAD = 'command = ["/bin/sh", "-c", "echo looking; echo the disk is full; exit 3"]\n'
FICKLE = 'command = ["/bin/sh", "-c", "test -e /run/well || { echo not well; exit 1; }"]\n'
SLOW = "/run/webhook.slow"


def serve(machine: Machine, seconds: float = 0) -> None:
    machine.write("/run/webhook.py", Path(__file__).with_name("webhook.py").read_text(encoding="utf-8"))
    machine.run("systemctl stop webhook.service", check=False)
    machine.run(
        f"systemd-run --quiet --unit webhook python3 /run/webhook.py {PORT} {GOT} {seconds};"
        f"until curl --silent http://127.0.0.1:{PORT} >/dev/null; do sleep 0.1; done"
    )


def got(machine: Machine) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in machine.run(f"cat {GOT} 2>/dev/null", check=False).stdout.splitlines()
    ]


def titles(machine: Machine) -> list[str]:
    return [one["title"].partition("] ")[2] for one in got(machine)]


def came(machine: Machine, count: int = 1, timeout: float = 20) -> list[dict[str, Any]]:
    machine.wait_for(lambda: len(got(machine)) >= count, timeout, f"{count} messages")
    return got(machine)


def show(machine: Machine, name: str) -> str:
    return machine.run(["systemctl", "show", "-P", name, SERVICE]).stdout.strip()


@pytest.fixture
def told(house: House) -> Iterator[House]:
    """A channel to a webhook in the machine, and a route for all that fails."""
    machine = house.machine
    machine.run("rm -rf /run/webhook.* /run/well; install -d -m 700 /etc/rota/secrets")
    machine.write(SECRET, f"json://127.0.0.1:{PORT}/{TOKEN}\n")
    machine.run(f"chmod 600 {SECRET}")
    machine.write(SETTINGS, DECLARED)
    serve(machine)
    house.apply()
    yield house
    house.clear()
    machine.run(f"rm -rf {SETTINGS} /etc/rota/secrets; systemctl start rotad")
    house.apply()
    machine.run("systemctl stop webhook; rm -rf /var/lib/rota-notify /run/webhook.*", check=False)


def test_not_there_by_default(house: House) -> None:
    house.apply()
    assert not house.machine.exists(DROP_IN)
    assert show(house.machine, "ActiveState") == "inactive"
    said = house.rota("notify", code=4).stderr
    assert said.startswith("rota: rotad-notify is not running\n")


def test_a_failure_is_one_message_that_one_can_act_on(told: House) -> None:
    told.declare("bad", BAD)
    told.rota("run bad --wait", code=3)
    (run,) = told.said("bad")
    (message,) = came(told.machine)
    assert message["title"].startswith("[rota-test] bad failed: exit status 3 after ")
    assert "Output:\n  looking\n  the disk is full\n" in message["message"]
    (command,) = [
        line.partition("See:")[2].strip() for line in message["message"].splitlines() if "See:" in line
    ]
    assert command == f"rota logs {run['id'][:12]}"
    assert "the disk is full" in told.machine.run(command).stdout
    time.sleep(2)
    assert len(got(told.machine)) == 1


KEEPER = """
[keeper]
enable = true
[keeper.targets."unit:flaps.service"]
strikes = ["act", "act", "act", "act", "escalate"]
attempts = 4
settle = "4s"
cooldown = "100ms"
growth = 1
[keeper.targets."unit:asked.service"]
mode = "ask"
strikes = ["act", "escalate"]
settle = "4s"
"""
FLAPS = r"""[Service]
ExecStart=/bin/sh -c 'printf "line \\033[31mone\\033[0m\\n\\007last words %%s\\n" $$(date +%%s); \
  test -e /run/well && exec sleep 1000; sleep 0.5; exit 3'
"""


def test_what_flaps_is_told_once_with_its_output_and_questions_are_told(told: House) -> None:
    machine = told.machine
    machine.write(SETTINGS, DECLARED + KEEPER)
    machine.write("/etc/systemd/system/flaps.service", FLAPS)
    machine.write("/etc/systemd/system/asked.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    machine.run("systemctl daemon-reload")
    told.apply()
    machine.wait_for(lambda: machine.run("rota keeper", check=False).returncode == 0, 20, "the keeper")
    machine.run("systemctl start flaps.service")
    machine.wait_for(
        lambda: len(told.json("keeper")["remedies"]) >= 2, 30, "it to be restarted, and to fail again"
    )
    machine.run("touch /run/well; systemctl restart flaps.service")
    machine.wait_for(lambda: "is well again" in " ".join(titles(machine)), 30, "the recovery to be told")
    assert titles(machine) == [
        "unit:flaps.service failed: it exited with status 3",
        "unit:flaps.service is well again",
    ]
    failed, well = (one["message"] for one in got(machine))
    assert "Output:\n  line one\n  last words " in failed
    assert "Look:   journalctl -u flaps.service" in failed
    assert "Was:    failed: it exited with status 3" in well
    machine.run("systemctl start asked.service; systemctl kill -s KILL asked.service")
    machine.wait_for(lambda: "approve" in str(got(machine)), 30, "the question to be told")
    (approve,) = {
        line.partition(" ")[2].strip()
        for one in got(machine)
        for line in one["message"].splitlines()
        if line.startswith("Answer:")
    }
    assert approve.startswith("rota keeper approve ")
    machine.run(approve)
    machine.wait_for(lambda: "asked.service is well again" in str(got(machine)), 30, "it to be well")
    assert machine.run("systemctl is-active asked.service").stdout == "active\n"
    machine.run("systemctl stop flaps asked; rm /etc/systemd/system/{flaps,asked}.service")
    machine.run("systemctl daemon-reload; systemctl reset-failed", check=False)


def test_recovery_and_what_the_agent_says_itself(told: House) -> None:
    machine = told.machine
    machine.write(SETTINGS, DECLARED.partition("[[routes]]")[0])
    told.declare("fickle", FICKLE + 'notify = { channels = ["ops"] }\n')
    told.declare("bad", BAD)
    told.rota("run fickle --wait", code=1)
    told.rota("run bad --wait", code=3)
    machine.run("touch /run/well")
    told.rota("run fickle --wait")
    told.said("fickle", 2)
    # The routes of agents have half a minute to be grouped.
    (message,) = came(machine, timeout=50)
    assert "1 failure, 1 recovery: fickle" in message["title"]
    assert "fickle is well again, after 1 failure in" in message["message"]


def test_forty_failures_are_one_message(told: House) -> None:
    machine = told.machine
    machine.write(SETTINGS, DECLARED.replace('"1s"', '"8s"'))
    for number in range(20):
        told.declare(f"bad-{number}", BAD, apply=False)
    told.apply()
    for _ in range(2):
        machine.run("systemctl start 'rota-bad-'{0..19}.service", check=False)
    came(machine)
    time.sleep(9)
    (message,) = got(machine)
    assert "40 failures: " in message["title"]
    assert "and 17 more" in message["title"]


def test_killed_between_filing_and_sending(told: House) -> None:
    machine = told.machine
    told.declare("bad", BAD)
    machine.run("touch /run/webhook.fails")
    told.rota("run bad --wait", code=3)
    machine.wait_for(lambda: told.json("notify")["messages"], 15, "a message to be made")
    for _ in range(3):
        machine.run(f"systemctl kill --signal KILL {SERVICE}; systemctl reset-failed {SERVICE}")
        machine.wait_for(lambda: show(machine, "ActiveState") == "active", 15, "it to come back")
    assert got(machine) == []
    machine.run("rm /run/webhook.fails")
    came(machine, timeout=60)
    time.sleep(2)
    (message,) = got(machine)
    assert "the disk is full" in message["message"]
    assert told.json("notify")["messages"][0]["state"] == "sent"


def test_killed_while_it_sends(told: House) -> None:
    """At most doubled: the message was out, but nobody had noted it."""
    machine = told.machine
    serve(machine, seconds=3)
    told.declare("bad", BAD)
    told.rota("run bad --wait", code=3)
    machine.wait_for(
        lambda: [one for one in told.json("notify")["messages"] if one["attempts"]], 15, "it to be sent"
    )
    time.sleep(1)
    machine.run(f"systemctl kill --signal KILL {SERVICE}")
    machine.wait_for(
        lambda: (
            (told.json("notify")["messages"] or [{}])[0].get("state") == "sent"
            if show(machine, "ActiveState") == "active"
            else False
        ),
        30,
        "it to be sent again",
    )
    messages = got(machine)
    assert len(messages) in (1, 2)
    assert "This may be the second time" in messages[-1]["message"]


def test_rotad_is_away(told: House) -> None:
    machine = told.machine
    told.declare("bad", BAD)
    machine.run("systemctl stop rotad")
    machine.run("systemctl start rota-bad.service", check=False)
    time.sleep(1)
    assert got(machine) == []
    assert machine.run("systemctl is-active rotad", check=False).stdout.strip() == "inactive", (
        "it was started"
    )
    machine.run("systemctl start rotad")
    (message,) = came(machine)
    assert "bad failed" in message["title"]
    # And now the other is.
    machine.run(f"systemctl stop {SERVICE}")
    machine.run("systemctl start rota-bad.service", check=False)
    told.said("bad", 2)
    machine.run(f"systemctl start {SERVICE}")
    assert "for the 2nd time in a row" in came(machine, 2)[1]["title"]


def test_a_channel_that_is_down_for_a_while(told: House) -> None:
    machine = told.machine
    told.declare("faulty", BAD)
    machine.run("systemctl stop webhook")
    for _ in range(3):
        told.rota("run faulty --wait", code=3)
        time.sleep(1)
    machine.wait_for(lambda: told.json("notify")["channels"][0]["error"], 20, "it to fail")
    text = told.rota("notify").stdout
    assert "not sent, attempt" in text
    assert TOKEN not in text
    serve(machine)
    machine.wait_for(lambda: told.json("notify")["channels"][0]["waiting"] == 0, 60, "all to be sent")
    told_of = "".join(one["message"] for one in got(machine))
    assert all(run["id"][:12] in told_of for run in told.runs("faulty"))
    journal = machine.run(f"journalctl -u {SERVICE} -o cat --no-pager").stdout
    assert "was not sent" in journal
    assert TOKEN not in journal


def test_who_may_ask_and_test(told: House) -> None:
    machine = told.machine
    assert told.rota("notify test ops", user="bob").stdout.startswith("Sent to ops in ")
    assert titles(machine) == ["test of the channel ops"]
    assert "nothing sent yet" in told.rota("notify", user="bob").stdout
    for verb in ("notify", "notify test ops"):
        refused = told.rota(verb, user="alice", code=5).stderr
        assert refused.startswith(
            "rota: not authorised to ask who is told what\nRoot and members of the group"
        )
    assert told.rota("notify test oops", code=3).stderr == "rota: no such channel: oops\nThere are ops.\n"
    assert told.rota("notify test", code=2).stderr.startswith("rota: which channel?")
    machine.run("touch /run/webhook.fails")
    failed = told.rota("notify test ops", code=1).stderr
    assert "503" in failed
    assert TOKEN not in failed


def test_of_a_users_own_agents(machine: Machine) -> None:
    home = "/home/alice"

    def alice(command: str, code: int = 0) -> str:
        done = machine.run(["sh", "-c", command], user="alice", check=False)
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    machine.linger("alice")
    machine.run("rm -rf /run/webhook.*")
    serve(machine)
    alice("mkdir -p ~/.config/rota/agents.d")
    for path, text in (
        (f"{home}/url", f"json://127.0.0.1:{PORT}/{TOKEN}\n"),
        (f"{home}/.config/rota/rota.toml", DECLARED.replace(SECRET, f"{home}/url")),
        (f"{home}/.config/rota/agents.d/bad.toml", BAD),
    ):
        machine.run(["sh", "-c", f"cat > {path}"], user="alice", input=text)
    alice("systemctl --user start rotad")
    assert "People are told by ops." in alice("rota --user apply")
    alice("rota --user run bad --wait", code=3)
    (message,) = came(machine)
    assert "Output:\n  looking\n  the disk is full\n" in message["message"]
    assert "See:    rota --user logs " in message["message"]
    alice("rota --user notify test ops")
    alice("rm -r ~/.config/rota/* && rota --user apply && systemctl --user stop rotad")
    assert alice("systemctl --user is-active rotad-notify || true").strip() == "inactive"
    assert alice("ls ~/.config/systemd/user | grep -c notify || true").strip() == "0"


def test_least_privilege(told: House) -> None:
    machine = told.machine
    score = machine.run(["systemd-analyze", "security", "--no-pager", SERVICE]).stdout.split()[-3:]
    exposure = float(next(word for word in score if word.replace(".", "").isdigit()))
    print(f"exposure of {SERVICE}: {exposure}")
    assert exposure <= 2.0
    assert show(machine, "OOMPolicy") == "continue", "a message that takes too much memory ends alone"
    pid = show(machine, "MainPID")
    assert machine.run(["stat", "-c", "%U", f"/proc/{pid}"]).stdout.strip() == "rota-notify"
    assert machine.run("stat -c '%U %a' /var/lib/rota-notify").stdout.split() == ["rota-notify", "700"]
    for secret in (SECRET, f"/run/credentials/{SERVICE}/channel.ops"):
        assert machine.run(["cat", secret], user="bob", check=False).returncode != 0
        assert TOKEN in machine.run(["cat", secret]).stdout
    assert TOKEN not in machine.run(["systemctl", "cat", SERVICE]).stdout
    # Nobody of the group rota may silence it as one may stop an agent.
    assert machine.run(["systemctl", "stop", SERVICE], user="bob", check=False).returncode != 0


def test_settings_come_change_and_go(told: House) -> None:
    machine = told.machine
    first = show(machine, "MainPID")
    assert "Nothing changed" in told.apply()
    assert show(machine, "MainPID") == first
    machine.write(SETTINGS, DECLARED + '[channels.gone]\nurl = "/etc/rota/secrets/nothing"\n')
    assert "People are told by gone, ops." in told.apply()
    assert show(machine, "MainPID") not in (first, "0")
    assert told.rota("notify test ops").stdout.startswith("Sent to ops")
    assert "was not there, or is empty" in told.rota("notify test gone", code=1).stderr
    machine.run(f"rm {SETTINGS}")
    assert "Nobody is told any more." in told.apply()
    assert show(machine, "ActiveState") == "inactive"
    assert not machine.exists(DROP_IN)
