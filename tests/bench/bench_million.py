"""What rotad answers out of a million runs, how large they are, what memory it takes (needs root)."""

from __future__ import annotations

from tests.bench.bench_idle import host_pid, state
from tests.bench.common import apply, machine, median, quantile, script, sleepers, table, verdict

RUNS, AGENTS, EVENTS = 1_000_000, 50, 4
ROUNDS = 30
AIM_ANSWER, AIM_MEMORY, AIM_BYTES = 50.0, 60.0, 1500.0
SETTINGS = '[retention]\nruns = 1000000\ndetail = "60d"\n'

# Some through the store itself, as rotad would; the rest are copies of those with other ids and times.
FILL = """
import json, sqlite3, subprocess, sys, time
from pathlib import Path

sys.path[:0] = ["/usr/local/lib/rota", "/usr/lib/rota"]
from rota.events import Event
from rota.store import Store

runs, agents = int(sys.argv[1]), int(sys.argv[2])
path = Path("/var/lib/rota/rota.db")
some = 20_000
shown = subprocess.check_output(["journalctl", "-q", "-n", "1", "--show-cursor"], text=True)
cursor = shown.rpartition("-- cursor: ")[2].strip()
step = 28 * 86_400_000_000 // runs
base = time.time_ns() // 1000 - runs * step
state = "succeeded"
store = Store(path)

def life(number):
    agent, run = f"agent-{number % agents:03}", f"{number:032x}"
    at = base + number * step
    yield Event("activated", agent, run, at, {"boot": "b" * 32, "cursor": f"s={'c' * 32};i={number:x}"}, at)
    yield Event("triggered", agent, run, at + 1000, {"trigger": "timer"}, at + 1000)
    took = 1000 * (5 + number * 7919 % 5000)
    if number % 20:
        yield Event("deactivated", agent, run, at + took, {}, at + took)
    else:
        yield Event("failed", agent, run, at + took, {"result": "exit-code"}, at + took)
    measured = {"cpu_usec": took // 3, "memory_peak": 2**20 * (1 + number % 64)}
    yield Event("archived", agent, run, at + took, measured, at + took)

for start in range(0, some, 1000):
    events = [event for number in range(start, start + 1000) for event in life(number)]
    store.append(events, cursor)
store.close()
db = sqlite3.connect(path)
columns = [row[1] for row in db.execute("PRAGMA table_info(runs)")]
new = {"id": "printf('%032x', rowid + :by)", "started": "started + :later", "ended": "ended + :later"}
chosen = ", ".join(new.get(name, name) for name in columns)
with db:
    for times in range(1, runs // some):
        values = {"by": times * some - 1, "later": times * some * step, "some": some}
        db.execute(
            f"INSERT INTO runs ({', '.join(columns)}) SELECT {chosen} FROM runs WHERE rowid <= :some", values
        )
        db.execute(
            "INSERT INTO events (run, agent, kind, at, data, monotonic) "
            "SELECT printf('%032x', (seq - 1) / 4 + :by + 1), agent, kind, at + :later, data, monotonic "
            "FROM events WHERE seq <= :some * 4", values
        )
    # every day's totals, as many as there would be
    db.execute(
        "INSERT OR IGNORE INTO totals SELECT agent, day, data FROM "
        "(SELECT agent, data FROM totals GROUP BY agent), (WITH RECURSIVE d(day) AS "
        "(SELECT :base UNION ALL SELECT day + 1 FROM d LIMIT 29) SELECT day FROM d)",
        {"base": base // 86_400_000_000},
    )
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
count = db.execute("SELECT count(*) FROM runs").fetchone()[0]
print(json.dumps([count, path.stat().st_size]))
"""

