"""[keeper.containers]: what is declared, what it comes to, and what is said of mistakes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from rota.container_watches import PROXY, Containers, Engine
from rota.container_watching import ContainerWatch, resolve
from rota.frozen import from_plain, to_plain
from rota.quantity import USEC


def resolved(**declared: Any) -> Containers:
    found = resolve(ContainerWatch.model_validate(declared))
    assert from_plain(Containers, json.loads(json.dumps(to_plain(found)))) == found
    return found


def test_defaults() -> None:
    assert resolved() == Containers(), "both modules say the same"
    assert resolved(sockets=[PROXY]).engines == (Engine("", PROXY),)
    assert resolved(watch=False).engines == ()
    assert resolved(sockets=[]).engines == ()


def test_everything() -> None:
    found = resolved(
        sockets=[PROXY, "/run/podman/podman.sock", "media=/run/user/1000/podman/podman.sock"],
        ignore=["tmp-*", "podman/x"],
        running=["web"],
        restarts=3,
        within="1min",
        recent="1h",
        patience="5s",
    )
    assert found == Containers(
        engines=(
            Engine("", PROXY),
            Engine("podman", "/run/podman/podman.sock"),
            Engine("media", "/run/user/1000/podman/podman.sock"),
        ),
        ignore=("tmp-*", "podman/x"),
        running=("web",),
        restarts=3,
        within=60 * USEC,
        recent=3600 * USEC,
        patience=5 * USEC,
    )
    assert [(engine.check, engine.prefix) for engine in found.engines] == [
        ("containers", ""),
        ("containers-podman", "podman/"),
        ("containers-media", "media/"),
    ]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"sockets": ["docker.sock"]}, "must be the absolute path of a socket"),
        ({"sockets": ["/run/"]}, "must be the absolute path of a socket"),
        ({"sockets": ["Podman=/run/p.sock"]}, "must be the absolute path of a socket"),
        (
            {"sockets": ["/run/docker.sock"]},
            f"is Docker's own, which the keeper may not open; write \"{PROXY}\", rota-docker-proxy's",
        ),
        ({"sockets": ["web=/var/run/docker.sock"]}, f'write "web={PROXY}", rota-docker-proxy'),
        (
            {"sockets": ["/a.sock", "/x/p.sock", "/y/p.sock"]},
            'there is a "p" already; write "NAME=/y/p.sock"',
        ),
        ({"sockets": ["/a.sock", "/x/P.sock"]}, '"P" is no name for an engine; write "NAME=/x/P.sock"'),
        ({"ignore": ["container:web"]}, 'without "container:"; write "web"'),
        ({"running": ["a b"]}, "no container's name or pattern"),
        ({"restarts": 1}, "greater than or equal to 2"),
        ({"within": "0s"}, "a second or more"),
        ({"recent": "infinity"}, "have an end"),
        ({"docker": "docker.sock"}, "absolute"),
        ({"socket": PROXY}, "Extra inputs"),
    ],
)
def test_mistakes_are_told(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as found:
        ContainerWatch.model_validate(declared)
    assert said in str(found.value)


def test_an_engine_behind_a_proxy_that_nobody_asks() -> None:
    with pytest.raises(ValidationError, match="docker: nobody asks through rota-docker-proxy; write"):
        resolved(docker="/srv/docker.sock")
    assert resolved(docker="/srv/docker.sock", sockets=[PROXY]).engines == (Engine("", PROXY),)
