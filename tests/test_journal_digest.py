"""journal-digest: what looks alike, who an entry is about, and the digest as table and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from rota_agents.journal_digest import __main__ as journal_digest
from rota_agents.journal_digest import digest as digests

NOON = datetime(2027, 2, 1, 12, 0, tzinfo=UTC)


def fields(**known: object) -> dict[str, object]:
    return {"__REALTIME_TIMESTAMP": NOON, "PRIORITY": 3, "MESSAGE": "m", **known}


def entries(unit: str, *messages: str, priority: int = 3) -> list[digests.Entry]:
    return [digests.Entry(NOON, priority, unit, message) for message in messages]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("30min", timedelta(minutes=30)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
    ],
)
def test_period(text: str, expected: timedelta) -> None:
    assert digests.period(text) == expected


@pytest.mark.parametrize("text", ["", "24", "0h", "1.5h", "-1h", "24 h", "1w", "٣h", "999999999d", "1h30min"])
def test_period_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as"):
        digests.period(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pid 12 died", "pid 4711 died"),
        ("at 0x7ffe12 in f", "at 0xdeadbeef in f"),
        ("run 9f2c51d0aa failed", "run 0123abcdef failed"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id ffffffff-eeee-dddd-cccc-bbbbbbbbbbbb"),
        ("from fe80::1:2 port 22", "from fe80::aa:bb port 2222"),
        ("from 10.0.0.1", "from 192.168.1.77"),
        ("at 12:30:01", "at 07:02:59"),
        ("mac 00:1b:21:aa:bb:cc", "mac ff:ee:dd:cc:bb:aa"),
    ],
)
def test_repeats_look_alike(one: str, other: str) -> None:
    assert digests.pattern(one) == digests.pattern(other)


def test_different_words_stay_different() -> None:
    for message in ("the facade is decaf", "Failed to start decade.service", "std::bad_alloc"):
        assert digests.pattern(message) == message


@pytest.mark.parametrize(
    ("known", "unit"),
    [
        ({"_SYSTEMD_UNIT": "a.service"}, "a.service"),
        ({"_SYSTEMD_UNIT": "init.scope", "UNIT": "b.service"}, "b.service"),
        ({"_SYSTEMD_UNIT": "user@1000.service", "_SYSTEMD_USER_UNIT": "c.service"}, "c.service"),
        ({"_SYSTEMD_UNIT": "systemd-coredump@1-2-0.service", "COREDUMP_UNIT": "d.service"}, "d.service"),
        ({"_SYSTEMD_UNIT": "session-3.scope", "SYSLOG_IDENTIFIER": "sudo"}, "sudo"),
        ({"_SYSTEMD_UNIT": "sshd@7-10.0.0.1:22-10.0.0.2:5.service"}, "sshd@*.service"),
        ({"_SYSTEMD_UNIT": "getty@tty1.service"}, "getty@tty1.service"),
        ({"_SYSTEMD_UNIT": "run-r0f3e.service"}, "run-*.service"),
        ({"_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "kernel"}, "kernel"),
        ({"_TRANSPORT": "kernel"}, "kernel"),
        ({"_COMM": b"\xff"}, "\ufffd"),
        ({"UNIT": ["e.service", "f.service"]}, "e.service"),
        ({}, "unknown"),
    ],
)
def test_unit_name(known: dict[str, object], unit: str) -> None:
    assert digests.unit_name(known) == unit


def test_entry_of_takes_what_journald_allows() -> None:
    assert digests.entry_of(fields(MESSAGE="  two \t words\nand a trace")).message == "two words"
    assert digests.entry_of(fields(MESSAGE=b"\xffx")).message == "\ufffdx"
    assert digests.entry_of(fields(MESSAGE="")).message == "(no text)"
    assert len(digests.entry_of(fields(MESSAGE="x" * 9999)).message) == digests.MAX_MESSAGE
    assert digests.entry_of(fields(PRIORITY="2")).priority == 2
    assert digests.entry_of(fields(PRIORITY=b"?")).priority == 3
    with pytest.raises(TypeError, match="not a datetime"):
        digests.entry_of({"__REALTIME_TIMESTAMP": 1})


def test_digest_counts_by_unit_and_finds_the_most_frequent_message() -> None:
    late = NOON + timedelta(hours=1)
    groups = digests.digest(
        [
            *entries("b", "oops 1", "other", "oops 22"),
            *entries("a", "once", priority=1),
            digests.Entry(late, 2, "b", "oops 333"),
        ]
    )
    assert [(group.unit, group.count, group.priority) for group in groups] == [("b", 4, 2), ("a", 1, 1)]
    assert groups[0].top() == (3, "oops 333")
    assert (groups[0].first, groups[0].last) == (NOON, late)
    assert groups[0].exact


def test_memory_is_bounded_and_the_frequent_message_still_found() -> None:
    words = [f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}z" for i in range(3000)]
    noise = [text for word in words for text in (word, "the real trouble")]
    (group,) = digests.digest(entries("a", *noise))
    assert group.count == 6000
    assert len(group.frequent) <= digests.MAX_PATTERNS
    assert not group.exact
    count, message = group.top()
    assert message == "the real trouble"
    assert 2800 < count <= 3000


def test_too_many_units_share_a_row() -> None:
    many = [entry for i in range(digests.MAX_UNITS + 5) for entry in entries(f"unit-{i}", "x")]
    groups = digests.digest(many)
    assert len(groups) == digests.MAX_UNITS + 1
    assert (groups[0].unit, groups[0].count) == (digests.OTHERS, 5)


def test_the_digest_is_read_at_80_columns() -> None:
    groups = digests.digest(
        [
            *entries("docker.service", "x " * 60, "x " * 60),
            *entries("a-unit-with-quite-a-long-name-indeed@instance.service", "\x1b[31mred", priority=2),
            *entries("z.service", "left out"),
        ]
    )
    text = journal_digest.table(groups, 2, NOON - timedelta(days=1))
    assert text.splitlines() == [
        "COUNT  WORST  UNIT                                  FIRST        LAST",
        "    2  err    docker.service                        02-01 12:00  02-01 12:00",
        "       2 times: x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x...",
        "    1  crit   a-unit-with-quit...@instance.service  02-01 12:00  02-01 12:00",
        "       \\x1b[31mred",
        "    1  in 1 more unit (--limit 2)",
    ]
    assert all(len(line) <= 80 for line in text.splitlines())
    assert journal_digest.summary(groups, NOON) == "4 errors in 3 units since 2027-02-01 12:00"
    assert journal_digest.table([], 20, NOON) == ""
    assert journal_digest.summary([], NOON) == "no errors since 2027-02-01 12:00"


def test_the_json_of_a_digest() -> None:
    groups = digests.digest(entries("a.service", "one 1", "one 2", "two"))
    result = journal_digest.result_of(groups, NOON - timedelta(days=1), NOON)
    assert json.loads(json.dumps(result)) == {
        "since": "2027-01-31T12:00:00+00:00",
        "until": "2027-02-01T12:00:00+00:00",
        "errors": 3,
        "units": [
            {
                "unit": "a.service",
                "count": 3,
                "worst": "err",
                "first": "2027-02-01T12:00:00+00:00",
                "last": "2027-02-01T12:00:00+00:00",
                "message": "one 2",
                "message_count": 2,
                "message_count_exact": True,
            }
        ],
    }
