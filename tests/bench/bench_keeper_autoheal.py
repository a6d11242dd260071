"""Home Keeper beside docker-autoheal: from a container being unhealthy to its start (needs root).

Both are given the same container, which turns unhealthy at another moment each time; the times are the
engine's own of its events `health_status: unhealthy` and `start`. Ours is the source and the remedy, through
the proxy, as with strikes = ["act", ...]. The peer is its published script as it is, with its defaults (a
look every five seconds): name its checkout in ROTA_AUTOHEAL.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.common import table, verdict
from tests.machine import dockerd
from tests.machine.dockerd import Docker, Proxied

from rota.container_watches import Proxy

TIMES = int(os.environ.get("ROTA_TIMES", "11"))
AIM = 0.2
"""Our median, of theirs."""
INTERVAL = 5.0
FOLLOWER = Path(dockerd.__file__).with_name("container_watch.py")
WEB = "touch /tmp/ok; trap 'exit 0' TERM; while :; do sleep 0.05; done"


@contextmanager
def keeper(docker: Docker) -> Iterator[None]:
    """Let Home Keeper's source and remedy look after containers, through the proxy."""
    proxy = Proxied(docker, Proxy(docker.socket, unnamed=True))
    proxy.start()
    process = subprocess.Popen(
        [sys.executable, str(FOLLOWER), proxy.socket, "{}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def act() -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            for target, findings in json.loads(line).get("findings", {}).items():
                if any(item["problem"] == "unhealthy" for item in findings):
                    print("restart-container", target, file=process.stdin, flush=True)

    threading.Thread(target=act, daemon=True).start()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        proxy.close()


@contextmanager
def autoheal(docker: Docker) -> Iterator[None]:
    """Let docker-autoheal look after containers."""
    script = Path(os.environ["ROTA_AUTOHEAL"], "docker-entrypoint")
    wanted = {"DOCKER_SOCK": docker.socket, "AUTOHEAL_CONTAINER_LABEL": "all"}
    process = subprocess.Popen(
        ["bash", str(script), "autoheal"],
        env={**os.environ, **wanted},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def healed(docker: Docker, since: float) -> float | None:
    """Return how long it took from unhealthy to started, seconds; None if it has not happened yet."""
    events = docker.events("web", since)
    sick = next((at for action, at in events if action == "health_status: unhealthy"), None)
    start = next((at for action, at in events if sick is not None and action == "start" and at > sick), None)
    return None if start is None or sick is None else start - sick


def wait(condition: Callable[[], float | None]) -> float:
    """Wait until there is a number, and return it."""
    until = time.monotonic() + 60
    while (found := condition()) is None:
        if time.monotonic() > until:
            raise SystemExit("nobody restarted the container within a minute")
        time.sleep(0.05)
    return found


def times(docker: Docker) -> list[float]:
    """Return how long it took, each time at another moment of the peer's interval."""
    docker.run_one("web", WEB, check="test -e /tmp/ok")
    dice = random.Random(1)  # noqa: S311  (not a secret)
    found = []
    for _ in range(TIMES):
        wait(lambda: 1.0 if docker.inspect("web")["State"]["Health"]["Status"] == "healthy" else None)
        time.sleep(dice.uniform(0, INTERVAL))
        since = time.time()
        docker.execute("web", "rm /tmp/ok")
        found.append(wait(lambda since=since: healed(docker, since)))  # type: ignore[misc]
    docker.clear()
    return found


def main() -> None:
    reason = dockerd.missing()
    if reason:
        print(f"not run: {reason}")
        return
    took: dict[str, list[float]] = {}
    with Docker() as docker:
        with keeper(docker):
            time.sleep(2)
            took["Home Keeper"] = times(docker)
        peer = "ROTA_AUTOHEAL" in os.environ and shutil.which("jq") and shutil.which("curl")
        if peer:
            with autoheal(docker):
                took["docker-autoheal"] = times(docker)
    rows = [
        (name, *(f"{value:.2f}" for value in (min(found), statistics.median(found), max(found))))
        for name, found in took.items()
    ]
    table(f"seconds from unhealthy to started again, {TIMES} times", ("", "least", "median", "most"), rows)
    if not peer:
        print("  docker-autoheal not run: name its checkout in ROTA_AUTOHEAL; it needs curl and jq")
        return
    ours, theirs = (statistics.median(found) for found in took.values())
    verdict("median of Home Keeper / of docker-autoheal", ours / theirs, AIM)


if __name__ == "__main__":
    main()
