"""Containers of a real Docker engine, followed through the proxy: what is noticed, and what is let be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from rota.container_watches import Grant, Proxy
from rota.quantity import USEC
from tests.machine.dockerd import Docker, Proxied, missing

PROGRAM = Path(__file__).with_name("container_watch.py")
ENGINE = "check:containers"
KEYS = {"restarts": 4, "within": 60 * USEC, "patience": 20 * USEC}
SICK_ON_DEMAND = {"command": "touch /tmp/ok; while :; do sleep 0.2; done", "check": "test -e /tmp/ok"}
CRASH = {"command": "sleep 0.3; exit 3"}
OBEYS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
GONE = float(os.environ.get("ROTA_GONE", "15"))
Finding = dict[str, Any]


class Watch:
    """The source of Home Keeper as a program, and what it said."""

    def __init__(self, socket: str) -> None:
        self.said: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), socket, json.dumps(KEYS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.until(lambda: self.first(0), "the first look")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))

    def until(self, condition: Callable[[], Any], what: str, timeout: float = 25) -> Any:
        until = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < until, (
                f"waited {timeout:g} s in vain for {what}; said: {self.said[-5:]}"
            )
            time.sleep(0.02)
        return found

    def first(self, since: int) -> bool:
        return any(item.get("first") for item in self.said[since:])

    def findings(self, target: str, since: int = 0) -> list[Finding]:
        """Return what was found last, [] for nothing."""
        told = [item["findings"][target] for item in self.said[since:] if target in item.get("findings", {})]
        return list(told[-1]) if told else []

    def ever(self, target: str, since: int) -> set[str]:
        return {
            one["problem"]
            for item in self.said[since:]
            for one in item.get("findings", {}).get(target, [])
            if one["severity"] != "info"
        }

    def problem(self, target: str, problem: str, since: int = 0) -> Finding:
        def look() -> Finding | None:
            return next((one for one in self.findings(target, since) if one["problem"] == problem), None)

        found: Finding = self.until(look, f"{target} {problem}")
        return found

    def well(self, target: str, since: int = 0) -> None:
        self.until(lambda: not self.findings(target, since), f"nothing wrong with {target}")

    def noticed(self, target: str, problem: str) -> int:
        """Return when a problem was told first, microseconds."""
        return next(
            int(item["at"])
            for item in reversed(self.said)
            if any(one["problem"] == problem for one in item.get("findings", {}).get(target, []))
        )

    def act(self, remedy: str, target: str) -> dict[str, Any]:
        since = len(self.said)
        assert self._process.stdin is not None
        print(remedy, target, file=self._process.stdin, flush=True)
        found: dict[str, Any] = self.until(
            lambda: next((item for item in self.said[since:] if item.get("target") == target), None),
            f"{remedy} {target}",
            40,
        )
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class House:
    """An engine, the proxy before it, and what follows it."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        grants = (Grant("container:never", allowed=False), Grant("container:*", allowed=True))
        self.proxy = Proxied(docker, Proxy(docker.socket, grants=grants))
        self.proxy.start()
        self.watch = Watch(self.proxy.socket)
        self.took: dict[str, float] = {}

    def time(self, what: str, target: str, problem: str, moment: str) -> None:
        """Keep how long it took to notice, from a moment that the engine tells."""
        then = datetime.fromisoformat(moment[:26].rstrip("Z") + "+00:00").timestamp()
        self.took[what] = self.watch.noticed(target, problem) / USEC - then

    @property
    def mark(self) -> int:
        return len(self.watch.said)


@pytest.fixture(scope="module")
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Docker() as docker:
        found = House(docker)
        yield found
        found.watch.close()
        found.proxy.close()
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        for what, took in found.took.items():
            print(f"\nnoticed {what} after {took * 1000:.0f} ms", end="")


@pytest.fixture(autouse=True)
def empty(house: House) -> Iterator[None]:
    """No containers are left to the next test."""
    yield
    house.docker.clear()


def settled(house: House) -> None:
    """Wait until all that happened so far has been looked at: what comes after it is seen."""
    house.docker.run_one("settled", "exit 9")
    house.watch.problem("container:settled", "exited")
    house.docker.ask("DELETE", "/containers/settled")
    house.watch.well("container:settled")


def health(house: House, name: str) -> Any:
    return house.docker.inspect(name)["State"]["Health"]


def finished(house: House, name: str) -> str:
    return str(house.docker.inspect(name)["State"]["FinishedAt"])


