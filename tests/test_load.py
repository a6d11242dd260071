"""Configurations: every mistake at once with file and key, both forms, bundled agents, odd files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import rota_agents

from rota.errors import DeclarationError, Exit, Problem, RotaError
from rota.load import Loaded, load
from rota.model import Agent

from .cases import configuration

TRUE = 'command = ["/bin/true"]\n'
NAME_RULE = "an agent's name is lower-case letters, digits and -, 63 characters at most"


def found(loaded: Loaded) -> list[str]:
    return sorted(map(str, loaded.problems))


def loaded_json(folder: Path, content: object) -> Loaded:
    path = folder / "rota.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load(path)


def test_every_problem_at_once(tmp_path: Path) -> None:
    agents = {
        "weekly-audit": TRUE + 'retrys = 3\nschedule = { cron = "0 9 * * MUN" }\n',
        "good": TRUE,
        "broken": "command = [",
        "nothing": "",
    }
    loaded = load(configuration(tmp_path, agents, "runers = {}\n"))
    assert found(loaded) == [
        "agents.d/broken.toml: not valid TOML: Invalid value (at end of document)",
        'agents.d/nothing.toml: says nothing to run; write command = ["/path/to/program"] or prompt = "…"',
        "agents.d/weekly-audit.toml: retrys: unknown key; did you mean retries?",
        'agents.d/weekly-audit.toml: schedule.cron: "0 9 * * MUN": '
        "unknown day name MUN; did you mean MON or SUN?",
        "rota.toml: runers: unknown key; did you mean runners or routes?",
    ]
    assert [item.name for item in loaded.declarations] == ["good"]
    error = DeclarationError(loaded.problems, loaded.declared)
    assert error.exit_code == Exit.USAGE
    assert int(error.exit_code) == 2
    assert error.message == "5 errors in 4 of 5 declarations; nothing was changed."
    assert [problem.file for problem in error.problems] == sorted(problem.file for problem in error.problems)


def test_the_summary_counts_as_people_do() -> None:
    one = [Problem("a.toml", "", "is wrong")]
    assert DeclarationError(one, 1).message == "1 error in 1 of 1 declaration; nothing was changed."
    assert DeclarationError(one * 2, 2).message == "1 error in 1 of 2 declarations; nothing was changed."
    two = [*one, Problem("a.toml", "key", "is wrong", "x")]
    assert DeclarationError(two, 2).message == "2 errors in 1 of 2 declarations; nothing was changed."
    assert [str(problem) for problem in two] == ["a.toml: is wrong", 'a.toml: key: "x": is wrong']


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    config = configuration(tmp_path, {"a": TRUE})
    folder = config / "agents.d"
    (folder / "latin.toml").write_bytes(b'description = "caf\xe9"\n')
    (folder / "folder.toml").mkdir()
    (folder / "dangling.toml").symlink_to("nowhere")
    (folder / "deep.toml").write_text("a = " + "[" * 5000)
    (folder / "huge.toml").write_text(TRUE + "timeout = 0x" + "f" * 5000 + "\ntags = [" + "9" * 5000 + "]\n")
    (folder / "notes.txt").write_text("not a declaration")
    loaded = load(config)
    told = dict(line.removeprefix("agents.d/").split(".toml: ", 1) for line in found(loaded))
    assert told.pop("huge").startswith("not valid TOML: Exceeds the limit")
    assert told == {
        "latin": "is not UTF-8 (byte 18)",
        "folder": "cannot be read: Is a directory",
        "dangling": "cannot be read: No such file or directory",
        "deep": "is nested too deeply",
    }
    assert loaded.declared == 6


def test_numbers_beyond_measure(tmp_path: Path) -> None:
    huge = "0x" + "f" * 5000
    text = f"""
