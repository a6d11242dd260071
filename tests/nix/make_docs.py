"""Makes what comes of evaluating the NixOS module again: see `make docs`. It takes a Nix and a nixpkgs."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from _pytest.outcomes import Skipped

from tests.machine.rootfs import CHECKOUT
from tests.nix import kit


def made() -> dict[Path, str]:
    """Return the texts of the files, by path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "options.json")
        path.write_text(json.dumps(kit.options()))
        page = kit.page(path)
    return {
        CHECKOUT / "docs/nixos.md": page,
        kit.EXAMPLE: json.dumps(kit.example(), indent=2, ensure_ascii=False) + "\n",
    }


def main() -> int:
    """Write what is stale, and say what cannot be made."""
    try:
        texts = made()
    except Skipped as why:
        print(f"What is made by evaluating the NixOS module is left as it is: {why.msg}.", file=sys.stderr)
        return 0
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(CHECKOUT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
