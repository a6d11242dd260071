"""`nixos-rebuild switch` with agents in it: nothing fires, nothing is killed, nothing is forgotten."""

from __future__ import annotations

import copy
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.machine.house import House
from tests.machine.install import install_rota
from tests.machine.machine import Machine
from tests.machine.nixos import EVALUATED, MODULE, NO_REARM, Module, Nixos, Switched

Agent = dict[str, Any]
NEXT = "/run/rota-next-system"
TOLD = "/var/told"
UNTIL_TOLD = f"; until [ -e {TOLD} ]; do sleep 0.1; done"
STARTED = "39f53479d3a045ac8e11786248231fbf"
FIRED = 'date +%s.%N >> "$STATE_DIRECTORY/fired"'


def agent(*schedule: Mapping[str, Any], then: str = "", **keys: Any) -> Agent:
    """Return an agent that writes down when it fires."""
    return {"command": ["/bin/sh", "-c", FIRED + then], "schedule": list(schedule), **keys}


HOURLY = {"every": "1h"}
DAILY = {"calendar": "*-*-* 04:00:00"}
EVERY = {"every": "2s"}
OFTEN = {"calendar": "*-*-* *:*:0/2"}
BOOT = {"on_boot": "1s"}
ONCE: dict[str, Any] = {"catch_up": {"mode": "once"}}


class Switches(House):
    """A NixOS with switches, and questions about its agents."""

    def __init__(self, nixos: Nixos) -> None:
        super().__init__(nixos.machine)
        self.nixos = nixos

    def switch(self, agents: Mapping[str, Agent] | None, module: Module = MODULE, **how: Any) -> Switched:
        """Switch to these agents, and see that all is in order after it; None for a system without rota."""
        done = self.nixos.switch(self.nixos.build(agents and {"agents": agents}, module), **how)
        if not how.get("until"):
            self.is_in_order(done, agents or {})
        return done

    def is_in_order(self, done: Switched, agents: Mapping[str, Agent]) -> None:
        """Check what has to hold after every switch."""
        assert not [line for line in done.failed if "rearm" in line or ".service" not in line], done
        jobs = self.machine.run("systemctl list-jobs --no-legend").stdout.splitlines()
        assert not [line for line in jobs if "rearm" in line or ".service" not in line], jobs
        left = self.machine.run(f"ls -d {NEXT} /run/systemd/system.control/* /run/nixos/*-list", check=False)
        assert left.stdout == ""
        timers = [
            name
            for name, keys in agents.items()
            if keys.get("enabled", True) and any("on_boot" not in item for item in keys["schedule"])
        ]
        assert all(self.active(*timers)), (timers, self.active(*timers))

    def announce(self, agents: Mapping[str, Agent]) -> None:
        """Begin a switch that is refused by a later check."""
        self.nixos.check(self.nixos.build({"agents": agents}))

    def fired(self, name: str) -> list[float]:
        """Return when an agent started, by its own account."""
        path = f"/var/lib/rota-agents/{name}/fired"
        return [float(line) for line in self.machine.run(f"cat {path}", check=False).stdout.split()]

    def armed(self, name: str, since: float) -> float:
        """Return when a timer was first started since a moment; a switch may restart it soon after."""
        journal = f"journalctl -o json --since=@{since:.6f} -u rota-{name}.timer MESSAGE_ID={STARTED}"
        said = self.machine.run(f"journalctl --sync; {journal}").stdout.splitlines()
        return int(json.loads(said[0])["_SOURCE_REALTIME_TIMESTAMP"]) / 1e6

    def first_due(self, done: Switched, name: str, schedule: Mapping[str, Any]) -> float:
        """Return when a timer that a switch started elapses first, of EVERY and OFTEN."""
        # systemd logs a little later than it starts; `every` counts from when rearm wrote its drop-in.
        armed = self.armed(name, done.steps["stopped"]) - 0.05
        return math.ceil(armed / 2) * 2.0 if schedule == OFTEN else armed + 1

    def fires_first_when_due(self, done: Switched, name: str, schedule: Mapping[str, Any]) -> None:
        """Check that a timer started by a switch does not elapse at once, but when it is to."""
        due = self.first_due(done, name, schedule)

        def after() -> list[float]:
            return [moment for moment in self.fired(name) if moment > done.steps["stopped"]]

        self.machine.wait_for(after, 5, f"{name} by its schedule")
        assert due <= after()[0] < due + 3, (name, due, after())

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.machine.run(["systemctl", "show", "-P", name, unit]).stdout.strip()

    def active(self, *agents: str) -> list[bool]:
        """Tell of each agent whether its timer is active."""
        units = [f"rota-{name}.timer" for name in agents]
        states = self.machine.run(["systemctl", "is-active", "--", *units], check=False).stdout.split()
        return [state == "active" for state in states]

    def start(self, *agents: str) -> None:
        """Run agents now, and wait until they are done."""
        self.machine.run(["systemctl", "start", *(f"rota-{name}.service" for name in agents)])
        for name in agents:
            self.machine.wait_for(f"! systemctl is-active --quiet rota-{name}.service", 10)

    def forget(self) -> None:
        """Forget what agents wrote down, and when they elapsed."""
        self.machine.run(f"rm -f {TOLD} /var/lib/rota-agents/*/fired /var/lib/systemd/timers/stamp-rota-*")

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.machine.run(f"sleep {seconds}")


