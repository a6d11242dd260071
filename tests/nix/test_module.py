"""services.rota, evaluated with nixpkgs's own lib; what it emits goes to the real generator."""

from __future__ import annotations

import functools
import json
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from rota import model
from rota.generate import build, context
from rota.load import Loaded, load
from rota.naming import camel
from rota.settings import Settings
from tests.cases import CASES, Case, read_case
from tests.machine.rootfs import CHECKOUT
from tests.nix import kit
from tests.test_units import keys_of, records_in

README = (CHECKOUT / "README.md").read_text()
RUN = 'command = [ "/bin/true" ];'
# Where a value is a table of names that a person chooses: its keys stay as they are.
VERBATIM = ("environment", "credentials", "unit")


def blocks(name: str) -> list[str]:
    """Return the Nix files of the README whose first comment begins with a name."""
    found = re.findall(r"^```nix\n(# .*?)^```", README, re.MULTILINE | re.DOTALL)
    return [text for text in found if text.startswith(f"# {name}")]


def agent(keys: str, name: str = "a", more: str = "") -> str:
    """Return a configuration with one agent."""
    rota = f"enable = true; agents.{name} = {{ {keys} }}; {more}"
    return f"{{ pkgs, lib, ... }}: {{ services.rota = {{ {rota} }}; }}"


def loaded(folder: Path, declarations: object) -> Loaded:
    """Return what the generator's reader makes of what Nix emits."""
    path = folder / "rota.json"
    path.write_text(json.dumps(declarations))
    return load(path, nixos=True)


