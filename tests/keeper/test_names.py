"""Names: what a real name server answers, and what if it does not, or hangs."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.keeper.looking import look
from tests.keeper.servers import LOCALHOST, namespace, raw_server


@contextlib.contextmanager
def name_server() -> Iterator[int]:
    """A name server, by dnspython, over UDP and TCP."""
    pytest.importorskip("dns", reason="no dnspython")
    import dns.flags
    import dns.message
    import dns.query
    import dns.rcode
    import dns.rrset

    zone = {
        ("nas.home.", "A"): ["192.168.1.2", "192.168.1.3"],
        ("nas.home.", "AAAA"): ["fd00::2"],
        ("www.home.", "A"): ["192.168.1.2"],
        ("home.", "MX"): ["10 mail.home."],
        ("home.", "TXT"): ['"one " "two"'],
    }

    def answer(wire: bytes, *, long: bool) -> bytes:
        question = dns.message.from_wire(wire)
        asked = question.question[0]
        reply = dns.message.make_response(question)
        kind = dns.rdatatype.to_text(asked.rdtype)
        if str(asked.name) == "www.home.":
            reply.answer.append(dns.rrset.from_text("www.home.", 60, "IN", "CNAME", "nas.home."))
        if str(asked.name) == "long.home." and not long:
            reply.flags |= dns.flags.TC
        elif str(asked.name) == "long.home.":
            reply.answer.append(dns.rrset.from_text("long.home.", 60, "IN", "A", "10.0.0.1"))
        elif (str(asked.name), kind) in zone:
            reply.answer.append(
                dns.rrset.from_text(str(asked.name), 60, "IN", kind, *zone[str(asked.name), kind])
            )
        elif not any(name == str(asked.name) for name, _ in zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return bytes(reply.to_wire())

    def stream(sock: socket.socket) -> None:
        size = int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big")
        reply = answer(sock.recv(size, socket.MSG_WAITALL), long=True)
        sock.sendall(len(reply).to_bytes(2, "big") + reply)

    def datagrams(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, peer = sock.recvfrom(4096)
                sock.sendto(answer(wire, long=False), peer)

    with raw_server(stream) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOCALHOST, port))
        threading.Thread(target=datagrams, args=(sock,), daemon=True).start()
        yield port


def test_names() -> None:
    with name_server() as port:

        def ask(name: str, **more: Any) -> dict[str, str]:
            found = look(dns={"name": name, "server": LOCALHOST, "port": port, **more})
            return {problem: said.removeprefix("nas: ") for problem, said in found.items()}

        assert ask("nas.home") == {}
        assert ask("nas.home", expect=["192.168.1.2"]) == {}
        assert ask("nas.home", record="AAAA", expect=["fd00::2"]) == {}
        assert ask("www.home", expect=["192.168.1.2"]) == {}
        assert ask("home", record="MX", expect=["10 mail.home"]) == {}
        assert ask("home", record="TXT", expect=["one two"]) == {}
        assert ask("long.home", expect=["10.0.0.1"]) == {}, "cut off over UDP, whole over TCP"
        assert ask("nas.home", expect=["192.168.1.9"]) == {
            "answer": "A nas.home is 192.168.1.2, 192.168.1.3, without 192.168.1.9"
        }
        assert ask("none.home") == {"answer": "A none.home is NXDOMAIN"}
        assert ask("nas.home", record="TXT") == {"answer": "TXT nas.home is nothing"}


def test_a_name_server_that_is_not_there() -> None:
    pytest.importorskip("dns", reason="no dnspython")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOCALHOST, 0))
        question = {"name": "nas.home", "server": LOCALHOST, "port": sock.getsockname()[1]}
        assert "no answer within 500ms" in look(dns=question, timeout="500ms")["unreachable"]


def test_without_dnspython_the_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # here it is installed; None is how Python marks a module that is not to be found
    monkeypatch.setitem(__import__("sys").modules, "dns", None)
    assert "dnspython is missing; install python3-dnspython" in look(dns={"name": "nas.home"})["blind"]


SEVERAL = """
import asyncio, pathlib, socket, subprocess, tempfile, threading
import dns.message, dns.rcode, dns.rrset
from rota.watches import Dns
from rota_agents.home_keeper.probes import network
from rota_agents.home_keeper.probes.threads import Threads

with tempfile.NamedTemporaryFile("w") as file:
    file.write("nameserver 127.0.0.3\\nnameserver 127.0.0.2\\nnameserver 127.0.0.1\\n")
    file.flush()
    subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)

