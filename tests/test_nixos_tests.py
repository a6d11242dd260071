"""The scripts of nixos-tests/ as the NixOS test driver reads them: whole, typed, each with its machine."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "nixos-tests"
SHARED = FOLDER / "house.py"
NAMES = sorted(path.stem for path in FOLDER.glob("*.nix") if path.stem != "default")

# What the driver gives to scripts (in nixpkgs: nixos/lib/test-script-prepend.py, test-driver), as far as ours
# use it; and `toplevel`, which switch.nix puts before its script.
DRIVER = '''
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Machine(Protocol):
    """The driver's handle of a virtual machine."""

    def crash(self) -> None: ...
    def execute(self, command: str, timeout: int | None = 900) -> tuple[int, str]: ...
    def fail(self, *commands: str, timeout: int | None = None) -> str: ...
    def sleep(self, secs: int) -> None: ...
    def start(self) -> None: ...
    def succeed(self, *commands: str, timeout: int | None = None) -> str: ...
    def wait_for_open_port(self, port: int) -> None: ...
    def wait_for_unit(self, unit: str) -> None: ...
    def wait_until_fails(self, command: str, timeout: int = 900) -> str: ...
    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str: ...


machine: Machine
retry: Callable[[Callable[[bool], object], int], None]
start_all: Callable[[], None]
subtest: Callable[[str], AbstractContextManager[None]]
toplevel: str
'''


def test_every_script_has_its_machine_and_every_machine_its_script() -> None:
    assert NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted((*NAMES, SHARED.stem))


def test_every_test_is_run() -> None:
    listed = (FOLDER / "default.nix").read_text(encoding="utf-8")
    assert re.findall(r'^ +"([a-z-]+)"$', listed, re.MULTILINE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_runs_its_own_script(name: str) -> None:
    text = (FOLDER / f"{name}.nix").read_text(encoding="utf-8")
    assert re.findall(r"builtins\.readFile \./(\S+?);?\s", text) == [SHARED.name, f"{name}.py"]
    assert ("toplevel = " in text) == ("toplevel" in (FOLDER / f"{name}.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_machine_and_script_begin_with_the_same_promise(name: str) -> None:
    promise = (FOLDER / f"{name}.nix").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert (FOLDER / f"{name}.py").read_text(encoding="utf-8").startswith(f'"""{promise}"""\n')


def test_scripts_are_typed(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    for name in NAMES:
        parts = [DRIVER, *(path.read_text(encoding="utf-8") for path in (SHARED, FOLDER / f"{name}.py"))]
        (tmp_path / f"{name}_script.py").write_text("".join(parts), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"]
    done = subprocess.run(
        [*command, *(f"{name}_script.py" for name in NAMES)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stdout + done.stderr
