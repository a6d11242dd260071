"""The reader, on real journal files: what is read from which point, and the recorder on it.

samples/runs-0.journal.xz and runs-1.journal.xz are two journal files that systemd-journal-remote made
of entries such as those of test_journal.py, of rotad's and of forged ones: the machine's journal, in a
mount namespace, of the tests here.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parent / "samples"
IN_FILE_0 = ("ok", "fail", "missing", "timeout", "runtimemax", "condpath", "dep")
IN_FILE_1 = ("stopped", "limit", "kept", "cpu")
MACHINE = "0123456789abcdef0123456789abcdef"
IN_NAMESPACE = """
set -e
mount -t tmpfs -o size=64m tmpfs /var/log
if [ -d /run/log ]; then mount -t tmpfs tmpfs /run/log; fi
mount --bind "$1" /etc/machine-id
mkdir -p /var/log/journal/$(cat "$1")
shift
exec "$@"
"""
PRELUDE = f"""
import asyncio, json, sys
from pathlib import Path
from rota.journal import Reader
from rota.recorder import Recorder
from rota.errors import RotaError

house, files = Path("/var/log/journal/{MACHINE}"), Path(sys.argv[1])

def put(number):
    (house / f"runs-{{number}}.journal").write_bytes((files / f"runs-{{number}}.journal").read_bytes())

def told(events):
    return [[event.kind, event.agent, event.run, event.at] for event in events]
"""


def on_journal(tmp_path: Path, program: str) -> Any:
    """Run a program where the machine's journal is what it puts there; return what it printed as JSON."""
    for number in (0, 1):
        packed = (SAMPLES / f"runs-{number}.journal.xz").read_bytes()
        (tmp_path / f"runs-{number}.journal").write_bytes(lzma.decompress(packed))
    machine = tmp_path / "machine-id"
    machine.write_text(f"{MACHINE}\n", encoding="ascii")
    as_root = ["--map-root-user"] if os.getuid() else []
    alone = ["unshare", "--mount", *as_root]
    try:
        probe = [*alone, "sh", "-c", "mount -t tmpfs tmpfs /var/log && test -e /etc/machine-id"]
        able = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("no mount namespaces of one's own here")
    command = [*alone, "sh", "-c", IN_NAMESPACE, "sh", str(machine), sys.executable, "-c", PRELUDE + program]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_read_of_a_journal_and_from_which_point(tmp_path: Path) -> None:
    """Whole, in small steps with a new reader at each, and behind entries that are gone."""
    found = on_journal(
        tmp_path,
        """
put(0)
first, behind_first, _ = Reader(None).read()
put(1)
everything, end, more = Reader(None).read()
assert not more

steps, cursor, sizes = [], None, []
while True:
    some, cursor, more = Reader(cursor).read(4)
    sizes.append(len(some))
    steps += some
    if not more:
        break

growing = Reader(behind_first)
after_first = growing.read()[0]
nothing = growing.read()[0]
(house / "runs-0.journal").unlink()
vacuumed = Reader(behind_first).read()[0]
in_the_middle = Reader(first[-1].data.get("cursor") or first[0].data["cursor"]).read()[0]
(house / "runs-1.journal").unlink()
json.dump({
    "everything": told(everything), "steps": told(steps), "sizes": sizes, "after_first": told(after_first),
    "first": told(first), "nothing": told(nothing), "vacuumed": told(vacuumed),
    "in_the_middle": told(in_the_middle), "gone": told(Reader(end).read()[0]),
}, sys.stdout)
""",
    )
    assert found["everything"] == found["first"] + found["after_first"]
    assert found["steps"] == found["everything"]
    assert max(found["sizes"]) <= 4
    assert found["nothing"] == []
    assert found["vacuumed"] == found["after_first"]
    assert found["in_the_middle"] == found["after_first"]
    assert found["gone"] == []
    kinds = [(kind, agent) for kind, agent, _, _ in found["everything"]]
    assert kinds.count(("triggered", "ok")) == 1
    assert kinds.count(("archived", "ok")) == 1  # neither the forged one nor the one cut off
    assert kinds.count(("stop-requested", "stopped")) == 1
    assert kinds.count(("not-started", "dep")) == 1
    agents = {agent for _, agent in kinds}
    assert agents == {"twice", *IN_FILE_0, *IN_FILE_1}


