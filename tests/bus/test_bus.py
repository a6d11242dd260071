"""rotad's interfaces on a real bus: served to a second connection, to rota's own client and to busctl."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from rota import __version__
from rota.client import Client
from rota.errors import Exit, RotaError
from rota.interface import INTERFACES, MAX_EVENTS, MAX_RUNS, PROPERTIES, SIGNALS
from rota.names import AGENT_INTERFACE, AGENT_PATH, BUS_NAME, ERRORS, MANAGER_INTERFACE, MANAGER_PATH
from rota.systemd import CallError, connect, escape, plain
from tests.bus.house import NAMES, PATHS, RUN, Meeting, run

PROPERTIES_INTERFACE = "org.freedesktop.DBus.Properties"
PEER = "org.freedesktop.DBus.Peer"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"
UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"
UNKNOWN_PROPERTY = "org.freedesktop.DBus.Error.UnknownProperty"
INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"

# interface, method: arguments; result; what the service was asked, for the agent disk-report.
CALLS: dict[tuple[str, str], tuple[list[Any], tuple[Any, ...]]] = {
    (MANAGER_INTERFACE, "ListAgents"): ([], ("list_agents",)),
    (MANAGER_INTERFACE, "GetAgent"): (["disk-report"], ("get_agent", "disk-report")),
    (MANAGER_INTERFACE, "StartAgent"): (["disk-report"], ("start", "disk-report")),
    (MANAGER_INTERFACE, "StopAgent"): (["disk-report"], ("stop", "disk-report")),
    (MANAGER_INTERFACE, "PauseAgent"): (["disk-report", "wäsche"], ("pause", "disk-report", "wäsche")),
    (MANAGER_INTERFACE, "ResumeAgent"): (["disk-report"], ("resume", "disk-report")),
    (MANAGER_INTERFACE, "Why"): (["disk-report", 0], ("why", "disk-report", None)),
    (MANAGER_INTERFACE, "ListRuns"): ([{}, 2], ("list_runs", {}, 2)),
    (MANAGER_INTERFACE, "Stats"): ([{"tag": Variant("as", ["x"])}], ("stats", {"tag": ["x"]})),
    (MANAGER_INTERFACE, "Metrics"): ([], ("metrics",)),
    (MANAGER_INTERFACE, "Health"): ([2**40], ("health", 2**40)),
    (MANAGER_INTERFACE, "Events"): ([2**40, 2], ("events", 2**40, 2, None)),
    (MANAGER_INTERFACE, "Keeper"): ([], ("keeper",)),
    (MANAGER_INTERFACE, "SeqAt"): ([-5], ("seq_at", -5)),
    (MANAGER_INTERFACE, "GetRun"): (["abab"], ("get_run", "abab")),
    (AGENT_INTERFACE, "Describe"): ([], ("get_agent", "disk-report")),
    (AGENT_INTERFACE, "Start"): ([], ("start", "disk-report")),
    (AGENT_INTERFACE, "Stop"): ([], ("stop", "disk-report")),
    (AGENT_INTERFACE, "Pause"): (["wäsche"], ("pause", "disk-report", "wäsche")),
    (AGENT_INTERFACE, "Resume"): ([], ("resume", "disk-report")),
    (AGENT_INTERFACE, "Why"): ([5], ("why", "disk-report", 5)),
    (AGENT_INTERFACE, "ListRuns"): (
        [{"since": Variant("x", 5), "agent": Variant("as", ["a"])}, 2],
        ("list_runs", {"since": 5, "agent": ["disk-report"]}, 2),
    ),
    (AGENT_INTERFACE, "Events"): ([0, 2], ("events", 0, 2, "disk-report")),
}


def test_every_method_is_called_here() -> None:
    assert set(CALLS) == {(interface, name) for interface, table in INTERFACES.items() for name in table}


def test_each_method_reaches_the_service_and_answers_as_it_says(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        for (interface, member), (body, asked) in CALLS.items():
            method = INTERFACES[interface][member]
            path = MANAGER_PATH if interface == MANAGER_INTERFACE else PATHS["disk-report"]
            for named in (interface, None):  # a caller may leave the interface out
                reply = await met.ask(member, method.signature, *body, path=path, interface=named)
                assert reply.message_type is MessageType.METHOD_RETURN, reply.body
                assert reply.signature == method.result
                assert met.house.asked.pop() == asked
        assert {caller.sender for caller in met.house.callers} == {met.caller.unique_name}

    run(private_bus, work)


def test_what_replies_hold(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        agents = (await met.ask("ListAgents")).body[0]
        assert [agent["name"].value for agent in agents] == NAMES
        agent = agents[3]
        assert {key: value.signature for key, value in agent.items()} == {
            "name": "s",
            "paused": "b",
            "next": "x",
            "tags": "as",
            "trend": "as",
            "last": "a{sv}",
        }
        assert plain(agent) == {
            key: value for key, value in met.house._agent("disk-report").items() if value is not None
        }
        (table,) = (await met.ask("GetRun", "s", "ab")).body
        assert table["memory_peak"] == Variant("x", 2**40)
        assert table["archived"] == Variant("b", True)
        assert "signal" not in table
        assert plain(table)["started"] == RUN.started

    run(private_bus, work)


def test_no_more_runs_than_a_reply_should_hold(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        await met.ask("ListRuns", "a{sv}u", {}, 2**32 - 1)
        assert met.house.asked.pop() == ("list_runs", {}, MAX_RUNS)
        await met.ask("Events", "tu", 2**64 - 1, 2**32 - 1)
        assert met.house.asked.pop() == ("events", 2**63 - 1, MAX_EVENTS, None)

    run(private_bus, work)


def test_whether_a_person_may_be_asked_is_passed_on(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        await met.ask("StopAgent", "s", "a")
        await met.ask("StopAgent", "s", "a", flags=MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION)
        await met.client.call("StopAgent", "s", "a")
        assert [caller.interactive for caller in met.house.callers] == [False, True, True]

    run(private_bus, work)


def test_agents_are_objects_at_escaped_paths(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        for name, path in PATHS.items():
            assert AGENT_PATH + escape(name) == path
            found = await met.ask(
                "Get", "ss", AGENT_INTERFACE, "Name", path=path, interface=PROPERTIES_INTERFACE
            )
            assert found.body == [Variant("s", name)]
            await met.ask("Start", path=path, interface=AGENT_INTERFACE)
            assert met.house.asked.pop() == ("start", name)
        for path in ("disk_2Dreport", "disk_report", "b", "_30day_", "7", "a/a"):
            where = {"path": AGENT_PATH + path, "interface": AGENT_INTERFACE}
            name, text = await met.error("Start", **where)
            assert name == UNKNOWN_OBJECT
            assert path in text
        assert met.house.asked == []

    run(private_bus, work)


WRONG: dict[str, tuple[dict[str, Any], tuple[Any, ...], str]] = {
    "method": ({}, ("Explode",), UNKNOWN_METHOD),
    "interface": ({"interface": "org.example"}, ("ListAgents",), UNKNOWN_METHOD),
    "an agent's method of the manager": ({}, ("Describe",), UNKNOWN_METHOD),
    "the manager's method of an agent": (
        {"path": PATHS["a"], "interface": AGENT_INTERFACE},
        ("ListAgents",),
        UNKNOWN_METHOD,
    ),
    "the manager's interface at an agent": ({"path": PATHS["a"]}, ("ListAgents",), UNKNOWN_METHOD),
    "object": ({"path": "/org/rota1/nothing"}, ("ListAgents",), UNKNOWN_OBJECT),
    "object that is a folder": ({"path": "/org/rota1/agent"}, ("ListAgents",), UNKNOWN_OBJECT),
    "no argument": ({}, ("GetAgent",), INVALID_ARGS),
    "argument of another type": ({}, ("GetAgent", "u", 1), INVALID_ARGS),
    "an argument too many": ({}, ("ListAgents", "s", "x"), INVALID_ARGS),
    "filter of another type": ({}, ("ListRuns", "a{sv}u", {"agent": Variant("s", "a")}, 1), INVALID_ARGS),
    "signed limit": ({}, ("ListRuns", "a{sv}i", {}, -1), INVALID_ARGS),
    "property": (
        {"interface": PROPERTIES_INTERFACE},
        ("Get", "ss", MANAGER_INTERFACE, "X"),
        UNKNOWN_PROPERTY,
    ),
    "an agent's property of the manager": (
        {"interface": PROPERTIES_INTERFACE},
        ("Get", "ss", MANAGER_INTERFACE, "Name"),
        UNKNOWN_PROPERTY,
    ),
    "setting": (
        {"interface": PROPERTIES_INTERFACE},
        ("Set", "ssv", MANAGER_INTERFACE, "Version", Variant("s", "2")),
        "org.freedesktop.DBus.Error.PropertyReadOnly",
    ),
    "path of nobody's": ({"path": "/org/example"}, ("ListAgents",), UNKNOWN_METHOD),
    "path above": ({"path": "/org"}, ("ListAgents",), UNKNOWN_METHOD),
    "path that only begins alike": ({"path": "/org/rota11"}, ("ListAgents",), UNKNOWN_METHOD),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_there_is_said_by_the_right_error(private_bus: str, name: str) -> None:
    where, (member, *rest), expected = WRONG[name]

    async def work(met: Meeting) -> None:
        error, text = await met.error(member, *rest, **where)
        assert error == expected
        assert text
        assert met.house.asked == []

    run(private_bus, work)


def test_properties(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        async def get_all(path: str, interface: str) -> Any:
            reply = await met.ask("GetAll", "s", interface, path=path, interface=PROPERTIES_INTERFACE)
            return plain(reply.body[0])

        assert await get_all(MANAGER_PATH, MANAGER_INTERFACE) == {"Version": __version__}
        assert await get_all(PATHS["7"], AGENT_INTERFACE) == {"Name": "7"}
        assert await get_all(MANAGER_PATH, "org.example") == {}

    run(private_bus, work)


def test_introspection_says_what_is_served(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        async def introspect(path: str) -> ET.Element:
            reply = await met.ask("Introspect", path=path, interface=INTROSPECTABLE)
            assert reply.message_type is MessageType.METHOD_RETURN, reply.body
            return ET.fromstring(reply.body[0])  # noqa: S314  (our own)

        for path, name in ((MANAGER_PATH, MANAGER_INTERFACE), (PATHS["0day"], AGENT_INTERFACE)):
            node = await introspect(path)
            (interface,) = node.findall(f"interface[@name='{name}']")
            methods = {
                method.get("name"): tuple(
                    "".join(arg.get("type") or "" for arg in method.findall(f"arg[@direction='{way}']"))
                    for way in ("in", "out")
                )
                for method in interface.findall("method")
            }
            table = INTERFACES[name]
            assert methods == {member: (method.signature, method.result) for member, method in table.items()}
            signals = {
                signal.get("name"): [(arg.get("name"), arg.get("type")) for arg in signal]
                for signal in interface.findall("signal")
            }
            assert signals == {member: list(args) for member, args in SIGNALS.get(name, {}).items()}
            properties = {item.get("name"): item.get("type") for item in interface.findall("property")}
            assert properties == PROPERTIES[name]
            others = {item.get("name") for item in node.findall("interface")} - {name}
            assert others == {INTROSPECTABLE, PROPERTIES_INTERFACE, PEER}

        async def children(path: str) -> list[str | None]:
            return [child.get("name") for child in (await introspect(path)).findall("node")]

        assert await children("/") == ["org"]
        assert await children("/org") == ["rota1"]
        assert await children(MANAGER_PATH) == ["agent"]
        assert await children("/org/rota1/agent") == [path.rpartition("/")[2] for path in PATHS.values()]
        assert await children(PATHS["a"]) == []
        assert await children("/org/example") == []

    run(private_bus, work)


def test_peer(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        for path in (MANAGER_PATH, "/", "/org/example"):
            reply = await met.ask("Ping", interface=PEER, path=path)
            assert (reply.message_type, reply.body) == (MessageType.METHOD_RETURN, [])
            reply = await met.ask("GetMachineId", interface=PEER, path=path)
            machine = Path("/etc/machine-id")
            if machine.exists():
                assert reply.body == [machine.read_text(encoding="ascii").strip()]
            else:
                assert reply.error_name == "org.rota1.Error.Failed"
            reply = await met.ask("Poke", interface=PEER, path=path)
            assert reply.error_name == "org.freedesktop.DBus.Error.UnknownMethod"

    run(private_bus, work)


def test_busctl(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        tree = await met.busctl("tree", "--list", BUS_NAME)
        assert set(tree.split()) >= {MANAGER_PATH, *PATHS.values()}
        shown = await met.busctl("introspect", BUS_NAME, MANAGER_PATH, MANAGER_INTERFACE)
        lines = {line.split()[0]: line.split()[1:4] for line in shown.splitlines()[1:]}
        assert lines[".ListRuns"] == ["method", "a{sv}u", "aa{sv}"]
        assert lines[".StopAgent"] == ["method", "s", "-"]
        assert lines[".RunChanged"] == ["signal", "sssa{sv}", "-"]
        assert lines[".Version"] == ["property", "s", f'"{__version__}"']
        call = ("--json=short", "call", BUS_NAME)
        said = await met.busctl(*call, MANAGER_PATH, MANAGER_INTERFACE, "ListRuns", "a{sv}u", "0", "2")
        runs = json.loads(said)["data"][0]
        assert [run["id"]["data"] for run in runs] == [RUN.id, RUN.id]
        started = await met.busctl(*call, PATHS["disk-report"], AGENT_INTERFACE, "Start")
        assert json.loads(started) == {"type": "s", "data": [RUN.id]}
        assert met.house.asked[-1] == ("start", "disk-report")
        met.house.fault = RotaError("no agent xyz", "Look at rota list.", Exit.NOT_FOUND)
        said = await met.busctl("call", BUS_NAME, MANAGER_PATH, MANAGER_INTERFACE, "GetAgent", "s", "xyz")
        assert "no agent xyz" in said
        assert "Look at rota list." in said

    run(private_bus, work)


@pytest.mark.parametrize("code", [code for code in Exit if code is not Exit.OK])
@pytest.mark.parametrize("hint", ["", "Do this: ünd das."])
def test_errors_keep_their_meaning_on_the_way(private_bus: str, code: Exit, hint: str) -> None:
    async def work(met: Meeting) -> None:
        met.house.fault = RotaError("it is not so", hint, code)
        name, _ = await met.error("ListAgents")
        assert name == ERRORS[code]
        with pytest.raises(RotaError) as caught:
            await met.client.call("StartAgent", "s", "a")
        assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
            "it is not so",
            hint,
            code,
        )

    run(private_bus, work)


def test_what_systemd_refuses_reaches_the_caller(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        met.house.fault = CallError("org.freedesktop.systemd1.NoSuchUnit", "Unit x not found.")
        with pytest.raises(RotaError) as caught:
            await met.client.call("StartAgent", "s", "a")
        assert (caught.value.message, caught.value.exit_code) == ("Unit x not found.", Exit.NOT_FOUND)

    run(private_bus, work)


def test_a_mistake_in_rotad_is_an_answer_without_a_trace(
    private_bus: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(met: Meeting) -> None:
        for fault in (KeyError("secret"), RecursionError(), OSError(28, "No space left on device")):
            met.house.fault = fault
            name, text = await met.error("ListAgents")
            assert name == ERRORS[Exit.FAILED]
            assert "secret" not in text
            assert "journalctl -u rotad" in text
        met.house.fault = None
        assert len((await met.ask("ListAgents")).body[0]) == len(NAMES)

    run(private_bus, work)
    assert "KeyError: 'secret'" in caplog.text  # the journal has it


def test_a_number_that_a_message_cannot_hold_is_an_answer_too(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        met.house.extra = {"odd": 2**63}
        name, _ = await met.error("GetAgent", "s", "a")
        assert name == ERRORS[Exit.FAILED]

    run(private_bus, work)


@pytest.mark.parametrize("value", ["a\ud800b", "a\0b"])
def test_text_that_a_message_cannot_hold_is_mended(private_bus: str, value: str) -> None:
    """From a file that was written by hand, say; the bus closes the connection of who sends it."""

    async def work(met: Meeting) -> None:
        met.house.extra = {"odd": value}
        reply = await met.ask("GetAgent", "s", "a")
        assert reply.body[0]["odd"].value in ("a\N{REPLACEMENT CHARACTER}b", "a?b")
        met.exported.run_changed(RUN._replace(reason=value))
        assert (await met.ask("ListAgents")).message_type is MessageType.METHOD_RETURN

    run(private_bus, work)


def test_nobody_answers(private_bus: str) -> None:
    async def main() -> None:
        bus = await connect(user=True, address=private_bus)
        with pytest.raises(RotaError) as caught:
            await Client(bus).call("ListAgents", activate=False)
        assert (caught.value.message, caught.value.exit_code) == ("rotad is not running", Exit.UNREACHABLE)
        assert "systemctl start rotad" in caught.value.hint
        bus.disconnect()

    asyncio.run(main())


def test_no_bus(private_bus: str) -> None:
    async def main() -> None:
        with pytest.raises(RotaError) as caught:
            await connect(user=True, address="unix:path=/nonexistent/bus")
        assert caught.value.exit_code is Exit.UNREACHABLE

    asyncio.run(main())


def test_rotad_dies_while_it_is_asked(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        async def die() -> list[dict[str, Any]]:
            met.served.disconnect()
            await asyncio.sleep(30)
            return []

        met.house.list_agents = die  # type: ignore[method-assign]
        with pytest.raises(RotaError) as caught:
            await asyncio.wait_for(met.client.call("ListAgents"), 10)
        assert caught.value.exit_code is Exit.UNREACHABLE

    run(private_bus, work)


def test_who_wants_no_reply_gets_none(private_bus: str) -> None:
    async def work(met: Meeting) -> None:
        got: list[Message] = []
        met.caller.add_message_handler(lambda message: got.append(message) if message.reply_serial else None)
        for member, body in (("StopAgent", ["a"]), ("StopAgent", []), ("Explode", [])):
            quiet = Message(
                destination=BUS_NAME,
                path=MANAGER_PATH,
                interface=MANAGER_INTERFACE,
                member=member,
                signature="s" * len(body),
                body=body,
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
            await met.caller.send(quiet)
        last = await met.ask("ListAgents")
        assert met.house.asked == [("stop", "a"), ("list_agents",)]
        assert [message.reply_serial for message in got] == [last.reply_serial]

    run(private_bus, work)
