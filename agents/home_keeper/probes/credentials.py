"""Secrets, as systemd hands them over (systemd.exec(5), LoadCredential=)."""

from __future__ import annotations

import os
from pathlib import Path

from . import Unavailable


def of(file: str) -> str:
    """Return from where a credential is, as an end of a sentence; "" if that is not known."""
    return f"; it is what {file} held when the keeper was started" if file else ""


def secret(name: str, file: str = "") -> str:
    """Return the text of a credential.

    Args:
        name: its name.
        file: where it is from, as it was declared; systemd hands over a blank line if there is no such file.

    Raises:
        Unavailable: it is not there, or no text.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise Unavailable(f"the credential {name} was not handed over")
    try:
        text = Path(folder, name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"the credential {name} cannot be read: {error}{of(file)}") from None
    if not text.strip():
        told = f": {file} was empty, or not there; write it, and systemctl restart rota-home-keeper"
        raise Unavailable(f"the credential {name} is empty{told if file else ''}")
    return text


def line(name: str, file: str = "") -> str:
    """Return the only line of a credential; `name` and `file` as for `secret`.

    Raises:
        Unavailable: as `secret`, or it has several.
    """
    text = secret(name, file).strip()
    if "\n" in text or "\r" in text:
        raise Unavailable(f"the credential {name} is not one line{of(file)}")
    return text
