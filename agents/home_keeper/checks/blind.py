"""The finding that a check cannot look: the same, whichever it is."""

from __future__ import annotations

from typing import Any

from ..words import Finding, Target
from .words import clip

_LONGEST = 250


def blind(check: str, since: int, why: str, severity: str = "warning", **details: Any) -> Finding:
    """Return it.

    Args:
        check: the check's name.
        since: since when it cannot look, microseconds since 1970.
        why: a clause for people; of one that is too long, the beginning.
        severity: how bad that is.
        details: what else is known.
    """
    why = clip(why, _LONGEST)
    text = f"check {check} cannot look: {why}"
    return Finding(Target("check", check), "blind", severity, since, text, {"why": why, **details})
