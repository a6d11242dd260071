"""What is declared of the Home Keeper: every mistake at once, and the files that come of what is right."""

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
from rota.errors import DeclarationError
from rota.generate import Files, build, checked, compare, is_ours, write_directory
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


# --- mistakes -------------------------------------------------------------------------------------

WRONG = """
[keeper]
moed = "act"
quiet = ["22"]
[keeper.policy]
strikes = []
remedy = "agent:tidy"
attempts = 0
[keeper.targets."unit:sshd.service"]
[keeper.targets."unit:a.service"]
mdoe = "ask"
[keeper.targets."unit:b.service"]
remedy = "agent:off"
[keeper.targets."unit:c.service"]
mode = "acts"
[keeper.targets."unit:d.service"]
after = ["unit:*"]
remedy = "command:renew"
[keeper.targets."unit:e"]
[keeper.watch]
cpu = { warnign = "3%" }
memory = { critical = 5 }
swap = { critical = "50%" }
load = "x"
interfaces = ["a b"]
[keeper.disks."/srv"]
space = { warning = "120%" }
[keeper.disks."srv"]
[keeper.endpoints.dns]
dns = { nme = "a" }
[keeper.endpoints.x]
[keeper.endpoints.y]
tcp = "nas"
interval = 5
[keeper.prometheus.main]
url = "x"
[keeper.queries.q]
query = "a"
server = "main"
[keeper.databases.main]
url = "postgresql://me:secret@db/main"
"""
SAID = """
keeper.databases.main.url: is the URL itself, which is a secret: write it into a file that only root may read, and name that file; for example "/etc/rota/secrets/ops-url"
keeper.disks."/srv".space.warning: "120%": must be below critical, which is 97% by default; write that too
keeper.disks."/srv".space.warning: "120%": with a margin of 3% it would never close, or never open; write 3% to 100%
keeper.disks.srv: must be an absolute path, beginning with /
keeper.endpoints.dns.dns.name: is required
keeper.endpoints.dns.dns.nme: unknown key; did you mean name?
keeper.endpoints.x: needs one of ping, tcp, http, dns
keeper.endpoints.y.interval: "5": has no unit; write for example "5s"
keeper.endpoints.y.tcp: "nas": has no port; write for example "nas:22"
keeper.moed: unknown key; did you mean mode?
keeper.policy.attempts: "0": must be at least 1
keeper.policy.remedy: "agent:tidy": no such agent; did you mean tidy-up?
keeper.policy.strikes: must name one at least
keeper.prometheus.main.url: "x": not a URL; write for example "https://nas.home/health"
keeper.quiet[0]: "22": not a time of day; write for example "22:30-07:00"
keeper.targets."unit:a.service".mdoe: unknown key; did you mean mode?
keeper.targets."unit:b.service".remedy: "agent:off": no such agent; it is not enabled
keeper.targets."unit:c.service".mode: "acts": must be one of observe, ask, act; did you mean act?
keeper.targets."unit:d.service".after: needs "unit:d.service"; one of them has to be healed first
keeper.targets."unit:d.service".remedy: "command:renew": no such command; declare [keeper.commands.renew]
keeper.targets."unit:e": is a unit without its type; write for example "unit:e.service"
keeper.targets."unit:sshd.service": is never touched (unit:sshd.service); write mode = "observe", or leave it out
keeper.watch.cpu.warnign: unknown key; did you mean warning or margin?
keeper.watch.interfaces[0]: "a b": must be the name of a network interface: 15 characters at most, no blank, / or :
keeper.watch.load: "x": must be a table or true or false; write for example { warning = 2.5 }
keeper.watch.memory.critical: "5": has no %; write "5%"
keeper.watch.swap.critical: "50%": must be above warning, which is 80% by default; write that too
"""  # noqa: E501  (as they are printed)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    folder = configuration(tmp_path / "etc", AGENTS, WRONG)
    found = [str(problem) for problem in load(folder).problems]
    assert sorted(found) == [f"rota.toml: {line}" for line in SAID.strip().splitlines()]


def test_nixos_calls_them_by_its_options(tmp_path: Path) -> None:
    path = tmp_path / "rota.json"
    agents = {name: tomllib.loads(text) for name, text in AGENTS.items()}
    path.write_text(json.dumps({**tomllib.loads(WRONG), "agents": agents}))
    found = {str(problem) for problem in load(path, nixos=True).problems}
    assert len(found) == len(SAID.strip().splitlines())
    root = "services.rota.homeKeeper"
    assert f'{root}.targets."unit:a.service".mdoe: unknown key; did you mean mode?' in found
    told = f"no such command; declare {root}.commands.renew"
    assert f'{root}.targets."unit:d.service".remedy: "command:renew": {told}' in found
    assert all(line.startswith(f"{root}.") for line in found)


