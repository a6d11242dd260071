"""Random and broken declarations: a clear error or right units; never a traceback, never a line smuggled in.

ROTA_FUZZ=N multiplies the number of examples, and draws others each time; without it they stay the same.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from rota import analyze, definitions, names
from rota.errors import DeclarationError
from rota.generate import Files, build, write_files
from rota.load import Loaded, load
from rota.model import Declaration
from rota.sandbox import resource_keys, service_keys
from rota.schedule import describe
from rota.units import Context

from .cases import CASES, read_command, read_environment, read_unit

MANY = int(os.environ.get("ROTA_FUZZ", "1"))


def fuzz(examples: int) -> settings:
    return settings(
        max_examples=examples * MANY,
        database=None,
        derandomize=MANY == 1,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


# Declarations are drawn from a Random that hypothesis seeds: ten times faster than from its strategies, so
# that the thousands fit into a unit run. A failure names its seed and notes the declaration.

NASTY = "\"'\\%$;#[]{}= xn0é:-.@"
CONTROL = NASTY + "\n\t\r\x01\x1b\x7f\x85\u2028"
TOPS = ("/srv", "/home", "/root", "/run/user/1000", "/var/lib")
DURATIONS = ("1s", "5min", "1h 30min", "2.5h", "1M", "90 sec")
CRONS = ("@daily", "*/7 1-5 * * MON", "0 9 13 * FRI", "5 4 31 * *")
CALENDARS = ("daily", "Mon..Fri *-*-* 09:00:30 Europe/Rome", "*-*~1")
UNITS: tuple[dict[str, Any], ...] = (
    {},
    {"Nice": 5, "LimitNOFILE": 64},
    {"TimeoutStopSec": 5, "OOMScoreAdjust": 500},
    {"MemoryDenyWriteExecute": False},
    {"SystemCallFilter": ["@system-service", "~@mount"]},
    {"ProtectSystem": "full", "PrivateTmp": False},
    {"IPAddressDeny": "", "X-Mine": "anything % goes"},
)
RUNNERS = {
    "r": {"command": ["/bin/true", "-p", "{prompt}", "={prompt}%$"], "environment": {"runner_env": "%$\n"}}
}
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**70, 1.5, float("nan"), float("inf"), "", "x" * 5000, "\0",
    "a\\", "%n", "../..",
    "\n[Service]\nExecStart=/bin/evil", "x\nUser=root", "5\nmin", "\x1b[2J", "/srv/\x00", "é" * 300, "5min\n",
    [], {}, [[]], [{}], {"": 0}, {"a": {"b": []}}, [None], [1, "x", {}], {"\n[X]": "\n"}, {"Nice": {"x": 1}},
)  # fmt: skip
KEYS = (
    "schedule", "sandbox", "unit", "comand", "notify", "cron", "every", "\n[X]\n", "", "a.b", "x" * 300, "é",
    "jitter", "grace", "command", "timezone", "network",
)  # fmt: skip


class Maker:
    """Makes right declarations, and breaks them."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def text(self, alphabet: str = CONTROL, longest: int = 12) -> str:
        if self.random.random() < 0.1:
            return "".join(map(chr, self.random.choices(range(1, 0xD800), k=8)))
        return "".join(self.random.choices(alphabet, k=self.random.randint(0, longest)))

    def path(self) -> str:
        parts = [self.text(NASTY, 5).strip(". \\") for _ in range(self.random.randint(0, 3))]
        safe = ["".join(char for char in part if ord(char) > 31 and char not in "/\x7f") for part in parts]
        return "/".join([self.random.choice(TOPS), *filter(None, (part.strip(". \\") for part in safe))])

    def line(self) -> str:
        text = self.text(NASTY)
        return "".join(char for char in text if ord(char) > 31 and char != "\x7f").rstrip("\\")

    def some(self, make: Callable[[], Any], most: int = 2) -> list[Any]:
        return [make() for _ in range(self.random.randint(0, most))]

    def name(self) -> str:
        return self.random.choice("abcxyz_") + "".join(self.random.choices("abc019_", k=3))

    def duration(self) -> str:
        return self.random.choice(DURATIONS)

    def maybe(self, **choices: Callable[[], Any]) -> dict[str, Any]:
        return {key: make() for key, make in choices.items() if self.random.random() < 0.4}

    def schedule(self) -> dict[str, Any]:
        kind = self.random.choice(["cron", "every", "calendar", "once", "on_boot"])
        if kind == "cron":
            zones = ("Europe/Rome", "UTC", "America/Argentina/Ushuaia")
            return {"cron": self.random.choice(CRONS)} | self.maybe(
                timezone=lambda: self.random.choice(zones)
            )
        if kind == "every":
            return {"every": self.duration()} | self.maybe(after_boot=self.duration)
        if kind == "calendar":
            return {"calendar": self.random.choice(CALENDARS)}
        if kind == "once":
            return {"once": self.random.choice(["2099-01-31", "2099-01-31T09:00:00-05:00"])}
        return {"on_boot": self.random.choice([True, "5s"])}

    def sandbox(self) -> dict[str, Any]:
        networks = (True, False, ["10.0.0.0/8", "fd00::/8", "localhost"], ["192.0.2.1"])
        return self.maybe(
            network=lambda: self.random.choice(networks),
            writable=lambda: self.some(self.path),
            readable=lambda: self.some(self.path),
            devices=lambda: ["/dev" + self.path()],
            user=self.name,
            groups=lambda: self.some(self.name),
            unit=lambda: dict(self.random.choice(UNITS)),
        )

    def agent(self) -> dict[str, Any]:
        what: dict[str, Any] = {"command": ["/bin/true", *self.some(self.text, 3)]}
        if self.random.random() < 0.3:
            what = {"prompt": self.text(), "runner": "r"}
        return what | self.maybe(
            description=self.line,
            schedule=lambda: self.schedule() if self.random.random() < 0.5 else self.some(self.schedule),
            timeout=self.duration,
            priority=lambda: self.random.choice(["critical", "high", "medium", "low", "background"]),
            path=lambda: [re.sub(r"""[:'"\\]""", "_", path) for path in self.some(self.path)],
            tags=lambda: ["a", "b-c"],
            environment=lambda: {self.name(): self.text() for _ in range(2)},
            environment_files=lambda: self.some(self.path),
            credentials=lambda: {self.name(): self.path()},
            working_directory=self.path,
            sandbox=self.sandbox,
            resources=lambda: self.random.choice(
                [{"memory": "1.5G", "cpu": "50%", "tasks": 64}, {"memory": "10%"}]
            ),
        )

    def junk(self) -> Any:
        return self.text() if self.random.random() < 0.3 else copy.deepcopy(self.random.choice(JUNK))

    def broken(self) -> dict[str, Any]:
        agent = self.agent()
        for _ in range(self.random.randint(1, 3)):
            found = [*places(agent), (agent, "")]
            table, key = self.random.choice(found)
            what = self.random.choice(["replace", "replace", "delete", "add", "wrap"])
            if what == "add" or key == "":
                if isinstance(table, list):
                    table.append(self.junk())
                else:
                    table[self.random.choice(KEYS)] = self.junk()
            elif what == "replace":
                table[key] = self.junk()
            elif what == "wrap":
                table[key] = self.random.choice([[table[key]], {"x": table[key]}])
            else:
                del table[key]
        return agent


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every table or list in a value with a key in it."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