@pytest.fixture(scope="module")
def nixos(bootable: None) -> Iterator[Nixos]:
    with Machine(persistent=True) as machine:
        install_rota(machine, start=False)
        yield Nixos(machine)


@pytest.fixture(scope="module")
def house(nixos: Nixos) -> Switches:
    return Switches(nixos)


# --- the README's configuration ---------------------------------------------------------------------------


def test_the_readme_s_configuration(house: Switches) -> None:
    machine = house.machine
    machine.run("mkdir -p /srv/repo /srv/backup /run/secrets; touch /run/secrets/aichat.env")
    machine.write("/usr/bin/aichat", '#!/bin/sh\necho "$@"\n', 0o755)
    config = copy.deepcopy(EVALUATED["declarations"])
    house.is_in_order(house.nixos.switch(house.nixos.build(config)), config["agents"])
    assert machine.run("systemctl list-units --failed --no-legend").stdout == ""
    timers = machine.run("systemctl list-timers --no-legend 'rota-*'").stdout
    assert {line.split()[-1] for line in timers.splitlines()} == {
        f"rota-{name}.service" for name in config["agents"]
    }
    assert {row["name"] for row in house.json("list")} == config["agents"].keys()
    for name, code in (("weekly-audit", 0), ("backup-check", 1), ("disk-report", 0)):
        house.rota(f"run {name} --wait", user="bob", code=code)
        assert house.settled(name)[0]["state"] == ("failed" if code else "succeeded")
    assert "--file /srv/repo Name what the documentation" in house.rota("logs weekly-audit").stdout
    assert "backup is less than a day old" in house.rota("show backup-check").stdout
    # A timer fires, and rotad records it; but not while its agent is paused.
    config["agents"]["disk-report"]["schedule"] = [EVERY]
    house.is_in_order(house.nixos.switch(house.nixos.build(config)), config["agents"])
    assert house.settled("disk-report", 2)[1]["trigger"] == "timer"
    house.rota("pause disk-report", user="bob")
    machine.wait_for(lambda: house.runs("disk-report")[-1]["state"] == "skipped", 5, "a skipped run")


# --- edited schedules -------------------------------------------------------------------------------------

