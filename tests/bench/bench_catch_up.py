"""Recording what happened while rotad was away, beside journalctl reading the same entries (needs root)."""

from __future__ import annotations

from tests.bench.common import apply, machine, median, script, table, verdict

ENTRIES, AGENTS, ROUNDS = 100_000, 50, 3
AIM_RATIO, AIM_MEMORY = 5.0, 64.0
AGENT = 'command = ["/bin/true"]\n'
WORKS = 'command = ["/bin/sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"]\n'

# Entries of real runs, again and again with other ids and times, as a journal of the machine's own boot.
MAKE = """
import json, os, subprocess, sys, uuid

entries, agents = int(sys.argv[1]), int(sys.argv[2])
shown = ["journalctl", "-q", "-o", "json", "--all"]
template = {}
for line in subprocess.check_output(shown, text=True).splitlines():
    entry = json.loads(line)
    run = entry.get("INVOCATION_ID") or entry.get("ROTA_RUN")
    if (entry.get("UNIT") or entry.get("ROTA_EVENT")) and run:
        template.setdefault(run, []).append(entry)
whole = {run for run, life in template.items() if any(e.get("ROTA_EVENT") == "archived" for e in life)}
lives = [life for run, life in template.items() if run in whole and len(life) >= 5]
if not lives:
    raise SystemExit(f"no whole life of a run among {len(template)}")
made = number = 0
where = "/var/log/journal/" + open("/etc/machine-id").read().strip()
os.makedirs(where, exist_ok=True)
first = min(int(entry["__REALTIME_TIMESTAMP"]) for life in lives for entry in life)
origin = first - 86_400_000_000
with subprocess.Popen(["/usr/lib/systemd/systemd-journal-remote", "-o", f"{where}/made.journal", "-"],
        stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as remote:
    while made < entries:
        life = lives[number % len(lives)]
        was, run = life[0].get("INVOCATION_ID") or life[0]["ROTA_RUN"], uuid.uuid4().hex
        name = f"agent-{number % agents:03}"
        old = next(entry["ROTA_AGENT"] for entry in life if entry.get("ROTA_AGENT"))
        for entry in life:
            made += 1
            fields = {key: value for key, value in entry.items() if isinstance(value, str)}
            for key in ("__CURSOR", "__SEQNUM", "__SEQNUM_ID", "_SOURCE_REALTIME_TIMESTAMP"):
                fields.pop(key, None)
            fields["__REALTIME_TIMESTAMP"] = str(origin + made * 100)
            fields["__MONOTONIC_TIMESTAMP"] = str(made * 100)
            fields["_BOOT_ID"] = "ab" * 16
            lines = (f"{key}={value}" for key, value in fields.items() if "\\n" not in value)
            text = "\\n".join(lines).replace(was, run).replace(f"rota-{old}.", f"rota-{name}.")
            text = text.replace(f"ROTA_AGENT={old}", f"ROTA_AGENT={name}")
            remote.stdin.write((text + "\\n\\n").encode())
        number += 1
print(json.dumps([made, number, len(lives[0])]))
"""

# In a process of its own: what rotad does from its start until it has caught up, commits included.
CATCH_UP = """
import asyncio, json, resource, sys, time
from pathlib import Path

sys.path[:0] = ["/usr/local/lib/rota", "/usr/lib/rota"]
from rota.recorder import Recorder

start = time.perf_counter()
recorder = Recorder(Path(sys.argv[1]), changed=lambda _: None, recorded=lambda _: None, user=False)
asyncio.run(recorder.drain())
took = time.perf_counter() - start
events = recorder.ask(lambda store: store.bounds()[1])
print(json.dumps([took, events, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""
READ = """
import json, sys, time

sys.path[:0] = ["/usr/local/lib/rota", "/usr/lib/rota"]
from rota.journal import Reader

start = time.perf_counter()
reader = Reader(None)._reader
count = 0
while reader._next():
    reader._get_all()
    count += 1
print(json.dumps([time.perf_counter() - start, count, 0]))
"""
JOURNALCTL = """
import json, resource, subprocess, time
start = time.perf_counter()
matches = ["_PID=1", "+", "_SYSTEMD_UNIT=rotad.service"]
with subprocess.Popen(["journalctl", "-q", "-o", "json", *matches], stdout=subprocess.PIPE) as reading:
    count = sum(block.count(b"\\n") for block in iter(lambda: reading.stdout.read(1 << 16), b""))
took = time.perf_counter() - start
print(json.dumps([took, count, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def main() -> None:
    found: dict[str, list[list[float]]] = {"journalctl -o json": [], "the raw reader": [], "rota": []}
    with machine() as booted:
        apply(booted, {"quick": AGENT, "busy": WORKS})
        for name in ("quick", "busy", "quick"):
            booted.run(["rota", "run", "--wait", name], timeout=60)
        booted.run("sleep 1; systemctl stop rotad; journalctl --sync")
        made, runs, _ = script(booted, MAKE, str(ENTRIES), str(AGENTS))
        for turn in range(ROUNDS):
            found["journalctl -o json"].append(script(booted, JOURNALCTL))
            found["the raw reader"].append(script(booted, READ))
            found["rota"].append(script(booted, CATCH_UP, f"/var/tmp/bench-{turn}.db"))
        booted.run("sync")
        size = int(booted.run(["stat", "-c", "%s", "/var/tmp/bench-0.db"]).stdout)
    peer = [took for took, _, _ in found["journalctl -o json"]]
    rows = []
    ratios = {}
    for what, rounds in found.items():
        times = [took for took, _, _ in rounds]
        ratios[what] = median([a / b for a, b in zip(peer, times, strict=True)])
        each = median([took / count * 1e6 for took, count, _ in rounds])
        peak = max(rss for _, _, rss in rounds) / 1024
        rows.append(
            (
                what,
                f"{rounds[0][1]:.0f}",
                f"{median(times):.2f}",
                f"{each:.1f}",
                f"{ratios[what]:.1f}",
                f"{peak:.0f}" if peak else "",
            )
        )
    headers = ("", "entries", "s", "us each", "x journalctl", "RSS MiB")
    table(f"{made} entries of {runs} runs, {ROUNDS} rounds", headers, rows)
    word = "within" if ratios["rota"] >= AIM_RATIO else "BELOW"
    print(f"  rota is {ratios['rota']:.1f} times as fast as journalctl, aim {AIM_RATIO:g} at least: {word}")
    verdict("RSS while catching up", max(rss for *_, rss in found["rota"]) / 1024, AIM_MEMORY, " MiB")
    print(f"  the store has {size / runs:.0f} bytes a run, its events included")


if __name__ == "__main__":
    main()
