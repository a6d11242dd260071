"""`rota list` with 100 agents, beside `systemctl list-timers` in the same machine (needs root)."""

from __future__ import annotations

import json

from tests.bench.common import apply, machine, median, script, sleepers, table, verdict

AGENTS = 100
ROUNDS = 10
AIM = 10.0

COMMANDS = {
    "systemctl list-timers 'rota-*'": ["systemctl", "--no-pager", "list-timers", "rota-*"],
    "busctl call ... ListAgents": [
        *("busctl", "call", "org.rota1", "/org/rota1", "org.rota1.Manager", "ListAgents"),
    ],
    "python3 -c pass": ["python3", "-sP", "-c", "pass"],
    "rota --help": ["rota", "--help"],
    "rota list": ["rota", "list"],
    "rota list --json": ["rota", "list", "--json"],
    "rota runs": ["rota", "runs"],
    "rota list, rotad stopped": ["rota", "list"],
}

# Interleaved, so that a busy moment of the machine meets all.
TIMER = """
import json, subprocess, sys, time
commands, rounds = json.loads(sys.argv[1]), int(sys.argv[2])
found = [[] for _ in commands]
for turn in range(rounds + 1):
    for command, times in zip(commands, found):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        if turn:
            times.append(time.perf_counter() - start)
print(json.dumps(found))
"""


def main() -> None:
    agents = sleepers(AGENTS)
    with machine() as booted:
        apply(booted, agents)
        # some history to show
        for name in list(agents)[:20]:
            booted.run(["rota", "run", "--wait", name])
        names = list(COMMANDS)
        times: dict[str, list[float]] = {}
        for stopped in (False, True):
            if stopped:
                booted.run(["systemctl", "mask", "--runtime", "--now", "rotad.service"])
            chosen = [names[0], *(name for name in names[1:] if name.endswith("stopped") is stopped)]
            arguments = json.dumps([COMMANDS[name] for name in chosen])
            found = script(booted, TIMER, arguments, str(ROUNDS))
            for name, seconds in zip(chosen, found, strict=True):
                times.setdefault(f"{name} " if stopped and name == names[0] else name, seconds)
    rows = []
    ratios = {}
    for name in names:
        peer = times[f"{names[0]} " if name.endswith("stopped") else names[0]]
        ratios[name] = median([a / b for a, b in zip(times[name], peer, strict=True)])
        spread = f"{min(times[name]) * 1000:.0f}..{max(times[name]) * 1000:.0f}"
        rows.append((name, f"{median(times[name]) * 1000:.0f}", spread, f"{ratios[name]:.1f}"))
    table(
        f"{AGENTS} agents, {ROUNDS} interleaved rounds",
        ("", "median ms", "range", "x systemctl list-timers"),
        rows,
    )
    verdict("rota list / systemctl list-timers", ratios["rota list"], AIM)


if __name__ == "__main__":
    main()
