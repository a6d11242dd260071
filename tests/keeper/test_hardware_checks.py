"""Temperatures, GPUs, batteries, network interfaces: folders as /sys has them, and what is judged of them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from rota_agents.home_keeper.checks import hardware
from rota_agents.home_keeper.checks.hardware import Battery, Gpu, Interface, Sensor
from rota_agents.home_keeper.checks.readings import Memory, settle
from rota_agents.home_keeper.checks.words import Malformed
from rota_agents.home_keeper.probes import host as probes
from rota_agents.home_keeper.probes.gpus import Gpus
from rota_agents.home_keeper.probes.threads import Threads

from rota.watch_rules import limits
from rota.watching import TABLE
from tests.keeper.nvml import Driver
from tests.keeper.servers import namespace

S = 1_000_000
LIMITS = {name: limits(name, declared=True) for name in TABLE}
NEVER = 2**62


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    return folder


def test_sensors_of_a_sysfs(tmp_path: Path) -> None:
    chips = tmp_path / "class/hwmon"
    write(chips / "hwmon0", name="acpitz", temp1_input="27800", temp1_crit="119000")
    write(
        chips / "hwmon1", name="coretemp", temp1_input="91000", temp1_label="Package id 0", temp1_max="80000",
        temp1_crit="100000", temp2_input="88000", temp2_label="Core 0", temp2_crit="0",
    )  # fmt: skip
    write(chips / "hwmon2", name="nvme", temp1_input="41850", temp1_label="Composite", temp1_max="65261850")
    write(chips / "hwmon3", name="nvme", temp1_input="38850", temp1_label="Composite", temp1_max="81850")
    write(chips / "hwmon4", fan1_input="900")
    (chips / "hwmon4/temp1_input").mkdir()  # a driver whose sensor cannot be read
    found = probes.sensors(tmp_path)
    assert found == [
        Sensor("acpitz temp1", 27.8, 119),
        Sensor("coretemp Package id 0", 91, 100),
        Sensor("coretemp Core 0", 88, None),
        Sensor("nvme Composite", 41.85, None),
        Sensor("nvme Composite (hwmon3)", 38.85, 81.85),
        Sensor("hwmon4 temp1", None, None),
    ]
    write(chips / "hwmon0", temp1_input="warm")
    with pytest.raises(Malformed, match="hwmon0/temp1_input is not as expected: 'warm'"):
        probes.sensors(tmp_path)


def test_each_sensor_has_its_own_limit() -> None:
    facts = [
        Sensor("chip a", 91, 100),
        Sensor("chip b", 91, 119),
        Sensor("chip c", 94, None),
        Sensor("chip d", None),
    ]
    readings = list(hardware.temperatures(facts, LIMITS))
    memory, _ = settle(Memory(), readings, 0, NEVER)
    _, found = settle(memory, readings, 60 * S, NEVER)
    assert [(str(one.target), one.problem, one.severity) for one in found] == [
        ("host:chip a", "hot", "warning"),
        ("host:chip c", "hot", "critical"),
    ]
    assert found[0].summary == "chip a is at 91 °C, critical is 100 °C; cool it"


def test_batteries_of_a_sysfs(tmp_path: Path) -> None:
    supplies = tmp_path / "class/power_supply"
    write(supplies / "AC", type="Mains", online="0")
    write(supplies / "BAT0", type="Battery", capacity="6", status="Discharging")
    write(supplies / "BAT1", type="Battery", capacity="5", status="Charging")
    write(supplies / "hidpp_battery_0", type="Battery", scope="Device", capacity="1", status="Discharging")
    found = probes.batteries(tmp_path)
    assert found == [Battery("BAT0", 6, True), Battery("BAT1", 5, False)]
    readings = list(hardware.batteries(found, LIMITS))
    memory, _ = settle(Memory(), readings, 0, NEVER)
    _, told = settle(memory, readings, 30 * S, NEVER)
    assert [(one.severity, one.summary) for one in told] == [
        ("critical", "BAT0 is at 6 % and discharging: plug the machine in")
    ]
    write(supplies / "BAT0", capacity="?")
    with pytest.raises(Malformed, match="BAT0/capacity"):
        probes.batteries(tmp_path)


def test_this_machine_has_what_it_has() -> None:
    for name in (one.name for one in probes.sensors()):
        assert name
    if not probes.SYS.is_dir():
        pytest.skip("no /sys here")
    assert "lo" in {one.name for one in asyncio.run(probes.Interfaces(())())}


@pytest.mark.parametrize(
    ("one", "named", "had", "text"),
    [
        (Interface("eth0", True, True, False), ["eth0"], [], "has no carrier: look at its cable"),
        (Interface("eth0", True, False, None), ["eth0"], [], "is switched off: ip link set eth0 up"),
        (Interface("eth0", True, False, None, there=False), ["eth0"], [], "is gone"),
        (Interface("eth0", True, True, True), ["eth0"], [], None),
        (Interface("eth0", True, True, False), [], ["eth0"], "has lost its carrier"),
        (Interface("eth0", True, False, None), [], ["eth0"], None),
        (Interface("eth0", True, True, False), [], [], None),
        (Interface("br0", False, True, False), [], ["br0"], None),
    ],
)
def test_which_carrier_is_missed(one: Interface, named: list[str], had: list[str], text: str | None) -> None:
    found = [reading for reading in hardware.interfaces([one], named, had) if reading.value]
    assert bool(found) is (text is not None)
    assert not found or (text or "") in found[0].summary


def test_a_real_carrier_is_lost() -> None:
    """A pair of virtual interfaces in a network namespace of its own: one side off is a cable pulled out."""
    code = """
