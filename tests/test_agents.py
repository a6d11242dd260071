"""The bundled agents: declared, found by name, and what they share."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import rota_agents
from rota_agents import common
from rota_agents.disk_report import __main__ as disk_report
from rota_agents.journal_digest import __main__ as journal_digest


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a person ran it: no test writes to the journal of the machine it runs on."""
    for name in ("INVOCATION_ID", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


# The bundle


def test_names_and_declarations() -> None:
    assert rota_agents.names() == ("disk-report", "journal-digest")
    for name in rota_agents.names():
        declared = tomllib.loads(rota_agents.declaration(name).read_text())
        assert declared["command"][:2] == ["rota-agent", name]
        assert declared["description"]
        assert "schedule" in declared
    with pytest.raises(KeyError, match="nothing"):
        rota_agents.declaration("nothing")


def test_declared_arguments_are_understood() -> None:
    for name, program in (("disk-report", disk_report), ("journal-digest", journal_digest)):
        declared = tomllib.loads(rota_agents.declaration(name).read_text())
        program._parser().parse_args(declared["command"][2:])


def test_help_lists_the_agents(capsys: pytest.CaptureFixture[str]) -> None:
    assert rota_agents.main([]) == 0
    listed = capsys.readouterr().out
    assert rota_agents.main(["--help"]) == 0
    assert capsys.readouterr().out == listed
    for name in rota_agents.names():
        assert f"\n  {name} " in listed
    assert all(len(line) <= 80 for line in listed.splitlines())


def test_an_unknown_name_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert rota_agents.main(["disk-reprot"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        'rota-agent: no bundled agent "disk-reprot"; did you mean disk-report? '
        "(there are disk-report, journal-digest)\n"
    )


def test_wrong_arguments_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["disk-report", "--warn-percent", "0"],
        ["disk-report", "--exclude", "home"],
        ["journal-digest", "--since", "24 hours"],
        ["journal-digest", "--limit", "0"],
    ):
        with pytest.raises(SystemExit) as stopped:
            rota_agents.main(arguments)
        assert stopped.value.code == 2
        assert f'"{arguments[-1]}" is not a' in capsys.readouterr().err


def test_importing_the_bundle_imports_nothing_else() -> None:
    script = (
        "import sys; before = set(sys.modules); import rota_agents; "
        "print(*sorted(set(sys.modules) - before - {'__future__', 'typing', 'rota_agents'}))"
    )
    path = str(Path(rota_agents.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    extra = done.stdout.split()
    assert not [name for name in extra if name in ("argparse", "pathlib", "json", "tomllib", "rota")], extra


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    script = (
        "import rota_agents; raise SystemExit(rota_agents.main(['disk-report', '--warn-percent', '100']))"
    )
    path = ":".join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": path},
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


# What they share


def test_printable_escapes_what_a_terminal_acts_on() -> None:
    assert common.printable("/srv/ü x") == "/srv/ü x"
    assert common.printable("a\x1b[2Jb\n\udcff") == r"a\x1b[2Jb\n\udcff"


def test_clipping_keeps_the_width() -> None:
    assert common.clip("abcdefgh", 8) == "abcdefgh"
    assert common.clip("abcdefghi", 8) == "abcde..."
    assert common.clip_middle("/var/lib/machines/one", 12) == "/var...s/one"
    assert len(common.clip_middle("x" * 99, 32)) == 32


def test_a_result_too_long_for_a_journal_field_says_what_is_missing() -> None:
    result = {"units": [{"unit": "u" * 100} for _ in range(100)], "errors": 100}
    assert json.loads(common.fit(result, "units")) == result
    short = common.fit(result, "units", limit=2000)
    assert len(short) <= 2000
    read = json.loads(short)
    assert read["errors"] == 100
    assert len(read["units"]) + read["left_out"] == 100
    assert read["units"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    common.write_whole(target, "one")
    common.write_whole(target, "two")
    assert target.read_text() == "two"
    with pytest.raises(UnicodeEncodeError):
        common.write_whole(target, "\udcff")
    assert target.read_text() == "two"
    taken = tmp_path / "folder"
    taken.mkdir()
    with pytest.raises(OSError, match="folder"):
        common.write_whole(taken, "x")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".report")) == [
        "folder",
        "report.json",
    ]


def test_the_last_line_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    common.conclude("x" * 100, logged=True)
    assert capsys.readouterr().out == ""
    common.conclude("x" * 100, logged=False)
    assert capsys.readouterr().out == "x" * 77 + "...\n"
