"""What is declared of the Home Keeper: the files that come of it, and where each key is told of."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from rota import analyze, keeper_rules, names
from rota.clean_units import DROP_INS
from rota.cli_declare import json_schema
from rota.generate import Files, build, compare, is_ours, write_directory
from rota.keeper_config import CREDENTIAL, Config, from_json
from rota.keeper_parts import resolve
from rota.keeper_units import keeper_units
from rota.load import load
from rota.naming import camel
from rota.record import records_in
from rota.settings import HomeKeeper
from rota.units import Context, UnitFile

from .cases import configuration

ROOT = Path(__file__).parent.parent
AGENTS = {"tidy-up": 'command = ["/bin/true"]\n', "off": 'command = ["/bin/true"]\nenabled = false\n'}
DECLARED = """
[keeper]
enable = true
quiet = ["22:30-07:00"]
[keeper.policy]
remedy = "agent:tidy-up"
[keeper.targets."unit:postgresql.service"]
remedy = "restart"
[keeper.watch]
swap = false
[keeper.disks."/srv"]
enough = "5G"
[keeper.endpoints.router]
ping = "192.168.1.1"
[keeper.prometheus.main]
url = "http://localhost:9090"
authorization = "/etc/rota/secrets/100% prometheus"
[keeper.queries.hot]
query = 'room_celsius{place="attic\\\\roof"}'
above = 30
[keeper.databases.main]
url = "/run/secrets/db"
"""


def made(folder: Path, settings: str = DECLARED, *, nixos: bool = False) -> Files:
    if not folder.exists():
        configuration(folder, AGENTS)
    (folder / "rota.toml").write_text(settings)
    loaded = load(folder)
    assert loaded.problems == ()
    return build(loaded, Context(nixos=nixos))


def handed_over(text: str) -> Config:
    """Return the config as systemd hands it over: unescaped as in C (systemd.exec(5), SetCredential=)."""
    (value,) = re.findall(rf"^SetCredential={CREDENTIAL}:(.*)$", text, re.M)
    return from_json(re.sub(r"\\\\", r"\\", value))


def test_nothing_unless_it_is_enabled(tmp_path: Path) -> None:
    files = made(tmp_path / "etc", DECLARED.replace("enable = true", ""))
    assert not [name for name in files if "keeper" in name]


def test_the_drop_in(tmp_path: Path) -> None:
    text = made(tmp_path / "etc")[names.KEEPER_DROP_IN].text or ""
    assert text.startswith(names.MARKER)
    assert re.findall(r"^LoadCredential=(.*)$", text, re.M) == [
        "database-main:/run/secrets/db",
        "prometheus-main:/etc/rota/secrets/100%% prometheus",
    ]
    assert re.findall(r"^SetCredential=([dp].*)$", text, re.M) == [r"database-main:\n", r"prometheus-main:\n"]
    told = handed_over(text)
    declared = resolve(HomeKeeper.model_validate(tomllib.loads(DECLARED)["keeper"]))
    assert told.watches == declared.watches
    assert keeper_rules.to_json(told.rules) == keeper_rules.to_json(declared.rules)
    assert told.rules.enable
    assert told.rules.policy.remedy == "agent:tidy-up"
    assert told.watches.queries["hot"].expression == r'room_celsius{place="attic\\roof"}'
    assert told.watches.endpoints["router"].ping == "192.168.1.1"
    assert told.credentials == {
        "database-main": "/run/secrets/db",
        "prometheus-main": "/etc/rota/secrets/100% prometheus",
    }


def test_what_starts_it(tmp_path: Path) -> None:
    target = f"../{names.KEEPER_SERVICE}"
    assert made(tmp_path / "a")[names.KEEPER_LINK] == UnitFile(names.KEEPER_LINK, target=target)
    nixos = made(tmp_path / "b", nixos=True)
    assert {names.KEEPER_DROP_IN, names.KEEPER_RULES} <= set(nixos)
    assert names.KEEPER_LINK not in nixos


def test_drives_are_asked_as_often_as_declared(tmp_path: Path) -> None:
    declared = "[keeper]\nenable = true\n[keeper.watch]\nsmart = "
    files = made(tmp_path / "a", f'{declared}"6h"')
    assert "\n[Timer]\nOnUnitInactiveSec=21600000000us\n" in (files[names.SMART_DROP_IN].text or "")
    wants = f"[Unit]\nWants={names.SMART_TIMER}\n"
    assert wants in (files[names.KEEPER_DROP_IN].text or "")
    off = made(tmp_path / "b", f"{declared}false")
    assert names.SMART_DROP_IN not in off and wants not in (off[names.KEEPER_DROP_IN].text or "")


def test_systemd_takes_what_asks_drives_and_calls_it_safe(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in (names.SMART_SERVICE, names.SMART_TIMER):
        text = (ROOT / "share" / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("@bindir@/rotad-smart", "/bin/true"))
    (tmp_path / names.SMART_DROP_IN).parent.mkdir()
    (tmp_path / names.SMART_DROP_IN).write_text(made(tmp_path / "etc")[names.SMART_DROP_IN].text or "")
    assert analyze.verify([tmp_path / names.SMART_SERVICE, tmp_path / names.SMART_TIMER]) == []
    exposure = analyze.exposure(tmp_path / names.SMART_SERVICE)
    assert exposure.score <= 1.3, exposure.costs


def test_it_comes_and_goes_with_the_settings(tmp_path: Path) -> None:
    units = tmp_path / "units"
    on = made(tmp_path / "etc")
    write_directory(on, units)
    assert compare(on, units).empty
    assert is_ours(units / names.KEEPER_LINK)
    other = made(tmp_path / "etc", DECLARED.replace('"restart"', '"start"'))
    assert compare(other, units).changed == [names.KEEPER_RULES, names.KEEPER_DROP_IN]
    gone = compare(made(tmp_path / "etc", ""), units).removed
    drop_ins = [*sorted(DROP_INS), names.KEEPER_DROP_IN, names.SMART_DROP_IN]
    assert gone == [names.KEEPER_LINK, names.KEEPER_RULES, *drop_ins]
    write_directory(made(tmp_path / "etc", ""), units)
    assert not (units / names.KEEPER_RULES).exists()


def test_rules_of_others_are_not_touched(tmp_path: Path) -> None:
    rules = tmp_path / "rules.d"
    rules.mkdir()
    (rules / "50-rota-keeper.rules").write_text("// by hand\n")
    plan = compare(made(tmp_path / "etc"), tmp_path / "units", rules)
    assert plan.foreign == (names.KEEPER_RULES,)
    assert names.KEEPER_RULES not in compare(made(tmp_path / "etc", ""), tmp_path / "units", rules).before


def test_systemd_takes_service_and_drop_in(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "share" / names.KEEPER_SERVICE).read_text(encoding="utf-8")
    service = tmp_path / names.KEEPER_SERVICE
    service.write_text(text.replace("@bindir@/rota-home-keeper", "/bin/true"))
    (tmp_path / f"{names.KEEPER_SERVICE}.d").mkdir()
    (tmp_path / names.KEEPER_DROP_IN).write_text(made(tmp_path / "etc")[names.KEEPER_DROP_IN].text or "")
    command = ["systemd-analyze", "verify", "--man=no", str(service)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "home-keeper" in line]
    assert [line for line in said if "running as unit" not in line] == []
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(service)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_it_is_nobodys_agent() -> None:
    """Nor may the group rota stop it, as it may agents; nor the proxy."""
    text = (ROOT / "share/50-rota.rules").read_text(encoding="utf-8")
    (listed,) = re.findall(r"var ours = (\[.*?\])", text)
    assert {names.service_of(name) for name in names.RESERVED} == set(json.loads(listed))
    assert set(json.loads(listed)) == {names.KEEPER_SERVICE, names.PROXY_SERVICE}
    assert not any(map(names.agent_of, json.loads(listed)))


# --- any of it ------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9][a-z0-9-]{0,5}", fullmatch=True), st.text(max_size=20), max_size=3
    )
)
def test_what_is_declared_arrives_whatever_is_in_it(queries: dict[str, str]) -> None:
    lines = {name: re.sub(r"[\x00-\x1f\x7f]|\\$", "x", text) for name, text in queries.items()}
    declared = HomeKeeper.model_validate(
        {
            "enable": True,
            "prometheus": {"main": {"url": "http://localhost"}},
            "queries": {name: {"query": text, "above": 1} for name, text in lines.items()},
        }
    )
    drop_in = keeper_units(declared, "/etc/rota", Context(nixos=True))[0].text or ""
    assert drop_in.isascii()
    found = handed_over(drop_in).watches.queries
    assert {name: one.expression for name, one in found.items()} == lines


def keys(record: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in record.model_fields.items():
        yield f"{path}{name}", record
        for inner in records_in(field.annotation):
            yield from keys(inner, f"{path}{name}.")


def test_every_key_is_in_the_schema_the_reference_and_the_options() -> None:
    reference = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    below = reference.partition("\n### [keeper]\n")[2]
    defined = json_schema("settings")["$defs"]
    nix = json.loads((ROOT / "nix/home-keeper.json").read_text(encoding="utf-8"))
    found = list(keys(HomeKeeper))
    assert len(found) > 100
    for path, record in found:
        name = path.rpartition(".")[2]
        assert name in defined[record.__name__]["properties"], path
        assert f"\n| `{name}` |" in below, path
        assert name == _option(nix, path.split("."))["key"], path


def _option(table: dict[str, Any], path: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = table[camel(path[0])]
    if len(path) == 1:
        return found
    kinds = [found.get("type")]
    while kinds:
        kind = kinds.pop()
        if isinstance(kind, dict) and "record" in kind:
            return _option(kind["record"], path[1:])
        if isinstance(kind, dict):
            inner = next(iter(kind.values()))
            kinds += inner if isinstance(inner, list) else [inner]
    return _option(found["options"], path[1:])


def test_the_keeper_reads_its_config_without_pydantic() -> None:
    code = "import sys, rota.keeper_config; assert not {'pydantic', 'rota.record'} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin"}
    )


PAGE = (ROOT / "docs/keeper.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n# /etc/rota/rota.toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


PARTS = [
    "[keeper]\nenable = true\n" + block
    for page in ("hosts.md", "keeper-clean.md")
    for block in re.findall(
        r"^```toml\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
]


@pytest.mark.parametrize("block", [*BLOCKS, *PARTS])
def test_what_the_pages_show_is_right(block: str, tmp_path: Path) -> None:
    files = made(tmp_path / "etc", block)
    assert names.KEEPER_DROP_IN in files


def test_every_page_shows_something() -> None:
    assert len(BLOCKS) >= 5
    assert len(PARTS) >= 3


def test_the_defaults_that_the_page_shows_are_those() -> None:
    (block,) = [block for block in BLOCKS if "[keeper.policy]" in block]
    policy = tomllib.loads(block)["keeper"]["policy"]
    assert HomeKeeper.model_validate({"policy": policy}).policy == HomeKeeper().policy


def test_the_readmes_keeper_is_right(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^((?:    .*\n|\n)*    \[keeper\]\n(?:    .*\n|\n)*)", readme, re.MULTILINE)
    assert names.KEEPER_DROP_IN in made(tmp_path / "etc", textwrap.dedent(block))
