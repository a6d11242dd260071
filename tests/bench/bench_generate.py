"""`rota generate` for 10,000 agents, beside the bare cost of writing the same files and systemd-cron."""

from __future__ import annotations

import json
import marshal
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.common import Cost, cost_of, median, scratch, table, verdict
from tests.machine.machine import BOOT, missing
from tests.machine.rootfs import CACHE, MachineError, debian_mirror, ensure_rootfs

AGENTS = 10_000
ROUNDS = 3
AIM_BARE, AIM_PEER = 3.0, 1.0

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
GENERATOR = "system-generators/systemd-crontab-generator"

# marshal, and nothing imported that it can do without: what is measured is the writing.
BARE = """
import marshal, posix, sys, time
with open(sys.argv[1], "rb") as file:
    files, links, folders = marshal.load(file)
flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
before, start = posix.times(), time.perf_counter()
base = sys.argv[2] + "/"
posix.mkdir(base)
for name in folders:
    posix.mkdir(base + name)
for name, content in files:
    descriptor = posix.open(base + name, flags, 0o644)
    posix.write(descriptor, content)
    posix.close(descriptor)
for name, to in links:
    posix.symlink(to, base + name)
wall, after = time.perf_counter() - start, posix.times()
with open(sys.argv[3], "w") as file:
    file.write(repr([wall, after.user - before.user, after.system - before.system]))
"""

Schedule = tuple[dict[str, Any], str]


def cron_and(fields: str, **more: str) -> Schedule:
    """Return a schedule by cron, for rota and for cron."""
    return {"cron": fields, **more}, fields


def schedule(number: int) -> Schedule:
    """Return one of twenty shapes of schedule, with the line of a crontab that comes nearest."""
    minute, hour, day = number // 20 % 60, number // 7 % 24, number % 28 + 1
    span = (5, 10, 15, 20, 30)[minute % 5]
    shapes: tuple[Callable[[], Schedule], ...] = (
        *[lambda: cron_and(f"{minute} {hour} * * *")] * 4,
        lambda: cron_and(f"*/{span} * * * *"),
        lambda: cron_and(f"{minute} {hour} * * MON-FRI"),
        lambda: cron_and(f"{minute} 8-18/2 * * *"),
        lambda: cron_and(f"{minute} {hour} {day} */3 *"),
        lambda: cron_and(f"{minute} {hour} 1,15 * FRI"),
        lambda: ({"cron": "@daily"}, "0 0 * * *"),  # systemd-cron would make one of all @daily
        lambda: cron_and(f"{minute} {hour} * * SUN", timezone="Europe/Rome"),
        lambda: cron_and(f"{minute} {hour} * * *", jitter="10min"),
        *[lambda: ({"every": f"{span}min"}, f"*/{span} * * * *")] * 3,
        lambda: ({"every": "6h", "after_boot": "2min"}, f"{minute} */6 * * *"),
        *[lambda: ({"calendar": f"Mon..Fri *-*-* {hour:02}:{minute:02}:00"}, f"{minute} {hour} * * 1-5")] * 2,
        lambda: ({"once": f"2199-03-{day:02} {hour:02}:{minute:02}"}, f"{minute} {hour} {day} 3 *"),
        lambda: ({"on_boot": "2min"}, "@reboot"),
    )
    return shapes[number % len(shapes)]()


def declaration(number: int, *, by_hand: bool) -> dict[str, Any]:
    """Return an agent's declaration: a fifth opens its sandbox somewhere."""
    agent: dict[str, Any] = {
        "description": f"Duty number {number}",
        "command": ["/usr/bin/true"],
        "schedule": schedule(number)[0],
    }
    sandbox: dict[str, Any] = {}
    if number % 6 == 0:
        sandbox["network"] = True if number % 12 else ["10.0.0.0/8", "192.168.0.0/16"]
    if number % 9 == 0:
        sandbox["writable"] = [f"/srv/job/{number}"]
        sandbox["readable"] = ["/home/ada/notes"]
    if by_hand and number % 100 == 1:
        sandbox["unit"] = {"MemoryDenyWriteExecute": False}
    if sandbox:
        agent["sandbox"] = sandbox
    if number % 4 == 0:
        agent["timeout"] = "30min"
        agent["priority"] = ("low", "high", "background")[number % 3]
    if number % 8 == 0:
        agent["resources"] = {"memory": "512M", "cpu": "50%"}
    if number % 10 == 0:
        agent["environment"] = {"LANG": "C.UTF-8", "WORK": f"/srv/job/{number}"}
    if number % 5 == 0 and "cron" in agent["schedule"]:
        agent["catch_up"] = {"mode": "once"}
    return agent


