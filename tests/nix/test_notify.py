"""services.rota.settings.channels and .routes: the service is wanted where there is a channel only."""

from __future__ import annotations

from pathlib import Path

import pytest

from rota import names
from rota.generate import build
from rota.units import Context

from . import kit
from .test_module import RUN, agent, loaded

pytestmark = pytest.mark.nix

CHANNELS = """
settings.channels.ops = { url = "/run/secrets/ops-url"; rate.messages = 5; };
settings.routes = [ { channels = [ "ops" ]; on = [ "failure" ]; quiet = [ "22:30-07:00" ]; } ];
"""


def test_a_channel(tmp_path: Path) -> None:
    (found,) = kit.configurations(agent(f'{RUN} notify.channels = [ "ops" ];', more=CHANNELS))
    assert found["assertions"] == []
    assert found["systemd"]["services"]["rotad-notify"] == {"wantedBy": ["multi-user.target"]}
    assert found["users"]["users"]["rota-notify"]["isSystemUser"] is True
    files = build(loaded(tmp_path, found["declarations"]), Context(nixos=True))
    text = files[names.NOTIFY_DROP_IN].text or ""
    assert "LoadCredential=channel.ops:/run/secrets/ops-url\n" in text
    assert '"rate":[5,3600000000]' in text
    assert '"quiet":["22:30-07:00"]' in text
    assert '"agents":["a"]' in text


def test_none() -> None:
    (found,) = kit.configurations(agent(RUN))
    assert "rotad-notify" not in found["systemd"]["services"]


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('settings.channels.ops.url = "json://secret";', "channels.ops.url"),
        (f'{CHANNELS} settings.channels.ops.expiry = "2";', "channels.ops.expiry"),
        ('settings.routes = [ { channels = [ "ops" ]; on = [ "fail" ]; } ];', "routes"),
        ("settings.routes = [ { channels = [ ]; } ];", "routes"),
        ('settings.routes = [ { channels = [ "ops" ]; quiet = [ "22-7" ]; } ];', "routes"),
    ],
)
def test_wrong_ones_are_refused_before_anything_is_built(more: str, key: str) -> None:
    with pytest.raises(kit.NixError) as failed:
        kit.configurations(agent(RUN, more=more))
    assert f"services.rota.settings.{key}" in str(failed.value)


def test_an_unknown_channel_is_named_by_its_option(tmp_path: Path) -> None:
    text = f'{RUN} notify.channels = [ "op" ];'
    (found,) = kit.configurations(agent(text, more=CHANNELS))
    (problem,) = loaded(tmp_path, found["declarations"]).problems
    assert str(problem) == 'services.rota.agents.a.notify.channels: "op": unknown channel; did you mean ops?'
    (found,) = kit.configurations(agent(f'{RUN} notify.channels = [ "x" ];'))
    (problem,) = loaded(tmp_path, found["declarations"]).problems
    assert problem.message == "unknown channel; declare services.rota.settings.channels.x"
