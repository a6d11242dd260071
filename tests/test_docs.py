"""Pages, man pages and completions are what the code says; examples are what rota accepts."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rota import cli, names
from rota.load import load

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "share/examples"
BASH = ROOT / "share/completions/rota.bash"
MAN_PAGES = ("rota.1", "rotad.8", "rotad-metrics.8", "rotad-notify.8", "rota-docker-proxy.8")


def verbs() -> dict[str, argparse.ArgumentParser]:
    parser = cli.parser()
    found = next(item for item in parser._actions if isinstance(item, argparse._SubParsersAction))
    return dict(found.choices)


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}


def plain(page: str) -> str:
    """Return a man page's text without what only roff reads."""
    text = (ROOT / "share/man" / page).read_text(encoding="utf-8")
    return re.sub(r"\\f[BIR]", "", text).replace("\\-", "-").replace("\\(aq", "'")


def complete(*words: str, home: Path) -> list[str]:
    """Return what bash offers for the last of these words."""
    script = (
        f'source "{BASH}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_shtab_rota; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *words],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
    )
    assert not done.stderr
    return sorted(done.stdout.split())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    units = tmp_path / ".config/systemd/user"
    units.mkdir(parents=True)
    agents = ("rota-web.service", "rota-web.timer", "rota-weekly-audit.service")
    none = (
        "rota-home-keeper.service",
        "rota-docker-proxy.service",
        "rota-command@x.service",
        "other.service",
    )
    for name in (*agents, *none):
        (units / name).touch()
    return tmp_path


def test_generated_files_are_current() -> None:
    if importlib.util.find_spec("shtab") is None:
        pytest.skip("shtab is not installed: completions cannot be made")
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    if done.stderr:
        pytest.skip(done.stderr.strip())


@pytest.mark.parametrize("page", MAN_PAGES)
def test_man_pages_render_without_a_warning(page: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-ww", "-z", "-Tutf8", str(ROOT / "share/man" / page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_man_page_has_its_sections_and_is_ascii() -> None:
    text = plain("rota.1")
    sections = re.findall(r'^\.SH "(.*)"$', text, re.MULTILINE)
    assert sections[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "VERBS"]
    assert not {"OPTIONS", "DECLARATIONS", "FILES", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES"} - set(sections)
    assert sections[-1] == "SEE ALSO"
    assert text.isascii()


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_verb_and_option_is_in_the_man_page_and_the_reference(verb: str) -> None:
    pages = (plain("rota.1"), (ROOT / "docs/reference.md").read_text(encoding="utf-8"))
    for text in pages:
        assert re.search(rf"\brota {verb}\b", text)
        for option in options(verbs()[verb]):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), option


@pytest.mark.parametrize(
    "page",
    [
        *("docs/reference.md", "docs/dbus.md", "docs/metrics.md", "docs/notify.md"),
        *(f"share/man/{name}" for name in MAN_PAGES),
    ],
)
def test_pages_name_no_place_of_the_machine_they_were_made_on(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert sys.prefix not in text


def test_every_field_of_an_agent_on_d_bus_is_described() -> None:
    trees = [
        ast.parse((ROOT / f"src/rota/{name}.py").read_text(encoding="utf-8")) for name in ("answers", "acts")
    ]
    found = {
        key.value
        for method in (node for tree in trees for node in ast.walk(tree))
        if isinstance(method, ast.AsyncFunctionDef) and method.name in ("_describe", "get_agent")
        for node in ast.walk(method)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    }
    text = (ROOT / "docs/dbus.md").read_text(encoding="utf-8")
    described = text.partition("## An agent\n")[2].partition("\n## ")[0]
    assert found == set(re.findall(r"^\| `(\w+)` \|", described, re.MULTILINE))


def imports(path: Path) -> set[str]:
    """Return the modules of rota that one of them imports, at any time."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "rota":
            found |= {f"rota.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("rota.") for name in found if name.startswith("rota.")}


def test_modules_import_as_the_architecture_says() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    row_of = {
        module: int(row)
        for row, modules in re.findall(r"^\| (\d+) \| (.*?) \|", text, re.MULTILINE)
        for module in re.findall(r"`(\w+)`", modules)
    }
    sources = {path.stem: path for path in (ROOT / "src/rota").glob("*.py") if path.stem != "__init__"}
    assert set(row_of) == set(sources)
    for module, path in sources.items():
        below = {name for name in imports(path) & set(sources) if row_of[name] >= row_of[module]}
        assert not below, f"{module} imports {below}"


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("apprise", "apprise"),
        ("pydantic", "pydantic"),
        ("dbus-next", "dbus_next"),
        ("prometheus-client", "prometheus_client"),
        ("systemd-python", "systemd"),
        ("rich", "rich"),
    ],
)
def test_packages_are_imported_where_the_architecture_says(package: str, module: str) -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| {package} \| (.*) \|$", text, re.MULTILINE)
    assert row
    users = set()
    for path in (ROOT / "src/rota").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        if re.search(rf"^\s*(?:from|import) {module}\b", source, re.MULTILINE):
            users.add(path.stem)
    assert users == set(re.findall(r"`(\w+)`", row[1]))


def test_bash_accepts_the_completion() -> None:
    assert subprocess.run(["bash", "-n", str(BASH)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("written", "offered"),
    [
        ("rota ru", "run runs"),
        ("rota --config /etc/rota ru", "run runs"),
        ("rota logs --fo", "--follow"),
        ("rota schema ", "agent config settings"),
        ("rota --user run we", "web weekly-audit"),
        ("rota runs --user wee", "weekly-audit"),
        ("rota pause --user --why maintenance web", "web"),
    ],
)
def test_bash_completes(written: str, offered: str, home: Path) -> None:
    assert complete(*written.split(" "), home=home) == offered.split()


@pytest.mark.parametrize("verb", ["run", "stop", "pause", "resume", "show", "logs", "runs"])
def test_bash_completes_names_of_agents(verb: str, home: Path) -> None:
    assert complete("rota", "--user", verb, "", home=home) == ["web", "weekly-audit"]


@pytest.mark.parametrize("shell", ["rota.bash", "_rota", "rota.fish"])
@pytest.mark.parametrize("verb", sorted(verbs()))
def test_completions_know_every_verb(shell: str, verb: str) -> None:
    text = (ROOT / "share/completions" / shell).read_text(encoding="utf-8")
    assert re.search(rf"\b{verb}\b", text)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of all examples: rota.toml, and the agents beside it."""
    (tmp_path / "agents.d").mkdir()
    for path in EXAMPLES.glob("*.toml"):
        shutil.copy(path, tmp_path if path.name == "rota.toml" else tmp_path / "agents.d")
    return tmp_path


def test_examples_are_right(config: Path) -> None:
    loaded = load(config)
    assert not loaded.problems
    agents = {path.stem for path in EXAMPLES.glob("*.toml")} - {"rota"}
    assert {item.name for item in loaded.declarations} == agents | set(loaded.settings.bundled)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_examples_begin_with_what_they_are_for(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert path.stem == "rota" or re.fullmatch(names.AGENT_NAME, path.stem)


def test_declarations_in_the_reference_are_right(tmp_path: Path) -> None:
    text = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    written = re.findall(r"```toml\n# /etc/rota/(\S+)\n(.*?)```", text, re.DOTALL)
    assert {name for name, _ in written} >= {"rota.toml"}
    for name, declaration in written:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(declaration, encoding="utf-8")
    assert not load(tmp_path).problems
