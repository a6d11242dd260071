"""A booted machine for the tests in this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.house import House
from tests.machine.install import install_rota
from tests.machine.machine import Machine, missing


@pytest.fixture(scope="session")
def bootable() -> None:
    """Skip where no machine can be booted, and say why."""
    reason = missing()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def machine(bootable: None) -> Iterator[Machine]:
    """One machine for the whole session, with rota installed and rotad running."""
    with Machine() as booted:
        install_rota(booted)
        yield booted


@pytest.fixture
def house(machine: Machine) -> Iterator[House]:
    """Agents that are gone after the test."""
    agents = House(machine)
    yield agents
    agents.clear()