@pytest.mark.parametrize(
    ("raw", "instead"),
    [
        ("keeper = 5", "write for example { enable = true }"),
        ("keeper = []", "write for example { enable = true }"),
        ("[keeper.targets]\n'unit:a.service' = 3", "write [keeper.targets.NAME] for each"),
        ("[[keeper]]", "write for example { enable = true }"),
        ("[keeper.prometheus]\nurl = 'http://nas:9090'", "write [keeper.prometheus.NAME] for each"),
        ("[keeper.endpoints.a]\ndns = 'nas.home'", 'write for example { name = "nas.home" }'),
        (
            "[keeper.clean]\npaths = ['/srv/a']",
            'write for example { path = "/srv/camera", older_than = "30d", keep_size = "5G" }',
        ),
    ],
)
def test_what_is_no_table(raw: str, instead: str, tmp_path: Path) -> None:
    (problem,) = load(configuration(tmp_path / "etc", {}, raw)).problems
    assert problem.message == f"must be a table; {instead}"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("[keeper]\nquiet = '22:30-07:00'", 'quiet: "22:30-07:00": must be a list; write ["22:30-07:00"]'),
        (
            "[keeper.commands.a]\ncommand = 'renew \"a b\" --now'",
            'commands.a.command: "renew "a b" --now": must be a list; write ["renew", "a b", "--now"]',
        ),
        (
            "[keeper.endpoints.a]\nhttp = 'http://a'\nstatus = 200",
            'endpoints.a.status: "200": must be a list; write [200]',
        ),
        ("[keeper]\nsettle = '1min'", "settle: unknown key; it is a key of [keeper.policy]"),
        ("[keeper.policy]\nunnamed = 'ask'", "policy.unnamed: unknown key; it is a key of [keeper]"),
        ("[keeper.hosts.nas]\nmode = 'ask'", "hosts.nas.mode: unknown key; it is a key of [keeper]"),
        ("[keeper.watch]\nmemory = { warning = '95' }", 'watch.memory.warning: "95": has no %; write "95%"'),
        (
            "[keeper.watch]\nmemory = { warning = 'much' }",
            'watch.memory.warning: "much": not a whole percentage above 0; write for example "90%"',
        ),
        (
            "[keeper.targets.'disk:srv']",
            'targets."disk:srv": is not where a disk is mounted; write for example "disk:/srv"',
        ),
        (
            "[keeper.targets.'container:web']",
            'targets."container:web": no engine is asked; write sockets = ["/run/rota-keeper/docker.sock"]'
            " in [keeper.containers]",
        ),
        (
            "[keeper.targets.'endpoint:router']",
            'targets."endpoint:router": no such endpoint; declare [keeper.endpoints.router]',
        ),
        (
            "[keeper.endpoints.router]\nping = 'x y'\n[keeper.targets.'endpoint:ruoter']",
            'targets."endpoint:ruoter": no such endpoint; did you mean router?',
        ),
        (
            "[keeper.targets.'unit:nas/a.service']",
            'targets."unit:nas/a.service": no such host; declare [keeper.hosts.nas]',
        ),
        (
            "[keeper.endpoints.router]\nping = 'nas'\n[keeper.targets.'unit:*']\nafter = ['endpoint:ruoter']",
            'targets."unit:*".after: "endpoint:ruoter": no such endpoint; did you mean router?',
        ),
        (
            "[keeper.targets.'unit:a.service']\nafter = ['container:db', 'unit:b.service']",
            'targets."unit:a.service".after: "container:db": no engine is asked; '
            'write sockets = ["/run/rota-keeper/docker.sock"] in [keeper.containers]',
        ),
        (
            "[keeper.policy]\nremedy = 'agent:a'",
            'policy.remedy: "agent:a": no such agent; declare one of this name',
        ),
    ],
)
def test_what_to_write_instead(raw: str, said: str, tmp_path: Path) -> None:
    found = [str(problem) for problem in load(configuration(tmp_path / "etc", {}, raw)).problems]
    assert f"rota.toml: keeper.{said}" in found


