"""What drives say of themselves: asked as root, left as a report, judged without privileges."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from rota_agents.home_keeper import smart
from rota_agents.home_keeper.checks.disks import Drive, drives
from rota_agents.home_keeper.checks.words import Malformed
from rota_agents.home_keeper.probes import Unavailable, disks
from rota_agents.home_keeper.probes.drives import Reported

S = 1_000_000
HOUR = 3600 * S
UNPACKED = Path(__file__).parent.parent.parent / ".cache/smartmontools/usr/sbin"
"""Where tests/machine/setup.sh puts smartctl that is not installed."""


def answer(status: int = 0, model: str = "WD Red") -> str:
    """What smartctl prints: recorded, for a drive cannot be had here."""
    about = {"exit_status": status, "messages": []}
    return json.dumps({"smartctl": about, "smart_status": {"passed": not status}, "model_name": model})


class Clock:
    def __init__(self) -> None:
        self.at = 10 * S

    def __call__(self) -> int:
        return self.at


def reported(file: Path, clock: Clock, program: str | None = "/usr/sbin/smartctl") -> Reported:
    return Reported(HOUR, file, now=clock, program=lambda: program)


def look(what: Reported) -> tuple[Drive, ...]:
    return asyncio.run(what())


def report(file: Path, boottime: int, **answers: str) -> None:
    text = {"boottime": boottime, "drives": {f"/dev/{name}": said for name, said in answers.items()}}
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(text))
    beside.replace(file)


def test_a_report_is_read_when_it_is_made(tmp_path: Path) -> None:
    file, clock = tmp_path / "drives.json", Clock()
    what = reported(file, clock)
    assert look(what) == (), "the first is yet to come"
    report(file, clock.at, sda=answer(), sdb=answer(8))
    assert [(one.device, one.failing) for one in look(what)] == [("/dev/sda", False), ("/dev/sdb", True)]
    report(file, clock.at, sda=answer(8))
    assert [one.failing for one in look(what)][:1] == [True]


def test_a_drive_that_had_problems_and_is_gone_is_not_well(tmp_path: Path) -> None:
    file, clock = tmp_path / "drives.json", Clock()
    what = reported(file, clock)
    report(file, clock.at, sda=answer(), sdb=answer(8), sdc=answer())
    look(what)
    for _ in range(2):
        report(file, clock.at, sda=answer())
        well, gone = look(what)
        assert (well.device, well.unanswered) == ("/dev/sda", "")
        assert (gone.device, gone.unanswered) == ("/dev/sdb", "it is not there any more")
        judged, hidden = drives([gone])
        assert judged.value is None, "nobody knows, so what was found stays"
        assert hidden.value == 1
    report(file, clock.at, sda=answer(), sdb=answer())
    assert [one.unanswered for one in look(what)] == ["", ""]


def test_reports_that_no_longer_come_are_missed(tmp_path: Path) -> None:
    file, clock = tmp_path / "drives.json", Clock()
    what = reported(file, clock)
    clock.at += HOUR + 1199 * S
    assert look(what) == ()
    clock.at += 2 * S
    with pytest.raises(Unavailable, match=r"rotad-smart\.service has left nothing for 1h 20min"):
        look(what)
    report(file, clock.at, sda=answer())
    assert len(look(what)) == 1
    clock.at += 2 * HOUR
    with pytest.raises(Unavailable):
        look(what)


def test_where_smartctl_is_not_nothing_is_missed(tmp_path: Path) -> None:
    clock = Clock()
    what = reported(tmp_path / "drives.json", clock, program=None)
    clock.at += 24 * HOUR
    assert look(what) == ()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"boottime": "x", "drives": {}}', '{"boottime": 1, "drives": 1}']
)
def test_a_report_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "drives.json"
    file.write_text(text)
    with pytest.raises(Malformed, match=r"drives\.json is not as expected"):
        look(reported(file, Clock()))


def fake(folder: Path, known: dict[str, str], log: Path) -> None:
    """Put a smartctl there that answers as one with drives; it takes note of how it is asked."""
    scan = json.dumps({"devices": [{"name": name, "type": kind} for name, kind in known.items()]})
    program = folder / "smartctl"
    case = f"case $2 in --scan) echo '{scan}' ;; *) echo '{answer(8)}'; exit 8 ;; esac"
    program.write_text(f'#!/bin/sh\necho "$@" >>{log}\n{case}\n')
    program.chmod(0o755)


def test_drives_are_asked_and_what_they_say_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, runtime = tmp_path / "log", tmp_path / "run"
    runtime.mkdir()
    fake(tmp_path, {"/dev/sda": "scsi", "/dev/nvme0": "nvme"}, log)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(smart.RUNTIME, str(runtime))
    assert smart.main([]) == 0
    file = runtime / smart.REPORT
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [one.failing for one in look(Reported(HOUR, file))] == [True, True]
    assert log.read_text().splitlines() == [
        "--json --scan",
        "--json --all --nocheck=standby /dev/sda",
        "--json --all --nocheck=standby --device=nvme /dev/nvme0",
    ], "smartctl calls every disk SCSI in its list, and finds out what is behind it if it is let"


def test_the_real_smartctl_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{UNPACKED}")
    if disks.smartctl() is None:
        pytest.skip("smartctl is neither installed nor in .cache/smartmontools")
    said = asyncio.run(disks.said_by_drives())
    smart.leave(tmp_path / smart.REPORT, said)
    assert [one.device for one in look(Reported(HOUR, tmp_path / smart.REPORT))] == list(said)


def test_by_hand_it_says_who_runs_it() -> None:
    code = "from rota_agents.home_keeper.smart import main; raise SystemExit(main())"
    command = [sys.executable, "-c", code]
    environment = {key: value for key, value in os.environ.items() if key != smart.RUNTIME}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "run by rotad-smart.service, which says where" in done.stderr
