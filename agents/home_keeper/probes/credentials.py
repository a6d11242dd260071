"""Secrets, as systemd hands them over (systemd.exec(5), LoadCredential=)."""

from __future__ import annotations

import os
from pathlib import Path

from . import Unavailable


def secret(name: str) -> str:
    """Return the text of a credential.

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


def line(name: str) -> str:
    """Return the only line of a credential.

    Raises:
        Unavailable: as `secret`, or it has several.
    """
    text = secret(name).strip()
    if "\n" in text or "\r" in text:
        raise Unavailable(f"the credential {name} is not one line")
    return text