EDITS: dict[str, tuple[Agent | None, Agent]] = {
    "every": (agent(HOURLY), agent(EVERY)),
    "calendar": (agent(DAILY), agent(OFTEN)),
    "persistent": (agent(DAILY, **ONCE), agent(OFTEN, **ONCE)),
    "on-demand": (agent(), agent(EVERY)),
    "two": (agent(HOURLY, DAILY), agent(EVERY, DAILY)),
    "stamped": (None, agent(OFTEN, **ONCE)),
    "boot-added": (agent(DAILY), agent(BOOT, DAILY)),
    "boot-and-every": (agent(HOURLY), agent(BOOT, EVERY)),
    "only-boot": (agent(DAILY), agent(BOOT)),
    "new-boot": (None, agent({"on_boot": True})),
}
SAME: dict[str, tuple[Agent, Agent]] = {
    "steady": (agent({"every": "3s"}), agent({"every": "3s"})),
    "described": (agent(DAILY), agent(DAILY, description="other words")),
    "sandboxed": (agent(DAILY), agent(DAILY, timeout="3min", resources={"memory": "70M"})),
    "sleeper": (agent(HOURLY, then=f"{UNTIL_TOLD}; exit 7"), agent(HOURLY, then="; exit 8", priority="high")),
}
LOOKS = {
    name: "systemctl show -p ActiveEnterTimestampMonotonic -p NextElapseUSecRealtime "
    f"-p LastTriggerUSecMonotonic rota-{name}.timer"
    for name in ("described", "sandboxed")
} | {"sleeper": "systemctl show -p MainPID -p ControlGroup -p InvocationID rota-sleeper.service"}


@dataclass
class Edited:
    """What was seen around a switch that edits schedules.

    Attributes:
        done: the switch.
        fired: when agents started.
        due: when those that are to start again first are due.
        before: properties of units before it.
        after: the same right after it.
    """

    done: Switched
    fired: Mapping[str, list[float]]
    due: Mapping[str, float]
    before: Mapping[str, str]
    after: Mapping[str, str]


def edit(house: Switches, module: Module, wait: float) -> Edited:
    """Edit the schedules of agents that have run, with slots of the new ones in between."""
    both = {**EDITS, **SAME}
    house.switch(None)
    house.forget()
    stamps = "/var/lib/systemd/timers"
    house.machine.run(f"mkdir -p {stamps}; touch -d '2 days ago' {stamps}/stamp-rota-stamped.timer")
    house.switch({name: before for name, (before, _) in both.items() if before}, module)
    house.start("steady", *(name for name, (before, _) in EDITS.items() if before))
    house.sleep(2.2)
    house.machine.run("systemctl start --no-block rota-sleeper.service; sleep 0.3")
    before = {name: house.machine.run(look).stdout for name, look in LOOKS.items()}
    done = house.switch({name: after for name, (_, after) in both.items()}, module)
    after = {name: house.machine.run(look).stdout for name, look in LOOKS.items()}
    house.machine.run(f"touch {TOLD}")
    due = {
        name: house.first_due(done, name, schedule)
        for name, (_, agent) in EDITS.items()
        for schedule in agent["schedule"]
        if schedule in (EVERY, OFTEN)
    }
    house.sleep(wait)
    return Edited(done, {name: house.fired(name) for name in both}, due, before, after)


def test_without_rota_rearm_edited_schedules_fire_at_once(house: Switches) -> None:
    seen = edit(house, NO_REARM, 0.3)
    early = {name for name in EDITS if any(m > seen.done.steps["begin"] for m in seen.fired[name])}
    assert early == EDITS.keys()


@pytest.fixture(scope="module")
def edited(house: Switches) -> Edited:
    return edit(house, MODULE, 3)


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_schedule_does_not_fire(house: Switches, edited: Edited, name: str) -> None:
    steps = edited.done.steps
    after = [moment for moment in edited.fired[name] if moment > steps["begin"]]
    assert len(edited.fired[name]) - len(after) == (EDITS[name][0] is not None)
    if name in edited.due:
        assert after[0] > steps["reloaded"]
        assert edited.due[name] <= after[0] < edited.due[name] + 3
    else:
        assert not after
        assert house.active(name) == [name == "boot-added"]


def test_an_unchanged_schedule_keeps_its_phase(edited: Edited) -> None:
    # The first was started by hand.
    _, *fired = edited.fired["steady"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(fired)]
    assert fired[0] < edited.done.steps["reloaded"]
    assert gaps
    assert all(2.5 < gap < 4.5 for gap in gaps), gaps
    for name in ("described", "sandboxed"):
        assert edited.after[name] == edited.before[name]
    assert edited.done.actions.restart.isdisjoint({f"rota-{name}.timer" for name in SAME})


