"""Polling: on time, side by side, and nothing that fails, hangs or errs stops the rest."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rota_agents.home_keeper.checks.readings import Reading, when_true
from rota_agents.home_keeper.checks.words import Malformed
from rota_agents.home_keeper.probes import Unavailable
from rota_agents.home_keeper.probes.polling import Observation, Poll, Watcher, poll_all
from rota_agents.home_keeper.probes.threads import Threads
from rota_agents.home_keeper.words import Target

from rota.errors import RotaError
from tests.keeper.loop import FakeLoop

S = 1_000_000


def judge(facts: dict[str, bool], _: int) -> Iterable[Reading]:
    for name, bad in facts.items():
        yield Reading(Target("disk", name), "space", float(bad), when_true("warning"), f"{name} is full")


def poll(probe: Any, interval: int = S, timeout: int = S, name: str = "disks") -> Poll[Any]:
    return Poll(name, interval, timeout, probe, judge)


def looks(*answers: dict[str, bool] | Exception) -> list[Observation | None]:
    """Look as often as there are answers; errors among them are raised by the probe."""
    given = iter(answers)

    async def probe() -> dict[str, bool]:
        answer = next(given)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def live() -> list[Observation | None]:
        watcher, times = Watcher(poll(probe)), iter(range(1, 100))
        return [await watcher.look(lambda: next(times) * S) for _ in answers]

    return asyncio.run(live())


def told(observation: Observation | None) -> dict[str, list[str]] | None:
    if observation is None:
        return None
    return {str(target): [one.problem for one in found] for target, found in observation.findings.items()}


def test_what_is_told() -> None:
    found = looks(
        {"/": False, "/a": True},
        {"/": False, "/a": True},
        {"/": False, "/a": False},
        {"/": False},
        {"/": True},
    )
    assert [told(one) for one in found] == [
        {"disk:/": [], "disk:/a": ["space"], "check:disks": []},
        {"disk:/a": ["space"]},
        {"disk:/a": []},
        None,
        {"disk:/": ["space"]},
    ]
    assert [one.first for one in found if one] == [True, False, False, False]


@given(
    interval=st.integers(1, 60),
    calm=st.integers(0, 120),
    well=st.floats(0, 1),
    late=st.lists(st.floats(0, 1), min_size=200, max_size=200),
)
@example(60, 1, 0.0, [0.0, 0.0, 1.0] * 67)
def test_what_is_well_is_seen_to_be_so_within_the_findings_lag(
    interval: int, calm: int, well: float, late: list[float]
) -> None:
    """However looks fall: as `poll_all` has them, each up to a twentieth of the interval late."""
    times = [round(S * interval * (turn + one / 20)) for turn, one in enumerate(late)]
    since = times[0] + round(well * (times[1] - times[0]))
    clock = iter(times)

    async def probe() -> int:
        return next(clock)

    def full(at: int, _: int) -> Iterable[Reading]:
        yield Reading(Target("disk", "/"), "space", float(at <= since), when_true("warning", calm=calm * S))

    async def live() -> tuple[int, int]:
        watcher, lag = Watcher(Poll("disks", interval * S, S, probe, full)), 0
        for at in times:
            found = await watcher.look(lambda at=at: at)
            assert found is not None
            finding = found.findings[Target("disk", "/")]
            if not finding:
                return at - since, lag
            lag = finding[0].lag
        raise AssertionError("it was never closed")

    took, lag = asyncio.run(live())
    assert took <= lag
    assert took <= (calm + 2 * interval + interval / 20 + 1) * S


def test_what_is_gone_is_healed() -> None:
    assert [told(one) for one in looks({"/a": True}, {})] == [
        {"disk:/a": ["space"], "check:disks": []}, {"disk:/a": []}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (FileNotFoundError(2, "No such file or directory", "/proc/x"), "/proc/x: No such file or directory"),
        (
            Malformed("/proc/stat is not as expected: no line cpu"),
            "/proc/stat is not as expected: no line cpu",
        ),
        (Unavailable("dnspython is missing; install python3-dnspython"), "install python3-dnspython"),
        (RotaError("no system bus: x", "Start it."), "no system bus: x. Start it"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (TimeoutError(), "no answer within 1s"),
    ],
)
def test_a_check_that_cannot_look_says_so_and_heals_nothing(error: Exception, why: str) -> None:
    first, blind, still, again = looks({"/a": True}, error, error, {"/a": True})
    assert told(first) == {"disk:/a": ["space"], "check:disks": []}
    assert blind is not None and told(blind) == {"check:disks": ["blind"]}
    (finding,) = blind.findings[Target("check", "disks")]
    assert why in finding.summary and finding.since == 2 * S
    assert still is not None
    (finding,) = still.findings[Target("check", "disks")]
    assert finding.since == 2 * S
    assert told(again) == {"disk:/a": ["space"], "check:disks": []}


def test_a_mistake_of_a_judge_is_one_of_the_check() -> None:
    async def probe() -> Any:
        return None

    async def live() -> Observation | None:
        return await Watcher(poll(probe)).look(lambda: S)

    assert told(asyncio.run(live())) == {"check:disks": ["blind"]}


def test_one_that_hangs_or_fails_holds_up_no_other() -> None:
    async def hang() -> Any:
        await asyncio.sleep(3600)

    async def fail() -> Any:
        raise OSError("broken")

    async def work() -> dict[str, bool]:
        return {"/": True}

    async def live() -> None:
        queue: asyncio.Queue[Observation] = asyncio.Queue()
        checks = [
            poll(hang, S // 50, S // 20, "hangs"),
            poll(fail, S // 50, S, "fails"),
            poll(work, S // 50, S, "works"),
        ]
        found: dict[str, list[list[str]]] = {one.name: [] for one in checks}
        task = asyncio.create_task(poll_all(checks, queue))
        async with asyncio.timeout(60):
            while min(map(len, found.values())) < 3:
                one = await queue.get()
                found[one.check].append([item.summary for items in one.findings.values() for item in items])
        task.cancel()
        await asyncio.wait([task])
        assert found["hangs"][:3] == [["check hangs cannot look: no answer within 50ms"]] * 3
        assert found["fails"][:3] == [["check fails cannot look: broken"]] * 3
        assert found["works"][:3] == [["/ is full"]] * 3

    asyncio.run(live())


def dice() -> random.Random:
    return random.Random(7)  # noqa: S311  (it must come again)


@pytest.mark.parametrize("took", [0.0, 4.0, 12.0])
def test_looks_are_on_their_grid_all_day(took: float) -> None:
    """At multiples of the interval after the first, up to a twentieth later, and without drift."""
    loop, times = FakeLoop(), []

    async def probe() -> dict[str, bool]:
        times.append(loop.time())
        await asyncio.sleep(took)
        return {}

    async def live() -> None:
        task = asyncio.create_task(poll_all([poll(probe, 10 * S, 60 * S)], asyncio.Queue(), chance=dice()))
        await asyncio.sleep(86_400)
        task.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(live())
    loop.close()
    every = 10 * (1 + took // 10)
    assert len(times) == pytest.approx(86_400 / every, abs=2)
    starts = [when - every * number for number, when in enumerate(times)]
    assert max(starts) - min(starts) <= 0.5 + 1e-6, "neither drift nor more jitter"
    assert len({round(start, 4) for start in starts}) > 100, "there is jitter"


def test_checks_do_not_begin_all_at_once() -> None:
    loop, times = FakeLoop(), []

    async def probe() -> dict[str, bool]:
        times.append(loop.time())
        return {}

    async def live() -> None:
        checks = [poll(probe, 3600 * S, S, f"check-{number}") for number in range(50)]
        task = asyncio.create_task(poll_all(checks, asyncio.Queue(), chance=dice()))
        await asyncio.sleep(6)
        task.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(live())
    loop.close()
    assert len(times) == 50, "all of them within five seconds"
    assert max(times) - min(times) > 3


def test_threads_are_few_and_one_of_a_kind() -> None:
    release, calls = threading.Event(), []

    def work(kind: str) -> str:
        calls.append(kind)
        release.wait(30)
        return kind.upper()

    async def live() -> None:
        threads = Threads(limit=2)
        kinds = ("a", "b", "a", "c", "d", "a")
        waiting = [asyncio.create_task(threads.run(kind, lambda kind=kind: work(kind))) for kind in kinds]
        async with asyncio.timeout(60):
            while len(calls) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # in which another one would begin
        assert sorted(calls) == ["a", "b"], "no more than two, and all who ask for a wait for one"
        waiting[0].cancel()  # whoever waited is gone; the thread is not
        await asyncio.wait([waiting[0]])
        assert threads.busy == {"a", "b", "c", "d"}
        release.set()
        assert await asyncio.gather(*waiting[1:]) == ["B", "A", "C", "D", "A"]
        assert sorted(calls) == ["a", "b", "c", "d"] and not threads.busy
        assert await threads.run("a", lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await threads.run("a", lambda: 1 // 0)

    asyncio.run(live())


def test_an_error_that_nobody_waits_for_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def fail() -> None:
        release.wait(30)
        raise OSError("too late")

    async def live() -> None:
        threads = Threads()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await threads.run("a", fail)
        release.set()
        async with asyncio.timeout(60):
            while threads.busy:
                await asyncio.sleep(0.01)

    asyncio.run(live())
    gc.collect()
    assert caplog.records == []


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    import subprocess
    import sys

    code = (
        "import asyncio, time\nfrom rota_agents.home_keeper.probes.threads import Threads\n"
        "async def main():\n    try:\n        async with asyncio.timeout(0.1):\n"
        "            await Threads().run('x', lambda: time.sleep(60))\n"
        "    except TimeoutError:\n        print('left')\n"
        "asyncio.run(main())"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.stdout, done.stderr) == ("left\n", "")
    assert time.monotonic() - began < 45
