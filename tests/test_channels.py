"""What settings make of rotad-notify: its drop-in, rules and credentials; and what is said of wrong ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota import names
from rota.channels import RULES, rules
from rota.generate import Files, build, compare, is_ours, write_directory
from rota.load import load
from rota.model import Agent, Declaration, Notify, Route
from rota.quiet import Quiet
from rota.routes import OWN, Facts, Rate, Rules, from_json
from rota.settings import Settings
from rota.units import Context, UnitFile

from .cases import configuration

ROOT = Path(__file__).parent.parent
SETTINGS = """
[channels.ops]
url = "/etc/rota/secrets/100% ops"
rate = { messages = 5, per = "10min" }
[channels.night]
url = "/run/night"
expiry = "infinity"
[[routes]]
channels = ["ops", "night"]
on = ["failure"]
agents = ["backup-*"]
tags = ["backup"]
severity = "warning"
group = "1min"
rate = { messages = 3, per = "1h" }
quiet = ["22:30-07:00"]
[[routes]]
channels = ["night"]
"""
AGENTS = {
    "a": 'command = ["/bin/true"]\nnotify = { channels = ["ops"] }\ntags = ["backup", "x"]\n',
    "b": 'command = ["/bin/true"]\nnotify = { channels = ["ops"] }\npriority = "critical"\n',
    "c": 'command = ["/bin/true"]\nnotify = { on = ["success"], channels = ["night"] }\n',
    "d": 'command = ["/bin/true"]\n',
}


def made(folder: Path, settings: str = SETTINGS, *, user: bool = False, nixos: bool = False) -> Files:
    if not folder.exists() or not any(folder.iterdir()):
        configuration(folder, AGENTS)
    if not settings:
        for name in "abc":
            (folder / f"agents.d/{name}.toml").write_text(AGENTS["d"])
    (folder / "rota.toml").write_text(settings)
    loaded = load(folder)
    assert loaded.problems == ()
    return build(loaded, Context(user=user, nixos=nixos))


def handed_over(text: str) -> Rules:
    """Return the rules as systemd hands them over: unescaped as in C (systemd.exec(5), SetCredential=)."""
    (value,) = re.findall(rf"^SetCredential={RULES}:(.*)$", text, re.M)
    return from_json(re.sub(r"\\\\", r"\\", value))


def test_nothing_without_channels(tmp_path: Path) -> None:
    assert not [name for name in made(tmp_path, "") if "notify" in name]


def test_the_drop_in(tmp_path: Path) -> None:
    text = made(tmp_path)[names.NOTIFY_DROP_IN].text or ""
    assert text.startswith(names.MARKER)
    assert re.findall(r"^LoadCredential=(.*)$", text, re.M) == [
        "channel.night:/run/night",
        "channel.ops:/etc/rota/secrets/100%% ops",
    ]
    assert re.findall(r"^SetCredential=(channel.*)$", text, re.M) == ["channel.night:#", "channel.ops:#"]
    told = handed_over(text)
    assert told.channels["ops"].rate == Rate(5, 600_000_000)
    assert told.channels["ops"].expiry == 2 * 86_400_000_000
    assert told.channels["night"].expiry == 2**62
    assert told.facts == {"a": Facts(("backup",)), "b": Facts(critical=True)}
    assert [(route.channels, route.agents, route.on) for route in told.routes] == [
        (("night",), ("c",), ("success",)),
        (("ops",), ("a", "b"), ("failure", "recovery")),
        (("ops", "night"), ("backup-*",), ("failure",)),
        (("night",), (), ("failure", "recovery", "missed", "escalation")),
    ]
    assert [route.name.startswith(OWN) for route in told.routes] == [True, True, False, False]
    assert told.routes[2].rate == Rate(3, 3_600_000_000)
    assert (told.routes[2].group, told.routes[2].quiet) == (60_000_000, (Quiet(1350, 420),))


def test_what_starts_it(tmp_path: Path) -> None:
    target = f"../{names.NOTIFY_SERVICE}"
    system, user = names.NOTIFY_LINKS
    assert made(tmp_path / "a")[system] == UnitFile(system, target=target)
    assert made(tmp_path / "b", user=True)[user] == UnitFile(user, target=target)
    nixos = made(tmp_path / "c", nixos=True)
    assert names.NOTIFY_DROP_IN in nixos
    assert not {system, user} & set(nixos)


def test_it_comes_and_goes_with_the_settings(tmp_path: Path) -> None:
    units = tmp_path / "units"
    on = made(tmp_path / "etc")
    write_directory(on, units)
    assert compare(on, units).empty
    assert is_ours(units / names.NOTIFY_LINKS[0])
    other = made(tmp_path / "etc", SETTINGS.replace("1min", "2min"))
    assert compare(other, units).changed == [names.NOTIFY_DROP_IN]
    gone = compare(made(tmp_path / "etc", ""), units).removed
    assert gone == [names.NOTIFY_LINKS[0], names.NOTIFY_DROP_IN]


def test_systemd_takes_service_and_drop_in(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in (names.NOTIFY_SERVICE, "rotad-notify-user.service"):
        text = (ROOT / "share" / unit).read_text(encoding="utf-8")
        service = tmp_path / names.NOTIFY_SERVICE
        service.write_text(re.sub(r"@bindir@/rotad-notify", "/bin/true", text))
        (tmp_path / f"{names.NOTIFY_SERVICE}.d").mkdir(exist_ok=True)
        (tmp_path / names.NOTIFY_DROP_IN).write_text(made(tmp_path / "etc")[names.NOTIFY_DROP_IN].text or "")
        command = ["systemd-analyze", "verify", "--man=no", str(service)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [line for line in (done.stdout + done.stderr).splitlines() if "notify" in line]
        assert [line for line in said if "running as unit" not in line] == []


def test_it_is_nobodys_agent() -> None:
    """Nor may the group rota stop it, as it may agents."""
    assert names.agent_of(names.NOTIFY_SERVICE) is None
    text = (ROOT / "share/50-rota.rules").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"/(\^rota-.*?\$)/\.test\(unit\)", text)
    assert not re.search(pattern, names.NOTIFY_SERVICE)


@given(st.lists(st.text("abc*?-", min_size=1, max_size=5), max_size=3), st.sampled_from("abc"))
def test_rules_arrive_as_they_were_declared(agents: list[str], channel: str) -> None:
    route = Route(channels=(channel,), agents=tuple(agents))
    settings = Settings.model_validate(
        {"channels": {channel: {"url": "/u"}}, "routes": [route.model_dump(exclude_unset=True)]}
    )
    declared = Declaration("x", Agent(command=("x",), notify=Notify(channels=(channel,))), "/x.toml")
    told = from_json(json.dumps(rules(settings, [declared])))
    assert told.routes[1].agents == tuple(agents)
    assert told.routes[0].agents == ("x",)
    assert (told.routes[1].name, told.routes[1].group) == (told.routes[1].name, 30_000_000)


WRONG = {
    '[channels.ops]\nurl = "slack://secret/token"': (
        "rota.toml: channels.ops.url: is the URL itself, which is a secret: write it into a file that only"
        ' root may read, and name that file; for example "/etc/rota/secrets/ops-url"'
    ),
    "[channels.ops]\n": "rota.toml: channels.ops.url: is required",
    '[channels.Ops]\nurl = "/x"': (
        "rota.toml: channels.Ops: must be a name: lower-case letters, digits and -, 63 characters at most"
    ),
    '[channels.ops]\nurl = "/x"\n[[routes]]\nchannels = ["op"]': (
        'rota.toml: routes[0].channels: "op": unknown channel; did you mean ops?'
    ),
    '[[routes]]\nchannels = ["pager"]': (
        'rota.toml: routes[0].channels: "pager": unknown channel; declare [channels.pager] in rota.toml'
    ),
    '[channels.ops]\nurl = "/x"\n[[routes]]\nchannels = ["ops"]\nquiet = ["22-7"]': (
        'rota.toml: routes[0].quiet[0]: "22-7": not a time of day; write for example "22:30-07:00"'
    ),
    '[channels.ops]\nurl = "/x"\n[[routes]]\nchannels = ["ops"]\nseverity = "fatal"': (
        'rota.toml: routes[0].severity: "fatal": must be one of info, warning, critical'
    ),
    '[channels.ops]\nurl = "/x"\nrate = { messages = 0, per = "1h" }': (
        'rota.toml: channels.ops.rate.messages: "0": must be at least 1'
    ),
    '[channels.ops]\nurl = "/x"\n[[routes]]\nchannels = []': (
        "rota.toml: routes[0].channels: must name one at least"
    ),
    '[channels.ops]\nurl = "/x"\n[[routes]]\nchannels = ["ops"]\nchannel = "ops"': (
        "rota.toml: routes[0].channel: unknown key; did you mean channels?"
    ),
}


@pytest.mark.parametrize(("written", "said"), WRONG.items(), ids=range(len(WRONG)))
def test_mistakes(tmp_path: Path, written: str, said: str) -> None:
    (tmp_path / "rota.toml").write_text(f"{written}\n", encoding="utf-8")
    found = list(map(str, load(tmp_path).problems))
    assert found == [said]
    assert "secret/token" not in "".join(found)
