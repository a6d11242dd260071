"""From declarations to a directory of units: the same bytes, all or nothing, and the verbs that do it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rota import cli, names
from rota.errors import Exit, RotaError
from rota.generate import Files, Plan, build, compare, is_ours, program, write_directory
from rota.load import load
from rota.units import Context, UnitFile

from .cases import CASES, configuration, load_case, read_case

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)

TRUE = 'command = ["/bin/true"]\n'
DAILY = TRUE + "schedule = { cron = '@daily' }\n"
LINK = f"timers.target.wants/{names.TARGET}"
SHARED = {"rota.slice", names.TARGET, LINK} | {
    f"rota-{priority}.slice" for priority in ("critical", "high", "medium", "low", "background")
}


def made(folder: Path, agents: dict[str, str]) -> Files:
    shutil.rmtree(folder, ignore_errors=True)
    loaded = load(configuration(folder, agents))
    assert loaded.problems == ()
    return build(loaded, Context())


def tree(folder: Path) -> dict[str, str]:
    """Return everything below a directory: contents, and where symlinks point."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def on_a_terminal(arguments: list[str], file_size: int = -1, **environment: str) -> tuple[int, str]:
    """Return what rota exits with and writes to a terminal; files may not grow beyond a size."""
    child, terminal = pty.fork()
    if child == 0:
        code = 99
        try:
            os.environ.update(environment, TERM="xterm")
            if file_size >= 0:
                sys.dont_write_bytecode = True  # a module imported now would be cut off in its cache
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
            with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
                code = cli.main(arguments)
        finally:
            os._exit(code)
    output = b""
    with contextlib.suppress(OSError):  # EIO: nobody is left at the other end
        while chunk := os.read(terminal, 65536):
            output += chunk
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output.decode().replace("\r\n", "\n")


def file(name: str, text: str = f"{names.MARKER}\n") -> Files:
    return {name: UnitFile(name, text)}


# The same declarations, the same bytes


