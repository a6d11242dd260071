"""Drives a storm on a booted machine: agents run in all ways, and everything else falls over.

`python -m tests.machine.storm_drive` is `make storm`; test_storm.py has a shorter one. What comes of it is
judged by storm.py.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.machine import cgroup, storm
from tests.machine.install import install_rota
from tests.machine.machine import Machine, missing
from tests.machine.rootfs import MachineError
from tests.machine.storm import Entry, Loss

HERE = Path(__file__).parent
PROGRAMS = "/usr/local/lib/storm"
FOLLOWED = "/var/lib/storm/followed"
STATES = "var/lib/private/rota-agents"
RESTING = "storm-rest"
Run = dict[str, Any]

# What agents do, by kind: outcomes with weights, keys of the declaration.
KINDS: Sequence[tuple[str, str]] = (
    ("ok=6 exit=2 kill=1", 'schedule = { every = "3s" }'),
    ("ok=4 exit=2 timeout=3", 'timeout = "3s"'),
    ("ok=3 stop=2 rota-stop=2", ""),
    ("ok=3 core=2 kill=2 exit=2 term=1", ""),
    ("ok=3 condition=3 exit=2", ""),
)
GATED = 4


@dataclass(frozen=True)
class Plan:
    """How much of a storm there is to be.

    Attributes:
        seed: what becomes of runs, and when things fall over, is drawn from it.
        runs: so many runs at least.
        agents: so many agents.
        kills: so often rotad is killed.
        vacuums: so often journald forgets what rotad may not have read.
        cuts: so often the machine is powered off without warning: a key of `CUTS` each.
        kill_every: seconds between two kills, on average.
    """

    seed: int
    runs: int
    agents: int
    kills: int
    vacuums: int
    cuts: tuple[str, ...]
    kill_every: float


WHOLE = Plan(1, 1000, 50, 100, 6, ("older", "damaged"), 1.2)
SHORT = Plan(1, 120, 10, 12, 1, ("older",), 1.0)


def now() -> int:
    """Return the time: microseconds since 1970. The machine has the host's clock."""
    return time.time_ns() // 1000


@dataclass
class Account:
    """What happened in a storm, and what is wrong with the record of it."""

    ledger: list[Entry] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    events: list[Run] = field(default_factory=list)
    seconds: float = 0

    def text(self) -> str:
        """Return it for people."""
        outcomes = Counter(entry.outcome.split(" ")[0] for entry in self.ledger)
        states = Counter(run["state"] for run in self.runs)
        absent = len({entry.run for entry in self.ledger if entry.run} - {run["id"] for run in self.runs})
        lines = [
            f"storm of {self.seconds:.0f} s: " + ", ".join(f"{n} {what}" for what, n in self.counts.items()),
            f"  agents' own ledger: {len(self.ledger)} runs: " + _list(outcomes),
            f"  rota's record: {len(self.runs)} runs, {len(self.events)} events: " + _list(states),
            f"  of which the journal lost all: {absent}",
            f"  faults: {len(self.faults)}",
            *(f"    {fault}" for fault in self.faults[:40]),
        ]
        return "\n".join(lines)


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


