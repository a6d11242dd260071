"""rotad-metrics on real sockets, asking a service on a real bus: what it answers, what clients cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.errors import RotaError
from rota.exporter import USUAL, Exporter, Limits, Page, Request, parse
from rota.lifetime import Lifetime
from rota.metrics import Reading
from tests.bus.house import House, Meeting, meeting
from tests.bus.keeper_kit import Caller, kept, rules, watching
from tests.prometheus import promtool

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
AGENT = {
    "agent": "a",
    **{"schedule": "on demand", "priority": "low", "paused": False, "running": False, "next": None},
    **Lifetime().table(),
}


class Served:
    """An exporter on a TCP port and a UNIX socket, and the service that it asks."""

    def __init__(self, met: Meeting, exporter: Exporter, sockets: list[socket.socket]) -> None:
        self.house = met.house
        self.exporter = exporter
        self.address = sockets[0].getsockname()
        self.path = sockets[1].getsockname()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    async def ask(self, request: bytes = GET, *, unix: bool = False) -> tuple[str, bytes]:
        """Return the status line and the body."""
        reader, writer = await (asyncio.open_unix_connection(self.path) if unix else self.connect())
        writer.write(request)
        whole = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        head, _, body = whole.partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0].decode(), body

    async def up(self) -> bytes:
        status, body = await self.ask()
        assert status == "HTTP/1.1 200 OK"
        return next(line for line in body.splitlines() if line.startswith(b"rota_up "))


def run(
    address: str, folder: Path, work: Callable[[Served], Awaitable[None]], limits: Limits = USUAL
) -> None:
    async def main() -> None:
        tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
        tcp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "m.sock"))
        for one in (tcp, unix):
            one.listen(128)
            one.setblocking(False)
        async with meeting(address) as met:
            met.house.measured = [AGENT]
            exporter = Exporter(user=True, limits=limits)
            serving = asyncio.create_task(exporter.serve([tcp, unix]))
            try:
                await work(Served(met, exporter, [tcp, unix]))
                assert not serving.done()
            finally:
                serving.cancel()

    asyncio.run(main())


@pytest.fixture
def bus(private_bus: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", private_bus)
    return private_bus


def test_metrics_are_served_on_every_socket(bus: str, tmp_path: Path) -> None:
    async def work(served: Served) -> None:
        for unix in (False, True):
            status, body = await served.ask(unix=unix)
            assert status == "HTTP/1.1 200 OK"
            assert b"rota_up 1.0\n" in body
            assert b'rota_runs_total{agent="a",result="failed"} 0.0\n' in body
        _, body = await served.ask(b"GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n")
        assert body.endswith(b"# EOF\n")
        assert await served.ask(b"HEAD /metrics HTTP/1.0\r\n\r\n") == ("HTTP/1.1 200 OK", b"")
        status, _ = await served.ask(b"GET http://rota/metrics?x=1 HTTP/1.1\r\n\r\n")
        assert status == "HTTP/1.1 200 OK"

    run(bus, tmp_path, work)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", "400 Bad Request"),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET http://[/metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nHost : x\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nno header\r\n\r\n", "400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\xff\xff\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 9000 + b"\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=x\r\n\r\n", "200 OK"),
        (b"GET /metrics HTTP/1.1\r\nAccept: \xff;;=,\r\nAccept: */*\r\n\r\n", "200 OK"),
    ],
)
def test_malformed_requests_get_an_answer(bus: str, tmp_path: Path, request_: bytes, status: str) -> None:
    async def work(served: Served) -> None:
        assert (await served.ask(request_))[0] == f"HTTP/1.1 {status}"
        assert await served.up() == b"rota_up 1.0"

    run(bus, tmp_path, work)


def test_a_keeper_is_asked_where_there_is_one(bus: str, tmp_path: Path) -> None:
    async def work(served: Served) -> None:
        _, body = await served.ask()
        assert not [line for line in body.splitlines() if line.startswith(b"rota_keeper_")]
        folder = tmp_path / "keeper"
        folder.mkdir()
        with kept(folder, bus, rules(), watching()):
            caller = await Caller.on(bus)
            await caller.there()
            caller.bus.disconnect()
            _, body = await served.ask()
        for line in (
            b'rota_keeper_findings{severity="critical"} 0.0',
            b"rota_keeper_actions_left 20.0",
            b"rota_up 1.0",
        ):
            assert line + b"\n" in body
        done = promtool("check", "metrics", text=body.decode())
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    run(bus, tmp_path, work)


def test_who_asks_at_once_shares_one_answer(bus: str, tmp_path: Path) -> None:
    async def work(served: Served) -> None:
        answers = await asyncio.gather(*(served.ask() for _ in range(100)))
        assert {status for status, _ in answers} == {"HTTP/1.1 200 OK"}
        assert all(b"rota_up 1.0" in body for _, body in answers)
        assert 1 <= len(served.house.asked) < 20

    run(bus, tmp_path, work)


def test_slow_clients_are_cut_off_and_hold_nobody_up(bus: str, tmp_path: Path) -> None:
    async def work(served: Served) -> None:
        mute = [await served.connect() for _ in range(20)]
        drip = await served.connect()
        drip[1].write(b"GET /met")
        assert await served.up() == b"rota_up 1.0"
        for reader, writer in (*mute, drip):
            try:
                assert await asyncio.wait_for(reader.read(), 5) == b""
            except ConnectionResetError:
                writer.close()

    run(bus, tmp_path, work, Limits(client=1))


def test_who_does_not_read_is_cut_off(bus: str, tmp_path: Path) -> None:
    async def work(served: Served) -> None:
        served.house.measured = [AGENT | {"agent": f"a{number}"} for number in range(3000)]
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(served.address)
            deaf.sendall(GET)
            async with asyncio.timeout(60):  # as long as the page takes to make
                while not served.exporter._clients:
                    await asyncio.sleep(0)
                while served.exporter._clients:
                    await asyncio.sleep(0.1)
            deaf.settimeout(5)
            found = b""
            while part := deaf.recv(65536):
                found += part
            length = re.search(rb"Content-Length: (\d+)", found)
            assert length is not None
            assert len(found) < int(length[1])

    run(bus, tmp_path, work, Limits(client=0.5))


def test_too_many_clients_are_turned_away(bus: str, tmp_path: Path) -> None:
    async def work(served: Served) -> None:
        waiting = [await served.connect() for _ in range(4)]
        await asyncio.sleep(0.1)
        with pytest.raises(ConnectionResetError):
            await served.ask()
        for _, writer in waiting:
            writer.close()
        async with asyncio.timeout(5):
            while True:  # until it has noticed that they left
                with contextlib.suppress(ConnectionResetError):
                    assert await served.up() == b"rota_up 1.0"
                    break
                await asyncio.sleep(0.01)

    run(bus, tmp_path, work, Limits(clients=4))


def test_rotad_that_does_not_answer_is_down(bus: str, tmp_path: Path) -> None:
    class Silent(House):
        async def metrics(self) -> dict[str, Any]:
            await asyncio.sleep(60)
            raise AssertionError

    async def work(served: Served) -> None:
        served.house.fault = RotaError("the disk is gone")
        assert await served.up() == b"rota_up 0.0"
        served.house.fault = None
        assert await served.up() == b"rota_up 1.0"
        served.house.__class__ = Silent
        started = asyncio.get_running_loop().time()
        assert await served.up() == b"rota_up 0.0"
        assert asyncio.get_running_loop().time() - started < 5

    run(bus, tmp_path, work, Limits(rotad=1))


def test_without_rotad_or_without_a_bus_it_is_down(
    bus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(_: Served) -> None:
        pass

    async def ask() -> Page:
        return await Exporter(user=True).page()

    run(bus, tmp_path, work)  # rotad is gone after this
    assert asyncio.run(ask()).reading == Reading()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/nowhere")
    assert asyncio.run(ask()).reading == Reading()


def test_what_makes_no_sense_is_an_error_of_ours(bus: str, tmp_path: Path) -> None:
    async def work(served: Served) -> None:
        served.house.measured = [{"agent": "a"}]
        assert (await served.ask())[0] == "HTTP/1.1 500 Internal Server Error"
        served.house.measured = [AGENT]
        assert await served.up() == b"rota_up 1.0"

    run(bus, tmp_path, work)


def test_it_ends_when_nobody_asks(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(tmp_path / "m.sock"))
            one.listen()
            one.setblocking(False)
            async with asyncio.timeout(5):
                await Exporter(user=True, limits=Limits(idle=0.2)).serve([one])
        assert (tmp_path / "m.sock").exists(), "systemd listens on"

    asyncio.run(main())


@given(st.binary(max_size=200) | st.from_regex(rb"GET /[a-z]* HTTP/1\.[01]\r\n([ -~]{0,9}\r\n){0,3}\r\n"))
def test_whatever_comes_is_a_request_or_none(head: bytes) -> None:
    found = parse(head)
    assert found is None or found.method.isalpha()


@given(
    st.text(max_size=60) | st.from_regex(r"(text/plain|application/openmetrics-text)(;[a-z]*=[!-~]*){0,3}")
)
def test_whatever_is_accepted_there_is_a_text(accept: str) -> None:
    body, kind = Page(Reading()).encoded(accept)
    assert b"rota_up 0.0" in body
    assert kind.startswith(("text/plain", "application/openmetrics-text"))


def test_a_request() -> None:
    head = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: a\r\nACCEPT:b\r\n\r\n"
    assert parse(head) == Request("GET", "/metrics", "a,b")


def test_it_says_who_starts_it() -> None:
    command = [sys.executable, "-c", "import sys; from rota.exporter import main; sys.exit(main([]))"]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("no socket was handed over. It is started by rotad-metrics.socket")