def test_the_same_bytes_whatever_the_order_of_keys(tmp_path: Path) -> None:
    agent = {
        "command": ["/bin/true"],
        "environment": {"B": "1", "A": "2"},
        "credentials": {"b": "/b", "a": "/a"},
        "sandbox": {"unit": {"Nice": 1, "LimitNOFILE": 2}, "network": True},
        "schedule": {"cron": "@daily", "timezone": "Europe/Rome"},
    }

    def backwards(table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        return {key: backwards(value) for key, value in reversed(table.items())}

    config = tmp_path / "rota.json"
    texts = []
    for agents in ({"a": agent, "b": agent}, {"b": backwards(agent), "a": backwards(agent)}):
        config.write_text(json.dumps({"agents": agents}))
        texts.append(list(build(load(config), Context()).items()))
    assert texts[0] == texts[1]


def test_the_same_bytes_from_another_process(tmp_path: Path) -> None:
    """Another hash seed is another order of sets."""
    case = read_case(next(path for path in CASES if path.stem == "everything"))
    load_case(case, tmp_path / "etc")
    code = (
        "import sys; from pathlib import Path; from rota import generate, load, units\n"
        "files = generate.build(load.load(Path(sys.argv[1])), units.Context())\n"
        "sys.stdout.buffer.write(repr(files).encode())"
    )
    config = tmp_path / "etc"
    done = subprocess.run(
        [sys.executable, "-c", code, str(config)],
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == repr(build(load(config), Context()))


# A directory of its own, all or nothing


def test_a_directory_is_made_and_replaced_as_a_whole(tmp_path: Path) -> None:
    output = tmp_path / "deep/down/units"
    two = made(tmp_path / "etc", {"a": DAILY, "b": TRUE})
    write_directory(two, output)
    assert set(tree(output)) == SHARED | {"rota-a.service", "rota-a.timer", "rota-b.service"}
    assert tree(output)[LINK] == f"../{names.TARGET}"
    assert (output / LINK).exists(), "the link leads somewhere"
    assert (output.stat().st_mode & 0o777, (output / "rota.slice").stat().st_mode & 0o777) == (0o755, 0o644)
    one = made(tmp_path / "etc", {"a": TRUE})
    write_directory(one, output)
    assert set(tree(output)) == SHARED | {"rota-a.service"}
    assert [path.name for path in output.parent.iterdir()] == ["units"]


def test_whoever_reads_the_directory_sees_the_old_or_the_new(tmp_path: Path) -> None:
    """Swapped, not refilled: who has the old directory open goes on reading the old units."""
    output = tmp_path / "units"
    write_directory(file("rota-old.service"), output)
    held = os.open(output, os.O_RDONLY)
    inode = output.stat().st_ino
    write_directory(file("rota-new.service"), output)
    assert output.stat().st_ino != inode
    assert os.listdir(output) == ["rota-new.service"]  # noqa: PTH208
    assert os.fstat(held).st_nlink == 0, "and the old one is gone"
    os.close(held)


def test_a_symlink_stays_one(tmp_path: Path) -> None:
    write_directory(file("rota-old.service"), tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    write_directory(file("rota-new.service"), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert list(tree(tmp_path / "real")) == ["rota-new.service"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


FOREIGN: list[tuple[str, Callable[[Path], object]]] = [
    ("notes.txt", lambda path: path.write_text("mine")),
    ("empty", lambda path: path.write_text("")),
    ("rota-x.service", lambda path: path.write_text("[Service]\nExecStart=/bin/true\n")),
    ("rota-y.service", lambda path: path.symlink_to("/etc/passwd")),
    (names.TARGET, lambda path: path.symlink_to("/etc/passwd")),
    ("pipe", os.mkfifo),
]


@pytest.mark.parametrize(("name", "make"), FOREIGN, ids=[name for name, _ in FOREIGN])
@pytest.mark.parametrize("below", ["", "folder"])
def test_what_rota_did_not_write_is_never_replaced(
    tmp_path: Path, name: str, make: Callable[[Path], object], below: str
) -> None:
    output = tmp_path / "units"
    (output / below).mkdir(parents=True)
    make(output / below / name)
    with pytest.raises(RotaError) as caught:
        write_directory(file("rota-a.service"), output)
    assert caught.value.exit_code == Exit.USAGE
    assert name in caught.value.message
    assert os.path.lexists(output / below / name)
    assert not is_ours(output / below / name)
    assert [path.name for path in tmp_path.iterdir()] == ["units"]


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "units").write_text("mine")
    with pytest.raises(RotaError, match="is not a directory"):
        write_directory(file("rota-a.service"), tmp_path / "units")
    with pytest.raises(RotaError, match="File exists"):
        write_directory(file("rota-a.service"), tmp_path / "units/below")
    assert (tmp_path / "units").read_text() == "mine"


def test_a_failure_half_way_changes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "units"
    write_directory(file("rota-old.service"), output)
    before = tree(output)
    unwritable = file("rota-a.service") | file(f"rota-{'x' * 300}.service")
    with pytest.raises(RotaError, match="File name too long"):
        write_directory(unwritable, output)
    assert tree(output) == before
    with pytest.raises(RotaError):
        write_directory(unwritable, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["units"]


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "units"
    write_directory(file("rota-old.service"), output)
    before = tree(output)
    config = configuration(tmp_path / "etc", {"a": TRUE})
    arguments = ["--config", str(config), "generate", "--output", str(output)]
    assert on_a_terminal(arguments, file_size=1000) == (1, f"rota: {output}: File too large\n")
    assert tree(output) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etc", "units"]


# What applying would change


def plan_of(files: Files, folder: Path) -> Plan:
    return compare(files, folder)


def test_plan(tmp_path: Path) -> None:
    units = tmp_path / "units"
    before = {"same": DAILY, "text": DAILY, "time": DAILY, "gone": DAILY, "lost": DAILY, "won": TRUE}
    files = made(tmp_path / "etc", before)
    assert compare(files, units).added == sorted(files), "there is no directory yet"
    write_directory(files, units)
    assert compare(files, units).empty
    after = {
        "same": DAILY,
        "text": DAILY + "description = 'Other words'\n",
        "time": DAILY.replace("@daily", "@hourly"),
        "lost": TRUE,
        "won": DAILY,
        "new": DAILY,
    }
    (units / "other.service").write_text("[Service]\n")
    (units / "rota-hand.service").write_text("[Service]\n")
    found = compare(made(tmp_path / "etc", after), units)
    assert found.added == ["rota-new.service", "rota-new.timer", "rota-won.timer"]
    assert found.removed == ["rota-gone.service", "rota-gone.timer", "rota-lost.timer"]
    assert set(found.changed) == {
        names.TARGET,
        "rota-lost.service",
        "rota-text.service",
        "rota-text.timer",
        "rota-time.service",
        "rota-time.timer",
        "rota-won.service",
    }
    assert found.foreign == ()
    assert not found.empty
    states = {"rota-gone.service": "failed", "rota-lost.timer": "inactive", "rota-lost.service": "failed"}
    states |= {"rota-gone.timer": "active", "rota-hand.service": "failed", "rota-other.service": "failed"}
    assert found.left_failed(states) == ["rota-gone.service"], "of units that go, and of nobody else's"


def test_names_that_others_have_taken(tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    (units / "rota-a.service").write_text("[Service]\nExecStart=/bin/false\n")
    (units / "rota-a.timer").mkdir()
    (units / "rota.slice").symlink_to("nowhere")
    found = compare(made(tmp_path / "etc", {"a": DAILY}), units)
    assert found.foreign == ("rota-a.service", "rota-a.timer", "rota.slice")
    assert found.before == {}


def test_a_damaged_unit_of_ours_is_changed_back(tmp_path: Path) -> None:
    units = tmp_path / "units"
    files = made(tmp_path / "etc", {"a": TRUE})
    write_directory(files, units)
    (units / "rota-a.service").write_bytes(f"{names.MARKER} \xff".encode("latin-1"))
    assert compare(files, units).changed == ["rota-a.service"]


def test_is_ours(tmp_path: Path) -> None:
    path = tmp_path / names.TARGET
    for text, ours in ((f"{names.MARKER} from x", True), (f" {names.MARKER}", False), ("", False)):
        path.write_text(text)
        assert is_ours(path) is ours
    path.unlink()
    assert not is_ours(path)
    path.symlink_to(f"../{names.TARGET}")
    assert is_ours(path)


def test_program_is_an_absolute_path() -> None:
    assert Path(program("rota-agent")).is_absolute()
    assert program("no-such-program") == "/usr/bin/no-such-program"


# The verbs


def run(*arguments: str | Path, code: int = 0) -> None:
    assert cli.main(list(map(str, arguments))) == code


@needs_systemd
def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, {"a": DAILY, "b": 'command = ["/nonexistent/x"]\n'})
    run("--config", config, "check")
    absent = "systemd: Command /nonexistent/x is not executable: No such file or directory"
    told = f"agents.d/b.toml: command: {absent}"
    assert capsys.readouterr() == ("2 agents checked, no errors.\n", f"warning: {told}\n")
    run("--config", config, "--json", "check")
    out, err = capsys.readouterr()
    warning = {"file": "agents.d/b.toml", "key": "command", "value": "", "message": absent}
    assert (json.loads(out), err) == ({"errors": [], "warnings": [warning]}, "")


@needs_systemd
def test_check_tells_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = TRUE + 'schedule = { cron = "0 9 * * MUN" }\nretrys = 1\n'
    config = configuration(tmp_path, {"a": wrong, "b": TRUE + "schedule = { calendar = 'never' }\n"})
    for verb in (["check"], ["generate", "--output", str(tmp_path / "out")], ["plan"], ["apply"]):
        run("--config", config, *verb, code=2)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines() == [
            "agents.d/a.toml: retrys: unknown key; did you mean retries?",
            'agents.d/a.toml: schedule.cron: "0 9 * * MUN": unknown day name MUN; did you mean MON or SUN?',
            'agents.d/b.toml: schedule.calendar: "never": '
            "not a calendar event; see systemd.time(7), CALENDAR EVENTS",
            "3 errors in 2 of 2 declarations; nothing was changed.",
        ]
    run("check", "--json", "--config", config, code=2)
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (len(found["errors"]), found["warnings"], err) == (3, [], "")
    assert found["errors"][1] == {
        "file": "agents.d/a.toml",
        "key": "schedule.cron",
        "value": "0 9 * * MUN",
        "message": "unknown day name MUN; did you mean MON or SUN?",
    }
    assert not (tmp_path / "out").exists()


@needs_systemd
def test_check_exposure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, {"a": TRUE})
    run("--config", config, "check", "--exposure")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a: ")
    assert float(lines[0].removeprefix("a: ")) <= 1.5
    assert lines[1].split() == ["COST", "SETTING", "WHY"]
    run("--config", config, "check", "--exposure", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["a"]["score"] <= 1.5
    assert set(found["a"]["costs"][0]) == {"setting", "exposure", "description"}


@needs_systemd
def test_generate_and_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path / "etc", {"a": DAILY})
    output = tmp_path / "units"
    run("--config", config, "generate", "--output", output)
    assert capsys.readouterr() == ("", f"10 files for 1 agent in {output}.\n")
    run("--config", config, "generate", "--output", output, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found == {"output": str(output), "units": sorted(tree(output))}
    run("--config", config, "plan", "--unit-dir", output)
    assert capsys.readouterr() == ("Nothing to change.\n", "")
    (config / "agents.d/a.toml").write_text(DAILY.replace("@daily", "@hourly"))
    (config / "agents.d/b.toml").write_text(TRUE)
    run("--config", config, "plan", "--unit-dir", output)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "-OnCalendar=*-*-* 00:00:00" in lines
    assert "+OnCalendar=*-*-* *:00:00" in lines
    assert lines[-1] == "Agents: 1 to add, 1 to change."
    assert (err, "\x1b" in out) == ("", False)
    run("--config", config, "plan", "--unit-dir", output, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["agents"] == {"add": ["b"], "change": ["a"], "remove": []}
    assert found["files"]["added"] == ["rota-b.service"]
    assert (found["files"]["removed"], found["foreign"]) == ([], [])


@needs_systemd
def test_plan_names_what_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path / "etc", {"a": TRUE})
    (tmp_path / "rota-a.service").write_text("[Service]\n")
    run("--config", config, "plan", "--unit-dir", tmp_path)
    out, err = capsys.readouterr()
    assert err == f"{tmp_path}/rota-a.service exists and is not rota's: apply will refuse.\n"
    assert out


@needs_systemd
def test_colour_only_on_a_terminal_that_wants_it(tmp_path: Path) -> None:
    config = configuration(tmp_path / "etc", {"a": TRUE})
    arguments = ["--config", str(config), "plan", "--unit-dir", str(tmp_path)]
    code, coloured = on_a_terminal(arguments, NO_COLOR="")
    assert (code, "\x1b[32m+ExecStart=/bin/true\x1b[0m" in coloured) == (0, True)
    code, plain = on_a_terminal(arguments, NO_COLOR="1")
    assert (code, "\x1b" in plain, "+ExecStart=/bin/true" in plain) == (0, False, True)


@pytest.mark.parametrize("what", ["agent", "settings", "config"])
def test_schema(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("schema", what)
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)

    def check(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                check(item)
        if not isinstance(node, dict):
            return
        if reference := node.get("$ref"):
            kind, _, name = reference.removeprefix("#/").partition("/")
            assert name in schema[kind], reference
        for key, about in node.get("properties", {}).items():
            if isinstance(about, dict) and "properties" not in node.get("properties", {}):
                assert about.get("description"), f"{key} has no description"
        for value in node.values():
            check(value)

    check(schema)


def test_the_schema_names_what_is_not_available(capsys: pytest.CaptureFixture[str]) -> None:
    run("schema")
    properties = json.loads(capsys.readouterr().out)["properties"]
    later = {key for key, about in properties.items() if about.get("x-available") is False}
    assert later == {"when", "after_success", "after_failure", "keep_running", "retries"}
    assert set(properties) >= {"command", "prompt", "schedule", "sandbox", "resources"}


@pytest.mark.parametrize(
    "arguments", [[], ["frobnicate"], ["generate"], ["check", "--frob"], ["schema", "x"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, err.startswith("usage: rota")) == ("", True)


def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["check"], ["generate", "--output", str(tmp_path / "out")], ["plan"]):
        run("--config", tmp_path / "nowhere", *verb, code=2)
        out, err = capsys.readouterr()
        assert (out, err.splitlines()[0]) == ("", f"rota: {tmp_path}/nowhere: no such file or directory")


DECLARING = ("check", "schema", "generate", "plan", "apply")
ASKING = ("list", "show", "run", "stop", "pause", "resume", "runs", "logs")
VERBS = (*DECLARING, *ASKING)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_a_narrow_terminal(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--help"] if verb else ["--help"])
    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    if not verb:
        assert set(VERBS) <= set(out.split())


@needs_systemd
def test_the_user_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--user: their own configuration, their own unit directory, units their manager can run."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    configuration(tmp_path / "rota", {"a": DAILY})
    run("--user", "generate", "--output", tmp_path / "systemd/user")
    assert "DynamicUser" not in (tmp_path / "systemd/user/rota-a.service").read_text()
    run("--user", "plan")