def test_entries_that_are_damaged_are_passed_over(tmp_path: Path) -> None:
    found = on_journal(
        tmp_path,
        """
put(0)
whole, _, _ = Reader(None).read()
file = house / "runs-0.journal"
good = file.read_bytes()
left = {}
for name, text, broken in (
    ("no name", b"MESSAGE=Finished s-ok", b"MESSAGE:Finished s-ok"),
    ("not UTF-8", b"MESSAGE=Failed to start s-fail", b"MESSAG\\xff=Failed to start s-fail"),
):
    damaged = good.replace(text, broken)
    assert damaged != good
    file.write_bytes(damaged)
    reader = Reader(None)
    left[name] = [told(reader.read()[0]), told(Reader(reader.cursor).read()[0])]
json.dump({"whole": told(whole), "left": left}, sys.stdout)
""",
    )
    for kind, agent in (("running", "ok"), ("not-started", "fail")):
        assert kind in [step[0] for step in found["whole"] if step[1] == agent]
    for name, kind, agent in (("no name", "running", "ok"), ("not UTF-8", "not-started", "fail")):
        rest, after = found["left"][name]
        gone = [step for step in found["whole"] if step not in rest]
        assert {(step[0], step[1]) for step in gone} == {(kind, agent)}
        assert after == []


def test_a_file_that_is_damaged_is_read_as_far_as_it_can_be(tmp_path: Path) -> None:
    """From wherever reading goes on, nothing twice, and no error where the last file cannot be read on.

    In these ways a power cut may leave it: libsystemd gives a file up in which it met damage, and is at no
    entry then.
    """
    found = on_journal(
        tmp_path,
        """
import random
put(0)
put(1)
reader, steps, more = Reader(None), [], True
while more:
    some, cursor, more = reader.read(5)
    steps.append((told(some), cursor))
file = house / "runs-1.journal"
good = file.read_bytes()
places = [place for place in range(4096, len(good), 64) if any(good[place : place + 64])]
doubled = []
for seed in range(30):
    chance = random.Random(seed)
    damaged = bytearray(good)
    for place in chance.sample(places[len(places) // 2 :], k=3):
        damaged[place : place + 64] = chance.randbytes(64)
    file.write_bytes(damaged)
    done = []
    for some, cursor in steps:
        done += some
        reader = Reader(cursor)
        rest = told(reader.read(10_000)[0])
        again = told(reader.read(10_000)[0]) + told(Reader(reader.cursor).read(10_000)[0])
        doubled += [seed] * any(event in done for event in rest)
        doubled += [seed] * any(event in rest for event in again)
json.dump([doubled, len(steps)], sys.stdout)
""",
    )
    doubled, steps = found
    assert steps > 10
    assert doubled == []


