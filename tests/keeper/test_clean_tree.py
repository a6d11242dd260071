"""Files go where it was declared and nowhere else: symlinks, mounts, races, full and broken disks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rota_agents.home_keeper.cleaner import offers, program
from rota_agents.home_keeper.cleaner.names import escaped
from rota_agents.home_keeper.cleaner.plan import DAY, File, Need, choose
from rota_agents.home_keeper.cleaner.tree import Removed, Tree, file_system, open_directory

from rota.clean_rules import CleanRules, PathRule, TmpRule, to_json
from rota.errors import RotaError
from rota.watch_rules import limits
from rota.watches import Disk
from tests import loops
from tests.loops import MIB

RULE_AGE = 30 * DAY
NOW = time.time_ns() // 1000 + 100 * DAY
"""Nobody can set the ctime of a file: what is made here is a hundred days old, or as young as its mtime."""
OLD = 40
DISK = Disk(limits("space", declared=True), limits("inodes", declared=True))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    # files are of ages that no test waits for
    monkeypatch.setattr(program, "now", lambda: NOW)


def make(path: Path, days: float = OLD, size: int = 4096) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    at = (NOW / 1_000_000) - days * 86_400
    os.utime(path, (at, at))
    return path


def found(top: Path) -> dict[str, File]:
    with Tree(str(top)) as tree:
        return {file.path: file for file in tree.files()}


def remove(top: Path, files: Iterable[File], enough: Any = lambda _: False) -> Removed:
    with Tree(str(top)) as tree:
        return tree.remove(iter(files), NOW - RULE_AGE, enough)


def test_only_regular_files_are_found(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", make(tmp_path / "outside/precious")
    make(top / "a")
    make(top / "b/c")
    (top / "link").symlink_to(outside)
    (top / "folder").symlink_to(outside.parent)
    os.mkfifo(top / "pipe")
    assert sorted(found(top)) == ["a", "b/c"]
    assert found(top)["a"].size == 4096


def test_hard_links_count_once(tmp_path: Path) -> None:
    one = make(tmp_path / "one", size=8192)
    os.link(one, tmp_path / "two")
    assert [file.size for file in found(tmp_path).values()] == [4096, 4096]
    done = remove(tmp_path, found(tmp_path).values())
    assert (done.count, done.size) == (2, 4096 + 8192), "half of it, and then all that there was"


def test_files_go_directories_stay(tmp_path: Path) -> None:
    make(tmp_path / "a/b/c")
    make(tmp_path / "a/young", days=1)
    chosen = choose(found(tmp_path).values(), PathRule(str(tmp_path), RULE_AGE), NOW)
    done = remove(tmp_path, chosen.files)
    assert (done.count, done.size, done.changed, done.errors) == (1, 4096, 0, 0)
    assert (tmp_path / "a/b").is_dir() and (tmp_path / "a/young").exists()


def test_what_was_copied_with_its_old_time_is_not_old(tmp_path: Path) -> None:
    """As by cp -p, rsync -a or tar: it was put there a second ago."""
    source = make(tmp_path / "source", days=200)
    top, now = tmp_path / "top", time.time_ns() // 1000
    top.mkdir()
    subprocess.run(["cp", "-p", str(source), str(top / "photo")], check=True)
    assert (top / "photo").stat().st_mtime * 1_000_000 < now - RULE_AGE
    rule = PathRule(str(top), RULE_AGE)
    assert choose(found(top).values(), rule, now).files == ()
    (old,) = choose(found(top).values(), rule, now + 31 * DAY).files
    with Tree(str(top)) as tree:
        done = tree.remove(iter([old]), now - RULE_AGE, lambda _: False)
        assert (done.count, done.changed) == (0, 1), "nor is it when it is removed"
        assert tree.remove(iter([old]), now + DAY, lambda _: False).count == 1
    os.utime(make(tmp_path / "journal"), (1, 1))
    with Tree(str(tmp_path), content=True) as tree:
        ages = {file.path: file.changed for file in tree.files()}
    assert ages["journal"] == 1_000_000, "of a journal it is the last entry that counts"


def test_what_became_something_else_meanwhile_stays(tmp_path: Path) -> None:
    names = ("touched", "replaced", "linked", "gone", "dir", "same")
    for name in names:
        make(tmp_path / name)
    known = found(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    os.utime(tmp_path / "pipe", (0, 0))
    known["pipe"] = File("pipe", 0, 0, (tmp_path / "pipe").lstat().st_ino)
    os.utime(tmp_path / "touched", (NOW / 1_000_000, NOW / 1_000_000))
    make(tmp_path / "new").rename(tmp_path / "replaced")
    (tmp_path / "linked").unlink()
    (tmp_path / "linked").symlink_to("same")
    (tmp_path / "gone").unlink()
    (tmp_path / "dir").unlink()
    (tmp_path / "dir").mkdir()
    done = remove(tmp_path, [known[name] for name in (*names, "pipe")])
    assert (done.count, done.changed, done.errors) == (1, 6, 0)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["dir", "linked", "pipe", "replaced", "touched"]


def test_a_directory_that_is_swapped_for_a_symlink_leads_nowhere(tmp_path: Path) -> None:
    top, precious = tmp_path / "top", tmp_path / "precious"
    make(top / "cache/deep/file")
    known = found(top)
    # The same file, under the same name, in a place that is not declared: only the way to it is another.
    (top / "cache").rename(precious)
    (top / "cache").symlink_to(precious)
    done = remove(top, known.values())
    assert (done.count, done.changed) == (0, 1)
    assert (precious / "deep/file").exists()


def test_a_swap_at_every_moment_leads_nowhere(tmp_path: Path) -> None:
    """One keeps swapping a directory with a symlink to another of the same shape, as fast as it can."""
    top, precious = tmp_path / "top", tmp_path / "precious"
    precious.mkdir()
    for number in range(300):
        # The same inodes, so that nothing but the way to them is another.
        os.link(make(top / f"cache/{number}", size=1), precious / f"{number}")
    (tmp_path / "link").symlink_to(precious)
    code = (
        "import ctypes, os, sys, time\n"
        "os.chdir(sys.argv[1])\n"
        "swap = ctypes.CDLL(None).renameat2\n"
        "end = time.monotonic() + 20\n"
        "print('ready', flush=True)\n"
        "while time.monotonic() < end:\n"
        "    assert swap(-100, b'top/cache', -100, b'link', 2) == 0\n"
    )
    with subprocess.Popen(["python3", "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        try:
            swapped, gone = 0, 0
            while not swapped and gone < 300:
                done = remove(top, found(top).values())
                swapped, gone = swapped + done.changed, gone + done.count
        finally:
            swapper.kill()
    assert swapped, "it was swapped while files were removed"
    assert len(list(precious.iterdir())) == 300


def test_a_symlink_on_the_way_is_not_taken(tmp_path: Path) -> None:
    make(tmp_path / "real/cache/file")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(RotaError, match="leads over a symlink"):
        Tree(str(tmp_path / "link/cache"))
    with pytest.raises(RotaError, match="No such file"):
        Tree(str(tmp_path / "nothing"))
    make(tmp_path / "plain")
    with pytest.raises(RotaError, match="Not a directory"):
        Tree(str(tmp_path / "plain"))
    os.close(open_directory("/"))


def test_temporary_files_are_not_removed_through_a_users_symlink(tmp_path: Path) -> None:
    """systemd-tmpfiles is told a path: whoever owns a directory on the way could lead it anywhere."""
    if os.geteuid() != 0:
        pytest.skip("not root: cannot give a directory away")
    precious = make(tmp_path / "victim/cache/precious")
    build = tmp_path / "build"
    (build / "a").mkdir(parents=True)
    os.chown(build, 1234, 1234)
    (build / "a").rmdir()
    (build / "a").symlink_to(precious.parents[1])
    opened = os.open(tmp_path, os.O_RDONLY)
    scene = offers.Scene(file_system(opened), Need(1), NOW)
    os.close(opened)
    where = f"{build}/a/cache"
    with pytest.raises(RotaError, match=f"{where}: leads through a directory of user 1234"):
        offers.tmp(TmpRule((where,), 1_000_000), scene)
    os.chown(build, 0, 0)
    with pytest.raises(RotaError, match="leads over a symlink"):
        offers.tmp(TmpRule((where,), 1_000_000), scene)
    build.chmod(0o775)
    with pytest.raises(RotaError, match="a directory that others may write to"):
        offers.tmp(TmpRule((where,), 1_000_000), scene)
    build.chmod(0o1777)
    (build / "a").unlink()
    mine = build / "mine"
    mine.mkdir()
    os.chown(mine, 1234, 1234)
    paths = (str(mine), where, f"{mine}/deep")
    (mine / "deep").mkdir()
    offer = offers.tmp(TmpRule(paths, 1_000_000), scene)
    assert f"--clean: {mine}, older than" in offer.what, "what is a user's own may itself be cleaned"
    assert f"left out: {mine}/deep: leads through" in offer.what
    mine.rename(build / "other")
    mine.symlink_to(precious.parent)
    time.sleep(1.1)
    with contextlib.suppress(RotaError):
        offer.act(lambda _: False)
    assert precious.exists(), "swapped in between, it is no directory to systemd-tmpfiles"


def test_a_deep_tree_is_no_trap(tmp_path: Path) -> None:
    make(tmp_path / "shallow")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with Tree(str(tmp_path)) as tree:
        assert [file.path for file in tree.files()] == ["shallow"]
        assert len(tree.skipped) == 1 and tree.skipped[0].endswith("too deep")


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from([f"{a}{b}" for a in ("", "x/", "x/y/", "z/") for b in "abcd"]),
        st.tuples(st.integers(0, 60), st.integers(0, 40_000)),
        max_size=16,
    ),
    st.integers(1, 50),
    st.integers(0, 5),
    st.integers(0, 60_000),
)
def test_real_files_by_chance(
    files: dict[str, tuple[int, int]], days: int, keep: int, keep_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        for name, (age, size) in files.items():
            make(top / name, age, size)
        before = found(top)
        rule = PathRule(folder, days * DAY, keep, keep_size)
        chosen = choose(before.values(), rule, NOW)
        with Tree(folder) as tree:
            done = tree.remove(iter(chosen.files), NOW - rule.older_than, lambda _: False)
        after = found(top)
        gone = before.keys() - after.keys()
        assert gone == {file.path for file in chosen.files} and done.count == len(gone)
        assert all(files[name][0] >= days for name in gone)
        assert not gone or (len(after) >= keep and sum(file.size for file in after.values()) >= keep_size)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Mount an ext4 file system of 64 MiB on a loop device."""
    point = loops.mount(tmp_path, mib=64, inodes=6000)
    yield point
    loops.unmount(point)