import asyncio, subprocess
from rota_agents.home_keeper.probes.host import Interfaces
async def main():
    ip = lambda *words: subprocess.run(["ip", *words], check=True)
    ip("link", "add", "here", "type", "veth", "peer", "name", "there")
    ip("link", "set", "here", "up"); ip("link", "set", "there", "up")
    look = Interfaces(("here", "gone"))
    def told(found):
        wanted = ("here", "gone")
        return {one.name: (one.up, one.carrier, one.there) for one in found if one.name in wanted}
    print(told(await look()))
    ip("link", "set", "there", "down")
    print(told(await look()), sorted(look.had))
asyncio.run(main())
"""
    done = namespace(code)
    assert done.splitlines() == [
        "{'here': (True, True, True), 'gone': (False, None, False)}",
        "{'here': (True, False, True), 'gone': (False, None, False)} []",
    ]


GPU = Gpu("gpu0", "RTX 9000", 23 * 2**30, 24 * 2**30, 60, 95)


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        (GPU, []),
        (
            Gpu("gpu0", "A2", 2**30, 2**30, 92, 95),
            [("gpu0-memory", "warning"), ("gpu0-temperature", "warning")],
        ),
        (Gpu("gpu0", "A2", 0, 2**30, 95, 95), [("gpu0-temperature", "critical")]),
        (Gpu("gpu0", "A2", None, 0, None, None), []),
        (Gpu("gpu0", "A2", 0, 2**30, xid=79), [("gpu0-xid", "critical")]),
        (Gpu("gpu0", "A2", 0, 2**30, xid=13), [("gpu0-xid", "warning")]),
        (Gpu("gpu0", "A2", unanswered="GPU is lost"), [("gpu0", "critical")]),
    ],
)
def test_gpus(gpu: Gpu, told: list[tuple[str, str]]) -> None:
    readings = list(hardware.gpus([gpu], LIMITS))
    memory, _ = settle(Memory(), readings, 0, NEVER)
    _, found = settle(memory, readings, 3600 * S, NEVER)
    assert [(one.target.name, one.severity) for one in found] == told


def test_without_a_gpu_nothing_is_said() -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    assert asyncio.run(Gpus(Threads())()) == []


def test_a_gpu_that_is_lost_is_lost_alone_and_until_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    # there is no GPU here to lose
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    gpus = Gpus(Threads())

    def look() -> dict[str, str]:
        return {one.name: one.unanswered for one in asyncio.run(gpus())}

    well, lost = {"gpu0": "", "gpu1": ""}, {"gpu1": "", "gpu0": "GPU is lost"}
    assert look() == well
    driver.lost = "a"
    assert [look(), look()] == [lost, lost]
    driver.there = ["b"]
    assert [look(), look()] == [{"gpu1": "", "gpu0": "it is gone"}] * 2, "as it is counted from then on"
    driver.away = True
    assert look() == {"gpu0": "Uninitialized", "gpu1": "Uninitialized"}
    assert look() == dict.fromkeys(well, "Driver/library version mismatch")
    driver.there, driver.lost, driver.away = ["a", "b"], "", False
    assert look() == well
    assert next(iter(asyncio.run(gpus()))) == Gpu("gpu0", "RTX", 1, 10, 40, uuid="a")


def test_a_gpu_that_is_lost_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    driver.lost = "b"
    # there is no GPU here to lose
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert {one.name: one.unanswered for one in asyncio.run(Gpus(Threads())())} == {
        "gpu0": "", "gpu1": "GPU is lost"
    }  # fmt: skip
