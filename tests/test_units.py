"""Units: what comes of each case in tests/cases, what the schema promises, and that systemd agrees."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rota import analyze, definitions, model, names
from rota.generate import Files, build, verify, write_files
from rota.load import load
from rota.sandbox import quote
from rota.units import WEIGHTS, Context, UnitFile, quote_argument

from .cases import (
    CASES,
    Case,
    configuration,
    load_case,
    read_case,
    read_command,
    read_environment,
    read_unit,
    read_words,
)

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
WORDS = {
    "settings",
    "user",
    "assert-service-key",
    "assert-timer-key",
    "assert-no-timer",
    "assert-arguments",
    "assert-environment",
    "assert-description",
    "assert-error",
    "assert-missing-program",
}
UNAVAILABLE = "not available in this version of rota; remove it"


def text_of(files: Files, name: str) -> str:
    text = files[name].text
    assert text is not None
    return text


def check_keys(case: Case, word: str, unit: dict[str, dict[str, list[str]]]) -> None:
    for section, key, *values in case.words(word):
        assert unit[section].get(key, []) == values, f"[{section}] {key}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, tmp_path: Path) -> None:
    case, name = read_case(path), path.stem
    assert {word for word, _ in case.expectations} <= WORDS
    loaded, files = load_case(case, tmp_path / "etc")
    expected = sorted((key, message) for key, message in case.words("assert-error"))
    assert sorted((problem.key, problem.message) for problem in loaded.problems) == expected
    if expected:
        return
    service = read_unit(text_of(files, names.service_of(name)))
    check_keys(case, "assert-service-key", service)
    for arguments in case.all("assert-arguments"):
        assert read_command(service["Service"]["ExecStart"][0]) == json.loads(arguments)
    for environment in case.all("assert-environment"):
        assert read_environment(service) == json.loads(environment)
    for (description,) in case.words("assert-description"):
        assert service["X-Rota"]["Schedule"] == [description]
    assert list(service) == ["Unit", "Service", "X-Rota"]
    assert service["Service"]["ExecStart"] == service["Service"]["ExecStart"][:1]
    assert service["Unit"]["SourcePath"] == [str(tmp_path / "etc/agents.d" / path.name)]
    definition = definitions.parse(text_of(files, names.service_of(name)))
    assert definition is not None
    assert (definition.name, definition.declaration) == (name, written(loaded.declarations[0].agent))
    timer = files.get(names.timer_of(name))
    assert (timer is None) == case.has("assert-no-timer")
    if timer is not None:
        read = read_unit(timer.text or "")
        assert list(read) == ["Unit", "Timer"]
        check_keys(case, "assert-timer-key", read)
        assert f"Wants={timer.name}\n" in text_of(files, names.TARGET)


def written(agent: BaseModel) -> dict[str, Any]:
    return agent.model_dump(mode="json", exclude_unset=True)


def keys_of(record: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield every key of the schema with whether it is available; not those inside one that is not."""
    for name, info in record.model_fields.items():
        extra = info.json_schema_extra
        later = isinstance(extra, dict) and extra.get("x-available") is False
        yield f"{prefix}{name}", not later
        for inner in () if later else records_in(info.annotation):
            yield from keys_of(inner, f"{prefix}{name}.")


def records_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from records_in(argument)


def keys_in(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        yield f"{prefix}{key}"
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from keys_in(item, f"{prefix}{key}.")


def test_every_key_of_the_schema_has_a_case() -> None:
    used: set[str] = set()
    refused: set[str] = set()
    for case in map(read_case, CASES):
        refused |= {key for key, message in case.words("assert-error") if message == UNAVAILABLE}
        if not case.has("assert-error"):
            used |= set(keys_in(tomllib.loads(case.path.read_text())))
    schema = dict(keys_of(model.Agent))
    assert len(schema) > 40, "the schema was not found"
    assert {key for key, available in schema.items() if available} - used == set()
    assert {key for key, available in schema.items() if not available} == refused


@needs_systemd
@pytest.mark.parametrize("anywhere", [False, True])
def test_systemd_reads_every_case_without_a_word(tmp_path: Path, anywhere: bool) -> None:
    units: Files = {}
    missing = set()
    for case in map(read_case, CASES):
        _, files = load_case(case, tmp_path / case.path.stem)
        units |= files
        missing |= {f"{case.path.stem}.service"} if case.has("assert-missing-program") else set()
    folder = tmp_path / "units"
    folder.mkdir()
    write_files(units.values(), folder)
    printed = analyze.verify([folder / name for name in units if "/" not in name], anywhere=anywhere)
    complaints = [line for line in printed if "is not executable" not in line]
    assert complaints == []
    # systemd's own reading of the path, $ and all
    assert [re.sub(r".*: (Command .*) is not.*", r"\1", line) for line in printed] == [
        "Command /opt/pri$e/run"
    ]
    assert missing == {"dollar-program.service"}


@needs_systemd
@pytest.mark.parametrize("anywhere", [False, True])
def test_systemd_is_asked_about_what_rota_does_not_know(tmp_path: Path, anywhere: bool) -> None:
    unit = tmp_path / "rota-a.service"
    unit.write_text("[Service]\nDynamicUser=yes\nExecStart=/bin/true\nNoSuchKey=1\nNice=lots\n")
    printed = "\n".join(analyze.verify([unit], anywhere=anywhere))
    assert ":4: Unknown key" in printed
    assert ":5: Failed to parse nice" in printed
    assert "DynamicUser" not in printed


def systemd_reads(folder: Path, lines: list[str]) -> str:
    """Return what systemd prints about wrong lines of a service, which it quotes as it has read them."""
    unit = folder / "rota-echo.service"
    unit.write_text("\n".join(["[Service]", "ExecStart=/bin/true", *lines, ""]), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        check=False,
        env={
            "LC_ALL": "C.UTF-8",
            "SYSTEMD_COLORS": "0",
            "SYSTEMD_LOG_LEVEL": "warning",
            "PATH": "/usr/bin:/bin",
        },
    )
    return done.stderr.decode("utf-8", "surrogateescape")


ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0="), min_size=1, max_size=30
)
NASTY_TEXT = st.text(st.sampled_from("\"'\\%$;#\n\t\r x0n-{}[]é\x01\x7f\x1b:@"), min_size=1, max_size=12)


