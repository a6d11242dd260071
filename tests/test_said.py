"""What a run said: lines that are fit to be shown, and results that are fit to be kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.said import DEEPEST, LONGEST_LINE, LONGEST_RESULT, Line, Said, harmless, parse_result, summary


def said(*messages: str) -> Said:
    lines = [Line(message) for message in messages]
    return summary(lines, reversed(lines))


def test_first_and_last_line_that_say_something() -> None:
    assert said() == Said()
    assert said("", "  ", "\x1b[0m") == Said()
    assert said("one") == Said("one", "one")
    assert said("", "one", "two", "three", " ") == Said("one", "three")
    assert said("\n\na\nb\n", "c\nd\n\n") == Said("a", "d"), "an entry that was logged may have several"


def test_a_line_is_cut() -> None:
    found = said("x" * LONGEST_LINE, "y" * (LONGEST_LINE + 1))
    assert found.first_line == "x" * LONGEST_LINE
    assert found.last_line == "y" * (LONGEST_LINE - 1) + "…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mfailed\x1b[0m: \x1b[4mx\x1b[m", "failed: x"),
        ("\x1b]0;a title\x07said", "said"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ends", ""),
        ("\x9b2Jcleared", "cleared"),
        ("\x1bcreset", "reset"),
        ("10%\r20%\r100%\r\n", "100%"),
        ("a\tb\x00c\u202ed", "a b c d"),
        ("naïve 日本 é", "naïve 日本 é"),
    ],
)
def test_nothing_that_a_terminal_would_act_on(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text())
def test_what_is_shown_prints(text: str) -> None:
    assert harmless(text).isprintable()


def test_the_last_result_counts_and_is_no_line() -> None:
    assert said("ROTA_RESULT={}") == Said(result="{}")
    found = said("start", 'ROTA_RESULT={"n": 1}', 'ROTA_RESULT={"n": 2}', "end")
    assert found == Said("start", "end", '{"n":2}')
    lines = [Line("looked at 3 disks", '{"disks": 3}'), Line("done")]
    assert summary(lines, reversed(lines)) == Said("looked at 3 disks", "done", '{"disks":3}')
    assert said("start", "ROTA_RESULT=yes").result_error == "Expecting value: line 1 column 1 (char 0)"
    assert said("see ROTA_RESULT={}") == Said("see ROTA_RESULT={}", "see ROTA_RESULT={}")


def nested(depth: int) -> str:
    return '{"a":' * depth + "0" + "}" * depth


BAD = {
    "": "Expecting value",
    "[1]": "not a JSON object",
    '"x"': "not a JSON object",
    "null": "not a JSON object",
    '{"a": NaN}': "NaN is not JSON",
    '{"a": -Infinity}': "-Infinity is not JSON",
    '{"a": 1e999}': "a number beyond 64 bits",
    '{"a": [9223372036854775808]}': "a number beyond 64 bits",
    '{"a": ' + "9" * 5000 + "}": "Exceeds the limit",
    '{"a": "\\ud800"}': "half a surrogate pair",
    '{"\\udfff": 1}': "half a surrogate pair",
    '{"a": "\x01"}': "Invalid control character",
    "{'a': 1}": "Expecting property name",
    '{"a": 1} trailing': "Extra data",
    nested(DEEPEST + 1): f"nested more than {DEEPEST} deep",
    nested(2000): f"nested more than {DEEPEST} deep",
    "[" * 16000: f"nested more than {DEEPEST} deep",
    '{"a": "' + "x" * LONGEST_RESULT + '"}': "longer than 16 KiB",
    '{"a": "' + "\N{RIGHT-TO-LEFT OVERRIDE}" * 4000 + '"}': "longer than 16 KiB",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_result(text: str) -> None:
    result, error = parse_result(text)
    assert result is None
    assert error is not None
    assert error.startswith(BAD[text])
    assert len(error) <= LONGEST_LINE


def test_what_is_one() -> None:
    assert parse_result(nested(DEEPEST)) == (nested(DEEPEST), None)
    assert parse_result('{"a": -9223372036854775808, "b": 0.5, "c": [true, null]}')[1] is None
    assert parse_result('{"a": "\\u0000 \u202e é \U000e0001"}') == (
        '{"a":"\\u0000 \\u202e é \\udb40\\udc01"}',
        None,
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES | st.text())
def test_a_result_is_kept_as_it_was_or_refused(value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    result, error = parse_result(text)
    assert (result is None) != (error is None)
    if result is not None:
        assert result.isprintable()
        assert json.loads(result) == json.loads(text)
        assert len(result.encode()) <= LONGEST_RESULT