def toml(value: object) -> str:
    """Return a value as TOML writes it inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


@dataclass(frozen=True)
class Inputs:
    """The same agents in each form."""

    json: Path
    by_hand: Path
    toml: Path
    crontab: Path


def make_inputs(base: Path) -> Inputs:
    """Write the agents down."""
    found = Inputs(base / "agents.json", base / "by-hand.json", base / "toml", base / "crontab")
    agents = {f"duty-{number:05}": declaration(number, by_hand=False) for number in range(AGENTS)}
    by_hand = {f"duty-{number:05}": declaration(number, by_hand=True) for number in range(AGENTS)}
    found.json.write_text(json.dumps({"agents": agents}), encoding="utf-8")
    found.by_hand.write_text(json.dumps({"agents": by_hand}), encoding="utf-8")
    folder = found.toml / "agents.d"
    folder.mkdir(parents=True)
    for name, agent in agents.items():
        text = "".join(f"{key} = {toml(value)}\n" for key, value in agent.items())
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    lines = [f"{schedule(number)[1]} root /usr/bin/true\n" for number in range(AGENTS)]
    found.crontab.write_text("".join(lines), encoding="utf-8")
    return found


def read_units(directory: Path) -> tuple[list[tuple[str, bytes]], list[tuple[str, str]], list[str]]:
    """Return files, symlinks and directories below a directory."""
    files, links, folders = [], [], []
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            links.append((name, str(path.readlink())))
        elif path.is_dir():
            folders.append(name)
        else:
            files.append((name, path.read_bytes()))
    return files, links, folders


def package(suite: str) -> Path | None:
    """Return where systemd-cron of a Debian release is unpacked (never installed), None if it is not had."""
    home = CACHE / f"systemd-cron-{suite}"
    root = home / "root"
    if root.is_dir():
        return root
    try:
        shutil.rmtree(home, ignore_errors=True)
        for folder in ("lists/partial", "archives/partial"):
            (home / folder).mkdir(parents=True)
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        (home / "sources").write_text(f"deb {signed}{debian_mirror()} {suite} main\n", encoding="utf-8")
        settings = {
            "Dir::Etc::SourceList": home / "sources",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": home / "lists",
            "Dir::Cache": home,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
        for command in (["update"], ["download", "systemd-cron"]):
            subprocess.run([*apt, *command], cwd=home, check=True, capture_output=True)
        (deb,) = home.glob("*.deb")
        subprocess.run(["dpkg", "-x", deb, root.with_suffix(".new")], check=True, capture_output=True)
    except (OSError, ValueError, subprocess.CalledProcessError, MachineError) as error:
        print(f"systemd-cron of {suite} is not compared: {error}", file=sys.stderr)
        return None
    root.with_suffix(".new").rename(root)
    shutil.rmtree(home / "lists")
    return root


Run = Callable[[Path], Cost]


@dataclass(frozen=True)
class Subject:
    """One thing that writes units into a fresh directory."""

    name: str
    run: Run


def rota(config: Path) -> Run:
    """Return `rota generate` on a configuration."""
    program = Path(sys.executable).with_name("rota")
    # Byte-compiled before, as it is where it is installed; out of the way of others in this checkout.
    compiled = {"PYTHONPYCACHEPREFIX": str(config.with_name("compiled"))}

    def run(output: Path) -> Cost:
        command: list[str | Path] = [program, "--config", config, "generate", "--output", output]
        return cost_of(command, output.parent, env=compiled)

    return run


def bare(units: Path) -> Run:
    """Return the bare writing of units that are in memory already."""

    def run(output: Path) -> Cost:
        figures = units.with_suffix(".figures")
        whole = cost_of([sys.executable, "-I", "-S", "-c", BARE, units, output, figures], output.parent)
        wall, user, system = json.loads(figures.read_text(encoding="ascii"))
        return Cost(wall, user, system, whole.peak)

    return run


def cron_in_python(root: Path, crontab: Path, base: Path) -> Run:
    """Return systemd-cron 1 (Python; Debian 12), its fixed paths turned to a directory of ours."""
    etc = base / "cron-python"
    for folder in ("etc", "run/systemd", "var/spool/cron/crontabs"):
        (etc / folder).mkdir(parents=True)
    shutil.copy(crontab, etc / "etc/crontab")
    source = next(root.rglob(GENERATOR)).read_text(encoding="utf-8")
    for folder in ("/etc/", "/run/", "/var/spool/"):
        source = source.replace(f"'{folder}", f"'{etc}{folder}")
    program = etc / "generator.py"
    program.write_text(source, encoding="utf-8")

    def run(output: Path) -> Cost:
        output.mkdir()
        return cost_of([sys.executable, "-W", "ignore", program, output], output.parent)

    return run


def cron_in_cpp(root: Path, crontab: Path, base: Path) -> Run:
    """Return systemd-cron 2 (C++; Debian 13), in a private view of the test machine's file system."""
    rootfs = ensure_rootfs()
    view = base / "cron-cpp"
    for folder in ("disk", "root", "bin"):
        (view / folder).mkdir(parents=True)
    shutil.copy(next(root.rglob(GENERATOR)), view / "bin/generator")
    prepare = (
        'mkdir -p "$machine/root/srv/out" "$machine/root/srv/bin" "$machine/root/var/spool/cron/crontabs"'
    )
    mounts = (
        'mount --bind "$OUT" "$machine/root/srv/out"; mount --bind "$machine/bin" "$machine/root/srv/bin"; '
        'cp "$CRONTAB" "$machine/root/etc/crontab"; exec chroot "$machine/root" "$@"'
    )
    text = BOOT.replace('exec "$@"', f"{prepare}; {mounts}")
    prefix = ["unshare", "--mount", "sh", "-c", text, "boot", str(rootfs), str(view), "yes", ""]

    def run(output: Path) -> Cost:
        output.mkdir()
        return cost_of(
            ["/srv/bin/generator", "/srv/out"],
            Path("/"),
            prefix=prefix,
            python="/usr/bin/python3",
            env={"OUT": str(output), "CRONTAB": str(crontab)},
        )

    return run