class Storm:
    """One storm on a persistent machine."""

    def __init__(self, machine: Machine, plan: Plan) -> None:
        self.machine = machine
        self.plan = plan
        self.account = Account()
        self.names = [f"storm-{number:02}" for number in range(plan.agents)]
        self._chance = Random(f"driver {plan.seed}")  # noqa: S311
        self._paused: list[Entry] = []
        self._stopped: set[str] = set()
        self._since_kill = now()
        self._calm = threading.Event()
        self._seen: list[list[Run]] = []

    # What there is.

    def prepare(self) -> None:
        """Install rota, declare agents, begin to follow events."""
        machine, seed = self.machine, self.plan.seed
        install_rota(machine)
        for program in ("storm_agent.py", "storm_follow.py"):
            machine.write(f"{PROGRAMS}/{program}", (HERE / program).read_text(encoding="utf-8"))
        files: dict[str, str] = {}
        for number, name in enumerate(self.names):
            outcomes, keys = KINDS[number % len(KINDS)]
            words = ["/usr/bin/python3", "-ISB", f"{PROGRAMS}/storm_agent.py", str(seed), name]
            words += outcomes.split()
            files[f"/etc/rota/agents.d/{name}.toml"] = f"command = {json.dumps(words)}\n{keys}\n"
            if number % len(KINDS) == GATED:
                gate = " ".join([*words[:3], "--gate", *words[3:]])
                files[f"/etc/systemd/system/rota-{name}.service.d/gate.conf"] = (
                    f"[Service]\nExecCondition={gate}\n"
                )
        files[f"/etc/rota/agents.d/{RESTING}.toml"] = 'command = ["/bin/false"]\n'
        files[f"/var/lib/rota/paused/{RESTING}"] = ""
        put = "import json, pathlib, sys\nfor path, text in json.load(sys.stdin).items():\n"
        put += "    path = pathlib.Path(path)\n    path.parent.mkdir(parents=True, exist_ok=True)\n"
        put += "    path.write_text(text)\n"
        machine.run(["python3", "-c", put], input=json.dumps(files))
        machine.run("rota apply; mkdir -p /var/lib/storm")
        self.follow()

    def follow(self) -> None:
        """Begin to follow events, from the last that was seen."""
        follower = f"python3 {PROGRAMS}/storm_follow.py {FOLLOWED}"
        self.machine.run(f"systemd-run --quiet --collect --unit=storm-follow {follower}")

    @property
    def disk(self) -> Path:
        """The machine's disk, as far as it is its own: there also when it is off."""
        return self.machine.directory / "disk/upper"

    def ledger(self) -> list[Entry]:
        """Return what agents wrote down by now."""
        found = list(self._paused)
        for name in self.names:
            with suppress(FileNotFoundError):
                text = (self.disk / STATES / name / "ledger").read_text(encoding="ascii")
                found += storm.read_ledger(name, text)
        return found

    def runs(self) -> list[Run]:
        """Return what rota recorded, oldest first; it may just be killed."""
        return _lines(self._insist("rota export"))[::-1]

    def _insist(self, command: str) -> str:
        """Run a command that asks rotad, until it answers."""

        def ask() -> str | None:
            done = self.machine.run(command, check=False)
            return None if done.returncode else done.stdout or " "

        return self.machine.wait_for(ask, 30, f"`{command}`") or ""

    # What falls over.

    def rotad(self) -> int | None:
        """Return rotad's process, as the host numbers it; None if there is none just now."""
        group = cgroup.of_process(self.machine.init).parent / "system.slice/rotad.service"
        return min(cgroup.processes(group), default=None)

    def kill(self) -> None:
        """Kill rotad, if there is one."""
        with suppress(ProcessLookupError):
            if (pid := self.rotad()) is not None:
                os.kill(pid, signal.SIGKILL)
                self._since_kill = now()
                self.account.counts["kills"] += 1

    def _not_read_since(self) -> int:
        """Return since when there may be entries that rotad has not read yet."""
        alive = now() - self._since_kill
        return (self._since_kill if alive < 8 * storm.SECOND else now()) - 2 * storm.SECOND

    def rotate(self) -> None:
        """Let journald begin a new file."""
        self.machine.run("journalctl --rotate", check=False)
        self.account.counts["rotations"] += 1

    def vacuum(self) -> None:
        """Let journald throw away what it has while rotad is down; runs go on meanwhile."""
        begin = self._not_read_since()
        rotate = "journalctl --rotate --vacuum-files=1"
        self.machine.run(f"systemctl stop rotad; sleep 1; {rotate}; systemctl start rotad")
        self._since_kill = now()  # it has to catch up
        self.account.losses.append(Loss(begin, now(), "vacuumed"))
        self.account.counts["vacuums"] += 1

    def power_cut(self, kind: str) -> None:
        """Pull the plug, do to the journal what a power cut may do to it, and boot again."""
        self._seen.append(self.runs())
        begin = self._not_read_since()
        CUTS[kind](self)
        if self.machine._nspawn is not None:
            self.machine.power_off_hard()
        self.account.losses.append(Loss(begin, now(), f"power cut, {kind}"))
        self.check_store()
        self._stopped |= {entry.run for entry in self._waiting()}  # no longer
        self.machine.start()
        self._since_kill = now()
        self.follow()
        self.account.counts[f"power cuts ({kind})"] += 1

    def journal(self) -> Path:
        """Return the journal file that is written to."""
        (path,) = (self.disk / "var/log/journal").glob("*/system.journal")
        return path

    def check_store(self) -> None:
        """See whether a power cut left a sound store."""
        with tempfile.TemporaryDirectory() as copy:
            for path in (self.disk / "var/lib/rota").glob("rota.db*"):
                subprocess.run(["cp", "--", path, copy], check=True)
            with sqlite3.connect(Path(copy) / "rota.db") as store:
                (said,) = store.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            self.account.faults.append(f"the store after a power cut: {said}")

    # What agents do.

    def step(self) -> None:
        """Start some agents, and stop those that wait for it."""
        machine, chance = self.machine, self._chance
        some = chance.sample(self.names, k=min(len(self.names), chance.randint(1, 6)))
        units = " ".join(f"rota-{name}.service" for name in some)
        if chance.random() < 0.15:
            machine.run(f"timeout 10 rota run {some[0]}", check=False)
        else:
            machine.run(f"systemctl start --no-block {units}", check=False)
        if chance.random() < 0.1:
            at = now()
            if machine.run(f"systemctl start rota-{RESTING}.service", check=False).returncode == 0:
                self._paused.append(Entry("", RESTING, "paused", at, now()))
        self.stop_waiting()

    def _waiting(self) -> list[Entry]:
        return [entry for entry in self.ledger() if entry.end is None and entry.run not in self._stopped]

    def stop_waiting(self) -> None:
        """Stop the runs that wait for it."""
        for entry in self._waiting():
            if entry.outcome in ("stop", "rota-stop"):
                self._stop(entry)

    def _stop(self, entry: Entry) -> None:
        self._stopped.add(entry.run)
        how = "timeout 10 rota stop" if entry.outcome == "rota-stop" else "systemctl stop"
        name = entry.agent if entry.outcome == "rota-stop" else f"rota-{entry.agent}.service"
        if self.machine.run(f"{how} {name}", check=False).returncode:
            self._stopped.discard(entry.run)  # rotad was killed meanwhile: once more

    def disturb(self, until: threading.Event) -> None:
        """Kill rotad at random moments, and rotate the journal now and then."""
        chance = Random(f"kills {self.plan.seed}")  # noqa: S311
        while not until.wait(chance.uniform(0.02, 2 * self.plan.kill_every)):
            if self.account.counts["kills"] >= self.plan.kills or self._calm.is_set():
                continue
            self.kill()
            if chance.random() < 0.5:
                # Else systemd does, a second later: some are killed while they start.
                with suppress(MachineError):
                    self.machine.run("systemctl start --no-block rotad", check=False)
            if chance.random() < 0.2:
                with suppress(MachineError):
                    self.rotate()

    def between(self, what: Callable[[], None]) -> None:
        """Do something while nothing else falls over."""
        self._calm.set()
        try:
            time.sleep(0.3)
            what()
        finally:
            self._calm.clear()

    def blow(self) -> None:
        """Let it happen: all runs, kills, losses. The last third of runs loses nothing."""
        plan = self.plan
        due: list[tuple[float, Callable[[], None]]] = [
            *(
                (plan.runs * 0.65 * number / len(plan.cuts), partial(self.power_cut, kind))
                for number, kind in enumerate(plan.cuts, 1)
            ),
            *((plan.runs * 0.6 * (n + 0.5) / plan.vacuums, self.vacuum) for n in range(plan.vacuums)),
        ]
        due.sort(key=lambda item: item[0])
        over = threading.Event()
        disturber = threading.Thread(target=self.disturb, args=(over,), daemon=True)
        disturber.start()
        try:
            while (
                (done := len(self.ledger())) < plan.runs or self.account.counts["kills"] < plan.kills or due
            ):
                if due and done >= due[0][0]:
                    self.between(due.pop(0)[1])
                self.step()
                # As many kills as runs, of what there is to be.
                if done / plan.runs > self.account.counts["kills"] / max(plan.kills, 1) + 0.1:
                    time.sleep(0.2)
        finally:
            over.set()
            disturber.join()

    # What came of it.

    def settle(self) -> None:
        """Let everything come to its end, and be filed."""
        machine = self.machine
        timers = " ".join(f"rota-{name}.timer" for name in self.names)
        machine.run(f"systemctl stop {timers}; systemctl start rotad", check=False)

        def still() -> bool:
            self.stop_waiting()
            busy = machine.run(
                "systemctl list-units --no-legend 'rota-storm-*.service' "
                "--state=activating,active,deactivating"
            )
            return not busy.stdout.strip()

        machine.wait_for(still, 30, "all agents to end")
        machine.run("systemctl is-active rotad || systemctl start rotad")
        self.filed()

    def filed(self) -> None:
        """Wait until all runs are over, and filed; the last that agents tell of among them."""
        last = max((entry.end, entry.run) for entry in self.ledger() if entry.run and entry.end)[1]

        def done() -> bool:
            runs = self.runs()
            over = all(run["state"] in storm.STATES and run["archived"] for run in runs)
            return over and last in {run["id"] for run in runs}

        self.machine.wait_for(done, 45, "all runs to be filed")

    def judge(self) -> None:
        """Compare everything with everything."""
        account = self.account
        time.sleep(1)
        account.runs, account.ledger = self.runs(), self.ledger()
        account.faults += storm.verdict(account.ledger, account.runs, account.losses)
        for seen in self._seen:
            account.faults += storm.kept(seen, account.runs)
        self._judge_events()
        for since in ("1h", "9d"):
            account.faults += storm.added_up(
                account.runs, json.loads(self._insist(f"rota --json stats --since {since}"))
            )
        self._judge_rebuilt()
        log = self.machine.run("journalctl -u rotad.service -o cat -p err", check=False).stdout
        account.faults += [f"rotad said: {line}" for line in log.splitlines() if "Traceback" in line]

    def _judge_events(self) -> None:
        events: list[Run] = []
        followed: list[Run] = []
        for _ in range(50):
            # What a run said may be filed only now: the follower sees it behind a list that was made before.
            events = _lines(self._insist("rota --json events --since 0"))
            followed = _lines((self.disk / FOLLOWED[1:]).read_text(encoding="utf-8"))
            if len(followed) == len(events):
                break
            time.sleep(0.1)
        self.account.events = events
        self.account.faults += storm.replay(events, followed)

    def _judge_rebuilt(self) -> None:
        """Throw the store away, and compare what the journal gives back."""
        self.machine.run(
            "systemctl stop storm-follow; systemctl stop rotad; rm /var/lib/rota/rota.db*; "
            "systemctl start rotad"
        )
        self.filed()
        self.account.faults += storm.rebuilt(self.account.runs, self.runs(), self.account.losses)


