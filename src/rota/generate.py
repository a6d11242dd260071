"""Declarations to unit files in a directory: built whole, checked, compared, swapped in."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rota import analyze, channels, keeper_units, names, sandbox, units
from rota.errors import DeclarationError, Exit, Problem, RotaError
from rota.load import Loaded, calendar_events, load
from rota.units import Context, UnitFile

Files = dict[str, UnitFile]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_VERIFY = re.compile(r"(?:.*/)?rota-(?P<agent>[a-z0-9-]+)\.(?:service|timer)(?::\d+)?: (?P<text>.*)")
_KEY = re.compile(r"(?:Unknown key(?: name)?|Failed to parse|Invalid) '?(?P<key>[A-Z]\w+)")
_LINKS = (
    f"timers.target.wants/{names.TARGET}",
    f"sockets.target.wants/{names.METRICS_SOCKET}",
    *names.NOTIFY_LINKS,
    names.KEEPER_LINK,
    names.PROXY_LINK,
)
_CALENDAR = re.compile(r"^(OnCalendar=)(.*)$", re.MULTILINE)
_COMMAND = re.compile(r"Command .* is not executable")


def program(name: str) -> str:
    """Return the absolute path of one of rota's own programs, as units are to call it."""
    beside = Path(sys.argv[0]).absolute().with_name(name)
    for candidate in (beside, Path(sys.executable).with_name(name)):
        if candidate.is_file():
            return str(candidate)
    return shutil.which(name) or f"/usr/bin/{name}"


def context(*, user: bool, nixos: bool = False) -> Context:
    """Return what units made on this machine depend on beside their declaration.

    Args:
        user: they are for a user's manager.
        nixos: they are for NixOS, where no directory has programs by itself.
    """
    made = Context(user=user, rota_agent=program("rota-agent"))
    return replace(made, nixos=True, search_path=()) if nixos else made


def checked(config: Path, *, user: bool, nixos: bool = False) -> Loaded:
    """Load a configuration, and let systemd judge what only it can.

    Args:
        config: see `load.load`.
        user: it is for a user's manager.
        nixos: see `load.load`.

    Raises:
        DeclarationError: with every mistake of every declaration.
        RotaError: there is no such configuration, or no systemd-analyze.
    """
    loaded = load(config, nixos=nixos)
    events = calendar_events(loaded)
    errors = analyze.calendar_errors(events) if events else {}
    found = [
        (key.endswith("once") and message == analyze.NEVER, loaded.problem(name, key, message, event))
        for event, message in errors.items()
        for name, key in events[event]
    ]
    problems = [problem for past, problem in found if not past]
    # A date that was in the future when it was declared: the declaration is still right.
    warnings = tuple(problem for past, problem in found if past)
    for declaration in loaded.declarations:
        refused = [*sandbox.impossible(declaration.agent, user=user)]
        refused += sandbox.unreadable(declaration.agent) if nixos else ()
        problems += [loaded.problem(declaration.name, key, reason) for key, reason in refused]
    if user and loaded.settings.keeper.enable:
        file, key = loaded.naming.setting("rota.toml" if config.is_dir() else config.name, "keeper.enable")
        problems.append(Problem(file, key, "is for the whole machine: not with --user"))
    if loaded.problems or problems:
        raise DeclarationError((*loaded.problems, *problems), loaded.declared)
    return replace(loaded, warnings=(*loaded.warnings, *warnings))


def build(loaded: Loaded, made_for: Context) -> Files:
    """Return every unit file of a configuration, by name: a pure function of its arguments."""
    files: Files = {}
    for declaration in loaded.declarations:
        for unit in units.agent_units(declaration, loaded.settings.runners, made_for):
            files[unit.name] = unit
    for unit in units.shared_units(
        target(loaded, files), loaded.settings, loaded.origin, nixos=made_for.nixos
    ):
        files[unit.name] = unit
    for unit in channels.notify_units(
        loaded.settings, loaded.declarations, loaded.origin, user=made_for.user, nixos=made_for.nixos
    ):
        files[unit.name] = unit
    for unit in keeper_units.keeper_units(loaded.settings.keeper, loaded.origin, made_for):
        files[unit.name] = unit
    return files


