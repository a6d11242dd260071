"""What a run said, taken from the journal: of few lines and of many, beside journalctl (needs root)."""

from __future__ import annotations

from tests.bench.common import apply, machine, median, script, table, verdict

FEW, MANY = 10, 9_000
"""As many as journald takes of a unit at once (RateLimitBurst= in journald.conf(5))."""
ROUNDS = 20
AIM = 8.0
"""How much longer many lines may take: a result is looked for among the last hundred lines."""

AGENT = """command = ["/usr/bin/seq", "{lines}"]
"""
TIMER = """
import json, subprocess, sys, time
sys.path.insert(0, "/usr/lib/rota")
from rota.events import Run
from rota.logs import said
name, rounds = sys.argv[1], int(sys.argv[2])
run = Run.of(json.loads(subprocess.check_output(["rota", "--json", "runs", name]))[0])
ours = []
for _ in range(rounds):
    start = time.perf_counter()
    found, _ = said(run, user=False)
    ours.append(time.perf_counter() - start)
start = time.perf_counter()
lines = subprocess.check_output(["journalctl", "-q", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={run.id}"]).split()
theirs = time.perf_counter() - start
print(json.dumps([ours, theirs, len(lines), found.first_line, found.last_line]))
"""


def main() -> None:
    agents = {"few": FEW, "many": MANY}
    with machine() as booted:
        apply(booted, {name: AGENT.format(lines=lines) for name, lines in agents.items()})
        rows, took = [], {}
        for name, lines in agents.items():
            booted.run(f"systemctl start --wait rota-{name}.service", timeout=300)
            booted.wait_for(
                f'rota --json runs {name} | grep -q \'"last_line": "{lines}"\'', 120, "the last line"
            )
            ours, theirs, logged, first, last = script(booted, TIMER, name, str(ROUNDS))
            if (first, last) != ("1", str(lines)):
                raise SystemExit(f"{name}: {first} to {last} of {lines}")
            took[name] = median(ours)
            rows.append((f"{logged} lines", f"{took[name] * 1e3:.2f}", f"{theirs * 1e3:.1f}"))
        table("ms to find first and last line and result", ("", "rota", "journalctl, all"), rows)
        verdict("many lines / few", took["many"] / took["few"], AIM)


if __name__ == "__main__":
    main()