def _lines(text: str) -> list[Run]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _cut_plain(_: Storm) -> None:
    """What was written is on the disk."""


def _cut_older(storm_: Storm) -> None:
    """The journal's last seconds never reached the disk; the store's did: it is ahead."""
    path = storm_.journal()
    storm_.machine.run("journalctl --sync")
    with tempfile.NamedTemporaryFile(dir=storm_.machine.directory) as older:
        subprocess.run(["cp", "--sparse=always", path, older.name], check=True)
        for _ in range(12):
            storm_.step()
            time.sleep(0.1)
        storm_.machine.power_off_hard()
        subprocess.run(["cp", "--sparse=always", older.name, path], check=True)


def _cut_damaged(storm_: Storm) -> None:
    """Some of what was written last to the journal is not what was to be written."""
    storm_.machine.power_off_hard()
    chance = Random(f"damage {storm_.plan.seed}")  # noqa: S311
    with storm_.journal().open("r+b") as file:
        data = file.read()
        written = [place for place in range(4096, len(data), 64) if any(data[place : place + 64])]
        for place in chance.sample(written[len(written) // 2 :], k=20):
            file.seek(place)
            file.write(chance.randbytes(64))


CUTS: dict[str, Callable[[Storm], None]] = {"plain": _cut_plain, "older": _cut_older, "damaged": _cut_damaged}


def weather(plan: Plan) -> Account:
    """Let a storm come and go on a machine of its own; return what happened."""
    began = time.monotonic()
    with Machine(persistent=True) as machine:
        one = Storm(machine, plan)
        one.prepare()
        one.blow()
        one.settle()
        one.judge()
    one.account.seconds = time.monotonic() - began
    return one.account


def main() -> int:
    """Run the whole storm; exit with 1 if anything is wrong with the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=WHOLE.seed, help="another storm for another number")
    parser.add_argument("--short", action="store_true", help="the one of make test")
    arguments = parser.parse_args()
    reason = missing()
    if reason:
        print(f"storm: {reason}", file=sys.stderr)
        return 1
    plan = SHORT if arguments.short else WHOLE
    account = weather(replace(plan, seed=arguments.seed))
    print(account.text())
    return int(bool(account.faults))


if __name__ == "__main__":
    sys.exit(main())
