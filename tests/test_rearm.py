"""What becomes of timers when units change, read from their texts alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from rota import rearm, timers
from rota.generate import build
from rota.load import load
from rota.names import MARKER, TARGET
from rota.units import Context

from .cases import configuration

RUN = 'command = ["/bin/true"]\n'
SCHEDULES = {
    "calendar": "{ cron = '0 4 * * *' }",
    "boot": "{ on_boot = true }",
    "both": "[{ on_boot = '1min' }, { cron = '0 3 * * *' }, { every = '1h' }]",
    "kept": "{ cron = '@daily' }\ncatch_up = { mode = 'once' }",
}


def units(folder: Path, schedules: dict[str, str], *, user: bool = False) -> dict[str, str]:
    """Return the texts of the units of agents with these schedules."""
    texts = {name: f"{RUN}schedule = {words}\n" if words else RUN for name, words in schedules.items()}
    files = build(load(configuration(folder, texts)), Context(user=user))
    return {name: file.text or "" for name, file in files.items()}


@pytest.mark.parametrize(("user", "key"), [(False, "OnBootSec"), (True, "OnStartupSec")])
def test_boot_is_past(tmp_path: Path, user: bool, key: str) -> None:
    made = units(tmp_path, SCHEDULES, user=user)
    assert timers.runtime_override(made["rota-calendar.timer"], 0) is None
    alone = timers.runtime_override(made["rota-boot.timer"], 0)
    assert alone is not None
    assert alone.startswith(MARKER)
    assert alone.endswith("[Unit]\nConditionPathExists=!/run\n")
    lines = ["OnCalendar=*-*-* 03:00:00", "OnUnitActiveSec=1h", f"OnStartupSec={3600 * 10**6 + 7}us", ""]
    both = "\n".join([f"{MARKER}: boot is past.", "[Timer]", f"{key}=", *lines])
    assert timers.runtime_override(made["rota-both.timer"], 7) == both
    assert [name for name, text in sorted(made.items()) if timers.only_boot(text)] == ["rota-boot.timer"]
    assert [name for name, text in made.items() if timers.is_persistent(text)] == ["rota-kept.timer"]


def test_what_starts_afresh(tmp_path: Path) -> None:
    before = units(
        tmp_path / "a", {"same": "{ every = '1h' }", "edited": "{ every = '1h' }", "gone": "{ every = '1h' }"}
    )
    before |= units(
        tmp_path / "b", {"idle": "{ every = '1h' }", "lost": "{ every = '1h' }", "boot": "{ on_boot = true }"}
    )
    after = units(
        tmp_path / "c",
        {
            "same": "{ every = '1h' }",
            "edited": "{ every = '2h' }",
            "idle": "{ every = '1h' }",
            "boot": "{ on_boot = true }",
            "new": "{ cron = '@daily' }",
            "newboot": "{ on_boot = true }",
            "lost": "",
        },
    )
    after["rota-same.timer"] = after["rota-same.timer"].replace("Schedule of", "New words for")
    states = {f"rota-{name}.timer": "active" for name in ("same", "edited", "gone", "lost")}
    found = rearm.change(before, after, {**states, "rota-idle.timer": "inactive"})
    # An idle timer is started by whatever starts all, unless only boot would have: that one waits as it did.
    assert rearm.agents_of(found.afresh) == ("edited", "idle", "new", "newboot")
    assert rearm.agents_of(found.at_next_boot) == ("newboot",)
    assert found.gone == ("rota-gone.timer", "rota-lost.timer")
    assert found.target == before[TARGET]
    started = rearm.change(before, after, states, target_starts=True)
    assert rearm.agents_of(started.at_next_boot) == ("boot", "newboot")
    again = rearm.change(after, after, dict.fromkeys(found.wanted, "active"), ["rota-same.timer"])
    assert (rearm.agents_of(again.afresh), again.gone) == (("same",), ())


def test_nothing_of_rotas_needs_no_systemd(tmp_path: Path) -> None:
    (tmp_path / "rota-hand.timer").write_text("[Timer]\nOnCalendar=daily\n")
    for replaced_by in (None, tmp_path / "absent"):
        assert rearm.rearm(tmp_path, replaced_by, user=False) == rearm.Rearmed()


def test_a_target_lets_go_of_timers_and_of_services_that_get_one(tmp_path: Path) -> None:
    target = units(tmp_path, {"a": "{ every = '1h' }", "b": "{ every = '1h' }", "c": "", "d": ""})[TARGET]
    found = rearm.without(target, ["rota-a.timer", "rota-c.timer"])
    gone = set(target.splitlines()) - set(found.splitlines())
    assert gone == {"Wants=rota-a.timer", "Before=rota-c.service"}
    assert rearm.without(target, []) == target
