"""Messages: what a person needs to act is in them, however many things they are about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st

from rota.routes import KINDS, SEVERITIES, Happening
from rota.wording import Text, message

S = 1_000_000
AT = 1_796_029_203 * S
ONE = Happening(
    "run:1",
    ("failure",),
    "warning",
    AT,
    "backup-check",
    "failed: exit status 3 after 3s",
    agent="backup-check",
    run="9f" * 16,
    last_line="too old",
    command="rota logs 9f9f9f9f9f9f",
)


def said(*happenings: Happening, tails: dict[str, list[str]] | None = None, held: int | None = None) -> Text:
    return message(happenings, tails or {}, "nas", held_since=held, zone=UTC)


def test_one() -> None:
    found = said(replace(ONE, since=AT - 3600 * S), tails={ONE.key: ["looking", "too old"]})
    assert found.subject == "[nas] backup-check failed: exit status 3 after 3s"
    assert found.body.splitlines() == [
        "backup-check failed: exit status 3 after 3s",
        "When:   2026-11-30 09:00:03",
        "Since:  2026-11-30 08:00:03",
        "Output:",
        "  looking",
        "  too old",
        "See:    rota logs 9f9f9f9f9f9f",
    ]


def test_the_last_line_stands_in_for_a_journal_that_has_no_more() -> None:
    assert "Output:\n  too old\n" in said(ONE).body
    assert "Output" not in said(replace(ONE, last_line="")).body


def test_a_time_that_no_calendar_has() -> None:
    """Such as that of a question without an end: it must not keep all else from being told."""
    for at in (2**62, -(2**62)):
        found = said(replace(ONE, at=at, since=at, answers=("rota keeper approve 1",), until=at))
        assert found.body.count(f"{at // S} s after 1970") == 3


def test_of_a_users_agents() -> None:
    found = message([ONE, replace(ONE, key="2")], {}, "nas", rota="rota --user", zone=UTC)
    assert "See:    rota --user logs 9f9f9f9f9f9f\n" in found.body
    assert "See:    rota --user runs --since" in found.body


def test_what_was_tried() -> None:
    found = said(replace(ONE, tried=("restarted at 09:00", "restarted at 09:05")))
    assert "Tried:\n  restarted at 09:00\n  restarted at 09:05\n" in found.body


def test_of_the_keeper_alone_its_history_says_more() -> None:
    kept = [replace(one, command="rota keeper explain unit:a.service") for one in many(3)]
    assert said(*kept).body.endswith("\nSee:    rota keeper history\n")
    assert "See:    rota runs --since" in said(*kept, ONE).body


def test_a_question_has_both_answers_ready() -> None:
    asked = replace(
        ONE,
        title="needs an answer: a person is asked whether to restart-unit",
        answers=("rota keeper approve 2", "rota keeper deny 2"),
        until=AT + 3600 * S,
    )
    assert said(asked).body.splitlines()[-4:] == [
        "See:    rota logs 9f9f9f9f9f9f",
        "Answer: rota keeper approve 2",
        "    or: rota keeper deny 2",
        "Until:  2026-11-30 10:00:03",
    ]
    found = message([*[replace(ONE, key=f"{n}") for n in range(5)], asked], {}, "nas", rota="rota --user")
    assert (
        "(rota --user keeper approve 2)" in found.body or "Answer: rota --user keeper approve 2" in found.body
    )


def test_a_title_may_follow_its_name_at_once() -> None:
    found = said(replace(ONE, about="host:clock", title=": the clock is behind"))
    assert found.subject == "[nas] host:clock: the clock is behind"
    assert found.body.startswith("host:clock: the clock is behind\n")


def many(count: int) -> list[Happening]:
    return [
        replace(
            ONE,
            key=f"run:{n}",
            run=f"{n:032x}",
            about=f"a{n % 7}",
            at=AT + n * S,
            command=f"rota logs {n:012x}",
        )
        for n in range(count)
    ]


def test_a_hundred() -> None:
    found = said(*many(100), replace(ONE, key="w", kinds=("recovery", "success"), about="well", at=AT))
    assert found.subject == "[nas] 100 failures, 1 recovery: a0, a1, a2 and 5 more"
    assert found.body.startswith(
        "100 failures, 1 recovery, from 2026-11-30 09:00:03 to 2026-11-30 09:01:42.\n"
    )
    assert len(found.body.splitlines()) < 60
    assert "See:    rota runs --since '2026-11-30 09:00:03'" in found.body
    assert "And 78 before these: " in found.body
    assert f"rota logs {99:012x}" in found.body


def test_the_worst_come_first_and_in_full() -> None:
    worst = replace(ONE, key="x", about="database", severity="critical", at=AT - 5 * S, kinds=("escalation",))
    found = said(*many(30), worst, tails={worst.key: [str(n) for n in range(10)]})
    body = found.body
    assert body.index("database") < body.index("a1 failed")
    assert "Output:\n  5\n  6\n  7\n  8\n  9\n" in body, "of several, fewer lines each"


def test_what_was_held_back_says_so() -> None:
    found = said(ONE, held=AT - 60 * S)
    assert found.body.endswith("\nHeld back since 2026-11-30 08:59:03: the limit of messages was reached.\n")


HAPPENINGS = st.builds(
    Happening,
    key=st.integers(0, 10**9).map(str),
    kinds=st.sampled_from(KINDS).map(lambda kind: (kind,)),
    severity=st.sampled_from((*SEVERITIES, "catastrophic")),
    at=st.integers(0, 4 * 10**15),
    about=st.sampled_from(["a", "b", "unit:nginx.service"]),
    title=st.text(max_size=200),
    run=st.sampled_from(["", "ab" * 16, "cd" * 16]),
    tried=st.lists(st.text(max_size=20), max_size=2).map(tuple),
)


@given(st.lists(HAPPENINGS, min_size=1, max_size=60, unique_by=lambda one: one.key))
def test_a_message_is_of_bounded_size_and_counts_all(happenings: list[Happening]) -> None:
    found = said(*happenings, tails={one.key: ["line"] * 10 for one in happenings})
    assert len(found.subject) <= 120
    assert found.subject.isprintable() or not any(one.title.isprintable() for one in happenings)
    assert "\n" not in found.subject
    assert len(found.body) < 30_000
    if len(happenings) > 1:
        counted = [int(word) for word in found.body.splitlines()[0].split() if word.isdigit()]
        assert sum(counted[: len({one.kind for one in happenings})]) == len(happenings)