def fill(point: Path, share: float = 0.95, size: int = MIB) -> int:
    """Write old files, each a little younger than the one before, until so much is in use."""
    number = 0
    while program.usage(str(point)).full < 100 * share:
        make(point / f"cache/{number // 10}/{number}", OLD - number / 1000, size)
        number += 1
    return number


def rules(point: Path, **more: Any) -> CleanRules:
    return CleanRules(disks={str(point): DISK}, paths=(PathRule(str(point / "cache"), RULE_AGE, **more),))


def test_a_full_disk_is_cleaned_until_it_is_no_longer_too_full(mounted: Path, tmp_path: Path) -> None:
    count = fill(mounted)
    report = tmp_path / "report.json"
    table = program.preview(str(mounted), rules(mounted))
    assert table["now"]["used_percent"] >= 95 and table["need"]["size"] > 0
    (row,) = table["steps"]
    assert (row["step"], row["count"], row["reached"]) == (f"paths {mounted}/cache", count, True)
    assert row["names"][0] == f"{mounted}/cache/0/0"
    assert len(list(mounted.rglob("*"))) > count, "a preview changes nothing"
    assert program.run(str(mounted), rules(mounted), report)
    left = {int(path.name) for path in (mounted / "cache").glob("*/*")}
    after = program.usage(str(mounted))
    assert 84 < after.full <= 87, "no more than what it takes"
    assert left == set(range(min(left), count)), "the oldest went"
    told = json.loads(report.read_text())
    assert told["enough"] and told["ended"] and told["target"] == str(mounted)
    (step,) = told["steps"]
    assert step["count"] == count - len(left)
    assert step["freed"] == step["count"] * MIB
    assert abs(step["df"] - step["freed"]) < MIB and abs(told["freed"] - step["df"]) < MIB
    assert report.stat().st_mode & 0o777 == 0o644
    assert program.run(str(mounted), rules(mounted), report), "nothing is too full any more"
    assert json.loads(report.read_text())["steps"] == []
    assert len(list((mounted / "cache").glob("*/*"))) == len(left)


