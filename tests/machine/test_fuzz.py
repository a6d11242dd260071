"""rotad against those who mean no good: random calls, dfuzzer, floods; some 90 s.

After each, the same process answers, has no more memory than is stated here, and has logged no trace.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine.bus_calls import CLIENT, client, methods, put_client
from tests.machine.house import House
from tests.machine.machine import Machine

MIB = 1 << 20
GROWTH = 32 * MIB
"""What rotad may have grown by after a thousand random calls, if it has had as many before."""
DFUZZER = "/opt/dfuzzer"


@pytest.fixture
def sleeper(house: House) -> House:
    """An agent that does nothing, and a client to talk to rotad with."""
    house.declare("sleeper", 'command = ["/bin/sleep", "30"]')
    put_client(house.machine)
    return house


def pid_and_memory(machine: Machine) -> tuple[int, int]:
    """Return rotad's process, and how much memory it has, in bytes."""
    pid = int(machine.run("systemctl show -P MainPID rotad.service").stdout)
    found = re.search(r"VmRSS:\s+(\d+) kB", machine.read(f"/proc/{pid}/status"))
    assert found
    return pid, int(found[1]) * 1024


@contextmanager
def unshaken(machine: Machine, growth: int) -> Iterator[None]:
    """See that rotad is the same process after it, grew by less than so many bytes, and logged no trace."""
    machine.run("busctl call org.rota1 /org/rota1 org.freedesktop.DBus.Peer Ping")
    before = pid_and_memory(machine)
    since = machine.run("date +%s.%N").stdout.strip()
    yield
    machine.run("timeout 10 rota list")
    after = pid_and_memory(machine)
    log = machine.run(f"journalctl -u rotad.service -o cat --since=@{since}").stdout
    print(f"rotad: {before[1] / MIB:.0f} MiB before, {after[1] / MIB:.0f} MiB after")
    assert after[0] == before[0], f"it is another process now:\n{log[-3000:]}"
    assert "Traceback" not in log, log[-3000:]
    assert after[1] - before[1] < growth


@pytest.mark.parametrize("user", [None, "alice"])
def test_random_calls(sleeper: House, user: str | None) -> None:
    # The greatest messages that the bus takes leave it greater once: 32 MiB as Python's objects.
    client(sleeper.machine, "random", json.dumps(methods()), "1", "6", user=user)
    with unshaken(sleeper.machine, GROWTH):
        found = client(sleeper.machine, "random", json.dumps(methods()), "1", "8", user=user)
    print(found["counts"])
    assert found["odd"] == []
    assert sum(found["counts"].values()) > 200
    assert set(found["counts"]) <= {
        "answered",
        "org.freedesktop.DBus.Error.InvalidArgs",
        "org.freedesktop.DBus.Error.AccessDenied",
        "org.rota1.Error.NotFound",
        "org.rota1.Error.Failed",
    }


def put_dfuzzer(machine: Machine) -> list[str]:
    """Copy the host's dfuzzer with its libraries into the machine; return how to run it there."""
    program = shutil.which("dfuzzer")
    if program is None:
        pytest.skip(
            "dfuzzer is not installed (Debian 12 and 13 have no package of it: github.com/dbus-fuzzer)"
        )
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", said)
    machine.run(f"mkdir -p {DFUZZER}")
    for path in (program, *libraries):
        machine.run(f"cat >{DFUZZER}/{Path(path).name}", input=Path(path).read_bytes())
    machine.run(f"chmod -R a+rX {DFUZZER}; chmod a+x {DFUZZER}/*")
    loader = next(Path(path).name for path in libraries if "ld-linux" in path)
    return [f"{DFUZZER}/{loader}", "--library-path", DFUZZER, f"{DFUZZER}/dfuzzer"]


@pytest.mark.parametrize("user", ["root", "alice"])
def test_dfuzzer(sleeper: House, user: str) -> None:
    machine = sleeper.machine
    dfuzzer = put_dfuzzer(machine)
    with unshaken(machine, GROWTH):
        options = "--bus=org.rota1 --no-suppressions --max-iterations=60 --buffer-limit=50000"
        command = [*dfuzzer, *options.split()]
        done = machine.run(command, user=user, check=False, timeout=120)
        print(done.stdout[-3000:], done.stderr[-3000:])
    assert "exited" not in done.stdout
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize(("what", "listens"), [("calls", "yes"), ("calls", "no"), ("signals", "no")])
def test_a_flood(sleeper: House, what: str, listens: str) -> None:
    """One sends as much as it can for 5 s; another gets its answers all the while, rotad does not grow."""
    machine = sleeper.machine
    for _ in range(20):
        machine.run("systemctl start rota-sleeper.service; systemctl stop rota-sleeper.service")
    sleeper.settled("sleeper", 20)
    with unshaken(machine, GROWTH):
        flood = machine.popen(["python3", CLIENT, "flood", what, listens, "5"], user="alice")
        found = client(machine, "patient", "4", user="bob")
        assert flood.poll() is None, "it is to be over before the flood is"
        said = json.loads(flood.communicate(timeout=30)[0])
        print(f"flood: {said}; another: {found}")
    assert said["calls"] > 500
    assert found["answers"] > 3
    assert found["slowest"] < 3
