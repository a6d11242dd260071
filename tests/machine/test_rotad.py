"""rotad and its record: killed, stopped, damaged, full, and the journal rotated under it."""

from __future__ import annotations

import pytest

from tests.machine.house import OVER, House

LINE = 'command = ["/bin/sh", "-c", "echo $INVOCATION_ID >> $STATE_DIRECTORY/runs; {then}"]\n'


def own_account(house: House, agent: str) -> list[str]:
    """Return the ids of an agent's runs as it wrote them down itself, in order."""
    return house.machine.read(f"/var/lib/rota-agents/{agent}/runs").split()


def recorded(house: House, agent: str) -> list[str]:
    return [run["id"] for run in house.runs(agent) if run["state"] != "skipped"]


def kill(house: House) -> None:
    house.machine.run("systemctl kill -s KILL rotad.service")


def back(house: House) -> None:
    house.machine.wait_for("busctl status org.rota1 >/dev/null", 10)


def test_killed_in_the_middle_of_a_run(house: House) -> None:
    house.declare("middle", LINE.format(then="sleep 1.5; exit 9"))
    house.rota("run middle", user="bob")
    kill(house)
    back(house)
    (run,) = house.settled("middle")
    assert (run["state"], run["status"], run["requested_by"]) == ("failed", 9, "bob")
    assert run["cpu_usec"] > 0
    assert recorded(house, "middle") == own_account(house, "middle")


def test_what_happens_without_rotad_is_recorded_after(house: House) -> None:
    house.declare("alone", LINE.format(then="exit 0") + 'schedule = { every = "1s" }')
    house.machine.run("systemctl stop rotad.service")
    listed = house.rota("list")
    assert "rotad is not running" in listed.stderr
    assert "alone" in listed.stdout
    house.machine.run("sleep 3")
    house.machine.run("systemctl start rotad.service; systemctl stop rota-alone.timer")
    back(house)
    house.machine.wait_for(
        lambda: all(run["state"] in OVER for run in house.runs("alone")) and house.runs("alone"),
        10,
        "the runs",
    )
    assert len(own_account(house, "alone")) >= 2
    assert recorded(house, "alone") == own_account(house, "alone")
    assert {run["state"] for run in house.runs("alone")} == {"succeeded"}


def test_killed_twenty_times_nothing_lost_nothing_doubled(house: House) -> None:
    house.declare("storm", LINE.format(then="exit $((RANDOM % 2))").replace("/bin/sh", "/bin/bash"))
    house.machine.run(
        "for i in $(seq 20); do systemctl start rota-storm.service; systemctl kill -s KILL rotad.service; "
        "sleep 0.$((RANDOM % 4)); systemctl start rotad.service; done; sleep 1",
        timeout=120,
    )
    back(house)
    house.machine.wait_for(
        lambda: len(recorded(house, "storm")) >= len(own_account(house, "storm")), 10, "all runs"
    )
    assert recorded(house, "storm") == own_account(house, "storm")
    states = {run["id"]: run["state"] for run in house.runs("storm")}
    said = house.machine.run(
        "journalctl -o json -u rota-storm.service _PID=1 "
        "MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c --output-fields=INVOCATION_ID"
    ).stdout
    failed = {run for run in states if run in said}
    assert {run for run, state in states.items() if state == "failed"} == failed
    assert {run for run, state in states.items() if state == "succeeded"} == set(states) - failed


def test_the_journal_is_rotated_and_vacuumed(house: House) -> None:
    house.declare("turns", LINE.format(then="exit 0"))
    for _ in range(3):
        house.machine.run("systemctl start rota-turns.service; journalctl --rotate")
    house.settled("turns", 3)
    house.machine.run("systemctl stop rotad.service; systemctl start rota-turns.service; sleep 0.5")
    house.machine.run("journalctl --rotate; journalctl --vacuum-time=1us; systemctl start rotad.service")
    back(house)
    house.machine.run("systemctl start rota-turns.service")
    house.machine.wait_for(lambda: len(house.settled("turns", 4)) >= 4, 10, "runs after vacuuming")
    ids = recorded(house, "turns")
    assert len(ids) == len(set(ids))
    # Only what the journal lost while nobody read it may be missing.
    assert set(own_account(house, "turns")) - set(ids) <= {own_account(house, "turns")[3]}


