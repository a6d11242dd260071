"""Journal entries to events: real entries of each case, and entries that are odd.

samples/CASE.json holds what journald of systemd 257 wrote about one unit, an entry a line, cut down
to the fields that matter; the units were called s-CASE.service, and here are rota-CASE.service.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota import journal
from rota.events import KINDS, Event, fold
from rota.journal import ROTA_MESSAGE, Fields, to_event
from rota.names import agent_of

SAMPLES = Path(__file__).parent / "samples"
RUN = "0123456789abcdef0123456789abcdef"
BOOT = "b8a03d1147fe4d6a957a1b3b93985145"
STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
FINISHED = "39f53479d3a045ac8e11786248231fbf"
NOT_STARTED = "be02cf6855d2428ba40df7e9d022f03d"
EXITED = "98e322203f7a4ed290d09fe03c09fe15"
FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
DEACTIVATED = "7ad2d189f7e94e70a38c781354912448"
SKIPPED = "0e4284a0caca4bfc81c0bb6786972673"
RESOURCES = "ae8f7b866b0347b9af31fe1c80b127c0"
MESSAGES = {
    STARTING: "activated",
    FINISHED: "running",
    NOT_STARTED: "not-started",
    EXITED: "exited",
    FAILED: "failed",
    DEACTIVATED: "deactivated",
    SKIPPED: "skipped",
    "de5b426a63be47a7b6ac3eaac82e2f6f": "stopping",
    "9d1aaa27d60140bd96365438aad20286": "stopped",
    "5eb03494b6584870a536b337290809b3": "restart-scheduled",
    RESOURCES: "resources",
}

# case: kinds of events in their order, a blank between runs.
KINDS_OF = {
    "ok": "activated deactivated running",
    "exec": "activated running deactivated",
    "simple": "running deactivated",
    "okshort": "activated deactivated running",
    "successstatus": "activated deactivated running",
    "cpu": "activated deactivated running resources",
    "vm-cpu": "activated deactivated running resources",
    "tmr": "activated deactivated running",
    "fail": "activated exited failed not-started activated exited failed not-started",
    "missing": "activated exited failed not-started",
    "baduser": "activated exited failed not-started",
    "signal": "activated exited failed not-started",
    "killed": "activated exited failed not-started",
    "vm-oom": "activated exited failed not-started",
    "timeout": "activated exited failed not-started",
    "timeoutabort": "activated exited failed not-started",
    "runtimemax": "activated running failed",
    "stopped": "activated exited failed stopped",
    "cond": "activated skipped running",
    "condfail": "activated exited failed not-started",
    "condpath": "skipped",
    "dep": "not-started",
    "assert": "not-started",
    "limit": "activated deactivated running " * 3,
    "kept": "activated deactivated running " * 2 + "failed not-started",
    "restart": "activated exited failed not-started restart-scheduled " * 3 + "failed not-started",
    "onfail": "",
}


def entries(case: str) -> list[dict[str, str]]:
    text = (SAMPLES / f"{case}.json").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def raw(entry: Mapping[str, str]) -> Fields:
    """Return an entry as the raw reader gives it, the sample's unit being an agent's."""
    fields = {name: value for name, value in entry.items() if not name.startswith("__")}
    if "UNIT" in fields:
        fields["UNIT"] = re.sub(r"^s-", "rota-", fields["UNIT"])
    return {name: value.encode() for name, value in fields.items()}


def events(case: str) -> list[Event]:
    """Return the events of a sample: of all its entries, also those that the reader's matches leave out."""
    found = []
    for entry in entries(case):
        fields = raw(entry)
        if entry.get("MESSAGE_ID") not in MESSAGES:
            continue
        event = to_event(fields, lambda entry=entry: entry["__CURSOR"], int(entry["__REALTIME_TIMESTAMP"]))  # type: ignore[misc]
        if event is not None:
            found.append(event)
    return found


def entry(**fields: str | bytes) -> Fields:
    """Return an entry of systemd's about a run, with fields changed or added; "" takes one away."""
    base: dict[str, str | bytes] = {
        "UNIT": "rota-a.service",
        "INVOCATION_ID": RUN,
        "MESSAGE_ID": DEACTIVATED,
        "_BOOT_ID": BOOT,
        "_SOURCE_REALTIME_TIMESTAMP": "1795212587845311",
    }
    return {
        name: value if isinstance(value, bytes) else value.encode()
        for name, value in (base | fields).items()
        if value != ""
    }