def version(root: Path) -> str:
    """Return the version of an unpacked package."""
    (deb,) = root.parent.glob("*.deb")
    return deb.name.split("_")[1]


def subjects(base: Path) -> list[Subject]:
    """Return what is compared; the first is rota on JSON, the second the bare cost."""
    inputs = make_inputs(base)
    first = base / "first"
    rota(inputs.json)(first)
    units = base / "units"
    units.write_bytes(marshal.dumps(read_units(first)))
    found = [
        Subject("rota, one JSON file", rota(inputs.json)),
        Subject("bare writing of the same", bare(units)),
        Subject(f"rota, {AGENTS} TOML files", rota(inputs.toml)),
        Subject("rota, JSON, 1% sandbox.unit", rota(inputs.by_hand)),
    ]
    old, new = package("bookworm"), package("trixie")
    if old is not None:
        label = f"systemd-cron {version(old)} (Python)"
        found.append(Subject(label, cron_in_python(old, inputs.crontab, base)))
    if new is not None and missing() is None:
        label = f"systemd-cron {version(new)} (C++)"
        found.append(Subject(label, cron_in_cpp(new, inputs.crontab, base)))
    return found


def count(directory: Path) -> tuple[int, int]:
    """Return how many files and symlinks are below a directory, and how many bytes in the files."""
    files, links, _ = read_units(directory)
    return len(files) + len(links), sum(len(content) for _, content in files)


def report(costs: Mapping[str, Sequence[Cost]], written: Mapping[str, tuple[int, int]]) -> None:
    """Print the table and how rota stands to the others."""
    names = list(costs)

    def ratio(one: str, other: str) -> float:
        return median([a.wall / b.wall for a, b in zip(costs[one], costs[other], strict=True)])

    bare_name = names[1]
    rows = []
    for name, found in costs.items():
        wall = median([cost.wall for cost in found])
        rows.append(
            (
                name,
                f"{wall:.2f}",
                f"{median([cost.user for cost in found]):.2f}",
                f"{median([cost.system for cost in found]):.2f}",
                f"{median([cost.peak for cost in found]) / 1024:.0f}",
                str(written[name][0]),
                f"{written[name][1] / 2**20:.1f}",
                f"{wall / AGENTS * 1e6:.0f}",
                f"{wall / written[name][0] * 1e6:.0f}",
                f"{ratio(name, bare_name):.2f}",
            )
        )
    headers = ("", "wall s", "user s", "sys s", "peak MiB", "files", "MiB", "us/agent", "us/file", "x bare")
    title = f"{AGENTS} agents, median of {ROUNDS} interleaved rounds, Python {platform.python_version()}"
    table(title, headers, rows)
    for name in (names[0], names[2]):
        verdict(f"{name} / bare writing", ratio(name, bare_name), AIM_BARE)
    for peer in names[4:]:
        per_file = ratio(names[0], peer) * written[peer][0] / written[names[0]][0]
        verdict(f"{names[0]} / {peer}, per agent", ratio(names[0], peer), AIM_PEER)
        verdict(f"{names[0]} / {peer}, per file", per_file, AIM_PEER)


def main() -> None:
    with scratch() as base:
        chosen = subjects(base)
        costs: dict[str, list[Cost]] = {subject.name: [] for subject in chosen}
        written: dict[str, tuple[int, int]] = {}
        for turn in range(ROUNDS):
            for number, subject in enumerate(chosen):
                # kept until the end; see scratch()
                output = base / f"out-{turn}-{number}"
                costs[subject.name].append(subject.run(output))
                if subject.name not in written:
                    written[subject.name] = count(output)
        report(costs, written)


if __name__ == "__main__":
    main()