# Interleaved with Ping, which is what D-Bus alone takes.
ASK = """
import asyncio, json, sys, time
from dbus_next import BusType, Message, MessageType
from dbus_next.aio import MessageBus
from dbus_next.signature import Variant

rounds = int(sys.argv[1])
week = time.time_ns() // 1000 - 7 * 86_400_000_000
day = time.time_ns() // 1000 - 86_400_000_000
one = Variant("as", ["agent-007"])
failed, killed = Variant("as", ["failed"]), Variant("as", ["killed"])
QUESTIONS = {
    "Ping": ("org.freedesktop.DBus.Peer", "Ping", "", []),
    "ListAgents": ("", "ListAgents", "", []),
    "ListRuns, 20": ("", "ListRuns", "a{sv}u", [{}, 20]),
    "ListRuns, of one agent, 20": ("", "ListRuns", "a{sv}u", [{"agent": one}, 20]),
    "ListRuns, failed, 20": ("", "ListRuns", "a{sv}u", [{"state": failed}, 20]),
    "ListRuns, failed, of one agent, 20": ("", "ListRuns", "a{sv}u", [{"state": failed, "agent": one}, 20]),
    "ListRuns, killed (there are none)": ("", "ListRuns", "a{sv}u", [{"state": killed}, 20]),
    "ListRuns, until a week ago, 20": ("", "ListRuns", "a{sv}u", [{"until": Variant("x", week)}, 20]),
    "GetRun": ("", "GetRun", "s", [f"{123456:032x}"]),
    "Stats, seven days": ("", "Stats", "a{sv}", [{}]),
    "Stats, of one agent": ("", "Stats", "a{sv}", [{"agent": one}]),
    "Stats, one agent, one day by runs": ("", "Stats", "a{sv}", [{"agent": one, "since": Variant("x", day)}]),
    "Stats, all agents, one day by runs": ("", "Stats", "a{sv}", [{"since": Variant("x", day)}]),
    "Events, 100 from the middle": ("", "Events", "tu", [2_000_000, 100]),
    "SeqAt": ("", "SeqAt", "x", [week]),
}

async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    found = {name: [] for name in QUESTIONS}
    for turn in range(rounds + 1):
        for name, (interface, member, signature, body) in QUESTIONS.items():
            start = time.perf_counter()
            reply = await bus.call(Message(destination="org.rota1", path="/org/rota1",
                interface=interface or "org.rota1.Manager", member=member, signature=signature, body=body))
            if reply.message_type is MessageType.ERROR:
                raise SystemExit(f"{name}: {reply.error_name} {reply.body}")
            if turn:
                found[name].append((time.perf_counter() - start) * 1000)
    print(json.dumps(found))

asyncio.run(main())
"""


def main() -> None:
    with machine() as booted:
        booted.write("/etc/rota/rota.toml", SETTINGS)
        apply(booted, sleepers(AGENTS))
        booted.run(["systemctl", "mask", "--runtime", "--now", "rotad.service"])
        booted.run("rm -f /var/lib/rota/rota.db*")
        runs, size = script(booted, FILL, str(RUNS), str(AGENTS), timeout=1200)
        booted.run("chown rota:rota /var/lib/rota/*; systemctl unmask --runtime rotad.service")
        booted.run(["systemctl", "start", "rotad.service"], timeout=120)
        pid = host_pid(booted, "rotad.service")
        before = state(pid).resident
        found: dict[str, list[float]] = script(booted, ASK, str(ROUNDS))
        after = state(pid).resident
        logged = booted.run(["journalctl", "-q", "-u", "rotad.service", "-p", "warning", "-o", "cat"]).stdout
    floor = median(found["Ping"])
    table(
        f"{runs} runs of {AGENTS} agents, {ROUNDS} interleaved rounds: ms",
        ("", "median", "p90", "x Ping"),
        [
            (what, f"{median(times):.1f}", f"{quantile(times, 0.9):.1f}", f"{median(times) / floor:.1f}")
            for what, times in found.items()
        ],
    )
    for what, times in found.items():
        if median(times) > AIM_ANSWER:
            verdict(what, median(times), AIM_ANSWER, " ms")
    verdict("slowest median", max(median(times) for times in found.values()), AIM_ANSWER, " ms")
    verdict("a run with its four events", size / runs, AIM_BYTES, " bytes")
    print(f"  rotad's RSS: {before / 1024:.1f} MiB before it was asked")
    verdict("and after", after / 1024, AIM_MEMORY, " MiB")
    if logged:
        print(logged)


if __name__ == "__main__":
    main()
