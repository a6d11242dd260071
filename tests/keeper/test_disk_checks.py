"""File systems and drives: what is judged, and a real file system that is filled, broken and taken away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rota_agents.home_keeper.checks import disks
from rota_agents.home_keeper.checks.disks import (
    Drive,
    Volume,
    given_up,
    parse_scan,
    parse_smart,
    scaled,
    volumes,
)
from rota_agents.home_keeper.checks.readings import Memory, settle
from rota_agents.home_keeper.checks.words import Malformed
from rota_agents.home_keeper.probes import disks as probes
from rota_agents.home_keeper.probes.polling import Watcher
from rota_agents.home_keeper.probes.polls import polls
from rota_agents.home_keeper.probes.threads import Threads
from rota_agents.home_keeper.words import Finding

from rota.watch_rules import limits, resolve
from rota.watches import Disk
from rota.watching import Watching
from tests import loops
from tests.keeper.hanging import alone, hanging
from tests.keeper.servers import namespace

S, MIB, GIB = 1_000_000, 1024**2, 1024**3
RULES = Disk(limits("space", declared=True), limits("inodes", declared=True), 100 * GIB)
AT_ONCE = Disk(
    tuple(replace(one, hold=0, calm=0) for one in RULES.space),
    tuple(replace(one, hold=0, calm=0) for one in RULES.inodes),
    100 * GIB,
)
SRV = Volume("/srv", "/dev/sdb1", "ext4", 80 * GIB, int(3.1 * GIB), 96.1, 1000, 900)


def found(
    *facts: Volume, rules: Disk = AT_ONCE, named: dict[str, Disk | None] | None = None
) -> list[Finding]:
    return list(settle(Memory(), volumes(facts, rules, named or {}), S)[1])


def test_a_full_disk_in_words() -> None:
    (one,) = found(SRV)
    assert (str(one.target), one.problem, one.severity) == ("disk:/srv", "space", "warning")
    assert one.summary == "/srv is 96 % full: 3.1 GiB of 80 GiB left"
    assert one.details == {
        "source": "/dev/sdb1",
        "type": "ext4",
        "available": int(3.1 * GIB),
        "total": 80 * GIB,
    }


@pytest.mark.parametrize(
    ("volume", "problems"),
    [
        (SRV, ["space"]),
        (replace(SRV, used_percent=50), []),
        (replace(SRV, used_percent=50, inodes_free=20), ["inodes"]),
        (replace(SRV, used_percent=50, inodes=0, inodes_free=0), []),
        (replace(SRV, read_only="meant"), []),
        (replace(SRV, used_percent=50, read_only="error"), ["read-only"]),
        (replace(SRV, used_percent=50, read_only="unclear"), ["read-only"]),
        (replace(SRV, used_percent=50, read_only="remounted"), ["read-only"]),
        (Volume("/srv", unanswered="no answer within 5s"), ["unreachable"]),
    ],
)
def test_what_is_wrong_with_a_file_system(volume: Volume, problems: list[str]) -> None:
    assert [one.problem for one in found(volume)] == problems


def test_one_that_does_not_answer_is_not_healed() -> None:
    memory, _ = settle(Memory(), volumes([SRV], AT_ONCE, {}), S)
    hung = Volume("/srv", unanswered="no answer within 5s")
    _, after = settle(memory, volumes([hung], AT_ONCE, {}), 2 * S)
    assert [one.problem for one in after] == ["space", "unreachable"]


def test_what_is_declared_of_a_disk_counts() -> None:
    assert found(SRV, named={"/srv": None}) == []
    assert [one.problem for one in found(named={"/srv": Disk(required=True), "/b": Disk()})] == ["missing"]
    assert found(SRV, named={"/srv": Disk(required=True)}) == []


def test_a_large_disk_is_not_full_while_there_is_enough() -> None:
    tib = 1024 * GIB
    assert scaled(RULES.space, 500 * GIB, 100 * GIB) == RULES.space, "90 % of it are less than 100 GiB left"
    warning, critical = scaled(RULES.space, 10 * tib, 100 * GIB)
    assert 10 * tib * (100 - warning.opens) / 100 == pytest.approx(100 * GIB)
    assert 10 * tib * (100 - critical.opens) / 100 == pytest.approx(30 * GIB)
    assert scaled((), 10 * tib, GIB) == ()


@settings(deadline=None)
@given(st.integers(1, 2**60), st.integers(0, 2**50))
def test_scaled_limits_keep_their_order(total: int, enough: int) -> None:
    warning, critical = scaled(RULES.space, total, enough)
    assert warning.closes < warning.opens < critical.opens <= 100
    assert critical.closes < critical.opens


MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 8:2 / /broken rw,relatime - ext4 /dev/sda2 ro,errors=remount-ro
24 22 8:3 / /newer rw,relatime - ext4 /dev/sda3 rw,emergency_ro
25 22 8:4 / /meant ro,relatime - ext4 /dev/sda4 ro
26 22 8:1 / /view ro,relatime - ext4 /dev/sda1 rw
"""


