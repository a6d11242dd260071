"""Which run a line is of that journald took in too late to know."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.events import Run
from rota.lines import Stray, senders
from rota.logs import agent_matches, run_matches

A, B, C = "_STREAM_ID=a", "_STREAM_ID=b", "_STREAM_ID=c"


def test_strays_are_of_the_run_during_which_they_came() -> None:
    strays = [Stray(A, 11, 90), Stray(B, 12, 110), Stray(B, 13, 120), Stray(C, 14, 200)]
    assert senders(strays, 100, 200, None) == [B]
    assert senders(strays, 100, None, None) == [B, C]
    assert senders(strays, 200, None, 14) == [C]
    assert senders(strays, 300, None, None) == []


def test_order_is_that_of_the_clock() -> None:
    """The journal holds them by the order in which journald read its sockets."""
    strays = [Stray(B, 12, 120), Stray(A, 11, 110)]
    assert senders(strays, 100, None, None) == [A, B]


def test_what_comes_one_way_is_of_one_run() -> None:
    """A child's last line may come after the next run has begun."""
    strays = [Stray(A, 11, 150), Stray(A, 99, 250)]
    assert senders(strays, 100, 200, 11) == [A]
    assert senders(strays, 200, None, 20) == [A], "and the next run, which is silent, has no better word"


def test_behind_by_whole_runs_the_main_process_tells() -> None:
    """As on the booted machine: journald stopped for two runs, which began at 100 and 200."""
    first = [Stray(A, 366, 300), Stray(A, 369, 310), Stray(A, 371, 340)]
    second = [Stray(B, 375, 320), Stray(B, 378, 350), Stray(C, 380, 360)]
    strays = [first[0], first[1], second[0], first[2], second[1], second[2]]
    assert senders(strays, 100, 200, 366) == [A]
    assert senders(strays, 200, None, 375) == [B, C]


def test_a_process_id_from_before_is_another_process() -> None:
    assert senders([Stray(A, 11, 90), Stray(B, 12, 150)], 100, 200, 11) == [B]


@given(
    st.lists(st.builds(Stray, st.sampled_from([A, B, C]), st.integers(1, 5), st.integers(0, 400))),
    st.lists(st.integers(0, 400), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_without_a_process_each_stray_has_one_run(strays: list[Stray], begun: list[int]) -> None:
    ends: list[int | None] = [*begun[1:], None]
    for sender in {stray.sender for stray in strays}:
        mine = [stray for stray in strays if stray.sender == sender and stray.at >= begun[0]]
        first = [
            begin
            for begin, end in zip(begun, ends, strict=True)
            if sender in senders(mine[:1] if mine else [], begin, end, None)
        ]
        assert len(first) == (1 if mine else 0)


def test_matches_of_journalctl() -> None:
    run = Run("0" * 32, "a", "activated")
    assert agent_matches("a", user=False) == ["ROTA_AGENT=a"]
    assert run_matches(run, user=False) == [
        f"INVOCATION_ID={run.id}",
        "+",
        f"_SYSTEMD_INVOCATION_ID={run.id}",
    ]
    assert run_matches(run, user=True)[0] == f"USER_INVOCATION_ID={run.id}"
    assert agent_matches("a", user=True) == [
        "_SYSTEMD_USER_UNIT=rota-a.service",
        "+",
        "USER_UNIT=rota-a.service",
    ]
