"""What a person declares to be watched: defaults, mistakes told at once, and what the keeper reads of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError
from rota_agents.home_keeper.probes.polling import Watcher, wall_clock
from rota_agents.home_keeper.probes.polls import polls

from rota.frozen import from_plain, to_plain
from rota.watch_rules import breaches, limits, resolve
from rota.watches import Limit, Tcp, Watches
from rota.watching import TABLE, Percents, Watch, Watching, split_address

S = 1_000_000
FULL = {
    "watch": {"interval": "5s", "memory": {"critical": "95%"}, "swap": False,
              "interfaces": ["eth0"], "smart": "6h"},
    "disks": {"/srv": {"enough": "5G", "required": True}, "/tmp/x": {"watch": False},
              "/a": {"inodes": False}},
    "endpoints": {
        "router": {"ping": "192.168.1.1"},
        "ssh": {"tcp": "[fd00::1]:22", "hold": "0s", "severity": "warning"},
        "nas": {"http": "https://nas.home/health", "status": [200, 401], "body": "well", "slow": "1s"},
        "plain": {"http": "http://nas.home/"},
        "names": {"dns": {"name": "nas.home", "server": "192.168.1.1", "expect": ["192.168.1.2"]}},
    },
    "prometheus": {"main": {"url": "http://localhost:9090/", "authorization": "/etc/rota/secrets/p"}},
    "queries": {
        "hot": {"query": "room_celsius", "above": 30, "clear": 28, "hold": "5min"},
        "cold": {"query": "room_celsius", "below": 5, "absent": "fine"},
    },
    "databases": {"main": {"url": "/etc/rota/secrets/main-db"}},
}  # fmt: skip


def declared(raw: dict[str, Any]) -> Watching:
    return Watching.model_validate(raw)


def test_everything_comes_back_from_json() -> None:
    watches = resolve(declared(FULL))
    assert from_plain(Watches, json.loads(json.dumps(to_plain(watches)))) == watches
    assert list(breaches(declared(FULL))) == []


def test_what_was_written_is_what_the_keeper_reads() -> None:
    watches = resolve(declared(FULL))
    assert watches.interval == 5 * S
    assert watches.limits["memory"] == (
        Limit("warning", 90, 85, 60 * S, 60 * S),
        Limit("critical", 95, 90, 60 * S, 60 * S),
    )
    assert "swap" not in watches.limits
    assert watches.interfaces == ("eth0",) and not watches.all_interfaces
    assert watches.smart_interval == 6 * 3600 * S
    assert watches.disks["/tmp/x"] is None
    assert watches.disks["/srv"] is not None and watches.disk is not None and watches.disks["/a"] is not None
    assert (watches.disks["/srv"].enough, watches.disks["/srv"].required) == (5 * 1024**3, True)
    assert watches.disks["/srv"].space == watches.disk.space
    assert watches.disks["/a"].inodes == ()
    assert watches.endpoints["ssh"].tcp == Tcp("fd00::1", 22)
    assert watches.endpoints["ssh"].unreachable == (Limit("warning", 1, 0, 0, 0),)
    http = watches.endpoints["nas"].http
    assert http is not None and [limit.opens for limit in http.certificate] == [14 * 86_400, 3 * 86_400]
    plain = watches.endpoints["plain"].http
    assert plain is not None and plain.certificate == ()
    assert watches.queries["hot"].limits == (Limit("warning", 30, 28, 300 * S, 60 * S),)
    low = watches.queries["cold"].limits[0]
    assert low.bad(5) and low.good(5.1) and not low.good(5)
    assert watches.queries["hot"].server == "main"
    assert watches.prometheus["main"].url == "http://localhost:9090"
    assert watches.credentials == {
        "database-main": "/etc/rota/secrets/main-db",
        "prometheus-main": "/etc/rota/secrets/p",
    }


def test_each_declared_thing_is_a_check() -> None:
    names = [poll.name for poll in polls(resolve(declared(FULL)))]
    assert len(names) == len(set(names))
    assert {
        "processors",
        "memory",
        "disks",
        "rotad",
        "endpoint-nas",
        "query-hot",
        "alerts-main",
        "database-main",
    } <= {*names}
    off = {name: False for name in TABLE if name != "certificate"} | {
        "smart": False, "journal": False, "interfaces": False
    }  # fmt: skip
    assert [poll.name for poll in polls(resolve(declared({"watch": off})))] == ["disks"]


@pytest.mark.parametrize("name", list(TABLE))
def test_defaults_make_sense(name: str) -> None:
    row = TABLE[name]
    found = limits(name, declared=True)
    assert found
    for limit in found:
        assert limit.bad(limit.opens) and not limit.good(limit.opens)
        assert limit.good(limit.closes)
        assert (limit.opens < limit.closes) is row.low
    assert limits(name, declared=False) == ()


def test_help_says_the_defaults() -> None:
    said = Watch.model_fields["memory"].description
    assert said == (
        "Memory that is not available: warning from 90%, critical from 97%, margin 5%, hold 1min; "
        "false: not watched."
    )


BROKEN: list[tuple[dict[str, Any], str, str]] = [
    (
        {"watch": {"memory": {"warning": "98%"}}},
        "watch.memory.warning",
        "below critical, which is 97% by default",
    ),
    ({"watch": {"memory": {"warning": "95%", "critical": "91%"}}}, "watch.memory.warning", "which is 91%"),
    (
        {"watch": {"battery": {"warning": "5%"}}},
        "watch.battery.warning",
        "must be above critical, which is 7%",
    ),
    ({"watch": {"memory": {"warning": "3%"}}}, "watch.memory.warning", "never close"),
    ({"watch": {"memory": {"hold": "infinity"}}}, "watch.memory.hold", "must have an end"),
    ({"watch": {"interval": "100ms"}}, "watch.interval", "at least 1s"),
    ({"watch": {"smart": "1s"}}, "watch.smart", "at least 1min"),
    ({"watch": {"rotad_lag": {"warning": "5s"}}}, "watch.rotad_lag.warning", "never close"),
    ({"watch": {"temperature": {"margin": -1}}}, "watch.temperature.margin", "negative"),
    ({"disks": {"/srv": {"space": {"warning": "98%"}}}}, 'disks."/srv".space.warning', "97% by default"),
    ({"endpoints": {"a": {}}}, "endpoints.a", "needs one of ping, tcp, http, dns"),
    ({"endpoints": {"a": {"ping": "h", "tcp": "h:1"}}}, "endpoints.a", "has ping and tcp; keep one"),
    ({"endpoints": {"a": {"ping": "h", "body": "x"}}}, "endpoints.a.body", "only goes with http"),
    ({"endpoints": {"a": {"ping": "h", "timeout": "1min"}}}, "endpoints.a.timeout", "which is 30s"),
    ({"endpoints": {"a": {"ping": "h", "slow": "6s"}}}, "endpoints.a.slow", "shorter than timeout"),
    ({"endpoints": {"a": {"http": "http://h/", "status": [99]}}}, "endpoints.a.status[0]", "100 to 599"),
    ({"queries": {"q": {"query": "up", "above": 1}}}, "queries.q.server", "[keeper.prometheus.NAME]"),
    ({"queries": {"q": {"query": "up"}}}, "queries.q", "needs one of above and below"),
    (
        {"queries": {"q": {"query": "up", "above": 1, "clear": 2}}},
        "queries.q.clear",
        "not be more than above",
    ),
    (
        {"queries": {"q": {"query": "up", "above": 1, "server": "x"}}},
        "queries.q.server",
        "[keeper.prometheus.x]",
    ),
    ({"databases": {"d": {"url": "/x", "timeout": "1ms"}}}, "databases.d.timeout", "at least 100ms"),
]


@pytest.mark.parametrize(("raw", "key", "message"), BROKEN, ids=[key for _, key, _ in BROKEN])
def test_rules_between_keys(raw: dict[str, Any], key: str, message: str) -> None:
    found = list(breaches(declared(raw)))
    assert any(breach.key == key and message in breach.message for breach in found), found


def test_all_broken_rules_are_told_at_once() -> None:
    raw = {
        "watch": {"interval": "1ms", "smart": "1s"},
        "endpoints": {"a": {}, "b": {"ping": "h", "slow": "9s"}},
    }
    assert [one.key for one in breaches(declared(raw))] == [
        "watch.interval", "watch.smart", "endpoints.a", "endpoints.b.slow"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    [
        {"watch": {"memory": {"warning": 90}}},
        {"watch": {"memroy": True}},
        {"endpoints": {"A b": {"ping": "h"}}},
        {"endpoints": {"a": {"ping": "no host"}}},
        {"endpoints": {"a": {"tcp": "nas"}}},
        {"endpoints": {"a": {"tcp": "fd00::1:22"}}},
        {"endpoints": {"a": {"tcp": "nas:70000"}}},
        {"endpoints": {"a": {"http": "ftp://nas/"}}},
        {"endpoints": {"a": {"http": "https://user:secret@nas/"}}},
        {"endpoints": {"a": {"http": "http://nas/\r\nX: y"}}},
        {"endpoints": {"a": {"dns": {"name": "nas", "record": "SOA"}}}},
        {"prometheus": {"m": {}}},
        {"databases": {"m": {"url": "postgresql://user:secret@h/d"}}},
        {"disks": {"srv": {}}},
    ],
)
def test_wrong_values_are_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        declared(raw)


def test_addresses() -> None:
    assert split_address("nas:22") == ("nas", 22)
    assert split_address("[::1]:22") == ("::1", 22)


def test_a_margin_of_nothing_still_has_two_sides() -> None:
    low = limits("battery", Percents(margin="1%"))
    assert [(one.opens, one.closes) for one in low] == [(20, 21), (7, 8)]


def test_the_keeper_needs_no_pydantic() -> None:
    code = "import sys, rota_agents.home_keeper.probes.polls; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "asyncpg", "dns", "pynvml", "rota.model"} & set(done.stdout.split())


def test_all_that_is_watched_by_default_can_look_here() -> None:
    """None may be blind, but those of rotad and journald, which may be absent."""

    async def blind() -> list[str]:
        told: list[str] = []
        for poll in polls(resolve(Watching())):
            if poll.name not in ("rotad", "journal"):
                observation = await Watcher(poll).look(wall_clock)
                found = observation.findings if observation else {}
                told += [one.summary for each in found.values() for one in each if one.problem == "blind"]
        return told

    assert asyncio.run(blind()) == []
