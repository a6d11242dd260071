"""Containers: what is said of them, by what they are and what was heard of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rota_agents.home_keeper.checks.containers import (
    Judge,
    Track,
    by_hand,
    ended_with_engine,
    heard,
    passed,
    seen,
)
from rota_agents.home_keeper.checks.engine import (
    Container,
    Happened,
    Listed,
    container,
    happened,
    listed,
    moment,
    signal,
)
from rota_agents.home_keeper.checks.words import Malformed
from rota_agents.home_keeper.words import PROBLEMS, Finding

from rota.container_watches import Containers, Engine
from rota.quantity import USEC
from tests.keeper.kit import NOON

ID = "ab" * 32
RULES = Containers(engines=(Engine("", "/run/x.sock"),))
JUDGE = Judge(RULES.engines[0], RULES, NOON - 10 * USEC)


def one(status: str = "running", **more: Any) -> Container:
    made = {"created": NOON - 3600 * USEC, "started": NOON - 60 * USEC, "finished": NOON - USEC}
    return Container(ID, "web", "image", status, **(made | more))


def found(
    what: Container, track: Track | None = None, *, judge: Judge = JUDGE, now: int = NOON, **others: Container
) -> list[tuple[str, str]]:
    verdict = judge.verdict(what, track or Track(), {what.id: what, **others}, now)
    assert all(item.problem in PROBLEMS["container"] for item in verdict.findings)
    return [(item.problem, item.severity) for item in verdict.findings]


def only(what: Container, track: Track | None = None, **others: Container) -> Finding:
    (finding,) = JUDGE.verdict(what, track or Track(), {what.id: what, **others}, NOON).findings
    return finding


def event(action: str, at: int = NOON, signal: int = 0, which: str = ID) -> Happened:
    return Happened(which, action, at * 1000, signal)


def after(*events: Happened, what: Container | None = None) -> Track:
    track = Track()
    for item in events:
        track = heard(track, item, what)
    return track


DIED = after(event("start"), event("die"))
STOPPED = after(event("start"), event("kill", signal=15), event("die"), event("stop"))
KILLED = after(event("start"), event("kill", signal=9), event("die"))
RELOADED = after(event("start"), event("kill", signal=1), event("die"))
STARTED_AGAIN = after(event("kill", signal=15), event("die"), event("stop"), event("start"), event("die"))


@pytest.mark.parametrize(
    ("policy", "exit_code", "track", "expected"),
    [
        # a one-shot job
        ("no", 0, DIED, []),
        ("on-failure", 0, DIED, []),
        # a crash
        ("no", 3, DIED, ["exited"]),
        ("no", 137, DIED, ["exited"]),
        ("no", 3, STARTED_AGAIN, ["exited"]),
        ("no", 3, RELOADED, ["exited"]),
        # a person's wish
        ("no", 143, STOPPED, []),
        ("no", 3, STOPPED, []),
        ("no", 137, KILLED, []),
        ("always", 137, KILLED, []),
        ("unless-stopped", 0, STOPPED, []),
        # nobody listened: what the engine would have started again, a person stopped
        ("always", 1, Track(), []),
        ("unless-stopped", 137, Track(), []),
        ("on-failure", 1, Track(), []),
        ("no", 1, Track(), ["exited"]),
        ("no", 255, Track(), ["exited"]),
        # with its engine
        ("no", 0, Track(with_engine=True, died=NOON), ["exited"]),
        ("on-failure", 0, Track(with_engine=True, died=NOON), ["exited"]),
    ],
)
def test_what_has_ended(policy: str, exit_code: int, track: Track, expected: list[str]) -> None:
    what = one("exited", policy=policy, exit_code=exit_code)
    assert [problem for problem, _ in found(what, track)] == expected


def test_what_a_signal_may_have_ended_when_nobody_looked_is_noted() -> None:
    assert found(one("exited", exit_code=143)) == [("exited", "info")]
    wanted = replace(JUDGE, rules=replace(RULES, running=("we?",)))
    assert found(one("exited", exit_code=143), judge=wanted) == [("exited", "warning")]


def test_an_engine_gives_up_after_so_many_restarts() -> None:
    what = one("exited", policy="on-failure", retries=3, exit_code=1)
    assert found(replace(what, restarts=3)) == [("exited", "warning")]
    assert found(replace(what, restarts=2)) == [], "it would have gone on, but for a person"


def test_what_cannot_be_started_is_a_finding_whatever_the_policy() -> None:
    what = one("exited", policy="always", exit_code=128, error="port is already allocated")
    assert found(what) == [("exited", "warning")]
    assert "port is already allocated" in only(what).summary


def test_old_ends_are_no_news() -> None:
    old = one("exited", exit_code=3, finished=NOON - 3 * 86_400 * USEC)
    assert found(old) == []
    assert found(old, replace(DIED, died=old.finished)) == [("exited", "warning")], "it was followed"


@pytest.mark.parametrize("status", ["paused", "removing", "created", "restarting"])
def test_what_is_no_trouble(status: str) -> None:
    assert found(one(status, health="unhealthy", exit_code=3), DIED) == []


def test_what_removes_itself_is_let_go() -> None:
    assert found(one("exited", exit_code=3, auto_remove=True), DIED) == []


@pytest.mark.parametrize(("health", "expected"), [("", 0), ("starting", 0), ("healthy", 0), ("unhealthy", 1)])
def test_health(health: str, expected: int) -> None:
    assert len(found(one(health=health))) == expected


def test_what_is_to_run_and_was_never_started() -> None:
    wanted = replace(JUDGE, rules=replace(RULES, running=("web",)))
    assert found(one("created", started=0), judge=wanted) == [("exited", "warning")]
    new = one("created", started=0, created=NOON)
    assert found(new, judge=wanted) == []
    again = wanted.verdict(new, Track(), {}, NOON).again
    assert again is not None
    assert found(new, judge=wanted, now=again) == [("exited", "warning")]
    assert found(one("exited", exit_code=0), DIED, judge=wanted) == [("exited", "warning")]
    assert found(one("exited", exit_code=0), STOPPED, judge=wanted) == []


def test_memory_that_ran_out() -> None:
    assert found(one("exited", exit_code=137, oom=True), DIED) == [("oom-killed", "warning")]
    track = heard(Track(), event("oom"), None)
    assert found(one(), track) == [("oom-killed", "info")]
    assert found(one(), track, now=NOON + RULES.within) == []


@pytest.mark.parametrize(
    ("label", "details", "problems"),
    [
        ("", None, ["unhealthy"]),
        ("restart", "restart", ["unhealthy"]),
        ("escalate", "escalate", ["unhealthy"]),
        ("ignore", None, []),
        ("ignroe", "escalate", ["unhealthy", "label"]),
    ],
)
def test_labels(label: str, details: str | None, problems: list[str]) -> None:
    what = one(health="unhealthy", label=label)
    verdict = JUDGE.verdict(what, Track(), {}, NOON)
    assert [item.problem for item in verdict.findings] == problems
    assert {item.details.get("label") for item in verdict.findings} <= {details}


def test_ignored_by_name() -> None:
    judge = replace(JUDGE, rules=replace(RULES, ignore=("w*",)))
    assert found(one(health="unhealthy"), judge=judge) == []
    second = replace(judge, engine=Engine("podman", "/run/p.sock"))
    assert found(one(health="unhealthy"), judge=second) == [("unhealthy", "warning")]
    assert str(second.target(one())) == "container:podman/web"


def test_what_it_needs() -> None:
    database = replace(one(), id="cd" * 32, name="shop-db-1", project="shop", service="db")
    other = replace(database, id="ef" * 32, name="blog-db-1", project="blog")
    web = one(health="unhealthy", project="shop", service="web", depends=("db",))
    assert only(web, db=database, other=other).details["needs"] == ["container:shop-db-1"]
    inside = one(health="unhealthy", network_of=database.id)
    assert only(inside, db=database, other=other).details["needs"] == ["container:shop-db-1"]
    assert "needs" not in only(one(health="unhealthy"), db=database).details


# restarts by the engine


def restarted(track: Track, count: int, at: int) -> Track:
    return seen(track, one(), one(restarts=count, finished=at), RULES, at)


def test_a_restart_is_no_trouble_and_a_loop_is() -> None:
    track = restarted(Track(), 0, NOON)
    for count in range(1, 5):
        track = restarted(track, count, NOON + count * USEC)
        assert found(one(restarts=count), track) == []
    track = restarted(track, 5, NOON + 5 * USEC)
    assert found(one(restarts=5), track) == [("restart-loop", "warning")]
    again = JUDGE.verdict(one(restarts=5), track, {}, NOON + 5 * USEC).again
    assert again == NOON + 5 * USEC + RULES.calm
    assert passed(track, RULES, again - 1).looping
    assert not passed(track, RULES, again).looping


def test_a_loop_that_goes_on_is_no_news_each_time() -> None:
    track, told = Track(count=0), set[str]()
    for count in range(1, 100):
        for what in (one("restarting", restarts=count, exit_code=3), one(restarts=count)):
            track = seen(track, one(), what, RULES, NOON + count * USEC)
            told |= {item.summary for item in JUDGE.verdict(what, track, {}, NOON + count * USEC).findings}
    assert len(told) == 5, told
    assert all("exit code 3" in text for text in told)


def test_whoever_starts_it_ends_the_loop() -> None:
    track = Track(restarts=(NOON,) * 5, count=5, looping=True)
    assert not restarted(track, 0, NOON + USEC).looping


def test_a_loop_is_seen_at_first_sight() -> None:
    track = seen(Track(), None, one("restarting", restarts=40), RULES, NOON)
    assert found(one("restarting", restarts=40), track) == [("restart-loop", "warning")]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_a_loop_is_so_many_restarts_in_a_window_and_ends_when_it_is_calm(gaps: list[int]) -> None:
    at, moments, track = NOON, list[int](), restarted(Track(), 0, NOON)
    for count, gap in enumerate(gaps, 1):
        at += gap * USEC
        before = passed(track, RULES, at)
        if moments and at - moments[-1] >= RULES.calm:
            assert not before.looping
        track = restarted(before, count, at)
        moments = [*([] if moments and before.restarts == () else moments), at]
        recent = [when for when in moments if when > at - RULES.within]
        assert track.looping == (len(recent) >= RULES.restarts or before.looping)


def test_podman_says_that_a_container_ended_before_it_starts_it_again() -> None:
    podman = replace(JUDGE, starts_again=False)
    what = one("exited", policy="always", exit_code=3, finished=NOON)
    assert found(what, DIED, judge=podman) == []
    again = podman.verdict(what, DIED, {}, NOON).again
    assert again is not None
    assert found(what, DIED, judge=podman, now=again) == [("exited", "warning")]
    assert found(what, Track(died=NOON, looping=True, restarts=(NOON,)), judge=podman) == [
        ("restart-loop", "warning")
    ]
    for ended in (replace(what, policy="no"), replace(what, policy="on-failure", retries=2, restarts=2)):
        assert found(ended, DIED, judge=podman) == [("exited", "warning")]


# the engine that ends


def test_what_ended_with_its_engine_was_not_stopped_by_hand() -> None:
    ids = ["a", "b", "c"]
    together = {key: heard(Track(), event("kill", NOON + n, 15, key), None) for n, key in enumerate(ids)}
    earlier = heard(Track(), event("kill", NOON - 10 * USEC, 15, "d"), None)
    everything = {key: one() for key in [*ids, "d"]}
    ended = {key: one("exited") for key in everything}
    marked = ended_with_engine({**together, "d": earlier}, everything, ended, NOON + 10 * USEC)
    assert [key for key, track in marked.items() if track.with_engine] == ids
    assert by_hand(one("exited"), marked["d"]) is True
    late = ended_with_engine({"d": earlier}, everything, ended, NOON + 60 * USEC)
    assert not late["d"].with_engine, "the engine was there for long after it"


def test_how_long_an_engine_waits_for_one_says_nothing_of_another() -> None:
    quick, slow = (after(event("kill", NOON, 15), event("stop", NOON + n * USEC)) for n in (0, 10))
    both = {"a": one(), "b": one()}
    marked = ended_with_engine({"a": quick, "b": slow}, both, both, NOON + 10 * USEC)
    assert all(track.with_engine for track in marked.values())


def test_what_ended_while_another_engine_came_ended_with_its_own() -> None:
    found = {"a": one("exited"), "b": one(), "c": one("exited")}
    before = {"a": one(), "b": one(), "c": one("exited")}
    marked = ended_with_engine(dict.fromkeys(before, Track()), before, found, NOON)
    assert [key for key, track in marked.items() if track.with_engine] == ["a"]


def test_an_engine_that_was_killed_had_nobody_end() -> None:
    by_person = {"a": heard(Track(), event("kill", NOON, 15), None), "b": Track()}
    before = {"a": one("exited"), "b": one()}
    marked = ended_with_engine(by_person, before, {"a": one("exited"), "b": one("exited")}, NOON + USEC)
    assert [key for key, track in marked.items() if track.with_engine] == ["b"]


@pytest.mark.parametrize("kill", [True, False])
def test_an_end_is_told_of_when_it_is_known_who_wanted_it(kill: bool) -> None:
    """What is looked at is ahead of what is heard."""
    what = one("exited", exit_code=137, finished=NOON)
    track = seen(Track(), one(), what, RULES, NOON, listening=NOON - USEC)
    assert found(what, track) == []
    again = JUDGE.verdict(what, track, {}, NOON).again
    assert again is not None
    assert found(what, track, now=again) == [("exited", "warning")], "it is never heard of"
    for item in ([event("kill", signal=9)] if kill else []) + [event("die")]:
        track = heard(track, item, what)
    assert found(what, track) == ([] if kill else [("exited", "warning")])


def test_an_engine_that_was_killed_leaves_ends_that_nobody_asked_for() -> None:
    track = seen(Track(), one(), one("exited", exit_code=137), RULES, NOON)
    assert found(one("exited", exit_code=137), track) == [("exited", "warning")]


_ACTIONS = st.sampled_from(["start", "die", "stop", "kill", "oom", "pause", "health_status", "restart"])


@given(st.lists(st.tuples(_ACTIONS, st.sampled_from([1, 9, 10, 15]))))
def test_by_hand_is_that_somebody_asked_since_the_last_start(happenings: list[tuple[str, int]]) -> None:
    track = after(*(event(action, NOON + n, number) for n, (action, number) in enumerate(happenings)))
    starts = [n for n, (action, _) in enumerate(happenings) if action in ("start", "restart")]
    since = happenings[starts[-1] + 1 :] if starts else happenings
    asked = any(action == "stop" or (action == "kill" and number in (9, 15)) for action, number in since)
    assert bool(track.asked) == asked
    died = any(action == "die" for action, _ in since)
    expected = True if asked else False if died else None
    assert by_hand(one("exited", exit_code=137), track) is expected


def test_a_signal_that_podman_does_not_name_counts() -> None:
    assert after(event("kill")).asked
    assert not after(event("kill", signal=-1)).asked


def test_a_stop_signal_of_its_own_counts() -> None:
    what = one(stop_signal=10)
    assert after(event("kill", signal=10), what=what).asked
    assert not after(event("kill", signal=10)).asked


@pytest.mark.parametrize(("text", "number"), [("SIGWINCH", 28), ("SIGRTMIN+3", 37)])
def test_the_stop_signals_of_httpd_and_systemd_count(text: str, number: int) -> None:
    what = container(inspected() | {"Config": {"StopSignal": text}})
    assert after(event("kill", signal=number), what=what).asked


# what the engine says


def inspected(**state: Any) -> dict[str, Any]:
    return {
        "Id": ID,
        "Name": "/web",
        "Created": "2026-11-21T12:15:48.341464414Z",
        "RestartCount": 2,
        "State": {"Status": "running", "StartedAt": "2026-11-21T12:15:49Z", **state},
        "HostConfig": {
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4},
            "NetworkMode": "none",
        },
        "Config": {
            "Image": "web:1",
            "StopSignal": "SIGQUIT",
            "Labels": {
                "rota.keeper": "restart",
                "com.docker.compose.project": "shop",
                "com.docker.compose.service": "web",
                "com.docker.compose.depends_on": "db:service_healthy:true,cache:service_started:false",
            },
        },
    }


def test_an_inspected_container() -> None:
    log = [
        {"Start": "2026-11-21T12:15:50Z", "ExitCode": 0, "Output": "fine"},
        {"Start": "2026-11-21T12:15:51Z", "ExitCode": 1, "Output": "no\n"},
        {"Start": "2026-11-21T12:15:52+00:00", "ExitCode": 1, "Output": "no\x1b answer\n"},
    ]
    what = container(inspected(Health={"Status": "unhealthy", "FailingStreak": 2, "Log": log}))
    assert (what.name, what.policy, what.retries, what.restarts) == ("web", "on-failure", 4, 2)
    assert (what.stop_signal, what.label, what.project) == (3, "restart", "shop")
    assert what.depends == ("db", "cache")
    assert (what.health, what.failures, what.said) == ("unhealthy", 2, "no? answer")
    assert what.failing_since == moment("2026-11-21T12:15:51Z") == NOON + (15 * 60 + 51) * USEC
    assert what.finished == 0
    assert container(inspected(Status="configured")).status == "created", "Podman's word"


@pytest.mark.parametrize(
    "raw", [{}, {"Id": ID}, inspected(StartedAt="yesterday"), {**inspected(), "State": 3}]
)
def test_what_is_not_as_expected_is_said(raw: Any) -> None:
    with pytest.raises(Malformed):
        container(raw)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_answer_is_taken_for_a_container_or_breaks_it(raw: Any) -> None:
    for read, answer in ((container, {"State": raw}), (happened, {"Actor": raw, "Type": "container"})):
        with pytest.raises(Malformed):
            read(answer)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("15", 15), ("TERM", 15), ("SIGKILL", 9), ("sigterm", 15), ("", 0), ("SIGNONE", -1)),
        *(("SIGWINCH", 28), ("SIGRTMIN+3", 37), ("RTMIN", 34), ("SIGRTMAX-1", 63), ("RTMIN+x", -1)),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert signal(text) == number


def test_events() -> None:
    raw = {
        "Type": "container",
        "Action": "health_status: unhealthy",
        "Actor": {"ID": ID, "Attributes": {"name": "web"}},
        "timeNano": NOON * 1000 + 7,
    }
    assert happened(raw) == Happened(ID, "health_status", NOON * 1000 + 7)
    assert happened({**raw, "Type": "network"}) is None
    died = happened({**raw, "Action": "died"})
    assert died is not None
    assert died.action == "die"


@pytest.mark.parametrize(
    ("state", "status", "health"),
    [
        ("running", "Up 5 minutes (healthy)", "healthy"),
        ("running", "Up About an hour (unhealthy)", "unhealthy"),
        ("running", "Up 2 seconds (health: starting)", "starting"),
        ("running", "Up 3 days", None),
        ("running", "", None),
        ("paused", "Up 5 minutes (Paused)", None),
        ("exited", "Exited (137) 2 hours ago", None),
    ],
)
def test_what_a_list_says(state: str, status: str, health: str | None) -> None:
    raw = {"Id": ID, "State": state, "Status": status, "Names": ["/app/db", "/db"]}
    assert listed(raw) == (ID, Listed(state, "db", health))
    inspected = Container(ID, "db", status=state, health=health or "unhealthy")
    assert listed(raw)[1].agrees(inspected), "where the list does not say it, it does not differ"
    assert not listed(raw)[1].agrees(replace(inspected, name="other"))
    assert listed(raw)[1].agrees(replace(inspected, health="")) is (health is None)


def test_podmans_words_in_a_list_are_no_other_status() -> None:
    assert listed({"Id": ID, "State": "configured", "Names": ["db"]})[1].agrees(
        Container(ID, "db", status="created")
    )
