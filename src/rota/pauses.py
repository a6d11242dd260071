"""Paused is a file: it holds without rotad, across reboots, and systemd itself looks at it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def directory(state: Path) -> Path:
    """Return where the files are, below rota's state directory; units name the same place."""
    return state / "paused"


def pause(state: Path, agent: str, *, by: str, at: int, why: str) -> None:
    """Pause an agent; `at` is microseconds since 1970.

    Raises:
        OSError: the file cannot be written.
    """
    folder = directory(state)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # whatever the umask: everyone may see what is paused
    new = folder / f".{agent}"
    new.write_text(json.dumps({"by": by, "at": at, "why": why}) + "\n", encoding="utf-8")
    new.chmod(0o644)
    new.rename(folder / agent)


def resume(state: Path, agent: str) -> bool:
    """Let an agent start again; tell whether it was paused."""
    try:
        (directory(state) / agent).unlink()
    except FileNotFoundError:
        return False
    return True


def paused(state: Path, agent: str) -> Mapping[str, Any] | None:
    """Return who paused an agent, when and why, {} for a file made by hand, None if it is not paused."""
    try:
        found = json.loads((directory(state) / agent).read_text(encoding="utf-8"))
    except (FileNotFoundError, PermissionError):
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def all_paused(state: Path) -> frozenset[str]:
    """Return the names of all agents that are paused."""
    try:
        found = [path.name for path in directory(state).iterdir()]
    except (FileNotFoundError, PermissionError):
        return frozenset()
    return frozenset(name for name in found if not name.startswith("."))