timeout = {huge}
priority = {huge}
runner = {huge}
resources = {{ tasks = {huge} }}
schedule = [{{ cron = "@daily", jitter = {huge} }}, {{ cron = "@weekly", jitter = "1min" }}]
command = [{huge}]
enabled = {huge}
sandbox.unit = {{ Nice = nan }}
"""
    loaded = load(configuration(tmp_path, {"a": text}))
    assert len(found(loaded)) == 9
    assert max(map(len, found(loaded))) < 200


@pytest.mark.parametrize(
    "name", ["A", "a_b", "-a", "a" * 64, "a b", "ä", ".hidden", "a.b", "a@b", "x\x1b[31m"]
)
def test_bad_names(tmp_path: Path, name: str) -> None:
    (line,) = found(load(configuration(tmp_path, {name: TRUE})))
    shown = name.replace("\x1b", "\\x1b")
    assert line == f'agents.d/{shown}.toml: "{shown}": {NAME_RULE}'


def test_the_longest_name_and_the_reserved_ones(tmp_path: Path) -> None:
    named = ("a" * 63, "home-keeper", "docker-proxy", "0")
    loaded = load(configuration(tmp_path, dict.fromkeys(named, TRUE)))
    assert found(loaded) == [
        "agents.d/docker-proxy.toml: the name docker-proxy is rota-docker-proxy's, "
        "through which the Home Keeper asks Docker",
        "agents.d/home-keeper.toml: the name home-keeper is the Home Keeper's own, "
        "which [keeper] in rota.toml turns on",
    ]
    assert [len(item.name) for item in loaded.declarations] == [1, 63]


def test_a_disabled_agent_is_checked_but_not_made(tmp_path: Path) -> None:
    agents = {"off": TRUE + "enabled = false\n", "wrong": TRUE + "enabled = false\npriority = 'x'\n"}
    loaded = load(configuration(tmp_path, agents))
    assert loaded.declarations == ()
    assert [problem.key for problem in loaded.problems] == ["priority"]
    assert loaded.declared == 2


def test_what_is_shown_is_safe_to_show(tmp_path: Path) -> None:
    text = TRUE + '"a\\u001b[2J\\nb" = 1\npriority = "\\u001b[31mred"\ntags = ["x\\u202e"]\n'
    for line in found(load(configuration(tmp_path, {"a": text}))):
        assert line.isprintable()


def test_no_such_configuration(tmp_path: Path) -> None:
    with pytest.raises(RotaError) as caught:
        load(tmp_path / "nowhere")
    assert (caught.value.message, caught.value.exit_code) == (
        f"{tmp_path}/nowhere: no such file or directory",
        Exit.USAGE,
    )
    assert caught.value.hint


@pytest.mark.parametrize("name", ["a\n[Service]\nExecStart=x", "a\x7f", os.fsdecode(b"\xff")])
def test_a_configuration_whose_name_does_not_fit_into_a_unit(tmp_path: Path, name: str) -> None:
    with pytest.raises(RotaError) as caught:
        load(configuration(tmp_path / name, {"a": TRUE}))
    assert caught.value.exit_code == Exit.USAGE
    assert caught.value.message.isprintable()


def test_an_empty_configuration(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert (loaded.problems, loaded.declarations, loaded.declared) == ((), (), 0)


# Runners


def test_runners(tmp_path: Path) -> None:
    settings = """
