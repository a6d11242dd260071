"""The socket that settings make: only where it is wanted, no agent's; systemd takes it and its service."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rota import names
from rota.generate import Files, build, compare, is_ours, verify, write_directory, write_files
from rota.load import load
from rota.units import Context, UnitFile

from .cases import configuration

ROOT = Path(__file__).parent.parent
LINK = f"sockets.target.wants/{names.METRICS_SOCKET}"
AGENT = {"a": 'command = ["/bin/true"]'}
ADDRESSES = ("127.0.0.1:7682", "[::1]:7682", "/run/rota/m_1+2@x.sock")


def made(folder: Path, *addresses: str, nixos: bool = False) -> Files:
    etc = folder if folder.exists() and any(folder.iterdir()) else configuration(folder, AGENT)
    (etc / "rota.toml").write_text(f"[metrics]\nlisten = {list(addresses)}\n", encoding="utf-8")
    loaded = load(etc)
    assert loaded.problems == ()
    return build(loaded, Context(nixos=nixos))


def test_no_socket_by_default(tmp_path: Path) -> None:
    files = build(load(configuration(tmp_path, AGENT)), Context())
    assert not {name for name in files if "metrics" in name}
    assert made(tmp_path) == files


def test_the_socket(tmp_path: Path) -> None:
    files = made(tmp_path, *ADDRESSES)
    text = files[names.METRICS_SOCKET].text or ""
    assert re.findall(r"^ListenStream=(.*)$", text, re.M) == list(ADDRESSES)
    assert {"IPAddressAllow=localhost", "IPAddressDeny=any", "WantedBy=sockets.target"} < set(
        text.splitlines()
    )
    assert files[LINK] == UnitFile(LINK, target=f"../{names.METRICS_SOCKET}")
    assert LINK not in made(tmp_path, *ADDRESSES, nixos=True)
    assert names.METRICS_SOCKET in made(tmp_path, *ADDRESSES, nixos=True)


def test_systemd_takes_socket_and_service(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    write_files([made(tmp_path, *ADDRESSES)[names.METRICS_SOCKET]], tmp_path)
    service = (ROOT / "share" / names.METRICS_SERVICE).read_text(encoding="utf-8")
    (tmp_path / names.METRICS_SERVICE).write_text(service.replace("@bindir@/rotad-metrics", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / names.METRICS_SOCKET)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if "rotad-metrics" in line] == []


def test_nothing_is_said_of_a_service_that_is_not_there_yet(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    files = made(tmp_path, *ADDRESSES)
    verdict = verify(load(tmp_path), files)
    assert not [one for one in (*verdict.problems, *verdict.warnings) if "metrics" in str(one)]


def test_it_comes_and_goes_with_the_settings(tmp_path: Path) -> None:
    units = tmp_path / "units"
    on, off = made(tmp_path / "etc", *ADDRESSES), made(tmp_path / "etc")
    write_directory(off, units)
    assert compare(on, units).added == [names.METRICS_SOCKET, LINK]
    write_directory(on, units)
    assert compare(on, units).empty
    assert is_ours(units / LINK)
    assert compare(made(tmp_path / "etc", ADDRESSES[0]), units).changed == [names.METRICS_SOCKET]
    assert compare(off, units).removed == [names.METRICS_SOCKET, LINK]
    (units / names.METRICS_SOCKET).write_text("[Socket]\n", encoding="utf-8")
    assert compare(on, units).foreign == (names.METRICS_SOCKET,)


def test_it_is_nobodys_agent() -> None:
    """Neither to rota, nor to polkit's rules, which let the group rota manage units of agents."""
    units = (names.METRICS_SERVICE, names.METRICS_SOCKET)
    assert [names.agent_of(unit) for unit in units] == [None, None]
    rules = (ROOT / "share/50-rota.rules").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"/(\^rota-.*?\$)/\.test\(unit\)", rules)
    assert re.search(pattern, "rota-metrics.service"), "an agent may be called so"
    assert not any(re.search(pattern, unit) for unit in units)


def test_its_sandbox_is_rotads() -> None:
    """Nothing that rotad may not, but for reading the journal and keeping state, which it may not either."""

    def keys(name: str) -> set[str]:
        text = (ROOT / "share" / name).read_text(encoding="utf-8")
        return {line for line in text.splitlines() if re.match(r"[A-Z]\w+=", line)}

    own = (
        "ExecStart",
        "User",
        "Group",
        "UMask",
        "Type",
        "Restart",
        "Watchdog",
        "StartLimit",
        "Description",
        "LogRate",
    )
    elsewhere = ("Documentation", "After", "StateDirectory", "SupplementaryGroups", "WantedBy")
    wanted = {line for line in keys("rotad.service") if not line.startswith((*own, *elsewhere))}
    assert wanted < keys(names.METRICS_SERVICE)
    assert not [line for line in keys(names.METRICS_SERVICE) if line.startswith(elsewhere[2:])]
