"""Endpoints, against real servers: what is reached, what is not, and why, in words."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rota_agents.home_keeper.checks.network import Answered, endpoint
from rota_agents.home_keeper.checks.readings import Memory, settle
from rota_agents.home_keeper.checks.words import Malformed
from rota_agents.home_keeper.probes import Unavailable, http
from rota_agents.home_keeper.probes import network as probes

from rota.watch_rules import resolve
from rota.watches import shown
from rota.watching import Watching
from tests.keeper.looking import look
from tests.keeper.servers import LOCALHOST, certificate, free_port, namespace, raw_server, web_server

S = 1_000_000
DAY = 86_400 * S
NOW = 1_796_029_200 * S


def test_tcp_that_accepts() -> None:
    with raw_server(lambda _: None) as port:
        assert look(tcp=f"{LOCALHOST}:{port}") == {}
        assert look(tcp=f"localhost:{port}") == {}, "also where another address of the name refuses"


def test_tcp_that_refuses() -> None:
    port = free_port()
    assert look(tcp=f"{LOCALHOST}:{port}") == {
        "unreachable": f"nas (tcp {LOCALHOST}:{port}) does not answer: connection refused"
    }


def test_tcp_that_never_answers() -> None:
    """A listener whose queue is full answers no SYN: as a host behind a firewall that drops."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOCALHOST, 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.1)
        began = time.monotonic()
        found = look(tcp=f"{LOCALHOST}:{listener.getsockname()[1]}", timeout="500ms")
        assert found["unreachable"].endswith("does not answer: no answer within 500ms")
        assert time.monotonic() - began < 5


def test_a_name_that_is_none() -> None:
    found = look(tcp="no-such-host.invalid:22")
    assert "its name cannot be resolved" in found["unreachable"] or "no answer within" in found["unreachable"]


def test_it_must_be_unreachable_for_as_long_as_hold_says() -> None:
    port = free_port()
    assert look(tcp=f"{LOCALHOST}:{port}", hold="1min") == {}


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with web_server() as port:
        yield f"http://{LOCALHOST}:{port}"


@pytest.mark.parametrize(
    ("path", "declared", "problems"),
    [
        ("/page", {}, {}),
        ("/page?x=1", {"body": "all is well"}, {}),
        ("/chunked", {"body": "all is well"}, {}),
        ("/plain", {"body": "all is well"}, {}),
        ("/page", {"body": "all is lost"}, {"body": "nas (URL) answers without 'all is lost'"}),
        ("/page/500", {}, {"status": "nas (URL) answers with status 500"}),
        ("/page/500", {"body": "lost"}, {"status": "nas (URL) answers with status 500"}),
        ("/page/401", {"status": [401]}, {}),
        ("/page/200", {"status": [401]}, {"status": "nas (URL) answers with status 200"}),
        ("/page/204", {}, {}),
        (
            "/redirect/302", {},
            {"status": "nas (URL) answers with status 302 and leads to http://elsewhere.example/"},
        ),
        ("/redirect/302", {"status": [302]}, {}),
        ("/endless", {}, {}),
        ("/endless", {"body": "x"}, {"body": "nas (URL) answers without 'x'"}),
        ("/drip", {"timeout": "500ms"}, {"unreachable": "nas (URL) does not answer: no answer within 500ms"}),
        ("/late", {"slow": "5s", "interval": "1h", "timeout": "10s"}, {}),
        ("/late", {"slow": "50ms", "interval": "1h"}, {"slow": "nas (URL) took"}),
    ],
)  # fmt: skip
def test_http(web: str, path: str, declared: dict[str, Any], problems: dict[str, str]) -> None:
    found = look(http=web + path, **declared)
    assert found.keys() == problems.keys()
    for problem, said in problems.items():
        assert found[problem].startswith(said.replace("URL", web + path))


