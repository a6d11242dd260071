"""What the code promises about itself: tiers, imports, sizes, what rotad has in memory at rest."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rota

ROOT = Path(__file__).parent.parent
SOURCE = Path(rota.__file__).parent
MODULES = sorted(path.stem for path in SOURCE.glob("*.py") if path.stem != "__init__")

DOCS = (ROOT / "docs/architecture.md").read_text()
NAMES = re.compile(r"`(\w+)`")


def rows(after: str) -> list[tuple[str, list[str]]]:
    """Return a table of docs/architecture.md: the first cell of each row, and the names in the second."""
    table = DOCS.partition(f"\n| {after} |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    return [(first.strip(), NAMES.findall(second)) for first, second in cells]


ROW = {module: int(row) for row, modules in rows("row") for module in modules}
# By their names in Python, which are not those of their packages.
THIRD_PARTY = {
    {"dbus-next": "dbus_next", "prometheus-client": "prometheus_client", "systemd-python": "systemd"}.get(
        package, package
    ): set(modules)
    for package, modules in rows("package")
} | {"rota_agents": {"load"}}
ONE_PLACE = {
    "sqlite3": {"database"},
    "subprocess": {"analyze"},
    "ctypes": {"generate"},
    "tomllib": {"load"},
}


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse((SOURCE / f"{module}.py").read_text())


def imports(module: str) -> Iterator[str]:
    """Yield what a module imports anywhere in it, as dotted names."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            if node.module == "rota":
                yield from (f"rota.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


@functools.cache
def tops(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(module)}


def users_of(library: str) -> set[str]:
    return {module for module in MODULES if library in tops(module)}


def test_every_module_is_in_the_table() -> None:
    assert sorted(ROW) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_rows_above_its_own(module: str) -> None:
    ours = {name.split(".")[1] for name in imports(module) if name.startswith("rota.")} - {"__version__"}
    assert {name for name in ours if ROW[name] >= ROW[module]} == set()


def test_libraries_stay_where_they_belong() -> None:
    ours = {"rota"}
    foreign = set().union(*map(tops, MODULES)) - set(sys.stdlib_module_names) - ours
    assert foreign == set(THIRD_PARTY)
    for library, allowed in (THIRD_PARTY | ONE_PLACE).items():
        assert users_of(library) == allowed, library


def test_only_rota_logs_turns_into_another_program() -> None:
    callers = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr.startswith(("exec", "spawn", "system", "popen", "fork"))
    }
    assert callers <= {"cli_agents"}


def test_the_present_is_asked_for_in_one_place() -> None:
    asks = re.compile(r"time\.time_ns\(\) // 1000\b|def _now\(|time\.time\(")
    found = {module for module in MODULES if asks.search((SOURCE / f"{module}.py").read_text())}
    assert found == {"clock"}


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return set(done.stdout.split())


def test_rotad_at_rest_is_small() -> None:
    loaded = loaded_by("import rota.daemon")
    assert "rota.daemon" in loaded
    unwanted = {"pydantic", "pydantic_core", "croniter", "rich", "tomllib", "rota.model", "difflib"}
    unwanted |= {"prometheus_client", "http", "http.server", "rota.metrics"}
    assert not loaded & unwanted
    assert "rota.store" in loaded, "what it needs at once is there"


def test_what_tells_people_has_no_apprise_in_memory_and_no_pydantic() -> None:
    loaded = loaded_by("import rota.notifier")
    assert "rota.outbox" in loaded, "what it needs at once is there"
    assert not loaded & {"apprise", "requests", "pydantic", "rota.model", "rich"}


def test_the_keeper_has_only_what_it_needs_in_memory() -> None:
    loaded = loaded_by("import rota_agents.home_keeper.keeper")
    assert "rota_agents.home_keeper.core" in loaded, "what it needs at once is there"
    unwanted = {"pydantic", "rota.model", "rich", "apprise", "prometheus_client", "tomllib", "difflib"}
    assert not loaded & (unwanted | {"asyncpg", "dns", "pynvml"})


def test_the_command_line_is_small_before_its_verb_is_known() -> None:
    loaded = loaded_by("import rota.cli\nrota.cli.parser()")
    assert {name for name in loaded if name.startswith("rota")} == {
        "rota",
        "rota.cli",
        "rota.errors",
        "rota.names",
    }
    assert not loaded & {"pydantic", "dbus_next", "rich", "asyncio", "sqlite3", "systemd"}


@pytest.mark.parametrize("folder", ["src/rota", "agents", "docs", "share"])
def test_no_file_is_long(folder: str) -> None:
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in (".py", ".sh"):
            assert len(path.read_text().splitlines()) <= 500, path


def test_what_is_shared_is_installed() -> None:
    """share/install.sh refuses files that it knows no place for, before it installs anything."""
    script = (ROOT / "share/install.sh").read_text()
    function = script[script.index("fail()") : script.index("\n}\n", script.index("destination()")) + 3]
    files = [str(path.relative_to(ROOT / "share")) for path in (ROOT / "share").rglob("*") if path.is_file()]
    known = [name for name in files if not name.endswith("~")]
    assert "rotad.service" in known
    places = "PREFIX=/p dbus_policy=/d polkit_rules=/r polkit_actions=/a doc=/doc"
    code = f'{places}\n{function}\nfor file; do destination "$file" || exit; done'
    done = subprocess.run(["sh", "-euc", code, "sh", *known], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = [place for place in done.stdout.split() if place != "-"]
    assert len(found) == len(set(found)) > 10