def test_unhealthy_is_noticed_and_a_restart_heals_it(house: House) -> None:
    house.docker.run_one("web", **SICK_ON_DEMAND)
    house.watch.until(lambda: health(house, "web")["Status"] == "healthy", "health")
    house.docker.execute("web", "rm /tmp/ok")
    found = house.watch.problem("container:web", "unhealthy")
    assert "failed 2 times in a row" in found["summary"]
    checks = health(house, "web")["Log"]
    failed = [one["End"] for one in checks if one["ExitCode"]]
    house.time("unhealthy", "container:web", "unhealthy", failed[1])
    report = house.watch.act("restart-container", "container:web")["report"]
    assert (report["done"], report["health"]) == ("restarted", "healthy")
    house.watch.well("container:web")
    again = house.watch.act("restart-container", "container:web")["report"]
    assert again == {"done": "nothing", "why": "it is healthy by now"}


def test_a_restart_that_does_not_help_has_failed(house: House) -> None:
    house.docker.run_one("web", check="echo no way; false")
    house.watch.problem("container:web", "unhealthy")
    assert house.watch.act("restart-container", "container:web")["error"] == "web is unhealthy again: no way"
    house.watch.problem("container:web", "unhealthy")


def test_what_is_starting_is_let_be(house: House) -> None:
    since = house.mark
    house.docker.run_one("slow", check="false", start_period=100)
    house.watch.until(lambda: len(health(house, "slow")["Log"]) > 3, "checks that fail")
    settled(house)
    assert house.watch.ever("container:slow", since) == set()


def test_a_crash(house: House) -> None:
    house.docker.run_one("app", **CRASH)
    found = house.watch.problem("container:app", "exited")
    assert (found["exit_code"], found["severity"]) == (3, "warning")
    house.time("exited", "container:app", "exited", finished(house, "app"))
    said = house.watch.act("start-container", "container:app")
    assert said["error"] == "app ended again right away, with exit code 3"
    house.watch.problem("container:app", "exited")


def test_what_crashed_is_started(house: House) -> None:
    house.docker.run_one("app", "test -e /tmp/x && exec sleep 1000; touch /tmp/x; exit 3")
    house.watch.problem("container:app", "exited")
    assert house.watch.act("start-container", "container:app")["report"]["done"] == "started"
    house.watch.well("container:app")
    assert house.docker.inspect("app")["State"]["Running"]


@pytest.mark.parametrize(
    ("restart", "verb"), [("no", "stop"), ("no", "kill"), ("always", "stop"), ("on-failure", "kill")]
)
def test_a_stop_by_hand_is_a_persons_wish(house: House, restart: str, verb: str) -> None:
    since = house.mark
    house.docker.run_one("db", restart=restart)
    house.docker.do("db", verb)
    house.watch.until(lambda: not house.docker.inspect("db")["State"]["Running"], "its end")
    settled(house)
    assert house.watch.ever("container:db", since) == set()
    said = house.watch.act("start-container", "container:db")
    assert said["error"] == "db was stopped by hand meanwhile, and so let be"
    said = house.watch.act("restart-container", "container:db")
    assert "by hand" in said["error"]
    assert not house.docker.inspect("db")["State"]["Running"]


def test_what_is_meant_to_end_or_to_wait(house: House) -> None:
    since = house.mark
    house.docker.run_one("job", "exit 0")
    house.docker.run_one("once", "exit 3", AutoRemove=True)
    house.docker.create("made")
    house.docker.run_one("still", **SICK_ON_DEMAND)
    house.docker.do("still", "pause")
    house.docker.run_one("swapped", OBEYS)
    house.docker.do("swapped", "restart")
    settled(house)
    for name in ("job", "once", "made", "still", "swapped"):
        assert house.watch.ever(f"container:{name}", since) == set(), name
    assert (
        house.watch.act("restart-container", "container:still")["error"] == "still is paused, and so let be"
    )


def test_a_pause_takes_back_that_it_is_unhealthy(house: House) -> None:
    house.docker.run_one("web", check="false")
    house.watch.problem("container:web", "unhealthy")
    house.docker.do("web", "pause")
    house.watch.well("container:web")


def test_the_engine_restarts_first_and_a_loop_is_noticed(house: House) -> None:
    since = house.mark
    house.docker.run_one("loop", "exit 3", restart="always")
    found = house.watch.problem("container:loop", "restart-loop")
    assert found["exit_code"] == 3
    assert house.watch.ever("container:loop", since) == {"restart-loop"}
    house.time("restart-loop", "container:loop", "restart-loop", finished(house, "loop"))


def test_an_engine_that_gives_up(house: House) -> None:
    since = house.mark
    house.docker.run_one("tries", "exit 3", restart="on-failure:2")
    found = house.watch.problem("container:tries", "exited")
    assert "not started again after 2 times" in found["summary"]
    assert house.watch.ever("container:tries", since) == {"exited"}


def test_memory_that_runs_out(house: House) -> None:
    if not house.docker.ask("GET", "/info")["MemoryLimit"]:
        pytest.skip("the kernel limits no memory of containers")
    house.docker.run_one("eater", "tail /dev/zero", memory=8 << 20)
    found = house.watch.problem("container:eater", "oom-killed")
    house.watch.until(lambda: house.watch.findings("container:eater")[0]["severity"] == "warning", "its end")
    assert "memory" in found["summary"]
    house.time("oom-killed", "container:eater", "oom-killed", finished(house, "eater"))


