"""Runs inside the virtual machine, once at each of its two boots; says what it measured as JSON.

It judges nothing: test_limits.py does. The first boot is ended without warning, to see the second.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

AGENTS = Path("/etc/rota/agents.d")
STATE = Path("/var/lib/private/rota-agents")
KEPT = Path("/var/lib/first-boot.json")
OVER = ("succeeded", "failed", "timed-out", "killed", "skipped", "unknown")
STARTED = "39f53479d3a045ac8e11786248231fbf"

ALLOCATE = "import time; block = b'x' * ({size} << 20); time.sleep(1)"
WRITE = """
import os
with open('file', 'wb') as file:
    file.write(os.urandom(20 << 20))
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
open('file', 'rb').read()
"""
SPIN = """
import time
end = time.monotonic() + 4
while time.monotonic() < end:
    pass
"""
THREADS = """
import threading, time
count = 0
try:
    while count < 20:
        threading.Thread(target=time.sleep, args=(1,)).start()
        count += 1
except RuntimeError:
    pass
open('count', 'w').write(str(count))
"""
# two loops: one for each processor
BURN = "while :; do :; done & while :; do :; done"

Run = dict[str, Any]


def say(text: str) -> None:
    """Print a line the harness finds among the kernel's and systemd's."""
    print(f"\nrota-vm: {text}", flush=True)


def command(line: str | Sequence[str], *, check: bool = True) -> str:
    """Run a command and return what it printed."""
    words = shlex.split(line) if isinstance(line, str) else line
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{line}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def declare(name: str, words: Sequence[str], more: str = "") -> None:
    """Write one declaration; JSON's strings are TOML's."""
    AGENTS.mkdir(parents=True, exist_ok=True)
    (AGENTS / f"{name}.toml").write_text(f"command = {json.dumps(list(words))}\n{more}\n", encoding="utf-8")


def python(code: str) -> list[str]:
    """Return the command of an agent that is a few lines of Python."""
    return ["/usr/bin/python3", "-c", code]


def runs(name: str) -> list[Run]:
    """Return an agent's runs as rota tells them, oldest first."""
    found: list[Run] = json.loads(command(f"rota --json runs {name} -n 1000"))
    return found[::-1]


def settled(name: str, count: int = 1, timeout: float = 90) -> list[Run]:
    """Wait until so many runs are over and filed."""
    end = time.monotonic() + timeout
    while True:
        found = runs(name)
        filed = [run for run in found if run["state"] in OVER and run.get("archived")]
        if len(filed) >= count:
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"{name}: {count} runs were not filed in {timeout:g} s: {found}")
        time.sleep(0.2)


def once(name: str) -> Run:
    """Run an agent and return its run when it is filed."""
    command(f"rota run --wait {name}", check=False)
    return settled(name)[-1]


def limits() -> dict[str, Any]:
    """Measure what limits do to runs, and what is recorded of them."""
    declare("oom", python(ALLOCATE.format(size=200)), 'resources.memory = "32M"')
    # the shell would go on when its child is gone
    child = shlex.join(python(ALLOCATE.format(size=200)))
    declare("oom-child", ["/bin/sh", "-c", f"{child}; sleep 60"], 'resources.memory = "32M"')
    declare("quiet", python(ALLOCATE.format(size=50)))
    declare("writer", python(WRITE))
    declare("slow", python(SPIN), 'resources.cpu = "20%"')
    declare("threads", python(THREADS), "resources.tasks = 4")
    declare("burn-low", ["/bin/sh", "-c", BURN], 'priority = "low"\ntimeout = "8s"')
    declare("burn-high", ["/bin/sh", "-c", BURN], 'priority = "high"\ntimeout = "8s"')
    command("rota apply")
    found: dict[str, Any] = {}
    for name in ("oom", "oom-child", "quiet", "writer", "slow", "threads"):
        found[name] = once(name)
        say(f"{name}: {found[name]}")
    found["started threads"] = int((STATE / "threads/count").read_text(encoding="ascii"))
    command("systemctl start --no-block rota-burn-low.service rota-burn-high.service")
    slices = Path("/sys/fs/cgroup/rota.slice")
    time.sleep(3)
    for priority in ("low", "high"):
        for key in ("cpu.weight", "io.weight"):
            text = (slices / f"rota-{priority}.slice" / key).read_text(encoding="ascii")
            # io.weight begins with the word default
            found[f"{priority} {key}"] = text.split()[-1]
    for name in ("burn-low", "burn-high"):
        found[name] = settled(name)[-1]
        say(f"{name}: {found[name]}")
    return found