def one(fields: Fields) -> Event | None:
    return to_event(fields, lambda: "s=1;i=2", 1_795_212_587_900_000)


def own(event: str, data: object, **fields: str) -> Fields:
    """Return an entry of rotad's."""
    text = data if isinstance(data, str) else json.dumps(data)
    base = {
        "MESSAGE_ID": ROTA_MESSAGE,
        "ROTA_EVENT": event,
        "ROTA_AGENT": "a",
        "ROTA_RUN": RUN,
        "ROTA_DATA": text,
    }
    return {name: value.encode() for name, value in (base | fields).items()}


def test_every_sample_is_looked_at() -> None:
    assert set(KINDS_OF) == {path.stem for path in SAMPLES.glob("*.json")}


@pytest.mark.parametrize("case", KINDS_OF)
def test_events_of_a_sample(case: str) -> None:
    found = events(case)
    assert [event.kind for event in found] == KINDS_OF[case].split()
    assert {event.agent for event in found} <= {case.removeprefix("vm-")}
    for event in found:
        assert re.fullmatch("[0-9a-f]{32}", event.run)
        assert event.kind in KINDS


@pytest.mark.parametrize("case", KINDS_OF)
def test_an_event_is_dated_by_systemd_not_by_journald(case: str) -> None:
    dates = {int(entry["_SOURCE_REALTIME_TIMESTAMP"]) for entry in entries(case) if "UNIT" in entry}
    assert {event.at for event in events(case)} <= dates
    assert not {event.at for event in events(case)} & {
        int(entry["__REALTIME_TIMESTAMP"]) for entry in entries(case)
    }


def test_what_events_carry() -> None:
    data = {case: {event.kind: dict(event.data) for event in events(case)} for case in KINDS_OF}
    exited = {"command": "ExecStart", "code": "exited", "status": 3, "status_name": "NOTIMPLEMENTED"}
    assert data["fail"]["exited"] == exited
    assert data["fail"]["failed"] == {"result": "exit-code"}
    assert data["killed"]["exited"] == {
        "command": "ExecStart",
        "code": "killed",
        "status": 9,
        "status_name": "KILL",
    }
    assert data["condfail"]["exited"]["command"] == "ExecCondition"
    assert data["cpu"]["resources"] == {"cpu_usec": 1_715_391}
    assert data["vm-cpu"]["resources"] == {"cpu_usec": 2_911_760, "memory_peak": 108_126_208}
    assert data["condpath"]["skipped"]["reason"] == "ConditionPathExists=/nonexistent"
    assert data["cond"]["skipped"]["reason"] == "exec-condition"
    assert data["assert"]["not-started"]["result"] == "assert"
    assert data["dep"]["not-started"]["result"] == "dependency"


def test_the_first_event_of_a_run_says_where_it_is_in_the_journal() -> None:
    first = entries("ok")[0]
    assert events("ok")[0].data == {"boot": first["_BOOT_ID"], "cursor": first["__CURSOR"]}
    assert all("cursor" not in event.data for event in events("ok")[1:])


def test_the_cursor_is_asked_for_only_where_it_is_needed() -> None:
    def cursor() -> str:
        raise AssertionError("38 us each")

    event = to_event(entry(), cursor, 0)
    assert event is not None
    assert event.kind == "deactivated"


def test_a_start_that_came_to_nothing_gets_an_id_of_its_own_the_same_at_every_reading() -> None:
    first = events("condpath")[0]
    assert first == events("condpath")[0]
    assert first.run != events("dep")[0].run
    assert first.run not in entries("condpath")[0]["__CURSOR"]


def test_a_start_limit_is_not_the_run_before_it() -> None:
    """systemd gives it the invocation id of the last run, which succeeded."""
    found = events("kept")
    assert found[-2].data["result"] == "start-limit-hit"
    assert found[-2].run not in {event.run for event in found[:-2]}


def test_a_pause_is_told_from_other_conditions() -> None:
    message = "a skipped, unmet condition check ConditionPathExists=!/var/lib/rota/paused/a"
    found = one(entry(MESSAGE_ID=FINISHED, INVOCATION_ID="", MESSAGE=message))
    assert found is not None
    assert (found.kind, found.data["reason"]) == ("skipped", "paused")


