"""File systems and drives: space, inodes, what turned read-only, what is not mounted, what smartctl says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rota.watches import Disk, Limit, Limits

from ..words import Target
from .readings import Reading, when_true
from .words import Malformed, clip, share, size

MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class Volume:
    """A file system, as it was found.

    Attributes:
        point: where it is mounted.
        source: device or export.
        type: of file system.
        total: bytes there are.
        available: bytes that programs without privileges may still take.
        used_percent: share of the bytes that those could have, as df counts; None if it has none to fill.
        inodes: how many there are; 0 where they are made as needed.
        inodes_free: how many are left.
        read_only: "" or why nothing can be written: `error` (the kernel says that it gave up), `unclear` (it
            did, or somebody remounted it), `remounted`, `meant`.
        unanswered: why it could not be asked; "" if it could, and the numbers are only true then.
        points: all paths where it is mounted.
    """

    point: str
    source: str = ""
    type: str = ""
    total: int = 0
    available: int = 0
    used_percent: float | None = None
    inodes: int = 0
    inodes_free: int = 0
    read_only: str = ""
    unanswered: str = ""
    points: tuple[str, ...] = ()


def given_up(mountinfo: str) -> dict[int, str]:
    """Return the mounts that turned read-only of themselves, it seems: why, see `Volume`, by their number.

    Who mounts or remounts read-only sets both the mount and the file system so (proc_pid_mountinfo(5)). After
    an error the mount's own options still say rw; newer kernels say emergency_ro or shutdown among the file
    system's. In a mount namespace of one's own, such as of a sandbox, somebody else's remount looks like an
    error on older ones.

    Raises:
        Malformed: it is not as expected.
    """
    found = {}
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if not separator or len(words) < 6 or len(rest) < 3 or not words[0].isdecimal():
            raise Malformed(f"{MOUNTINFO} is not as expected: {clip(line)!r}")
        own, shared = set(words[5].split(",")), set(rest[2].split(","))
        if shared & {"emergency_ro", "shutdown"}:
            found[int(words[0])] = "error"
        elif "rw" in own and "ro" in shared:
            found[int(words[0])] = "unclear"
    return found


_LEAST = 1e-6


def scaled(limits: Limits, total: int, enough: int) -> Limits:
    """Return limits of a share such that with `enough` bytes left of `total` not even the mildest opens.

    All of them move towards 100 % by one factor, margins too: 10 % of a small disk is 1 % of a large one.
    """
    if not limits or total <= 0 or not enough or limits[0].opens >= 100:
        return limits
    factor = 100 * enough / total / (100 - limits[0].opens)
    factor = min(max(factor, _LEAST), 1.0)
    return tuple(
        Limit(
            limit.severity,
            100 - (100 - limit.opens) * factor,
            100 - (100 - limit.closes) * factor,
            limit.hold,
            limit.calm,
        )
        for limit in limits
    )


_READ_ONLY = {
    "error": "{point} is read-only since an error, to protect {source}; see journalctl -k, run fsck",
    "unclear": "{point} is read-only since an error, to protect {source}, or since somebody remounted it; "
    "see journalctl -k, after an error run fsck",
    "remounted": "{point} has become read-only: somebody remounted it, or {source} failed",
}


def volumes(
    facts: Iterable[Volume], default: Disk | None, disks: Mapping[str, Disk | None]
) -> Iterator[Reading]:
    """Judge file systems.

    Args:
        facts: those that are mounted.
        default: how those are watched that are not in `disks`; None: not.
        disks: by mount point.
    """
    mounted: set[str] = set()
    for volume in facts:
        mounted |= {volume.point, *volume.points}
        rules = disks.get(volume.point, default)
        if rules is not None:
            yield from _volume(volume, rules)
    for point, rules in disks.items():
        if rules is not None and rules.required:
            text = f"nothing is mounted at {point}"
            value = float(point not in mounted)
            yield Reading(Target("disk", point), "missing", value, when_true("critical"), text)


def _volume(volume: Volume, rules: Disk) -> Iterator[Reading]:
    target, known = Target("disk", volume.point), not volume.unanswered
    writable = not known or volume.read_only != "meant"
    details: dict[str, Any] = {"source": volume.source, "type": volume.type}
    hung = f"{volume.point} does not answer: {volume.unanswered}"
    yield Reading(target, "unreachable", float(not known), when_true("critical"), hung, details)
    if rules.space and writable:
        text = (
            f"{volume.point} is {share(volume.used_percent or 0)} full: "
            f"{size(volume.available)} of {size(volume.total)} left"
        )
        more = {**details, "available": volume.available, "total": volume.total}
        found = scaled(rules.space, volume.total, rules.enough)
        yield Reading(target, "space", volume.used_percent if known else None, found, text, more)
    if rules.inodes and writable and (volume.inodes or not known):
        used = 100 * (1 - volume.inodes_free / volume.inodes) if volume.inodes else 0.0
        text = (
            f"{volume.point} has {share(used)} of its inodes in use: room for {volume.inodes_free} more files"
        )
        more = {**details, "inodes": volume.inodes, "inodes_free": volume.inodes_free}
        yield Reading(target, "inodes", used if known else None, rules.inodes, text, more)
    text = _READ_ONLY.get(volume.read_only, "").format(point=volume.point, source=volume.source)
    value = float(volume.read_only in _READ_ONLY) if known else None
    yield Reading(target, "read-only", value, when_true("critical"), text, details)


@dataclass(frozen=True, slots=True)
class Drive:
    """What smartctl says of a drive.

    Attributes:
        device: its node.
        model: its model and serial number.
        problems: what is wrong with it, worst first, as sentences.
        failing: whether it says of itself that it is about to fail.
        numbers: what was counted, by smartctl's names.
        asleep: whether it was left alone, because it has stopped turning.
        unanswered: why it could not be asked; "" if it could.
    """

    device: str
    model: str = ""
    problems: tuple[str, ...] = ()
    failing: bool = False
    numbers: Mapping[str, int] | None = None
    asleep: bool = False
    unanswered: str = ""


# smartctl(8), EXIT STATUS. Bit 5 (it was beyond a threshold once) and 6 and 7 (errors in logs that are never
# cleared) say what was, so they are told, but open nothing by themselves.
_BITS = {
    3: (True, "it says that it is failing"),
    4: (False, "a value that foretells failure is beyond its threshold"),
}
_PAST = {5: "a value has been beyond its threshold", 6: "its error log has entries", 7: "a self-test failed"}
_COUNTED = {
    5: "sectors were replaced",
    187: "errors could not be corrected",
    197: "sectors wait to be replaced",
    198: "sectors cannot be read",
}
# NVMe base specification, SMART / Health Information, critical warning.
_NVME = {
    0: "spare blocks are below the threshold",
    1: "it is too hot or too cold",
    2: "it is no longer reliable",
    3: "it has become read-only",
    4: "its backup of volatile memory has failed",
}


def parse_smart(device: str, text: str) -> Drive:
    """Return what `smartctl --json --all DEVICE` printed.

    Raises:
        Malformed: it is not as expected.
    """
    try:
        raw = json.loads(text)
        about, bits = raw["smartctl"], int(raw["smartctl"]["exit_status"])
        if bits & 0b111 and "smart_status" not in raw:
            said = clip("; ".join(str(one.get("string", "")) for one in about.get("messages", ())))
            if "STANDBY" in said or "SLEEP" in said:
                return Drive(device, asleep=True)
            return Drive(device, unanswered=said or f"smartctl ended with {bits}")
        problems = [told for bit, (_, told) in _BITS.items() if bits >> bit & 1]
        failing = any(severe for bit, (severe, _) in _BITS.items() if bits >> bit & 1)
        numbers: dict[str, int] = {}
        for row in raw.get("ata_smart_attributes", {}).get("table", ()):
            if row["id"] in _COUNTED:
                # Some drives keep more than the count in the raw value: the low 32 bits are it.
                numbers[str(row["name"])] = count = int(row["raw"]["value"]) & 0xFFFFFFFF
                if count and row["id"] in (197, 198):
                    problems.append(f"{count} {_COUNTED[row['id']]}")
        nvme = raw.get("nvme_smart_health_information_log", {})
        warning = int(nvme.get("critical_warning", 0))
        problems += [told for bit, told in _NVME.items() if warning >> bit & 1]
        numbers |= {key: int(nvme[key]) for key in ("percentage_used", "media_errors") if key in nvme}
        failing = failing or bool(warning & 0b1100)
        past = {f"past_{bit}": 1 for bit in _PAST if bits >> bit & 1}
        model = clip(f"{raw.get('model_name', '')} {raw.get('serial_number', '')}")
        return Drive(device, model, tuple(dict.fromkeys(problems)), failing, numbers | past)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed(f"smartctl's answer about {device} is not as expected: {error}") from None


def parse_scan(text: str) -> tuple[tuple[str, str], ...]:
    """Return the drives that `smartctl --json --scan` found: node, and type for --device.

    Raises:
        Malformed: it is not as expected.
    """
    try:
        found = json.loads(text).get("devices", ())
        pairs = tuple((str(one["name"]), str(one["type"])) for one in found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed(f"smartctl's list of drives is not as expected: {error}") from None
    return tuple(pair for pair in pairs if re.fullmatch(r"/dev/[\w/-]+", pair[0]))


def drives(facts: Iterable[Drive]) -> Iterator[Reading]:
    """Judge drives by what they say of themselves."""
    for drive in facts:
        target = Target("disk", drive.device)
        about = f"{drive.device} ({drive.model})" if drive.model else drive.device
        details = {"model": drive.model, "problems": list(drive.problems), **(drive.numbers or {})}
        text = f"{about}: {'; '.join(drive.problems)}; back up what is on it"
        severity: Limits = when_true("critical" if drive.failing else "warning")
        value = None if drive.unanswered or drive.asleep else float(bool(drive.problems))
        yield Reading(target, "failing", value, severity, text, details)
        hidden = f"{about} cannot be asked for its diagnosis: {drive.unanswered}"
        yield Reading(
            target, "unreachable", float(bool(drive.unanswered)), when_true("info"), hidden, details
        )