def test_the_kernel_gave_up_on_some_of_them() -> None:
    assert given_up(MOUNTS) == {23: "unclear", 24: "error"}
    with pytest.raises(Malformed, match=r"^/proc/self/mountinfo is not as expected"):
        given_up(MOUNTS + "rubbish\n")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Mount an ext4 file system of 32 MiB on a loop device."""
    point = loops.mount(tmp_path, mib=32, inodes=200, options="errors=remount-ro")
    yield point
    loops.unmount(point)


class Keeper:
    """The check of disks as it runs, for one mount point, at times that the test says."""

    def __init__(self, point: Path, **more: Any) -> None:
        at_once = {"hold": "0s"}
        disk = {"space": at_once, "inodes": at_once, **more}
        watches = resolve(Watching.model_validate({"disks": {str(point): disk}, "watch": {"space": False}}))
        (poll,) = (one for one in polls(watches) if one.name == "disks")
        self.watcher, self.point, self.now = Watcher(poll), str(point), 0
        self.open: dict[str, str] = {}

    async def look(self) -> dict[str, str]:
        """Return the findings about the mount point: problem and summary."""
        self.now += 15 * S
        observation = await self.watcher.look(lambda: self.now)
        for target, findings in observation.findings.items() if observation else ():
            if target.name == self.point:
                self.open = {one.problem: one.summary for one in findings}
        return self.open


def test_a_real_file_system_is_filled_and_emptied(mounted: Path) -> None:
    async def live() -> None:
        keeper = Keeper(mounted)
        assert await keeper.look() == {}
        room = os.statvfs(mounted)
        data = mounted / "data"
        data.write_bytes(bytes(int(room.f_bavail * room.f_frsize * 0.93)))
        said = (await keeper.look())["space"]
        assert said.startswith(f"{mounted} is 9") and said.endswith(" MiB left")
        os.truncate(data, int(data.stat().st_size * 0.95))  # some 88 %: between the thresholds
        assert "space" in await keeper.look()
        data.unlink()
        assert await keeper.look() == {}
        for number in range(int(os.statvfs(mounted).f_ffree * 0.95)):
            (mounted / f"file-{number}").touch()
        assert "of its inodes in use: room for" in (await keeper.look())["inodes"]

    asyncio.run(live())


def test_a_real_file_system_fails(mounted: Path) -> None:
    async def live() -> None:
        keeper = Keeper(mounted, required=True)
        assert await keeper.look() == {}
        source = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(mounted)], capture_output=True, text=True, check=True
        )
        trigger = Path("/sys/fs/ext4") / Path(source.stdout.strip()).name / "trigger_fs_error"
        if not trigger.exists():
            pytest.skip("this kernel has no trigger_fs_error")
        trigger.write_text("test\n")
        with pytest.raises(OSError):
            (mounted / "new").write_text("x")
        assert "is read-only since an error" in (await keeper.look())["read-only"]
        subprocess.run(["umount", str(mounted)], check=True)
        assert await keeper.look() == {"missing": f"nothing is mounted at {mounted}"}

    asyncio.run(live())


def test_a_real_file_system_is_remounted(mounted: Path) -> None:
    async def live() -> None:
        keeper = Keeper(mounted)
        assert await keeper.look() == {}
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        assert "has become read-only" in (await keeper.look())["read-only"]
        afresh = Keeper(mounted)
        assert await afresh.look() == {}, "to a keeper that starts now, somebody meant it"
        subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
        assert await keeper.look() == {}

    asyncio.run(live())


REMOUNTED = """
import subprocess, tempfile
from rota_agents.home_keeper.checks.disks import given_up

