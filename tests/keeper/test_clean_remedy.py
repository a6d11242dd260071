"""What the keeper makes of a start's end, and of the report; starts themselves are in tests/machine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rota_agents.home_keeper.remedies import clean, commands
from rota_agents.home_keeper.remedies.jobs import Done, Jobs
from rota_agents.home_keeper.words import Action, Remedy, Target

from rota.clean_rules import CommandRule
from rota.errors import RotaError

UNIT = "rota-clean@srv.service"


class Ending(Jobs):  # type: ignore[misc]
    """Starts nothing: writes a report, or none, and says how the job ended."""

    def __init__(self, done: Done, folder: Path, report: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.started: list[str] = []
        self._done, self._file, self._report = done, folder / "srv.json", report

    async def run(self, unit: str) -> Done:
        self.started.append(unit)
        if self._report is not None:
            self._file.write_text(json.dumps(self._report))
        return self._done


def report(**more: Any) -> dict[str, Any]:
    """Return a report of a run that begins and ends later than anything here."""
    return {
        "target": "/srv", "began": time.time_ns() // 1000 + 60_000_000, "enough": True, "freed": 5 * 1024**2,
        "boottime": time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000 + 60_000_000,
        "after": {"used_percent": 91.5}, "steps": [], **more,
    }  # fmt: skip


def cleaned(folder: Path, done: Done, told: Mapping[str, Any] | None) -> Mapping[str, Any]:
    action = Action(1, Target("disk", "/srv"), "space", Remedy("clean"), 0, "", 1)
    jobs = Ending(done, folder, told)
    try:
        return asyncio.run(clean.remedies(jobs, folder)["clean"](action))
    finally:
        assert jobs.started == [UNIT]


GOOD = Done("done", "success")


def test_a_clean_disk(tmp_path: Path) -> None:
    told = report()
    assert cleaned(tmp_path, GOOD, told) == told
    assert cleaned(tmp_path, Done("done"), told) == told, "where systemd said nothing of the service"


@pytest.mark.parametrize(
    ("done", "told", "message"),
    [
        (GOOD, report(enough=False), "5.0 MiB freed, and /srv is still 91 % full"),
        (
            GOOD,
            report(enough=False, steps=[{"step": "nix", "error": "gone"}, {"step": "tmp"}]),
            "5.0 MiB freed, and /srv is still 91 % full; nix: gone",
        ),
        (GOOD, None, f"{UNIT} ended without a report"),
        (GOOD, report(boottime=1), f"{UNIT} ended without a report"),
        (GOOD, report(boottime=None), f"{UNIT} ended without a report"),
        (GOOD, report(target="/other"), f"{UNIT} ended without a report"),
        (
            Done("failed", "signal", 9),
            report(boottime=None),
            f"{UNIT} failed: it was killed by signal 9; 5.0 MiB freed",
        ),
        (
            Done("failed", "signal", 9),
            report(boottime=None, began=1),
            f"{UNIT} failed: it was killed by signal 9; nothing is known to be freed",
        ),
        (
            Done("failed", "exit-code", 2),
            None,
            f"{UNIT} failed: it ended with exit status 2; nothing is known to be freed",
        ),
        (Done("failed", "timeout"), None, "it took too long, and systemd stopped it"),
        (Done("canceled"), None, "systemd says canceled"),
    ],
)
def test_what_is_no_success(tmp_path: Path, done: Done, told: dict[str, Any] | None, message: str) -> None:
    if told is not None and (told["boottime"] or 0) > 1:
        told["boottime"] = report()["boottime"]
    if told is not None and told["began"] > 1:
        told["began"] = report()["began"]
    with pytest.raises(RotaError) as failed:
        cleaned(tmp_path, done, told)
    assert message in failed.value.message and "journalctl" in failed.value.hint


def test_a_report_that_nobody_can_read(tmp_path: Path) -> None:
    (tmp_path / "srv.json").write_text("[")
    with pytest.raises(RotaError, match="without a report"):
        cleaned(tmp_path, GOOD, None)


@pytest.mark.parametrize("path", ["srv", "sda1", "/" + "a" * 250])
def test_names_that_no_unit_can_have(path: str) -> None:
    with pytest.raises(RotaError):
        clean.unit_of(path)


def test_a_command_is_started_if_it_is_declared(tmp_path: Path) -> None:
    def ask(name: str, done: Done) -> Mapping[str, Any]:
        action = Action(1, Target("host", "swap"), "swap", Remedy("run-command", name), 0, "", 1)
        found = commands.remedies(Ending(done, tmp_path), {"tidy": CommandRule(1)})
        return asyncio.run(found["run-command"](action))

    assert ask("tidy", GOOD) == {"unit": "rota-command@tidy.service", "result": "success"}
    with pytest.raises(RotaError, match="tidy failed: it ended with exit status 7"):
        ask("tidy", Done("failed", "exit-code", 7))
    with pytest.raises(RotaError, match='no command "other" is declared'):
        ask("other", GOOD)
