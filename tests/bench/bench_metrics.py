"""A scrape: how long it takes, what it costs rotad and rotad-metrics, how much it is (needs root)."""

from __future__ import annotations

from typing import Any

from tests.bench.common import apply, machine, median, quantile, script, sleepers, table, verdict
from tests.machine.machine import Machine

AGENTS = (10, 100, 1000)
SCRAPES = 30
AIM_SCRAPE, AIM_ROTAD, AIM_MEMORY = 1000.0, 250.0, 80.0
INTERVAL = 15
"""Seconds between two scrapes, as Prometheus's own example has it."""
SETTINGS = '[metrics]\nlisten = ["/run/rota/metrics.sock"]\n'

# Each agent with a past: every result, every bucket.
FILL = """
import sqlite3, sys
from collections import Counter
sys.path.insert(0, "/usr/lib/rota")
from rota.lifetime import BEYOND, HISTOGRAMS, Lifetime
results = Counter(succeeded=900, failed=50, killed=5, skipped=40)
one = Lifetime(results)
for name, histogram in HISTOGRAMS.items():
    one.buckets[name] = Counter({bound: 50 for bound in (*histogram.bounds, BEYOND)})
one.numbers = {"took_usec": 10**12, "cpu_usec": 10**11, "last_run": 10**15, "last_success": 10**15}
one.sample = ("0" * 32, 10**6, 10**15)
db = sqlite3.connect("/var/lib/rota/rota.db")
with db:
    rows = [(f"agent-{number:03}", one.to_json()) for number in range(int(sys.argv[1]))]
    db.executemany("INSERT OR REPLACE INTO lifetimes VALUES (?, ?)", rows)
print("null")
"""
SCRAPE = """
import json, os, pathlib, socket, sys, time

def cpu(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6

def get(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("/run/rota/metrics.sock")
        one.sendall(b"GET " + path + b" HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        found = b""
        while part := one.recv(1 << 20):
            found += part
    return found

pids = {}
get(b"/metrics")
for unit in ("rotad", "rotad-metrics"):
    pids[unit] = int(os.popen(f"systemctl show -P MainPID {unit}").read())
before = {unit: cpu(pid) for unit, pid in pids.items()}
times, idle = [], []
for _ in range(int(sys.argv[1])):
    for path, into in ((b"/metrics", times), (b"/nothing", idle)):
        start = time.perf_counter()
        body = get(path)
        into.append((time.perf_counter() - start) * 1000)
        if path == b"/metrics":
            page = body
after = {unit: cpu(pid) for unit, pid in pids.items()}
status = pathlib.Path(f"/proc/{pids['rotad-metrics']}/status").read_text()
memory = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
series = sum(not line.startswith(b"#") for line in page.partition(b"\\r\\n\\r\\n")[2].splitlines())
used = {unit: (after[unit] - before[unit]) / len(times) for unit in pids}
print(json.dumps(dict(times=times, idle=idle, used=used, bytes=len(page), series=series, memory=memory)))
"""


def scraped(booted: Machine, agents: int) -> dict[str, Any]:
    """Return what scraping so many agents takes."""
    apply(booted, sleepers(agents))
    booted.run("systemctl stop rotad")
    script(booted, FILL, str(agents))
    booted.run("systemctl restart rotad; systemctl stop rotad-metrics.service; sleep 2")
    found: dict[str, Any] = script(booted, SCRAPE, str(SCRAPES))
    return found


def main() -> None:
    with machine() as booted:
        booted.write("/etc/rota/rota.toml", SETTINGS)
        found = {agents: scraped(booted, agents) for agents in AGENTS}
    rows = [
        (
            f"{agents} agents",
            f"{median(one['times']):.1f}",
            f"{quantile(one['times'], 0.95):.1f}",
            f"{median(one['idle']):.1f}",
            f"{one['used']['rotad']:.1f}",
            f"{one['used']['rotad-metrics']:.1f}",
            str(one["series"]),
            f"{one['bytes'] / 1024:.0f}",
            f"{one['memory'] / 1024:.1f}",
        )
        for agents, one in found.items()
    ]
    headers = (
        *("", "median ms", "p95 ms", "a 404, ms", "CPU of rotad, ms", "of rotad-metrics, ms"),
        *("series", "KiB", "RSS of rotad-metrics, MiB"),
    )
    table(f"{SCRAPES} scrapes of {', '.join(map(str, AGENTS))} agents", headers, rows)
    most = found[AGENTS[-1]]
    verdict(f"median scrape of {AGENTS[-1]} agents", median(most["times"]), AIM_SCRAPE, " ms")
    verdict(f"rotad's processor time for one of {AGENTS[-1]} agents", most["used"]["rotad"], AIM_ROTAD, " ms")
    verdict(
        "largest RSS of rotad-metrics",
        max(one["memory"] for one in found.values()) / 1024,
        AIM_MEMORY,
        " MiB",
    )
    share = most["used"]["rotad"] / (INTERVAL * 10)
    print(
        f"  rotad's share of a processor, scraped each {INTERVAL} s with {AGENTS[-1]} agents: {share:.2f} %"
    )


if __name__ == "__main__":
    main()
