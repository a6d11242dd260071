"""`rota apply` on a booted machine: nothing fires, nothing is killed, nothing of others is touched."""

from __future__ import annotations

import pytest

from tests.machine.house import House
from tests.machine.install import install_rota
from tests.machine.machine import Machine

COUNT = 'command = ["/bin/sh", "-c", "echo x >> $STATE_DIRECTORY/count"]\n'


def count(house: House, agent: str) -> int:
    done = house.machine.run(f"cat /var/lib/rota-agents/{agent}/count 2>/dev/null", check=False)
    return len(done.stdout.split())


# the schedule before, and after: each with slots between the last run and the edit
EDITS = {
    "every": ('{ every = "1h" }', '{ every = "2s" }'),
    "calendar": ('{ calendar = "*-*-* 04:00:00" }', '{ calendar = "*-*-* *:*:0/2" }'),
    "persistent": ('{ calendar = "*-*-* 04:00:00" }\ncatch_up = { mode = "once" }', None),
    "boot": ('{ cron = "0 4 * * *" }', '[{ on_boot = "1s" }, { cron = "0 5 * * *" }]'),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_schedule_does_not_fire(house: House, name: str) -> None:
    before, after = EDITS[name]
    after = after or '{ calendar = "*-*-* *:*:0/2" }\ncatch_up = { mode = "once" }'
    house.declare(name, f"{COUNT}schedule = {before}")
    house.rota(f"run {name} --wait")
    # Long enough for several slots of the new schedule to lie between then and the edit.
    house.machine.run("sleep 4.5")
    house.declare(name, f"{COUNT}schedule = {after}")
    timer = f"rota-{name}.timer"
    assert house.machine.run(f"systemctl is-active {timer}").stdout.strip() == "active"
    starts = [run["started"] for run in house.runs(name) if run["trigger"] not in ("person", "manual")]
    armed = int(house.machine.run(f"systemctl show -P ActiveEnterTimestampMonotonic {timer}").stdout)
    boot = house.machine.run("awk '/^btime/ {print $2}' /proc/stat").stdout
    assert armed > 0 and boot
    if name != "boot":
        # It goes on by its new schedule.
        house.machine.wait_for(lambda: count(house, name) >= 2, 10, "the new schedule")
        second = house.settled(name, 2)[1]
        entered = house.machine.run(
            f'date -d "$(systemctl show -P ActiveEnterTimestamp {timer})" +%s%6N'
        ).stdout
        # An even second, or two seconds, after the timer was armed: not at once.
        assert second["started"] >= int(entered)
        assert second["trigger"] == "timer"
        assert not starts or min(starts) >= int(entered)
    else:
        house.machine.run("sleep 2")
        assert count(house, name) == 1


def test_every_counts_from_the_edit(house: House) -> None:
    house.declare("paced", f'{COUNT}schedule = {{ every = "1h" }}')
    house.rota("run paced --wait")
    house.machine.run("sleep 4")
    house.declare("paced", f'{COUNT}schedule = {{ every = "3s" }}')
    assert count(house, "paced") == 1
    house.machine.run("sleep 2")
    assert count(house, "paced") == 1
    house.machine.wait_for(lambda: count(house, "paced") == 2, 4, "the first slot after the edit")


def test_a_new_description_restarts_nothing(house: House) -> None:
    house.declare("renamed", f'{COUNT}schedule = {{ every = "1h" }}')
    show = "systemctl show -P ActiveEnterTimestampMonotonic rota-renamed.timer"
    before = house.machine.run(show).stdout
    house.declare("renamed", f'description = "other words"\n{COUNT}schedule = {{ every = "1h" }}')
    assert house.machine.run(show).stdout == before
    assert "other words" in house.machine.run("systemctl show -P Description rota-renamed.service").stdout


def test_a_run_outlives_its_agent(house: House) -> None:
    house.declare(
        "leaving", 'command = ["/bin/sh", "-c", "sleep 2; echo done; exit 5"]\nschedule = { every = "1h" }'
    )
    house.rota("run leaving")
    house.remove("leaving")
    said = house.apply()
    assert "- leaving" in said
    assert house.machine.run("systemctl is-active rota-leaving.service").stdout.strip() == "active"
    assert not house.machine.exists("/etc/systemd/system/rota-leaving.service")
    house.machine.wait_for(lambda: house.runs_of_all("leaving")[-1]["state"] == "failed", 6, "its end")
    assert house.runs_of_all("leaving")[-1]["status"] == 5


def test_an_agent_that_failed_and_is_gone_leaves_nothing_failed(house: House) -> None:
    wrong = 'command = ["/bin/false"]\n'
    for name, text in {
        "paced": f'{wrong}schedule = {{ every = "1h" }}',
        "bare": wrong,
        "stays": wrong,
    }.items():
        house.declare(name, text)
        house.rota(f"run {name} --wait", code=1)
    failed = "systemctl list-units --all --no-legend --plain --state=failed 'rota-*' | awk '{print $1}'"
    units = [f"rota-{name}.service" for name in ("bare", "paced", "stays")]
    assert house.machine.run(failed).stdout.split() == units
    house.remove("paced")
    house.remove("bare")
    house.apply()
    assert house.machine.run(failed).stdout.split() == ["rota-stays.service"]
    loaded = "systemctl list-units --all --no-legend --plain rota-paced.service rota-bare.service"
    house.machine.wait_for(lambda: house.machine.run(loaded).stdout == "", 5, "systemd to forget them")


def test_files_of_others_are_left_alone(house: House) -> None:
    foreign = "/etc/systemd/system/rota-foreign.service"
    house.machine.write(foreign, "[Service]\nExecStart=/bin/true\n")
    try:
        house.declare("mine", 'command = ["/bin/true"]')
        assert house.machine.exists(foreign)
        house.declare("foreign", 'command = ["/bin/true"]', apply=False)
        refused = house.rota("apply", code=2)
        assert foreign.rpartition("/")[2] in refused.stderr
        assert house.machine.read(foreign).startswith("[Service]")
    finally:
        house.machine.run(["rm", foreign])


def test_a_mistake_changes_nothing(house: House) -> None:
    house.declare("good", 'command = ["/bin/true"]\nschedule = { every = "1h" }')
    before = house.machine.run("cd /etc/systemd/system && md5sum rota*").stdout
    house.declare("good", 'command = ["/bin/false"]\nschedule = { every = "1h" }', apply=False)
    house.declare("bad", 'command = ["/bin/true"]\nschedule = { cron = "0 9 * * MUN" }', apply=False)
    refused = house.rota("apply", code=2)
    assert 'agents.d/bad.toml: schedule.cron: "0 9 * * MUN": unknown day name MUN' in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert house.machine.run("cd /etc/systemd/system && md5sum rota*").stdout == before


def test_only_root_applies(house: House) -> None:
    house.declare("plain", 'command = ["/bin/true"]', apply=False)
    house.rota("apply", user="alice", code=5)
    house.rota("check", user="alice")


def test_killed_in_the_middle_the_next_apply_finishes(house: House) -> None:
    machine = house.machine
    for number in range(30):
        house.declare(f"many{number}", f'{COUNT}schedule = {{ every = "1h" }}', apply=False)
    files = "$(ls /etc/systemd/system/rota-many* 2>/dev/null)"
    cut_off = f'for file in {files}; do [ -z "$(tail -c 1 $file)" ] || echo $file; done'
    for pause in ("0.3", "0.5", "0.6", "0.7", "0.8", "1.0"):
        machine.run(f"timeout -s KILL {pause} rota apply", check=False)
        assert machine.run(cut_off).stdout == ""
    house.apply()
    timers = machine.run("systemctl list-units --no-legend --plain 'rota-many*.timer'").stdout
    assert len([line for line in timers.splitlines() if " active " in line]) == 30
    left = machine.run("ls -A /etc/systemd/system | grep rota-apply", check=False)
    assert left.stdout == ""
    assert house.apply().startswith("Nothing changed")


def test_two_at_once(house: House) -> None:
    for number in range(20):
        house.declare(f"twice{number}", f'{COUNT}schedule = {{ every = "1h" }}', apply=False)
    both = house.machine.run(
        "rota apply >/tmp/a 2>&1 & rota apply >/tmp/b 2>&1; first=$?; "
        "wait $!; echo $first $?; cat /tmp/a /tmp/b"
    ).stdout
    codes = [int(code) for code in both.splitlines()[0].split()]
    assert sorted(codes)[0] == 0, both
    assert "Traceback" not in both
    assert house.apply().startswith("Nothing changed")


def test_a_full_disk_changes_nothing(house: House) -> None:
    house.declare("roomy", 'command = ["/bin/true"]', apply=False)
    script = """set -e
mount -t tmpfs -o size=64k tmpfs /mnt
dd if=/dev/zero of=/mnt/fill bs=1k count=48 2>/dev/null
rota apply --unit-dir /mnt; echo "code $?"
ls -A /mnt
"""
    done = house.machine.run(
        ["unshare", "--mount", "bash", "-c", script.replace("set -e\n", "")], check=False
    )
    assert "No space left on device" in done.stderr
    assert "code 1" in done.stdout
    assert done.stdout.splitlines()[1:] == ["fill"]


def test_boot_runs_come_with_the_boot(bootable: None) -> None:
    with Machine(persistent=True) as machine:
        install_rota(machine)
        house = House(machine)
        house.declare("early", f"{COUNT}schedule = {{ on_boot = true }}")
        house.declare("both", f'{COUNT}schedule = [{{ on_boot = "1s" }}, {{ cron = "0 4 * * *" }}]')
        machine.run("sleep 2")
        assert (count(house, "early"), count(house, "both")) == (0, 0)
        machine.stop()
        machine.start()
        machine.wait_for(lambda: (count(house, "early"), count(house, "both")) == (1, 1), 10, "boot runs")
        assert house.settled("early")[0]["trigger"] == "boot"
        assert house.settled("both")[0]["trigger"] == "boot"
        assert not machine.exists("/run/systemd/system/rota-both.timer.d")
        # Pulled plug: the run that was under way is known to be lost, not guessed.
        house.declare("cut", 'command = ["/bin/sleep", "100"]')
        house.rota("run cut")
        machine.run("journalctl --sync; sync")
        machine.power_off_hard()
        machine.start()
        (run,) = house.settled("cut")
        assert (run["state"], run["reason"]) == ("unknown", "the machine went down")


def test_an_agent_that_gets_a_schedule_does_not_fire(house: House) -> None:
    house.declare("grows", COUNT)
    house.rota("run grows --wait")
    house.machine.run("sleep 3")
    house.declare("grows", f'{COUNT}schedule = {{ every = "3s" }}')
    assert count(house, "grows") == 1
    house.machine.run("sleep 2")
    assert count(house, "grows") == 1
    house.machine.wait_for(lambda: count(house, "grows") == 2, 4, "its first slot")


def test_a_timer_stopped_by_hand_does_not_fire_when_it_is_started_again(house: House) -> None:
    house.declare("hand", f'{COUNT}schedule = {{ every = "3s" }}')
    house.machine.wait_for(lambda: count(house, "hand") == 1, 6, "its first run")
    house.machine.run("systemctl stop rota-hand.timer; sleep 4")
    before = count(house, "hand")
    house.declare("other", 'command = ["/bin/true"]')
    assert house.machine.run("systemctl is-active rota-hand.timer").stdout.strip() == "active"
    house.machine.run("sleep 1.5")
    assert count(house, "hand") == before


def test_a_boot_trigger_that_is_gone_leaves_nothing_behind(house: House) -> None:
    house.declare("moved", f'{COUNT}schedule = [{{ on_boot = "1s" }}, {{ every = "4s" }}]')
    assert house.machine.exists("/run/systemd/system/rota-moved.timer.d")
    house.declare("moved", f'{COUNT}schedule = {{ cron = "0 3 * * *" }}')
    assert not house.machine.exists("/run/systemd/system/rota-moved.timer.d")
    shown = house.machine.run("systemctl show -P TimersMonotonic -P TimersCalendar rota-moved.timer").stdout
    assert "OnUnitActive" not in shown
    assert "03:00:00" in shown
    assert not house.machine.exists("/run/systemd/system.control/rota-agents.target")


def test_somebody_elses_mistake_does_not_stop_rota(house: House) -> None:
    path = "/etc/systemd/system/foreign-mistake.service"
    house.machine.write(path, "[Service]\nExecStart=/bin/true\nNoSuchKey=1\n")
    wants = "/etc/systemd/system/sysinit.target.wants/foreign-mistake.service"
    house.machine.run(f"ln -s {path} {wants}; systemctl daemon-reload")
    try:
        house.declare("fine", 'command = ["/bin/true"]\nschedule = { every = "1h" }')
        house.rota("check")
    finally:
        house.machine.run(f"rm {path} {wants}; systemctl daemon-reload")
