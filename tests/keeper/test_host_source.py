"""The source of another machine's units: what it says is judged, with an answer in place of SSH."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rota_agents.home_keeper.probes.hosts import MOST_FINDINGS, HostSource
from rota_agents.home_keeper.probes.polling import Observation
from rota_agents.home_keeper.words import Finding, Target

from rota.unit_watches import Host
from rota.unit_watching import UnitWatching, resolve

NAS = Host("nas.home", "probe", key="key", known_hosts="known")


def answer(count: int, restarts: int = 0) -> bytes:
    """Return what a machine says of which so many units have failed."""
    names = [f"u{number}.service" for number in range(count)]
    lines = ["rota-probe 1", *(f"{name} loaded failed failed" for name in names)]
    for name in names:
        lines += ["", f"Id={name}", "Type=simple", "Result=exit-code", f"NRestarts={restarts}"]
    return "\n".join([*lines, "end", ""]).encode()


class Answers:
    """What stands in for SSH."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    async def ask(self) -> bytes:
        return self.text


def test_a_machine_that_says_much_keeps_nobody_waiting() -> None:
    told: list[Observation] = []

    async def live() -> int:
        source, turns = HostSource("nas", NAS), 0
        source._connection = Answers(answer(5000))
        looking = asyncio.create_task(source._look(told.append))
        while not looking.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(live()) > 20, "the loop turns meanwhile"
    assert sum(1 for found in told[0].findings.values() if found) == MOST_FINDINGS


def test_a_loop_there_goes_on_for_the_next_keeper() -> None:
    told: list[Observation] = []
    text = answer(1, restarts=9).replace(b"failed failed", b"activating auto-restart")
    unit = Target("unit", "nas/u0.service")

    async def first_look(*left: Finding) -> list[str]:
        source = HostSource("nas", NAS)
        source._connection = Answers(text)
        source.recall(left)
        await source._look(told.append)
        return [one.problem for one in told[-1].findings[unit]]

    assert asyncio.run(first_look()) == []
    assert asyncio.run(first_look(Finding(unit, "restart-loop", "warning", 1, ""))) == ["restart-loop"]


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (
            "\n",
            "is empty: /etc/rota/secrets/nas-key was empty, or not there; write it, and systemctl restart "
            "rota-home-keeper",
        ),
        (
            "ssh-ed25519 AAAA\n",
            "is no private key: Invalid private key; it is what /etc/rota/secrets/nas-key held when the "
            "keeper was started",
        ),
        (None, "it is what /etc/rota/secrets/nas-key held when the keeper was started"),
    ],
)
def test_of_a_key_that_is_none_the_file_is_named(
    held: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncssh", reason="no asyncssh")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    if held is not None:
        (tmp_path / "host-nas-key").write_text(held)
    keys = {"address": "nas.home", "identity": "/etc/rota/secrets/nas-key", "known_hosts": "/etc/rota/known"}
    _, hosts = resolve(UnitWatching.model_validate({"hosts": {"nas": keys}}))
    said: list[Observation] = []
    asyncio.run(HostSource("nas", hosts.hosts["nas"])._look(said.append))
    ((finding,),) = said[0].findings.values()
    assert finding.summary.startswith("check host-nas cannot look: the credential host-nas-key ")
    assert told in finding.summary
