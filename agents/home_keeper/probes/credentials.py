"""Secrets of several lines, as systemd hands them over; those of one line: `services.credential`."""

from __future__ import annotations

import os
from pathlib import Path

from . import Unavailable


def secret(name: str) -> str:
    """Return the text of a credential (systemd.exec(5), LoadCredential=).

    Raises:
        Unavailable: it is not there, or no text.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise Unavailable(f"the credential {name} was not handed over")
    try:
        text = Path(folder, name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"the credential {name} cannot be read: {error}") from None
    if not text.strip():
        raise Unavailable(f"the credential {name} is empty")
    return text
