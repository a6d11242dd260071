"""Every Nix file of the repository: its syntax, and its format."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.machine.rootfs import CHECKOUT
from tests.nix import kit

FILES = [*sorted(CHECKOUT.glob("*.nix")), *kit.FILES]


def named(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_it_parses(path: Path) -> None:
    assert kit.parse(path) == ""


def test_nixfmt_has_nothing_to_change() -> None:
    if kit.nixfmt() is None:
        pytest.skip("nixfmt is not installed (`nix develop` has it); only blanks were checked")
    done = subprocess.run(["nixfmt", "--check", *FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=named)
def test_blanks(path: Path) -> None:
    text = path.read_text()
    assert text.endswith("\n") and not text.endswith("\n\n")
    for number, line in enumerate(text.splitlines(), 1):
        assert not re.search(r"\t|\s$", line), f"line {number}"
        assert re.match(r"(?:  )*(?! )", line), f"line {number}: odd indentation"
