"""What a person declares in rota.toml: what agents share, and the Home Keeper."""

from __future__ import annotations

from collections.abc import Mapping

from rota import listen
from rota.cleaning import Cleaning
from rota.container_watching import ContainerWatching
from rota.keeping import Keeper
from rota.model import Agent, Channel, Metrics, Retention, Route, Runner
from rota.record import AgentName, Record, key
from rota.unit_watching import UnitWatching
from rota.watching import Watching


class HomeKeeper(Cleaning, ContainerWatching, UnitWatching, Watching, Keeper):
    """[keeper]: the keys of all these records. Where keys are listed, those of the last come first."""


class Settings(Record):
    """rota.toml: what is shared by all agents."""

    bundled: tuple[AgentName, ...] = key(
        (), "Agents that come with rota and are to be enabled.", ["disk-report"]
    )
    runners: Mapping[AgentName, Runner] = key(
        {}, "Runners by name.", {"claude": {"command": ["claude", "-p", "{prompt}"]}}
    )
    retention: Retention = key(Retention(), "How long rotad remembers.", {"detail": "90d"})
    metrics: Metrics = key(Metrics(), "Where metrics are served.", {"listen": [listen.EXAMPLE]})
    channels: Mapping[AgentName, Channel] = key(
        {}, "Where people are told, by name.", {"ops": {"url": "/etc/rota/secrets/ops-url"}}
    )
    routes: tuple[Route, ...] = key(
        (),
        "What is told by which channels; of several that lead to one channel, the first counts.",
        [{"channels": ["ops"], "on": ["failure", "recovery"]}],
    )
    keeper: HomeKeeper = key(
        HomeKeeper(), "What the Home Keeper watches, and what it may do about it.", {"enable": True}
    )


class Config(Settings):
    """One JSON file with everything: the keys of rota.toml, and agents by name."""

    agents: Mapping[AgentName, Agent] = key({}, "Agents by name.")
