"""What runs say: first and last lines, results by any of three ways, and what is no result."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.machine.house import House
from tests.machine.machine import Machine
from tests.machine.test_late import journald
from tests.machine.test_user import alice, declare

__all__ = ["alice"]


def said(house: House, name: str, program: str, more: str = "", *, code: int = 0) -> dict[str, Any]:
    """Run a shell program as an agent, and return its run when what it said is filed."""
    house.declare(name, f"command = {json.dumps(['/bin/bash', '-c', program])}\n{more}")
    house.rota(f"run {name} --wait", code=code)
    return house.said(name)[-1]


def outcome(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run.get(name) for name in ("first_line", "last_line", "result", "result_error")}


NOTHING = {"first_line": None, "last_line": None, "result": None, "result_error": None}


def test_lines_and_a_result_among_them(house: House) -> None:
    program = r"""echo; printf '\e[31mred\e[0m\n'; echo 'ROTA_RESULT={"n": 1}'"""
    program += """; echo 'ROTA_RESULT={"n": 2}'; echo end >&2"""
    run = said(house, "says", program)
    assert outcome(run) == NOTHING | {"first_line": "red", "last_line": "end", "result": {"n": 2}}
    shown = house.rota(f"show {run['id']}").stdout
    assert 'ROTA_RESULT: {"n":2}' in shown
    assert "First line: red" in shown
    exported = json.loads(house.rota("export says").stdout.splitlines()[0])
    assert exported == run
    (told,) = [
        json.loads(line)
        for line in house.rota("--json events says").stdout.splitlines()
        if '"kind": "output"' in line
    ]
    assert told["data"] == {"first_line": "red", "last_line": "end", "result": '{"n":2}'}
    replied = house.machine.run(
        f"busctl -j call org.rota1 /org/rota1 org.rota1.Manager GetRun s {run['id']}"
    ).stdout
    assert json.loads(replied)["data"][0]["result"] == {"type": "s", "data": '{"n":2}'}


def test_a_failed_run_has_the_last_word(house: House) -> None:
    run = said(house, "fails", "echo begun; echo no route to host >&2; exit 3", code=3)
    assert (run["state"], run["last_line"]) == ("failed", "no route to host")
    assert "Last line: no route to host" in house.rota("show fails").stdout
    missing = house.once("says-missing", 'command = ["/usr/bin/no-such-program"]')
    assert missing["status"] == 203
    assert "No such file or directory" in house.said("says-missing")[0]["last_line"]


def test_a_run_that_says_nothing(house: House) -> None:
    run = said(house, "mute", "exit 0")
    assert outcome(run) == NOTHING
    assert run["output_filed"] is True


def test_a_result_in_a_journal_entry(house: House) -> None:
    program = "import systemd.journal as j; j.send('looked', ROTA_RESULT='{\"found\": [1, 2]}')"
    run = said(house, "logs-it", f'python3 -c "{program.replace(chr(34), chr(92) + chr(34))}"')
    assert outcome(run) == {
        "first_line": "looked",
        "last_line": "looked",
        "result": {"found": [1, 2]},
        "result_error": None,
    }


FILE = "result_file = true\n"
IN_FILE: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("""printf '{\n "n":\t3\n}\n' >$ROTA_RESULT_FILE""", {"result": {"n": 3}}),
    "none": ("test -d ${ROTA_RESULT_FILE%/*}", {}),
    "empty": (": >$ROTA_RESULT_FILE", {"result_error": "Expecting value: line 1 column 1 (char 0)"}),
    "list": ("echo '[1]' >$ROTA_RESULT_FILE", {"result_error": "not a JSON object"}),
    "large": (
        "printf '{%20000s}' '' >$ROTA_RESULT_FILE; truncate -s 10G $ROTA_RESULT_FILE",
        {"result_error": "longer than 16 KiB"},
    ),
    "fifo": ("mkfifo $ROTA_RESULT_FILE", {}),
    "link": ("ln -s /etc/passwd $ROTA_RESULT_FILE", {}),
    "device": ("ln -s /dev/zero $ROTA_RESULT_FILE", {}),
    "directory": ("mkdir $ROTA_RESULT_FILE", {}),
    "closed": (
        "echo '{}' >$ROTA_RESULT_FILE; chmod 0 $ROTA_RESULT_FILE",
        {"result_error": "Expecting value: line 1 column 1 (char 0)"},
    ),
    "gone": ("rm -r ${ROTA_RESULT_FILE%/*} 2>/dev/null || exit 0", {}),
    "longest": (
        r"""printf '{"x": "%s"}' $(head -c 16375 /dev/zero | tr '\0' x) >$ROTA_RESULT_FILE""",
        {"result": {"x": "x" * 16375}},
    ),
}


@pytest.mark.parametrize("name", IN_FILE)
def test_a_result_in_a_file(house: House, name: str) -> None:
    program, expected = IN_FILE[name]
    run = said(house, f"file-{name}", f"echo begun; {program}", FILE)
    assert run["state"] == "succeeded"
    assert outcome(run) == NOTHING | {"first_line": "begun", "last_line": "begun"} | expected
    assert run["took"] < 5_000_000
    left = house.machine.run("ls /run/rota-agents /run/private/rota-agents", check=False).stdout
    assert name not in left.replace("file-", "")


def test_a_result_of_a_run_that_was_ended(house: House) -> None:
    program = """echo '{"half": true}' >$ROTA_RESULT_FILE; exec sleep 60"""
    house.declare("ended", f"command = {json.dumps(['/bin/bash', '-c', program])}\ntimeout = '1s'\n{FILE}")
    house.rota("run ended --wait", code=124)
    (run,) = house.said("ended")
    assert (run["state"], run["reason"], run["result"]) == ("timed-out", "timeout", {"half": True})


def test_the_end_of_many_lines(house: House) -> None:
    """Within journald's rate limit; and it was behind for a while."""
    pid = journald(house.machine)
    house.declare("chatty", 'command = ["/bin/sh", "-c", "seq 9000"]\n')
    house.machine.run(f"kill -STOP {pid}; systemctl start rota-chatty.service; sleep 0.5; kill -CONT {pid}")
    (run,) = house.said("chatty")
    assert (run["first_line"], run["last_line"]) == ("1", "9000")


