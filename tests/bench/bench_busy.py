"""How far rotad is behind systemd when runs follow each other as fast as systemd starts them (needs root)."""

from __future__ import annotations

import json

from tests.bench.bench_idle import host_pid, state
from tests.bench.common import apply, machine, quantile, script, table, verdict

AGENTS, SECONDS = 40, 20
RATES = (10, 30, 100)
AIM_LAG, AIM_MEMORY = 50.0, 60.0
AGENT = 'command = ["/bin/true"]\n'

# Starts agents in turn at a rate, or as fast as systemd goes, and notes when each event is told of.
# What a signal takes on the bus without rotad is told by systemd's own, of the same runs.
BUSY = """
import asyncio, json, sys, time
from dbus_next import BusType, Message, MessageType
from dbus_next.aio import MessageBus

agents, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
lags, ended, jobs, loop_lag = [], {}, {}, []
started = refused = 0

def on_message(message):
    now = time.time_ns() // 1000
    if message.message_type is not MessageType.SIGNAL:
        return
    if message.member == "EventsRecorded":
        for event in message.body[0]:
            kind = event["kind"].value
            if kind in ("activated", "running", "deactivated", "failed"):
                lags.append((now - event["at"].value) / 1000)
            if kind in ("deactivated", "failed"):
                ended[event["run"].value] = kind

async def call(bus, member, signature, body):
    return await bus.call(Message(destination="org.freedesktop.systemd1", path="/org/freedesktop/systemd1",
        interface="org.freedesktop.systemd1.Manager", member=member, signature=signature, body=body))

async def main():
    global started, refused
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bus.add_message_handler(on_message)
    await bus.call(Message(destination="org.freedesktop.DBus", path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus", member="AddMatch", signature="s",
        body=["type='signal',interface='org.rota1.Manager',member='EventsRecorded'"]))
    begun = time.monotonic()
    number = 0
    while (now := time.monotonic()) - begun < seconds:
        reply = await call(bus, "StartUnit", "ss", [f"rota-agent-{number % agents:03}.service", "fail"])
        started += reply.message_type is not MessageType.ERROR
        number += 1
        await asyncio.sleep(max(0, begun + number / rate - time.monotonic()))
    took = time.monotonic() - begun
    await asyncio.sleep(3)
    print(json.dumps({"lags": lags, "runs": len(ended), "seconds": took, "asked": number}))

asyncio.run(main())
"""


def main() -> None:
    rows, worst, memory = [], 0.0, 0
    with machine() as booted:
        apply(booted, {f"agent-{number:03}": AGENT for number in range(AGENTS)})
        pid = host_pid(booted, "rotad.service")
        for rate in RATES:
            before = state(pid)
            found = script(booted, BUSY, str(AGENTS), str(rate), str(SECONDS))
            after = state(pid)
            lags = found["lags"]
            worst = max(worst, quantile(lags, 0.99))
            memory = max(memory, after.resident)
            rows.append(
                (
                    f"{rate} starts asked for a second",
                    f"{found['runs'] / found['seconds']:.1f}",
                    *(f"{quantile(lags, share):.1f}" for share in (0.5, 0.9, 0.99)),
                    f"{max(lags):.1f}",
                    f"{(after.cpu - before.cpu) / found['seconds'] * 100:.0f}%",
                    f"{after.resident / 1024:.1f}",
                )
            )
        counted = json.loads(booted.run(["rota", "--json", "stats"]).stdout)
    headers = ("", "runs/s", "median ms", "p90", "p99", "most", "rotad's CPU", "RSS MiB")
    table(f"{AGENTS} agents, {SECONDS} s each: ms from systemd's entry to EventsRecorded", headers, rows)
    verdict("largest p99", worst, AIM_LAG, " ms")
    verdict("largest RSS", memory / 1024, AIM_MEMORY, " MiB")
    print(f"  {sum(agent['runs'] for agent in counted)} runs are in the totals")


if __name__ == "__main__":
    main()
