"""Makes docs/nixos.md again, where there is a Nix and a nixpkgs to do it with: see `make docs`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from _pytest.outcomes import Skipped

from tests.machine.rootfs import CHECKOUT
from tests.nix import kit


def main() -> int:
    page = CHECKOUT / "docs/nixos.md"
    try:
        options = kit.options()
    except Skipped as why:
        print(f"docs/nixos.md is left as it is: {why.msg}.", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "options.json")
        path.write_text(json.dumps(options))
        text = kit.page(path)
    if text != page.read_text():
        page.write_text(text)
        print("docs/nixos.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
