"""rota-clean: frees room on one file system by declared rules, step by step, until enough is free.

    rota-clean run PATH        does it; as rota-clean@.service, which systemd starts
    rota-clean preview PATH    says what would be done

Exits with 0 if enough is free, 3 if all was done and it is still too full, 1 if it could not do its work,
2 if it was called wrongly, or for what is no disk that is watched.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rota.clean_rules import (
    CREDENTIAL,
    CleanRules,
    DockerRule,
    JournalRule,
    NixRule,
    PathRule,
    TmpRule,
    from_json,
)
from rota.errors import Exit, RotaError
from rota.watches import Disk

from ...disk_report.mounts import Wanted, file_systems, parse
from ..checks.words import share, size
from . import engine, offers
from .names import escaped
from .offers import Nothing, Offer, Scene
from .plan import Need, Step, needed, steps
from .tree import file_system, open_directory, usage

RUNTIME = "RUNTIME_DIRECTORY"
STILL_FULL = 3


def now() -> int:
    """Return microseconds since 1970."""
    return time.time_ns() // 1000


def disk_of(path: str, rules: CleanRules) -> Disk:
    """Return how the disk mounted at a path is watched.

    Raises:
        RotaError: nothing is mounted there, or it is not watched, and so not cleaned.
    """
    mounts = parse(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
    if not any(mount.point == path for mount in mounts):
        raise RotaError(f"{path} is no mount point", "Name one; see findmnt.", Exit.USAGE)
    if path in rules.disks:
        disk = rules.disks[path]
    else:
        points = {point for found in file_systems(mounts, Wanted()) for point in found.points}
        disk = rules.disk if path in points else None
    if disk is None or not (disk.space or disk.inodes):
        raise RotaError(
            f"{path} is not watched, so it is not cleaned",
            f'Declare it: [keeper.disks."{path}"].',
            Exit.USAGE,
        )
    return disk


class Disks:
    """The file system that is too full: how full it is, and when it is no longer."""

    def __init__(self, path: str, disk: Disk) -> None:
        """Open it.

        Raises:
            RotaError: it is not there, or does not answer.
        """
        self._disk = disk
        self._opened = open_directory(path)
        try:
            self.device = file_system(self._opened)
            self.usage = usage(self._opened)
        except OSError as error:
            raise RotaError(f"{path} does not answer: {error.strerror or error}") from None

    def need(self) -> Need:
        """Return how much is to go."""
        self.usage = usage(self._opened)
        return needed(self.usage, self._disk)

    def settled(self) -> Need:
        """Return how much is to go once all that was removed is counted: some file systems do that later."""
        need = self.need()
        if need:
            os.sync()
            need = self.need()
        return need

    def enough(self, need: Need) -> Callable[[int], bool]:
        """Return what tells a step whether it may stop."""
        expected = need.size

        def asked(freed: int) -> bool:
            nonlocal expected
            if not self.need():
                return True
            if expected and freed >= expected:
                left = self.settled()
                expected = freed + max(left.size, 1)
                return not left
            return False

        return asked


def _numbers(disks: Disks) -> dict[str, Any]:
    found = disks.usage
    return {
        "used_percent": round(found.full, 1),
        "available": found.available,
        "inodes_free": found.inodes_free,
    }


def leave(file: Path, table: Mapping[str, Any]) -> None:
    """Write JSON that everybody may read, whole or not at all."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(table), encoding="utf-8")
    beside.chmod(0o644)
    beside.replace(file)


class Account:
    """The report, written down after each step, so that it is there when this is killed."""

    def __init__(self, target: str, disks: Disks, file: Path | None) -> None:
        self._file = file
        self._disks = disks
        self.table: dict[str, Any] = {
            "target": target,
            "began": now(),
            "ended": None,
            "boottime": None,
            "enough": False,
            "freed": 0,
            "before": _numbers(disks),
            "after": _numbers(disks),
            "steps": [],
        }

    def step(self, **row: Any) -> None:
        """Add a step."""
        self.table["steps"].append({key: value for key, value in row.items() if value not in (None, "")})
        self.write()

    def end(self, *, enough: bool) -> None:
        """Close the account."""
        boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        self.table |= {"enough": enough, "ended": now(), "boottime": boottime}
        self.write()

    def write(self) -> None:
        """Write it down, whole or not at all."""
        after = _numbers(self._disks)
        freed = after["available"] - self.table["before"]["available"]
        self.table |= {"after": after, "freed": max(freed, 0)}
        if self._file is None:
            return
        leave(self._file, self.table)