def mount(*words):
    subprocess.run(["mount", *words], check=True)

mount("--make-rprivate", "/")
with tempfile.TemporaryDirectory() as point:
    mount("-t", "tmpfs", "none", point)
    mount("--make-rshared", "/")
    script = "echo ready; read go; cat /proc/self/mountinfo"
    command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script]
    sandbox = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    sandbox.stdout.readline()
    mount("-o", "remount,ro", point)
    seen, _ = sandbox.communicate("go\\n")
    print(*given_up("".join(line for line in seen.splitlines(keepends=True) if point in line)).values())
    subprocess.run(["umount", "--lazy", point], check=True)
"""


def test_in_a_sandbox_a_remount_is_not_taken_for_an_error() -> None:
    assert namespace(REMOUNTED).split() == ["unclear"]
    (told,) = found(replace(SRV, used_percent=50, read_only="unclear"))
    assert "since an error, to protect /dev/sdb1, or since somebody remounted it" in told.summary


def test_one_that_hangs_does_not_hold_up_the_others(tmp_path: Path) -> None:
    nas = str(tmp_path)

    async def live(release: Callable[[], None]) -> None:
        threads = Threads()
        look = probes.Volumes(threads, S, frozenset())
        for _ in range(2):
            by_point = {one.point: one for one in await look()}
            assert by_point["/"].unanswered == "" and by_point["/"].total > 0
            assert (by_point[nas].type, by_point[nas].unanswered) == ("fuse.hanging", "no answer within 1s")
        assert threads.busy == {f"statvfs {nas}"}
        release()
        async with asyncio.timeout(60):
            while threads.busy:
                await asyncio.sleep(0.01)
        (answered,) = [one for one in await look() if one.point == nas]
        assert (answered.unanswered, answered.total) == ("", 1000 * 4096)

    def work() -> None:
        with hanging(tmp_path) as release:
            asyncio.run(live(release))

    alone(work)


def test_which_mounts_are_looked_at(tmp_path: Path) -> None:
    """One file system at two paths is one; what was declared counts although others like it do not."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw - btrfs /dev/sda1 rw\n23 22 8:1 /home /usr rw - btrfs /dev/sda1 rw\n"
        "24 22 0:5 / /dev rw - devtmpfs udev rw\n25 22 0:30 / /run rw - tmpfs tmpfs rw\n"
        "26 22 8:7 / /no/such/place rw - ext4 /dev/sda7 rw\n27 22 8:8 / /not/there rw - ext4 /dev/sda8 rw\n"
    )
    declared: dict[str, Disk | None] = {
        "/": Disk(required=True),
        "/usr": Disk(required=True),
        "/dev": Disk(),
        "/not/there": Disk(required=True),
    }
    facts = asyncio.run(probes.Volumes(Threads(), S, frozenset(declared), table)())
    assert {one.point: one.unanswered for one in facts} == {
        "/": "", "/dev": "", "/not/there": "No such file or directory"
    }  # fmt: skip
    assert next(one.points for one in facts if one.point == "/") == ("/", "/usr")
    assert [(one.target.name, one.problem) for one in found(*facts, rules=Disk(), named=declared)] == [
        ("/not/there", "unreachable")
    ]


def smart(status: int = 0, more: dict[str, object] | None = None) -> str:
    return json.dumps(
        {
            "smartctl": {"exit_status": status, "messages": []},
            "smart_status": {"passed": True},
            **(more or {}),
        }
    )


