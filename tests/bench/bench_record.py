"""From a run's end to its row and RunChanged, beside what D-Bus itself takes (needs root)."""

from __future__ import annotations

from tests.bench.common import apply, machine, median, quantile, script, table, verdict

RUNS = 100
AIM = 20.0

# Bash takes the time itself: the last thing the process does is write it down.
AGENT = """command = ["/bin/bash", "-c", "{before}exec 3>$STATE_DIRECTORY/end; echo $EPOCHREALTIME >&3"]
"""
AGENTS = {"at-once": "", "a-while": "sleep 0.3; "}

# Runs an agent again and again, and prints for each run when it ended and when each signal arrived.
SUBSCRIBER = """
import asyncio, json, subprocess, sys, time
from dbus_next import BusType, Message, MessageType
from dbus_next.aio import MessageBus

agent, count = sys.argv[1], int(sys.argv[2])
unit = f"rota-{agent}.service"
escaped = "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in unit)
path = f"/org/freedesktop/systemd1/unit/{escaped}"
OVER = ("succeeded", "failed", "timed-out", "killed", "skipped", "unknown")
seen, before, unfiled = {}, set(), []
filed = asyncio.Event()

def on_message(message):
    now = time.time_ns()
    if message.message_type is not MessageType.SIGNAL:
        return
    if message.member == "PropertiesChanged" and message.path == path:
        state = message.body[1].get("ActiveState")
        if state is not None and state.value == "active":
            seen["began"] = now
        elif state is not None and "began" in seen and state.value in ("inactive", "failed"):
            seen.setdefault("systemd", now)  # a queued start changes properties of an inactive unit too
    elif message.member == "RunChanged" and message.body[0] == agent and message.body[1] not in before:
        seen["run"] = message.body[1]
        if message.body[2] not in OVER:
            return
        seen.setdefault("over", now)
        if message.body[3]["archived"].value:
            seen.setdefault("archived", now)
            seen["state"] = message.body[2]
            filed.set()

async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bus.add_message_handler(on_message)
    for rule in (
        "type='signal',interface='org.rota1.Manager',member='RunChanged'",
        f"type='signal',member='PropertiesChanged',path='{path}',arg0='org.freedesktop.systemd1.Unit'",
    ):
        await bus.call(Message(destination="org.freedesktop.DBus", path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus", member="AddMatch", signature="s", body=[rule]))
    await bus.call(Message(destination="org.freedesktop.systemd1", path="/org/freedesktop/systemd1",
        interface="org.freedesktop.systemd1.Manager", member="Subscribe"))
    found = []
    for _ in range(count):
        seen.clear()
        filed.clear()
        command = ("systemctl", "start", "--no-block", unit)
        await (await asyncio.create_subprocess_exec(*command)).wait()
        try:
            await asyncio.wait_for(filed.wait(), 15)
        except TimeoutError:
            unfiled.append(seen.get("run"))
            before.add(seen.get("run"))
            continue
        before.add(seen["run"])
        with open(f"/var/lib/rota-agents/{agent}/end") as file:
            seen["end"] = int(float(file.read().strip()) * 1e9)
        found.append(dict(seen))
        await asyncio.sleep(0.05)
    for run in found:
        fields = ["journalctl", "-q", "-o", "json", f"INVOCATION_ID={run['run']}",
            "MESSAGE_ID=7ad2d189f7e94e70a38c781354912448"]
        entry = json.loads(subprocess.check_output(fields).splitlines()[0])
        run["journald"] = int(entry["__REALTIME_TIMESTAMP"]) * 1000
    print(json.dumps([found, unfiled]))

asyncio.run(main())
"""
STEPS = {
    "journald": "journald has 'Deactivated successfully'",
    "systemd": "systemd's PropertiesChanged (the floor)",
    "over": "RunChanged, row written",
    "archived": "RunChanged, resources filed",
}


def main() -> None:
    with machine() as booted:
        apply(booted, {name: AGENT.format(before=before) for name, before in AGENTS.items()})
        for name, before in AGENTS.items():
            found, unfiled = script(booted, SUBSCRIBER, name, str(RUNS))
            wrong = [run for run in found if run["state"] != "succeeded"]
            rows = []
            for step, what in STEPS.items():
                late = [(run[step] - run["end"]) / 1e6 for run in found]
                over = [(run[step] - run["systemd"]) / 1e6 for run in found]
                figures = (median(late), quantile(late, 0.9), quantile(late, 0.99), median(over))
                rows.append((what, *(f"{figure:.1f}" for figure in figures)))
            kind = f"a process that ends {'after ' + before[6:-2] + ' s' if before else 'at once'}"
            table(
                f"{len(found)} runs of {kind}: ms from its last act until",
                ("", "median", "p90", "p99", "after systemd's"),
                rows,
            )
            late = [(run["over"] - run["end"]) / 1e6 for run in found]
            floor = [(run["systemd"] - run["end"]) / 1e6 for run in found]
            verdict("median to RunChanged", median(late), AIM, " ms")
            print(f"  RunChanged / systemd's own signal: {median(late) / median(floor):.2f}")
            if unfiled:
                shown = [booted.run(["rota", "show", run], check=False).stdout for run in unfiled if run]
                print(f"  {len(unfiled)} of {RUNS} runs were not filed within 15 s, the first:")
                print(*shown[:1])
            if wrong:
                print(f"  {len(wrong)} runs were recorded as something else than succeeded")


if __name__ == "__main__":
    main()
