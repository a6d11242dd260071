"""Every way a run can end, as systemd on a booted machine ends it and rota records it."""

from __future__ import annotations

import pytest

from tests.machine.house import House

# declaration, then what is recorded of the run
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "ok": ('command = ["/bin/true"]', {"state": "succeeded", "status": 0}),
    "exit": (
        'command = ["/bin/sh", "-c", "exit 3"]',
        {"state": "failed", "reason": "exit-code", "status": 3},
    ),
    "timeout": (
        'command = ["/bin/sleep", "60"]\ntimeout = "1s"',
        {"state": "timed-out", "reason": "timeout"},
    ),
    "signal": (
        'command = ["/bin/sh", "-c", "kill -ABRT $$"]',
        {"state": "killed", "signal": "SIGABRT"},
    ),
    # systemd calls this one a success
    "term": (
        'command = ["/bin/sh", "-c", "kill -TERM $$"]',
        {"state": "killed", "signal": "SIGTERM", "reason": "signal"},
    ),
    "watchdog": (
        'command = ["/bin/sleep", "60"]\n[sandbox]\nunit = { WatchdogSec = "1s" }',
        {"state": "timed-out", "reason": "watchdog", "signal": "SIGABRT"},
    ),
    "start-pre": (
        'command = ["/bin/true"]\n[sandbox]\nunit = { ExecStartPre = "/bin/false" }',
        {"state": "failed", "reason": "exit-code"},
    ),
    "missing": (
        'command = ["/usr/bin/no-such-program"]',
        {"state": "failed", "status": 203, "status_name": "EXEC"},
    ),
    "nouser": (
        'command = ["/bin/true"]\n[sandbox]\nuser = "nobody-here"',
        {"state": "failed", "status": 217, "status_name": "USER"},
    ),
    "namespace": (
        'command = ["/bin/true"]\n[sandbox]\nwritable = ["/no/such/place"]',
        {"state": "failed", "status": 226, "status_name": "NAMESPACE"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_how_a_run_ends(house: House, name: str) -> None:
    declaration, expected = CASES[name]
    run = house.once(f"ends-{name}", declaration)
    assert {key: run.get(key) for key in expected} == expected
    assert run["agent"] == f"ends-{name}"
    assert run["trigger"] == "manual"
    assert run["attempt"] == 1
    assert run["started"] <= run["ended"]
    shown = house.machine.run(f"systemctl show -P InvocationID rota-ends-{name}.service").stdout.strip()
    assert run["id"] == shown


# a drop-in, then what is recorded of a start that came to nothing
REFUSED = {
    "dependency": (
        "[Unit]\nRequires=broken.service\nAfter=broken.service\n",
        {"state": "failed", "reason": "dependency"},
    ),
    "condition": (
        "[Unit]\nConditionPathExists=/no/such\n",
        {"state": "skipped", "reason": "ConditionPathExists=/no/such"},
    ),
    "assert": ("[Unit]\nAssertPathExists=/no/such\n", {"state": "failed", "reason": "assert"}),
    "exec-condition": (
        "[Service]\nExecCondition=/bin/false\n",
        {"state": "skipped", "reason": "exec-condition"},
    ),
    "start-limit": (
        "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=1\n",
        {"state": "skipped", "reason": "start-limit-hit"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_why_nothing_ran(house: House, name: str) -> None:
    drop_in, expected = REFUSED[name]
    agent, machine = f"refused-{name}", house.machine
    house.declare(agent, 'command = ["/bin/true"]\n')
    directory = f"/run/systemd/system/rota-{agent}.service.d"
    machine.run(["mkdir", "-p", directory])
    machine.write(f"{directory}/refuse.conf", drop_in)
    machine.write("/run/systemd/system/broken.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
    starts = 2 if name == "start-limit" else 1
    try:
        machine.run("systemctl daemon-reload")
        for _ in range(starts):
            machine.run(f"systemctl start rota-{agent}.service", check=False)
        run = house.said(agent, starts)[-1]
    finally:
        machine.run(f"rm -r {directory} /run/systemd/system/broken.service; systemctl daemon-reload")
    assert {key: run.get(key) for key in expected} == expected
    assert "pid" not in run


def test_what_a_run_used(house: House) -> None:
    run = house.once("busy", 'command = ["/usr/bin/python3", "-c", "sum(range(10**7))"]')
    assert run["cpu_usec"] > 100_000
    took = run["ended"] - run["started"]
    assert run["cpu_usec"] < 2 * took + 1_000_000


def test_a_timer_is_told_from_a_person(house: House) -> None:
    house.declare("soon", 'command = ["/bin/true"]\nschedule = { every = "1h", after_boot = "1s" }')
    (by_timer,) = house.settled("soon")
    house.rota("run soon", user="bob")
    by_person = house.settled("soon", 2)[1]
    assert by_timer["trigger"] == "timer"
    assert (by_person["trigger"], by_person["requested_by"]) == ("person", "bob")


def test_wait_streams_and_passes_the_exit_status_on(house: House) -> None:
    house.declare("talks", 'command = ["/bin/sh", "-c", "echo one; sleep 0.3; echo two >&2; exit 42"]')
    done = house.rota("run talks --wait", code=42)
    assert done.stdout == "one\ntwo\n"
    assert "failed exit 42" in done.stderr


def test_wait_on_a_timeout_and_a_signal(house: House) -> None:
    house.declare("late", 'command = ["/bin/sleep", "9"]\ntimeout = "1s"')
    house.declare("dies", 'command = ["/bin/sh", "-c", "kill -KILL $$"]')
    house.rota("run late --wait", code=124)
    house.rota("run dies --wait", code=128 + 9)


def test_stop_says_who(house: House) -> None:
    house.declare("stopped", 'command = ["/bin/sleep", "60"]')
    house.rota("run stopped")
    house.rota("run stopped", code=1)
    house.rota("stop stopped", user="bob")
    house.rota("stop stopped", code=1)
    (run,) = house.settled("stopped")
    assert (run["state"], run["reason"], run["stopped_by"]) == ("killed", "stopped", "bob")


def test_nothing_survives_a_run(house: House) -> None:
    house.once(
        "leaves",
        'command = ["/bin/sh", "-c", "setsid sleep 4321 & setsid nohup sleep 4321 & sleep 0.2"]',
    )
    house.machine.wait_for(
        lambda: house.machine.run("pgrep -fx 'sleep 4321'", check=False).returncode == 1, 5, "children to die"
    )


def test_paused_is_held_by_systemd_itself(house: House) -> None:
    house.declare("resting", 'command = ["/bin/true"]\nschedule = { every = "1s" }')
    house.settled("resting")
    house.rota("pause resting --why 'too loud'")
    house.machine.run("systemctl stop rotad.service")
    before = house.machine.run("systemctl show -P InvocationID rota-resting.service").stdout
    house.machine.run("sleep 2.5")
    assert house.machine.run("systemctl show -P InvocationID rota-resting.service").stdout == before
    house.machine.run("systemctl start rotad.service")
    house.machine.wait_for(
        lambda: "skipped" in [run["state"] for run in house.runs("resting")], 5, "a skipped slot"
    )
    skipped = next(run for run in house.runs("resting") if run["state"] == "skipped")
    assert skipped["reason"] == "paused"
    house.rota("run resting", code=1)
    listed = next(agent for agent in house.json("list") if agent["name"] == "resting")
    assert (listed["paused"], listed["paused_why"]) == (True, "too loud")
    house.rota("resume resting")
    house.rota("resume resting", code=1)
    house.machine.wait_for(lambda: house.runs("resting")[-1]["state"] == "succeeded", 5, "a run again")


def test_credentials_and_environment(house: House) -> None:
    house.machine.write("/root/key", "hush\n", 0o600)
    program = "cat $CREDENTIALS_DIRECTORY/api-key; echo $ROTA_AGENT $ROTA_ATTEMPT $GREETING; pwd"
    house.declare(
        "knows",
        f'command = ["/bin/sh", "-c", "{program}"]\ncredentials = {{ api-key = "/root/key" }}\n'
        'environment = { GREETING = "a $b %c \\"d\\"" }\n',
    )
    done = house.rota("run knows --wait")
    assert done.stdout == 'hush\nknows 1 a $b %c "d"\n/var/lib/private/rota-agents/knows\n'
    assert "hush" not in house.machine.run("systemctl cat rota-knows.service").stdout


def test_arguments_arrive_as_they_were_written(house: House) -> None:
    nasty = [
        "a b",
        "q\"u'o",
        "back\\slash",
        "$HOME ${X}",
        "%n %%",
        ";",
        "tab\there",
        "new\nline",
        "é…",
        "-x",
        "",
    ]
    listed = ", ".join(
        "'''" + word + "'''" if "'" in word else _basic(word) for word in nasty if "'" not in word
    )
    expected = [word for word in nasty if "'" not in word]
    program = '"import sys; sys.stdout.write(repr(sys.argv[1:]))"'
    house.declare("exact", f'command = ["/usr/bin/python3", "-c", {program}, {listed}]')
    done = house.rota("run exact --wait")
    assert done.stdout.strip() == repr(expected)


def _basic(word: str) -> str:
    """Write a word as a TOML basic string."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(char, char) for char in word) + '"'


def test_logs_of_a_run_and_of_an_agent(house: House) -> None:
    house.declare("writes", 'command = ["/bin/sh", "-c", "echo number $RANDOM_WORD first"]')
    house.rota("run writes --wait")
    house.rota("run writes --wait")
    first, second = house.settled("writes", 2)
    one = house.rota(f"logs {first['id'][:10]}").stdout
    both = house.rota("logs writes").stdout
    assert one.count("first") == 1
    assert both.count("first") == 2
    assert second["id"] != first["id"]
    house.rota("logs nothing-of-that-name", code=3)
    house.rota("show ffffffffffff", code=3)
    house.rota("runs nothing-of-that-name", code=3)


def test_bundled_agents_work(house: House) -> None:
    house.machine.write("/etc/rota/rota.toml", 'bundled = ["disk-report", "journal-digest"]\n')
    try:
        house.apply()
        house.machine.run("logger -p user.err --id=77 'the sky is falling'", check=False)
        disks = house.rota("run disk-report --wait")
        digest = house.rota("run journal-digest --wait")
    finally:
        house.machine.run("rm /etc/rota/rota.toml")
    assert "MOUNT POINT" in disks.stdout
    assert "\n/ " in disks.stdout
    assert "the sky is falling" in digest.stdout
    results = house.machine.run(
        "journalctl -a -o cat --output-fields=ROTA_RESULT ROTA_AGENT=disk-report"
    ).stdout
    assert '"filesystems"' in results or '"mounts"' in results or "mount_point" in results
