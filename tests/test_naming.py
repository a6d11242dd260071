"""Errors and units that name NixOS options instead of files and keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rota.analyze import without_zone
from rota.errors import DeclarationError
from rota.generate import build, checked, context
from rota.load import load
from rota.naming import Naming, attribute, camel

CONFIG: dict[str, Any] = {
    "runners": {"claude": {"command": ["claude"]}, "a b": {"command": []}},
    "agents": {
        "a": {
            "command": ["/bin/true"],
            "catch_up": {"mode": "onse"},
            "credentials": {"db.x": "y"},
            "environment": {"A_B C": "x"},
            "environment_files": ["x"],
            "schedule": [{"every": "5min", "after_bot": "2min"}],
            "sandbox": {"unit": {"WorkingDirectory": "/"}},
        },
        "b": {"prompt": "x", "runner": "cl"},
        "c": {
            "command": ["/bin/true"],
            "schedule": {"cron": "@daily", "after_boot": "1s"},
        },
        "Bad Name": {"command": ["/bin/true"]},
    },
}
NAME = "an agent's name is lower-case letters, digits and -, 63 characters at most"
EXPECTED = """\
services.rota.agents."Bad Name": "Bad Name": {NAME}
services.rota.agents.a.catchUp.mode: "onse": must be one of once, never; did you mean once?
services.rota.agents.a.credentials."db.x": "y": must be an absolute path, beginning with /
services.rota.agents.a.environment."A_B C": must be letters, digits and _, not beginning with a digit
services.rota.agents.a.environmentFiles[0]: "x": must be an absolute path, beginning with /
services.rota.agents.a.sandbox.unit.WorkingDirectory: not settable here: write workingDirectory instead
services.rota.agents.a.schedule[0].after_bot: unknown key; did you mean afterBoot?
services.rota.agents.c.schedule.afterBoot: only goes with every
services.rota.runners."a b": must be a name: lower-case letters, digits and -, 63 characters at most
services.rota.runners."a b".command: must not be empty
services.rota.runners.claude.command: must contain {prompt} after the program, where the agent's prompt goes
"""


def written(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "rota.json"
    path.write_text(json.dumps(config))
    return path


def test_errors_name_options(tmp_path: Path) -> None:
    found = sorted(load(written(tmp_path, CONFIG), nixos=True).problems)
    assert "".join(f"{problem}\n" for problem in found) == EXPECTED.replace("{NAME}", NAME)


def test_a_runner_that_is_nowhere_and_a_key_of_a_later_version(tmp_path: Path) -> None:
    agents = {"b": CONFIG["agents"]["b"], "c": {"command": ["/x"], "after_success": ["b"]}}
    found = sorted(
        load(written(tmp_path, {"agents": agents, "bundled": ["disk-repot"]}), nixos=True).problems
    )
    assert [str(problem) for problem in found] == [
        'services.rota.agents.b.runner: "cl": unknown runner; declare services.rota.runners.cl',
        "services.rota.agents.c.afterSuccess: not available in this version of rota; remove it",
        'services.rota.settings.bundled: "disk-repot": no such bundled agent; did you mean disk-report?',
    ]


@pytest.mark.parametrize(
    ("name", "nix"),
    [("a-b_c", "a-b_c"), ("3d", '"3d"'), ("a.b", '"a.b"'), ('"${x}\\', '"\\"\\${x}\\\\"'), ("", '""')],
)
def test_names_as_nix_writes_them(name: str, nix: str) -> None:
    assert attribute(name) == nix


def test_keys() -> None:
    assert [camel(key) for key in ("path", "after_boot", "max_delay")] == ["path", "afterBoot", "maxDelay"]
    nixos = Naming(nixos=True)
    assert nixos.key("sandbox.unit.MemoryDenyWriteExecute") == "sandbox.unit.MemoryDenyWriteExecute"
    assert nixos.setting("x.json", "runners.x.environment.a_b") == (
        "",
        "services.rota.runners.x.environment.a_b",
    )
    assert Naming().setting("x.json", "bundled") == ("x.json", "bundled")


def test_units_do_not_know_the_file_that_nix_made(tmp_path: Path) -> None:
    config = {"agents": {"a": {"command": ["sh"], "path": ["/nix/store/x/bin"], "schedule": {"every": "1h"}}}}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    made = [
        build(load(written(tmp_path / folder, config), nixos=True), context(user=False, nixos=True))
        for folder in ("one", "two")
    ]
    assert made[0] == made[1]
    service = made[0]["rota-a.service"].text or ""
    assert "\nEnvironment=TZDIR=/etc/zoneinfo\n" in service
    head = "# Made by rota from services.rota.agents.a: edit that option, not this file.\n"
    assert service.startswith(head)
    assert "\nExecSearchPath=/nix/store/x/bin\n" in service
    assert not [name for name in made[0] if "/" in name]
    for file in made[0].values():
        assert "SourcePath" not in (file.text or "")
        assert str(tmp_path) not in (file.text or "")


QUOTES = {
    "a": {"command": ["/bin/true"], "description": "'tis", "schedule": {"every": "1h"}},
    "b": {"command": ["/bin/true"], "sandbox": {"unit": {"X-A": "'tis", "X-B": ["'a b' c", '"']}}},
}


def test_quotes_that_nixos_cannot_read(tmp_path: Path) -> None:
    path = written(tmp_path, {"agents": QUOTES})
    with pytest.raises(DeclarationError) as failed:
        checked(path, user=False, nixos=True)
    assert [str(problem) for problem in failed.value.problems] == [
        "services.rota.agents.b.sandbox.unit.X-A: begins with a ' that is not closed: NixOS cannot read it",
        'services.rota.agents.b.sandbox.unit.X-B: begins with a " that is not closed: NixOS cannot read it',
    ]
    checked(path, user=False)
    files = build(load(path, nixos=True), context(user=False, nixos=True))
    assert "\nDescription=a: 'tis\n" in (files["rota-a.service"].text or "")
    # Of everything else that rota writes, what begins with a quote is quoted.
    for file in files.values():
        for line in (file.text or "").splitlines():
            value = line.partition("=")[2]
            assert not value.startswith(("'", '"')) or value.count(value[0]) > 1 or line.startswith("X-")


def test_zones_are_not_asked_of_systemd() -> None:
    assert without_zone("Mon *-*-* 09:00:00 Europe/Rome") == "Mon *-*-* 09:00:00"
    for event in ("daily", "Europe/Rome", "*-*-* 09:00 Nowhere/Land", "daily ../etc/passwd", ""):
        assert without_zone(event) == event
