"""Where metrics may be served: on this machine, and no mistake opens them to others or deletes a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.listen import EXAMPLE, check
from rota.load import load

GOOD = (EXAMPLE, "127.255.0.1:65535", "127.0.0.1:1", "[::1]:7682", "/run/rota/metrics.sock", "/m.sock")
BAD = {
    "7682": 'a port alone would be open to the network; write "127.0.0.1:7682"',
    "0.0.0.0:7682": f'on this machine only; write "{EXAMPLE}"',
    "192.168.1.7:7682": f'on this machine only; write "{EXAMPLE}"',
    "[::]:7682": f'on this machine only; write "{EXAMPLE}"',
    "[::ffff:127.0.0.1]:7682": f'on this machine only; write "{EXAMPLE}"',
    "[fe80::1%lo]:7682": f'on this machine only; write "{EXAMPLE}"',
    "*:7682": '"*" is not an IP address',
    "localhost:7682": 'systemd takes no names of hosts; write "127.0.0.1:7682"',
    "::1:7682": 'write "[::1]:7682"',
    "[127.0.0.1]:7682": 'write "127.0.0.1:7682"',
    "127.0.0.1": "neither address and port nor an absolute path",
    "127.0.0.1:0": "has no port from 1 to 65535",
    "127.0.0.1:65536": "has no port from 1 to 65535",
    "127.0.0.1:http": "has no port from 1 to 65535",
    "": "neither address and port nor an absolute path",
    "run/metrics.sock": "neither address and port nor an absolute path",
    "@rota:1": '"@rota" is not an IP address',
    "/etc/passwd": "must be an absolute path that ends in .sock",
    "/run/../etc/x.sock": "must be an absolute path that ends in .sock",
    "/run/a b.sock": "must be an absolute path that ends in .sock",
    "/run/%t.sock": "must be an absolute path that ends in .sock",
    "/run/x.sock\n": "must be an absolute path that ends in .sock",
    f"/{'x' * 103}.sock": "is longer than 107 bytes",
}


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    check(text)


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(BAD[text])):
        check(text)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_no_address_of_others(address: object, port: int) -> None:
    text = f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
    try:
        check(text)
    except ValueError:
        accepted = False
    else:
        accepted = True
    assert accepted == (str(address) == "::1" or str(address).startswith("127."))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('listen = ["0.0.0.0:1"]', 'rota.toml: metrics.listen[0]: "0.0.0.0:1": metrics are served on this'),
        ('listen = ["127.0.0.1:1", "127.0.0.1:1"]', "rota.toml: metrics.listen: names an address twice"),
        (
            'listen = "127.0.0.1:1"',
            'rota.toml: metrics.listen: "127.0.0.1:1": must be a list; write ["127.0.0.1:1"]',
        ),
        ("port = 1", "rota.toml: metrics.port: unknown key"),
    ],
)
def test_mistakes_in_settings(tmp_path: Path, written: str, said: str) -> None:
    (tmp_path / "rota.toml").write_text(f"[metrics]\n{written}\n", encoding="utf-8")
    assert any(str(problem).startswith(said) for problem in load(tmp_path).problems), load(tmp_path).problems