DAMAGES = {
    "missing": "rm /var/lib/rota/rota.db*",
    "garbage": "rm -f /var/lib/rota/rota.db-*; echo garbage > /var/lib/rota/rota.db",
    "truncated": "rm -f /var/lib/rota/rota.db-*; truncate -s 5000 /var/lib/rota/rota.db",
    "scribbled": "rm -f /var/lib/rota/rota.db-*; "
    "dd if=/dev/urandom of=/var/lib/rota/rota.db bs=1k seek=4 count=30 conv=notrunc status=none",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_lost_store_is_rebuilt(house: House, name: str) -> None:
    agent = f"kept-{name}"
    house.declare(agent, LINE.format(then="exit 4"))
    house.rota(f"run {agent} --wait", code=4)
    (before,) = house.said(agent)
    house.machine.run(f"systemctl stop rotad.service; {DAMAGES[name]}; systemctl start rotad.service")
    back(house)
    (after,) = house.said(agent)
    assert after == before
    said = house.machine.run("journalctl -u rotad.service -n 20 -o cat").stdout
    aside = house.machine.run("ls /var/lib/rota; rm -f /var/lib/rota/*.damaged-*").stdout
    if name == "missing":
        assert "reading what the journal still holds" in said
    else:
        assert "the store was damaged" in said
        assert "rota.db.damaged-" in aside


def test_a_full_disk_pauses_recording(house: House) -> None:
    machine = house.machine
    house.declare("fills", LINE.format(then="exit 0"))
    machine.run(
        "systemctl stop rotad.service; mkdir -p /tmp/state; cp -a /var/lib/rota/. /tmp/state; "
        "mount -t tmpfs -o size=2m,mode=0755 tmpfs /var/lib/rota; cp -a /tmp/state/. /var/lib/rota; "
        "chown rota:rota /var/lib/rota; systemctl start rotad.service; sleep 0.5"
    )
    try:
        machine.run("head -c 2M /dev/zero > /var/lib/rota/fill", check=False)
        machine.run("for i in 1 2 3; do systemctl start rota-fills.service; done; sleep 1")
        machine.wait_for("journalctl -u rotad.service -n 30 -o cat | grep -q 'recording is paused'", 10)
        assert machine.run("systemctl is-active rotad.service").stdout.strip() == "active"
        machine.run("rm /var/lib/rota/fill")
        machine.wait_for(
            lambda: recorded(house, "fills") == own_account(house, "fills"), 15, "recording again"
        )
        assert "there is room again" in machine.run("journalctl -u rotad.service -n 30 -o cat").stdout
    finally:
        machine.run(
            "systemctl stop rotad.service; umount /var/lib/rota; rm -rf /tmp/state; "
            "systemctl start rotad.service"
        )
    back(house)
    assert recorded(house, "fills") == own_account(house, "fills")


def test_forged_entries_are_not_believed(house: House) -> None:
    house.declare("honest", LINE.format(then="exit 0"))
    house.rota("run honest --wait")
    (run,) = house.said("honest")
    forged = (
        "import systemd.journal as j; "
        "j.send('x', MESSAGE_ID='d9b373ed55a64feb8242e02dbe79a49c', UNIT='rota-honest.service', "
        f"INVOCATION_ID='{run['id']}', UNIT_RESULT='exit-code'); "
        "j.send('x', MESSAGE_ID='7d4958e842da4a758f6c1cdc7b36dcc5', UNIT='rota-honest.service', "
        "INVOCATION_ID='0123456789abcdef0123456789abcdef'); "
        "j.send('x', MESSAGE_ID='5b7c9a1e0d3f4c5e8a6b2d1f9e0c7a34', ROTA_EVENT='lost', ROTA_AGENT='honest', "
        f"ROTA_RUN='{run['id']}', ROTA_DATA='{{\"reason\": \"forged\"}}')"
    )
    for user in ("alice", "root"):
        house.machine.run(["python3", "-c", forged], user=user)
    house.rota("run honest --wait")
    assert house.settled("honest", 2)[0] == run
    assert len(house.runs("honest")) == 2


def test_it_is_small_at_rest_and_closed(house: House) -> None:
    unit = house.machine.run("systemd-analyze security --no-pager rotad.service").stdout.splitlines()[-1]
    assert float(unit.split(": ")[1].split()[0]) <= 1.5
    house.declare("default", 'command = ["/bin/true"]')
    agent = house.machine.run("systemd-analyze security --no-pager rota-default.service").stdout.splitlines()[
        -1
    ]
    assert float(agent.split(": ")[1].split()[0]) <= 1.5
    house.machine.run("systemctl restart rotad.service; sleep 1")
    pid = house.machine.run("systemctl show -P MainPID rotad.service").stdout.strip()
    status = house.machine.read(f"/proc/{pid}/status")
    rss = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert rss < 35 * 1024
    modules = house.machine.read(f"/proc/{pid}/maps")
    assert "pydantic" not in modules
    assert "libglib" not in modules


def test_a_hung_rotad_is_restarted(house: House) -> None:
    machine = house.machine
    drop_in = "/run/systemd/system/rotad.service.d"
    machine.run(f"mkdir -p {drop_in}")
    machine.write(f"{drop_in}/quick.conf", "[Service]\nWatchdogSec=2s\n")
    try:
        machine.run("systemctl daemon-reload; systemctl restart rotad.service")
        before = machine.run("systemctl show -P MainPID rotad.service").stdout
        machine.run("sleep 3")
        assert machine.run("systemctl show -P MainPID rotad.service").stdout == before, (
            "it answers its watchdog"
        )
        machine.run(f"kill -STOP {before.strip()}")
        machine.wait_for(
            lambda: (
                machine.run("systemctl show -P MainPID rotad.service").stdout.strip()
                not in (before.strip(), "0")
            ),
            15,
            "a new rotad",
        )
    finally:
        machine.run(f"rm -r {drop_in}; systemctl daemon-reload; systemctl restart rotad.service")
    back(house)


def test_behind_back_to_back_runs_it_still_files_each(house: House) -> None:
    house.declare("quick", LINE.format(then="exit 0") + 'schedule = { every = "1s" }')
    house.machine.run("sleep 1.5")
    pid = house.machine.run("systemctl show -P MainPID rotad.service").stdout.strip()
    for _ in range(2):
        house.machine.run(f"kill -STOP {pid}; sleep 3.5; kill -CONT {pid}; sleep 1")
    house.machine.run("systemctl stop rota-quick.timer")
    house.machine.wait_for(
        lambda: all(run.get("archived") for run in house.runs("quick")), 20, "all runs to be filed"
    )
    assert recorded(house, "quick") == own_account(house, "quick")
    assert {run["state"] for run in house.runs("quick")} == {"succeeded"}
    assert {run.get("trigger") for run in house.runs("quick")} <= {"timer", None}


def test_a_stop_that_needs_force_is_a_stop(house: House) -> None:
    house.declare("stubborn", 'command = ["/bin/sh", "-c", "trap : TERM; while :; do sleep 1; done"]')
    house.declare(
        "stubborn",
        'command = ["/bin/sh", "-c", "trap : TERM; while :; do sleep 1; done"]\n'
        '[sandbox]\nunit = { TimeoutStopSec = "2s" }',
    )
    house.rota("run stubborn")
    house.rota("stop stubborn")
    (run,) = house.settled("stubborn")
    assert (run["state"], run["reason"]) == ("killed", "stopped")


def test_slots_and_starts_by_hand_are_told_apart(house: House) -> None:
    house.declare("mixed", LINE.format(then="sleep 1.6") + 'schedule = { calendar = "*:*:*" }')
    house.settled("mixed", 1)
    # Well into a run: the slot of this second has gone by.
    house.machine.wait_for("systemctl is-active rota-mixed.service && sleep 1.2", 5)
    house.machine.run("systemctl stop rota-mixed.timer")
    # Not only no longer active: a run that is just being started is "activating", and a start would join it.
    house.machine.wait_for(
        "! systemctl list-jobs --no-legend | grep -q rota-mixed && "
        "test $(systemctl show -P ActiveState rota-mixed.service) = inactive",
        5,
    )
    # A slot went by during the last run: the start by hand after it is not the timer's.
    house.machine.run("systemctl start rota-mixed.service")
    by_hand = house.machine.run("systemctl show -P InvocationID rota-mixed.service").stdout.strip()
    house.machine.wait_for(
        lambda: any(run["id"] == by_hand and run.get("archived") for run in house.runs("mixed")),
        10,
        "the run by hand to be filed",
    )
    *before, last = [run for run in house.runs("mixed") if run["state"] in OVER]
    assert last["id"] == by_hand
    assert (before[-1]["trigger"], last["trigger"]) == ("timer", "manual")


def test_rotad_cannot_reach_into_pid_1(house: House) -> None:
    """Nothing that rotad's user may write to is read by systemd: no FIFO, no variables of its making."""
    house.declare("plain", 'command = ["/usr/bin/env"]')
    house.machine.run(
        "mkdir -p /run/rota/start; mkfifo /run/rota/start/plain; chown -R rota /run/rota; "
        "echo LD_PRELOAD=/evil.so > /var/lib/rota/plain; chown rota /var/lib/rota/plain"
    )
    try:
        done = house.rota("run plain --wait")
    finally:
        house.machine.run("rm -rf /run/rota /var/lib/rota/plain")
    assert "LD_PRELOAD" not in done.stdout
    unit = house.machine.read("/etc/systemd/system/rota-plain.service")
    readable = [
        line for line in unit.splitlines() if line.startswith(("EnvironmentFile=", "LoadCredential="))
    ]
    assert readable == []