def say(text: str) -> None:
    """Print a line, to the journal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _look(step: Step, scene: Scene, *, preview: bool = False) -> Offer:
    try:
        match step.rule:
            case TmpRule() as rule:
                return offers.tmp(rule, scene, preview=preview)
            case JournalRule() as rule:
                return offers.journal(rule, scene)
            case NixRule() as rule:
                return offers.nix(rule, scene, preview=preview)
            case PathRule() as rule:
                return offers.files(rule, scene)
            case DockerRule() as rule:
                return engine.offer(step, rule, scene)
    except OSError as error:
        raise RotaError(f"{error.filename or step}: {error.strerror or error}") from None


def _told(disks: Disks, path: str) -> str:
    found = disks.usage
    return f"{path} is {share(found.full)} full: {size(found.available)} left"


def run(path: str, rules: CleanRules, file: Path | None) -> bool:
    """Clean a disk; return whether enough is free then.

    Args:
        path: where it is mounted.
        rules: what may go.
        file: where the report goes.

    Raises:
        RotaError: it is not watched, or not there.
    """
    disks = Disks(path, disk_of(path, rules))
    need = disks.need()
    account = Account(path, disks, file)
    account.write()
    say(_told(disks, path))
    for step in steps(rules, need):
        need = disks.settled()
        if not need:
            break
        _clean(step, Scene(disks.device, need, now()), disks, account)
    need = disks.settled()
    account.end(enough=not need)
    freed = size(account.table["freed"])
    say(f"{_told(disks, path)}, {freed} freed{'' if not need else '; that is not enough'}")
    return not need


def _clean(step: Step, scene: Scene, disks: Disks, account: Account) -> None:
    before = disks.usage
    try:
        offer = _look(step, scene)
        say(f"{step}: {offer.what}")
        did = offer.act(disks.enough(scene.need))
    except Nothing as nothing:
        account.step(step=str(step), skipped=nothing.message)
        say(f"{step}: {nothing.message}")
        return
    except (RotaError, OSError) as error:
        told = error.message if isinstance(error, RotaError) else f"{error.strerror or error}"
        disks.need()
        account.step(step=str(step), error=told)
        say(f"{step}: failed: {told}")
        return
    disks.settled()
    by_df = disks.usage.available - before.available
    account.step(
        step=str(step), did=offer.what, count=did.count or None, freed=did.size, df=by_df, error=did.error
    )
    own = f"{did.count} removed, {size(did.size)}; " if did.size is not None else ""
    say(f"{step}: {own}{size(max(by_df, 0))} by df{f'; {did.error}' if did.error else ''}")


def preview(path: str, rules: CleanRules) -> dict[str, Any]:
    """Return what `run` would do, as JSON takes it: steps in order, with about what they would free.

    Raises:
        RotaError: as `run`.
    """
    disks = Disks(path, disk_of(path, rules))
    need = disks.need()
    table: dict[str, Any] = {
        "target": path,
        "now": _numbers(disks),
        "need": {"size": need.size, "inodes": need.inodes},
        "steps": [],
    }
    # Where nothing is needed, what there would be is of interest all the same.
    scene = Scene(disks.device, need, now())
    left = need
    for step in steps(rules, need or Need(1, 1)):
        row: dict[str, Any] = {"step": str(step), "reached": bool(left)}
        try:
            offer = _look(step, scene, preview=True)
        except Nothing as nothing:
            row["skipped"] = nothing.message
        except RotaError as error:
            row["error"] = error.message
        else:
            row |= {"what": offer.what, "count": offer.count, "frees": offer.frees}
            row["names"] = list(offer.names)
            left = Need(max(left.size - (offer.frees or 0), 0), max(left.inodes - offer.count, 0))
        table["steps"].append(row)
    return table


def without_names(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preview as everybody may see it: names of files are for those who may read the journal."""
    steps_ = [{key: value for key, value in row.items() if key != "names"} for row in table["steps"]]
    return {**table, "steps": steps_}


def preview_lines(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield a preview for people."""
    used, available = table["now"]["used_percent"], size(table["now"]["available"])
    need = table["need"]
    wanted = [f"{size(need['size'])} must go"] if need["size"] else []
    wanted += [f"{need['inodes']} inodes must go"] if need["inodes"] else []
    told = " and ".join(wanted) or "that will do"
    yield f"{table['target']} is {share(used)} full: {available} left; {told}"
    for row in table["steps"]:
        if "what" not in row:
            yield f"  {row['step']}: {row.get('skipped') or 'failed: ' + row['error']}"
            continue
        amount = "what it frees shows afterwards" if row["frees"] is None else f"about {size(row['frees'])}"
        count = f", {row['count']} of them" if row["count"] else ""
        unneeded = "" if row["reached"] else " (not needed)"
        yield f"  {row['step']}: {amount}{count}: {row['what']}{unneeded}"
        yield from (f"    {name!s}" for name in map(_printable, row["names"]))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def read_rules(file: Path | None) -> CleanRules:
    """Return the rules of a file, or those that systemd hands over.

    Raises:
        RotaError: there are none.
    """
    found = file or Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"), CREDENTIAL)
    hint = "Run rota apply: it writes them for rota-clean@.service."
    try:
        return from_json(found.read_text(encoding="utf-8"))
    except OSError as error:
        raise RotaError(f"no rules: {found}: {error.strerror}", hint) from None
    except ValueError as error:
        raise RotaError(f"{found} holds no rules: {error}", hint) from None


@contextmanager
def _alone(directory: Path | None) -> Iterator[None]:
    """Let one at a time clean: of one disk systemd sees to it, of several that share Docker this does."""
    if directory is None:
        yield
        return
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rota-clean", description="Free room on a disk, by declared rules.")
    parser.add_argument("verb", choices=("run", "preview"), help="clean it; or say what would be done")
    parser.add_argument("path", help="where the disk is mounted")
    parser.add_argument("--rules", type=Path, metavar="FILE", help="instead of what systemd hands over")
    parser.add_argument("--json", action="store_true", help="preview: print JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run rota-clean; return its exit status."""
    arguments = _parser().parse_args(argv)
    runtime = os.environ.get(RUNTIME)
    directory = Path(runtime) if runtime else None
    path = arguments.path.rstrip("/") or "/"
    try:
        rules = read_rules(arguments.rules)
        if arguments.verb == "run":
            with _alone(directory):
                report = directory / f"{escaped(path)}.json" if directory else None
                return 0 if run(path, rules, report) else STILL_FULL
        table = preview(path, rules)
        if directory:
            leave(directory / f"{escaped(path)}.json", without_names(table))
        say(json.dumps(table) if arguments.json else "\n".join(preview_lines(table)))
    except RotaError as error:
        sys.stderr.write(f"rota-clean: {error.message}\n" + (f"{error.hint}\n" if error.hint else ""))
        return int(error.exit_code)
    return 0