BEYOND = "a value that foretells failure is beyond its threshold"
ATA, NVME = "ata_smart_attributes", "nvme_smart_health_information_log"


def refused(why: str) -> str:
    return json.dumps({"smartctl": {"exit_status": 2, "messages": [{"string": why}]}})


def attribute(number: int, raw: int) -> dict[str, object]:
    names = {5: "Reallocated_Sector_Ct", 197: "Current_Pending_Sector", 194: "Temperature_Celsius"}
    return {"id": number, "name": names[number], "raw": {"value": raw, "string": str(raw)}}


@pytest.mark.parametrize(
    ("text", "drive"),
    [
        (smart(), Drive("/dev/sda", numbers={})),
        (smart(8), Drive("/dev/sda", "", ("it says that it is failing",), True, {})),
        (smart(16), Drive("/dev/sda", problems=(BEYOND,), numbers={})),
        (smart(64), Drive("/dev/sda", numbers={"past_6": 1})),
        (
            smart(0, {ATA: {"table": [attribute(5, 8), attribute(197, 2**33 + 3), attribute(194, 40)]}}),
            Drive(
                "/dev/sda", "", ("3 sectors wait to be replaced",), False,
                {"Reallocated_Sector_Ct": 8, "Current_Pending_Sector": 3},
            ),
        ),
        (
            smart(8, {NVME: {"critical_warning": 4, "media_errors": 7, "percentage_used": 99}}),
            Drive(
                "/dev/sda", "", ("it says that it is failing", "it is no longer reliable"), True,
                {"media_errors": 7, "percentage_used": 99},
            ),
        ),
        (
            refused("/dev/sda: Permission denied"),
            Drive("/dev/sda", unanswered="/dev/sda: Permission denied"),
        ),
        (
            refused("Device is in STANDBY mode, exit(2)"),
            Drive("/dev/sda", asleep=True),
        ),
    ],
)  # fmt: skip
def test_what_smartctl_says(text: str, drive: Drive) -> None:
    assert parse_smart("/dev/sda", text) == drive


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"smartctl": 1}', '{"smartctl": {"exit_status": "x"}}'])
def test_what_smartctl_never_says(text: str) -> None:
    with pytest.raises(Malformed, match=r"^smartctl's answer about /dev/sda is not as expected"):
        parse_smart("/dev/sda", text)


def test_drives_in_words() -> None:
    bad = Drive(
        "/dev/sda", "WD Red 1234", ("3 sectors wait to be replaced",), False, {"Current_Pending_Sector": 3}
    )
    hidden = Drive("/dev/sdb", unanswered="Permission denied")
    _, told = settle(Memory(), disks.drives([bad, hidden, Drive("/dev/sdc", asleep=True)]), S)
    assert [(str(one.target), one.problem, one.severity) for one in told] == [
        ("disk:/dev/sda", "failing", "warning"),
        ("disk:/dev/sdb", "unreachable", "info"),
    ]
    assert told[0].summary == "/dev/sda (WD Red 1234): 3 sectors wait to be replaced; back up what is on it"


def test_a_scan() -> None:
    text = json.dumps({"devices": [{"name": "/dev/sda", "type": "sat"}, {"name": "-x", "type": "y"}]})
    assert parse_scan(text) == (("/dev/sda", "sat"),)
    with pytest.raises(Malformed):
        parse_scan("no")


def test_smartctl_is_asked_where_it_is() -> None:
    found_ = asyncio.run(probes.drives())
    assert all(one.device.startswith("/dev/") for one in found_)
    assert not found_ or probes.smartctl() is not None


def test_a_program_that_answers_like_smartctl_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one has no drives in a virtual machine, so a script stands in for it."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "smartctl"
        scan = json.dumps({"devices": [{"name": "/dev/sda", "type": "sat"}]})
        program.write_text(
            f"#!/bin/sh\ncase $2 in --scan) echo '{scan}' ;; *) echo '{smart(8)}'; exit 8 ;; esac\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        assert [one.failing for one in asyncio.run(probes.drives())] == [True]
