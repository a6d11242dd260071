"""The Home Keeper's source of units against a real systemd: units end in every way, systemd itself goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.machine.install import install_rota
from tests.machine.machine import Machine
from tests.machine.unit_kit import PLACE, Watch, copy_scripts, declare, pause, say

RULES: dict[str, Any] = {
    "running": ["t-run.service", "t-zero.service", "t-needy.service", "t-unmet.service", "t-nowhere.service"],
    "stuck": 2_000_000,
    "ignore": ["t-ignored.*"],
}
POLKIT = """polkit.addRule(function (action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "bob"
        && /^t-.*[.](service|timer)$/.test(action.lookup("unit")) && action.lookup("unit") != "t-mine.service"
        && ["start", "restart", "reset-failed"].indexOf(action.lookup("verb")) >= 0) {
        return polkit.Result.YES;
    }
});
"""
SLEEP = "ExecStart=/bin/sleep 1000\n"


@pytest.fixture(scope="module")
def box(bootable: None) -> Iterator[Machine]:
    """A machine of its own: D-Bus is taken away in it."""
    with Machine() as booted:
        install_rota(booted, start=False)
        booted.write("/etc/polkit-1/rules.d/50-test.rules", POLKIT)
        copy_scripts(booted)
        declare(
            booted,
            run=f"[Service]\n{SLEEP}",
            zero="[Service]\nExecStart=/bin/sleep 0.5\n",
            base=f"[Service]\n{SLEEP}",
            brief="[Service]\nType=oneshot\nExecStart=/bin/true\n",
            needy="[Unit]\nRequires=t-base.service t-brief.service\nAfter=t-base.service t-brief.service\n"
            f"[Service]\n{SLEEP}",
            unmet=f"[Unit]\nConditionPathExists=/run/never\n[Service]\n{SLEEP}",
            ignored="[Service]\nExecStart=/bin/false\n",
        )
        yield booted


@pytest.fixture(scope="module")
def watching(box: Machine) -> Watch:
    """One source for most of this file, which also shows that it lasts."""
    return Watch(box, RULES)


@pytest.fixture
def watch(box: Machine, watching: Watch) -> Iterator[Watch]:
    yield watching
    box.run("find /etc/systemd/system -name 't-*' -delete; systemctl daemon-reload")
    box.run("systemctl stop --quiet 't-*'; systemctl reset-failed --quiet 't-*'", check=False)
    box.run("rm -f /run/well")


NEVER_UP = "Type=notify\nNotifyAccess=all\n"
WAYS = {
    "exit": ("ExecStart=/bin/sh -c 'sleep 0.3; exit 3'", "it exited with status 3"),
    "signal": ("ExecStart=/bin/sh -c 'kill -KILL $$$$'", "it was killed by SIGKILL"),
    "crash": ("ExecStart=/bin/sh -c 'kill -SEGV $$$$'", "SIGSEGV"),
    "slow": (f"{NEVER_UP}TimeoutStartSec=300ms\nExecStart=/bin/sleep 99", "it took longer than it may"),
    "late": ("RuntimeMaxSec=300ms\nExecStart=/bin/sleep 99", "it took longer than it may"),
    "dog": (
        f"{NEVER_UP}WatchdogSec=300ms\nExecStart=/bin/sh -c 'systemd-notify --ready; sleep 99'",
        "it no longer told systemd that it is alive",
    ),
    "quiet": (f"{NEVER_UP}ExecStart=/bin/true", "it did not tell systemd what its Type= promises"),
    "before": ("ExecStartPre=/bin/false\nExecStart=/bin/true", "one of its control processes failed"),
    "nothing": ("ExecStart=/no/such/program", "it exited with status 203"),
    "limit": (
        "Restart=always\nRestartSec=20ms\nExecStart=/bin/false",
        "it exited with status 1, and systemd restarted it 5 times before",
    ),
    "once": ("Type=oneshot\nExecStart=/bin/false", "it exited with status 1"),
    "user": ("User=nobody-there\nExecStart=/bin/true", "it exited with status 217"),
}


def test_every_way_to_fail(box: Machine, watch: Watch) -> None:
    declare(box, **{name: f"[Service]\n{text}\n" for name, (text, _) in WAYS.items()})
    print("\nnoticed after systemd had it:")
    for name, (_, told) in WAYS.items():
        unit = f"unit:t-{name}.service"
        box.run(f"systemctl start --no-block t-{name}.service")
        # systemd restarts t-limit until it gives up
        finding = watch.until(unit, "failed")
        assert told in finding["summary"]
        assert finding["severity"] == "warning"
        say(name, watch.noticed(unit, "failed"))
        box.run(f"systemctl reset-failed t-{name}.service")
        watch.until(unit)


def test_what_failed_because_of_another_is_not_told_the_other_is(box: Machine, watch: Watch) -> None:
    declare(
        box,
        first="[Service]\nType=oneshot\nExecStart=/bin/false\n",
        second=f"[Unit]\nRequires=t-first.service\nAfter=t-first.service\n[Service]\n{SLEEP}",
    )
    box.run("systemctl start t-second.service", check=False)
    watch.until("unit:t-first.service", "failed")
    assert watch.told("unit:t-second.service") == []


def test_a_timer_and_a_mount_that_fail(box: Machine, watch: Watch) -> None:
    box.write(f"{PLACE}/t-srv.mount", "[Mount]\nWhat=/dev/nowhere\nWhere=/t-srv\nType=ext4\n")
    box.run(f"mv {PLACE}/t-srv.mount {PLACE}/t\\\\x2dsrv.mount; systemctl daemon-reload")
    box.run("systemctl start /t-srv", check=False)
    assert "failed" in watch.until(r"unit:t\x2dsrv.mount", "failed")["summary"]
    box.run("systemctl reset-failed")


def test_a_restart_loop_and_a_restart_that_waits(box: Machine, watch: Watch) -> None:
    rare = "[Service]\nRestart=always\nRestartSec=1h\nExecStart=/bin/false\n"
    often = (
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=100ms\nExecStart=/bin/false\n"
    )
    declare(box, rare=rare, often=often)
    box.run("systemctl start --no-block t-rare.service t-often.service")
    watch.until("unit:t-often.service", "restart-loop")
    pause(2.5)  # longer than what is stuck
    assert watch.problems("unit:t-often.service") == ["restart-loop"]
    assert watch.told("unit:t-rare.service") == []
    box.run("touch /run/well; systemctl stop t-often.service")
    watch.until("unit:t-often.service")
    # Started by somebody it counts anew, also while the time of the loop is not over.
    declare(box, often=often.replace("/bin/false", "/bin/sleep 99"))
    box.run("systemctl start t-often.service")
    pause(0.5)
    assert watch.problems("unit:t-often.service") == []


def test_what_takes_too_long_and_what_may(box: Machine, watch: Watch) -> None:
    declare(
        box,
        stuck=f"[Service]\nType=notify\nTimeoutStartSec=infinity\n{SLEEP}",
        patient=f"[Service]\nType=notify\nTimeoutStartSec=60\n{SLEEP}",
        backup=f"[Service]\nType=oneshot\n{SLEEP}",
        clinging="[Service]\nTimeoutStopSec=infinity\nKillMode=process\n"
        "ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\n",
    )
    box.run(
        "systemctl start --no-block t-stuck.service t-patient.service t-backup.service t-clinging.service"
    )
    finding = watch.until("unit:t-stuck.service", "stuck-activating")
    assert "has been activating (start) for more than 2s" in finding["summary"]
    say("stuck for 2 s", watch.noticed("unit:t-stuck.service", "stuck-activating") - 2)
    box.run("systemctl stop --no-block t-clinging.service")
    assert "deactivating" in watch.until("unit:t-clinging.service", "stuck-activating")["summary"]
    for name in ("patient", "backup"):
        assert watch.told(f"unit:t-{name}.service") == []
    box.run("systemctl kill -s KILL t-clinging.service")
    watch.until("unit:t-clinging.service", "failed")


def test_what_is_to_be_running(box: Machine, watch: Watch) -> None:
    run, zero = "unit:t-run.service", "unit:t-zero.service"
    box.run("systemctl start t-run.service t-zero.service")
    watch.until(run)
    ended = watch.until(zero, "inactive")
    assert (ended["severity"], "nobody stopped it" in ended["summary"]) == ("critical", True)
    say("ended with status 0", watch.noticed(zero, "inactive"))

    box.run("systemctl stop t-run.service")
    by_hand = watch.until(run, "inactive")
    assert (by_hand["severity"], by_hand["summary"]) == (
        *("info", "t-run.service is not running: it was stopped by request"),
    )
    count = len(watch.told(run))
    box.run("systemctl daemon-reload")
    pause(0.3)
    assert len(watch.told(run)) == count, "no news"

    box.run("systemctl start t-run.service")
    watch.until(run)
    box.run("systemctl restart t-run.service; systemctl try-restart t-run.service")
    pause(0.3)
    assert watch.problems(run) == []

    box.run("systemctl kill -s TERM t-run.service")
    assert watch.until(run, "inactive")["severity"] == "critical", "to be killed is not to be stopped"

    box.run("systemctl mask --quiet t-run.service; systemctl daemon-reload")
    box.wait_for(lambda: watch.state()[run][0]["severity"] == "info", 10, "a masked unit")
    assert "masked" in watch.until(run, "inactive")["summary"]


def test_a_unit_that_is_masked_or_removed_has_no_failure(box: Machine, watch: Watch) -> None:
    ways = {"masked": "systemctl mask --quiet t-masked", "removed": f"rm {PLACE}/t-removed.service"}
    for name, how in ways.items():
        unit = f"unit:t-{name}.service"
        declare(box, **{name: "[Service]\nExecStart=/bin/false\n"})
        box.run(f"systemctl start t-{name}.service", check=False)
        watch.until(unit, "failed")
        box.run(f"{how}; systemctl daemon-reload")
        watch.until(unit)


def test_what_is_stopped_with_a_unit_that_it_needs(box: Machine, watch: Watch) -> None:
    needy = "unit:t-needy.service"
    box.run("systemctl start t-needy.service")
    watch.until(needy)
    box.run("systemctl stop t-base.service")
    finding = watch.until(needy, "inactive")
    assert (finding["severity"], "stopped with t-base.service" in finding["summary"]) == ("critical", True)
    box.run("systemctl start t-needy.service")
    watch.until(needy)
    box.run("systemctl stop t-needy.service")
    by_hand = watch.until(needy, "inactive")
    assert by_hand["severity"] == "info", "one goes on, and the other was over long before"
    # The same where systemd forgets at once what is not needed any more, and where it does not.
    box.run(
        "systemctl add-wants --runtime --quiet multi-user.target t-needy.service; systemctl start t-needy"
    )
    watch.until(needy)
    box.run("systemctl stop t-needy.service")
    assert watch.until(needy, "inactive")["severity"] == "info"
    box.run("systemctl start t-needy.service")
    watch.until(needy)
    box.run("systemctl stop t-base.service")
    assert "stopped with t-base.service" in watch.until(needy, "inactive")["summary"]
    box.run("systemctl start t-base.service")
    pause(0.3)
    assert "stopped with t-base.service" in watch.until(needy, "inactive")["summary"], "it was, and is down"
    box.run("rm -r /run/systemd/system/multi-user.target.wants; systemctl daemon-reload")


def test_what_ended_by_itself_is_not_stopped_by_a_job_that_does_nothing(box: Machine, watch: Watch) -> None:
    zero = "unit:t-zero.service"
    box.run("systemctl start t-zero.service")
    watch.until(zero)
    assert watch.until(zero, "inactive")["severity"] == "critical"
    box.run("systemctl try-restart t-zero.service")
    pause(0.5)
    assert watch.until(zero, "inactive")["severity"] == "critical", "maintainer scripts do this"


def test_a_shutdown_that_is_called_off(box: Machine, watch: Watch) -> None:
    box.write(f"{PLACE}/shutdown.target.d/test.conf", "[Unit]\nRefuseManualStart=no\n")
    declare(box, off="[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/false\n")
    box.run("systemctl start --job-mode=ignore-dependencies shutdown.target")
    box.run("systemctl start t-off.service", check=False)
    pause(1)
    assert watch.told("unit:t-off.service") == [], "what fails in a shutdown is no trouble"
    box.run("systemctl stop --job-mode=ignore-dependencies shutdown.target")
    watch.until("unit:t-off.service", "failed")
    box.run(f"rm -r {PLACE}/shutdown.target.d; systemctl daemon-reload")


def test_conditions_and_units_that_are_not_there(box: Machine, watch: Watch) -> None:
    unmet = "unit:t-unmet.service"
    box.run("systemctl start t-unmet.service")
    box.wait_for(lambda: watch.state()[unmet][0]["severity"] == "info", 10, "an unmet condition")
    assert "a condition of the unit is not met" in watch.until(unmet, "inactive")["summary"]
    nowhere = watch.until("unit:t-nowhere.service", "inactive")
    assert (nowhere["severity"], "not there" in nowhere["summary"]) == ("warning", True)


def test_timers(box: Machine, watch: Watch) -> None:
    timer = "[Timer]\nOnCalendar=yearly\nUnit=t-run.service\n[Install]\nWantedBy=timers.target\n"
    declare(box, tick_timer=timer, tock_timer=timer)
    box.run("systemctl enable --runtime --quiet --now t-tick.timer; systemctl start t-tock.timer")
    unit = "unit:t-tick.timer"
    box.run("systemctl stop t-tick.timer t-tock.timer")
    finding = watch.until(unit, "timer-stopped")
    assert finding["severity"] == "info"
    box.run("systemctl start t-tick.timer")
    watch.until(unit)
    box.run("systemctl disable --runtime --quiet --now t-tick.timer")
    watch.until(unit)
    assert watch.problems("unit:t-tock.timer") == [], "nothing wants it"


def test_what_is_ignored_and_what_comes_and_goes(box: Machine, watch: Watch) -> None:
    box.run("systemctl start t-ignored.service", check=False)
    for _ in range(3):
        box.run("systemd-run --quiet --collect --unit=t-gone --wait /bin/false", check=False)
    box.run("systemd-run --quiet --unit=t-stays /bin/false", check=False)
    watch.until("unit:t-stays.service", "failed")
    watch.until("unit:t-gone.service")
    assert watch.told("unit:t-ignored.service") == []


def test_many_at_once(box: Machine, watch: Watch) -> None:
    declare(box, **{"many@": "[Service]\nType=oneshot\nExecStart=/bin/false\n"})
    units = [f"t-many@{number}.service" for number in range(100)]
    before = len(watch.lines())

    def troubled() -> int:
        return sum(name.startswith("unit:t-many@") for name in watch.state())

    box.run(["systemctl", "start", "--no-block", *units])
    box.wait_for(lambda: troubled() == 100, 30, "100 findings")
    lines = watch.lines()[before:]
    delays = sorted(watch.noticed(f"unit:{unit}", "failed") for unit in units)
    print(f"\n100 failed at once, told in {len(lines)} observations")
    say("noticed, median", delays[50])
    say("noticed, the last", delays[-1])
    assert len(lines) < 100
    box.run("systemctl reset-failed")
    box.wait_for(lambda: troubled() == 0, 30, "all well")


FORGE = """import asyncio, sys
from dbus_next import BusType, Message, MessageType, Variant
from dbus_next.aio import MessageBus

