"""services.rota.settings.metrics: the socket is there when it is wanted, and open to nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rota.generate import build, context
from rota.load import load
from rota.names import METRICS_SOCKET
from tests.nix import kit
from tests.nix.test_module import RUN, agent

LISTEN = '[ "127.0.0.1:7682" "[::1]:7682" "/run/rota/metrics.sock" ]'


def test_the_socket_is_wanted_and_made(tmp_path: Path) -> None:
    (found,) = kit.configurations(agent(RUN, more=f"settings.metrics.listen = {LISTEN};"))
    assert found["assertions"] == []
    assert found["systemd"]["sockets"] == {"rotad-metrics": {"wantedBy": ["sockets.target"]}}
    path = tmp_path / "rota.json"
    path.write_text(json.dumps(found["declarations"]))
    read = load(path, nixos=True)
    assert read.problems == ()
    files = build(read, context(user=False, nixos=True))
    text = files[METRICS_SOCKET].text or ""
    assert text.startswith("# Made by rota from services.rota: edit that option")
    assert [line for line in text.splitlines() if line.startswith("ListenStream=")] == [
        *("ListenStream=127.0.0.1:7682", "ListenStream=[::1]:7682", "ListenStream=/run/rota/metrics.sock")
    ]
    assert not any("/" in name for name in files), "NixOS passes over links"


@pytest.mark.parametrize(
    "address", ["0.0.0.0:7682", "7682", "127.0.0.1", "localhost:7682", "[::]:7682", "/etc/passwd", "x.sock"]
)
def test_what_others_reach_is_refused_at_once(address: str) -> None:
    with pytest.raises(kit.NixError) as failed:
        kit.configurations(agent(RUN, more=f'settings.metrics.listen = [ "{address}" ];'))
    assert "services.rota.settings.metrics.listen" in str(failed.value)
    assert "is not of type `loopback address with a port such as" in str(failed.value)


def test_what_nix_cannot_tell_the_generator_refuses(tmp_path: Path) -> None:
    (found,) = kit.configurations(agent(RUN, more='settings.metrics.listen = [ "127.0.0.1:99999" ];'))
    path = tmp_path / "rota.json"
    path.write_text(json.dumps(found["declarations"]))
    (problem,) = load(path, nixos=True).problems
    assert str(problem).startswith('services.rota.settings.metrics.listen[0]: "127.0.0.1:99999": has no port')