def camel_cased(value: Any) -> Any:
    """Return a declaration with the keys of its tables in camelCase."""
    if isinstance(value, list):
        return [camel_cased(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {camel(key): item if key in VERBATIM else camel_cased(item) for key, item in value.items()}


def test_the_readme(tmp_path: Path) -> None:
    found = kit.example()
    assert found["assertions"] == []
    assert found == json.loads(kit.EXAMPLE.read_text()), "tests/nix/example.json is stale; run: make docs"
    read = loaded(tmp_path, found["declarations"])
    assert read.problems == ()
    assert {item.name for item in read.declarations} == {"backup-check", "weekly-audit", "disk-report"}
    files = build(read, context(user=False, nixos=True))
    audit = files["rota-weekly-audit.service"].text or ""
    assert 'aichat --file /srv/repo "Name what' in audit
    assert "ExecSearchPath=/nix/store/00000000000000000000000000000000-git/bin:" in audit
    assert "OnUnitActiveSec=1h\n" in (files["rota-disk-report.timer"].text or "")
    assert found["users"]["users"]["ada"] == {"extraGroups": ["rota"]}


def test_the_readme_shows_the_example() -> None:
    assert blocks("configuration.nix") == [(CHECKOUT / "nix/example.nix").read_text()]


def test_the_readmes_flake_is_nix() -> None:
    (flake,) = blocks("flake.nix")
    assert kit.evaluate(f"builtins.attrNames ({flake})") == ["inputs", "outputs"]


def test_what_nixos_is_told() -> None:
    (found,) = kit.configurations("{ services.rota.enable = true; }")
    systemd = found["systemd"]
    assert [path.partition("-")[2] for path in systemd["packages"]] == ["rota", "rota-units"]
    assert systemd["services"]["rotad"] == {"wantedBy": ["multi-user.target"]}
    assert systemd["targets"] == {"rota-agents": {"wantedBy": ["timers.target"]}}
    rearm = systemd["services"]["rota-rearm"]
    assert [path.partition("-")[2] for path in rearm["restartTriggers"]] == ["rota-units"]
    assert found["users"]["users"]["rota"]["isSystemUser"] is True
    assert found["users"]["groups"] == {
        "rota": {},
        "rota-docker-proxy": {},
        "rota-keeper": {},
        "rota-metrics": {},
        "rota-notify": {},
    }
    assert systemd["sockets"] == {}
    assert [path.partition("-")[2] for path in found["packages"]["dbus"]] == ["rota"]
    assert found["declarations"]["agents"] == {}
    assert set(found["declarations"]) == {"agents", "bundled", "channels", "metrics", "retention", "routes"}
    # No secret and no declaration beside the one file that the generator reads.
    assert "generate --nixos" in found["units"]["script"]


# --- the round trip -------------------------------------------------------------------------------


def good_cases() -> Iterator[Case]:
    return (case for case in map(read_case, CASES) if not case.has("assert-error") and not case.has("user"))


@functools.cache
def round_trip() -> dict[str, Any]:
    """Evaluate every right case of tests/cases as a NixOS agent, all of them at once."""
    texts = {case.path.stem: tomllib.loads(case.path.read_text()) for case in good_cases()}
    shared = [line for case in good_cases() for line in case.all("settings")]
    settings = tomllib.loads("\n".join(dict.fromkeys(shared)))
    whole = {
        "enable": True,
        "agents": camel_cased(texts),
        "runners": camel_cased(settings.get("runners", {})),
        "settings": {"channels": settings.get("channels", {})},
    }
    found = kit.evaluate(
        'import (src + "/tests/nix/evaluate.nix") { inherit lib; configurations = '
        '[ { services.rota = builtins.fromJSON (builtins.readFile (work + "/whole.json")); } ]; }',
        **{"whole.json": json.dumps(whole, default=lambda moment: moment.isoformat())},
    )
    assert found[0]["assertions"] == []
    return dict(found[0]["declarations"])


def test_every_case_comes_through(tmp_path: Path) -> None:
    read = loaded(tmp_path, round_trip())
    assert read.problems == ()
    by_name = {item.name: item.agent for item in read.declarations}
    for case in good_cases():
        written = model.Agent.model_validate(tomllib.loads(case.path.read_text()))
        if not written.enabled:
            continue
        there = by_name[case.path.stem]
        assert there.path[: len(written.path)] == written.path
        assert there.path[len(written.path) :][-1].endswith("-systemd/sbin")
        same = {"path": ()}
        assert there.model_copy(update=same) == written.model_copy(update=same), case.path.stem
        # What nobody wrote is not handed over: a bundled agent would lose it.
        assert there.model_fields_set - {"path"} == written.model_fields_set - {"path"}


def test_the_cases_have_every_key() -> None:
    used: set[str] = set()

    def collect(table: Mapping[str, Any], prefix: str) -> None:
        for key, value in table.items():
            used.add(f"{prefix}{key}")
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    collect(item, f"{prefix}{key}.")

    for declaration in round_trip()["agents"].values():
        collect(declaration, "")
    assert {key for key, available in keys_of(model.Agent) if available} - used == set()


# --- the options and the schema -------------------------------------------------------------------


@functools.cache
def options() -> dict[str, dict[str, Any]]:
    """Return the module's own options by name, without `services.rota.`."""
    return {
        option["name"].removeprefix("services.rota."): option
        for option in kit.options()
        if "_module" not in option["loc"]
    }


MANY = {"schedule": "*.", "routes": "*.", "channels": "<name>."}


def schema(record: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every key of a record under its option's name, with pydantic's field; unavailable ones, too."""
    for key, info in record.model_fields.items():
        name = f"{prefix}{camel(key)}"
        records = list(records_in(info.annotation))
        if not isinstance(info.default, BaseModel):  # those are sets of options, not options
            yield name, info
        for inner in records:
            yield from schema(inner, f"{name}.{MANY.get(key, '')}")


def test_options_and_schema_have_the_same_keys() -> None:
    of_agents = dict(schema(model.Agent, "agents.<name>."))
    of_runners = dict(schema(model.Runner, "runners.<name>."))
    nixos_only = {"enable", "package", "declarations", "units", "settings", "agents.<name>.declaration"}
    apart = {"agents", "runners"}
    elsewhere = {*apart, "keeper"}
    settings = {name for name, _ in schema(Settings, "settings.") if name.split(".")[1] not in elsewhere}
    of_the_house = {name for name in options() if not name.startswith("homeKeeper.")}  # see test_home_keeper
    assert of_the_house == {*of_agents, *of_runners, *nixos_only, *apart, *settings}


def test_defaults_are_the_same() -> None:
    settings = [item for item in schema(Settings, "settings.") if item[0] in options()]
    for name, info in (*schema(model.Agent, "agents.<name>."), *settings):
        default = info.default_factory() if info.default_factory else info.default
        if default is PydanticUndefined:
            continue
        # Nix writes empty values with a blank in them, and lists without commas; the rest is JSON as well.
        there = json.loads(re.sub(r'"\s+"', '", "', options()[name]["default"]["text"]).replace("[ ]", "[]"))
        assert there == (list(default) if isinstance(default, tuple) else default), name


def test_choices_are_the_same() -> None:
    found = {
        name: list(typing.get_args(info.annotation))
        for name, info in schema(model.Agent, "agents.<name>.")
        if typing.get_origin(info.annotation) is typing.Literal
    }
    assert len(found) == 3
    for name, allowed in found.items():
        assert re.findall(r'"(\w+)"', options()[name]["type"]) == allowed


def test_what_is_unavailable_is_not_shown() -> None:
    available = dict(keys_of(model.Agent))
    for key, usable in available.items():
        name = "agents.<name>." + ".".join(map(camel, key.split("."))).replace("schedule.", "schedule.*.")
        if name in options():  # others are sets of options
            assert options()[name]["visible"] is usable, key


def test_every_option_is_described() -> None:
    for name, option in options().items():
        assert option["description"].strip().endswith("."), name
        if not option["internal"] and name not in ("enable", "package"):
            assert "example" in option, name


def test_the_page_is_current(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text(json.dumps(kit.options()))
    made = kit.page(tmp_path / "options.json")
    assert made == (CHECKOUT / "docs/nixos.md").read_text(), "docs/nixos.md is stale; run: make docs"


# --- examples -------------------------------------------------------------------------------------


def test_every_example_is_right(tmp_path: Path) -> None:
    whole = {
        "agents.<name>.command": "",
        "agents.<name>.prompt": 'runner = "r";',
        "agents.<name>.runner": 'prompt = "p";',
        "agents.<name>.schedule.*.timezone": 'schedule.cron = "@daily";',
        "agents.<name>.schedule.*.afterBoot": 'schedule.every = "1h";',
        "agents.<name>.schedule.*.jitter": 'schedule.cron = "@daily";',
        "agents.<name>.catchUp.mode": 'schedule.cron = "@daily";',
        "agents.<name>.notify.on": 'notify.channels = [ "ops" ];',
    }
    runners = 'runners.r.command = [ "/x" "{prompt}" ]; runners.claude.command = [ "/x" "{prompt}" ];'
    runners += ' settings.channels.ops.url = "/run/secrets/ops-url";'
    texts: dict[str, str] = {}
    for name, option in options().items():
        if not option["visible"] or "example" not in option or not name.startswith("agents.<name>."):
            continue
        key = name.removeprefix("agents.<name>.").replace("schedule.*.", "schedule.")
        beside = whole.get(name, RUN)
        if not beside.startswith(("runner", "prompt")) and "command" not in key and beside != RUN:
            beside = f"{RUN} {beside}"
        texts[name] = agent(f"{key} = {option['example']['text']}; {beside}", more=runners)
    for name in ("agents", "runners", "settings"):
        text = options()[name]["example"]["text"]
        texts[name] = f"{{ pkgs, lib, ... }}: {{ services.rota = {{ enable = true; {name} = {text}; }}; }}"
    keys = [key for key in options() if key.startswith(("settings.channels.<name>.", "settings.routes.*."))]
    assert len(keys) > 10
    for name in keys:
        _, kind, _, *inner = name.split(".")
        more = f"{'.'.join(inner)} = {options()[name]['example']['text']};"
        url = "" if name.endswith(".url") else 'url = "/run/secrets/ops-url";'
        one = {"per": "rate.messages = 3;", "messages": 'rate.per = "1h";'}.get(inner[-1], "")
        if kind == "channels":
            text = f"settings.channels.ops = {{ {url} {more} {one} }};"
        else:
            to = "" if inner == ["channels"] else 'channels = [ "ops" ];'
            text = f"settings.channels.ops = {{ {url} }}; settings.routes = [ {{ {to} {more} {one} }} ];"
        texts[name] = agent(RUN, more=text)
    assert len(texts) > 30
    for name, found in zip(texts, kit.configurations(*texts.values()), strict=True):
        assert found["assertions"] == [], name
        assert loaded(tmp_path, found["declarations"]).problems == (), name


# --- mistakes -------------------------------------------------------------------------------------

ASSERTIONS = {
    agent(RUN, name='"Bad Name"'): (
        'agents."Bad Name": an agent\'s name is lower-case letters, digits and -, 63 characters at most'
    ),
    agent(""): 'agents.a: says nothing to run; write command = [ "/path/to/program" ]; or prompt = "…";',
    agent(f'{RUN} prompt = "x"; runner = "r";', more='runners.r.command = [ "x" "{prompt}" ];'): (
        "agents.a.prompt: not together with command; keep one of them"
    ),
    agent('prompt = "x";'): (
        "agents.a.prompt: needs a runner; write runner = NAME;, declared as services.rota.runners.NAME"
    ),
    agent(f'{RUN} runner = "r";', more='runners.r.command = [ "x" "{prompt}" ];'): (
        "agents.a.runner: only goes with prompt"
    ),
    agent('prompt = "x"; runner = "no such";'): (
        'agents.a.runner: unknown runner "no such"; declare services.rota.runners."no such"'
    ),
    agent(f"{RUN} retries.max = 3;"): "agents.a.retries: not available in this version of rota; remove it",
    agent(f'{RUN} catchUp.grace = "5min";'): (
        "agents.a.catchUp.grace: not available in this version of rota; remove it"
    ),
    agent(f'{RUN} schedule.solar = "sunset";'): (
        "agents.a.schedule.solar: not available in this version of rota; remove it"
    ),
    agent(RUN, more="settings.runners = { };"): "settings.runners: write services.rota.runners instead",
}


def test_assertions() -> None:
    for (text, message), found in zip(ASSERTIONS.items(), kit.configurations(*ASSERTIONS), strict=True):
        assert found["assertions"] == [f"services.rota.{message}"], text


def test_every_unavailable_key_is_asserted() -> None:
    values = {"when": "{ }", "afterSuccess": "[ ]", "afterFailure": "[ ]", "keepRunning": "true"}
    values |= {"retries": "{ }", "catchUp.grace": '"1s"'}
    values |= {"schedule.solar": '"x"', "schedule.offset": '"x"'}
    keys = [".".join(map(camel, key.split("."))) for key, usable in keys_of(model.Agent) if not usable]
    assert set(keys) == set(values)
    found = kit.configurations(*(agent(f"{RUN} {key} = {values[key]};") for key in keys))
    for key, item in zip(keys, found, strict=True):
        assert item["assertions"] == [
            f"services.rota.agents.a.{key}: not available in this version of rota; remove it"
        ]


TYPES = {
    'timeout = "5";': ".timeout' is not of type `time span",
    "timeout = 30;": ".timeout' is not of type `time span",
    'priority = "urgent";': '.priority\' is not of type `one of "critical"',
    "command = [ ];": ".command' is not of type",
    'command = "x";': ".command' is not of type",
    'schedule.every = "often";': ".every' is not of type `null or time span",
    "schedule.onBoot = false;": ".onBoot' is not of type",
    'schedule.at = "5min";': '.schedule."[definition 1-entry 1]".at\' does not exist',
    'catchup.mode = "once";': ".catchup' does not exist",
    'resources.memory = "lots";': ".memory' is not of type",
    'resources.cpu = "0%";': ".cpu' is not of type",
    "resources.tasks = 0;": ".tasks' is not of type",
    'sandbox.network = "yes";': ".network' is not of type",
    "sandbox.network = [ ];": ".network' is not of type",
    'sandbox.writable = [ "srv" ];': '.writable."[definition 1-entry 1]"\' is not of type',
    "sandbox.writable = [ /srv ];": '.writable."[definition 1-entry 1]"\' is not of type',
    "sandbox.unit.Nice = { };": ".Nice' is not of type",
    'tags = [ "Backup" ];': "' is not of type `word of lower-case letters",
    # secrets: neither in the store nor about to be copied there
    'credentials.key = "${pkgs.git}/key";': ".key' is not of type `absolute path not in the Nix store'",
    "credentials.key = ./key;": ".key' is not of type `absolute path not in the Nix store'",
    'environmentFiles = [ "-${pkgs.git}/env" ];': "' is not of type `absolute path not in the Nix store, as",
    "environmentFiles = [ ./env ];": "' is not of type `absolute path not in the Nix store, as",
}


@pytest.mark.parametrize("keys", TYPES)
def test_types(keys: str) -> None:
    with pytest.raises(kit.NixError) as failed:
        kit.configurations(agent(f"{RUN if 'command' not in keys else ''} {keys}"))
    assert "services.rota.agents.a" in str(failed.value)
    assert TYPES[keys] in str(failed.value)


def test_what_one_module_sets_another_can_change(tmp_path: Path) -> None:
    more = """{ lib, ... }: {
      services.rota.agents.a.schedule = lib.mkForce { every = "2h"; };
      services.rota.agents.a.sandbox.writable = [ "/b" ];
      services.rota.agents.a.timeout = "1h";
    }"""
    first = agent(
        f'{RUN} schedule.every = "1h"; sandbox.writable = [ "/a" ]; timeout = lib.mkDefault "5min";'
    )
    (found,) = kit.configurations(f"{{ imports = [ ({first}) ({more}) ]; }}")
    (declaration,) = loaded(tmp_path, found["declarations"]).declarations
    assert [item.every for item in declaration.agent.schedule] == ["2h"]
    assert set(declaration.agent.sandbox.writable) == {"/a", "/b"}
    # Also when it is the default: it was written.
    assert declaration.agent.timeout == "1h"
    assert "timeout" in declaration.agent.model_fields_set


def test_a_bundled_agent_keeps_what_is_not_overridden(tmp_path: Path) -> None:
    bundled = 'settings.bundled = [ "disk-report" "journal-digest" ];'
    (found,) = kit.configurations(agent('timeout = "7min";', name="disk-report", more=bundled))
    assert found["assertions"] == []
    read = loaded(tmp_path, found["declarations"])
    assert read.problems == ()
    agents = {item.name: item.agent for item in read.declarations}
    assert agents["disk-report"].timeout == "7min"
    assert agents["disk-report"].command is not None
    assert all(item.path[0].endswith("-coreutils/bin") for item in agents.values())
