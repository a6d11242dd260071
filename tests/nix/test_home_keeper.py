"""services.rota.homeKeeper: every key of [keeper] is an option, and what is written arrives as in TOML."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rota import names
from rota.generate import build
from rota.naming import camel
from rota.record import is_table, records_in
from rota.settings import HomeKeeper
from rota.units import Context

from . import kit
from .test_module import RUN, agent, loaded, options

pytestmark = pytest.mark.nix

DECLARED = """
homeKeeper = {
  enable = true;
  unnamed = "ask";
  quiet = [ "22:30-07:00" ];
  policy = { remedy = "agent:a"; maxCooldown = "1h"; };
  targets."unit:postgresql.service" = { };
  targets."unit:app-*.service" = { after = [ "unit:postgresql.service" ]; healthyAfter = "5min"; };
  watch.swap = false;
  watch.rotadLag = { warning = "5min"; };
  disks."/srv".enough = "5G";
  endpoints.router.ping = "192.168.1.1";
  endpoints.names = { dns = { name = "nas.home"; server = "192.168.1.1"; }; };
  prometheus.main = { url = "http://localhost:9090"; authorization = "/run/secrets/prometheus"; };
  databases.main.url = "/run/secrets/db";
};
"""
PLAIN = {
    "enable": True,
    "unnamed": "ask",
    "quiet": ["22:30-07:00"],
    "policy": {"remedy": "agent:a", "max_cooldown": "1h"},
    "targets": {
        "unit:postgresql.service": {},
        "unit:app-*.service": {"after": ["unit:postgresql.service"], "healthy_after": "5min"},
    },
    "watch": {"swap": False, "rotad_lag": {"warning": "5min"}},
    "disks": {"/srv": {"enough": "5G"}},
    "endpoints": {
        "router": {"ping": "192.168.1.1"},
        "names": {"dns": {"name": "nas.home", "server": "192.168.1.1"}},
    },
    "prometheus": {"main": {"url": "http://localhost:9090", "authorization": "/run/secrets/prometheus"}},
    "databases": {"main": {"url": "/run/secrets/db"}},
}


def test_what_is_written_is_handed_over_and_nothing_else(tmp_path: Path) -> None:
    (found,) = kit.configurations(agent(RUN, more=DECLARED))
    assert found["assertions"] == []
    assert found["declarations"]["keeper"] == PLAIN
    read = loaded(tmp_path, found["declarations"])
    assert read.problems == ()
    assert read.settings.keeper == HomeKeeper.model_validate(PLAIN)
    files = build(read, Context(nixos=True))
    drop_in = files[names.KEEPER_DROP_IN].text or ""
    assert "LoadCredential=database-main:/run/secrets/db\n" in drop_in
    assert "from services.rota:" in drop_in
    assert '"unit:app-' in (files[names.KEEPER_RULES].text or "")
    assert names.KEEPER_LINK not in files


def test_what_nixos_is_told() -> None:
    (found,) = kit.configurations(agent(RUN, more="homeKeeper.enable = true;"))
    assert found["systemd"]["services"]["rota-home-keeper"] == {"wantedBy": ["multi-user.target"]}
    assert found["users"]["users"]["rota-keeper"]["isSystemUser"] is True
    # Where polkitd of NixOS looks for rules.
    assert [path.partition("-")[2] for path in found["packages"]["system"]] == ["rota", "rota-units"]
    assert names.KEEPER_RULES.startswith("polkit-1/")
    assert 'mv "$out/lib/systemd/system/polkit-1" "$out/share"' in found["units"]["script"]


def test_the_house_of_the_nixos_test_is_right(tmp_path: Path) -> None:
    test = '(import (src + "/nixos-tests/home-keeper.nix")).nodes.machine { inherit lib; pkgs = { }; }'
    (found,) = kit.configurations(f"{{ services.rota = ({test}).services.rota // {{ enable = true; }}; }}")
    assert found["assertions"] == []
    read = loaded(tmp_path, found["declarations"])
    assert read.problems == ()
    assert found["systemd"]["sockets"]["rota-docker-proxy"] == {"wantedBy": ["sockets.target"]}
    grants = build(read, Context(nixos=True))["rota-docker-proxy.service.d/50-rota.conf"].text or ""
    assert '{"allowed": true, "pattern": "container:shop"}' in grants


def test_none() -> None:
    (found,) = kit.configurations(agent(RUN))
    assert "rota-home-keeper" not in found["systemd"]["services"]
    assert "keeper" not in found["declarations"]
    assert [path.partition("-")[2] for path in found["packages"]["system"]] == ["rota"]


def test_mistakes_are_called_by_their_options(tmp_path: Path) -> None:
    more = 'homeKeeper.targets."unit:sshd.service" = { }; homeKeeper.policy.remedy = "agent:b";'
    (found,) = kit.configurations(agent(RUN, more=more))
    assert [str(problem) for problem in loaded(tmp_path, found["declarations"]).problems] == [
        'services.rota.homeKeeper.targets."unit:sshd.service": is never touched (unit:sshd.service);'
        ' write mode = "observe", or leave it out',
        'services.rota.homeKeeper.policy.remedy: "agent:b": no such agent; declare one of this name',
    ]


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('homeKeeper.mode = "acts";', "mode"),
        ("homeKeeper.actionsPerHour = 0;", "actionsPerHour"),
        ('homeKeeper.policy.settle = "30";', "policy.settle"),
        ('homeKeeper.watch.cpu = "90%";', "watch.cpu"),
        ('homeKeeper.watch.cpu.warning = "lots";', "watch.cpu"),
        ('homeKeeper.endpoints.x.pnig = "a";', "endpoints.x.pnig"),
        ('homeKeeper.databases.main.url = "postgresql://me:secret@db/main";', "databases.main.url"),
        ('homeKeeper.databases.main.url = "${pkgs.git}/url";', "databases.main.url"),
    ],
)
def test_types(more: str, key: str) -> None:
    with pytest.raises(kit.NixError) as failed:
        kit.configurations(agent(RUN, more=more))
    assert f"services.rota.homeKeeper.{key}" in str(failed.value)


def test_not_in_two_places() -> None:
    (found,) = kit.configurations(agent(RUN, more="settings.keeper.enable = true;"))
    assert found["assertions"] == ["services.rota.settings.keeper: write services.rota.homeKeeper instead"]


def keys(record: type[BaseModel], path: str) -> Iterator[str]:
    """Yield every option of the schema, also those of a value that may be a word instead."""
    for name, field in record.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        option = f"{path}.{camel(name)}"
        grouped = isinstance(default, BaseModel)
        if not grouped:
            yield option
        for inner in records_in(field.annotation):
            yield from keys(inner, f"{option}{entry(field.annotation)}")


def entry(annotation: object) -> str:
    """Return what stands for the entries of a type in names of options."""
    listed = any(typing.get_origin(one) is tuple for one in (annotation, *typing.get_args(annotation)))
    return ".<name>" if is_table(annotation) else ".*" if listed else ""


def test_options_and_schema_have_the_same_keys() -> None:
    found = {name for name in options() if name.startswith("homeKeeper.")}
    assert found == set(keys(HomeKeeper, "homeKeeper"))
    assert len(found) > 100


ADDRESS, IDENTITY, KNOWN_HOSTS = 'address = "nas";', 'identity = "/run/k";', 'knownHosts = "/etc/k";'
QUERY, ABOVE = 'query = "x";', "above = 30;"
BESIDE = {
    "endpoints": {
        "": 'ping = "nas";',
        **dict.fromkeys(("ping", "tcp", "http", "dns"), ""),
        **dict.fromkeys(("status", "body", "certificate", "verify", "ca"), 'http = "https://nas";'),
    },
    "queries": {"": f"{QUERY} {ABOVE}", "query": ABOVE, "above": QUERY, "below": QUERY},
    "databases": {"": 'url = "/run/x";', "url": ""},
    "prometheus": {"": 'url = "http://localhost";', "url": ""},
    "commands": {"": 'command = [ "/bin/true" ];', "command": ""},
    "hosts": {
        "": f"{ADDRESS} {IDENTITY} {KNOWN_HOSTS}",
        "address": f"{IDENTITY} {KNOWN_HOSTS}",
        "identity": f"{ADDRESS} {KNOWN_HOSTS}",
        "knownHosts": f"{ADDRESS} {IDENTITY}",
    },
}
"""What has to stand beside a key of a table; "" is for all other keys."""
PROXIED = 'containers.sockets = [ "/run/rota-keeper/docker.sock" ];'
GROUPS = ("", "watch", "policy", "units", "containers", "clean")
"""Records that are not in a table."""


def _examples() -> Iterator[tuple[str, str]]:
    """Yield options with a configuration that is right with its example; not those inside one of these."""
    for name, option in options().items():
        key = name.removeprefix("homeKeeper.")
        table, _, inner = key.partition(".<name>.")
        group, _, alone = key.rpartition(".")
        if key == name or ("." in inner if inner else group not in GROUPS or alone == "*"):
            continue
        text = option["example"]["text"]
        others = BESIDE.get(table, {"": ""})
        beside = others.get(inner, others[""])
        entry = {"targets": '"unit:a.service"', "disks": '"/srv"'}.get(table, "main")
        body = f"{table}.{entry} = {{ {inner} = {text}; {beside} }};" if inner else f"{key} = {text};"
        server = "" if table == "prometheus" else 'prometheus.main.url = "http://localhost:9090";'
        body += PROXIED if key == "containers.docker" else ""
        yield name, agent(RUN, "tidy-up", f"homeKeeper = {{ {body} {server} }};")


def test_every_example_is_right(tmp_path: Path) -> None:
    texts = dict(_examples())
    assert len(texts) > 80
    for name, found in zip(texts, kit.configurations(*texts.values()), strict=True):
        assert found["assertions"] == [], name
        problems: Any = loaded(tmp_path, found["declarations"]).problems
        assert problems == (), name