async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    states = {"ActiveState": Variant("s", "failed"), "SubState": Variant("s", "failed")}
    await bus.send(Message(
        destination=sys.argv[1], path="/org/freedesktop/systemd1/unit/t_2drun_2eservice",
        interface="org.freedesktop.DBus.Properties", member="PropertiesChanged", signature="sa{sv}as",
        body=["org.freedesktop.systemd1.Unit", states, []], message_type=MessageType.SIGNAL,
    ))
    await bus.call(Message(
        destination="org.freedesktop.DBus", path="/", interface="org.freedesktop.DBus", member="GetId"
    ))

asyncio.run(main())
"""


def test_what_others_say_in_systemds_name_is_not_believed(box: Machine, watch: Watch) -> None:
    pid = box.run("systemctl show -P MainPID watch.service").stdout.strip()
    names = json.loads(box.run("busctl --json=short --unique list").stdout)
    (name,) = (one["name"] for one in names if str(one["pid"]) == pid)
    box.run("systemctl start t-run.service")
    watch.until("unit:t-run.service")
    box.run(["python3", "-c", FORGE, name], user="alice")
    pause(0.5)
    assert watch.problems("unit:t-run.service") == []


def test_systemd_executed_anew_and_reloaded(box: Machine, watch: Watch) -> None:
    declare(box, last="[Service]\nExecStart=/bin/false\n")
    for how in ("daemon-reload", "daemon-reexec"):
        box.run(f"systemctl {how}")
        box.run("systemctl start t-last.service", check=False)
        watch.until("unit:t-last.service", "failed")
        box.run("systemctl reset-failed t-last.service")
        watch.until("unit:t-last.service")
    assert not any(watch.told("check:units")), "it is no news"


def test_the_bus_away(box: Machine, watch: Watch) -> None:
    declare(box, last="[Service]\nExecStart=/bin/false\n")
    box.run("systemctl restart dbus.service")
    box.run("systemctl start t-last.service", check=False)
    watch.until("unit:t-last.service", "failed")
    box.run("systemctl stop dbus.socket dbus.service", check=False)
    blind = watch.until("check:units", "blind", timeout=20)
    assert blind["severity"] == "warning"
    # systemctl reaches systemd without the bus
    box.run("systemctl reset-failed t-last.service; systemctl start dbus.socket dbus.service")
    watch.until("check:units", timeout=30)
    watch.until("unit:t-last.service")
    assert watch.lines()[-1]["first"]


def test_a_source_that_starts_knows_what_was_stopped_by_hand(box: Machine, watch: Watch) -> None:
    box.run("systemctl start t-run.service t-needy.service")
    watch.until("unit:t-run.service")
    watch.stop()
    box.run("systemctl stop t-run.service; systemctl kill -s TERM t-needy.service")
    again = Watch(box, RULES)
    assert again.until("unit:t-run.service", "inactive")["severity"] == "info"
    assert again.until("unit:t-needy.service", "inactive")["severity"] == "critical"
    assert again.lines()[0]["findings"]["unit:dbus.service"] == [], "what is well is in the first look"


def remedy(box: Machine, word: str, unit: str, problem: str = "failed") -> dict[str, Any]:
    done = box.run(["python3", "-sB", "/run/unit_remedy.py", word, unit, problem], user="bob")
    return dict(json.loads(done.stdout))


def test_remedies(box: Machine, watch: Watch) -> None:
    declare(
        box,
        fickle="[Service]\nRestart=always\nRestartSec=20ms\n"
        "ExecStart=/bin/sh -c 'test -e /run/well && exec sleep 1000'\n",
        once="[Service]\nType=oneshot\nExecStart=/bin/test -e /run/well\n",
        slow="[Service]\nType=oneshot\nExecStart=/bin/sleep 1\nExecStart=/bin/false\n",
    )
    fickle = "t-fickle.service"
    box.run(f"systemctl start {fickle}")
    watch.until(f"unit:{fickle}", "failed")
    box.run("touch /run/well")
    # It had been started too often; the remedy forgets that.
    report = remedy(box, "restart-unit", fickle)["report"]
    assert (report["before"], report["after"]) == ("failed (failed)", "active (running)")
    say("restarted", report["took"] / 1e6)
    watch.until(f"unit:{fickle}")
    again = remedy(box, "restart-unit", fickle)["report"]
    assert again == {"unit": fickle, "done": "nothing", "why": "it is active (running) by now"}
    assert remedy(box, "restart-unit", fickle, "restart-loop")["report"]["done"] == "restart"

    box.run("systemctl stop t-run.service")
    assert remedy(box, "start-unit", "t-run.service", "inactive")["report"]["after"] == "active (running)"
    assert remedy(box, "restart-unit", "t-once.service")["report"]["after"] == "inactive (dead)"

    box.run("rm /run/well")
    failed = remedy(box, "restart-unit", "t-once.service")
    assert failed["error"] == "cannot restart t-once.service: it exited with status 1"
    assert remedy(box, "reset-failed", "t-once.service")["report"]["done"] == "reset-failed"
    assert remedy(box, "reset-failed", "t-once.service")["report"]["done"] == "nothing"
    assert "it exited with status 1" in remedy(box, "start-unit", "t-slow.service")["error"]
    assert "a condition of the unit is not met" in remedy(box, "start-unit", "t-unmet.service")["error"]


def test_remedies_outlast_a_systemd_that_is_executed_anew(box: Machine, watch: Watch) -> None:
    declare(box, slow="[Service]\nType=oneshot\nExecStart=/bin/sleep 3\n")
    command = ["python3", "-sB", "/run/unit_remedy.py", "start-unit", "t-slow.service", "inactive"]
    acting = box.popen(command, user="bob")
    state = "systemctl show --value -p ActiveState t-slow.service"
    box.wait_for(lambda: box.run(state).stdout == "activating\n", 10, "it to be started")
    box.run("systemctl daemon-reexec")
    assert box.run(state).stdout == "activating\n"
    report = json.loads(acting.communicate(timeout=30)[0])["report"]
    assert (report["done"], report["after"]) == ("start", "inactive (dead)")


def test_remedies_that_are_refused(box: Machine, watch: Watch) -> None:
    service = f"[Service]\n{SLEEP}"
    declare(box, mine=service, hidden=service, long=f"[Service]\nType=oneshot\n{SLEEP}")
    for word in ("restart-unit", "start-unit"):
        denied = remedy(box, word, "t-mine.service")
        assert denied["code"] == 5
        assert denied["error"].startswith("polkit does not let the Home Keeper")
        assert '[keeper.targets."unit:t-mine.service"]' in denied["hint"]
        assert "there is no such unit" in remedy(box, word, "t-nowhere.service")["error"]
    assert box.run("systemctl is-active t-mine.service", check=False).stdout.strip() == "inactive"
    box.run("systemctl mask --quiet t-hidden.service; systemctl daemon-reload")
    masked = remedy(box, "start-unit", "t-hidden.service")
    assert masked["error"] == "cannot start t-hidden.service: somebody masked it"
    box.run("systemctl start --no-block t-long.service")
    assert "has a job for it already" in remedy(box, "restart-unit", "t-long.service")["error"]
    assert "is no unit of this machine" in remedy(box, "restart-unit", "nas/t-run.service")["error"]


def test_a_shutdown_is_no_trouble(bootable: None) -> None:
    with Machine(persistent=True) as booted:
        install_rota(booted, start=False)
        copy_scripts(booted)
        declare(booted, run=f"[Service]\n{SLEEP}", bad="[Service]\nExecStart=/bin/false\n")
        booted.run("systemctl start t-run.service t-bad.service; mkdir /var/watch")
        # It sees all the others go.
        watch = Watch(booted, RULES, properties="-p DefaultDependencies=no", out="/var/watch/out")
        assert watch.problems("unit:t-run.service") == []
        booted.stop()
        booted.start()
        assert watch.problems("unit:t-bad.service") == ["failed"], "it had been seen"
        assert watch.problems("unit:t-run.service") == []