def test_the_floor_holds_on_a_full_disk(mounted: Path) -> None:
    count = fill(mounted)
    assert not program.run(str(mounted), rules(mounted, keep=count - 2), None)
    assert len(list((mounted / "cache").glob("*/*"))) == count - 2
    assert not program.run(str(mounted), rules(mounted, keep_size=200 * MIB), None)
    assert len(list((mounted / "cache").glob("*/*"))) == count - 2


def test_inodes_run_out(mounted: Path) -> None:
    for number in range(int(os.statvfs(mounted).f_ffree * 0.96)):
        make(mounted / "cache" / str(number), OLD - number / 10_000, 0)
    assert program.run(str(mounted), rules(mounted), None)
    found_ = program.usage(str(mounted))
    assert found_.inodes_free > 0.12 * found_.inodes


def test_what_is_mounted_inside_is_not_entered(mounted: Path, tmp_path: Path) -> None:
    """A bind mount of the same file system has the same device: it is known by the number of its mount."""
    precious = make(mounted / "precious/file")
    make(mounted / "cache/file")
    other = make(tmp_path / "elsewhere/file")
    for source, name in ((precious.parent, "bind"), (other.parent, "foreign")):
        (mounted / "cache" / name).mkdir()
        subprocess.run(["mount", "--bind", str(source), str(mounted / "cache" / name)], check=True)
    assert sorted(found(mounted / "cache")) == ["file"]
    forged = File("bind/file", 1, NOW - RULE_AGE, precious.stat().st_ino)
    assert remove(mounted / "cache", [forged]).changed == 1
    assert precious.exists() and other.exists()


