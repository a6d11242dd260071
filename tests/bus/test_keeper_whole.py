"""The keeper and those around it: killed at any moment; rotad runs agents, rotad-notify tells people."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rota.bus import Exported
from rota.bus_object import Caller as RotaCaller
from rota.errors import RotaError
from rota.events import Run
from rota.keeper_rules import Override
from rota.names import BUS_NAME
from rota.notifier import Notifier
from rota.systemd import connect
from rota.watches import Limit, Watches
from tests.bus.house import House
from tests.bus.keeper_kit import DOOR, Caller, Door, Kept, S, kept, rules, watching
from tests.sinks import webhook

OPENER = """
import socket, sys, time
door = socket.socket()
door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
door.bind(("127.0.0.1", int(sys.argv[1])))
door.listen(64)
print("open", flush=True)
time.sleep(60)
"""


class Agents(House):
    """A rotad whose agents are programs: `open-PORT` opens a door, `broken` fails."""

    def __init__(self) -> None:
        super().__init__()
        self.exported: Exported | None = None
        self.started: list[str] = []
        self.runs: dict[str, Run] = {}
        self._programs: list[subprocess.Popen[bytes]] = []

    async def start(self, _: RotaCaller, name: str) -> str:
        run = f"{len(self.started):032x}"
        self.started.append(name)
        if name == "paused":
            raise RotaError("paused is paused")
        code, argument = (OPENER, name.partition("-")[2]) if name != "broken" else ("raise SystemExit(3)", "")
        program = subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.PIPE)
        self._programs.append(program)
        self.runs[run] = Run(run, name, "running")
        asyncio.get_running_loop().create_task(self._ended(run, program))
        return run

    async def _ended(self, run: str, program: subprocess.Popen[bytes]) -> None:
        assert program.stdout is not None
        await asyncio.to_thread(program.stdout.readline)
        status = program.poll() if self.runs[run].agent != "broken" else program.wait()
        told = (
            {"state": "failed", "status": status} if status else {"state": "succeeded", "result": '{"n": 1}'}
        )
        self.runs[run] = self.runs[run]._replace(**told, output_filed=True)
        if self.exported is not None:
            self.exported.run_changed(self.runs[run])

    def get_run(self, prefix: str) -> Run:
        return self.runs[prefix]

    def end(self) -> None:
        for program in self._programs:
            program.kill()
            program.communicate()


async def rotad(address: str) -> Agents:
    bus = await connect(user=True, address=address)
    agents = Agents()
    agents.exported = Exported(bus, agents)
    await bus.request_name(BUS_NAME)
    return agents


def test_an_agent_is_run_and_its_run_is_the_report(private_bus: str, tmp_path: Path) -> None:
    door = Door()

    async def main() -> None:
        agents = await rotad(private_bus)
        found = rules(Override(DOOR, remedy=f"agent:open-{door.port}"))
        try:
            with kept(tmp_path, private_bus, found, watching(door=door)) as keeper:
                caller = await Caller.on(private_bus)
                await caller.there()
                await caller.until(lambda: caller.kinds("recovered"), "it to recover")
                (row,) = (await caller.told("History", "su", DOOR, 9))["remedies"]
                assert (row["outcome"], row["verdict"], row["problem"]) == ("ok", "healed", "unreachable")
                assert row["report"] == {"run": "0" * 32, "state": "succeeded", "result": '{"n": 1}'}
                assert agents.started == [f"open-{door.port}"]
                metrics = await caller.told("Metrics")
                assert metrics["remedies"] == [{"remedy": "run-agent", "result": "healed", "count": 1}]
                by, itself = metrics["recoveries"]
                assert (by["by"], sum(count for _, count in by["buckets"])) == ("remedy", 1)
                assert by["usec"] == row["recovered"] and itself["usec"] == 0
                assert keeper.rows("SELECT count(*) FROM actions") == [(1,)]
        finally:
            agents.end()

    asyncio.run(main())


def test_a_run_that_fails_is_a_failed_remedy(private_bus: str, tmp_path: Path) -> None:
    async def main() -> None:
        agents = await rotad(private_bus)
        doors = {"door": Door(), "gate": Door()}
        found = rules(Override(DOOR, remedy="agent:broken"), Override("endpoint:gate", remedy="agent:paused"))
        try:
            with kept(tmp_path, private_bus, found, watching(**doors)):
                caller = await Caller.on(private_bus)
                await caller.there()

                async def both() -> bool:
                    return len(await caller.kinds("escalated")) == 2

                await caller.until(both, "both to be escalated")
                rows = (await caller.told("History", "su", "", 9))["remedies"]
                assert len(rows) == 4 and {row["verdict"] for row in rows} == {"failed"}
                broken = [row for row in rows if row["target"] == DOOR]
                assert (
                    broken[0]["error"].startswith("run 0000000000") and "exit status 3" in broken[0]["error"]
                )
                assert broken[0]["report"]["state"] == "failed"
                paused = [row["error"] for row in rows if row["target"] != DOOR]
                assert paused == ["paused is paused"] * 2
        finally:
            agents.end()

    asyncio.run(main())


def test_what_a_new_keeper_has_not_seen_for_long_enough_is_not_closed(
    private_bus: str, tmp_path: Path
) -> None:
    """Of a door that has been shut all the time, a finding that takes a second to open is told once."""
    door = Door()
    shut = replace(door.watched(), unreachable=(Limit("critical", 1, 0, S),))
    watches = Watches(endpoints={"door": shut})

    async def main() -> None:
        with kept(tmp_path, private_bus, rules(), watches) as keeper:
            caller = await Caller.on(private_bus)
            await caller.there()
            await caller.until(lambda: caller.kinds("finding-opened"), "it to be found")
            keeper.kill()
            keeper.start()
            await caller.there()
            await asyncio.sleep(3)  # in which it would be closed, and opened again
            found = await caller.kinds("started", "finding-opened", "finding-closed")
            assert found == ["started", "finding-opened", "started"]

    asyncio.run(main())


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(private_bus: str, tmp_path: Path, seed: int) -> None:
    """No action beyond the policy, each with its row before it is done; no finding lost."""
    dice = random.Random(seed)  # noqa: S311
    names = [f"d{number}" for number in range(4)]
    doors = {name: Door() for name in names}

    async def main() -> None:
        agents = await rotad(private_bus)
        targets = [Override(f"endpoint:{name}", remedy="agent:broken", attempts=3) for name in names]
        found = rules(*targets, actions_per_hour=9)
        try:
            with kept(tmp_path, private_bus, found, watching(**doors)) as keeper:
                began, caller = time.monotonic(), await Caller.on(private_bus)
                await caller.there()
                slowness = max(time.monotonic() - began, 1)  # so that it gets as far on a busy machine
                end = time.monotonic() + 14 * slowness
                while time.monotonic() < end:
                    await asyncio.sleep(dice.uniform(0.3, 1.6) * slowness)
                    before = len(agents.started)
                    keeper.kill()
                    assert before <= _begun(keeper), "an action was begun without a row"
                    for door in dice.sample(list(doors.values()), 2):
                        door.close()
                        if dice.random() < 0.5:
                            door.open()
                    keeper.start()
                await caller.there()
                closed = {f"endpoint:{name}" for name in names if not doors[name].is_open}

                async def seen() -> bool:
                    status = await caller.told("Status")
                    return {one["target"] for one in status["targets"] if one["findings"]} == closed

                await caller.until(seen, "all that is wrong, and nothing else, to be found")
                await asyncio.sleep(3)
                _hold(keeper, agents, {f"endpoint:{name}": doors[name].is_open for name in names})
                assert await seen()
        finally:
            agents.end()
            for door in doors.values():
                door.close()

    asyncio.run(main())


def _begun(keeper: Kept) -> int:
    """Return how many actions have a row; none if it was killed before there was a ledger."""
    if not keeper.ledger.exists() or not keeper.rows("SELECT 1 FROM sqlite_schema WHERE name = 'actions'"):
        return 0
    return int(keeper.rows("SELECT count(*) FROM actions")[0][0])


def _hold(keeper: Kept, agents: Agents, opened: dict[str, bool]) -> None:
    """Hold the ledger against the world, and against itself."""
    rows = keeper.rows("SELECT target, outcome, id FROM actions ORDER BY id")
    assert 3 <= len(agents.started) <= len(rows) <= 9
    assert all(outcome is not None for _, outcome, _ in rows[:-4])
    assert max(Counter(target for target, *_ in rows).values()) <= 3
    assert len(rows) - len(agents.started) <= sum(outcome == "unknown" for _, outcome, _ in rows)
    events = keeper.rows("SELECT seq, kind, target, data FROM events ORDER BY seq")
    assert [seq for seq, *_ in events] == list(range(1, len(events) + 1))
    begun = [json.loads(data)["id"] for _, kind, _, data in events if kind == "remedy-begun"]
    assert begun == [number for _, _, number in rows]
    still = keeper.rows("SELECT target FROM findings WHERE closed IS NULL")
    assert {target for (target,) in still} == {name for name, is_open in opened.items() if not is_open}
    balance: Counter[str] = Counter()
    for _, kind, target, _ in events:
        balance[target] += {"finding-opened": 1, "finding-closed": -1}.get(kind, 0)
        assert balance[target] in (0, 1)


def declare(folder: Path, url: str) -> Path:
    channel = {"rate": [30, 3_600_000_000], "expiry": 172_800_000_000}
    route = {"name": "r", "channels": ["ops"], "on": ["escalation"], "group": 0}
    (folder / "rules").write_text(json.dumps({"channels": {"ops": channel}, "routes": [route], "agents": {}}))
    (folder / "channel.ops").write_text(url)
    return folder


def test_every_escalation_is_delivered_and_then_acknowledged(private_bus: str, tmp_path: Path) -> None:
    async def main() -> None:
        doors = {"door": Door(), "gate": Door()}
        doors["gate"].open()
        named = [Override(DOOR, remedy="none"), Override("endpoint:gate", remedy="none")]
        found = rules(*named)
        told = tmp_path / "told"
        told.mkdir()
        with webhook() as sink, kept(tmp_path, private_bus, found, watching(**doors)) as keeper:
            caller = await Caller.on(private_bus)
            await caller.there()

            async def waiting() -> list[Any]:
                return list((await caller.told("Status"))["escalations"])

            (one,) = await caller.until(waiting, "an escalation")
            assert one["target"] == DOOR
            (unheard,) = await caller.call("Unheard")
            (seq,) = [event["seq"] for event in await caller.events() if event["kind"] == "escalated"]
            assert unheard == seq - 1
            await caller.call("Events", "tu", seq, 10)
            assert await waiting(), "anybody may ask; only rotad-notify takes over"
            keeper.kill()
            keeper.start()
            await caller.there()
            assert await waiting()
            # Telling people is declared only now: what waits for a person is told all the same.
            notifier = Notifier(told, declare(told, sink.url), user=True, address=private_bus)
            task = asyncio.create_task(notifier.run())

            async def got() -> bool:
                assert not task.done(), task.result()
                return bool(sink.got)

            await caller.until(got, "the message", 30)

            async def none() -> bool:
                return not await waiting()

            await caller.until(none, "it to be acknowledged")
            doors["gate"].close()
            await caller.until(lambda: _two(sink.got), "the other message", 30)
            await caller.until(none, "the other to be acknowledged")
            assert (await caller.call("Unheard"))[0] > unheard
            notifier.stop()
            await task
        subjects = [one.partition("] ")[2] for one in sink.subjects]
        assert subjects[0].startswith("endpoint:door needs a person: (tcp 127.0.0.1:")
        assert subjects[1].startswith("endpoint:gate needs a person: (tcp 127.0.0.1:")

    asyncio.run(main())


async def _two(got: list[Any]) -> bool:
    return len(got) == 2


def test_a_flood_of_looks_is_taken_in_order(private_bus: str, tmp_path: Path) -> None:
    """Sixty doors that all open and close: each finding once, nothing kept, and it answers meanwhile."""

    async def main() -> None:
        doors = {f"d{number}": Door() for number in range(60)}
        watches = Watches(endpoints={name: door.watched(1_000_000) for name, door in doors.items()})
        with kept(tmp_path, private_bus, rules(), watches) as keeper:
            caller = await Caller.on(private_bus)
            await caller.there()

            async def all_found() -> bool:
                return len(await caller.kinds("found")) == 60

            await caller.until(all_found, "sixty findings", 60)
            for door in doors.values():
                door.open()
            began = time.monotonic()
            await caller.told("Status")
            assert time.monotonic() - began < 5

            async def all_healed() -> bool:
                return len(await caller.kinds("healed")) == 60

            await caller.until(all_healed, "sixty to be healed", 60)
            assert keeper.rows("SELECT count(*) FROM findings WHERE closed IS NULL") == [(0,)]
        for door in doors.values():
            door.close()

    asyncio.run(main())