def second_boot() -> dict[str, Any]:
    """Return the runs of the boot agent, once filed, and of the one that was running when the plug went."""
    return {"early": settled("early"), "cut": runs("cut")}


def cut_off() -> None:
    """Leave an agent for the next boot and one running, and pull the plug: the harness puts it in again."""
    declare("early", ["/bin/true"], "schedule = { on_boot = true }")
    declare("cut", ["/bin/sleep", "600"])
    command("rota apply")
    time.sleep(2)
    if runs("early"):
        raise RuntimeError("the boot agent has run before the boot")
    command("rota run cut")
    command("journalctl --sync")
    command("sync")
    say("again")
    Path("/proc/sysrq-trigger").write_text("b", encoding="ascii")
    time.sleep(60)


def journal_order(name: str) -> list[str]:
    """Return the ids of an agent's runs in the order in which systemd logged their starts."""
    match = [f"UNIT=rota-{name}.service", "_PID=1", f"MESSAGE_ID={STARTED}"]
    lines = command(["journalctl", "--quiet", "--output=json", *match]).splitlines()
    return [json.loads(line)["INVOCATION_ID"] for line in lines]


def step(by: str) -> dict[str, Any]:
    """Set the clock while one run is under way and others keep coming; tell which runs there were."""
    command("systemctl start rota-tick.timer")
    command("rota run across")
    time.sleep(1)
    before = time.time()
    command(["date", "-s", by])
    after = time.time()
    time.sleep(20)
    command("systemctl stop rota-tick.timer")
    settled("across")
    settled("tick", len(runs("tick")))
    say(f"the clock was set by {by}")
    found = {name: runs(name) for name in ("tick", "slot", "across")}
    agents = json.loads(command("rota --json list"))
    last = {agent["name"]: agent.get("last", {}).get("id") for agent in agents}
    return {**found, "before": before, "after": after, "order": journal_order("tick"), "last": last}


def clock() -> dict[str, Any]:
    """Set the clock forward over a slot, then back behind it."""
    slot = datetime.now() + timedelta(hours=1)
    declare("tick", ["/bin/true"], 'schedule = { every = "6s" }')
    declare("slot", ["/bin/true"], f'schedule = {{ cron = "{slot.minute} {slot.hour} * * *" }}')
    declare("across", ["/bin/sleep", "8"])
    command("rota apply")
    settled("tick", 2)
    found: dict[str, Any] = {"forward": step("+2 hours"), "back": step("-3 hours")}
    return found


def rebuilt() -> dict[str, Any]:
    """Throw the store away and say what rotad makes of the journal: every run, before and after."""
    before = json.loads(command("rota --json runs -n 1000"))
    command("systemctl stop rotad.service")
    for file in Path("/var/lib/rota").glob("rota.db*"):
        file.unlink()
    command("systemctl start rotad.service")
    return {"before": before, "after": json.loads(command("rota --json runs -n 1000"))}


def rotad() -> dict[str, Any]:
    """Return how rotad fared."""
    show = command("systemctl show -P NRestarts rotad.service")
    log = command("journalctl --quiet --boot=all -o cat -p warning -u rotad.service").splitlines()
    return {"restarts": int(show), "warnings": log}


def measured(what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a function found, or the error that kept it from it."""
    try:
        return what()
    except Exception:  # noqa: BLE001  (whatever it was, the other parts count)
        return {"error": traceback.format_exc()}


def main() -> None:
    """Go on where the last boot ended."""
    if not KEPT.exists():
        found = {"limits": measured(limits), "rotad at first": measured(rotad)}
        KEPT.write_text(json.dumps(found), encoding="utf-8")
        cut_off()
        sys.exit("the machine is still up")
    verdict = json.loads(KEPT.read_text(encoding="utf-8"))
    verdict["boot"] = measured(second_boot)
    verdict["clock"] = measured(clock)
    verdict["rebuilt"] = measured(rebuilt)
    verdict["rotad"] = measured(rotad)
    say(f"verdict {json.dumps(verdict)}")


if __name__ == "__main__":
    main()
