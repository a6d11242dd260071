"""Nix for tests: the one on PATH, or else the one in the test machines' file system, entered by chroot."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.machine.rootfs import CHECKOUT, ensure_rootfs, missing_tools

OLDEST = (2, 18)
"""Older ones can parse, but not evaluate today's lib."""

EXAMPLE = Path(__file__).with_name("example.json")
"""What `example` returned last, for tests of the booted machine: there need be no Nix for those."""

FILES = sorted(
    path for folder in ("nix", "nixos-tests", "tests/nix") for path in (CHECKOUT / folder).glob("*.nix")
)

# Places inside the chroot, on a tmpfs of its own
_SRC, _LIB, _WORK = "/mnt/src", "/mnt/lib", "/mnt/work"
_ENTER = f"""set -e
mount --rbind /proc "$1/proc"
mount -t tmpfs tmpfs "$1/mnt"
mount -t tmpfs tmpfs "$1/tmp"
mkdir "$1{_SRC}" "$1{_LIB}" "$1{_WORK}"
mount --bind -o ro "$2" "$1{_SRC}"
mount --bind -o ro "$3" "$1{_LIB}"
mount --bind -o ro "$4" "$1{_WORK}"
root=$1
shift 4
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Nix:
    """A Nix that can be run, and where it sees what it is given.

    Attributes:
        rootfs: the file system it is in; None for the host's own.
    """

    rootfs: Path | None

    def run(self, *arguments: str, lib: Path, work: Path) -> subprocess.CompletedProcess[str]:
        """Run nix-instantiate, without a store; `{src}`, `{lib}` and `{work}` become paths that it sees."""
        places = {"src": str(CHECKOUT), "lib": str(lib), "work": str(work)}
        enter: list[str] = []
        if self.rootfs is not None:
            enter = ["unshare", "--mount", "sh", "-c", _ENTER, "enter", str(self.rootfs)]
            enter += [str(CHECKOUT), str(lib), str(work)]
            places = {"src": _SRC, "lib": _LIB, "work": _WORK}
        words = [argument.format_map(places) for argument in arguments]
        return subprocess.run(
            [*enter, "nix-instantiate", *words],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": "/tmp", "NIX_REMOTE": "dummy://", "LC_ALL": "C.UTF-8"},
        )


def _version(command: Sequence[str]) -> tuple[int, ...]:
    try:
        told = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ()
    found = re.search(r"(\d+)\.(\d+)", told)
    return tuple(map(int, found.groups())) if found else ()


@functools.cache
def nix() -> Nix:
    """Return a Nix, or skip the test that asks with the reason."""
    if _version(["nix-instantiate"]) >= OLDEST:
        return Nix(None)
    missing = missing_tools("mmdebstrap", "unshare", "chroot")
    if os.geteuid() or missing:
        why = f"{', '.join(missing)} is missing" if missing else "not root, to use that of the test machines"
        pytest.skip(f"no Nix {'.'.join(map(str, OLDEST))} or newer on PATH, and {why}")
    return Nix(ensure_rootfs())


@functools.cache
def nixpkgs_lib() -> Path:
    """Return the directory of nixpkgs's lib, or skip the test that asks with the reason."""
    candidates = [os.environ.get("ROTA_NIXPKGS", "")]
    candidates += [
        entry.removeprefix("nixpkgs=") for entry in os.environ.get("NIX_PATH", "").split(":") if entry
    ]
    for candidate in candidates:
        if candidate and (Path(candidate) / "lib/modules.nix").is_file():
            return Path(candidate).resolve() / "lib"
    pytest.skip(
        "no nixpkgs to evaluate with: name a checkout of nixpkgs, or of nix-community/nixpkgs.lib, "
        "with ROTA_NIXPKGS=DIR or in NIX_PATH"
    )


@contextmanager
def _written(files: Mapping[str, str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rota-nix-") as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        yield Path(folder)


def evaluate(expression: str, **files: str) -> Any:
    """Return the value of a Nix expression, in which src, lib and work are bound.

    Args:
        expression: what to evaluate.
        files: texts of files below work, by name without dots.

    Raises:
        NixError: it has none; with what Nix says about it.
    """
    with _written({**files, "main.nix": f"{{ src, lib, work }}:\n{expression}\n"}) as work:
        done = nix().run(
            *("--eval", "--strict", "--json", "{work}/main.nix"),
            *("--arg", "src", "{src}", "--arg", "lib", "import {lib}", "--arg", "work", "{work}"),
            lib=nixpkgs_lib(),
            work=work,
        )
    if done.returncode:
        raise NixError(done.stderr)
    return json.loads(done.stdout)


class NixError(Exception):
    """What Nix says is wrong with an expression."""

    def __str__(self) -> str:
        return str(self.args[0])


def parse(path: Path) -> str:
    """Return what Nix says about the syntax of a file below the checkout, "" if it is right."""
    name = str(path.relative_to(CHECKOUT))
    with _written({}) as work:
        done = nix().run("--parse", f"{{src}}/{name}", lib=work, work=work)
    return done.stderr if done.returncode else ""


def configurations(*texts: str) -> list[dict[str, Any]]:
    """Return what NixOS configurations come to: modules as Nix text; see evaluate.nix."""
    listed = " ".join(f"({text})" for text in texts)
    found = evaluate(
        f'import (src + "/tests/nix/evaluate.nix") {{ inherit lib; configurations = [ {listed} ]; }}'
    )
    assert isinstance(found, list)
    return found


def options() -> list[dict[str, Any]]:
    """Return every option of the module as nixpkgs's lib describes it."""
    found = evaluate('import (src + "/tests/nix/options.nix") { inherit lib; }')
    assert isinstance(found, list)
    return found


def example() -> dict[str, Any]:
    """Return what the README's configuration comes to."""
    (found,) = configurations('import (src + "/nix/example.nix")')
    return found


def page(options_file: Path) -> str:
    """Return the page that docs/nixos.py makes of options in a file of JSON."""
    command = [sys.executable, str(CHECKOUT / "docs/nixos.py"), str(options_file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def nixfmt() -> str | None:
    """Return the formatter, where it is installed."""
    return shutil.which("nixfmt")