RANDOM = st.randoms(use_true_random=True)


def load_agents(folder: Path, agents: Any, **settings: Any) -> Loaded:
    config = folder / "rota.json"
    config.write_text(json.dumps({"runners": RUNNERS, "agents": agents, **settings}))
    return load(config)


def check_problems(loaded: Loaded) -> None:
    for problem in loaded.problems:
        line = str(problem)
        assert line.isprintable(), repr(line)
        assert line.startswith(f"{problem.file}: ")
        assert problem.message
        assert "Error" not in line
        assert "Input should" not in line, "not in pydantic's words"
    if loaded.problems:
        assert DeclarationError(loaded.problems, loaded.declared).message.endswith("nothing was changed.")


UNIT_KEYS = {"Description", "SourcePath", "ConditionPathExists", "StartLimitIntervalSec", "X-StopOnRemoval"}
SERVICE_KEYS = {
    "Type", "ExecStart", "Slice", "RuntimeMaxSec", "TimeoutStopSec", "KillMode", "IOAccounting",
    "StateDirectory",
    "StateDirectoryMode", "WorkingDirectory", "SyslogIdentifier", "LogExtraFields", "Environment",
    "X-RestartIfChanged",
}  # fmt: skip
TIMER_KEYS = {
    "OnCalendar", "OnUnitActiveSec", "OnBootSec", "OnStartupSec", "AccuracySec",
    "RandomizedDelaySec", "FixedRandomDelay", "Persistent",
}  # fmt: skip
LISTS = {"Environment", "EnvironmentFile", "LoadCredential"}


