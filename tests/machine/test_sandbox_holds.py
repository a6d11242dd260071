"""What an agent can and cannot do inside its sandbox, tried from inside."""

from __future__ import annotations

import json

import pytest

from tests.machine.house import House

PROBE = r"""
import ctypes, json, os, socket, subprocess, sys

def attempt(work):
    try:
        work()
    except BaseException as error:
        return type(error).__name__
    return "did it"

def write(path):
    with open(path, "w") as file:
        file.write("x")

def connect(family, where):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(1)
        one.connect(where)

def mount():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")

def unshare():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")

def others():
    pids = [pid for pid in os.listdir("/proc") if pid.isdigit() and pid not in (str(os.getpid()), "1")]
    if "1" not in os.listdir("/proc") and not pids:
        raise PermissionError
    open("/proc/1/environ").read()

def executable_memory():
    import mmap
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

def setuid():
    os.chmod(write("s") or "s", 0o4755)

tried = {
    "write /etc": attempt(lambda: write("/etc/owned")),
    "write /usr": attempt(lambda: write("/usr/owned")),
    "write /srv": attempt(lambda: write("/srv/owned")),
    "write /home": attempt(lambda: write("/home/alice/owned")),
    "write other agent": attempt(lambda: write("/var/lib/rota-agents/other/owned")),
    "write state": attempt(lambda: write(os.environ["STATE_DIRECTORY"] + "/mine")),
    "write tmp": attempt(lambda: write("/tmp/seen-outside")),
    "read shadow": attempt(lambda: open("/etc/shadow").read()),
    "read home": attempt(lambda: os.listdir("/home/alice")),
    "tcp loopback": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", 4545))),
    "udp": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "netlink": attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "mount": attempt(mount),
    "unshare": attempt(unshare),
    "other processes": attempt(others),
    "executable memory": attempt(executable_memory),
    "setuid file": attempt(setuid),
    "setuid 0": attempt(lambda: os.setuid(0)),
    "kernel log": attempt(lambda: open("/dev/kmsg").read(1)),
    "disk": attempt(lambda: open("/dev/sda").read(1)),
    "sysctl": attempt(lambda: write("/proc/sys/kernel/hostname")),
    "uid": os.getuid(),
}
print(json.dumps(tried))
"""


@pytest.fixture
def probe(house: House) -> House:
    house.machine.write("/usr/local/bin/probe", PROBE, 0o755)
    house.machine.run("mkdir -p /srv /home/alice /srv/open && chmod 777 /srv /srv/open")
    return house


def tried(house: House, name: str) -> dict[str, object]:
    done = house.rota(f"run {name} --wait")
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_the_default_agent_gets_nowhere(probe: House) -> None:
    probe.declare("closed", 'command = ["/usr/bin/python3", "/usr/local/bin/probe"]')
    answer = tried(probe, "closed")
    assert answer.pop("uid") not in (0, 1000)
    got = {name for name, result in answer.items() if result == "did it"}
    assert got == {"write state", "write tmp"}
    assert not probe.machine.exists("/tmp/seen-outside")
    assert probe.machine.exists("/var/lib/rota-agents/closed/mine")


def test_it_opens_by_what_is_declared_and_no_more(probe: House) -> None:
    probe.machine.run("python3 -m http.server 4545 --bind 127.0.0.1 >/dev/null 2>&1 & echo $! > /tmp/server")
    try:
        probe.declare(
            "opened",
            'command = ["/usr/bin/python3", "/usr/local/bin/probe"]\n[sandbox]\nnetwork = ["localhost"]\n'
            'writable = ["/srv"]\nreadable = ["/home/alice"]\nuser = "alice"\n'
            "unit = { MemoryDenyWriteExecute = false }\n",
        )
        probe.machine.wait_for(
            "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 4545))'", 5
        )
        answer = tried(probe, "opened")
    finally:
        probe.machine.run("kill $(cat /tmp/server)", check=False)
    assert answer.pop("uid") == 1000
    got = {name for name, result in answer.items() if result == "did it"}
    expected = {"write state", "write tmp", "write /srv", "read home", "tcp loopback", "udp", "netlink"}
    assert got == expected | {"executable memory"}


def test_addresses_not_named_stay_closed(probe: House) -> None:
    program = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)\n"
        "for host in ('127.0.0.1', '127.0.0.2'):\n"
        "    try: print(host, s.sendto(b'x', (host, 9)))\n"
        "    except OSError as error: print(host, type(error).__name__)\n"
    )
    probe.machine.write("/usr/local/bin/send", program, 0o755)
    probe.declare(
        "fenced",
        'command = ["/usr/bin/python3", "/usr/local/bin/send"]\n[sandbox]\nnetwork = ["127.0.0.1"]\n',
    )
    said = probe.rota("run fenced --wait").stdout
    assert said == "127.0.0.1 1\n127.0.0.2 PermissionError\n"
