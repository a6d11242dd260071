"""rotad's objects on D-Bus.

Served from the tables of `interface` by one message handler, so that thousands of agents cost no object
each, an unknown agent is an error like any other, and no reply ever carries a traceback.
"""

from __future__ import annotations

from typing import Any

from dbus_next.constants import MessageType
from dbus_next.message import Message

from rota import __version__
from rota.bus_object import PEER, STANDARD_XML, Offered, caller_of, interface_xml, peer
from rota.connection import Connection
from rota.events import Run
from rota.interface import (
    INTERFACES,
    PROPERTIES,
    SIGNALS,
    Service,
    event_table,
    run_table,
    vardict,
    variant,
)
from rota.names import AGENT_INTERFACE, AGENT_PATH, MANAGER_INTERFACE, MANAGER_PATH
from rota.store import Recorded
from rota.systemd import escape, unescape

_IN_SIGNAL = 100
"""Events in one EventsRecorded."""


_PROPERTIES_XML = (
    '<interface name="org.freedesktop.DBus.Properties"><method name="Get">'
    '<arg name="interface" type="s" direction="in"/><arg name="name" type="s" direction="in"/>'
    '<arg name="value" type="v" direction="out"/></method><method name="GetAll">'
    '<arg name="interface" type="s" direction="in"/><arg name="values" type="a{sv}" direction="out"/>'
    "</method></interface>"
)


def _xml(name: str) -> str:
    own = interface_xml(name, INTERFACES[name], SIGNALS.get(name, {}), PROPERTIES[name])
    return f"{STANDARD_XML}{_PROPERTIES_XML}{own}"


class Exported(Offered):
    """rotad's objects on a bus: /org/rota1 and /org/rota1/agent/NAME."""

    def __init__(self, bus: Connection, service: Service) -> None:
        super().__init__(bus, "rotad")
        self._service = service
        bus.add_message_handler(self._on_the_way_down)

    def run_changed(self, run: Run) -> None:
        """Emit RunChanged."""
        body = [run.agent, run.id, run.state, vardict(run_table(run))]
        self._emit("RunChanged", body)

    def events_recorded(self, recorded: list[Recorded]) -> None:
        """Emit EventsRecorded: few signals for many events."""
        for start in range(0, len(recorded), _IN_SIGNAL):
            tables = [vardict(event_table(one)) for one in recorded[start : start + _IN_SIGNAL]]
            self._emit("EventsRecorded", [tables])

    def agents_changed(self) -> None:
        """Emit AgentsChanged: declarations came, went or changed."""
        self._emit("AgentsChanged", [])

    def _emit(self, member: str, body: list[Any]) -> None:
        signature = "".join(kind for _, kind in SIGNALS[MANAGER_INTERFACE][member])
        self._bus.send(Message.new_signal(MANAGER_PATH, MANAGER_INTERFACE, member, signature, body))

    def _on_the_way_down(self, message: Message) -> Message | None:
        """Answer for the objects above ours, through which busctl walks."""
        asked = message.message_type is MessageType.METHOD_CALL and self._asks_introspection(message)
        return self._introspect(message, message.path or "") if asked else None

    @staticmethod
    def _asks_introspection(message: Message) -> bool:
        return bool(
            message.member == "Introspect" and message.interface == "org.freedesktop.DBus.Introspectable"
        )

    def _agent_at(self, path: str) -> str | None:
        """Return the agent an object path stands for, "" for the manager, None if there is no such object."""
        if path == MANAGER_PATH:
            return ""
        folder, _, label = path.rpartition("/")
        name = unescape(label)
        if f"{folder}/" != AGENT_PATH or escape(name) != label or not self._service.has_agent(name):
            return None
        return name

    async def _serve(self, message: Message) -> Message | None:
        if message.interface == PEER:
            return peer(message)
        path = message.path or ""
        ours = path == MANAGER_PATH or path.startswith(f"{MANAGER_PATH}/")
        return await self._at(path, message) if ours else None

    async def _at(self, path: str, message: Message) -> Message:
        """Return the reply to a call at or below the manager's path; raises as `_serve`."""
        if self._asks_introspection(message):
            return self._introspect(message, path)
        agent = self._agent_at(path)
        if agent is None:
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownObject", f"no object {path}")
        mine = AGENT_INTERFACE if agent else MANAGER_INTERFACE
        if message.interface == "org.freedesktop.DBus.Properties":
            return self._properties(message, mine, agent)
        method = INTERFACES[mine].get(message.member) if message.interface in (mine, None) else None
        if method is None:
            text = f"{mine} has no method {message.member}"
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", text)
        if message.signature != method.signature:
            text = f'{message.member} takes "{method.signature}", not "{message.signature}"'
            return Message.new_error(message, "org.freedesktop.DBus.Error.InvalidArgs", text)
        body = await method.serve(self._service, caller_of(message), agent, message.body)
        return Message.new_method_return(message, method.result, body)

    def _properties(self, message: Message, mine: str, agent: str) -> Message:
        values = {"Name": agent} if agent else {"Version": __version__}
        if message.member == "GetAll" and message.signature == "s":
            found = vardict(values) if message.body[0] in (mine, "") else {}
            return Message.new_method_return(message, "a{sv}", [found])
        if message.member == "Get" and message.signature == "ss" and message.body[1] in values:
            return Message.new_method_return(message, "v", [variant(values[message.body[1]])])
        if message.member == "Set":
            return Message.new_error(
                message, "org.freedesktop.DBus.Error.PropertyReadOnly", "nothing is writable"
            )
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownProperty", "no such property")

    def _introspect(self, message: Message, path: str) -> Message:
        children: list[str] = []
        body = ""
        folder = AGENT_PATH.rstrip("/")
        if path == MANAGER_PATH:
            body, children = _xml(MANAGER_INTERFACE), ["agent"]
        elif path == folder:
            children = [escape(name) for name in self._service.agent_names()]
        elif path.startswith(AGENT_PATH) and self._agent_at(path):
            body = _xml(AGENT_INTERFACE)
        elif MANAGER_PATH.startswith(path.rstrip("/") + "/"):
            children = [MANAGER_PATH[len(path.rstrip("/")) + 1 :].split("/")[0]]
        nodes = "".join(f'<node name="{child}"/>' for child in children)
        return Message.new_method_return(message, "s", [f"<node>{body}{nodes}</node>"])