def test_nobody_speaks_for_another(house: House) -> None:
    run = said(house, "honest-too", "echo mine")
    forged = (
        "import systemd.journal as j; "
        f"j.send('theirs', _SYSTEMD_INVOCATION_ID='{run['id']}', INVOCATION_ID='{run['id']}', "
        "UNIT='rota-honest-too.service', ROTA_AGENT='honest-too', ROTA_RESULT='{\"forged\": 1}')"
    )
    house.machine.run(["python3", "-c", forged], user="alice")
    house.machine.run(["python3", "-c", forged])
    pid = house.machine.run("systemctl show -P MainPID rotad.service").stdout.strip()
    house.machine.run(f"kill -STOP {pid}; systemctl start rota-honest-too.service")
    house.machine.run(["python3", "-c", forged.replace(run["id"], "0" * 32)])
    house.machine.run(f"kill -CONT {pid}")
    first, second = house.said("honest-too", 2)
    assert first == run
    assert outcome(second) == outcome(run)


def test_killed_before_it_could_look(house: House) -> None:
    house.declare("unheard", 'command = ["/bin/sh", "-c", "echo heard $INVOCATION_ID"]\n')
    house.machine.run("systemctl stop rotad.service")
    house.machine.run("for i in $(seq 12); do systemctl start rota-unheard.service; done")
    house.machine.run(
        "for i in 1 2 3 4 5 6; do systemctl start rotad; sleep 0.4; systemctl kill -s KILL rotad; done"
    )
    house.machine.run("systemctl start rotad.service")
    runs = house.said("unheard", 12)
    assert [run["last_line"] for run in runs] == [f"heard {run['id']}" for run in runs]
    told = [json.loads(line) for line in house.rota("--json events unheard").stdout.splitlines()]
    counts = [sum(event["kind"] == "output" and event["run"] == run["id"] for event in told) for run in runs]
    assert counts == [1] * 12


def test_bytes_over_the_network(house: House) -> None:
    """Over the loopback, which is counted both ways."""
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection("
        "s.getsockname()); a, _ = s.accept(); c.sendall(b'x' * 50_000); c.close(); "
        "n = 0\nwhile d := a.recv(65536): n += len(d)\nprint(n)"
    )
    command = f"command = {json.dumps(['/usr/bin/python3', '-c', program])}\n"
    run = house.once("online", f"{command}[sandbox]\nnetwork = true\n")
    assert run["state"] == "succeeded"
    assert 50_000 < run["net_in"] < 100_000
    assert 50_000 < run["net_out"] < 100_000
    shown = house.rota(f"show {run['id']}").stdout
    assert "Received: 5" in shown.replace("Received: 4", "Received: 5")
    offline = house.once("offline", 'command = ["/bin/true"]\n')
    assert "net_in" not in offline


@pytest.mark.usefixtures("alice")
def test_of_a_users_own_manager(machine: Machine) -> None:
    program = """echo said; echo '{"n": 4}' >$ROTA_RESULT_FILE"""
    declare(machine, "tells", f"command = {json.dumps(['/bin/bash', '-c', program])}\n{FILE}")
    machine.run("rota --user run tells --wait", user="alice", check=False)

    def told() -> Any:
        (run,) = json.loads(machine.run("rota --user --json runs tells", user="alice").stdout)
        return run if run["output_filed"] else None

    run = machine.wait_for(told, 10, "what it said to be filed")
    assert run is not None
    assert (run["first_line"], run["result"]) == ("said", {"n": 4})
