"""What goes and what stays, by table and by chance: never the young, never below the floor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rota_agents.home_keeper.cleaner.engine import moment, parse_cache, parse_containers, parse_images
from rota_agents.home_keeper.cleaner.names import escaped
from rota_agents.home_keeper.cleaner.offers import nix_command, parse_freed
from rota_agents.home_keeper.cleaner.plan import (
    DAY,
    File,
    Generation,
    Held,
    Need,
    Usage,
    cache_frees,
    choose,
    needed,
    old_generations,
    steps,
    tmp_lines,
    unused,
    vacuum,
    whole_days,
)

from rota.clean_rules import CleanRules, DockerRule, JournalRule, NixRule, PathRule, TmpRule
from rota.watch_rules import limits
from rota.watches import Disk

HOUR, MIB, GIB = 3_600_000_000, 1024**2, 1024**3
NOW = 1_900_000_000_000_000
DISK = Disk(limits("space", declared=True), limits("inodes", declared=True), 100 * GIB)


@pytest.mark.parametrize(
    ("usage", "need"),
    [
        (Usage(100, 89, 11, 1000, 500), Need(2, 0)),  # once opened at 90, a finding closes at 87
        (Usage(100, 87, 13, 1000, 500), Need()),
        (Usage(100, 95, 0, 1000, 500), Need(13, 0)),  # five are root's: what counts is 95 of 95
        (Usage(100, 50, 50, 1000, 20), Need(0, 110)),
        (Usage(100, 50, 50, 0, 0), Need()),
        (Usage(1000 * GIB, 899 * GIB, 101 * GIB), Need(0, 0)),  # 100 GiB are enough, with the margin
    ],
)
def test_how_much_must_go(usage: Usage, need: Need) -> None:
    disk = replace(DISK, enough=0) if usage.total < GIB else replace(DISK, enough=50 * GIB)
    assert needed(usage, disk) == need


@given(st.integers(1, 2**50), st.integers(0, 2**50), st.integers(0, 2**40))
def test_what_must_go_is_just_enough(used: int, available: int, enough: int) -> None:
    disk, total = replace(DISK, enough=enough), used + available
    need = needed(Usage(total, used, available), disk)
    assert 0 <= need.size <= used
    after = Usage(total, used - need.size, available + need.size)
    assert not needed(after, disk)


def test_what_is_not_watched_needs_nothing() -> None:
    assert not needed(Usage(100, 100, 0, 100, 0), Disk())


ALL = CleanRules(
    journal=JournalRule(DAY, MIB),
    docker=DockerRule(("/run/docker.sock",), DAY, containers=True),
    nix=NixRule(DAY),
    tmp=TmpRule(("/tmp",)),
    paths=(PathRule("/srv/a", DAY), PathRule("/srv/b", DAY)),
)


def test_steps_begin_with_what_is_missed_least() -> None:
    assert [str(step) for step in steps(ALL, Need(1))] == [
        "tmp", "build-cache /run/docker.sock", "journal", "nix", "images /run/docker.sock",
        "paths /srv/a", "paths /srv/b", "containers /run/docker.sock",
    ]  # fmt: skip
    assert "journal" not in [step.kind for step in steps(ALL, Need(0, 1))]
    assert steps(ALL, Need()) == ()
    assert steps(CleanRules(), Need(1)) == ()


def file(name: str, hours: int, size: int = 10) -> File:
    return File(name, size, NOW - hours * HOUR, 1)


@pytest.mark.parametrize(
    ("files", "rule", "chosen"),
    [
        ([("a", 50), ("b", 70), ("c", 1)], {}, ["b", "a"]),
        ([("a", 24), ("b", 23)], {}, ["a"]),
        ([("a", -5), ("b", 23)], {}, []),
        ([("a", 50), ("b", 70), ("c", 60)], {"keep": 2}, ["b"]),
        ([("a", 50), ("b", 70), ("c", 1)], {"keep": 2}, ["b"]),
        ([("a", 50), ("b", 70)], {"keep": 9}, []),
        ([("a", 50), ("b", 70), ("c", 60)], {"keep_size": 11}, ["b"]),
        ([("a", 50), ("b", 70), ("c", 60)], {"keep_size": 30}, []),
        ([], {}, []),
    ],
)
def test_files(files: list[tuple[str, int]], rule: dict[str, int], chosen: list[str]) -> None:
    found = choose((file(*one) for one in files), PathRule("/srv/a", DAY, **rule), NOW)
    assert [one.path for one in found.files] == chosen
    assert (found.seen, found.size) == (len(files), 10 * len(files))


FILES = st.lists(
    st.builds(
        File,
        st.text("abc/", min_size=1, max_size=4),
        st.integers(0, 1000),
        st.integers(NOW - 100 * HOUR, NOW + 10 * HOUR),
        st.integers(1, 9),
    ),
    max_size=40,
)


@given(FILES, st.integers(1, 60), st.integers(0, 20), st.integers(0, 5000), st.integers(1, 30))
def test_the_young_and_the_floor_stay(
    files: list[File], hours: int, keep: int, keep_size: int, most: int
) -> None:
    rule = PathRule("/srv/a", hours * HOUR, keep, keep_size)
    gone = choose(files, rule, NOW, most).files
    left = list(files)
    for one in gone:
        left.remove(one)  # raises if it was no candidate
    assert len(gone) <= most
    assert all(one.changed <= NOW - hours * HOUR for one in gone)
    if gone:
        assert len(left) >= keep
        assert sum(one.size for one in left) >= keep_size
    assert all(one.changed >= max((other.changed for other in gone), default=0) for one in left)


def archive(number: int, first: int, last: int, size: int = 8 * MIB) -> File:
    """Return a file whose first and last entry are so many hours old."""
    began = NOW - first * HOUR
    return File(f"system@{'0' * 32}-{number:016x}-{began:016x}.journal", size, NOW - last * HOUR, number)


MONTH = [archive(1, 700, 600), archive(2, 600, 400), archive(3, 400, 100), archive(4, 100, 5)]


@pytest.mark.parametrize(
    ("hours", "size", "gone"),
    [
        (24, 0, 3),
        (24, 1, 3),
        (24, 8 * MIB + 1, 2),
        (24, 100 * MIB, 0),
        (300, 0, 2),
        (500, 0, 1),  # the second began before that, but was written to after
        (650, 0, 0),
        (1, 0, 4),
    ],
)
def test_journals(hours: int, size: int, gone: int) -> None:
    assert list(vacuum(reversed(MONTH), JournalRule(hours * HOUR, size), NOW)) == MONTH[:gone]


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 300), st.integers(1, 9)), max_size=12),
    st.integers(1, 700),
    st.integers(0, 60),
)
def test_journals_by_chance(spans: list[tuple[int, int, int]], hours: int, floor: int) -> None:
    archives = [archive(1200 - last - more, last + more, last, size * MIB) for last, more, size in spans]
    gone = vacuum(archives, JournalRule(hours * HOUR, floor * MIB), NOW)
    left = list(archives)
    for one in gone:
        left.remove(one)
    assert all(one.changed <= NOW - hours * HOUR for one in gone)
    if gone:
        assert sum(one.size for one in left) >= floor * MIB
    # journald would remove none of what is left before any of what is gone.
    assert all(one.path[-24:-8] >= other.path[-24:-8] for one in left for other in gone)


def test_files_of_others_are_no_journals() -> None:
    names = ("system.journal", "notes.txt", "user-1000.journal", f"x/system@{'0' * 16}-{'0' * 16}.journal~")
    odd = [File(name, MIB, 0, 1) for name in names]
    assert vacuum(odd, JournalRule(0, 0), NOW) == ()
    broken = File(f"system@{NOW - 900 * HOUR:016x}-{'a' * 16}.journal~", MIB, NOW - 800 * HOUR, 1)
    assert vacuum([*odd, broken], JournalRule(DAY, 0), NOW) == (broken,)


DOCKER = DockerRule(("/s",), 30 * DAY, keep=("registry.home/*", "base:*"))


def held(name: str, days: int, **more: Any) -> Held:
    return Held(f"sha256:{name}", (name,), 10, NOW - days * DAY, **more)


def test_what_docker_holds_unused() -> None:
    known = [
        held("young", 5),
        held("old", 40),
        held("older", 50),
        held("used", 50, used=True),
        held("registry.home/x:1", 50),
        held("base:1", 50),
        held("mine", 50, label="ignore"),
    ]
    assert [one.names[0] for one in unused(known, DOCKER, NOW)] == ["older", "old"]


@given(
    st.lists(st.builds(Held, st.text(), st.just(()), st.integers(0, 99), st.integers(0, NOW), st.booleans()))
)
def test_unused_is_a_part_of_what_there_is(known: list[Held]) -> None:
    found = unused(known, DOCKER, NOW)
    assert set(found) <= set(known)
    assert not any(one.used or one.since > NOW - 30 * DAY for one in found)


def test_the_build_cache_has_a_floor() -> None:
    cache = [held("a", 40), held("b", 50), held("c", 1), held("d", 60, used=True)]
    assert cache_frees(cache, replace(DOCKER, keep_cache=0), NOW) == 20
    assert cache_frees(cache, replace(DOCKER, keep_cache=25), NOW) == 15
    assert cache_frees(cache, replace(DOCKER, keep_cache=99), NOW) == 0


def test_what_docker_says() -> None:
    containers = [
        {"Id": "c1", "Names": ["/web"], "ImageID": "i1", "State": "running", "Created": 5, "SizeRw": 7},
        {"Id": "c2", "Names": ["/old"], "ImageID": "i2", "State": "exited", "Created": 6, "Labels": None},
        {"Id": "c3", "Names": None, "ImageID": "i2", "State": "paused", "Created": 6},
    ]
    images = [
        {"Id": "i1", "RepoTags": ["web:1"], "Created": 9, "Size": 100, "SharedSize": 40},
        {
            "Id": "i2",
            "RepoTags": None,
            "RepoDigests": ["x@sha256:1"],
            "Created": 9,
            "Size": 5,
            "SharedSize": -1,
        },
        {"Id": "i3", "RepoTags": ["<none>:<none>"], "Created": 9, "Labels": {"rota.keeper": "ignore"}},
    ]
    assert parse_images(images, containers) == [
        Held("i1", ("web:1",), 60, 9_000_000, used=True),
        Held("i2", ("x@sha256:1",), 5, 9_000_000, used=True),
        Held("i3", (), 0, 9_000_000, label="ignore"),
    ]
    assert [(one.names, one.used, one.size) for one in parse_containers(containers)] == [
        (("web",), True, 7),
        (("old",), False, 0),
        ((), True, 0),
    ]
    usage = {"BuildCache": [{"ID": "b", "Size": 3, "InUse": False, "LastUsedAt": "1970-01-01T00:00:02Z"}]}
    assert parse_cache(usage) == [Held("b", (), 3, 2_000_000)]
    assert parse_cache({"BuildCache": None}) == []


@pytest.mark.parametrize(
    ("text", "usec"),
    [
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01T00:00:01.123456789Z", 1_123_456),
        ("1970-01-01T02:00:01+02:00", 1_000_000),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
        ("soon", 0),
    ],
)
def test_moments(text: str, usec: int) -> None:
    assert moment(text) == usec


def test_the_command_line_of_nix() -> None:
    assert nix_command(NixRule(30 * DAY), Need(5 * GIB)) == [
        "--delete-older-than", "30d", "--max-freed", str(5 * GIB),
    ]  # fmt: skip
    assert nix_command(NixRule(DAY + 1), Need(1, 1)) == ["--delete-older-than", "2d"]
    assert [whole_days(span) for span in (1, DAY, DAY + 1, 30 * DAY)] == [1, 1, 2, 30]


def generation(number: int, days: int, **more: Any) -> Generation:
    return Generation("system", number, NOW - days * DAY, **more)


def test_generations_that_nix_forgets() -> None:
    known = [generation(1, 60), generation(2, 50), generation(3, 40), generation(4, 1, current=True)]
    assert [one.number for one in old_generations(known, NixRule(30 * DAY), NOW)] == [2, 1]
    assert old_generations(known[2:], NixRule(30 * DAY), NOW) == ()
    back = [generation(1, 60, current=True), generation(2, 50), generation(3, 40)]
    assert [one.number for one in old_generations(back, NixRule(30 * DAY), NOW)] == [2]


@pytest.mark.parametrize(
    ("text", "freed"),
    [
        ("removing old generations\n12 store paths deleted, 34.50 MiB freed\n", (12, 36175872)),
        ("0 store paths deleted, 0.00 MiB freed\n", (0, 0)),
        ("3 store paths deleted, 1.5 GiB freed", (3, 1610612736)),
        ("error: cannot connect", None),
    ],
)
def test_what_nix_says(text: str, freed: tuple[int, int] | None) -> None:
    assert parse_freed(text) == freed


def test_lines_for_tmpfiles() -> None:
    assert tmp_lines(("/tmp", '/var/tmp/a "b" 5%'), 3 * DAY) == (
        'e "/tmp" - - - 259200s\ne "/var/tmp/a \\"b\\" 5%%" - - - 259200s\n'
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "-"),
        ("/srv", "srv"),
        ("/srv/my disk", "srv-my\\x20disk"),
        ("/mnt/a-b/.c", "mnt-a\\x2db-.c"),
        ("/.hidden", "\\x2ehidden"),
        ("/é", "\\xc3\\xa9"),
    ],
)
def test_names_of_units(path: str, name: str) -> None:
    assert escaped(path) == name
