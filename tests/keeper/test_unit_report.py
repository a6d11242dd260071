"""What another machine says of its units: taken as it is meant, and refused where it is anything else."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rota_agents.home_keeper.checks import unit_report
from rota_agents.home_keeper.checks.unit_report import parse
from rota_agents.home_keeper.checks.words import Malformed

REPORT = r"""rota-probe 1
-.mount loaded active mounted
a.service loaded failed failed
srv-\x2d.mount loaded failed failed
slow.service loaded activating start
t.timer loaded inactive dead
timers.target loaded active active
web@1.service not-found inactive dead

Type=simple
NRestarts=4
ExecMainCode=1
ExecMainStatus=3
Result=exit-code
TimeoutStartUSec=1min 30s
TimeoutStopUSec=1min 30s
Id=a.service
Job=
ConditionResult=yes
ConditionTimestampMonotonic=123

Type=oneshot
TimeoutStartUSec=infinity
TimeoutStopUSec=1min 30s
Id=slow.service
Job=17
ConditionResult=no
ConditionTimestampMonotonic=0

Id=t.timer
WantedBy=timers.target system.slice
RemainAfterElapse=yes
ConditionResult=no
ConditionTimestampMonotonic=99

Id=other.service

end
"""


def test_a_report() -> None:
    units = parse(REPORT.encode())
    assert list(units) == [
        "-.mount",
        "a.service",
        r"srv-\x2d.mount",
        "slow.service",
        "t.timer",
        "timers.target",
        "web@1.service",
    ]
    a = units["a.service"]
    assert (a.active, a.result, a.code, a.status, a.restarts, a.limit) == (
        *("failed", "exit-code", 1, 3, 4),
        90_000_000,
    )
    assert (a.queued, a.condition, a.wanted) == (False, True, False)
    slow = units["slow.service"]
    assert (slow.kind, slow.limit, slow.queued, slow.condition) == ("oneshot", None, True, True)
    timer = units["t.timer"]
    assert (timer.wanted, timer.condition) == (True, False)
    assert units["web@1.service"].load == "not-found"


def test_a_timer_that_no_active_unit_wants() -> None:
    assert not parse(REPORT.replace("timers.target loaded active", "timers.target loaded inactive").encode())[
        "t.timer"
    ].wanted
    once = REPORT.replace("RemainAfterElapse=yes", "RemainAfterElapse=no")
    assert not parse(once.encode())["t.timer"].wanted


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("rota-probe 1", "Welcome to nas!", "begins with"),
        ("rota-probe 1", "rota-probe 2", "begins with"),
        ("end\n", "", "is cut off"),
        ("end\n", "end\nmore\n", "is cut off"),
        ("a.service loaded failed failed", "a.service loaded failed", "which is no unit"),
        ("a.service loaded failed failed", "a loaded failed failed", "which is no unit"),
        ("a.service loaded failed failed", "../a.service loaded failed failed", "which is no unit"),
        ("a.service loaded failed failed", "a.service loaded broken failed", "it says that a.service is"),
        ("a.service loaded failed failed", "a.service loaded failed \x1b[2J", "it says that a.service is"),
        ("NRestarts=4", "NRestarts=4\nNRestarts=5", "which was not asked"),
        ("NRestarts=4", "NRestarts=four", "it says"),
        ("NRestarts=4", "NRestarts=99999999999999", "it says"),
        ("NRestarts=4", "NRestarts", "which was not asked"),
        ("NRestarts=4", "Environment=SECRET=1", "which was not asked"),
        ("Result=exit-code", "Result=rm -rf", "it says"),
        ("Result=exit-code", f"Result={'x' * 50}", "it says"),
        ("TimeoutStartUSec=infinity", "TimeoutStartUSec=soon", "it says"),
        ("ConditionResult=yes", "ConditionResult=maybe", "it says"),
        ("WantedBy=", f"WantedBy={'a.target ' * 3000}", "which was not asked"),
        ("a.service loaded failed failed", "ä.service loaded failed failed", "not ASCII"),
    ],
)
def test_what_is_refused(before: str, after: str, why: str) -> None:
    assert before in REPORT
    with pytest.raises(Malformed, match=why) as error:
        parse(REPORT.replace(before, after, 1).encode())
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


def test_more_units_than_a_machine_has() -> None:
    count = unit_report.MOST_UNITS + 1
    lines = "".join(f"u{number}.service loaded active running\n" for number in range(count))
    with pytest.raises(Malformed, match="more than 20000 units"):
        parse(f"rota-probe 1\n{lines}\nend\n".encode())


def test_a_machine_without_services() -> None:
    assert list(parse(b"rota-probe 1\n-.mount loaded active mounted\n\nend\n")) == ["-.mount"]


def outcome(data: bytes) -> None:
    try:
        units = parse(data)
    except Malformed as error:
        assert str(error).isprintable()
    else:
        assert all(name == unit.name and name.isascii() and " " not in name for name, unit in units.items())


@given(st.binary(max_size=300))
@example(b"")
@example(b"end\n")
@example(b"rota-probe 1\nend\n")
@example(b"rota-probe 1\n\nend\n")
def test_any_bytes(data: bytes) -> None:
    outcome(data)
    outcome(b"rota-probe 1\n" + data + b"\nend\n")


lines = st.sampled_from(REPORT.splitlines())


@given(st.lists(lines | st.text(max_size=40), max_size=60))
def test_any_lines(parts: list[str]) -> None:
    text = "\n".join(["rota-probe 1", *parts, "end", ""])
    outcome(text.encode(errors="replace"))


@given(st.integers(0, len(REPORT) - 1), st.binary(max_size=5))
def test_a_report_with_something_else_in_it(at: int, junk: bytes) -> None:
    data = REPORT.encode()
    outcome(data[:at] + junk + data[at + len(junk) :])
    if at < len(data) - 1:
        with pytest.raises(Malformed):
            parse(data[:at])
