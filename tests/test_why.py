"""Why, in words: a sentence or two for each thing that can be asked about."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from rota.events import OVER, Run
from rota.quantity import USEC
from rota.slots import REASONS
from rota.why import Facts, text

NINE = 1_801_468_800 * USEC  # Mon 2027-02-01 08:00 UTC, 09:00 in Rome
MIN, HOUR = 60 * USEC, 3600 * USEC
ROME = ZoneInfo("Europe/Rome")
RUN = Run(
    id="9f2c51d0" + "0" * 24,
    agent="audit",
    state="succeeded",
    started=NINE + 100_000,
    ended=NINE + 3_200_000,
    took=3_100_000,
    trigger="timer",
    slot=NINE,
    late=100_000,
    archived=True,
)
MISSED = Run(
    id="ab" * 16,
    agent="audit",
    state="missed",
    reason="host-down",
    started=NINE,
    ended=NINE + 2 * HOUR,
    slot=NINE,
    slot_until=NINE + 2 * HOUR,
    slots=3,
    cause_since=NINE - HOUR,
    cause_until=NINE + 5 * HOUR + 61 * USEC,
    archived=True,
)
FACTS = Facts(
    "audit", now=NINE + 24 * HOUR, scheduled=True, timer="active", row=RUN, next=NINE + 7 * 24 * HOUR
)
NEXT = "Next: Mon 2027-02-08 09:00."
LAST = "Its last slot, Mon 2027-02-01 09:00,"


def why(run: Run | None = RUN, **more: object) -> str:
    return text(replace(FACTS, row=run, **more), ROME)  # type: ignore[arg-type]


def test_on_time() -> None:
    assert why() == f"{LAST} ran on time and succeeded after 3.1s (run 9f2c51d0). {NEXT}"


@pytest.mark.parametrize(
    ("held", "because"),
    [
        (None, "the machine was busy"),
        ("host-down", "the machine was off until Mon 2027-02-01 10:00"),
        ("suspended", "the machine slept until Mon 2027-02-01 10:00"),
        ("still-running", "the run before went on until Mon 2027-02-01 10:00"),
        ("timer-stopped", "its timer was stopped until Mon 2027-02-01 10:00"),
        ("clock-changed", "the clock was set forward past it"),
    ],
)
def test_late(held: str | None, because: str) -> None:
    late = RUN._replace(late=4 * USEC, held=held, cause_until=NINE + HOUR)
    assert f"ran 4.0s late ({because}) and succeeded" in why(late)
    assert f"{LAST} ran 1h 30min late" in why(late._replace(late=90 * MIN))


def test_jitter_is_not_called_late() -> None:
    put_off = RUN._replace(started=NINE + 40 * USEC, late=0)
    assert f"{LAST} ran after 40s of jitter and succeeded" in why(put_off, jitter=60 * USEC)
    assert f"{LAST} ran on time and" in why(put_off._replace(started=NINE + USEC), jitter=60 * USEC)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"state": "failed", "reason": "exit-code", "status": 3},
            "failed after 3.1s: exit status 3 (run 9f2c51d0).",
        ),
        ({"state": "failed", "reason": "dependency"}, "failed after 3.1s: dependency (run 9f2c51d0)."),
        ({"state": "timed-out", "reason": "timeout"}, "timed out after 3.1s (run 9f2c51d0)."),
        ({"state": "killed", "reason": "stopped", "stopped_by": "ada"}, "was stopped by ada after 3.1s"),
        ({"state": "killed", "reason": "stopped"}, "was stopped after 3.1s"),
        ({"state": "killed", "reason": "signal", "signal": "SIGKILL"}, "was killed by SIGKILL after 3.1s"),
        (
            {"state": "unknown", "reason": "the machine went down"},
            "nobody knows after 3.1s: the machine went down",
        ),
    ],
)
def test_how_it_ended(change: dict[str, object], words: str) -> None:
    said = why(RUN._replace(**change))  # type: ignore[arg-type]
    assert words in said
    assert said.endswith(" Log: rota logs 9f2c51d0")


def test_skipped() -> None:
    skipped = RUN._replace(state="skipped", reason="paused", took=0)
    assert why(skipped).startswith(f"{LAST} was skipped: it was paused. ")
    unmet = skipped._replace(reason="ConditionACPower=true")
    assert "was skipped: ConditionACPower=true did not hold." in why(unmet)


@pytest.mark.parametrize(
    ("reason", "because"),
    [
        (
            "host-down",
            "the machine was off from Mon 2027-02-01 08:00 to Mon 2027-02-01 14:01:01, and it has no"
            " catch_up.",
        ),
        ("suspended", "the machine slept from Mon 2027-02-01 08:00 to Mon 2027-02-01 14:01:01."),
        (
            "clock-changed",
            "the clock was set forward between Mon 2027-02-01 08:00 and Mon 2027-02-01 14:01:01.",
        ),
        ("timer-stopped", "its timer was stopped at Mon 2027-02-01 08:00, until Mon 2027-02-01 14:01:01."),
        ("still-running", "the run that began Mon 2027-02-01 08:00 was still going on."),
        (
            "jitter",
            "the slot before it, Mon 2027-02-01 08:00, was put off by its jitter until"
            " Mon 2027-02-01 14:01:01.",
        ),
        ("not-known", "nothing in the journal says why."),
    ],
)
def test_missed(reason: str, because: str) -> None:
    row = MISSED._replace(reason=reason)
    several = "3 slots from Mon 2027-02-01 09:00 to Mon 2027-02-01 11:00 were missed"
    assert why(row) == f"{several}: {because} {NEXT}"
    one = row._replace(slots=1, slot_until=NINE)
    assert why(one).startswith(f"{LAST} was missed: {because}")


def test_caught_up_is_no_reproach() -> None:
    assert "catch_up" not in why(MISSED, catch_up=True)


def test_under_way() -> None:
    going = RUN._replace(state="running", ended=None, took=None, archived=False)
    assert why(going) == "It has been running since Mon 2027-02-01 09:00, for its slot Mon 2027-02-01 09:00."
    by_ada = going._replace(slot=None, late=None, trigger="person", requested_by="ada")
    assert why(by_ada) == "It has been running since Mon 2027-02-01 09:00, started by ada."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"requested_by": "ada", "trigger": "person"}, "started by ada, and succeeded"),
        ({"trigger": "boot"}, "started by boot, and"),
        ({"trigger": "manual"}, "started by hand, or by another unit, and"),
        ({"trigger": None}, "and nobody knows who started it, and"),
        ({"trigger": "path"}, "started by path, and"),
    ],
)
def test_without_a_slot(change: dict[str, object], words: str) -> None:
    assert words in why(RUN._replace(slot=None, late=None, **change))  # type: ignore[arg-type]


def test_what_is_to_come() -> None:
    assert why(None) == f"It has not run yet. {NEXT}"
    assert why(None, scheduled=False, timer=None).endswith(
        "It has no schedule: it runs when somebody starts it."
    )
    assert why(None, timer="inactive").endswith("Its timer is stopped: systemctl start rota-audit.timer")
    assert why(None, timer="next-boot").endswith("Nothing but boot starts it, and that is past.")
    assert why(None, next=None).endswith("Its schedule has no more slots.")


def test_paused() -> None:
    said = why(paused_by="ada", paused_at=NINE + HOUR, paused_why="the disk is full")
    assert said.endswith(
        "It is paused since Mon 2027-02-01 10:00 by ada: the disk is full. Undo: rota resume audit"
    )
    assert why(paused_by="").endswith("It is paused. Undo: rota resume audit")


def test_at_a_moment() -> None:
    assert (
        why(asked=NINE)
        == "Its slot Mon 2027-02-01 09:00 ran on time and succeeded after 3.1s (run 9f2c51d0)."
    )
    assert why(MISSED, asked=NINE).startswith("3 slots from Mon 2027-02-01 09:00")
    by_ada = RUN._replace(slot=None, late=None, trigger="person", requested_by="ada")
    assert why(by_ada, asked=NINE + USEC) == (
        "It ran from Mon 2027-02-01 09:00, started by ada, and succeeded after 3.1s (run 9f2c51d0)."
    )
    assert why(None, asked=NINE, slot=True) == "Its slot Mon 2027-02-01 09:00 is not in the record."
    later = NINE + 48 * HOUR
    assert why(None, asked=later, slot=True) == "Its slot Wed 2027-02-03 09:00 is to come."
    assert "will be skipped if it is still paused then" in why(None, asked=later, slot=True, paused_by="")
    assert "while its timer is stopped" in why(None, asked=later, slot=True, timer="inactive")
    assert why(None, asked=NINE, scheduled=False) == (
        "It has no schedule, and did not run at Mon 2027-02-01 09:00."
    )


def test_between_slots() -> None:
    said = why(None, asked=NINE + HOUR, before=NINE, before_row=RUN, after=NINE + 24 * HOUR)
    assert said == (
        "It has no slot at Mon 2027-02-01 10:00. The one before, Mon 2027-02-01 09:00, ran on time and"
        " succeeded after 3.1s (run 9f2c51d0). The one after, Tue 2027-02-02 09:00, is not in the record."
    )
    missed = why(
        None, asked=NINE + HOUR, after=NINE + 2 * HOUR, after_row=MISSED._replace(reason="suspended")
    )
    assert "The one after, Mon 2027-02-01 11:00, was missed: the machine slept from" in missed


def test_every_state_and_reason_has_words() -> None:
    for state in OVER - {"missed"}:
        assert RUN.id[:8] in why(RUN._replace(state=state)) or state == "skipped"
    for reason in REASONS:
        assert f": {reason}" not in why(MISSED._replace(reason=reason))
