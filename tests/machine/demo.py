"""`make demo`: rota at work in a throw-away machine with a real systemd, every step of it checked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.machine import cgroup
from tests.machine.install import install_rota
from tests.machine.machine import MACHINES, Machine
from tests.machine.rootfs import CHECKOUT, MachineError

FILES = CHECKOUT / "tests" / "machine" / "demo"
AGENTS = "/etc/rota/agents.d"
UNITS = "/etc/systemd/system"
PROGRAMS = "/usr/local/lib/demo"
STATE = "/var/lib/private/rota-agents"
BUNDLED = ("disk-report", "journal-digest")
DECLARED = tuple(sorted(path.stem for path in (FILES / "agents.d").glob("*.toml")))
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
COLUMNS = min(max(shutil.get_terminal_size((80, 24)).columns, 80), 110) if sys.stdout.isatty() else 80

Run = dict[str, Any]


class FailedError(Exception):
    """A check did not hold."""

    def __init__(self, claim: str, expected: object, seen: object) -> None:
        super().__init__(f"{claim}\n  expected: {expected}\n  seen:     {seen}")


def paint(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def tell(text: str) -> None:
    print(textwrap.fill(" ".join(text.split()), 80), flush=True)


def same(claim: str, expected: object, seen: object) -> None:
    if expected != seen:
        raise FailedError(claim, expected, seen)


def holds(claim: str, true: object, seen: object) -> None:
    if not true:
        raise FailedError(claim, "that it holds", seen)


def has(claim: str, text: str, *parts: str) -> None:
    for part in parts:
        if part not in plain(text):
            raise FailedError(claim, f"to read {part!r}", plain(text))


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def matching(*patterns: str) -> Callable[[str], bool]:
    return lambda line: any(re.search(pattern, line) for pattern in patterns)


def section(first: str, after: str) -> Callable[[str], bool]:
    """Choose the lines from one that matches `first` to the next that matches `after`, without that."""
    inside = False

    def chosen(line: str) -> bool:
        nonlocal inside
        inside = bool(re.search(first, line)) or (inside and not re.search(after, line))
        return inside

    return chosen


class Demo:
    """A machine, and what a person types into it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.planned: set[str] = set()

    def type(
        self,
        command: str,
        *,
        status: int = 0,
        user: str | None = None,
        only: Callable[[str], bool] | None = None,
    ) -> str:
        """Run a command on a terminal of the machine, show it and what it prints while it does.

        Args:
            command: a line of bash.
            status: the exit status it must have.
            user: who runs it.
            only: which lines to show; the others are counted.
        """
        print(paint(f"{user or ''}$", 2), paint(command, 1), flush=True)
        line = f"stty cols {COLUMNS} rows 24; {command}"
        process = self.machine.popen(
            ["timeout", "60", "script", "-qec", line, "/dev/null"],
            user=user,
            env={"TERM": "xterm-256color"} if COLOUR else {"TERM": "xterm", "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
        )
        hidden, lines = 0, []
        with process:
            assert process.stdout is not None
            for raw in process.stdout:
                lines.append(raw.decode(errors="replace").rstrip("\r\n"))
                if only is None or only(plain(lines[-1])):
                    print(lines[-1] if COLOUR else plain(lines[-1]), flush=True)
                else:
                    hidden += 1
        if hidden:
            print(paint(f"(and {hidden} more lines)", 2))
        print()
        text = "\n".join(lines)
        if process.returncode != status:
            raise FailedError(f"exit status of `{command}`", status, f"{process.returncode}:\n{text}")
        return text

    def ask(self, command: str) -> str:
        return self.machine.run(command).stdout.strip()

    def json(self, command: str) -> Any:
        return json.loads(self.ask(f"rota {command} --json"))

    def runs(self, agent: str = "") -> list[Run]:
        found: list[Run] = self.json(f"runs {agent} -n 10000")
        return found

    def person(self, agent: str, state: str, *, status: int = 0, user: str | None = None) -> None:
        """Have a person run an agent; check what is recorded about it."""
        said = self.type(f"rota run --wait {agent}", status=status, user=user)
        row = self.json(f"show {said.rpartition('(run ')[2][:8]}")
        seen = tuple(row.get(key) for key in ("agent", "state", "trigger", "requested_by"))
        same("the run", (agent, state, "person", user or "root"), seen)

    def edit(self, name: str, old: str, new: str) -> None:
        path = f"{AGENTS}/{name}.toml"
        text = self.machine.read(path)
        assert old in text, f"{old} is not in {path}"
        self.machine.write(path, text.replace(old, new))

    def account(self, agent: str) -> dict[str, int | None]:
        """Return what an agent itself noted: its runs, in order, and the exit status of those that ended."""
        path = Path(f"/proc/{self.machine.init}/root{STATE}/{agent}/runs")
        runs: dict[str, int | None] = {}
        for line in path.read_text(encoding="ascii").splitlines() if path.exists() else ():
            what, run, *rest = line.split()
            same(f"{agent}'s own note of a run comes once", what == "began", run not in runs)
            runs[run] = int(rest[0]) if what == "ended" else None
        return runs

    def until(self, condition: Callable[[], object], what: str, timeout: float = 15) -> None:
        self.machine.wait_for(lambda: condition() or None, timeout, what)

    def start(self, agent: str) -> str:
        """Start an agent that takes a while; return its run's id."""
        known = self.account(agent)
        self.type(f"rota run {agent}")
        self.until(lambda: len(self.account(agent)) > len(known), f"{agent} to begin")
        return list(self.account(agent))[-1]

    def over(self, agent: str, run: str) -> Run:
        """Wait until a run is over and filed; return its one row."""

        found: list[Run] = []

        def filed() -> bool:
            found[:] = [row for row in self.runs(agent) if row["id"] == run]
            return any(row["archived"] for row in found)

        self.until(filed, f"run {run} to be filed")
        same(f"number of rows of run {run}", 1, len(found))
        return found[0]


def boot(demo: Demo) -> str:
    demo.machine.start()
    return demo.ask("systemctl --version | head -1")


def install(demo: Demo) -> str:
    print(f"{paint('$', 2)} {paint('make install PREFIX=/usr && systemctl enable --now rotad', 1)}")
    install_rota(demo.machine)
    demo.type("rota --version; systemctl is-active rotad")
    pid = demo.ask("systemctl show -P MainPID rotad")
    same("the user rotad runs as", "rota", demo.ask(f"ps -o user= -p {pid}"))
    same("rotad's capabilities", "0" * 16, demo.ask(f"awk '/^CapEff/{{print $2}}' /proc/{pid}/status"))
    return "rotad runs, unprivileged"


def check(demo: Demo) -> str:
    machine = demo.machine
    for path in sorted(FILES.rglob("*.toml")):
        machine.write(f"/etc/rota/{path.relative_to(FILES)}", path.read_text(encoding="utf-8"))
    for program in ("work", "escape"):
        machine.write(f"{PROGRAMS}/{program}", (FILES / program).read_text(encoding="utf-8"), 0o755)
    tell(f"{len(DECLARED)} agents are declared, and two that come with rota are named in rota.toml.")
    demo.type("cat /etc/rota/rota.toml /etc/rota/agents.d/heartbeat.toml")
    tell("One declaration has two mistakes in it:")
    demo.edit("nightly", "* MON", "* MUN")
    demo.edit("nightly", "timeout ", "timout ")
    said = demo.type("rota check", status=2)
    has("check names both mistakes", said, "nightly.toml", "MUN", "MON", "timout", "timeout")
    has("check counts the mistakes", said, "2 errors in 1 of")
    machine.run("! rota apply")
    same("units after an apply of mistakes", "", demo.ask(f"cd {UNITS}; ls -d rota* || true"))
    tell("`rota apply` refused as well, and wrote nothing. Repaired:")
    demo.type(f"sed -i 's/MUN/MON/; s/timout/timeout/' {AGENTS}/nightly.toml; rota check")
    return "2 mistakes found, nothing written"


def plan(demo: Demo) -> str:
    said = demo.type("rota plan", only=section(r"^(\+\+\+ rota-heartbeat.timer|Agents:)", "^---"))
    has("the plan shows the timer", said, "+++ rota-heartbeat.timer", "+OnUnitActiveSec=2")
    found = demo.json("plan")
    demo.planned = set(found["files"]["added"])
    same("agents to add", sorted((*DECLARED, *BUNDLED)), found["agents"]["add"])
    same("units after a plan", "", demo.ask(f"cd {UNITS}; ls -d rota* || true"))
    return f"{len(DECLARED) + len(BUNDLED)} agents to add, nothing written"


def apply(demo: Demo) -> str:
    demo.type("rota apply")
    found = demo.ask(f"cd {UNITS}; find . -name 'rota[.-]*' -printf '%P\\n'").splitlines()
    same("files planned or written, not both", set(), demo.planned ^ set(found))
    demo.type("systemctl list-timers 'rota-*' --no-pager", only=matching("rota-", "NEXT", "listed"))
    timers = {f"rota-{name}.timer" for name in ("heartbeat", "broken", "nightly", *BUNDLED)}
    held = json.loads(demo.ask("systemctl list-timers 'rota-*' --output=json"))
    same("timers that systemd holds", timers, {timer["unit"] for timer in held})
    has("a second apply has nothing to do", demo.ask("rota apply"), "Nothing changed")
    return f"{len(found)} units, {len(timers)} timers in systemd"


def results(demo: Demo) -> str:
    tell("A person starts agents, and gets their output and exit status:")
    demo.person("nightly", "succeeded")
    demo.person("too-slow", "timed-out", status=124)
    tell("alice is not in the group rota; bob is:")
    demo.type("rota run --wait nightly", user="alice", status=5)
    demo.person("nightly", "succeeded", user="bob")
    return "ok, timed out; bob may, alice may not"


def fire(demo: Demo) -> str:
    tell("Meanwhile systemd's timers started agents, with nobody's help:")
    demo.until(
        lambda: len(demo.account("heartbeat")) >= 3 and 3 in demo.account("broken").values(),
        "three heartbeats and one run of broken",
    )
    ids = list(demo.account("heartbeat"))[:3]
    demo.over("heartbeat", ids[-1])
    demo.type("rota runs --lines 8")
    rows = {row["id"]: row for row in demo.runs("heartbeat")}
    for run in ids:
        same("a heartbeat", ("timer", "succeeded"), (rows[run].get("trigger"), rows[run]["state"]))
    first, last = rows[ids[0]], rows[ids[-1]]
    pace = (last["started"] - first["started"]) / 2e6
    holds("heartbeats come every two seconds", 1.95 < pace < 2.5, f"{pace:.2f} s apart")
    # away from the moments when its timer starts it
    time.sleep(max(0.0, 0.7 - time.time() % 4) if time.time() % 4 < 2.5 else 4.7 - time.time() % 4)
    demo.person("broken", "failed", status=3)
    return f"heartbeats {pace:.2f} s apart; a failing one"


def escape(demo: Demo) -> str:
    for path in ("/home/public", "/tmp/public"):
        demo.machine.write(path, "for everyone\n")
    web = "systemd-run -q --unit=demo-web python3 -m http.server --bind 127.0.0.1 --directory /srv 8080"
    demo.machine.run(web)
    demo.machine.wait_for("echo </dev/tcp/127.0.0.1/8080")
    left = "pgrep --full '^sleep 4242'"
    tell("First as root and without a sandbox, so that it is known what the attempts can do:")
    free = demo.type(f"{PROGRAMS}/escape", status=1, only=matching("attempts", "/etc/"))
    attempts = free.count("GOT OUT  ")
    has("without a sandbox all of it works", free, f"{attempts} of {attempts} attempts got out")
    same("processes left behind without a sandbox", 1, len(demo.ask(left).splitlines()))
    demo.machine.run(left.replace("pgrep", "pkill"))
    tell("Now the same program as an agent:")
    said = demo.type("rota run --wait prisoner")
    has("in the sandbox nothing works", said, f"0 of {attempts} attempts got out")
    same("attempts refused", attempts, said.count("refused  "))
    remains = demo.machine.run(left, check=False).stdout.split()
    same("processes that outlive the run", [], remains)
    found = demo.ask("find /etc /usr /var/lib /tmp /sys/fs/cgroup -xdev -name 'escaped*'")
    same("files that it left", "", found)
    tell("And the process that it left behind was killed with the end of the run.")
    return f"{attempts} of {attempts} attempts refused"


def bundled(demo: Demo) -> str:
    demo.type("rota run --wait disk-report")
    report = json.loads(demo.machine.read(f"{STATE}/disk-report/report.json"))
    holds("the report has the root file system", '"/"' in json.dumps(report), report)
    demo.machine.run(["logger", "--tag=demo", "--priority=user.err", "a disk is on fire"])
    demo.type("rota run --wait journal-digest")
    digest = json.loads(demo.machine.read(f"{STATE}/journal-digest/digest.json"))
    holds("the digest has the error just logged", "a disk is on fire" in json.dumps(digest), digest)
    return "both wrote their results"


def look(demo: Demo) -> str:
    said = demo.type("rota list")
    has("all agents are listed", said, "too-slow", "timed out", f"{len(DECLARED) + 2} agents")
    run = demo.runs("broken")[0]["id"]
    has("the run is shown", demo.type(f"rota show {run[:8]}"), run, "failed exit 3")
    said = demo.type(f"rota logs {run[:8]}", only=matching("rota-broken", "rotad"))
    has("the log has the agent's output", said, "working for 0.1 s, then exit 3")
    demo.type("rota show nightly")
    return "list, show and logs tell the same"


def pause(demo: Demo) -> str:
    demo.type("rota pause heartbeat --why 'it is late'", user="bob")
    time.sleep(0.5)
    before = demo.account("heartbeat")
    demo.type("rota show heartbeat", only=matching("Paused", "Next"))
    time.sleep(3)
    same("runs of a paused agent in 3 s", before, demo.account("heartbeat"))
    demo.type("rota resume heartbeat")
    demo.until(lambda: len(demo.account("heartbeat")) > len(before), "heartbeat to go on")
    demo.type("rota runs heartbeat --lines 4")
    skipped = [row["reason"] for row in demo.runs("heartbeat") if row["state"] == "skipped"]
    holds("slots in the pause are recorded as such", set(skipped) == {"paused"}, skipped)
    return f"{len(skipped)} slots skipped in 3 s, then it goes on"


def kill(demo: Demo) -> str:
    run = demo.start("long-job")
    for moment in ("in the middle of the run", "in the moment the run ends"):
        if moment.endswith("ends"):
            demo.machine.wait_for("systemctl is-active rotad")
            demo.until(lambda: demo.account("long-job")[run] == 0, "the run to end")
        tell(f"kill -9 {moment}:")
        before = demo.ask("systemctl show -P MainPID rotad")
        demo.type("kill -9 $(systemctl show -P MainPID rotad)")
        if moment.endswith("run"):
            same("the run", "active", demo.ask("systemctl is-active rota-long-job"))
        demo.until(lambda old=before: demo.ask("systemctl show -P MainPID rotad") not in ("0", old), "rotad")  # type: ignore[misc]
    row = demo.over("long-job", run)
    same("the run", ("succeeded", "root"), (row["state"], row.get("requested_by")))
    holds("its length is right", 2.9 < (row["ended"] - row["started"]) / 1e6 < 4.5, row)
    demo.type("rota runs long-job")
    restarts = int(demo.ask("systemctl show -P NRestarts rotad"))
    same("restarts of rotad", 2, restarts)
    return f"{restarts} kills, the run recorded once, right"


def absent(demo: Demo) -> str:
    tell("Without rotad the timers fire all the same:")
    demo.type("systemctl stop rotad; rota list", only=matching("AGENT", "rotad", "heartbeat"))
    begun = len(demo.account("heartbeat"))
    demo.until(lambda: len(demo.account("heartbeat")) >= begun + 2, "two heartbeats without rotad")
    missed = list(demo.account("heartbeat"))[begun : begun + 2]
    same("rotad", "inactive", demo.ask("systemctl is-active rotad || true"))
    demo.type("systemctl start rotad; rota runs heartbeat --lines 3")
    for run in missed:
        same("a run without rotad", "succeeded", demo.over("heartbeat", run)["state"])
    return f"{len(missed)} runs without rotad, recorded later"


def reschedule(demo: Demo) -> str:
    tell("nightly gets a slot that has passed two seconds ago; it must wait for tomorrow:")
    before = demo.account("nightly")
    slot = demo.ask("date -d '-2 seconds' +%T")
    demo.edit("nightly", '{ cron = "0 3 * * MON", timezone = "Europe/Rome" }', f'{{ calendar = "{slot}" }}')
    demo.type("rota plan", only=section(r"^(\+\+\+ rota-nightly.timer|Agents:)", "^---"))
    demo.type("rota apply")
    time.sleep(1.5)
    same("runs of nightly since", before, demo.account("nightly"))
    (timer,) = json.loads(demo.ask("systemctl list-timers rota-nightly.timer --output=json"))
    wait = timer["next"] / 1e6 - time.time()
    holds("the next slot is tomorrow's", 86_000 < wait < 86_400, f"in {wait:.0f} s")
    return "not fired, next slot in a day"


def remove(demo: Demo) -> str:
    run = demo.start("long-job")
    demo.type(f"rm {AGENTS}/long-job.toml; rota apply")
    same("its unit", "", demo.ask(f"ls {UNITS}/rota-long-job.* 2>/dev/null || true"))
    same("its run goes on", "active", demo.ask("systemctl is-active rota-long-job"))
    same("the agent's own account", None, demo.account("long-job")[run])
    row = demo.over("long-job", run)
    same("the run", ("succeeded", 0), (row["state"], demo.account("long-job")[run]))
    demo.type("rota runs long-job --lines 1")
    return "its last run ended well, recorded"


def accounts(demo: Demo) -> str:
    tell("Every agent notes its own runs in a file. Once all are at rest, rota's rows must be the same:")
    for agent in ("heartbeat", "broken"):
        demo.machine.run(["rota", "pause", agent])
    busy = "systemctl list-units --quiet --state=active,activating,deactivating 'rota-*.service'"
    demo.until(lambda: not demo.ask(busy), "all agents to rest")
    for agent in ("heartbeat", "broken"):
        demo.over(agent, list(demo.account(agent))[-1])
    states = {0: ("succeeded", None), None: ("timed-out", None)}
    total = 0
    recorded = [row for row in demo.runs() if row.get("reason") != "paused"]
    for agent in DECLARED:
        noted = demo.account(agent)
        rows = [row for row in recorded if row["agent"] == agent]
        same(f"runs of {agent} not filed", [], [row for row in rows if not row["archived"]])
        seen = sorted((row["id"], row["state"], row.get("status") or None) for row in rows)
        wanted = sorted((run, *states.get(code, ("failed", code))) for run, code in noted.items())
        same(f"runs of {agent} in one of both accounts only", set(), set(wanted) ^ set(seen))
        same(f"number of rows of {agent}", len(wanted), len(seen))
        words = ", ".join(sorted({row["state"] for row in rows}))
        print(f"  {agent:<12} {len(noted):>3} noted {len(rows):>3} recorded   {words}")
        total += len(rows)
    return f"{total} runs noted by agents, {total} recorded"


STEPS: tuple[tuple[str, Callable[[Demo], str]], ...] = (
    ("Boot a machine", boot),
    ("Install rota", install),
    ("Check declarations", check),
    ("Plan", plan),
    ("Apply", apply),
    ("Start agents by hand", results),
    ("Timers fire", fire),
    ("Break out of the sandbox", escape),
    ("Bundled agents", bundled),
    ("Look", look),
    ("Pause and resume", pause),
    ("kill -9 rotad", kill),
    ("rotad stopped", absent),
    ("Edit a schedule", reschedule),
    ("Remove while it runs", remove),
    ("Compare the accounts", accounts),
)


def remains(machine: Machine) -> list[str]:
    """Return what a closed machine left on the host."""
    found = [str(path) for path in (MACHINES / machine.name, *cgroup.groups(machine.name)) if path.exists()]
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    found += [line for line in mounts if machine.name in line]
    return found


def perform(machine: Machine, done: list[tuple[str, float, str]]) -> None:
    """Make every step, and add each that was checked to `done`."""
    demo = Demo(machine)

    def step(title: str, work: Callable[[Demo], str]) -> None:
        started = time.monotonic()
        print(f"{paint(f'== {title} '.ljust(80, '='), 36)}", flush=True)
        checked = work(demo)
        done.append((title, time.monotonic() - started, checked))

    try:
        for title, work in STEPS:
            step(title, work)
    finally:
        machine.close()
    left = remains(machine)
    same("what the machine left on the host", [], left)
    done.append(("Close", 0.0, "nothing left behind"))


def main() -> int:
    """Show rota at work; return 0 if every check held."""
    started = time.monotonic()
    done: list[tuple[str, float, str]] = []
    failure: Exception | None = None
    try:
        perform(Machine(), done)
    except (FailedError, MachineError) as error:
        failure = error
    print(f"\n{paint('checked:', 1)}")
    for title, took, checked in done:
        print(f"  {paint('ok', 32)}  {took:5.1f} s  {title:<26} {checked}")
    if failure is not None:
        titles = [*(title for title, _ in STEPS), "Close"]
        print(f"  {paint('FAILED', 31)}     {titles[len(done)]}\n\n{paint(str(failure), 31)}")
    print(f"The demo took {time.monotonic() - started:.1f} s.")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
