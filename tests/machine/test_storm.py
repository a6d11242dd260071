"""The record against the agents' own ledger, while everything falls over: a short storm, 40 s.

`make storm` runs the whole one. What is compared, and how, is in storm.py; what happens, in storm_drive.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tests.machine import storm
from tests.machine.machine import Machine
from tests.machine.storm import Loss
from tests.machine.storm_drive import RESTING, SHORT, Storm, now, weather

LIMIT = """[Journal]
RateLimitIntervalSec=10s
RateLimitBurst=5
"""
# journald multiplies it by five, where there is much room on the disk.


def test_a_storm(bootable: None) -> None:
    account = weather(SHORT)
    print(account.text())
    assert account.faults == []
    assert account.counts["kills"] >= SHORT.kills
    assert len(account.ledger) >= SHORT.runs


def test_what_journald_drops_for_its_rate_is_unknown_and_never_wrong(bootable: None) -> None:
    """Some 10 s: PID 1 says more than journald takes in, as after a start of hundreds of units."""
    plan = replace(SHORT, runs=60, cuts=(), kills=0, vacuums=0)
    with Machine(persistent=True) as machine:
        machine.write("/etc/systemd/journald.conf.d/limit.conf", LIMIT)
        one = Storm(machine, plan)
        one.prepare()
        machine.run("systemctl restart systemd-journald")
        begin = now()
        while len(one.ledger()) < plan.runs:
            one.step()
        one.settle()
        # journald tells of it when there is more to log, and it is not too much
        more = f"systemctl start rota-{RESTING}.service"
        machine.wait_for(f"{more}; journalctl -u systemd-journald -g Suppressed", 30)
        runs, ledger = one.runs(), one.ledger()
    assert storm.verdict(ledger, runs, [Loss(begin - 5 * storm.SECOND, now(), "dropped")]) == []
    states = Counter(run["state"] for run in runs)
    assert states["unknown"] > 0
    assert states["succeeded"] > 0
