"""docs/nixos.md from the NixOS module's options, as nixpkgs's lib.optionAttrSetToDocList describes them.

usage: nixos.py OPTIONS.json      print the page
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_HEAD = """\
<!-- Made by `make docs` from nix/; do not edit. -->

# NixOS options

What `nixosModules.default` declares. An agent's keys are those of its TOML declaration
([reference.md](reference.md)) in camelCase; `path` takes packages as well.
"""
_ROLE = re.compile(r"\{[a-z]+\}(?=`)")


def _literal(value: Mapping[str, Any] | None) -> str:
    return str(value["text"]).rstrip() if value is not None else ""


def _value(label: str, value: Mapping[str, Any] | None) -> str:
    text = _literal(value)
    if not text:
        return ""
    return f"{label}:\n\n```nix\n{text}\n```" if "\n" in text else f"{label}: `{text}`"


def _shown(option: Mapping[str, Any]) -> bool:
    return bool(option["visible"]) and not option["internal"] and "_module" not in option["loc"]


def page(options: Iterable[Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        options: items with loc, name, description, type, visible, internal and, where there are any,
            default and example.
    """
    parts = [_HEAD]
    for option in sorted(filter(_shown, options), key=lambda item: [str(part) for part in item["loc"]]):
        about = [
            f"Type: {option['type']}",
            _value("Default", option.get("default")),
            _value("Example", option.get("example")),
        ]
        parts.append(f"## `{option['name']}`\n")
        parts.append(_ROLE.sub("", str(option["description"])).strip() + "\n")
        parts.append("\n\n".join(line for line in about if line) + "\n")
    return "\n".join(parts)


def main(argv: Sequence[str]) -> int:
    """Print the page of the options in a file."""
    sys.stdout.write(page(json.loads(Path(argv[1]).read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
