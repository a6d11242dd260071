"""Every slot is accounted for, on a real systemd: whatever becomes of rotad, the timer and the machine."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.machine.house import House
from tests.machine.install import install_rota
from tests.machine.machine import Machine

S = 1_000_000
TICK = 'command = ["/bin/true"]\nschedule = {{ calendar = "*:*:0/{every}" }}\n'
CATCH_UP = 'catch_up = { mode = "once" }\n'


def rows(house: House, agent: str) -> list[dict[str, Any]]:
    """Return runs with a slot and rows of missed slots, by their slots."""
    return sorted((run for run in house.runs(agent) if "slot" in run), key=lambda run: int(run["slot"]))


def accounted(house: House, agent: str, every: int) -> Counter[int]:
    """Return how often each slot is in the record."""
    seen: Counter[int] = Counter()
    for row in rows(house, agent):
        if row["state"] == "missed":
            slots = list(range(row["slot"], row["slot_until"] + 1, every * S))
            assert len(slots) == row["slots"]
            seen.update(slots)
        else:
            seen[row["slot"]] += 1
    return seen


def expect_all(house: House, agent: str, every: int, upto: float = 0) -> list[dict[str, Any]]:
    """Wait until every slot up to a moment is in the record, and check that each is there once."""
    last = int((upto or time.time()) / every) * every * S

    def there() -> bool:
        seen = accounted(house, agent, every)
        return bool(seen) and max(seen) >= last

    house.machine.wait_for(there, 90, f"the slots of {agent}")
    seen = accounted(house, agent, every)
    assert set(seen) == set(range(min(seen), max(seen) + 1, every * S)), "a slot is in no row"
    assert set(seen.values()) == {1}, "a slot is in two rows"
    assert max(seen) <= time.time() * S, "a slot of the future"
    return rows(house, agent)


def missed(found: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["reason"], row["slots"]) for row in found if row["state"] == "missed"]


def until_served(house: House, agent: str, count: int = 1) -> None:
    def enough() -> bool:
        return len([row for row in rows(house, agent) if row["state"] == "succeeded"]) >= count

    house.machine.wait_for(enough, 30, f"{count} served slots of {agent}")


def why(house: House, agent: str, more: str = "") -> str:
    return house.rota(f"why {agent} {more}").stdout.strip()


def test_a_run_serves_its_slot(house: House) -> None:
    house.declare("tick", TICK.format(every=5))
    until_served(house, "tick", 2)
    found = expect_all(house, "tick", 5, rows(house, "tick")[-1]["slot"] / S)
    for run in found:
        assert run["late"] == run["started"] - run["slot"] < 2 * S
    run = found[-1]
    assert "ran on time and succeeded" in why(house, "tick")
    assert f"(run {run['id'][:8]})" in why(house, "tick", f"--at '{moment(house, run['slot'])}'")
    assert "0.1s" in house.rota("runs tick").stdout
    (stats,) = house.json("stats tick --since 1h")
    assert 0 < stats["late_p95"] < 2 * S
    shown = house.json("show tick")
    assert shown["coming"] == [shown["coming"][0] + step * 5 * S for step in range(3)]
    assert 0 < shown["exposure"] < 10
    assert "Exposure: " in house.rota("show tick").stdout


def test_without_rotad_slots_are_served_all_the_same(house: House) -> None:
    house.declare("alone", TICK.format(every=3))
    until_served(house, "alone")
    house.machine.run("systemctl stop rotad.service; sleep 10; systemctl start rotad.service")
    found = expect_all(house, "alone", 3, time.time() - 3)
    assert {row["state"] for row in found} == {"succeeded"}


def test_a_timer_that_is_stopped(house: House) -> None:
    house.declare("still", TICK.format(every=3))
    until_served(house, "still")
    house.machine.run("systemctl stop rota-still.timer; sleep 13")
    assert "Its timer is stopped: systemctl start rota-still.timer" in why(house, "still")
    listed = {agent["name"]: agent for agent in house.json("list")}["still"]
    assert listed["missed"] >= 2
    assert (listed["last"]["state"], listed["trend"][-1]) == ("succeeded", "missed")
    assert "missed since" in house.rota("list").stdout
    house.machine.run("systemctl start rota-still.timer; sleep 4")
    found = expect_all(house, "still", 3, time.time() - 3)
    ((reason, slots),) = missed(found)
    assert reason == "timer-stopped"
    assert slots >= 3
    (row,) = house.json("runs still --state missed")
    assert abs(row["cause_since"] / S - time.time()) < 60
    assert "were missed: its timer was stopped at" in why(
        house, "still", f"--at '{moment(house, row['slot'])}'"
    )
    assert house.rota("logs " + row["id"][:12]).stderr.startswith("Nothing ran: missed, timer-stopped")
    assert [r["id"] for r in house.json("runs still -n 100") if r["id"] == row["id"]] == [row["id"]]


def moment(house: House, at: int) -> str:
    return house.machine.run(f"date -d @{at // S} '+%Y-%m-%d %H:%M:%S'").stdout.strip()


def test_a_paused_agent(house: House) -> None:
    house.declare("quiet", TICK.format(every=3))
    house.rota("pause quiet --why 'the disk is full'", user="bob")
    house.machine.run("sleep 8")
    said = why(house, "quiet")
    assert "was skipped: it was paused." in said
    assert "It is paused since" in said and "by bob: the disk is full." in said
    found = expect_all(house, "quiet", 3, time.time() - 3)
    assert {row["state"] for row in found} == {"skipped"}


def test_a_run_that_goes_on_over_slots(house: House) -> None:
    house.declare("long", 'command = ["/bin/sleep", "8"]\nschedule = { calendar = "*:*:0/3" }\n')
    house.machine.run("sleep 22")
    assert "It has been running since" in why(house, "long")
    house.machine.run("systemctl stop rota-long.timer")
    house.machine.wait_for("! systemctl is-active rota-long.service", 10)
    found = expect_all(house, "long", 3, time.time() - 15)
    assert {reason for reason, _ in missed(found)} <= {"still-running", "timer-stopped"}
    assert ("still-running", 1) in missed(found)
    late = [row for row in found if row.get("held") == "still-running"]
    assert late, "one that waited for the run before it"
    assert "the run before went on until" in why(house, "long", f"--at '{moment(house, late[0]['slot'])}'")


def test_a_slot_that_passes_during_a_run_by_hand_is_missed(house: House) -> None:
    house.declare("hand", 'command = ["/bin/sleep", "7"]\nschedule = { calendar = "*:*:0/5" }\n')
    house.machine.run("systemctl stop rota-hand.timer")
    house.rota("run hand", user="bob")
    house.machine.run("systemctl start rota-hand.timer; sleep 18; systemctl stop rota-hand.timer")
    found = expect_all(house, "hand", 5, time.time() - 10)
    assert "still-running" in {reason for reason, _ in missed(found)}
    by_bob = [run for run in house.runs("hand") if run.get("requested_by") == "bob"]
    assert [run.get("slot") for run in by_bob] == [None]


def test_rotad_killed_again_and_again(house: House) -> None:
    house.declare("storm", TICK.format(every=2))
    house.machine.run("sleep 3")
    began = time.time()
    while time.time() - began < 30:
        house.machine.run("systemctl kill -s KILL rotad.service", check=False)
        if secrets.randbelow(5) == 0:
            house.machine.run("systemctl stop rota-storm.timer; sleep 3; systemctl start rota-storm.timer")
        time.sleep(secrets.randbelow(300) / 100)
    house.machine.wait_for("busctl status org.rota1 >/dev/null", 10)
    until_served(house, "storm", 3)
    house.machine.run("sleep 3")
    found = expect_all(house, "storm", 2, time.time() - 3)
    assert {reason for reason, _ in missed(found)} <= {"timer-stopped"}
    assert len({row["id"] for row in found}) == len(found)


def test_a_schedule_that_is_edited(house: House) -> None:
    house.declare("edited", TICK.format(every=2))
    until_served(house, "edited", 2)
    house.declare("edited", 'command = ["/bin/true"]\nschedule = { calendar = "*:*:1/10" }\n')
    changed = time.time()
    house.machine.run("sleep 12")
    found = rows(house, "edited")
    assert all(row["slot"] / S % 10 == 1 for row in found if row["slot"] / S > changed)
    assert any(row["slot"] / S > changed for row in found)
    before = [row["slot"] for row in found if row["slot"] / S < changed]
    assert before == list(range(before[0], before[-1] + 1, 2 * S)), "by the old schedule until then"
    assert not missed(found) or missed(found) == [("timer-stopped", 1)]


def test_a_lost_store_is_made_again_with_its_rows(house: House) -> None:
    house.declare("kept", TICK.format(every=3))
    until_served(house, "kept", 2)
    house.machine.run("systemctl stop rota-kept.timer; sleep 9; systemctl start rota-kept.timer; sleep 4")
    expect_all(house, "kept", 3, time.time() - 4)
    house.machine.run("systemctl stop rota-kept.timer; sleep 1; systemctl stop rotad.service")
    house.machine.run("systemctl start rotad.service")
    house.machine.wait_for("busctl status org.rota1 >/dev/null", 10)
    before = rows(house, "kept")
    house.machine.run(
        "systemctl stop rotad.service; rm /var/lib/rota/rota.db*; systemctl start rotad.service"
    )
    house.machine.wait_for("busctl status org.rota1 >/dev/null", 10)
    house.machine.wait_for(lambda: len(rows(house, "kept")) >= len(before), 10, "the record")
    after = rows(house, "kept")
    assert after[: len(before) - 1] == before[:-1]
    house.machine.run("systemctl start rota-kept.timer; sleep 4")
    expect_all(house, "kept", 3, time.time() - 3)


def test_an_agent_without_slots(house: House) -> None:
    house.declare("every", 'command = ["/bin/true"]\nschedule = { every = "2s" }\n')
    house.declare("demand", 'command = ["/bin/sh", "-c", "exit 3"]\n')
    house.machine.run("sleep 4; systemctl stop rota-every.timer; sleep 6")
    assert all("slot" not in run for run in house.runs("every"))
    assert "started by its timer, and succeeded" in why(house, "every")
    assert why(house, "demand").startswith("It has not run yet. It has no schedule")
    house.rota("run demand --wait", user="bob", code=3)
    said = why(house, "demand")
    assert "started by bob, and failed after" in said and ": exit status 3 (run " in said
    assert "no agent nobody" in house.rota("why nobody", code=3).stderr


@pytest.fixture
def lasting() -> Iterator[House]:
    """A machine whose disk outlives it."""
    with Machine(persistent=True) as machine:
        install_rota(machine)
        yield House(machine)


@pytest.mark.parametrize("hard", [False, True])
def test_a_machine_that_was_off(lasting: House, bootable: None, hard: bool) -> None:
    house, machine = lasting, lasting.machine
    house.declare("once", TICK.format(every=5) + CATCH_UP, apply=False)
    house.declare("never", TICK.format(every=5), apply=False)
    house.apply()
    until_served(house, "once")
    until_served(house, "never")
    if hard:
        machine.run("journalctl --sync; sync")
        machine.power_off_hard()
    else:
        machine.stop()
    time.sleep(21)
    machine.start()
    machine.run("systemctl start rotad.service")
    machine.wait_for("busctl status org.rota1 >/dev/null", 20)
    time.sleep(8)
    never = expect_all(house, "never", 5, time.time() - 6)
    once = expect_all(house, "once", 5, time.time() - 6)
    for found in (never, once):
        ((reason, slots),) = missed(found)
        assert reason == "host-down"
        assert slots >= 3
    caught_up = [row for row in once if row.get("held") == "host-down"]
    assert len(caught_up) == 1
    assert missed(once)[0][1] == missed(never)[0][1] - 1
    (row,) = house.json("runs never --state missed")
    said = why(house, "never", f"--at '{moment(house, row['slot'])}'")
    assert "were missed: the machine was off from" in said
    assert "and it has no catch_up." in said
    assert "the machine was off until" in why(house, "once", f"--at '{moment(house, caught_up[0]['slot'])}'")
