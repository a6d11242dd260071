"""What is declared of units and hosts: defaults, what is inherited, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from rota.frozen import from_plain, to_plain
from rota.rules import Breach
from rota.unit_watches import Hosts, Units
from rota.unit_watching import UnitWatching, breaches, resolve

MINUTE = 60_000_000
NAS: dict[str, Any] = {"address": "nas.home", "key": "/etc/key", "known_hosts": "/etc/known"}


def declared(**keys: Any) -> UnitWatching:
    return UnitWatching.model_validate(keys)


def test_the_defaults_are_those_of_the_resolved() -> None:
    units, hosts = resolve(declared(hosts={"nas": NAS}))
    assert units == Units()
    nas = hosts.hosts["nas"]
    assert (nas.port, nas.user, nas.interval, nas.timeout) == (22, "rota-probe", MINUTE // 2, MINUTE // 6)
    assert (nas.patience, nas.severity, nas.units) == (2 * MINUTE, "warning", Units())
    assert hosts.credentials == {"host-nas-key": "/etc/key", "host-nas-known-hosts": "/etc/known"}
    assert (nas.key, nas.known_hosts) == ("host-nas-key", "host-nas-known-hosts")


def test_a_host_inherits_what_is_not_written() -> None:
    units = {"ignore": ["*.mount"], "stuck": "1min", "restarts": 3, "running": ["web.service"]}
    own = NAS | {"within": "1h", "running": ["smbd.service"], "timers": False}
    nas = resolve(declared(units=units, hosts={"nas": own}))[1].hosts["nas"].units
    assert (nas.ignore, nas.stuck, nas.restarts) == (("*.mount",), MINUTE, 3)
    assert (nas.within, nas.running, nas.timers) == (60 * MINUTE, ("smbd.service",), False)
    other = declared(units=units, hosts={"nas": NAS | {"ignore": []}})
    assert resolve(other)[1].hosts["nas"].units.ignore == ()


def test_it_goes_to_json_and_back() -> None:
    units, hosts = resolve(declared(units={"running": ["a.service"], "watch": False}, hosts={"nas": NAS}))
    for kind, value in ((Units, units), (Hosts, hosts)):
        assert from_plain(kind, json.loads(json.dumps(to_plain(value)))) == value


@pytest.mark.parametrize(
    ("keys", "key", "said"),
    [
        ({"units": {"stuck": "1s"}}, "units.stuck", "must be at least 10s"),
        ({"units": {"stuck": "infinity"}}, "units.stuck", "must have an end"),
        ({"units": {"within": "2y"}}, "units.within", "or less"),
        (
            {"units": {"running": ["a.mount"], "ignore": ["*.mount"]}},
            "units.running[0]",
            'is to be ignored ("*.mount"); keep one of both',
        ),
        ({"units": {"running": ["rota-x.service"]}}, "units.running[0]", "is a unit of an agent"),
        (
            {"hosts": {"nas": NAS | {"interval": "5s"}}},
            "hosts.nas.timeout",
            "must not be longer than interval",
        ),
        ({"hosts": {"nas": NAS | {"stuck": "1s"}}}, "hosts.nas.stuck", "must be at least 10s"),
        ({"hosts": {"nas": NAS | {"patience": "infinity"}}}, "hosts.nas.patience", "must have an end"),
        (
            {"units": {"ignore": ["smb*"]}, "hosts": {"nas": NAS | {"running": ["smbd.service"]}}},
            "hosts.nas.running[0]",
            "is to be ignored",
        ),
    ],
)
def test_rules_between_keys(keys: dict[str, Any], key: str, said: str) -> None:
    found: list[Breach] = list(breaches(declared(**keys)))
    assert [one.key for one in found] == [key]
    assert said in found[0].message


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"units": {"running": ["nginx"]}}, 'write for example "nginx.service"'),
        ({"units": {"running": ["nginx*.service"]}}, "is no name of a unit"),
        ({"units": {"ignore": ["a b"]}}, "is no name of units"),
        ({"units": {"restarts": 1}}, "greater than or equal to 2"),
        ({"units": {"stopped": "no"}}, "'note' or 'finding'"),
        ({"hosts": {"nas": {"address": "nas.home", "key": "/k"}}}, "known_hosts"),
        ({"hosts": {"nas": NAS | {"user": "-oProxyCommand=x"}}}, "user"),
        ({"hosts": {"nas": NAS | {"port": 0}}}, "port"),
        ({"hosts": {"nas/b": NAS}}, "hosts"),
        ({"hosts": {"nas": NAS | {"address": "-x"}}}, "not a host's name"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        declared(**keys)


def test_the_keeper_reads_it_without_pydantic_and_loads_ssh_only_when_needed() -> None:
    modules = ("probes.units", "probes.hosts", "remedies.units")
    imports = "; ".join(f"import rota_agents.home_keeper.{module}" for module in modules)
    unwanted = ("pydantic", "asyncssh", "cryptography", "rota.model")
    code = f"import sys; {imports}; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
