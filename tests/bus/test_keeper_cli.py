"""`rota keeper` against a keeper on a private bus: what one reads, in 80 columns, and what one may type."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rota.keeper_rules import Override
from tests.bus.keeper_kit import DOOR, Caller, Door, Kept, kept, rules, watching

GATE = "endpoint:gate-of-the-garden"
Rota = Callable[..., str]


class House:
    """A keeper with three doors that are closed: one is asked about, one is let be, one only observed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "DBUS_SESSION_BUS_ADDRESS": address,
            "COLUMNS": "80",
        }

    def rota(self, *words: str, code: int = 0) -> str:
        """Run rota and return what it said: standard output, or standard error where it fails."""
        command = [sys.executable, "-m", "rota.cli", "--user", *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def seen(self, *words: str) -> str:
        """Return what it shows on a terminal of 80 columns."""
        ours, its = pty.openpty()
        environment = {**self._environment, "NO_COLOR": "1", "TERM": "dumb"}
        command = [sys.executable, "-m", "rota.cli", "--user", *words]
        with subprocess.Popen(command, env=environment, stdout=its) as process:
            os.close(its)
            text = b""
            while True:
                try:
                    more = os.read(ours, 65536)
                except OSError:  # EIO: nobody has the other end open
                    break
                text += more
            assert process.wait() == 0
        os.close(ours)
        return text.decode().replace("\r\n", "\n")


@pytest.fixture
def house(private_bus: str) -> House:
    return House(private_bus)


def settled(house: House, folder: Path, work: Callable[[Kept], None]) -> None:
    async def main() -> None:
        named = (Override(DOOR, mode="ask", remedy="agent:nobody"), Override(GATE, remedy="agent:nobody"))
        watches = watching(door=Door(), gate_of_the_garden=Door(), window=Door())
        with kept(folder, house.address, rules(*named), watches) as keeper:
            caller = await Caller.on(house.address)
            await caller.there()

            async def all_there() -> bool:
                status = await caller.told("Status")
                asked = any(one["question"] for one in status["targets"])
                let_be = sum(one["hands_off"] is not None for one in status["targets"])
                return asked and let_be == 2

            await caller.until(all_there, "findings, a question, and what is let be")
            await asyncio.to_thread(work, keeper)

    asyncio.run(main())


def test_what_a_person_reads(house: House, tmp_path: Path) -> None:
    def work(_: Kept) -> None:
        house.rota("keeper", "maintenance", "2h", "unit:*")
        text = house.seen("keeper")
        assert max(map(len, text.splitlines())) <= 80, text
        lines = text.splitlines()
        assert lines[0].split() == ["TARGET", "PROBLEM", "FOR", "STRIKE", "NEXT"]
        rows = {line.split()[0]: line for line in lines[1:4]}
        assert rows[DOOR].split()[1] == "unreachable" and "question " in rows[DOOR]
        (gate,) = [row for name, row in rows.items() if name.startswith(GATE[:20])]
        assert "3/3" in gate and "hands off" in gate
        assert rows["endpoint:window"].endswith("only observed, told")
        (question,) = [line for line in lines if "rota keeper approve" in line]
        assert question.split()[1:4] == [DOOR, "run-agent", "nobody"]
        assert any(line.split()[1:2] == ["unit:*"] for line in lines)
        assert "run-agent nobody" in text and "failed" in text
        assert lines[-1] == "2 escalations wait to be told: see rota notify."
        assert lines[-2].startswith("3 findings, 1 question open; 2 of 20 actions of this hour are used.")
        history = house.seen("keeper", "history", GATE)
        assert max(map(len, history.splitlines())) <= 80, history
        assert "so far" in history and history.count("run-agent nobody") == 2
        (found,) = [line for line in house.rota("keeper", "history", GATE).splitlines() if "so far" in line]
        assert found.count(GATE.partition(":")[2]) == 1, "what is wrong is told without the target's name"
        assert (
            house.rota("keeper", "history", "unit:none.service") == "Nothing is known of unit:none.service.\n"
        )
        explained = house.rota("keeper", "explain", DOOR)
        assert f'Named by "{DOOR}"; mode ask.' in explained and "Strike 1 of 3" in explained

    settled(house, tmp_path, work)


def test_as_json(house: House, tmp_path: Path) -> None:
    def work(_: Kept) -> None:
        status = json.loads(house.rota("--json", "keeper"))
        assert {one["target"] for one in status["targets"]} == {DOOR, GATE, "endpoint:window"}
        assert len(json.loads(house.rota("keeper", "history", "--json", "-n", "1"))["remedies"]) == 1
        assert json.loads(house.rota("keeper", "explain", DOOR, "--json"))["mode"] == "ask"
        text = json.loads(house.rota("keeper", "resume", "--json", GATE))["text"]
        assert text == f"Resumed: {GATE}."

    settled(house, tmp_path, work)


def test_what_a_person_says(house: House, tmp_path: Path) -> None:
    def work(_: Kept) -> None:
        status = json.loads(house.rota("--json", "keeper"))
        (ask,) = [one["question"]["id"] for one in status["targets"] if one["question"]]
        assert house.rota("keeper", "approve", str(ask)).startswith(f"run-agent nobody of {DOOR} is approved")
        assert house.rota("keeper", "deny", "99999", code=3).startswith(
            "rota: There is no open question 99999\n"
        )
        said = house.rota("keeper", "maintenance", "2h")
        assert said.startswith("Maintenance ") and "of the house until" in said
        number = said.split()[1]
        assert house.rota("keeper", "maintenance", "--end", number) == f"Maintenance {number} is over.\n"
        house.rota("keeper", "maintenance", "1h", "unit:*")
        assert house.rota("keeper", "maintenance", "--end").endswith("is over.\n")
        assert "There is no maintenance" in house.rota("keeper", "maintenance", "--end", code=3)
        assert "Nothing like unit:x is let be" in house.rota("keeper", "resume", "unit:x", code=3)

    settled(house, tmp_path, work)


def test_what_is_wrong_usage(house: House, tmp_path: Path) -> None:
    def work(_: Kept) -> None:
        for words, said in (
            (("explain", "x"), '"x" is no target'),
            (("approve", "yes"), '"yes" is no number of a question'),
            (("resume", "nonsense"), '"nonsense" is no target'),
            (("maintenance",), "for how long?"),
            (("maintenance", "soon"), '"soon": '),
            (("maintenance", "60d"), "maintenance lasts from a second to 30 days"),
            (("maintenance", "2h", "nonsense"), '"nonsense" is no target'),
            (("maintenance", "2h", "--end", "3"), "--end takes the number"),
            (("history", "nonsense"), '"nonsense" is no target'),
        ):
            assert house.rota("keeper", *words, code=2).startswith(f"rota: {said}"), words

    settled(house, tmp_path, work)


def test_with_no_keeper(house: House) -> None:
    for words in ((), ("history",), ("explain", "unit:x"), ("resume", "unit:x"), ("maintenance", "--end")):
        said = house.rota("keeper", *words, code=4)
        assert said == "rota: Home Keeper is not running\nSee systemctl status rota-home-keeper.service.\n"