def target(loaded: Loaded, files: Files) -> UnitFile:
    """Return the target of all timers; see `units.target_unit`."""
    timers = [name for name in files if name.endswith(".timer")]
    agents = [item.name for item in loaded.declarations]
    on_demand = [names.service_of(name) for name in agents if names.timer_of(name) not in files]
    return units.target_unit(timers, on_demand, loaded.origin)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What systemd-analyze verify says of generated units.

    Attributes:
        problems: mistakes that keep the units from working as declared.
        warnings: what may be right on another machine: programs that are not here.
    """

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def _judge(loaded: Loaded, line: str) -> tuple[Problem, bool]:
    """Turn one line of systemd's into a problem of the declaration it comes from."""
    found = _VERIFY.fullmatch(line)
    if found is None or found["agent"] not in loaded.places:
        # systemd reads what units refer to as well: somebody else's mistakes are not the declarations'.
        return Problem(loaded.origin, "", f"systemd: {line}"), True
    if _COMMAND.match(found["text"]):
        return loaded.problem(found["agent"], "command", f"systemd: {found['text']}"), True
    key = _KEY.search(found["text"])
    unit = next(item for item in loaded.declarations if item.name == found["agent"]).agent.sandbox.unit
    path = f"sandbox.unit.{key['key']}" if key and key["key"] in unit else ""
    return loaded.problem(found["agent"], path, f"systemd: {found['text']}"), False


def verify(
    loaded: Loaded, files: Files, only: Iterable[str] | None = None, *, anywhere: bool = False
) -> Verdict:
    """Let systemd read generated units in a directory of their own, all of them or those named.

    Args:
        loaded: the configuration.
        files: its units.
        only: names of units, instead of all.
        anywhere: see `analyze.verify`.
    """
    # Of the socket systemd would only say that its service is not there, where rota is not installed yet.
    beyond = {name for name in files if "/" in name or name == names.METRICS_SOCKET}
    chosen = [name for name in (files if only is None else only) if name in files and name not in beyond]
    if not chosen:
        return Verdict()
    with tempfile.TemporaryDirectory(prefix="rota-verify-") as directory:
        # With the services only their slices: the target would have systemd load every timer there is.
        beside = [name for name in files if name.endswith(".slice") and name not in chosen]
        write_files((_judged(files[name]) for name in (*chosen, *beside)), Path(directory))
        lines = analyze.verify([Path(directory, name) for name in chosen], anywhere=anywhere)
    judged = dict.fromkeys(_judge(loaded, line) for line in lines)
    return Verdict(
        tuple(problem for problem, mild in judged if not mild),
        tuple(problem for problem, mild in judged if mild),
    )


def _judged(file: UnitFile) -> UnitFile:
    """Return a unit as systemd is to judge it: without time zones, which `load` has judged."""
    if not file.name.endswith(".timer"):
        return file
    text = _CALENDAR.sub(lambda found: f"{found[1]}{analyze.without_zone(found[2])}", file.text or "")
    return replace(file, text=text)


def written_by_hand(loaded: Loaded) -> list[str]:
    """Return the services with [Service] keys that rota does not know: systemd has to read them."""
    return [names.service_of(item.name) for item in loaded.declarations if item.agent.sandbox.unit]