def test_a_project_of_compose(house: House) -> None:
    project = {"com.docker.compose.project": "shop"}
    house.docker.run_one("shop-db-1", **CRASH, labels={**project, "com.docker.compose.service": "db"})
    depends = {
        "com.docker.compose.service": "web",
        "com.docker.compose.depends_on": "db:service_healthy:true",
    }
    house.docker.run_one("shop-web-1", check="false", labels={**project, **depends})
    house.watch.problem("container:shop-db-1", "exited")
    assert house.watch.problem("container:shop-web-1", "unhealthy")["needs"] == ["container:shop-db-1"]


def test_labels(house: House) -> None:
    since = house.mark
    for label in ("ignore", "restart", "escalate", "ignroe"):
        house.docker.run_one(f"says-{label}", **CRASH, labels={"rota.keeper": label})
    for label in ("restart", "escalate"):
        assert house.watch.problem(f"container:says-{label}", "exited")["label"] == label
    wrong = house.watch.problem("container:says-ignroe", "label")
    assert "rota.keeper=ignroe" in wrong["summary"]
    assert wrong["label"] == "escalate"
    settled(house)
    assert house.watch.ever("container:says-ignore", since) == set()


def test_names_may_change_and_ids_too(house: House) -> None:
    house.docker.run_one("web", **CRASH)
    house.watch.problem("container:web", "exited")
    house.docker.do("web", "rename", "?name=old-web")
    house.watch.problem("container:old-web", "exited")
    house.watch.well("container:web")
    house.docker.run_one("web", check="false")
    house.watch.problem("container:web", "unhealthy")
    house.docker.ask("DELETE", "/containers/old-web")
    house.watch.well("container:old-web")
    assert house.watch.findings("container:web")


def test_the_proxy_lets_act_on_what_it_is_told_only(house: House) -> None:
    house.docker.run_one("never", **CRASH)
    house.watch.problem("container:never", "exited")
    said = house.watch.act("start-container", "container:never")
    assert "the policy does not let never be acted on" in said["error"]


def test_a_stream_that_is_cut(house: House) -> None:
    house.docker.run_one("stays", OBEYS)
    house.docker.run_one("falls", OBEYS)
    house.docker.run_one("stopped", OBEYS)
    settled(house)
    since = house.mark
    house.proxy.kill()
    house.docker.execute("falls", "kill -9 -1")
    house.docker.do("stopped", "stop")
    house.docker.run_one("came", **CRASH)
    house.proxy.start()
    house.watch.until(lambda: house.watch.first(since), "a fresh look")
    house.watch.problem("container:came", "exited", since)
    house.docker.do("falls", "kill", "?signal=KILL")
    settled(house)
    for name in ("stays", "stopped"):
        assert house.watch.ever(f"container:{name}", since) == set(), name


def test_an_engine_that_is_started_anew(house: House) -> None:
    """Containers without a restart policy end with it; that is nobody's wish."""
    house.docker.run_one("plain", OBEYS)
    house.docker.run_one("again", restart="unless-stopped")
    house.docker.run_one("by-hand", restart="unless-stopped")
    house.docker.run_one("by-hand-plain")
    house.docker.do("by-hand", "stop")
    house.docker.do("by-hand-plain", "stop")
    house.docker.run_one("job", "exit 0")
    time.sleep(2.5)  # what ends within two seconds of all others ended with them
    settled(house)
    since = house.mark
    house.docker.stop()
    house.watch.problem(ENGINE, "blind", since)
    house.docker.start()
    house.watch.well(ENGINE, since)
    assert house.watch.ever(ENGINE, since) == set(), "nobody is told of that"
    found = house.watch.problem("container:plain", "exited", since)
    assert "ended with its engine" in found["summary"]
    settled(house)
    for name in ("again", "by-hand", "by-hand-plain", "job"):
        assert house.watch.ever(f"container:{name}", since) == set(), name
    assert house.watch.act("start-container", "container:plain")["report"]["done"] == "started"


def test_an_engine_that_is_gone_for_a_while(house: House) -> None:
    house.docker.run_one("plain", OBEYS)
    house.docker.run_one("again", restart="always")
    settled(house)
    since = house.mark
    house.docker.stop(signal.SIGKILL)
    found = house.watch.problem(ENGINE, "blind", since)
    assert "cannot look" in found["summary"]
    house.watch.until(lambda: house.watch.ever(ENGINE, since) == {"blind"}, "people to be told")
    time.sleep(GONE)
    house.docker.start()
    began = time.monotonic()
    house.watch.well(ENGINE, since)
    house.took["an engine that is back"] = time.monotonic() - began
    house.watch.problem("container:plain", "exited", since)
    settled(house)
    assert house.watch.ever("container:again", since) == set()
