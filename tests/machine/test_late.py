"""Lines that journald takes in after their run is over, when nothing tells it any more which run that was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.machine.house import House
from tests.machine.machine import Machine
from tests.machine.test_user import alice, declare

__all__ = ["alice"]

# a shell's own line, and one of a child of its
SAYS = 'command = ["/bin/sh", "-c", "echo first $INVOCATION_ID; /bin/echo last $INVOCATION_ID"]\n'


def said(run: str) -> list[str]:
    return [f"first {run}", f"last {run}"]


def journald(machine: Machine) -> str:
    return machine.run("systemctl show -P MainPID systemd-journald.service").stdout.strip()


@contextmanager
def burning(machine: Machine, count: int) -> Iterator[None]:
    """Keep processors busy in the machine."""
    machine.run(f"for i in $(seq {count}); do systemd-run -q -u burner-$i sh -c 'while :; do :; done'; done")
    try:
        yield
    finally:
        machine.run("systemctl stop 'burner-*.service'")


def logged(house: House, run: str) -> list[str]:
    """Return a run's output, as `rota logs` gives it."""
    lines = house.rota(f"logs {run}").stdout.splitlines()
    return [line.split(": ", 1)[1] for line in lines if "rota-" in line.split(": ")[0]]


def test_journald_is_behind_by_a_run(house: House) -> None:
    house.declare("behind", SAYS)
    pid = journald(house.machine)
    done = house.machine.run(f"kill -STOP {pid}; rota run behind --wait & sleep 0.7; kill -CONT {pid}; wait")
    (run,) = house.settled("behind")
    unmarked = house.machine.run(
        f"journalctl -q -o cat _SYSTEMD_UNIT=rota-behind.service _SYSTEMD_INVOCATION_ID={run['id']}"
    )
    assert unmarked.stdout == "", "journald knew all along: the test does not test what it should"
    assert done.stdout.splitlines() == said(run["id"])
    assert logged(house, run["id"]) == said(run["id"])


def test_journald_is_behind_in_the_midst_of_a_run(house: House) -> None:
    """A shell's line has the run's id, that of its child on the same stream has not: each is shown once."""
    house.declare("amidst", SAYS.replace("; /bin", "; sleep 0.8; /bin"))
    pid = journald(house.machine)
    done = house.machine.run(
        f"rota run amidst --wait & sleep 0.5; kill -STOP {pid}; sleep 0.8; kill -CONT {pid}; wait"
    )
    (run,) = house.settled("amidst")
    marked = house.machine.run(
        f"journalctl -q -o cat _SYSTEMD_UNIT=rota-amidst.service _SYSTEMD_INVOCATION_ID={run['id']}"
    )
    assert marked.stdout.splitlines() == said(run["id"])[:1], "the test does not test what it should"
    assert done.stdout.splitlines() == said(run["id"])
    assert logged(house, run["id"]) == said(run["id"])


def test_journald_is_behind_by_several_runs(house: House) -> None:
    house.declare("behinds", SAYS)
    pid = journald(house.machine)
    start = "systemctl start rota-behinds.service; sleep 0.1;"
    house.machine.run(f"kill -STOP {pid}; {start * 3} sleep 0.3; kill -CONT {pid}")
    house.settled("behinds", 3)
    house.rota("run behinds --wait")
    runs = house.settled("behinds", 4)
    assert [logged(house, run["id"]) for run in runs] == [said(run["id"]) for run in runs]


def test_on_a_busy_machine_no_run_is_silent(house: House) -> None:
    house.declare("busily", SAYS)
    with burning(house.machine, 6):
        outputs = [house.rota("run busily --wait").stdout.splitlines() for _ in range(30)]
    runs = house.settled("busily", 30)
    assert outputs == [said(run["id"]) for run in runs]


@pytest.mark.usefixtures("alice")
def test_of_a_users_own_manager(machine: Machine) -> None:
    declare(machine, "behind", SAYS)
    pid = journald(machine)
    machine.run(f"(sleep 0.2; kill -STOP {pid}; sleep 1; kill -CONT {pid}) >/dev/null 2>&1 &")
    machine.run("sleep 0.4")
    done = machine.run("rota --user run behind --wait", user="alice")
    (run,) = json.loads(machine.run("rota --user --json runs behind", user="alice").stdout)
    assert done.stdout.splitlines() == said(run["id"])
    assert "is not shown" not in done.stderr