def write_files(files: Iterable[UnitFile], directory: Path) -> None:
    """Write files and symlinks into an existing directory."""
    made: set[str] = set()
    base = f"{directory}/"
    for file in files:
        folder, slash, _ = file.name.rpartition("/")
        if slash and folder not in made:
            Path(directory, folder).mkdir(parents=True, exist_ok=True)
            made.add(folder)
        if file.target is not None:
            Path(directory, file.name).symlink_to(file.target)
            continue
        # os.open, because pathlib and io cost more than the write itself over thousands of files.
        descriptor = os.open(base + file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            content = (file.text or "").encode()
            while content:
                content = content[os.write(descriptor, content) :]
        finally:
            os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories atomically (renameat2(2)); False where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return int(libc.renameat2(*arguments)) == 0


def write_directory(files: Files, output: Path) -> None:
    """Put exactly these files into a directory, by writing a new one and swapping the two.

    Raises:
        RotaError: the directory holds something rota did not write, or cannot be written.
    """
    output = output.resolve()
    try:
        if output.exists():
            _only_ours(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        try:
            new.chmod(0o755)
            write_files(files.values(), new)
            if not output.exists():
                new.rename(output)
            elif not _exchange(new, output):
                old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old.", dir=output.parent))
                output.rename(old / "units")
                new.rename(output)
                shutil.rmtree(old)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise RotaError(f"{error.filename or output}: {error.strerror}", exit_code=Exit.FAILED) from None


def _only_ours(directory: Path) -> None:
    if not directory.is_dir():
        raise RotaError(f"{directory} is not a directory", exit_code=Exit.USAGE)
    for path in directory.rglob("*"):
        if not is_ours(path) and not (path.is_dir() and not path.is_symlink()):
            raise RotaError(
                f"{directory} holds {path.name}, which rota did not write",
                "Name a directory of rota's own, or one that does not exist yet.",
                Exit.USAGE,
            )


def is_ours(path: Path) -> bool:
    """Tell whether rota wrote a file or symlink."""
    if path.is_symlink():
        return path.name in {Path(link).name for link in _LINKS} and os.readlink(path) == f"../{path.name}"  # noqa: PTH115
    if not path.is_file():
        return False
    marker = names.RULES_MARKER if path.suffix == ".rules" else names.MARKER
    with path.open("rb") as file:
        return file.read(len(marker)) == marker.encode()


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying would change in a unit directory.

    Attributes:
        files: what is wanted.
        before: texts of rota's files that are there now, by name; a symlink's is "".
        foreign: wanted names that are taken by files rota did not write.
        rules_dir: where rules of polkit are installed; None: not where these are for a user.
    """

    files: Files
    before: Mapping[str, str]
    foreign: tuple[str, ...] = ()
    rules_dir: Path | None = None

    @property
    def added(self) -> list[str]:
        """Names of files that are new."""
        return sorted(set(self.files) - set(self.before))

    @property
    def removed(self) -> list[str]:
        """Names of files that go."""
        return sorted(set(self.before) - set(self.files))

    @property
    def changed(self) -> list[str]:
        """Names of files whose content differs."""
        return sorted(
            name
            for name, text in self.before.items()
            if name in self.files and (self.files[name].text or "") != text
        )

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return not (self.added or self.removed or self.changed)

    def left_failed(self, states: Mapping[str, str]) -> list[str]:
        """Return the units that go and have failed: systemd keeps them in memory, and says it is degraded.

        Args:
            states: active states of loaded units.
        """
        return [name for name in self.removed if states.get(name) == "failed"]

    def after(self, name: str) -> str:
        """Return the text a file will have."""
        return self.files[name].text or "" if name in self.files else ""


def place(name: str, directory: Path, rules_dir: Path | None) -> Path:
    """Return where a file is installed: rules of polkit beside others of theirs, all else with units."""
    if name == names.KEEPER_RULES and rules_dir is not None:
        return rules_dir / Path(name).name
    return directory / name


def compare(files: Files, directory: Path, rules_dir: Path | None = None) -> Plan:
    """Return what would change in a directory, which may hold units of others, and among rules of polkit."""
    before: dict[str, str] = {}
    others = ("rota.slice", names.METRICS_SOCKET, names.NOTIFY_DROP_IN, names.SMART_DROP_IN, *_LINKS)
    units = [*directory.glob("rota-*.*"), *directory.glob("rota-*.d/50-rota.conf")]
    found = {str(path.relative_to(directory)): path for path in units}
    found |= {name: place(name, directory, rules_dir) for name in (*others, names.KEEPER_RULES)}
    for name, path in found.items():
        if is_ours(path):
            before[name] = "" if path.is_symlink() else path.read_text("utf-8", "replace")
    foreign = sorted(
        name for name in files if name not in before and os.path.lexists(place(name, directory, rules_dir))
    )
    return Plan(files, before, tuple(foreign), rules_dir)
