"""What the keeper is put together from: each remedy is given longer than what it starts may take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rota_agents.home_keeper import words
from rota_agents.home_keeper.parts import PATIENCE, Parts
from rota_agents.home_keeper.words import Remedy

from rota.clean_rules import CommandRule
from rota.container_watches import Containers, Engine
from rota.keeper_config import Config
from rota.quantity import USEC, parse_duration

CLEAN = Path(__file__).parents[2] / "share/rota-clean@.service"
STOPPING = 90
"""Seconds: systemd's own DefaultTimeoutStopSec=."""
CONFIG = Config(
    commands={"renew": CommandRule(3 * 3600 * USEC), "short": CommandRule(USEC)},
    containers=Containers((Engine("", "/run/docker.sock"),), patience=1800 * USEC),
)
PARTS = Parts(CONFIG, user=False)


def patience(remedy: Remedy) -> float:
    found = PARTS.patience(remedy)
    assert found is not None
    return float(found)


def test_there_is_something_for_every_remedy() -> None:
    known = {word for table in words._WORDS.values() for word in table.values()}
    assert {*PARTS.remedies} == known | {"run-agent", "run-command"}


@pytest.mark.parametrize(("command", "seconds"), [("renew", 3 * 3600), ("short", 1)])
def test_a_command_is_waited_for_as_long_as_it_was_declared(command: str, seconds: int) -> None:
    found = patience(Remedy("run-command", command))
    assert seconds + STOPPING < found < seconds + 300


def test_cleaning_is_waited_for_until_systemd_has_ended_it() -> None:
    (limit,) = re.findall("^TimeoutStartSec=(.*)$", CLEAN.read_text("utf-8"), re.M)
    assert patience(Remedy("clean")) > parse_duration(limit) / USEC + STOPPING


def test_others() -> None:
    assert patience(Remedy("restart-container")) > 3600 + 1800
    assert patience(Remedy("restart-unit")) > 3600, "a oneshot unit's start is its whole work"
    assert PARTS.patience(Remedy("reset-failed")) == PARTS.patience(Remedy("unheard-of")) == PATIENCE
    assert PARTS.patience(Remedy("run-agent", "opener")) is None, "as long as the agent's own timeout"