NEEDS = "[keeper]\nenable = true\n{}\n[keeper.targets.'unit:a.service']\nafter = ['{}']\n{}"
OBSERVED = (
    'keeper.targets."unit:a.service".after: "unit:b.service": is only observed: a person is told '
    'of what waits for it; write [keeper.targets."unit:b.service"], '
    'and mode = "observe" in it if that is meant'
)
NEVER = (
    'keeper.targets."unit:a.service".after: "unit:dbus.service": is never touched (unit:dbus.service): '
    "a person is told of what waits for it; if that is meant, "
    'write mode = "observe" in [keeper.targets."unit:dbus.service"]'
)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (NEEDS.format("", "unit:b.service", ""), [OBSERVED]),
        (NEEDS.format("", "unit:dbus.service", ""), [NEVER]),
        (NEEDS.format("unnamed = 'ask'", "unit:dbus.service", ""), [NEVER]),
        (NEEDS.format("", "unit:b.service", "[keeper.targets.'unit:b.*']"), []),
        (NEEDS.format("", "unit:b.service", "[keeper.targets.'unit:b.service']\nmode = 'observe'"), []),
        (NEEDS.format("unnamed = 'ask'", "unit:b.service", ""), []),
        (NEEDS.format("mode = 'observe'", "unit:b.service", ""), []),
        (NEEDS.format("never = ['unit:b.service']", "unit:b.service", ""), []),
        (NEEDS.format("", "unit:b*", ""), []),
        (NEEDS.format("", "endpoint:nas", "[keeper.endpoints.nas]\nping = 'nas'"), []),
        (NEEDS.format("", "unit:b.service", "").replace("true", "false"), []),
    ],
)
def test_what_nobody_heals_is_warned_of_where_it_is_needed(raw: str, said: list[str], tmp_path: Path) -> None:
    loaded = load(configuration(tmp_path / "etc", {}, raw))
    assert loaded.problems == ()
    assert [str(problem) for problem in loaded.warnings] == [f"rota.toml: {line}" for line in said]
    assert checked(tmp_path / "etc", user=False).warnings == loaded.warnings


@pytest.mark.parametrize(
    "raw",
    [
        "[keeper.targets.'container:web']\n[keeper.containers]\nsockets = [3]",
        "[keeper.targets.'endpoint:router']\n[keeper.endpoints.router]\nping = 3",
        "[keeper.targets.'unit:a.service']\nafter = ['endpoint:router']\n[keeper.endpoints.router]\nping = 3",
        "[keeper.targets.'unit:nas/a.service']\n[keeper.hosts.nas]\nport = 0",
        "[keeper.targets.'query:a']\n[keeper.queries.a]\nabove = 'x'",
    ],
)
def test_what_is_wrong_is_not_said_to_be_absent(raw: str, tmp_path: Path) -> None:
    found = load(configuration(tmp_path / "etc", {}, raw)).problems
    assert found
    assert not [problem for problem in found if problem.key.startswith("keeper.targets")]


@pytest.mark.parametrize(
    "name", ["endpoint:*", "query:main/Alert", "disk:*", "disk:/dev/sda", "unit:*/a.service"]
)
def test_what_may_be_named(name: str, tmp_path: Path) -> None:
    raw = f"[keeper]\nenable = true\n[keeper.targets.'{name}']"
    assert not load(configuration(tmp_path / "etc", {}, raw)).problems


def test_a_name_with_a_colon_needs_quotes(tmp_path: Path) -> None:
    raw = "[keeper]\nenable = true\n[keeper.targets.unit:nginx.service]  # web\nmode = 'ask'\n"
    (problem,) = load(configuration(tmp_path / "etc", {}, raw)).problems
    assert problem.message.startswith("not valid TOML: ")
    assert problem.message.endswith(
        '; write [keeper.targets."unit:nginx.service"]: a name with : needs quotes'
    )


def test_rules_are_judged_although_other_settings_are_wrong(tmp_path: Path) -> None:
    text = '[channels.ops]\n[keeper.targets."unit:sshd.service"]\n[keeper.endpoints.x]'
    found = [problem.key for problem in load(configuration(tmp_path / "etc", {}, text)).problems]
    assert sorted(found) == ["channels.ops.url", "keeper.endpoints.x", 'keeper.targets."unit:sshd.service"']


def test_it_is_for_the_whole_machine(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as failed:
        checked(configuration(tmp_path / "etc", AGENTS, DECLARED), user=True)
    assert [str(problem) for problem in failed.value.problems] == [
        "rota.toml: keeper.enable: is for the whole machine: not with --user"
    ]


# --- what comes of it -----------------------------------------------------------------------------


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