def test_only_what_lies_on_the_disk_is_cleaned(mounted: Path, tmp_path: Path) -> None:
    elsewhere = make(tmp_path / "elsewhere/file")
    fill(mounted)
    paths = (PathRule(str(elsewhere.parent), RULE_AGE), PathRule(str(mounted / "nothing"), RULE_AGE))
    rules_ = CleanRules(disks={str(mounted): DISK}, paths=paths)
    lines = list(program.preview_lines(program.preview(str(mounted), rules_)))
    assert f"{elsewhere.parent} is not on this file system" in lines[1]
    assert "failed" in lines[2] and "No such file" in lines[2]
    assert not program.run(str(mounted), CleanRules(disks={str(mounted): DISK}, paths=paths), None)
    assert elsewhere.exists()


def test_a_read_only_disk(mounted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(mounted)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    assert not program.run(str(mounted), rules(mounted), None)
    assert "failed: Read-only file system" in capsys.readouterr().out


def test_a_disk_without_one_free_byte(mounted: Path) -> None:
    fill(mounted, 0.95)
    with pytest.raises(OSError), (mounted / "rest").open("wb") as opened:
        while True:
            opened.write(bytes(MIB))
            opened.flush()
    assert program.usage(str(mounted)).full > 98
    assert program.run(str(mounted), rules(mounted), None)


KILLED = """
import os, signal, sys
from rota_agents.home_keeper.cleaner import program

real, left, now = os.unlink, int(sys.argv.pop(1)), int(sys.argv.pop(1))
program.now = lambda: now

def unlink(*words, **more):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*words, **more)

os.unlink = unlink
sys.exit(program.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("after", [0, 1, 4])
def test_killed_midway_it_has_done_a_part_of_it_and_no_more(
    mounted: Path, tmp_path: Path, after: int
) -> None:
    count = fill(mounted, 0.95)
    file, report = tmp_path / "rules.json", tmp_path / f"{escaped(str(mounted))}.json"
    file.write_text(to_json(rules(mounted)))
    command = [sys.executable, "-c", KILLED, str(after), str(NOW), "run", str(mounted), "--rules", str(file)]
    done = subprocess.run(command, env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)}, check=False)
    assert done.returncode == -signal.SIGKILL
    left = sorted(int(path.name) for path in (mounted / "cache").glob("*/*"))
    assert left == list(range(after, count)), "the oldest first"
    told = json.loads(report.read_text())
    assert told["ended"] is None and told["boottime"] is None
    assert program.run(str(mounted), rules(mounted), report), "the next one goes on"
    assert json.loads(report.read_text())["ended"]


@pytest.mark.parametrize("path", ["/proc", "/no/such/place", "/etc", "relative"])
def test_what_is_no_watched_disk_is_refused(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules.json"
    file.write_text(to_json(CleanRules(disk=DISK)))
    assert program.main(["run", path, "--rules", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"rota-clean: {path} is ")


def test_a_disk_that_is_declared_not_to_be_watched(mounted: Path) -> None:
    with pytest.raises(RotaError, match="is not watched, so it is not cleaned"):
        program.run(str(mounted), CleanRules(disk=DISK, disks={str(mounted): None}), None)
    assert program.run(str(mounted), CleanRules(disk=DISK), None), "all others are watched"


@pytest.mark.parametrize("text", [None, "", "[]", '{"unknown": 1}'])
def test_without_rules_nothing_is_done(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules.json"
    if text is not None:
        file.write_text(text)
    assert program.main(["run", "/", "--rules", str(file)]) == 1
    assert "rules" in capsys.readouterr().err