def check_units(loaded: Loaded, files: Files, *, user: bool) -> None:
    """Read units back: the keys are those of the declaration, and no text has become a key of its own."""
    for item in loaded.declarations:
        agent = item.agent
        text = files[names.service_of(item.name)].text or ""
        unit = read_unit(text)
        own = service_keys(agent.sandbox, user=user) | resource_keys(agent.resources)
        assert list(unit) == ["Unit", "Service", "X-Rota"]
        assert set(unit["Unit"]) - {"Wants", "After"} == UNIT_KEYS
        keys_of = {
            "LoadCredential": agent.credentials,
            "EnvironmentFile": agent.environment_files,
            "ExecSearchPath": agent.path,
        }
        named = {key for key, written in keys_of.items() if written}
        assert set(unit["Service"]) == SERVICE_KEYS | set(own) | named
        for key, values in unit["Service"].items():
            if key in own:
                assert values == list(own[key])
            else:
                assert len(values) == 1 or key in LISTS, key
        command = agent.command or tuple(
            word.replace("{prompt}", agent.prompt or "") for word in loaded.settings.runners["r"].command
        )
        assert read_command(unit["Service"]["ExecStart"][0]) == list(command)
        environment = read_environment(unit)
        assert agent.environment.items() <= environment.items()
        assert environment["ROTA_AGENT"] == item.name
        assert len(unit["Service"].get("LoadCredential", [])) == len(agent.credentials)
        definition = definitions.parse(text)
        assert definition is not None
        written = agent.model_dump(mode="json", exclude_unset=True)
        assert (definition.name, definition.declaration) == (item.name, written)
        timer = files.get(names.timer_of(item.name))
        assert (timer is not None) == bool(agent.schedule)
        if timer is not None:
            read = read_unit(timer.text or "")
            assert list(read) == ["Unit", "Timer"]
            assert set(read["Unit"]) == {"Description", "SourcePath"}
            assert set(read["Timer"]) <= TIMER_KEYS


def check(loaded: Loaded) -> None:
    check_problems(loaded)
    if not loaded.problems:
        for user in (False, True):
            check_units(loaded, build(loaded, Context(user=user)), user=user)


def test_right_declarations_become_right_units(tmp_path: Path) -> None:
    """And the real systemd has nothing to say about them: all of them in one call."""
    units: Files = {}

    @fuzz(30)
    @given(RANDOM)
    def collect(random: Random) -> None:
        agents = {f"a{len(units)}-{number}": Maker(random).agent() for number in range(4)}
        note(repr(agents))
        loaded = load_agents(tmp_path, agents)
        assert loaded.problems == ()
        assert len(loaded.declarations) == 4
        check(loaded)
        units.update(build(loaded, Context()))

    collect()
    assert len(units) > 120
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; units were only read back")
    folder = tmp_path / "units"
    folder.mkdir()
    write_files(units.values(), folder)
    assert analyze.verify([folder / name for name in units if "/" not in name]) == []


def test_broken_declarations_become_errors_or_units(tmp_path: Path) -> None:
    counts = {True: 0, False: 0}

    @fuzz(200)
    @given(RANDOM)
    def one(random: Random) -> None:
        agents = {name: Maker(random).broken() for name in "abcd"}
        note(repr(agents))
        loaded = load_agents(tmp_path, agents)
        check_problems(loaded)
        wrong = {problem.key.split(".")[1] for problem in loaded.problems}
        assert wrong == set(agents) - {item.name for item in loaded.declarations}
        counts[True] += len(wrong)
        counts[False] += len(loaded.declarations)
        right = dataclasses.replace(loaded, declarations=tuple(filter(speakable, loaded.declarations)))
        for user in (False, True):
            check_units(right, build(right, Context(user=user)), user=user)

    one()
    assert min(counts.values()) > 50 * MANY, "both happen"


def speakable(declaration: Declaration) -> bool:
    """Tell whether a schedule is one that systemd could accept as a calendar event."""
    return len(describe(declaration.agent.schedule).splitlines()) == 1


TOPS_OF_JSON = st.sampled_from(["agents", "runners", "bundled", "channels", "x"])
ANY_VALUE = st.sampled_from([*JUNK, {"disk-report": 1}, ["disk-report"]])


@fuzz(60)
@given(content=st.dictionaries(TOPS_OF_JSON, ANY_VALUE))
def test_any_json(tmp_path: Path, content: Any) -> None:
    config = tmp_path / "rota.json"
    config.write_text(json.dumps(content))
    check_problems(load(config))


CUT = st.tuples(st.integers(0, 4000), st.integers(0, 20), st.text(CONTROL, max_size=8))


@fuzz(80)
@given(
    source=st.sampled_from([path.read_text() for path in CASES]),
    cuts=st.lists(CUT, min_size=1, max_size=3),
)
def test_any_text(tmp_path: Path, source: str, cuts: list[tuple[int, int, str]]) -> None:
    """TOML with pieces of it replaced: the comments gone, so that it hits keys and values."""
    text = "\n".join(line for line in source.splitlines() if not line.startswith("#"))
    for at, length, new in cuts:
        start = at % (len(text) + 1)
        text = text[:start] + new + text[start + length :]
    folder = tmp_path / "agents.d"
    folder.mkdir(exist_ok=True)
    (folder / "a.toml").write_bytes(text.encode())
    loaded = load(tmp_path)
    check_problems(loaded)
    if not loaded.problems:
        assert isinstance(tomllib.loads(text), dict)
        files = build(loaded, Context())
        for file in files.values():
            read_unit(file.text or "\n")


@fuzz(40)
@given(content=st.binary(max_size=40))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "agents.d"
    folder.mkdir(exist_ok=True)
    (folder / "a.toml").write_bytes(content)
    (tmp_path / "rota.toml").write_bytes(content)
    loaded = load(tmp_path)
    assert loaded.problems
    check_problems(loaded)
