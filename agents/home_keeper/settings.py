"""What was declared, as systemd hands it to the keeper."""

from __future__ import annotations

from pathlib import Path

from rota.errors import Exit, RotaError
from rota.keeper_config import Config, from_json


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