def test_a_run_under_way_is_not_touched(house: Switches, edited: Edited) -> None:
    assert "rota-sleeper.service" in edited.done.actions.skip
    assert edited.after["sleeper"] == edited.before["sleeper"]
    assert "/rota-medium.slice/" in edited.after["sleeper"]
    house.machine.wait_for("! systemctl is-active --quiet rota-sleeper.service", 15)
    (run,) = [
        run for run in house.settled("sleeper") if f"InvocationID={run['id']}" in edited.before["sleeper"]
    ]
    assert (run["state"], run["status"]) == ("failed", 7)
    assert len(house.fired("sleeper")) == 1
    house.rota("run sleeper --wait", code=8)


# --- agents come, go, rest --------------------------------------------------------------------------------


def test_agents_come_and_go(house: Switches) -> None:
    house.switch(
        {
            "leaving": agent(HOURLY, then=f"{UNTIL_TOLD}; exit 5"),
            "old-name": agent(HOURLY),
            "resting": agent({"every": "1s"}),
            "off": agent(EVERY),
        }
    )
    house.forget()
    house.rota("pause resting")
    house.machine.wait_for(lambda: house.fired("off"), 5)
    house.rota("run leaving")
    house.switch({"new-name": agent(HOURLY), "resting": agent(EVERY), "off": agent(EVERY, enabled=False)})
    assert house.active("leaving", "old-name", "off") == [False, False, False]
    assert house.show("rota-leaving.service", "ActiveState") == "active"
    offs, rested = len(house.fired("off")), len(house.fired("resting"))
    assert {row["name"] for row in house.json("list")} == {"new-name", "resting"}
    house.machine.run(f"touch {TOLD}")
    house.machine.wait_for(lambda: house.runs_of_all("leaving")[-1]["state"] == "failed", 8, "its end")
    assert house.runs_of_all("leaving")[-1]["status"] == 5
    assert len(house.fired("off")) == offs
    done = house.switch({"resting": agent(EVERY), "off": agent(EVERY)})
    house.fires_first_when_due(done, "off", EVERY)
    assert len(house.fired("resting")) == rested
    house.rota("resume resting")
    house.machine.wait_for(lambda: len(house.fired("resting")) > rested, 4)


def test_a_timer_stopped_by_hand_is_started_and_does_not_fire(house: Switches) -> None:
    agents = {"hand": agent(EVERY), "slot": agent(OFTEN), "other": agent(HOURLY)}
    house.switch(agents)
    house.forget()
    house.machine.wait_for(lambda: house.fired("hand") and house.fired("slot"), 6)
    # Whether anything of rota's is edited or not.
    for system in (agents, {**agents, "other": agent(DAILY)}):
        house.machine.run("systemctl stop rota-hand.timer rota-slot.timer; sleep 2.2")
        done = house.switch(system)
        house.fires_first_when_due(done, "hand", EVERY)
        house.fires_first_when_due(done, "slot", OFTEN)


def test_a_switch_runs_no_agent_again(house: Switches) -> None:
    """A reload lets OnActiveSec= elapse anew (systemd#31914): rota does not use it."""
    agents = {"soon": agent({"every": "1h", "after_boot": "1s"}), "other": agent(HOURLY)}
    house.forget()
    house.switch(agents)
    house.machine.wait_for(lambda: house.fired("soon"), 5)
    house.switch({**agents, "other": agent(DAILY)})
    house.machine.run("systemctl daemon-reload; sleep 1.5; systemctl daemon-reload; sleep 1.5")
    assert len(house.fired("soon")) == 1


# --- what goes wrong --------------------------------------------------------------------------------------

ONE = {"one": agent(HOURLY), "two": agent(DAILY), "boots": agent(BOOT), "gone": agent(HOURLY)}
TWO = {"one": agent(EVERY), "two": agent(OFTEN), "boots": agent(BOOT, DAILY), "new": agent(HOURLY)}


def is_well(house: Switches) -> None:
    """Check that the next switches are as good as ever."""
    house.switch(ONE)
    house.start("one", "two")
    house.sleep(2)
    done = house.switch(TWO)
    house.fires_first_when_due(done, "one", EVERY)
    house.fires_first_when_due(done, "two", OFTEN)


