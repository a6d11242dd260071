"""What is declared of cleaning and of commands: defaults, rules, what never may go, the units made of it."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rota import analyze
from rota.clean_declared import ROOTS, TREES, breaches, forbidden, resolve, resolve_commands
from rota.clean_rules import (
    CleanRules,
    CommandRule,
    DockerRule,
    JournalRule,
    NixRule,
    PathRule,
    TmpRule,
    from_json,
    to_json,
)
from rota.clean_units import clean_units, command_unit, writable
from rota.cleaning import Cleaning, KeeperCommand
from rota.generate import write_files
from rota.units import Context
from rota.watch_rules import resolve as resolve_watches
from rota.watching import Watching

SHARE = Path(__file__).parents[2] / "share"
DAY, GIB = 86_400_000_000, 1024**3
WATCHES = resolve_watches(
    Watching.model_validate({"disks": {"/boot": {"watch": False}, "/srv": {"enough": "5G"}}})
)
EVERYTHING = {
    "journal": {"keep_time": "30d", "keep_size": "1G"},
    "docker": {"sockets": ["/run/docker.sock"], "older_than": "14d", "containers": True, "keep": ["base:*"]},
    "nix": {"older_than": "36h"},
    "tmp": {"older_than": "3d"},
    "paths": [{"path": "/srv/camera/", "older_than": "30d", "keep_size": "5G"}],
}


def cleaning(clean: Any = None, **more: Any) -> Cleaning:
    return Cleaning.model_validate({**({"clean": clean} if clean is not None else {}), **more})


def test_defaults_are_what_nobody_misses() -> None:
    assert resolve(Cleaning(), WATCHES) == CleanRules(
        disk=WATCHES.disk,
        disks=WATCHES.disks,
        journal=JournalRule(14 * DAY, GIB // 4),
        tmp=TmpRule(("/tmp", "/var/tmp")),
    )
    assert list(breaches(Cleaning())) == []


def test_all_of_it_there_and_back() -> None:
    declared = cleaning(EVERYTHING)
    assert list(breaches(declared)) == []
    rules = resolve(declared, WATCHES)
    assert rules.journal == JournalRule(30 * DAY, GIB)
    assert rules.docker == DockerRule(
        ("/run/docker.sock",), 14 * DAY, keep_cache=2 * GIB, containers=True, keep=("base:*",)
    )
    assert rules.nix == NixRule(DAY * 3 // 2)
    assert rules.tmp == TmpRule(("/tmp", "/var/tmp"), 3 * DAY)
    assert rules.paths == (PathRule("/srv/camera", 30 * DAY, 0, 5 * GIB),)
    assert from_json(to_json(rules)) == rules
    assert rules.disks["/boot"] is None and rules.disks["/srv"] is not None


def test_what_is_switched_off_is_left_alone() -> None:
    off = resolve(cleaning({"journal": False, "tmp": False}), WATCHES)
    assert (off.journal, off.tmp, off.docker, off.nix, off.paths) == (None, None, None, None, ())
    on = resolve(cleaning({"docker": True, "nix": True}), WATCHES)
    assert on.docker is not None and not on.docker.containers, "they hold what they wrote"
    assert on.nix == NixRule(30 * DAY)


def path(where: str, **more: Any) -> dict[str, Any]:
    return {"path": where, "older_than": "30d", "keep": 1, **more}


@pytest.mark.parametrize(
    ("clean", "key", "message"),
    [
        ({"journal": {"keep_time": "1min"}}, "clean.journal.keep_time", "must be at least 1h"),
        ({"journal": {"keep_time": "infinity"}}, "clean.journal.keep_time", "must have an end"),
        ({"docker": {"older_than": "1h"}}, "clean.docker.older_than", "must be at least 1d"),
        ({"nix": {"older_than": "0s"}}, "clean.nix.older_than", "must be at least 1d"),
        ({"tmp": {"older_than": "1s"}}, "clean.tmp.older_than", "must be at least 1h"),
        ({"tmp": {"paths": ["/tmp", "/srv"]}}, "clean.tmp.paths[1]", "must be /tmp, /var/tmp or below"),
        ({"paths": [path("/srv/a", older_than="1min")]}, "clean.paths[0].older_than", "must be at least 1h"),
        ({"paths": [{"path": "/srv/a", "older_than": "1d"}]}, "clean.paths[0]", "needs a floor"),
        ({"paths": [path("/srv/a"), path("/srv/a/b")]}, "clean.paths[1].path", "hold the same files"),
        ({"paths": [path("/srv/a"), path("/srv/a/")]}, "clean.paths[1].path", "hold the same files"),
        ({"paths": [path("/etc/x")]}, "clean.paths[0].path", "must never be cleaned"),
    ],
)
def test_rules(clean: dict[str, Any], key: str, message: str) -> None:
    (found,) = breaches(cleaning(clean))
    assert found.key == key and message in found.message


def test_keep_nothing_has_to_be_said() -> None:
    assert list(breaches(cleaning({"paths": [path("/srv/a", keep=0), path("/srv/ab")]}))) == []


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("/", "it holds /bin"),
        ("/etc", "/etc is the system's"),
        ("/etc/rota", "/etc is the system's"),
        ("/nix/store", "/nix is the system's"),
        ("/nix/store/abc", "/nix is the system's"),
        ("/var", "it holds /var/lib/containerd"),
        ("/var/lib", "it holds"),
        ("/var/lib/rota", "or rota's own"),
        ("/var/lib/rota-agents/x", "or rota's own"),
        ("/var/lib/postgresql", "as a whole"),
        ("/var/lib/docker/overlay2", "is the system's"),
        ("/var/log", "it holds /var/log/journal"),
        ("/home", "as a whole"),
        ("/home/ada", "as a whole"),
        ("/home/ada/.ssh", "nobody can make again"),
        ("/root/.gnupg/private", "nobody can make again"),
        ("/srv", "as a whole"),
        ("/tmp", "clean.tmp"),
        ("/run/user/1000", "/run is the system's"),
        ("/usr/local/x", "/usr is the system's"),
    ],
)
def test_paths_that_are_never_cleaned(where: str, why: str) -> None:
    assert why in forbidden(where)


@pytest.mark.parametrize(
    "where",
    ["/srv/camera", "/var/cache/x", "/var/lib/app/cache", "/home/ada/Downloads", "/home/ada/.cache",
     "/home/ada/.local/share/Trash", "/opt/x/logs", "/var/log/nginx", "/var/librota", "/data"],
)  # fmt: skip
def test_paths_that_may_be_cleaned(where: str) -> None:
    assert forbidden(where) == ""


@given(st.sampled_from([*TREES, "/home", "/root", "/srv", "/var/log"]), st.data())
def test_no_way_to_name_what_is_forbidden(tree: str, data: st.DataObject) -> None:
    parts = tree.strip("/").split("/")
    above = "/" + "/".join(parts[: data.draw(st.integers(0, len(parts)))])
    assert forbidden(above), above
    if not ROOTS.fullmatch(tree):
        below = data.draw(st.text("abc", min_size=1))
        assert forbidden(f"{tree}/{below}")


@pytest.mark.parametrize(
    "clean",
    [
        {"paths": [{"path": "srv", "older_than": "1d"}]},
        {"paths": [{"path": "/srv/../etc", "older_than": "1d"}]},
        {"paths": [{"path": "/srv/a"}]},
        {"paths": [path("/srv/a", keep=-1)]},
        {"paths": [path("/srv/a", keep=True)]},
        {"journal": {"keep_size": "10%"}},
        {"journal": {"keep_time": 5}},
        {"docker": {"sockets": []}},
        {"docker": {"sockets": ["/run/my docker.sock"]}},
        {"docker": {"volumes": True}},
        {"docker": {"keep": ["a b"]}},
    ],
)
def test_values_that_are_refused(clean: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        cleaning(clean)


TRUE = {"command": ["/bin/true"]}


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ({"command": []}, "commands.x.command"),
        ({"command": ["./true"]}, "commands.x.command[0]"),
        ({**TRUE, "timeout": "infinity"}, "commands.x.timeout"),
        ({**TRUE, "timeout": "0s"}, "commands.x.timeout"),
        ({**TRUE, "unit": {"User": "root"}}, "commands.x.unit.User"),
        ({**TRUE, "unit": {"Type": "simple"}}, "commands.x.unit.Type"),
    ],
)
def test_rules_of_commands(command: dict[str, Any], key: str) -> None:
    (found,) = breaches(cleaning(commands={"x": command}))
    assert found.key == key


def test_commands_as_the_keeper_knows_them() -> None:
    declared = cleaning(commands={"b": TRUE, "a": {**TRUE, "timeout": "1h"}})
    assert resolve_commands(declared) == {"a": CommandRule(3600_000_000), "b": CommandRule(300_000_000)}


def lines(text: str | None, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text or "", re.M)


def test_rota_clean_may_write_where_it_was_declared() -> None:
    rules = resolve(cleaning({**EVERYTHING, "paths": [path("/srv/a b%")]}), WATCHES)
    assert writable(rules) == ("/tmp", "/var/tmp", "/var/log/journal", "/nix/var/nix/profiles", "/srv/a b%")
    clean, preview = clean_units(rules, "/etc/rota/rota.toml")
    assert lines(clean.text, "ReadWritePaths")[-1] == '"-/srv/a b%%"'
    assert lines(preview.text, "ReadWritePaths") == []
    (told,) = lines(clean.text, "SetCredential")
    assert from_json(told.removeprefix("rules:").replace("\\\\", "\\")) == rules
    assert lines(preview.text, "SetCredential") == [told]
    assert (clean.text or "").startswith("# Made by rota")


def test_a_command_is_sandboxed_by_default_and_root_only_if_said() -> None:
    unit = command_unit(
        "x", KeeperCommand(command=("/bin/echo", "a $b %c")), "/etc/rota/rota.toml", Context()
    )
    assert unit.name == "rota-command@x.service"
    assert lines(unit.text, "ExecStart") == ['/bin/echo "a $$b %%c"']
    assert lines(unit.text, "DynamicUser") == ["yes"] and lines(unit.text, "User") == []
    assert lines(unit.text, "CapabilityBoundingSet") == [""] and lines(unit.text, "PrivateNetwork") == ["yes"]
    rooted = KeeperCommand.model_validate(
        {**TRUE, "user": "root", "network": True, "unit": {"PrivateUsers": False, "Slice": "x.slice"}}
    )
    text = command_unit("x", rooted, "services.rota", Context(nixos=True)).text
    assert lines(text, "User") == ["root"] and lines(text, "DynamicUser") == []
    assert lines(text, "PrivateUsers") == ["no"] and lines(text, "Slice") == ["x.slice"]
    assert lines(text, "After") == ["network-online.target"] and "TZDIR=/etc/zoneinfo" in (text or "")


def test_systemd_takes_them_and_calls_them_safe(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    made = [command_unit("x", KeeperCommand(command=("/bin/true",)), "/etc/rota/rota.toml", Context())]
    write_files(made, tmp_path)
    assert analyze.verify([tmp_path / made[0].name]) == []
    for name in ("rota-clean@.service", "rota-clean-preview@.service"):
        text = (SHARE / name).read_text(encoding="utf-8")
        unit = tmp_path / name
        unit.write_text(re.sub(r"@bindir@/\S+", "/bin/true", text), encoding="utf-8")
        assert analyze.verify([unit]) == []
        assert analyze.exposure(unit).score <= 1.5, analyze.exposure(unit).costs


def test_what_the_page_shows_is_right() -> None:
    page = (SHARE.parent / "docs/keeper-clean.md").read_text(encoding="utf-8")
    shown = [tomllib.loads(text)["keeper"] for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    assert len(shown) == 2
    for keeper in shown:
        cleaning = {name: keeper[name] for name in Cleaning.model_fields if name in keeper}
        assert cleaning
        assert list(breaches(Cleaning.model_validate(cleaning))) == []
