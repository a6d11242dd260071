"""What the benchmarks share: tables with verdicts, medians, child processes measured, declared agents."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.machine.install import install_rota
from tests.machine.machine import Machine, missing
from tests.machine.rootfs import CACHE

Row = Sequence[str]

# The parent's memory counts as the child's until exec, so that what is measured is started by
# something small.
_LAUNCHER = """
import json, os, sys, time
argv, cwd = json.loads(sys.argv[1])
os.chdir(cwd)
start = time.perf_counter()
pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, used = os.wait4(pid, 0)
wall = time.perf_counter() - start
print(json.dumps([wall, used.ru_utime, used.ru_stime, used.ru_maxrss, os.waitstatus_to_exitcode(status)]))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process and its children cost: seconds, and the largest of them in KiB."""

    wall: float
    user: float
    system: float
    peak: int


def cost_of(
    argv: Sequence[str | Path],
    cwd: Path,
    *,
    prefix: Sequence[str] = (),
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
) -> Cost:
    """Run a program and return what it cost.

    Args:
        argv: the program by its absolute path, and its arguments.
        cwd: where it runs.
        prefix: what the launcher itself is run by (unshare, chroot); not measured.
        python: the launcher's interpreter, as the prefix sees it.
        env: more environment variables.
    """
    words = json.dumps([[str(word) for word in argv], str(cwd)])
    done = subprocess.run(
        [*prefix, python, "-I", "-S", "-c", _LAUNCHER, words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(env or {})},
    )
    if done.returncode:
        raise SystemExit(f"{argv[0]}: {done.stderr.strip()}")
    *cost, status = json.loads(done.stdout)
    if status:
        raise SystemExit(f"{argv[0]} exited with {status}: {done.stderr.strip()[-2000:]}")
    return Cost(*cost)


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def table(title: str, headers: Row, rows: Sequence[Row]) -> None:
    """Print a table: the first column to the left, figures to the right."""
    widths = [max(len(row[index]) for row in (headers, *rows)) for index in range(len(headers))]
    print(f"\n{title}")
    for row in (headers, *rows):
        first, *rest = (
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join((first, *rest)).rstrip(), flush=True)


def verdict(what: str, figure: float, limit: float, unit: str = "") -> None:
    """Print whether a figure is within its aim."""
    word = "within" if figure <= limit else "OVER"
    print(f"  {what}: {figure:.3g}{unit}, aim {limit:g}{unit} at most: {word}", flush=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """Lend a directory on the checkout's file system."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=CACHE) as directory:
        # ext4 then puts each directory below into a block group of its own. Without a journal it
        # searches past inodes freed within the last minutes, which makes creation 20 times as slow.
        subprocess.run(["chattr", "+T", directory], capture_output=True, check=False)
        yield Path(directory)


@contextmanager
def machine() -> Iterator[Machine]:
    """Boot a machine with rota in it and rotad running; end the benchmark where none can be booted."""
    reason = missing()
    if reason:
        print(f"not run: {reason}")
        raise SystemExit(0)
    with Machine() as booted:
        install_rota(booted)
        booted.run(["mkdir", "-p", "/etc/rota/agents.d"])
        yield booted


def apply(booted: Machine, agents: Mapping[str, str]) -> None:
    """Declare exactly these agents, TOML by name, in a machine."""
    booted.run("rm -f /etc/rota/agents.d/*")
    script = "import json, pathlib, sys\nfor name, text in json.load(sys.stdin).items():\n"
    script += "    pathlib.Path('/etc/rota/agents.d', name + '.toml').write_text(text)\n"
    booted.run(["python3", "-c", script], input=json.dumps(dict(agents)))
    booted.run(["rota", "apply"], timeout=300)


def sleepers(count: int) -> dict[str, str]:
    """Return agents with timers, none of which elapses while it is looked at."""
    return {
        f"agent-{number:03}": (
            f'description = "Agent {number}"\ncommand = ["/bin/true"]\n'
            f'schedule = {{ cron = "{number % 60} {number % 24} 1 1 *" }}\n'
        )
        for number in range(count)
    }


def script(booted: Machine, source: str, *arguments: str, timeout: float = 600) -> Any:
    """Run a Python program in a machine and return what it prints as JSON."""
    return json.loads(booted.run(["python3", "-sP", "-c", source, *arguments], timeout=timeout).stdout)
