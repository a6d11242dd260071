"""Room that is kept for a disk that is full: on one that really is, and small."""

from __future__ import annotations

from pathlib import Path

from rota import database
from rota.database import Reserve
from tests.store_kit import on_tmpfs

MIB = 1024 * 1024
FILL = """
import json, os, sys
from pathlib import Path
place = Path(sys.argv[1])

def fill():
    with (place / "filler").open("ab", buffering=0) as file:
        for size in (65_536, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
    return os.statvfs(place).f_bavail
"""


def program(text: str) -> str:
    return f"cd '{Path(__file__).parent.parent}'; \"$2\" - \"$1\" <<'END'\n{FILL}{text}\nEND\n"


def test_made_given_up_and_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.reserve"
    reserve = Reserve(path, 2 * MIB)
    assert (reserve.left, path.stat().st_size) == (2 * MIB, 2 * MIB)
    assert len(set(path.read_bytes()[:MIB])) == 256, "it does not compress"
    assert [reserve.give_up() for _ in range(5)] == [True] * 4 + [False]
    assert path.stat().st_size == 0
    reserve.tend()
    assert reserve.left == 0, "asked a moment ago"
    reserve = Reserve(path, 2 * MIB)
    assert Reserve(path, 2 * MIB).left == 2 * MIB
    path.write_bytes(b"cut off")
    assert Reserve(path, 2 * MIB).left == 2 * MIB
    assert Reserve(tmp_path / "none" / "b.reserve", 2 * MIB).left == 0
    assert not reserve.left < 2 * MIB


def test_the_keeper_cleans_a_disk_that_is_full_and_tells_of_it(tmp_path: Path) -> None:
    """Whoever fills it takes all that becomes free, at once."""
    found = on_tmpfs(
        tmp_path,
        program("""
from rota_agents.home_keeper.core import Core
from rota_agents.home_keeper.messages import Act, Ended, Observed, Tick
from rota_agents.home_keeper.state import Reading
from rota_agents.home_keeper.words import Finding, Target
from rota.keeper_rules import Override, Rules

NOON, S = 1_800_000_000_000_000, 1_000_000
clock = lambda second: Reading(NOON + second * S, second * S, "a")
disk = Target("disk", "/")
rules = Rules(targets=(Override("disk:/", strikes=("act", "act", "escalate"), cooldown=0),), timezone="UTC")
begin = lambda second: Core(place / "keeper.db", rules, frozenset(("disks",)), clock(second))
keeper, told = begin(0), {}

def handle(happening, second):
    fill()
    return [one.action.id for one in keeper.handle(happening, clock(second)) if isinstance(one, Act)]

full = Observed("disks", disk, (Finding(disk, "space", "critical", NOON, "full"),))
told["full"] = fill()
told["acts"] = handle(full, 1)
told["ended"] = handle(Ended(1, "failed"), 2)
told["kinds"] = [one.event.kind for one in keeper.ledger.events(0)]
told["filed"] = [row["outcome"] for row in keeper.ledger.actions()]
keeper.close()
fill()
keeper = begin(3)
told["after a kill"] = [keeper.ledger is not None, len(keeper.state.cases["disk:/"].attempts)]
reserve = keeper.ledger._reserve
while reserve.give_up():
    pass
fill()
keeper.state.cases and handle(Ended(2, "failed"), 4)
for number in range(300):  # until there is no room even in its files
    name = Target("disk", f"/{number}")
    handle(Observed("disks", name, (Finding(name, "space", "critical", NOON, "full"),)), 5)
    if keeper._wrong:
        break
told["at last"] = [keeper._wrong != "", handle(full, 40)]
(place / "filler").unlink()
reserve._asked = 0
keeper.handle(Tick(), clock(200))
told["again"] = [keeper._wrong, reserve.left]
json.dump(told, sys.stdout)
"""),
        mib=48,
    )
    assert (found["full"], found["acts"], found["ended"]) == (0, [1], [2])
    assert {"trouble", "remedy-begun", "remedy-ended"} <= set(found["kinds"])
    assert found["filed"] == [None, "failed"]
    assert found["after a kill"] == [True, 2]
    assert found["at last"] == [True, []], "no row, no action"
    assert found["again"] == ["", database.RESERVE]


def test_messages_are_filed_and_sent_with_a_full_disk(tmp_path: Path) -> None:
    found = on_tmpfs(
        tmp_path,
        program("""
from rota.outbox import open_outbox
from rota.wording import Text

outbox, _ = open_outbox(place / "outbox.db")
told = {"full": fill(), "sent": 0}
for number in range(4):
    outbox.compose("ops", "r", [], Text("a", "b" * 100_000), number)
    fill()
    message = outbox.begin("ops", number)
    fill()
    outbox.sent(message.id, number)
    fill()
    told["sent"] += 1
json.dump(told, sys.stdout)
"""),
        mib=48,
    )
    assert found == {"full": 0, "sent": 4}
