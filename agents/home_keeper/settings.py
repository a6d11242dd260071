"""What was declared, as systemd hands it to the keeper: JSON without a person's words in it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from rota.errors import Exit, RotaError
from rota.frozen import from_plain
from rota.keeper_rules import Rules
from rota.watches import Watches


@dataclass(frozen=True, slots=True)
class Config:
    """All that the keeper goes by: its policy, and what it polls."""

    rules: Rules = field(default_factory=Rules)
    watches: Watches = field(default_factory=Watches)


def from_json(text: str) -> Config:
    """Return what is declared; what other parts than this one are declared is passed over.

    Raises:
        ValueError: it is of another version.
    """
    known = {field.name for field in dataclasses.fields(Config)}
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("config: must be an object")
    return from_plain(Config, {key: value for key, value in found.items() if key in known}, "config")


def read(path: Path) -> Config:
    """Return what is declared.

    Raises:
        RotaError: nothing, or it is of another version of rota.
    """
    absent = RotaError(
        "Home Keeper is not enabled", "Declare [keeper] in rota.toml, then run rota apply.", Exit.USAGE
    )
    try:
        config = from_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise absent from None
    except (ValueError, KeyError, TypeError) as error:
        raise RotaError(
            f"its configuration is of another version of rota: {error}", "Run rota apply."
        ) from None
    if not config.rules.enable:
        raise absent
    return config
