"""rota-docker-proxy: what it lets through, whatever it is sent, to an engine that takes note of all."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rota_agents.home_keeper.proxy import Server, settings
from rota_agents.home_keeper.proxy_rules import TABLE, Denied, judge, reduced

from rota import container_watches, keeper_rules
from rota.container_watches import Grant, Proxy
from rota.errors import RotaError
from rota.keeper_rules import Override, Rules

ID = "ab" * 32
SECRET = "hunter2"  # noqa: S105  (of nobody's)
INSPECTED = {
    "Id": ID,
    "Name": "/web",
    "State": {"Status": "running", "Health": {"Status": "healthy", "Log": [{"Output": "fine", "x": SECRET}]}},
    "Args": [SECRET],
    "Mounts": [{"Source": SECRET}],
    "HostConfig": {"Binds": [SECRET], "AutoRemove": False},
    "Config": {"Env": [f"PASSWORD={SECRET}"], "Cmd": [SECRET], "Labels": {"x": SECRET, "rota.keeper": ""}},
}
EVENTS = [
    {"Type": "container", "Action": "start", "Actor": {"ID": ID, "Attributes": {"name": "w", "x": SECRET}}},
    {"Type": "container", "Action": f"exec_create: sh -c {SECRET}", "Actor": {"ID": ID}},
    {"Type": "network", "Action": "connect", "Actor": {"Attributes": {"name": SECRET}}},
    {"Type": "container", "Action": "health_status: unhealthy", "Actor": {"ID": ID}},
]
ALLOWED = re.compile(
    r"(GET|HEAD|POST) (/v[1-9]\.\d+)?(/_ping|/version|/info|/events|/containers/json|"
    rf"/containers/[\w.-]+/json|/containers/{ID}/(restart|start))"
    r"(\?[\w=&%.-]*)? HTTP/1.1\r\n"
    r"Host: docker\r\nConnection: close\r\n(Content-Length: 0\r\n)?\r\n"
)
PARTS = [
    *("/", ".", "%", "?", "&", "=", "#", ";", ":", "~", " ", "..", "%2e%2e", "%2F", "\x00", "é"),
    *("v1.41", "containers", "json", "web", "exec", "restart", "prune", "_ping", "events", "images"),
    *("t=1", "until", "filters={}", '{"until":["1h"]}'),
]


class Kit:
    """An engine that takes note of what it is sent, and a proxy before it."""

    def __init__(self, folder: str, rules: Proxy) -> None:
        self.asked: list[str] = []
        self.engine, self.socket = f"{folder}/engine.sock", f"{folder}/proxy.sock"
        self.rules = rules
        self.answer: bytes | None = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(text)
        await asyncio.sleep(0)
        self.asked[-1] += reader._buffer.decode()  # type: ignore[attr-defined]
        writer.write(self.answer if self.answer is not None else _answer(text.split(" ")[1]))
        await writer.drain()
        writer.close()

    async def send(self, data: bytes, *, end: bool = True) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        with suppress(ConnectionError):
            writer.write(data)
            if end:
                writer.write_eof()
            async with asyncio.timeout(30):
                return await reader.read()
        return b""

    async def get(self, method: str, target: str, headers: str = "") -> tuple[int, Any]:
        said = await self.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode(), end=False)
        head, _, body = said.partition(b"\r\n\r\n")
        if b"chunked" in head:
            return int(head.split(b" ")[1]), body
        return int(head.split(b" ")[1]), json.loads(body) if body else None

    async def run(self, work: Callable[[Kit], Awaitable[None]]) -> None:
        server = await asyncio.start_unix_server(self._serve, self.engine)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.socket)
            listening.listen(64)
            listening.setblocking(False)
            task = asyncio.create_task(Server(self.rules).serve([listening]))
            await work(self)
            task.cancel()
            server.close()


def _answer(target: str) -> bytes:
    body: Any = {"message": "no such thing"}
    if target.endswith("/json") and "/containers/" in target:
        body = INSPECTED
    if "/containers/json" in target:
        body = [{"Id": ID, "Names": ["/web"], "Command": SECRET, "Labels": {"x": SECRET}}]
    text = json.dumps(body)
    if "/events" in target:
        text = "\n".join(map(json.dumps, EVENTS)) + "\n"
    status = "204 No Content" if target.partition("?")[0].endswith(("/restart", "/start")) else "200 OK"
    if status.startswith("204"):
        text = ""
    return f"HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def proxied(work: Callable[[Kit], Awaitable[None]], **more: Any) -> Kit:
    rules: dict[str, Any] = {"grants": (Grant("container:web", allowed=True),)} | more
    with TemporaryDirectory(prefix="rota-") as folder:
        kit = Kit(folder, Proxy(f"{folder}/engine.sock", **rules))
        asyncio.run(kit.run(work))
    for text in kit.asked:
        assert ALLOWED.fullmatch(text), text
    return kit


def one(method: str, target: str, headers: str = "", **more: Any) -> tuple[int, Any, list[str]]:
    found: list[Any] = []

    async def work(kit: Kit) -> None:
        found.extend(await kit.get(method, target, headers))

    kit = proxied(work, **more)
    return found[0], found[1], [" ".join(text.split(" ")[:2]) for text in kit.asked]


@pytest.mark.parametrize(
    "target",
    [
        "/_ping",
        "/version",
        "/v1.41/info",
        "/containers/json?all=1&limit=-1&size=0",
        f"/v1.24/containers/{ID}/json",
    ],
)
def test_what_the_keeper_reads_is_let_through(target: str) -> None:
    status, said, asked = one("GET", target)
    assert (status, asked) == (200, [f"GET {target}"])
    assert SECRET not in json.dumps(said)


@pytest.mark.parametrize(
    ("seconds", "fits"),
    [(text, True) for text in ("0", "10", "007", "999", "1000", "2999", "3599", "3600")]
    + [(text, False) for text in ("3601", "4000", "9999", "36000", "999999999", "-1", "", "1.5", "1e3")],
)
def test_a_container_is_given_no_longer_than_an_hour_to_end(seconds: str, fits: bool) -> None:
    target = f"/containers/web/restart?t={seconds}"
    if fits:
        assert judge("POST", target).target == target
    else:
        with pytest.raises(Denied, match="is not let through"):
            judge("POST", target)


def test_of_a_container_only_what_is_read_is_told() -> None:
    _, said, _ = one("GET", "/containers/web/json")
    assert said["State"] == {
        "Status": "running",
        "Health": {"Status": "healthy", "Log": [{"Output": "fine"}]},
    }
    assert said["Config"] == {"Labels": {"rota.keeper": ""}}
    assert said["HostConfig"] == {"AutoRemove": False}


def test_events_are_told_of_containers_without_commands() -> None:
    status, body, _ = one("GET", "/events?since=1.5&filters=" + quote('{"event":["start"]}'))
    assert status == 200
    assert SECRET.encode() not in body
    told = [json.loads(line) for line in re.findall(rb"\{.*\}", body)]
    assert [item["Action"] for item in told] == ["start", "health_status: unhealthy"]
    assert told[0]["Actor"] == {"ID": ID, "Attributes": {"name": "w"}}


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/containers/web/restart?t=3", "", 204),
        ("/containers/web/start", "Content-Length: 0\r\n", 204),
        ("/containers/web/restart", "Content-Length: 3\r\n", 403),
        ("/containers/web/restart", "Transfer-Encoding: chunked\r\n", 403),
        ("/containers/web/restart", "Connection: Upgrade\r\nUpgrade: tcp\r\n", 403),
        ("/containers/web/restart", "Connection: close\r\nConnection: upgrade\r\n", 403),
        ("/containers/web/restart?signal=HUP", "", 403),
        ("/containers/web/stop", "", 403),
        ("/containers/web/exec", "", 403),
        ("/containers/web/attach?stream=1", "", 403),
        ("/containers/create?name=x", "", 403),
        ("/build", "", 403),
        ("/containers/prune", "", 403),
        ("/images/prune?filters=%7B%22until%22%3A%5B%221000h%22%5D%7D", "", 403),
        ("/build/prune?all=1", "", 403),
        ("/volumes/prune", "", 403),
        ("/networks/prune", "", 403),
        ("/system/prune", "", 403),
    ],
)
def test_what_is_done_to_containers(target: str, headers: str, status: int) -> None:
    found, said, asked = one("POST", target, headers)
    assert found == status, said
    path, _, query = target.partition("?")
    done = [path.replace("web", ID) + (f"?{query}" if query else "")] if status == 204 else []
    assert [item for item in asked if item.startswith("POST")] == [f"POST {item}" for item in done]
    assert status == 204 or said["message"].startswith("rota-docker-proxy: ")


@pytest.mark.parametrize(
    ("query", "status", "why"),
    [
        ("all=1&all=0", 400, "each key once"),
        ("all=1&", 400, "key=value"),
        ("all", 400, "key=value"),
        ("limit=" + "1" * 5000, 400, "key=value"),
        ("all=%ff", 400, "UTF-8"),
        ("size=1", 403, "size=1 is not let through"),
        ("name=x", 403, "name=x is not let through"),
        ("filters=%5B", 400, "filters are to be JSON"),
        ("filters=%5B%5D", 403, "filters may be health, id, label, name, status"),
        ("filters=%7B%22volume%22%3A%5B%22x%22%5D%7D", 403, "filters may be"),
        ("filters=%7B%22name%22%3A%22x%22%7D", 400, "a list of words"),
    ],
)
def test_a_query_that_is_not_let_through(query: str, status: int, why: str) -> None:
    with pytest.raises(Denied, match=why) as denied:
        judge("GET", f"/containers/json?{query}")
    assert denied.value.status == status


@pytest.mark.parametrize("grants", [(), (Grant("container:x*", allowed=True),), (Grant("*", allowed=False),)])
def test_others_are_not_acted_on(grants: tuple[Grant, ...]) -> None:
    status, said, asked = one("POST", "/containers/web/restart", grants=grants)
    assert (status, asked) == (403, ["GET /containers/web/json"])
    assert "does not let web be acted on" in said["message"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"", 502),
        (b"SSH-2.0-x\r\n", 502),
        (b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nanything", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{{{{", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{}", 502),
        (b'HTTP/1.1 500 No\r\nContent-Length: 25\r\n\r\n{"message":"no","a":"b"}  ', 500),
    ],
)
def test_an_engine_that_answers_something_else(answer: bytes, status: int) -> None:
    async def work(kit: Kit) -> None:
        kit.answer = answer
        for target in ("/containers/json", "/version"):
            found, said = await kit.get("GET", target)
            assert found == status
            assert set(said) == {"message"}

    proxied(work)


def test_an_engine_that_is_not_there() -> None:
    with TemporaryDirectory(prefix="rota-") as folder:
        kit = Kit(folder, Proxy("/nonexistent/docker.sock"))

        async def work(kit: Kit) -> None:
            assert await kit.get("GET", "/version") == (
                502,
                {"message": "rota-docker-proxy: /nonexistent/docker.sock: No such file or directory"},
            )

        asyncio.run(kit.run(work))


TARGETS = st.sampled_from(
    [
        "/containers/web/json",
        "/v1.41/containers/web/restart",
        "/containers/%77eb/restart",
        "/containers//web/exec",
        "/containers/web/json/../../../images/json",
        "/v1.41/v1.41/containers/json",
        "/containers/web%2fexec",
        "/containers/prune?filters=%7B%22until%22%3A%5B%2224h%22%5D%7D",
        "/exec/x/start",
        "http://d/containers/json",
        "/containers/web/restart?t=1&t=2",
        "/containers/web/restart#/json",
        "/containers/web/json?size=0&size=1",
        "*",
    ]
)
HEADERS = st.lists(
    st.sampled_from(
        [
            "Host: d",
            "Content-Length: 0",
            "Content-Length: 30",
            "Content-Length: +0",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding: identity, chunked",
            "Connection: keep-alive, Upgrade",
            "Upgrade: tcp",
            "Expect: 100-continue",
            "X: a\x0bb",
            " folded",
            "X: " + "y" * 20_000,
        ]
    ),
    max_size=4,
)
TAILS = st.sampled_from(
    [
        b"",
        b"POST /containers/web/exec HTTP/1.1\r\nHost: d\r\n\r\n",
        b"0\r\n\r\nPOST /containers/create HTTP/1.1\r\nHost: d\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "DELETE", "PUT", "get", "CONNECT", "G\tET"]))
    line = f"{method} {draw(TARGETS)} HTTP/{draw(st.sampled_from(['1.1', '1.0', '0.9', '2.0', '1.1 ']))}"
    ending = draw(st.sampled_from(["\r\n", "\n", "\r"]))
    head = ending.join([line, *draw(HEADERS), "", ""])
    return head.encode("latin-1") + draw(TAILS)


@given(st.lists(requests() | st.binary(max_size=200), min_size=1, max_size=8))
@example([b"POST /containers/web/start HTTP/1.1\r\nHost: d\r\n\r\n", b"\x16\x03\x01", b""])
def test_whatever_it_is_sent_the_engine_gets_nothing_else(sent: list[bytes]) -> None:
    async def work(kit: Kit) -> None:
        for data in sent:
            said = await kit.send(data)
            assert not said or re.match(rb"HTTP/1\.1 (200|204|400|403|404) ", said), said
        assert (await kit.get("GET", "/_ping"))[0] == 200, "it is still there"

    proxied(work)


@given(
    st.sampled_from(["GET", "POST", "HEAD", "DELETE", "PUT", "PATCH", "OPTIONS"]),
    st.lists(st.sampled_from(PARTS), max_size=12).map("".join),
)
def test_what_is_allowed_is_in_the_table_as_it_stands(method: str, target: str) -> None:
    try:
        allowed = judge(method, target)
    except Denied as error:
        assert error.status in (400, 403)
        return
    path = allowed.target.partition("?")[0]
    assert path == target.partition("?")[0]
    assert not set("%\\;# ") & set(path)
    bare = re.sub(r"^/v[0-9]+\.[0-9]+(?=/)", "", path)
    assert any(row.path.fullmatch(bare) and method in row.methods for row in TABLE)
    assert re.fullmatch(r"[\w=&%.~-]*", allowed.target.partition("?")[2], re.ASCII)
    assert judge(method, allowed.target) == allowed, "what is written anew means the same"


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_answers_of_any_form_are_reduced(answer: Any) -> None:
    for kind in ("inspect", "list", "events", "info", "version", "error"):
        json.dumps(reduced(kind, answer))


# who may be acted on

PATTERNS = st.sampled_from(
    ["container:web", "container:web-*", "container:*", "*", "unit:web", "c*:w?b", "container:p/*"]
)
MODES = st.sampled_from([None, "observe", "ask", "act"])
NAMES = st.sampled_from(["web", "web-1", "db"])


@given(
    targets=st.dictionaries(PATTERNS, MODES, max_size=4),
    modes=st.tuples(*[st.sampled_from(["observe", "ask", "act"])] * 2),
    never=st.lists(PATTERNS, max_size=2),
    name=NAMES,
    label=st.sampled_from(["", "restart", "escalate"]),
    engine=st.sampled_from(["", "p"]),
)
def test_what_may_be_acted_on_is_what_the_policy_acts_on(
    *,
    targets: dict[str, str | None],
    modes: tuple[str, str],
    never: list[str],
    name: str,
    label: str,
    engine: str,
) -> None:
    rules = Rules(
        mode=modes[0],
        unnamed=modes[1],
        never=tuple(never),
        targets=tuple(Override(pattern, mode=own) for pattern, own in targets.items()),
    )
    found = container_watches.proxy(rules, engine=engine)
    target = f"container:{engine}/{name}" if engine else f"container:{name}"
    wanted = keeper_rules.policy_for(rules, target, label).mode != "observe"
    wanted = wanted and keeper_rules.never(rules, target) is None
    assert container_watches.granted(found, name, label) == wanted
    assert not container_watches.granted(found, name, "ignore")
    assert container_watches.from_json(container_watches.to_json(found)) == found


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert settings(None) == Proxy()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert settings(None) == Proxy()
    wanted = Proxy("/x.sock", grants=(Grant("container:*", allowed=True),))
    (tmp_path / "proxy").write_text(container_watches.to_json(wanted))
    assert settings(None) == wanted
    (tmp_path / "proxy").write_text("{")
    with pytest.raises(RotaError, match="cannot be read"):
        settings(None)