def serve(address, answers):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    def work():
        while True:
            wire, peer = server.recvfrom(4096)
            question = dns.message.from_wire(wire)
            reply = dns.message.make_response(question)
            if answers:
                name = question.question[0].name
                reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
            else:
                reply.set_rcode(dns.rcode.SERVFAIL)
            server.sendto(reply.to_wire(), peer)
    threading.Thread(target=work, daemon=True).start()

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.3", 53))
serve("127.0.0.2", False)

def ask(timeout):
    found = asyncio.run(network.dns(Threads(), Dns("nas.home"), timeout))
    print(found.why or found.code, *found.records)

ask(1_000_000)
serve("127.0.0.1", True)
ask(1_000_000)
"""


def test_the_next_name_server_is_asked_where_one_is_dead_or_fails() -> None:
    pytest.importorskip("dns", reason="no dnspython")
    assert namespace(SEVERAL).splitlines() == ["no answer within 1s", "NOERROR 192.0.2.1"]


NO_ANSWER = """
import pathlib, subprocess, tempfile

def mount(*command):
    if pathlib.Path(command[-1]).exists():
        subprocess.run(["mount", *command], check=True)

with tempfile.TemporaryDirectory() as folder:
    for name, text in (
        ("resolv.conf", "nameserver 127.0.0.1\\noptions timeout:30 attempts:1\\n"),
        ("nsswitch.conf", "hosts: files dns\\n"),
    ):
        pathlib.Path(folder, name).write_text(text)
        mount("--bind", f"{folder}/{name}", f"/etc/{name}")
    mount("-t", "tmpfs", "none", "/run/nscd")
"""
SILENT = (
    NO_ANSWER
    + """
import asyncio, socket
from rota_agents.home_keeper.probes import network
from rota_agents.home_keeper.probes.threads import Threads

async def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        threads = Threads()
        for _ in range(3):
            found = await network.tried(1_000_000, network.addresses(threads, "nas.example"))
            print(found.why, *threads.busy)
        server.setblocking(False)
        try:
            while True:
                print(b"nas\\x07example" in server.recv(512))
        except BlockingIOError:
            pass
        found = await network.tried(5_000_000, network.addresses(threads, "localhost"))
        print(found.why or "answers", *threads.busy)

asyncio.run(main())
"""
)


def test_a_resolver_that_hangs_is_asked_once() -> None:
    """Of all the tries there is one question about each of A and AAAA; and other names are resolved."""
    silent = ["no answer within 1s resolve nas.example"]
    answers = ["answers resolve nas.example"]
    assert namespace(SILENT).splitlines() == [*silent * 3, *["True"] * 2, *answers]


ADDRESSES = """
import asyncio, pathlib, subprocess, tempfile
from rota_agents.home_keeper.probes import network
from rota_agents.home_keeper.probes.threads import Threads

with tempfile.NamedTemporaryFile("w") as hosts:
    hosts.write("192.0.2.1 nas\\n192.0.2.2 nas\\n192.0.2.3 nas\\n")
    hosts.flush()
    subprocess.run(["mount", "--bind", hosts.name, "/etc/hosts"], check=True)

asked = []

async def reach(host, port):
    asked.append(host)
    await asyncio.sleep(60 if len(asked) < 3 else 0.1)
    return port

print(asyncio.run(network.first_of(Threads(), "nas", 22, 3_000_000, reach)), *sorted(asked))
"""


def test_an_address_that_is_silent_leaves_time_for_the_others() -> None:
    assert namespace(ADDRESSES) == "22 192.0.2.1 192.0.2.2 192.0.2.3\n"


HANGING = (
    NO_ANSWER
    + """
import asyncio, socket
from rota.watch_rules import resolve
from rota.watching import Watching
from rota_agents.home_keeper.probes.polls import polls

names = {f"e{number}": {"tcp": f"host{number}.home:22", "timeout": "20s"} for number in range(16)}
watching = Watching.model_validate({"endpoints": names, "disks": {"/": {}}})
checks = {poll.name: poll for poll in polls(resolve(watching))}

async def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        server.setblocking(False)
        tries = [asyncio.create_task(checks[f"endpoint-{name}"].probe()) for name in names]
        asked = set()
        async with asyncio.timeout(30):
            while len(asked) < len(names):
                asked.add((await asyncio.get_running_loop().sock_recv(server, 512))[12:20])
        found = await checks["disks"].probe()
        print([one.unanswered for one in found if one.point == "/"], all(not one.done() for one in tries))
        for one in tries:
            one.cancel()

asyncio.run(main())
import os, sys
sys.stdout.flush()
os._exit(0)  # the threads ask on
"""
)


def test_names_that_hang_keep_no_disk_from_being_asked() -> None:
    """A name server that is dead, with as many endpoints by name as there may be threads."""
    assert namespace(HANGING) == "[''] True\n"
