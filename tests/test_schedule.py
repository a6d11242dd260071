"""Schedules: timer lines for both managers, boot taken away, words for people, and systemd's own opinion."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rota import analyze, schedule
from rota.generate import checked
from rota.model import Agent, Schedule

from .cases import configuration

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)

WORDS: list[tuple[dict[str, Any], str, str]] = [
    ({"cron": "@daily"}, "cron", "daily 00:00"),
    ({"cron": "0 9 * * MON", "timezone": "Europe/Rome"}, "cron", "Mon 09:00 Europe/Rome"),
    ({"every": "90min"}, "every", "every 1h 30min"),
    ({"every": "300s", "after_boot": "1s"}, "every", "every 5min"),
    ({"calendar": "weekly"}, "calendar", "weekly"),
    ({"once": "2099-01-31 09:00"}, "once", "once 2099-01-31 09:00:00"),
    ({"once": "2099-01-31T09:00:00+01:00"}, "once", "once 2099-01-31 08:00:00 UTC"),
    ({"on_boot": True}, "on_boot", "at boot"),
    ({"on_boot": "0s"}, "on_boot", "at boot"),
    ({"on_boot": "120s"}, "on_boot", "2min after boot"),
]


def agent(*schedules: dict[str, Any], **more: Any) -> Agent:
    return Agent.model_validate({"command": ["/bin/true"], "schedule": list(schedules), **more})


@pytest.mark.parametrize(("written", "kind", "words"), WORDS)
def test_words(written: dict[str, Any], kind: str, words: str) -> None:
    record = Schedule.model_validate(written)
    assert schedule.kind(record) == kind
    assert schedule.describe([record]) == words


def test_words_for_none_and_many() -> None:
    assert schedule.describe([]) == "on demand"
    assert schedule.describe([Schedule(cron="@daily"), Schedule(every="1h")]) == "daily 00:00, every 1h"


def test_no_schedule_no_timer() -> None:
    assert schedule.timer_lines(agent()) == ()


def test_boot_is_the_first_login_for_a_user() -> None:
    booted = agent({"on_boot": "5s"}, {"on_boot": True})
    accuracy = ("AccuracySec", schedule.ACCURACY)
    assert schedule.timer_lines(booted) == (("OnBootSec", "5s"), ("OnBootSec", "0"), accuracy)
    assert schedule.timer_lines(booted, user=True) == (
        ("OnStartupSec", "5s"),
        ("OnStartupSec", "0"),
        accuracy,
    )


def test_an_interval_does_not_begin_anew_when_systemd_is_reloaded() -> None:
    keys = [key for key, _ in schedule.timer_lines(agent({"every": "5min", "after_boot": "1min"}))]
    assert keys == ["OnStartupSec", "OnUnitActiveSec", "AccuracySec"]


def test_only_calendar_slots_are_caught_up() -> None:
    once = {"mode": "once"}
    mixed = agent({"every": "1h"}, {"cron": "@daily"}, catch_up=once)
    assert ("Persistent", "yes") in schedule.timer_lines(mixed)
    assert ("Persistent", "yes") not in schedule.timer_lines(agent({"cron": "@daily"}))


@needs_systemd
def test_calendar_events_are_judged_in_bulk() -> None:
    good = ["daily", "Mon *-*-* 09:00:00 Europe/Rome", "*-02-29"]
    bad = ["", "Fri..Mon", "every day", "it's", "*-*-* 25:00", "daily\u2028x", "%n", "-v"]
    never = ["*-02-30", "2001-01-01", "Thu 2027-01-01"]
    errors = analyze.calendar_errors([*good, *bad, *never, *good, *bad])
    assert {event for event, told in errors.items() if "not a calendar event" in told} == {*bad}
    assert {event for event, told in errors.items() if told.startswith("never happens")} == {*never}
    assert analyze.calendar_errors([]) == {}


@needs_systemd
def test_a_calendar_event_that_systemd_refuses_is_an_error_at_its_key(tmp_path: Path) -> None:
    from rota.errors import DeclarationError

    texts = {
        "one": "{ calendar = 'Fri..Mon' }",
        "two": "[{ every = '1h' }, { once = '2001-01-01' }]",
        "three": "{ calendar = 'Fri..Mon' }",
    }
    config = configuration(
        tmp_path, {n: f"command = ['/bin/true']\nschedule = {t}\n" for n, t in texts.items()}
    )
    with pytest.raises(DeclarationError) as caught:
        checked(config, user=False)
    assert [str(problem) for problem in caught.value.problems] == [
        'agents.d/one.toml: schedule.calendar: "Fri..Mon": '
        "not a calendar event; see systemd.time(7), CALENDAR EVENTS",
        'agents.d/three.toml: schedule.calendar: "Fri..Mon": '
        "not a calendar event; see systemd.time(7), CALENDAR EVENTS",
    ]
    assert caught.value.message == "2 errors in 2 of 3 declarations; nothing was changed."


@needs_systemd
def test_a_date_that_has_passed_is_a_warning(tmp_path: Path) -> None:
    text = "command = ['/bin/true']\nschedule = [{ every = '1h' }, { once = '2001-01-01' }]\n"
    loaded = checked(configuration(tmp_path, {"two": text}), user=False)
    assert [str(problem) for problem in loaded.warnings] == [
        'agents.d/two.toml: schedule[1].once: "2001-01-01 00:00:00": '
        "never happens: there is no such date, or it is past"
    ]
