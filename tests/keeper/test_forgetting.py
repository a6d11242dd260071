"""What the keeper remembers does not grow for ever, however long it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

from rota_agents.home_keeper.checks.containers import Own
from rota_agents.home_keeper.keeper import Keeper
from rota_agents.home_keeper.probes.containers import ContainerSource
from rota_agents.home_keeper.probes.host import Interfaces
from rota_agents.home_keeper.state import State
from rota_agents.home_keeper.words import Escalation, Target

from rota.container_watches import Containers, Engine
from rota.keeper_config import Config
from rota.quantity import USEC

from .kit import NOON


def escalation(number: int) -> Escalation:
    return Escalation(number, Target("unit", f"web-{number}.service"), 2 * NOON, "warning", "", NOON)


def test_escalations_that_were_taken_over(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, Config(), user=True)
    for number in range(1000):
        unheard = (escalation(number), escalation(number + 1))
        keeper._core = SimpleNamespace(state=State(escalations=unheard))
        keeper._tell(unheard[1])
    assert keeper._told == {999, 1000}


def test_what_was_done_to_containers_that_are_gone() -> None:
    own = Own()
    for number in range(1000):
        own.begin(f"id-{number}", number * USEC)
        own.forget_others({"id-0"})
        own.end(f"id-{number}", number * USEC + 1)
        own.forget_others({"id-0"})
    assert own.spans.keys() == {"id-0"}
    assert own.at("id-0", 1) and not own.at("id-0", 2) and not own.at("id-1", USEC)
    source = ContainerSource(Engine("", "/no/such.sock"), Containers())
    source.own = own
    source._news()
    assert not own.spans


def test_interfaces_of_containers(tmp_path: Path) -> None:
    def write(name: str, carrier: str, *, hardware: bool = False) -> None:
        folder = tmp_path / "class/net" / name
        (folder / "device" if hardware else folder).mkdir(parents=True, exist_ok=True)
        (folder / "flags").write_text("0x1003\n")
        (folder / "carrier").write_text(f"{carrier}\n")

    look = Interfaces((), tmp_path)
    write("eth0", "1", hardware=True)
    write("veth1", "1")
    asyncio.run(look())
    write("eth0", "0", hardware=True)
    asyncio.run(look())
    assert look.had == {"eth0"}