def test_entries_of_a_users_manager_are_read_alike() -> None:
    system, user = (
        one(entry(MESSAGE_ID=FAILED, UNIT_RESULT="timeout")),
        one(
            entry(
                MESSAGE_ID=FAILED,
                UNIT_RESULT="timeout",
                UNIT="",
                INVOCATION_ID="",
                USER_UNIT="rota-a.service",
                USER_INVOCATION_ID=RUN,
            )
        ),
    )
    assert system == user is not None


@pytest.mark.parametrize(
    "unit",
    [
        "",
        "nginx.service",
        "rotad.service",
        "rota.slice",
        "rota-a",
        "rota-a.timer",
        "rota-a.slice",
        "rota-.service",
        "rota-A.service",
        "rota--a.service",
        "rota-a_b.service",
        "rota-a@b.service",
        "rota-onfail@x.service.service",
        "xrota-a.service",
        "rota-a.service\n",
        "rota-é.service",
        f"rota-{'a' * 64}.service",
    ],
)
def test_units_that_are_no_agents_services(unit: str) -> None:
    assert one(entry(UNIT=unit)) is None


def test_the_longest_agent_name() -> None:
    found = one(entry(UNIT=f"rota-{'a' * 63}.service"))
    assert found is not None
    assert found.agent == "a" * 63


@pytest.mark.parametrize(
    ("unit", "agent"),
    [
        ("rota-a.timer", "a"),
        ("rota-a-b.service", "a-b"),
        ("rota-0.service", "0"),
        ("rota-a.path", None),
        ("rota-home-keeper.service", None),
        ("rota-docker-proxy.service", None),
        ("rota-a.service.service", None),
        ("a.service", None),
    ],
)
def test_agent_of(unit: str, agent: str | None) -> None:
    assert agent_of(unit) == agent


def test_a_field_that_is_there_twice_counts_with_its_first_value() -> None:
    """The raw reader gives a list then; LogExtraFields= can add any field to systemd's entries."""
    fields = {**entry(), "UNIT": [b"rota-a.service", b"rota-b.service"], "MESSAGE": [b"x", b"y"]}
    found = one(fields)
    assert found is not None
    assert found.agent == "a"


def test_text_that_is_not_utf8() -> None:
    found = one(entry(MESSAGE_ID=FAILED, UNIT_RESULT=b"\xff\xfe"))
    assert found is not None
    assert found.data["result"] == "��"


def test_a_damaged_invocation_id_is_no_start_that_came_to_nothing() -> None:
    damaged = f"{RUN[:-3]}\x01\xff?"
    assert one(entry(MESSAGE_ID=FINISHED, INVOCATION_ID=damaged)) is None
    absent = one(entry(MESSAGE_ID=FINISHED, INVOCATION_ID=""))
    assert absent is not None
    assert absent.kind == "skipped"


def test_own_entries() -> None:
    found = one(own("triggered", {"trigger": "person", "by": "ada"}))
    assert found == Event("triggered", "a", RUN, 1_795_212_587_900_000, {"trigger": "person", "by": "ada"})
    assert one(own("archived", "")) == Event("archived", "a", RUN, 1_795_212_587_900_000, {})


ODD_OWN = {
    "unknown event": own("exploded", {}),
    "no event": own("", {}),
    "no run": own("triggered", {}, ROTA_RUN=""),
    "run that is no id": own("triggered", {}, ROTA_RUN="../../etc"),
    "no agent": own("triggered", {}, ROTA_AGENT=""),
    "agent that is none": own("triggered", {}, ROTA_AGENT="../a b"),
    "data that is no JSON": own("triggered", "{'by': 1"),
    "data cut off": own("archived", '{"cpu_usec": 12'),
    "data that is a list": own("triggered", [1]),
    "data that is null": own("archived", None),
    "data that is a number": own("archived", 1),
    "data nested deeply": own("archived", "[" * 100_000),
    "number that is text": own("archived", {"cpu_usec": "much"}),
    "number that is null": own("archived", {"cpu_usec": None}),
    "number that is a list": own("archived", {"memory_peak": [1]}),
    "number that SQLite cannot hold": own("archived", {"memory_peak": 2**64 - 1}),
    "number that is infinite": own("archived", '{"io_read": Infinity}'),
    "number that is none": own("archived", '{"io_read": NaN}'),
    "status that is null": own("archived", {"code": "exited", "status": None}),
    "text that is a table": own("triggered", {"trigger": "person", "by": {"a": 1}}),
    "no reason": own("lost", {}),
    "no result": own("failed", {}),
    "no result of a start": own("not-started", {}),
    "no reason to skip": own("skipped", {}),
}


