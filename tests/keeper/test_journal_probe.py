"""The check of journald, against a journald of its own in a mount namespace: kept, held up, not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

JOURNALD = Path("/usr/lib/systemd/systemd-journald")

SCRIPT = """
mount -t tmpfs none /run
mkdir -p /run/log/journal /run/systemd/journal
"$1" >/run/journald.log 2>&1 & pid=$!
trap 'kill -CONT $pid; kill $pid; wait' EXIT
for _ in $(seq 100); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
[ -S /run/systemd/journal/socket ] || { cat /run/journald.log >&2; exit 77; }
shift
PID=$pid "$@"
"""

CODE = """
import os, shutil, signal
from rota_agents.home_keeper.probes import Unavailable
from rota_agents.home_keeper.probes.clock import write_and_read
pid = int(os.environ["PID"])
kept = write_and_read(10)
print(kept.found, kept.waited < 10_000_000)
os.kill(pid, signal.SIGSTOP)
held = write_and_read(1)
print(held.found, held.waited >= 1_000_000, held.why)
os.kill(pid, signal.SIGCONT)
shutil.rmtree("/run/systemd/journal")
shutil.rmtree("/run/log/journal")
try:
    write_and_read(0.5)
except Unavailable as error:
    print("cannot look:", error)
"""


def test_a_real_journald() -> None:
    pytest.importorskip("systemd.journal", reason="no systemd-python")
    if os.geteuid() != 0:
        pytest.skip("not root: cannot start a journald")
    if not JOURNALD.exists():
        pytest.skip("no systemd-journald here")
    command = ["unshare", "--mount", "sh", "-euc", SCRIPT, "sh", str(JOURNALD), sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 77 or "ermission denied" in done.stderr or "not permitted" in done.stderr:
        pytest.skip(f"journald does not start in a namespace here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    kept, held, absent = done.stdout.splitlines()
    assert kept == "True True"
    assert held == "False True "
    assert absent.startswith("cannot look: the journal cannot be read")