@pytest.mark.parametrize(
    ("path", "declared"),
    [
        ("/page/500", {}),
        ("/page", {"body": "all is lost"}),
        ("/drip", {"timeout": "500ms"}),
        ("/late", {"slow": "50ms", "interval": "1h"}),
    ],
)
def test_what_a_url_asks_for_may_be_secret_and_is_not_shown(
    web: str, path: str, declared: dict[str, Any]
) -> None:
    (summary,) = look(http=f"{web}{path}?token=t0ken-of-mine", **declared).values()
    assert summary.startswith(f"nas ({web}{path}) ")
    assert "t0ken" not in summary


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://nas.home/health", "https://nas.home/health"),
        ("https://nas.home:8443?token=abc", "https://nas.home:8443"),
        ("https://ada:secret@nas.home/a@b?x=1#y", "https://nas.home/a@b"),
        ("//ada@nas.home/", "//nas.home/"),
        ("/login?next=/health&session=abc", "/login"),
        ("https://nas.home/#access_token=abc", "https://nas.home/"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_url(url: str, told: str) -> None:
    assert shown(url) == told


def test_where_an_answer_leads_to_is_shown_without_what_may_be_secret() -> None:
    watching = Watching.model_validate({"endpoints": {"nas": {"http": "https://nas.home/a?token=abc"}}})
    rules = resolve(watching).endpoints["nas"]
    facts = Answered(S, status=302, location="https://ada:abc@nas.home/b?session=abc", distrust="it is abd")
    told = [(one.summary, one.details) for one in endpoint("nas", facts, rules, NOW)]
    assert "and leads to https://nas.home/b" in str(told)
    assert "certificate of nas (https://nas.home/a) is not trusted" in str(told)
    assert "abc" not in str(told)


def test_what_speaks_no_http() -> None:
    def greet(sock: socket.socket) -> None:
        sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    def hang_up(sock: socket.socket) -> None:
        sock.recv(1)

    with raw_server(greet) as port:
        found = look(http=f"http://{LOCALHOST}:{port}/")
        assert "what answers is no HTTP server" in found["unreachable"]
        assert "TLS: " in look(http=f"https://{LOCALHOST}:{port}/")["unreachable"]
    with raw_server(hang_up) as port:
        said = look(http=f"http://{LOCALHOST}:{port}/")["unreachable"]
        assert "it hung up without an answer" in said or "connection reset" in said


def test_headers_without_end() -> None:
    def flood(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(b"X: y\r\n" * 4096)

    with raw_server(flood) as port:
        found = look(http=f"http://{LOCALHOST}:{port}/")
        assert "what answers is no HTTP server" in found["unreachable"]


LINE = b"HTTP/1.1 200 OK\r\n"
PLAIN = [LINE + b"Content-Length: 100000\r\n\r\n", *[b"0123456789"] * 10_000]
CHUNKED = [LINE + b"Transfer-Encoding: chunked\r\n\r\n", *[b"4\r\n\r\n\r\n\r\n"] * 10_000]
END = b"3\r\n789\r\n0\r\n\r\n"


@pytest.mark.parametrize("pieces", [PLAIN, [*CHUNKED, END], [*CHUNKED, END[:-2], b"X: y\r\n", b"\r\n"]])
def test_an_answer_byte_by_byte_costs_no_more_than_its_bytes(pieces: list[bytes]) -> None:
    """Parsing at each piece would take the square of them: minutes, for these."""

    def drip(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.recv(65536)
        for piece in pieces:
            sock.sendall(piece)
        sock.recv(1)  # and does not hang up

    calls = 0
    real = http.parse

    def counted(data: bytes, most: int, *, ended: bool) -> http.Response | None:
        nonlocal calls
        calls += 1
        return real(data, most, ended=ended)

    with raw_server(drip) as port, pytest.MonkeyPatch.context() as patch:
        # the real one, counted: how long it takes would depend on the machine
        patch.setattr(http, "parse", counted)
        assert look(http=f"http://{LOCALHOST}:{port}/", timeout="20s", body="789") == {}
    assert calls == 1


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([b"x\r\n"], "what answers is no HTTP server"),
        ([b"-1\r\n"], "what answers is no HTTP server"),
        ([bytes(70_000)], "what answers is no HTTP server"),
        ([b"1;" + b"x" * 60_000 + b"\r\n.\r\n"] * 200, "its answer is hidden"),
    ],
)
def test_chunks_that_are_none(pieces: list[bytes], why: str) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(CHUNKED[0])
        for piece in pieces:
            sock.sendall(piece)
        sock.recv(1)

    with raw_server(serve) as port:
        assert why in look(http=f"http://{LOCALHOST}:{port}/", timeout="20s")["unreachable"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.mark.parametrize(
    ("days", "problem"),
    [(30, ""), (10, "expires in 1w 2d: renew it"), (2, "expires in 1d 23h: renew it")],
)
def test_a_certificate_that_expires_soon(certificates: Path, days: int, problem: str) -> None:
    file, context = certificate(certificates, days)
    with web_server(context) as port:
        url = f"https://localhost:{port}/page"
        for more in ({"ca": str(file)}, {"verify": False}):
            found = look(http=url, **more)
            assert found == ({"certificate": f"the certificate of nas ({url}) {problem}"} if problem else {})
        assert look(http=url, certificate=False, ca=str(file)) == {}


def test_how_bad_that_is() -> None:
    watching = Watching.model_validate({"endpoints": {"nas": {"http": "https://nas/"}}})
    rules = resolve(watching).endpoints["nas"]
    for days, severity in ((20, None), (13, "warning"), (2, "critical"), (-1, "critical")):
        facts = Answered(1, status=200, expires=100 * DAY)
        _, found = settle(Memory(), endpoint("nas", facts, rules, (100 - days) * DAY), S)
        assert [one.severity for one in found] == ([severity] if severity else [])
    assert "expired 1d ago" in found[0].summary


def test_a_certificate_that_is_not_trusted(certificates: Path) -> None:
    file, context = certificate(certificates, 30)
    with web_server(context) as port:
        url = f"https://localhost:{port}/page"
        assert look(http=url) == {
            "certificate": f"the certificate of nas ({url}) is not trusted: self-signed certificate"
        }
        assert look(http=url, verify=False) == {}
        said = look(http=url, certificate=False)
        assert said.keys() == {"unreachable"} and "its certificate is not trusted" in said["unreachable"]
        other = look(http=f"https://{LOCALHOST}:{port}/page", ca=str(file))
        assert "IP address mismatch" in other["certificate"]
        missing = look(http=url, ca="/no/such.pem")
        assert (
            missing.keys() == {"blind"}
            and "certificates cannot be read from /no/such.pem" in missing["blind"]
        )


def test_a_certificate_that_has_expired(certificates: Path) -> None:
    file, context = certificate(certificates, -1)
    with web_server(context) as port:
        url = f"https://localhost:{port}/page"
        assert "certificate has expired" in look(http=url, ca=str(file))["certificate"]
        assert "ago: renew it" in look(http=url, verify=False)["certificate"]


@pytest.mark.parametrize("days", [1, 400, 365 * 40])
def test_expiry_is_what_openssl_says(certificates: Path, days: int) -> None:
    file, _ = certificate(certificates, days)
    said = subprocess.run(
        ["openssl", "x509", "-in", file, "-noout", "-enddate"], capture_output=True, text=True, check=True
    )
    until = datetime.strptime(said.stdout.strip(), "notAfter=%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    assert http.expiry(ssl.PEM_cert_to_DER_cert(file.read_text())) == until.timestamp() * S


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_what_is_no_certificate_has_no_expiry(data: bytes) -> None:
    assert http.expiry(data) is None


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_whatever_answers_is_http_or_not(data: bytes, ended: bool) -> None:
    for answer in (
        data,
        b"HTTP/1.1 200 OK\r\n" + data,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data,
    ):
        try:
            found = http.parse(answer, 100, ended=ended)
        except Malformed:
            continue
        assert found is None or (100 <= found.status <= 999 and len(found.body) <= 100)
        assert found is not None or not ended


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 50))
def test_an_answer_in_pieces_is_the_same(length: int, cut: int) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length
    if cut < len(whole):
        assert http.parse(whole[:-cut], 100, ended=False) is None
    found = http.parse(whole, 100, ended=False)
    assert found is not None and found.body == b"x" * length


PING = """
import asyncio, pathlib, subprocess
from rota_agents.home_keeper.probes import Unavailable, network
from rota_agents.home_keeper.probes.threads import Threads

def allow(groups):
    pathlib.Path("/proc/sys/net/ipv4/ping_group_range").write_text(groups)

async def told(host, timeout=5_000_000):
    try:
        return (await network.ping(Threads(), host, timeout)).why or "answers"
    except Unavailable as error:
        return str(error).partition(":")[0]

async def main():
    allow("0 0")
    for host in ("127.0.0.1", "::1", "localhost", "192.0.2.2"):
        print(host, await told(host))
    script = (
        "ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up;"
        "ip addr add 192.0.2.1/24 dev v0;"
        "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev v0; ip addr add fe80::1/64 dev v0 nodad"
    )
    subprocess.run(["sh", "-euc", script], check=True)
    print("192.0.2.1", await told("192.0.2.1"))
    print("192.0.2.2", await told("192.0.2.2", 300_000))
    print("fe80::1%v0", await told("fe80::1%v0"))
    allow("1 0")
    print(await told("127.0.0.1"))

asyncio.run(main())
"""


def test_a_real_ping() -> None:
    *lines, last = namespace(PING).splitlines()
    assert lines == [
        "127.0.0.1 answers",
        "::1 answers",
        "localhost answers",
        "192.0.2.2 network is unreachable",
        "192.0.2.1 answers",
        "192.0.2.2 no answer within 300ms",
        "fe80::1%v0 answers",
    ]
    assert last in ("it may not ping", "answers"), "by the program, where it is"


def test_a_ping_that_cannot_be_sent_is_told_at_once(tmp_path: Path) -> None:
    """As where a packet filter drops what is sent; here nobody is left to receive it."""

    async def live() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as silent:
                silent.bind(str(tmp_path / "silent"))
                sock.connect(str(tmp_path / "silent"))
                waiting = asyncio.create_task(probes._echo(sock, 8, 0, 60 * S))
                await asyncio.sleep(0.1)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            refused = asyncio.create_task(probes._echo(sock, 8, 0, 60 * S))
            await asyncio.wait([refused], timeout=10)
            assert refused.done() and isinstance(refused.exception(), ConnectionRefusedError)

    asyncio.run(live())


def test_the_program_ping_is_asked_where_the_socket_is_not_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Scripts stand in for it: its exit status is 1 for no answer, 2 for other trouble (ping(8))."""
    monkeypatch.setenv("PATH", str(tmp_path))

    async def ping() -> None:
        await probes._ping_program("127.0.0.1", S)

    with pytest.raises(Unavailable, match="ping_group_range"):
        asyncio.run(ping())
    program = tmp_path / "ping"
    for status, error in ((0, None), (1, TimeoutError), (2, OSError)):
        program.write_text(f"#!/bin/sh\necho 'ping: unknown host' >&2\nexit {status}\n")
        program.chmod(0o755)
        if error is None:
            asyncio.run(ping())
        else:
            with pytest.raises(error, match=None if status == 1 else "^unknown host$"):
                asyncio.run(ping())
