"""disk-report: which mounts count, its numbers, and the program on this very machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import rota_agents
from rota_agents.disk_report import __main__ as disk_report
from rota_agents.disk_report.mounts import FileSystem, Mount, Wanted, file_systems, parse, visible


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a person ran it: no test writes to the journal of the machine it runs on."""
    for name in ("INVOCATION_ID", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


# disk-report: which mounts count

HOST = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
24 27 0:6 / /dev rw - devtmpfs udev rw,size=12334492k
25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 254:1 / /home rw,relatime shared:2 master:3 - btrfs /dev/vdb rw,subvol=/home
29 27 254:1 /data /srv/data rw,relatime - btrfs /dev/vdb rw,subvol=/data
30 27 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
31 27 0:40 / /efi rw - autofs systemd-1 rw
32 31 254:2 / /efi rw - vfat /dev/vda1 rw
33 27 0:50 / /mnt/a\\040b\\134c rw - nfs4 nas:/ex\\040port rw
34 27 0:60 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
35 27 254:0 /nix/store /nix/store ro - ext4 /dev/vda rw
36 27 254:3 / /mnt/seed rw - ext4 /dev/vdc ro
37 27 0:61 / /run/user/1000/gvfs rw - fuse.gvfsd-fuse gvfsd-fuse rw
"""

# As inside DynamicUser, ProtectHome=yes, PrivateTmp, PrivateDevices, ProcSubset=pid.
SANDBOX = """\
100 99 254:0 / / ro,relatime master:1 - ext4 /dev/vda rw,discard
101 100 254:1 / /home ro master:2 - ext4 /dev/vdb rw
102 101 0:24 /systemd/inaccessible/dir /home ro - tmpfs tmpfs rw
103 100 0:24 / /run ro - tmpfs tmpfs rw
104 103 0:70 / /run/credentials/rota-x.service ro - ramfs ramfs rw
105 100 254:0 /tmp/systemd-private-x/tmp /tmp rw - ext4 /dev/vda rw
106 100 254:2 / /var rw - xfs /dev/vdc rw
107 106 254:2 /lib/private/rota/disk-report /var/lib/private/rota/disk-report rw - xfs /dev/vdc rw
108 106 254:2 /tmp/systemd-private-x/tmp /var/tmp rw - xfs /dev/vdc rw
109 100 0:71 / /proc rw - proc proc rw,subset=pid
110 100 0:72 / /dev rw - tmpfs tmpfs rw
"""

CONTAINER = """\
700 600 0:90 / / rw - overlay overlay rw,lowerdir=/x
701 700 254:0 /var/lib/docker/c/hostname /etc/hostname rw - ext4 /dev/vda rw
702 700 254:0 /var/lib/docker/c/hosts /etc/hosts rw - ext4 /dev/vda rw
703 700 0:91 / /var/lib/docker/overlay2/y/merged rw - overlay overlay rw
"""


def points(text: str, wanted: Wanted | None = None) -> list[str]:
    return [one.mount.point for one in file_systems(parse(text), wanted or Wanted())]


def test_each_real_file_system_counts_once_by_its_shortest_path() -> None:
    assert points(HOST) == ["/", "/efi", "/home", "/mnt/a b\\c", "/mnt/seed"]
    home = next(one for one in file_systems(parse(HOST), Wanted()) if one.mount.point == "/home")
    assert home.points == ("/home", "/srv/data")


def test_a_line_of_mountinfo_is_read_in_full() -> None:
    nas = next(mount for mount in parse(HOST) if mount.type == "nfs4")
    assert nas == Mount(33, 27, "0:50", "/mnt/a b\\c", "nfs4", "nas:/ex port", False)
    read_only = {mount.point for mount in parse(HOST) if mount.read_only}
    assert read_only == {"/snap/core/1", "/mnt/seed"}, "a read-only view of a writable one is writable"


def test_what_a_sandbox_mounts_over_is_not_counted_with_its_numbers() -> None:
    found = {one.mount.point: one.points for one in file_systems(parse(SANDBOX), Wanted())}
    assert found == {
        "/": ("/", "/tmp"),
        "/home": (),
        "/var": ("/var", "/var/tmp", "/var/lib/private/rota/disk-report"),
    }


def test_an_overlay_counts_as_the_root_of_a_container_only() -> None:
    assert points(CONTAINER) == ["/", "/etc/hosts"]
    assert points(CONTAINER, Wanted(exclude_types=["overlay"])) == ["/etc/hosts"]
    everything = points(CONTAINER, Wanted(include_types=["overlay"]))
    assert everything == ["/", "/etc/hosts", "/var/lib/docker/overlay2/y/merged"]


def test_types_and_paths_can_be_left_out_or_taken_in() -> None:
    assert points(HOST, Wanted(exclude_paths=["/mnt/", "/efi"])) == ["/", "/home"]
    assert "/homework" not in points(HOST.replace("/home", "/homework"), Wanted(exclude_paths=["/homework"]))
    assert "/homework" in points(HOST.replace("/home", "/homework"), Wanted(exclude_paths=["/home"]))
    assert points(HOST, Wanted(exclude_paths=["/"])) == []
    assert points(HOST, Wanted(exclude_types=["ext4", "nfs4"])) == ["/efi", "/home"]
    assert "/dev/shm" in points(HOST, Wanted(include_types=["tmpfs"]))


def test_stacked_mounts_and_covered_trees() -> None:
    text = """\
1 1 0:1 / / rw - rootfs rootfs rw
2 1 8:1 / / rw - ext4 /dev/sda1 rw
3 2 8:2 / /srv rw - ext4 /dev/sda2 rw
4 3 8:3 / /srv/deep/er rw - ext4 /dev/sda3 rw
5 3 8:4 / /srv rw - ext4 /dev/sda4 rw
6 5 8:5 / /srv/deep rw - ext4 /dev/sda5 rw
"""
    assert visible(parse(text)) == {2, 5, 6}
    assert [one.mount.point for one in file_systems(parse(text), Wanted()) if one.points] == [
        "/",
        "/srv",
        "/srv/deep",
    ]


def test_a_chroot_without_a_root_mount_and_noise_are_survived() -> None:
    text = "28 27 8:1 / /mnt rw - ext4 /dev/sda1 rw\n\nnot a mount\n"
    assert points(text) == ["/mnt"]
    assert parse("") == []


# disk-report: numbers


@dataclass(frozen=True)
class Answer:
    f_frsize: int = 4096
    f_blocks: int = 1000
    f_bfree: int = 150
    f_bavail: int = 100
    f_files: int = 200
    f_ffree: int = 50


def file_system(*at: str, kind: str = "ext4", read_only: bool = False) -> FileSystem:
    return FileSystem(Mount(1, 0, "8:1", at[0], kind, "/dev/sda1", read_only), at)


def refusing(*paths: str, answer: Answer | None = None) -> Callable[[str], Answer]:
    def ask(path: str) -> Answer:
        if path in paths:
            raise PermissionError(13, "Permission denied", path)
        return answer or Answer()

    return ask


def test_use_is_computed_as_df_does() -> None:
    one = disk_report.usage(file_system("/"), "/", Answer())
    assert (one.total_bytes, one.used_bytes, one.available_bytes) == (4096000, 3481600, 409600)
    assert one.used_percent == 90, "850 of 950: 89.47, rounded up"
    assert (one.inodes_total, one.inodes_used, one.inodes_percent) == (200, 150, 75)
    none = disk_report.usage(file_system("/"), "/", Answer(f_files=0, f_ffree=0))
    assert none.inodes_percent is None
    assert disk_report.percent(0, 0) is None
    assert disk_report.percent(1, 10**9) == 1
    assert disk_report.percent(5, 0) == 100


def test_an_unreadable_mount_is_asked_elsewhere_then_reported() -> None:
    here = file_system("/srv", "/srv/again")
    found = disk_report.look(here, refusing("/srv"))
    assert isinstance(found, disk_report.Usage)
    assert found.mount_point == "/srv/again"
    nowhere = disk_report.look(here, refusing("/srv", "/srv/again"))
    assert nowhere == disk_report.Unreadable("/srv", "ext4", "Permission denied")
    hidden = disk_report.look(FileSystem(here.mount, ()), refusing())
    assert isinstance(hidden, disk_report.Unreadable)
    assert "hidden by another mount" in hidden.reason
    assert disk_report.look(here, refusing(answer=Answer(f_blocks=0))) is None


def test_a_path_that_is_gone_is_an_error_not_a_hang(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk_report.statvfs(str(tmp_path / "gone"))


def test_sizes_are_short() -> None:
    sizes = {
        0: "0",
        999: "999",
        1024: "1.0K",
        10189: "10K",
        10**6: "977K",
        3 * 2**30 + 2**29: "3.5G",
        2**70: "1048576P",
    }
    assert {size: disk_report.human(size) for size in sizes} == sizes


def test_above_the_limit_is_said_of_bytes_and_inodes_but_not_of_what_cannot_fill_up() -> None:
    full = disk_report.usage(file_system("/a"), "/a", Answer(f_bavail=10, f_ffree=1))
    fixed = disk_report.usage(file_system("/b", read_only=True), "/b", Answer(f_bavail=0))
    assert disk_report.above([full, fixed], 90) == [
        "/a is 99% full, 40K left (limit 90%)",
        "/a has 100% of its inodes in use, 1 left (limit 90%)",
    ]
    exactly = disk_report.usage(file_system("/a"), "/a", Answer())
    assert disk_report.above([exactly], 90) == []


def test_the_table_is_read_at_80_columns() -> None:
    found = [
        disk_report.usage(file_system("/"), "/", Answer()),
        disk_report.usage(
            file_system("/x", kind="fuse.mergerfs"),
            "/mnt/a very long name/of a\nfolder/that/goes/on",
            Answer(f_blocks=10**12, f_files=0, f_ffree=0),
        ),
    ]
    unreadable = [disk_report.Unreadable("/mnt/nas", "nfs4", "no answer within 5s")]
    text = disk_report.table(found, unreadable)
    assert text.splitlines() == [
        "MOUNT POINT                       TYPE        SIZE  USED  AVAIL  USE%  INODES%",
        "/                                 ext4        3.9M  3.3M   400K   90%      75%",
        "/mnt/a very lo...er/that/goes/on  fuse.me...  3.6P  3.6P   400K  100%        -",
        "/mnt/nas (nfs4): no answer within 5s",
    ]
    assert all(len(line) <= 80 for line in text.splitlines())
    short = disk_report.summary(found, unreadable)
    assert short.startswith(
        "2 file systems, 1 unreadable; fullest at 100%: /mnt/a very long name/of a\\nfolder"
    )


def test_disk_report_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert rota_agents.main(["disk-report", "--warn-percent", "100"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("MOUNT POINT")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["warnings"] == []
    root = next(one for one in report["file_systems"] if one["mount_point"] == "/")
    assert 0 < root["used_bytes"] <= root["total_bytes"]
    datetime.fromisoformat(report["time"])


def test_disk_report_fails_when_one_is_above_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use = shutil.disk_usage("/")
    if use.used * 100 <= use.total:
        pytest.skip("less than 1% of / is in use")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert rota_agents.main(["disk-report", "--warn-percent", "1"]) == 1
    captured = capsys.readouterr()
    assert "MOUNT POINT" in captured.out
    report = json.loads((tmp_path / "report.json").read_text())
    root = next(one for one in report["file_systems"] if one["mount_point"] == "/")
    percent, left = root["used_percent"], disk_report.human(root["available_bytes"])
    assert f"disk-report: / is {percent}% full, {left} left (limit 1%)\n" in captured.err
    assert f"/ is {percent}% full, {left} left (limit 1%)" in report["warnings"]


def test_a_state_directory_that_cannot_be_written_fails_but_still_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "gone"))
    assert rota_agents.main(["disk-report", "--warn-percent", "100"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("disk-report: cannot leave the result: ")
    assert "MOUNT POINT" in captured.out