def test_the_recorder_on_a_journal(tmp_path: Path) -> None:
    """Twice the same store: drained at once, and by recorders that come and go."""
    found = on_journal(
        tmp_path,
        """
def rows(store):
    return sorted([run.agent, run.state, run.reason, run.status, run.signal, run.started, run.trigger,
                   run.stopped_by, run.cpu_usec, run.archived] for run in store.runs(limit=100))

changed, events = [], []

def recording(name, hears=changed.append):
    return Recorder(files / name, changed=hears, recorded=events.extend, user=False)

try:
    recording("none.db")
    absent = ""
except RotaError as error:
    absent = error.message
put(0); put(1)
whole = recording("whole.db")
asyncio.run(whole.drain())
(house / "runs-1.journal").unlink()
for part in (0, 1, 1):
    put(part)
    recorder = recording("parts.db", [].append)
    asyncio.run(recorder.drain())
    recorder.store.close()
parts = recording("parts.db", [].append)
json.dump({"absent": absent, "whole": rows(whole.store), "parts": rows(parts.store),
           "changed": sorted({run.agent for run in changed})}, sys.stdout)
""",
    )
    assert found["absent"] == "the journal cannot be read"
    assert found["whole"] == found["parts"]
    states = {(row[0], row[1], row[2], row[3], row[4]) for row in found["whole"]}
    assert states == {
        ("ok", "succeeded", None, 0, None),
        ("fail", "failed", "exit-code", 3, None),
        ("missing", "failed", "exit-code", 203, None),
        ("twice", "activated", None, None, None),
        ("timeout", "timed-out", "timeout", None, "SIGTERM"),
        ("runtimemax", "timed-out", "timeout", None, None),
        ("condpath", "skipped", "ConditionPathExists=/nonexistent", None, None),
        ("dep", "failed", "dependency", None, None),
        ("stopped", "killed", "stopped", None, "SIGTERM"),
        ("limit", "succeeded", None, None, None),
        ("kept", "succeeded", None, None, None),
        ("kept", "skipped", "start-limit-hit", None, None),
        ("cpu", "succeeded", None, None, None),
    }
    assert len(found["whole"]) == 17  # fail twice, limit and kept three times
    row = next(row for row in found["whole"] if row[0] == "ok")
    assert row[6:] == ["timer", None, 70_123, True]
    assert next(row[7] for row in found["whole"] if row[0] == "stopped") == "ada"
    assert found["changed"] == []  # what was there before it began is not news


def test_a_store_whose_cursor_is_none_is_begun_anew(tmp_path: Path) -> None:
    found = on_journal(
        tmp_path,
        """
def recording(name):
    return Recorder(files / name, changed=[].append, recorded=[].append, user=False)

put(0)
first = recording("a.db")
asyncio.run(first.drain())
whole = len(first.store.runs(limit=100))
first.store.append([], "s=1;whatever")
first.store.close()
again = recording("a.db")
asyncio.run(again.drain())
json.dump([whole, len(again.store.runs(limit=100)), len(list(files.glob("a.db.damaged-*")))], sys.stdout)
""",
    )
    whole, again, aside = found
    assert whole == again > 0
    assert aside >= 1


def test_the_oldest_entry_that_is_not_read_yet(tmp_path: Path) -> None:
    """Found without reading it; entries about others are passed over, and read by nobody."""
    found = on_journal(
        tmp_path,
        """
put(0)
put(1)
everything, end, _ = Reader(None).read()
reader = Reader(None)
first = reader.oldest_unread()
again = reader.oldest_unread()
some, cursor, _ = reader.read(4)
between = reader.oldest_unread()
rest, _, _ = reader.read()
nothing = reader.oldest_unread()

recorder = Recorder(files / "rota.db", changed=lambda run: None, recorded=lambda new: None, user=False)
waits = recorder.lag(first + 7)
before = recorder.lag(first - 7)
asyncio.run(recorder.drain())
print(json.dumps({
    "whole": told(some + rest) == told(everything),
    "first": [first == again, first >= everything[0].at, first - everything[0].at < 1_000_000],
    "between": [between > first, between >= rest[0].at],
    "nothing": nothing,
    "lag": [waits, before, recorder.lag(first + 10**9)],
}))
""",
    )
    assert found == {
        "whole": True,
        "first": [True, True, True],
        "between": [True, True],
        "nothing": None,
        "lag": [7, 0, 0],
    }


UNIT_TAIL = """
from rota.logs import unit_tail
put(0); put(1)
UNIT, FIRST, SECOND, EVER = "rota-ok.service", 1795212587766492, 1795212587845686, 2**60
spans = [(0, EVER), (FIRST + 1, EVER), (0, SECOND - 1), (SECOND + 1, EVER), (0, FIRST - 1)]
found = [unit_tail(UNIT, span, 10, user=False) for span in spans]
found += [unit_tail(UNIT, (0, EVER), 1, user=False), unit_tail("none.service", (0, EVER), 9, user=False)]
print(json.dumps(found))
"""


def test_the_output_of_a_unit_within_a_span(tmp_path: Path) -> None:
    first, second = "Starting s-ok.service - sample ok...", "rotad says"
    found = on_journal(tmp_path, UNIT_TAIL)
    assert found == [[first, second], [second], [first], [], [], [second], []]
