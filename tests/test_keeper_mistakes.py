"""Mistakes in what is declared of the Home Keeper: all at once, and what to write instead."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from rota.errors import DeclarationError
from rota.generate import checked
from rota.load import load

from .cases import configuration
from .test_keeper_declared import AGENTS, DECLARED

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
