"""Prometheus's own programs: those on PATH, or those that tests/machine/setup.sh has put into .cache."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CACHED = ROOT / ".cache/prometheus/usr/bin"


def program(name: str) -> str:
    """Return the path of promtool or prometheus, or skip the test that asks with the reason."""
    found = shutil.which(name) or shutil.which(name, path=str(CACHED))
    if found is None:
        pytest.skip(f"no {name} on PATH or in .cache (run tests/machine/setup.sh)")
    return found


def promtool(*arguments: str, text: str = "", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    command = [program("promtool"), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=cwd)