@needs_systemd
def test_systemd_undoes_our_quoting(tmp_path: Path) -> None:
    """A word without = is no assignment, which systemd says, with the word as it has read it."""
    words: list[str] = ["", " ", "\\", '"', "'", "%", "%%", "a\\", "\\x41", "a\nb", "$HOME", ";"]

    @settings(max_examples=300, database=None, derandomize=True)
    @given(st.one_of(ANY_TEXT, NASTY_TEXT))
    def collect(word: str) -> None:
        assert read_words(quote_argument(word)) == [word]
        assert read_command(f"x {quote_argument(word, variables=True)}") == ["x", word]
        words.append(word)

    collect()
    printed = systemd_reads(tmp_path, [f"Environment={quote_argument(word)}" for word in words])
    told = f"{tmp_path}/rota-echo.service:%d: Invalid environment assignment, ignoring: %s\n"
    expected = "".join(told % (number, word) for number, word in enumerate(words, 3))
    # systemd prints a line for each line, and no empty ones
    assert re.split(r"[\r\n]+", printed) == re.split(r"[\r\n]+", expected)


@needs_systemd
def test_systemd_undoes_our_quoting_of_paths(tmp_path: Path) -> None:
    """A path that is not absolute is refused, with the path as systemd has read it."""
    paths = ["a b", 'q"u', "it's", r"back\slash", "100%n", "co:lon", "ünï", "\\\"'", "tab\tbed"]
    for key in ("ReadWritePaths", "BindPaths", "BindReadOnlyPaths"):
        printed = systemd_reads(tmp_path, [f"{key}={quote(path)}" for path in paths])
        told = [line.rpartition("ignoring: ")[2] for line in printed.splitlines()]
        assert told == paths, key


@needs_systemd
def test_the_default_agent_is_closed_well(tmp_path: Path) -> None:
    loaded = load(configuration(tmp_path / "etc", {"a": 'command = ["/bin/true"]'}))
    files = build(loaded, Context())
    (tmp_path / "rota-a.service").write_text(text_of(files, "rota-a.service"))
    found = analyze.exposure(tmp_path / "rota-a.service")
    assert found.score <= 1.5
    assert list(found.costs) == sorted(found.costs, key=lambda row: (-row[1], row[0]))


@needs_systemd
def test_what_systemd_does_not_know_is_reported_at_its_key(tmp_path: Path) -> None:
    wrong = 'command = ["/bin/true"]\nsandbox.unit = { NoSuchKey = 1, Nice = "lots" }\n'
    absent = 'command = ["/nonexistent/program"]\n'
    loaded = load(configuration(tmp_path, {"wrong": wrong, "absent": absent}))
    verdict = verify(loaded, build(loaded, Context()))
    assert {(problem.file, problem.key) for problem in verdict.problems} == {
        ("agents.d/wrong.toml", "sandbox.unit.NoSuchKey"),
        ("agents.d/wrong.toml", ""),
    }
    assert [(problem.file, problem.key) for problem in verdict.warnings] == [
        ("agents.d/absent.toml", "command")
    ]
    assert "/nonexistent/program" in verdict.warnings[0].message


def test_what_belongs_to_all(tmp_path: Path) -> None:
    loaded = load(configuration(tmp_path / "e%tc", {"a": 'command = ["/bin/true"]'}))
    files = build(loaded, Context())
    for priority, weight in WEIGHTS.items():
        unit = read_unit(text_of(files, f"rota-{priority}.slice"))
        assert unit["Slice"] == {"CPUWeight": [str(weight)], "IOWeight": [str(weight)]}
    assert list(WEIGHTS) == list(typing.get_args(model.Priority)), "in the schema's order"
    assert sorted(WEIGHTS.values(), reverse=True) == list(WEIGHTS.values())
    link = f"timers.target.wants/{names.TARGET}"
    assert files[link] == UnitFile(link, target=f"../{names.TARGET}")
    assert read_unit(text_of(files, names.TARGET))["Install"] == {"WantedBy": ["timers.target"]}
    for file in files.values():
        if file.text is not None:
            assert file.text.startswith(names.MARKER)
            read_unit(file.text)
    assert read_unit(text_of(files, "rota-a.service"))["Unit"]["SourcePath"] == [
        str(tmp_path / "e%%tc/agents.d/a.toml")
    ]


def test_bundled_agents_run_by_the_program_of_this_machine(tmp_path: Path) -> None:
    agents = {"a": 'command = ["rota-agent", "disk-report"]', "b": 'command = ["/bin/rota-agent"]'}
    files = build(load(configuration(tmp_path, agents)), Context(rota_agent="/opt/my rota/rota-agent"))
    started = {
        name: read_unit(text_of(files, f"rota-{name}.service"))["Service"]["ExecStart"] for name in "ab"
    }
    assert started == {"a": ['"/opt/my rota/rota-agent" disk-report'], "b": ["/bin/rota-agent"]}