def killed_in(key: str, moment: float) -> Module:
    """Return a module whose `rota rearm` is killed after so many seconds, once."""
    text = MODULE.services["rota-rearm"][key]
    killed = (
        f"killed=/run/killed-{key}-{moment}; [ -e $killed ] || {{ touch $killed; timeout -s KILL {moment}"
    )
    return MODULE.with_rearm(
        **{key: text.replace("rota rearm", f"{killed} rota rearm || exit; }}\n  rota rearm")}
    )


def test_rearm_is_killed(house: Switches) -> None:
    pair = [{name: system[name] for name in system if name != "boots"} for system in (TWO, ONE)]
    for key in ("preStop", "script"):
        house.switch(ONE)
        for number, moment in enumerate((0.1, 0.25, 0.4)):
            house.switch(pair[number % 2], killed_in(key, moment))
    is_well(house)


def test_a_switch_is_cut_off(house: Switches) -> None:
    house.switch(ONE)
    for until, system in (("stopped", TWO), ("activated", ONE), ("reloaded", TWO)):
        house.start("one", "two")
        house.switch(system, until=until)
        done = house.switch(system)
        if system is TWO:
            house.fires_first_when_due(done, "one", EVERY)
            house.fires_first_when_due(done, "two", OFTEN)


def test_a_switch_is_refused(house: Switches) -> None:
    house.switch(ONE)
    for verb in ("restart", "stop", "start"):
        house.announce(TWO)
        assert house.machine.exists(NEXT)
        house.machine.run(f"systemctl {verb} rota-rearm.service")
        assert house.active("one", "two", "gone") == [True] * 3
    # Another one comes without checks, and finds the wrong system announced.
    house.announce(TWO)
    house.switch({"one": agent(DAILY), "two": agent(DAILY)}, checked=False)
    is_well(house)


def test_rota_is_taken_out_and_put_back(house: Switches) -> None:
    agents = {"a": agent(EVERY), "long": agent(HOURLY, then=f"{UNTIL_TOLD}; exit 6")}
    house.switch(agents)
    house.forget()
    house.machine.wait_for(lambda: house.fired("a"), 5)
    house.rota("run long")
    house.switch(None)
    assert house.active("a", "long") == [False, False]
    assert house.show("rota-long.service", "ActiveState") == "active"
    assert "/rota-medium.slice/" in house.show("rota-long.service", "ControlGroup")
    assert house.show("rotad.service", "ActiveState") == "inactive"
    house.machine.run(f"touch {TOLD}")
    house.machine.wait_for("! systemctl is-active --quiet rota-long.service", 8)
    done = house.switch(agents)
    house.fires_first_when_due(done, "a", EVERY)
    run = house.settled("long")[-1]
    assert (run["state"], run["status"]) == ("failed", 6)


def test_a_boot_starts_timers_and_a_shutdown_is_quick(house: Switches) -> None:
    agents = {"early": agent({"on_boot": True}), "later": agent(EVERY), "both": agent(BOOT, DAILY)}
    house.switch(agents)
    house.forget()
    house.announce(TWO)
    assert house.active("early", "later", "both") == [False, True, True]
    begin = time.monotonic()
    house.machine.stop()
    assert time.monotonic() - begin < 8
    house.machine.start()
    assert house.active("early", "later", "both") == [True, True, True]
    assert house.settled("early")[0]["trigger"] == "boot"
    house.machine.wait_for(lambda: len(house.fired("both")) == 1, 5)
    assert house.show("rota-rearm.service", "ActiveState") == "active"
    assert "ordering cycle" not in house.machine.run("journalctl --boot").stdout
    said = house.machine.run("journalctl --boot=-1 -u rota-rearm.service -o cat").stdout
    assert "count from now" not in said.rpartition("Stopping rota-rearm.service")[2]
    # The first switch after a boot is as good as others, and boot is past for it.
    house.machine.run("systemctl stop rota-later.timer; sleep 2")
    done = house.switch(agents)
    house.fires_first_when_due(done, "later", EVERY)
    house.switch({**agents, "both": agent(BOOT, HOURLY)})
    house.sleep(1.2)
    assert (len(house.fired("early")), len(house.fired("both"))) == (1, 1)
