"""A follower of events, inside the machine: comes back after each interruption, behind the last it saw."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

SEEN = Path(sys.argv[1])


def last() -> int:
    """Return the number of the last event that was seen whole; what was cut off behind it is forgotten."""
    whole = SEEN.read_bytes() if SEEN.exists() else b""
    whole = whole[: whole.rfind(b"\n") + 1]
    SEEN.write_bytes(whole)
    return int(json.loads(whole.splitlines()[-1])["seq"]) if whole else 0


while True:
    since = last()
    with SEEN.open("ab") as out:
        subprocess.run(
            ["rota", "--json", "events", "--follow", "--since", str(since)],
            stdout=out,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    time.sleep(0.05)