[runners.no-place]
command = ["claude"]
[runners.as-program]
command = ["{prompt}"]
[runners.dash]
command = ["-claude", "{prompt}"]
[runners.empty]
command = []
[runners.none]
[runners.own]
command = ["claude", "{prompt}"]
environment = { ROTA_AGENT = "x" }
[runners.Capital]
command = ["claude", "{prompt}"]
"""
    program = "must be a program's absolute path without quotes or backslashes, or a name without /"
    place = "must contain {prompt} after the program, where the agent's prompt goes"
    assert found(load(configuration(tmp_path, {}, settings))) == sorted(
        [
            f"rota.toml: runners.no-place.command: {place}",
            f"rota.toml: runners.as-program.command: {place}",
            f'rota.toml: runners.as-program.command[0]: "{{prompt}}": {program}',
            f'rota.toml: runners.dash.command[0]: "-claude": {program}',
            "rota.toml: runners.empty.command: must not be empty",
            "rota.toml: runners.none.command: is required",
            "rota.toml: runners.own.environment.ROTA_AGENT: ROTA_ variables are set by rota",
            "rota.toml: runners.Capital: "
            "must be a name: lower-case letters, digits and -, 63 characters at most",
        ]
    )


@pytest.mark.parametrize(
    "settings", ["[runners.claude", "nonsense = 1\n[runners.claude]\ncommand = ['x', '{prompt}']"]
)
def test_wrong_settings_are_one_mistake_not_one_an_agent(tmp_path: Path, settings: str) -> None:
    agents = {name: f'prompt = "{name}"\nrunner = "claude"\n' for name in "abc"}
    loaded = load(configuration(tmp_path, agents, settings))
    assert [problem.file for problem in loaded.problems] == ["rota.toml"]
    assert loaded.declared == 4


# One JSON file, as Nix hands it over


def test_json_is_the_same_as_toml(tmp_path: Path) -> None:
    agent = {
        "prompt": "hi",
        "runner": "r",
        "schedule": {"every": "5min"},
        "sandbox": {"network": ["10.0.0.0/8"]},
    }
    settings = {"runners": {"r": {"command": ["x", "{prompt}"]}}}
    from_json = loaded_json(tmp_path, {**settings, "agents": {"a": agent, "b": {"command": ["x"]}}})
    toml = 'prompt="hi"\nrunner="r"\nschedule={every="5min"}\nsandbox={network=["10.0.0.0/8"]}\n'
    from_toml = load(
        configuration(
            tmp_path / "etc",
            {"a": toml, "b": 'command = ["x"]'},
            '[runners.r]\ncommand = ["x", "{prompt}"]\n',
        )
    )
    assert from_json.problems == from_toml.problems == ()
    assert [(item.name, item.agent) for item in from_json.declarations] == [
        (item.name, item.agent) for item in from_toml.declarations
    ]
    assert from_json.settings == from_toml.settings
    assert {item.source for item in from_json.declarations} == {str(tmp_path / "rota.json")}


A_NUMBER = 'agents.a.timeout: "5": has no unit; write for example "5s"'
A_RUNNER = '{ claude = { command = ["claude", "-p", "{prompt}"] } }'
NO_RUNNER = 'agents.a.runner: "r": unknown runner; declare [runners.r] in rota.json'
WRONG_JSON: list[tuple[Any, list[str]]] = [
    ("{", ["not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"]),
    ("[]", ["must be a table of keys"]),
    ("[" * 100_000, ["is nested too deeply"]),
    ({"agents": []}, ["agents: must be a table"]),
    ({"agents": {"a": 5}}, ["agents.a: must be a table"]),
    ({"agents": {"a": {"command": ["x"], "timeout": 5}}}, [A_NUMBER]),
    ({"agents": {"A": {"command": ["x"]}}}, [f'agents.A: "A": {NAME_RULE}']),
    ({"agents": {"a": {"prompt": "x", "runner": "r"}}}, [NO_RUNNER]),
    ({"bundled": ["disk-report"], "agents": {"disk-report": 5}}, ["agents.disk-report: must be a table"]),
    ({"bundled": "disk-report"}, ['bundled: must be a list; write ["disk-report"]']),
    ({"runners": {"r": 5}}, ['runners.r: "5": must be a table; write [runners.NAME] for each']),
    ({"runners": 5}, [f'runners: "5": must be a table; write for example {A_RUNNER}']),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), WRONG_JSON)
def test_wrong_json(tmp_path: Path, content: object, expected: list[str]) -> None:
    told = [line.removeprefix("rota.json: ") for line in found(loaded_json(tmp_path, content))]
    assert [line.replace('"disk-report": ', "") for line in told] == expected


@pytest.mark.parametrize("place", ['{"agents": {"a": {"command": ["\\ud800"]}}}', '{"\\uDC00": 1}'])
def test_half_a_character_is_no_text(tmp_path: Path, place: str) -> None:
    (line,) = found(loaded_json(tmp_path, place))
    assert line.startswith("rota.json: not valid JSON: ")
    assert "surrogates" in line
    assert line.isprintable()


def test_a_whole_character_in_two_halves_is_text(tmp_path: Path) -> None:
    (item,) = loaded_json(tmp_path, '{"agents": {"a": {"command": ["x", "\\ud83d\\ude00"]}}}').declarations
    assert item.agent.command == ("x", "😀")


def test_null_is_a_key_that_is_not_written(tmp_path: Path) -> None:
    agent = {"command": ["x"], "prompt": None, "when": None, "schedule": {"cron": "@daily", "every": None}}
    loaded = loaded_json(tmp_path, {"channels": None, "agents": {"a": agent}})
    assert loaded.problems == ()
    assert loaded.declarations[0].agent.model_dump(exclude_unset=True) == {
        "command": ("x",),
        "schedule": ({"cron": "@daily"},),
    }
    (line,) = found(loaded_json(tmp_path, {"agents": {"a": {"command": ["x", None]}}}))
    assert line == "rota.json: agents.a.command[1]: must be a string"


# Bundled agents


def test_a_bundled_agent_is_enabled_by_name(tmp_path: Path) -> None:
    loaded = load(configuration(tmp_path, {}, 'bundled = ["disk-report", "journal-digest"]'))
    assert loaded.problems == ()
    assert [item.name for item in loaded.declarations] == ["disk-report", "journal-digest"]
    assert [item.source for item in loaded.declarations] == [
        str(rota_agents.declaration(item.name)) for item in loaded.declarations
    ]
    assert loaded.declared == 3


def test_a_file_of_its_name_overrides_its_keys(tmp_path: Path) -> None:
    override = {"disk-report": 'schedule = { every = "3h" }\npriority = "high"\n'}
    config = configuration(tmp_path, override, 'bundled = ["disk-report"]')
    (item,) = load(config).declarations
    assert (item.agent.schedule[0].every, item.agent.priority) == ("3h", "high")
    assert item.agent.command is not None
    assert item.agent.command[0] == "rota-agent"
    assert item.source == str(config / "agents.d/disk-report.toml")
    assert item.agent != Agent(command=item.agent.command)


def test_a_mistake_in_an_override_is_found_in_its_file(tmp_path: Path) -> None:
    loaded = load(configuration(tmp_path, {"disk-report": "timeout = 5\n"}, 'bundled = ["disk-report"]'))
    assert found(loaded) == ['agents.d/disk-report.toml: timeout: "5": has no unit; write for example "5s"']


def test_without_its_name_enabled_an_override_stands_alone(tmp_path: Path) -> None:
    (line,) = found(load(configuration(tmp_path, {"disk-report": 'priority = "high"\n'})))
    assert "says nothing to run" in line


def test_json_overrides_bundled_agents_too(tmp_path: Path) -> None:
    loaded = loaded_json(
        tmp_path, {"bundled": ["disk-report"], "agents": {"disk-report": {"enabled": False}}}
    )
    assert (loaded.problems, loaded.declarations) == ((), ())


def test_no_such_bundled_agent(tmp_path: Path) -> None:
    loaded = load(configuration(tmp_path, {}, 'bundled = ["disk-repot", "qqq"]'))
    known = ", ".join(rota_agents.names())
    assert found(loaded) == [
        'rota.toml: bundled: "disk-repot": no such bundled agent; did you mean disk-report?',
        f'rota.toml: bundled: "qqq": no such bundled agent; there are {known}',
    ]
