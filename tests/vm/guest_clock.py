"""Runs inside the virtual machine: sets its clock about while agents run; says what it found as JSON.

It judges nothing: test_clock.py does. Each agent writes down its own starts and ends (`LEDGER`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.vm.guest import STATE, command, declare, measured, python, rotad, runs, say

LEDGER = """
import os, time
def note(what):
    file = os.open('ledger', os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    words = (os.environ['INVOCATION_ID'], what, time.time(), time.monotonic())
    os.write(file, ' '.join(map(str, words)).encode() + b'\\n')
    os.fsync(file)
note('start')
time.sleep({sleep})
note('end')
raise SystemExit({status})
"""
ZONE = "Europe/Rome"
OVER = ("succeeded", "failed", "timed-out", "killed", "skipped", "unknown")
SOON = 8
"""Seconds before a slot at which the clock is put, and after it at which the next is looked for."""


def agent(name: str, *, sleep: float = 0, status: int = 0, schedule: str = "") -> None:
    """Declare an agent that notes when it ran, sleeps, and exits."""
    more = f'schedule = {schedule}\ncatch_up = {{ mode = "never" }}' if schedule else ""
    declare(name, python(LEDGER.format(sleep=sleep, status=status)), more)


def ledger(name: str) -> list[dict[str, Any]]:
    """Return what an agent wrote down: run, what (start, end), seconds since 1970, monotonic seconds."""
    path = STATE / name / "ledger"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [
        {"run": run, "what": what, "at": float(at), "monotonic": float(monotonic)}
        for run, what, at, monotonic in map(str.split, lines)
    ]


def quiet(*names: str) -> None:
    """Wait until some agents do not run."""
    units = " ".join(f"rota-{name}.service" for name in names)
    end = time.monotonic() + 60
    while busy := command(f"systemctl list-units --no-legend --state=activating,active,deactivating {units}"):
        if time.monotonic() > end:
            raise TimeoutError(f"these do not end:\n{busy}")
        time.sleep(0.2)


def account(*names: str, **more: Any) -> dict[str, Any]:
    """Wait until all runs of some agents are filed; return what they, and rota, say of them."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = {name: runs(name) for name in names}
        of_all = [run for some in found.values() for run in some]
        if all(run["state"] in OVER and run.get("archived") for run in of_all):
            break
        time.sleep(0.5)
    said = {name: {"ledger": ledger(name), "runs": found[name]} for name in names}
    return {"agents": said, **more}


def put_clock(when: str) -> None:
    """Set the clock, as a person does; `when` is in UTC."""
    command(["date", "--utc", "--set", when])


@contextmanager
def timers(*names: str) -> Iterator[None]:
    """Let timers run for the length of a block."""
    units = " ".join(f"rota-{name}.timer" for name in names)
    command(f"systemctl start {units}")
    try:
        yield
    finally:
        command(f"systemctl stop {units}")


def jumps() -> dict[str, Any]:
    """Set the clock forward and back, by little and by much, while agents run and between their slots."""
    agent("slots", schedule='{ calendar = "*:*:0/10" }')
    agent("every", schedule='{ every = "7s" }')
    agent("across", sleep=9, status=4)
    command("rota apply")
    steps = []
    with timers("slots", "every"):
        for by in ("+1 hour", "-1 hour", "+13 seconds", "-7 seconds", "+1 day"):
            command("systemctl start --no-block rota-across.service")
            time.sleep(4)
            before = time.time()
            command(["date", "--set", by])
            steps.append({"by": by, "before": before, "after": time.time()})
            say(f"the clock was set by {by}")
            time.sleep(14)
            quiet("across")
    return account("slots", "every", "across", steps=steps)


# By night: slots of a daily agent at 02:30 and of one at each :15 and :45, as UTC, in order. The clock is put
# to a little before each. Spring: 02:00 becomes 03:00 at 01:00 UTC. Autumn: 03:00 becomes 02:00 at 01:00 UTC.
SLOTS = ("00:15", "00:30", "00:45", "01:15", "01:30", "01:45")
NIGHTS = {"spring": "2027-03-28", "autumn": "2027-10-31"}


def night(day: str) -> dict[str, Any]:
    """Go through a night in which the clocks change, from slot to slot."""
    command("systemctl stop rota-daily.timer rota-often.timer", check=False)
    put_clock(f"{day} 00:01:00")
    for name in ("daily", "often"):
        (STATE / name / "ledger").unlink(missing_ok=True)
    slots = [datetime.fromisoformat(f"{day} {slot}").replace(tzinfo=UTC).timestamp() for slot in SLOTS]
    with timers("daily", "often"):
        time.sleep(5)
        quiet("daily", "often")
        for slot in slots:
            put_clock(f"@{slot - SOON:.0f}")
            time.sleep(2 * SOON)
            quiet("daily", "often")
            say(f"slot {slot:.0f}")
    return account("daily", "often", slots=slots)


def nights() -> dict[str, Any]:
    """Go through both nights of a year in which clocks change in Rome."""
    agent("daily", schedule=f'{{ cron = "30 2 * * *", timezone = "{ZONE}" }}')
    agent("often", schedule=f'{{ cron = "15,45 * * * *", timezone = "{ZONE}" }}')
    command("rota apply")
    time.sleep(10)  # rotad accounts for slots from when it first sees an agent
    return {name: night(day) for name, day in NIGHTS.items()}


def asleep() -> dict[str, Any]:
    """Send the machine to sleep for some seconds while an agent runs, if its kernel can."""
    power, alarm = Path("/sys/power/mem_sleep"), Path("/sys/class/rtc/rtc0/wakealarm")
    states = power.read_text(encoding="ascii").split() if power.exists() else []
    say(f"sleep: {states}, alarm: {alarm.exists()}")
    if not {"deep", "[deep]"} & set(states) or not alarm.exists():
        return {
            "unable": f"the kernel knows {states}, and {'a' if alarm.exists() else 'no'} clock to wake it"
        }
    power.write_text("deep", encoding="ascii")
    agent("sleeper", sleep=8)
    agent("ticks", schedule='{ every = "5s" }')
    agent("slotted", schedule='{ calendar = "*:*:0/2" }')
    command("rota apply")
    with timers("ticks", "slotted"):
        command("systemctl start --no-block rota-sleeper.service")
        time.sleep(4)
        boot = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        with suppress(OSError):
            alarm.write_text("0", encoding="ascii")
        alarm.write_text("+12", encoding="ascii")
        try:
            Path("/sys/power/state").write_text("mem", encoding="ascii")
        except OSError as error:
            return {"unable": f"suspend: {error}"}
        slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() - boot
        say(f"asleep for {slept:.1f} s")
        time.sleep(16)
    return account("sleeper", "ticks", "slotted", slept=slept)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"asleep": asleep, "jumps": jumps, "nights": nights}


def main() -> None:
    """Measure everything, and give the verdict."""
    verdict = {name: measured(part) for name, part in PARTS.items()}
    verdict["rotad"] = measured(rotad)
    say(f"verdict {json.dumps(verdict)}")


if __name__ == "__main__":
    main()
