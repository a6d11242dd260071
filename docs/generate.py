"""Makes the reference pages, man pages and shell completions from the code; --check names stale ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keeper_pages
import notifying
import options
import pages
import proxying
import scraping

ROOT = Path(__file__).resolve().parent.parent
_PAGES: Mapping[str, Callable[[], str]] = {
    "docs/reference.md": pages.reference,
    "docs/dbus.md": pages.dbus,
    "docs/metrics.md": scraping.page,
    "docs/notify.md": notifying.page,
    "nix/home-keeper.json": options.table,
    "share/man/rota.1": pages.rota_1,
    "share/man/rotad.8": pages.rotad_8,
    "share/man/rotad-metrics.8": scraping.rotad_metrics_8,
    "share/man/rota-home-keeper.8": keeper_pages.rota_home_keeper_8,
    "share/man/rotad-notify.8": notifying.rotad_notify_8,
    "share/man/rota-docker-proxy.8": proxying.rota_docker_proxy_8,
}


def _completions() -> tuple[Mapping[str, Callable[[], str]], str]:
    """Return what makes the completions, or why they cannot be made."""
    try:
        import shtab  # noqa: PLC0415  (a developer's tool, which may be absent)
    except ImportError:
        return {}, "shtab is not installed"
    import completions  # noqa: PLC0415

    if not shtab.__version__.startswith(f"{completions.MADE_WITH}."):
        return {}, f"shtab is {shtab.__version__}, they are made with {completions.MADE_WITH}"
    folder = "share/completions"
    return {
        f"{folder}/rota.bash": completions.bash,
        f"{folder}/_rota": completions.zsh,
        f"{folder}/rota.fish": completions.fish,
    }, ""


def _stale(path: Path, text: str) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != text


def main(argv: Sequence[str] | None = None) -> int:
    """Write what is stale; with --check, name it and return 1."""
    parser = argparse.ArgumentParser(prog="docs/generate.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    arguments = parser.parse_args(argv)
    made, left_out = _completions()
    stale = {name: text for name, make in {**_PAGES, **made}.items() if _stale(ROOT / name, text := make())}
    for name, text in stale.items():
        if arguments.check:
            sys.stderr.write(f"{name} is not what the code says; run: make docs\n")
            continue
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}\n")
    if left_out:
        sys.stderr.write(f"Shell completions are left as they are: {left_out}.\n")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
