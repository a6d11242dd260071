"""The Home Keeper's source of units against a real systemd: units that end in every way, and systemd itself away."""

from __future__ import annotations

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
            needy=f"[Unit]\nRequires=t-base.service\nAfter=t-base.service\n[Service]\n{SLEEP}",
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
    box.run("systemctl unmask --runtime --quiet 't-*'", check=False)
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
    watch.until("unit:t-clinging.service")


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
    box.run(
        "systemctl mask --runtime --quiet t-run.service 2>&1 || ln -s /dev/null /etc/systemd/system/t-run.service"
    )
    box.run("systemctl daemon-reload")
    masked = watch.until(run, "inactive")
    box.machine_wait = None if False else None  # type: ignore[attr-defined]
    assert masked