@pytest.mark.parametrize("name", ODD_OWN)
def test_odd_own_entries_are_passed_over(name: str) -> None:
    """One of another version of rotad's must not stop this one, which would meet it at every start."""
    assert one(ODD_OWN[name]) is None


ODD_SYSTEMD = {
    "unknown message": entry(MESSAGE_ID="0" * 32),
    "no message id": entry(MESSAGE_ID=""),
    "date that is none": entry(_SOURCE_REALTIME_TIMESTAMP="yesterday"),
    "status that is none": entry(MESSAGE_ID=EXITED, COMMAND="ExecStart", EXIT_STATUS="x", EXIT_CODE="exited"),
    "status that is absent": entry(MESSAGE_ID=EXITED, COMMAND="ExecStart", EXIT_CODE="exited"),
    "usage that is none": entry(MESSAGE_ID=RESOURCES, CPU_USAGE_NSEC="-", MEMORY_PEAK="[not set]"),
    "usage that SQLite cannot hold": entry(MESSAGE_ID=RESOURCES, MEMORY_PEAK=str(2**64 - 1)),
    "figures of other scripts": entry(MESSAGE_ID=RESOURCES, MEMORY_PEAK="²"),
    "invocation id that is none": entry(INVOCATION_ID="x"),
    "nothing": {},
}


@pytest.mark.parametrize("name", ODD_SYSTEMD)
def test_odd_entries_of_systemd_do_not_raise(name: str) -> None:
    found = one(ODD_SYSTEMD[name])
    if found is not None:
        run = fold(None, found)
        numbers = (run.status, run.cpu_usec, run.memory_peak, run.started, run.ended)
        assert all(number is None or number < 2**63 for number in numbers)
        assert re.fullmatch("[0-9a-f]{32}", run.id)


_NAMES = st.sampled_from(
    [
        *("UNIT", "USER_UNIT", "INVOCATION_ID", "USER_INVOCATION_ID", "MESSAGE", "MESSAGE_ID", "_BOOT_ID"),
        *(
            "JOB_RESULT",
            "UNIT_RESULT",
            "COMMAND",
            "EXIT_CODE",
            "EXIT_STATUS",
            "CPU_USAGE_NSEC",
            "MEMORY_PEAK",
        ),
        *("_SOURCE_REALTIME_TIMESTAMP", "ROTA_EVENT", "ROTA_RUN", "ROTA_AGENT", "ROTA_DATA"),
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["by", "trigger", "reason", "result", "status", "code", "cpu_usec", "memory_peak"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())
_VALUES = st.one_of(
    st.sampled_from(
        [b"rota-a.service", RUN.encode(), b"start-limit-hit", b"exited", b"ExecStart", b"1", b"a"]
    ),
    st.sampled_from([*MESSAGES, ROTA_MESSAGE]).map(str.encode),
    st.sampled_from(KINDS).map(str.encode),
    _JSON,
    st.binary(max_size=6),
    st.integers().map(lambda number: str(number).encode()),
)


@settings(max_examples=60)
@given(
    st.sampled_from([entry(), own("archived", {}), *(entry(MESSAGE_ID=message) for message in MESSAGES)]),
    st.dictionaries(_NAMES, _VALUES | st.lists(_VALUES, min_size=2, max_size=2), max_size=6),
)
def test_no_entry_raises_and_no_event_breaks_fold(
    base: Fields, changes: dict[str, bytes | list[bytes]]
) -> None:
    found = one({**base, **changes})
    if found is not None:
        run = fold(None, found)
        assert run.agent == found.agent
        json.dumps(dict(found.data))


def test_the_table_here_is_the_readers() -> None:
    assert {message: kind for message, (kind, _) in journal._MESSAGES.items()} == MESSAGES
