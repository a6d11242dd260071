"""What it costs that the end of a run is on the disk before anybody is told of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.bench.common import median, scratch, table, verdict
from tests.store_kit import life

from rota import store

RUNS, ROUNDS = 200, 5
AIM = 4.0
WAYS = {
    "left to the kernel": frozenset[str](),
    "on the disk when a run ends (rota)": store.LASTING,
    "on the disk at every event": frozenset(("activated", "running", *store.LASTING)),
}


def record(directory: Path, name: str) -> float:
    """Record runs, an event a transaction; return milliseconds a run."""
    kept = store.Store(directory / name)
    start = time.perf_counter()
    for number in range(RUNS):
        for event in life(number):
            kept.append([event], f"s={number:x}")
    took = time.perf_counter() - start
    kept.close()
    return took / RUNS * 1000


def sync(directory: Path) -> float:
    """Append a page to a file and wait until it is on the disk; return milliseconds."""
    with (directory / "peer").open("ab", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(RUNS):
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
        return (time.perf_counter() - start) / RUNS * 1000


def main() -> None:
    times: dict[str, list[float]] = {what: [] for what in (*WAYS, "fdatasync(2) of a page appended")}
    usual = store.LASTING
    with scratch() as directory:
        for turn in range(ROUNDS):
            for number, (what, lasting) in enumerate(WAYS.items()):
                store.LASTING = lasting
                times[what].append(record(directory, f"{turn}-{number}.db"))
            times["fdatasync(2) of a page appended"].append(sync(directory))
    store.LASTING = usual
    peer, found, _, disk = times.values()
    table(
        f"{RUNS} runs of three events, {ROUNDS} rounds in turns: ms a run",
        ("", "median", "x left to the kernel"),
        [
            (what, f"{median(took):.2f}", f"{median([a / b for a, b in zip(took, peer, strict=True)]):.1f}")
            for what, took in times.items()
        ],
    )
    more = median([a - b for a, b in zip(found, peer, strict=True)])
    verdict("what is added, in writes to the disk", more / median(disk), AIM)


if __name__ == "__main__":
    main()
