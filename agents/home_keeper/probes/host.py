"""Reads what the kernel says in /proc and /sys. Chips take their time to answer: they are for threads."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from ..checks import hardware, host
from ..checks.words import SECOND, Malformed
from ..words import Finding
from .recall import of_this_boot

PROC, SYS = Path("/proc"), Path("/sys")


class Processors:
    """Processor time between two looks, and the load."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before: host.Ticks | None = None

    async def __call__(self) -> host.Processors:
        """Look."""
        ticks = host.parse_stat((self._proc / "stat").read_text())
        load = host.parse_loadavg((self._proc / "loadavg").read_text())
        before, self._before = self._before, ticks
        return host.Processors(host.busy(before, ticks), load, ticks.processors)


async def memory(proc: Path = PROC) -> host.Memory:
    """Look at memory and swap."""
    return host.parse_meminfo((proc / "meminfo").read_text())


async def pressure(proc: Path = PROC) -> dict[str, host.Pressure]:
    """Look at what waits; a kernel without PSI, or with psi=0, has nothing to say."""
    found = {}
    for name in ("cpu", "memory", "io"):
        file = proc / "pressure" / name
        try:
            text = file.read_text()
        except OSError:
            continue
        found[name] = host.parse_pressure(text, str(file))
    return found


def _said(file: Path) -> str | None:
    """Return what a file of /sys says, None where it says nothing: drivers fail to read in many ways."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None


def sensors(sys: Path = SYS) -> list[hardware.Sensor]:
    """Look at all temperatures of all chips; blocks."""
    found: list[hardware.Sensor] = []
    for file in sorted((sys / "class/hwmon").glob("hwmon*/temp*_input")):
        stem, chip = file.name.removesuffix("_input"), _said(file.parent / "name") or file.parent.name
        name = f"{chip} {_said(file.parent / f'{stem}_label') or stem}"
        if any(one.name == name for one in found):
            name = f"{name} ({file.parent.name})"
        limits = [_celsius(file.parent / f"{stem}_{kind}") for kind in ("crit", "max")]
        found.append(hardware.Sensor(name, _celsius(file), hardware.critical(limits)))
    return found


def _celsius(file: Path) -> float | None:
    text = _said(file)
    return None if text is None else hardware.celsius(text, str(file))


def batteries(sys: Path = SYS) -> list[hardware.Battery]:
    """Look at the batteries that this machine runs on; those of a mouse are none; blocks."""
    found = []
    for folder in sorted((sys / "class/power_supply").glob("*")):
        if _said(folder / "type") == "Battery" and _said(folder / "scope") != "Device":
            charge = _said(folder / "capacity")
            if charge is not None and not charge.isdecimal():
                raise Malformed(f"{folder / 'capacity'} is not as expected: {charge[:40]!r}")
            percent = None if charge is None else float(charge)
            found.append(hardware.Battery(folder.name, percent, _said(folder / "status") == "Discharging"))
    return found


class Interfaces:
    """Network interfaces, and which that are hardware have had a carrier; of others come ever new names."""

    def __init__(self, named: tuple[str, ...], sys: Path = SYS) -> None:
        self._named = named
        self._sys = sys
        self.had: set[str] = set()

    def recall(self, left: Iterable[Finding]) -> None:
        """Take up what was open when the keeper ended: what has lost its carrier has had one."""
        self.had |= {one.target.name for one in of_this_boot(left, "carrier")}

    async def __call__(self) -> list[hardware.Interface]:
        """Look."""
        folders = {
            folder.name: folder for folder in sorted((self._sys / "class/net").glob("*")) if folder.is_dir()
        }
        found = [_interface(folder) for folder in folders.values()]
        self.had |= {one.name for one in found if one.hardware and one.carrier}
        gone = [name for name in self._named if name not in folders]
        return found + [
            hardware.Interface(name, hardware=True, up=False, carrier=None, there=False) for name in gone
        ]


def _interface(folder: Path) -> hardware.Interface:
    flags, carrier = _said(folder / "flags"), _said(folder / "carrier")
    try:
        up = bool(int(flags or "0", 16) & 1)  # IFF_UP
    except ValueError:
        raise Malformed(f"{folder / 'flags'} is not as expected: {flags!r}") from None
    hardware_ = (folder / "device").exists()
    return hardware.Interface(folder.name, hardware_, up, None if carrier in (None, "") else carrier == "1")


class Unsynchronised:
    """Since when the clock has not been synchronised: counted on the clock that nobody sets."""

    def __init__(self) -> None:
        self._since: float | None = None

    def recall(self, span: int) -> None:
        """Take up that it has not been for so long, microseconds."""
        self._since = time.monotonic() - span / SECOND

    def span(self, synchronised: bool) -> int:
        """Return for how long it has not been, microseconds."""
        if synchronised:
            self._since = None
            return 0
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return round((now - self._since) * SECOND)
