"""Markers by directory, the order of the kinds of test, and a plain account at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes says more of the machine than of the code
settings.register_profile("rota", deadline=None)
settings.load_profile("rota")

TESTS = Path(__file__).parent
KINDS = ("unit", "nix", "bus", "machine", "vm")
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
_deselected: Counter[str] = Counter()


def kind_of(path: Path) -> str:
    """Return which kind of test a file holds, by its directory."""
    top = path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else "unit"
    return top if top in KINDS else "unit"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its directory, and run the cheap ones first."""
    for item in items:
        kind = kind_of(item.path)
        if kind != "unit":
            item.add_marker(kind)
    items.sort(key=lambda item: KINDS.index(kind_of(item.path)))


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember what was left out, for the account."""
    _deselected.update(kind_of(item.path) for item in items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say in plain words what ran, what did not, and why: after all that pytest says."""
    yield
    counts = {kind: Counter[str]() for kind in KINDS}
    reasons: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for outcome in OUTCOMES:
        for report in terminalreporter.getreports(outcome):
            kind = kind_of(TESTS.parent / report.nodeid.partition("::")[0])
            counts[kind][outcome] += 1
            if outcome == "skipped":
                # a skip's longrepr is (file, line, "Skipped: why")
                why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                reasons[kind][why.removeprefix("Skipped: ")] += 1
    terminalreporter.section("what was run")
    for kind in KINDS:
        did = ", ".join(f"{number} {outcome}" for outcome, number in counts[kind].items())
        left_out = f"{_deselected[kind]} not asked for" if _deselected[kind] else ""
        text = ", ".join(part for part in (did, left_out) if part) or "none"
        terminalreporter.write_line(f"{kind} tests: {text}")
        for why, number in reasons[kind].items():
            terminalreporter.write_line(f"  {number} skipped: {why}")
