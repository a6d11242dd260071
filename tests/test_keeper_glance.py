"""Home Keeper beside the agents: its line below the list, and what who takes it for an agent is told."""

from __future__ import annotations

import pytest

from rota import cli
from rota.keeper_glance import Glance
from rota.quantity import USEC

DAY = 86_400 * USEC
NOW = 1_802_000_000 * USEC


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            Glance("active", NOW - 12 * DAY, "no findings"),
            "Home Keeper: running for 1w; no findings (rota keeper).",
        ),
        (
            Glance("active", NOW - 3 * DAY, "2 findings, 1 question open"),
            "Home Keeper: running for 3d; 2 findings, 1 question open (rota keeper).",
        ),
        (Glance("active", NOW + DAY), "Home Keeper: running for 1s (rota keeper)."),
        (Glance("activating"), "Home Keeper: starting (systemctl status rota-home-keeper.service)."),
        (Glance("failed"), "Home Keeper: not running, failed (systemctl status rota-home-keeper.service)."),
    ],
)
def test_its_line(seen: Glance, said: str) -> None:
    text, _ = seen.line(NOW)
    assert text == said
    assert len(text) <= 80


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("show", "rota keeper"),
        ("why", "rota keeper explain TARGET"),
        ("run --wait", "systemctl status rota-home-keeper.service"),
        ("stop", "systemctl stop rota-home-keeper.service"),
        ("pause", "rota keeper maintenance 2h"),
        ("resume", "rota keeper resume TARGET"),
        ("logs -f", "journalctl -u rota-home-keeper.service"),
        ("runs", "rota keeper history"),
        ("stats", "rota keeper history"),
        ("export", "rota --json keeper history"),
        ("--user show", "rota keeper"),
    ],
)
def test_it_is_no_agent(words: str, instead: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words.split(), "home-keeper"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    first, hint = said.err.splitlines()
    assert first == "rota: home-keeper is no agent, but Home Keeper itself"
    assert instead in hint
    assert hint.endswith(".")
