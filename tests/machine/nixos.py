"""A stand-in for NixOS around rota's units, on a booted Debian: unit trees, and switches between them.

What is taken over from NixOS 26.05, and from where in nixpkgs:

- `nixos/lib/systemd-lib.nix`, generateUnits: the files of `systemd.packages` become links, their `*.wants`
  directories and [Install] sections are ignored, files of other directories are linked one by one; a unit
  that a module declares too becomes `NAME.d/overrides.conf`; `wantedBy` becomes a link in `TARGET.wants`.
- `/etc/systemd/system` -> `/etc/static/systemd/system` -> TOPLEVEL/etc/systemd/system -> the unit tree in
  the store. Activation re-points /etc/static, and at its very end /run/current-system.
- `pkgs/by-name/sw/switch-to-configuration-ng/src/main.rs`, do_system_switch, in its order: the lock;
  pre-switch checks; what to do, from the units that are active or activating and whose FragmentPath is below
  /etc/systemd/system, and from the OLD and NEW trees (`plan`); StopUnit each, wait; activation; ResetFailed;
  Reload; RestartUnit of sysinit-reactivation.target, wait; ReloadUnit each, wait; RestartUnit each, sorted,
  wait; StartUnit each, in any order, wait. Each is a D-Bus call and so a transaction of its own, with mode
  `replace`. What an interrupted switch had yet to do is kept in /run/nixos, and done by the next.
- collect_unit_changes, compare_units, handle_modified_unit: `plan`, `differ` and `modified`.

Left out, as nothing of rota's has to do with it: mounts, swap, templates, user managers, what is done about
sockets of services that change, re-execution of systemd, and the quarter of a second that it waits at the end
for failures to report.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.machine.machine import Machine
from tests.machine.rootfs import CHECKOUT

STORE = "/nix/store"
PROFILE = "/nix/var/nix/profiles/system"
UNITS = "etc/systemd/system"
LIB = "lib/systemd/system"
LOCK = "/run/nixos/switch-to-configuration.lock"
REACTIVATION = "sysinit-reactivation.target"

EVALUATED: dict[str, Any] = json.loads((CHECKOUT / "tests/nix/example.json").read_text(encoding="utf-8"))
"""The README's configuration.nix, evaluated with the module: see tests/nix."""

UNITS_OF = f"{STORE}/{'0' * 32}-rota-units"

# Packages in what was evaluated: here they are all of Debian's.
_PACKAGE = re.compile(rf"{STORE}/0{{32}}-[a-z0-9-]+")
_KNOWN = re.compile("description|before|partOf|wantedBy|restartTriggers|path|serviceConfig|script|preStop")
_DEFAULT_PATH = ("coreutils", "findutils", "gnugrep", "gnused", "systemd")

Service = Mapping[str, Any]


@dataclass(frozen=True)
class Module:
    """What the module makes of a configuration beside the units of agents.

    Attributes:
        check: text of system.preSwitchChecks.rota.
        services: systemd.services.
        targets: systemd.targets.
        sockets: systemd.sockets, of units that packages have.
    """

    check: str
    services: Mapping[str, Service]
    targets: Mapping[str, Mapping[str, Any]]
    sockets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_rearm(self, **changed: Any) -> Module:
        """Return a module with another rota-rearm.service."""
        rearm = {**self.services["rota-rearm"], **changed}
        return Module(self.check, {**self.services, "rota-rearm": rearm}, self.targets)


MODULE = Module(
    EVALUATED["system"]["preSwitchChecks"]["rota"],
    EVALUATED["systemd"]["services"],
    EVALUATED["systemd"]["targets"],
)
NO_REARM = Module(
    "true\n", {name: unit for name, unit in MODULE.services.items() if name != "rota-rearm"}, MODULE.targets
)


@dataclass(frozen=True)
class Package:
    """A store path with units in lib/systemd/system, by name."""

    path: str
    units: Mapping[str, str]


@dataclass(frozen=True)
class Toplevel:
    """A system in the store.

    Attributes:
        path: of its directory.
        units: texts below etc/systemd/system, by path; what is a link to /dev/null is not there.
        check: path of its pre-switch check.
    """

    path: str
    units: Mapping[str, str]
    check: str


def store_path(name: str, *content: str) -> str:
    """Return where the store keeps something."""
    return f"{STORE}/{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}-{name}"


def service_text(name: str, service: Service, triggers: Sequence[str], files: dict[str, str]) -> str:
    """Return a service of a module as a unit, and put its scripts into files: serviceToUnit."""
    unit = {
        "Description": service.get("description"),
        "Before": " ".join(service.get("before", ())),
        "PartOf": " ".join(service.get("partOf", ())),
        "X-Restart-Triggers": store_path(f"X-Restart-Triggers-{name}", *triggers) if triggers else None,
    }
    default = [f"{STORE}/{'0' * 32}-{package}" for package in _DEFAULT_PATH]
    path = [*service.get("path", ()), *default]
    search = ":".join(f"{package}/{folder}" for folder in ("bin", "sbin") for package in path)
    keys = {"Environment": f'"PATH={search}" "TZDIR=/usr/share/zoneinfo"', **service.get("serviceConfig", {})}
    for key, kind, text in (("ExecStart", "script", "start"), ("ExecStop", "preStop", "pre-stop")):
        if kind in service:
            script = f"#!/bin/bash\nset -e\n{service[kind]}"
            keys[key] = f"{store_path(f'unit-script-{name}-{text}', script)}/bin/{name}-{text}"
            files[keys[key]] = script

    def section(found: Mapping[str, Any]) -> str:
        texts = {key: str(value).lower() if value is True else value for key, value in found.items()}
        return "".join(f"{key}={value}\n" for key, value in sorted(texts.items()) if value)

    if unknown := [key for key in service if not _KNOWN.fullmatch(key)]:
        raise ValueError(f"{name}: not known here: {', '.join(unknown)}")
    return f"[Unit]\n{section(unit)}\n[Service]\n{section(keys)}"


# --- switch-to-configuration: what to do ------------------------------------------------------------------

Parsed = dict[str, dict[str, list[str]]]

# compare_units, unit_section_ignores; X-Reload-Triggers asks for a reload.
IGNORED = re.compile(
    "X-Reload-Triggers|Description|Documentation|OnFailure|OnSuccess|OnFailureJobMode|IgnoreOnIsolate|"
    "StopWhenUnneeded|RefuseManualStart|RefuseManualStop|AllowIsolate|CollectMode|SourcePath"
)
# cannot_be_restarted_directly
UNTOUCHED = ("sysinit.target", "basic.target", "multi-user.target", "graphical.target")


def parse(text: str, into: Parsed | None = None) -> Parsed:
    """Read a unit file as rust-ini does there: comments behind values fall away, an empty value clears."""
    found: Parsed = {} if into is None else into
    section = ""
    own: dict[tuple[str, str], list[str]] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped[0] == "[":
            section = stripped[1:-1]
            if section != "Install":
                found.setdefault(section, {})
            continue
        key, _, value = stripped.partition("=")
        if value[:1] not in "\"'" or not value:
            value = re.sub(r"\s[#;].*", "", value)
        own.setdefault((section, key.strip()), []).append(value.strip())
    for (section, key), values in own.items():
        if section in ("", "Install"):
            continue
        kept = values[len(values) - values[::-1].index("") :] if "" in values else values
        earlier = [] if "" in values else found[section].get(key, [])
        found[section][key] = [*earlier, *kept]
    return found


def unit_info(units: Mapping[str, str], name: str) -> Parsed:
    """Return a unit with the drop-ins beside it."""
    found = parse(units[name])
    for path in sorted(path for path in units if path.startswith(f"{name}.d/") and path.endswith(".conf")):
        parse(units[path], found)
    return found


def flag(info: Parsed, section: str, key: str, default: bool) -> bool:
    """Return a boolean key: parse_systemd_bool."""
    values = info.get(section, {}).get(key)
    return values[-1] in ("1", "yes", "true", "on") if values else default


def differ(old: Parsed, new: Parsed) -> bool:
    """Tell whether a unit needs a restart: compare_units, without what asks for a reload only."""

    def counted(info: Parsed) -> Parsed:
        sections = {
            name: {
                key: values for key, values in keys.items() if name != "Unit" or not IGNORED.fullmatch(key)
            }
            for name, keys in info.items()
        }
        return {name: keys for name, keys in sections.items() if name != "Unit" or keys}

    return counted(old) != counted(new)


@dataclass
class Actions:
    """What a switch does to units, each a set of names."""

    stop: set[str] = field(default_factory=set)
    reload: set[str] = field(default_factory=set)
    restart: set[str] = field(default_factory=set)
    start: set[str] = field(default_factory=set)
    skip: set[str] = field(default_factory=set)


def modified(unit: str, info: Parsed, actions: Actions) -> None:
    """Decide on a unit that differs: handle_modified_unit."""
    if unit in UNTOUCHED or unit.endswith((".path", ".slice", ".socket")):
        return
    if flag(info, "Service", "X-ReloadIfChanged", False):
        actions.reload.add(unit)
    elif not flag(info, "Service", "X-RestartIfChanged", True) or any(
        flag(info, "Unit", key, False) for key in ("RefuseManualStop", "X-OnlyManualStart")
    ):
        actions.skip.add(unit)
    elif not flag(info, "Service", "X-StopIfChanged", True) or not unit.endswith(".service"):
        actions.restart.add(unit)
    else:
        actions.stop.add(unit)
        actions.start.add(unit)


def plan(old: Mapping[str, str], new: Mapping[str, str], running: Iterable[str], actions: Actions) -> Actions:
    """Return what becomes of units: collect_unit_changes.

    Args:
        old: the unit tree in force.
        new: the one to be.
        running: units that are active or activating, with their files below /etc/systemd/system.
        actions: what an interrupted switch has left to do.
    """
    for unit in running:
        if unit not in old:
            continue
        if unit not in new:
            if flag(unit_info(old, unit), "Unit", "X-StopOnRemoval", True):
                actions.stop.add(unit)
            continue
        info = unit_info(new, unit)
        if unit.endswith(".target"):
            if not any(flag(info, "Unit", key, False) for key in ("RefuseManualStart", "X-OnlyManualStart")):
                actions.start.add(unit)
            if flag(info, "Unit", "X-StopOnReconfiguration", False):
                actions.stop.add(unit)
        elif differ(unit_info(old, unit), info):
            modified(unit, info, actions)
    return actions


# --- switch-to-configuration: doing it --------------------------------------------------------------------

SWITCH = """set -u
mkdir -p /run/nixos
exec 9>>/run/nixos/switch-to-configuration.lock
flock --nonblock 9 || exit 11
toplevel=$1; shift
bus=org.freedesktop.systemd1
manager() { busctl --timeout=180 call $bus /org/freedesktop/systemd1 $bus.Manager "$@"; }
jobs=()
queue() {
  if answer=$(manager "$1" ss "$2" replace 2>&1); then
    answer=${answer#o \\"}; jobs+=("${answer%\\"}")
  elif [ "$1" != StopUnit ]; then
    echo "failed $1 $2: $answer"
  fi
}
settle() {
  for job in "${jobs[@]}"; do
    while busctl --timeout=180 get-property $bus "$job" $bus.Job State >/dev/null 2>&1; do sleep 0.01; done
  done
  jobs=()
}
step() { echo "step $1 $EPOCHREALTIME"; [ "$1" != "${UNTIL-}" ] || exit 0; }
for unit in $2; do echo "$unit"; done >/run/nixos/reload-list
for unit in $3; do echo "$unit"; done >/run/nixos/restart-list
for unit in $4; do echo "$unit"; done >/run/nixos/start-list
step begin
for unit in $1; do queue StopUnit "$unit"; done; settle; step stopped
ln -sfn "$toplevel/etc" /etc/.static && mv -T /etc/.static /etc/static
ln -sfn "$toplevel" /run/current-system; step activated
manager ResetFailed
manager Reload; step reloaded
queue RestartUnit sysinit-reactivation.target; settle; step reactivated
for unit in $2; do queue ReloadUnit "$unit"; done; settle; rm /run/nixos/reload-list
for unit in $3; do queue RestartUnit "$unit"; done; settle; rm /run/nixos/restart-list; step restarted
for unit in $4; do queue StartUnit "$unit"; done; settle; rm /run/nixos/start-list; step started
systemctl list-units --failed --plain --no-legend | sed 's/^/failed /'
"""


@dataclass(frozen=True)
class Switched:
    """What a switch did.

    Attributes:
        actions: to which units.
        steps: the moments, in seconds since 1970, at which its steps were over.
        failed: what it complained of, failed units among it.
    """

    actions: Actions
    steps: Mapping[str, float]
    failed: list[str]


class Nixos:
    """A machine that is laid out as NixOS is."""

    def __init__(self, machine: Machine) -> None:
        """Lay a machine out, with a system in force that has no rota."""
        self.machine = machine
        self._built: set[str] = set()
        base = machine.run(r"cd /etc/systemd/system && find . -type l -printf '%P %l\n'").stdout
        self.base = dict(line.split(" ") for line in base.splitlines() if "rotad" not in line)
        targets = "find . -maxdepth 1 -type f -name '*.target'"
        debian = f"/usr/{LIB}"
        self.systemd = Package(store_path("systemd"), self._texts(debian, targets))
        rotad = {"rotad.service": machine.read(f"{debian}/rotad.service")}
        self.rota = Package(store_path("rota"), rotad)
        for package in (self.systemd, self.rota):
            self._put({f"{package.path}/{LIB}/{name}": text for name, text in package.units.items()}, {})
        found = {*_PACKAGE.findall(json.dumps(EVALUATED)), *_PACKAGE.findall(service_text("x", {}, (), {}))}
        self._put({}, {f"{path}/{folder}": "/usr/bin" for path in found for folder in ("bin", "sbin")})
        machine.write("/usr/lib/tmpfiles.d/nixos.conf", f"L+ /run/current-system - - - - {PROFILE}\n")
        self.system = self.build(None)
        machine.run(
            f"systemctl stop rotad.service; rm {debian}/rotad.service; "
            f"install -d {PROFILE} && rmdir {PROFILE}; "
            f"ln -sfn {self.system.path} {PROFILE}; systemd-tmpfiles --create nixos.conf; "
            f"ln -sfn {self.system.path}/etc /etc/static; rm -rf /{UNITS}; "
            f"ln -s /etc/static/systemd/system /{UNITS}; systemctl daemon-reload"
        )

    def _texts(self, directory: str, find: str = "find . -type f") -> dict[str, str]:
        """Return the texts of the files in a directory, by path."""
        found: dict[str, str] = {}
        said = self.machine.run(f"cd {directory} && {find} -print0 | xargs -0 grep -H ''").stdout
        for line in said.split("\n"):
            path, colon, text = line.partition(":")
            if colon:
                path = path.removeprefix("./")
                found[path] = f"{found.get(path, '')}{text}\n"
        return found

    def _put(self, files: Mapping[str, str], links: Mapping[str, str]) -> None:
        """Write files and links in one go; texts that begin with #! are programs."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for path, text in files.items():
                content = text.encode()
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode = len(content), 0o755 if text.startswith("#!") else 0o644
                archive.addfile(entry, io.BytesIO(content))
            for path, to in links.items():
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.type, entry.linkname = tarfile.SYMTYPE, to
                archive.addfile(entry)
        self.machine.run("tar --directory=/ --extract --overwrite", input=data.getvalue())

    def units(self, config: Mapping[str, Any]) -> Package:
        """Make the units of a configuration, as the module's derivation does."""
        text = json.dumps(config)
        path = store_path("rota-units", text)
        if not self.machine.exists(path):
            source = store_path("rota.json", text)
            self.machine.write(source, text)
            self.machine.run(f"rota --config {source} generate --nixos --output {path}/{LIB}")
        return Package(path, self._texts(f"{path}/{LIB}"))

    def build(self, config: Mapping[str, Any] | None, module: Module = MODULE) -> Toplevel:
        """Make a system.

        Args:
            config: `services.rota.declarations`; None for `enable = false`.
            module: what the module adds.
        """
        always = "[Unit]\nX-StopOnReconfiguration=true\n"
        # nixos/modules/system/boot/systemd.nix; by name, with what wants them.
        declared: dict[str, tuple[str, Sequence[str]]] = {
            REACTIVATION: ("[Unit]\nDescription=Reactivate sysinit units\n", ()),
            "local-fs.target": (always, ()),
            "remote-fs.target": (always, ()),
        }
        files: dict[str, str] = {}
        packages: list[Package] = []
        check = "true\n"
        if config is not None:
            made = self.units(config)
            packages, check = [self.rota, made], module.check
            for name, service in module.services.items():
                triggers = [item.replace(UNITS_OF, made.path) for item in service.get("restartTriggers", ())]
                text = service_text(name, service, triggers, files)
                declared[f"{name}.service"] = (text, service.get("wantedBy", ()))
            for name, target in module.targets.items():
                declared[f"{name}.target"] = ("[Unit]\n", target.get("wantedBy", ()))
            for name, socket in module.sockets.items():
                declared[f"{name}.socket"] = ("[Unit]\n\n[Socket]\n", socket.get("wantedBy", ()))
        script = f"#!/bin/bash\nset -euo pipefail\nif ! (\n{check}) >&2 ; then exit 1; fi\n"
        files[path := store_path("pre-switch-checks", script)] = script
        return self._toplevel(packages, declared, files, path)

    def _toplevel(
        self,
        packages: Sequence[Package],
        declared: Mapping[str, tuple[str, Sequence[str]]],
        files: dict[str, str],
        check: str,
    ) -> Toplevel:
        """Put a unit tree together, as generateUnits does, and a system around it."""
        links = dict(self.base)
        texts: dict[str, str] = {}

        def link(name: str, to: str, text: str) -> None:
            if name in texts:
                raise ValueError(f"{name} is in two packages")
            links[name], texts[name] = to, text

        for name, text in self.systemd.units.items():
            if self.base.get(name) != "/dev/null":
                link(name, f"{self.systemd.path}/{LIB}/{name}", text)
        for package in packages:
            for name, text in package.units.items():
                if not name.partition("/")[0].endswith(".wants"):
                    link(name, f"{package.path}/{LIB}/{name}", text)
        for name, (text, wanted_by) in declared.items():
            path = f"{store_path(f'unit-{name}', text)}/{name}"
            files[path] = text
            link(f"{name}.d/overrides.conf" if name in texts else name, path, text)
            for target in wanted_by:
                links[f"{target}.wants/{name}"] = f"../{name}"
        content = json.dumps([sorted(links.items()), check])
        tree, etc, top = (store_path(name, content) for name in ("system-units", "etc", "nixos-system"))
        all_links = {f"{tree}/{name}": to for name, to in links.items()}
        if top not in self._built:
            self._put(files, {**all_links, f"{etc}/{UNITS}": tree, f"{top}/etc": f"{etc}/etc"})
            self._built.add(top)
        return Toplevel(top, texts, check)

    def check(self, toplevel: Toplevel, action: str = "switch") -> None:
        """Run the pre-switch checks of a system, with the lock held."""
        self.machine.run(
            f"mkdir -p /run/nixos; flock --nonblock {LOCK} {toplevel.check} {toplevel.path} {action}"
        )

    def running(self) -> list[str]:
        """Return the units that a switch looks at."""
        listed = self.machine.run("systemctl list-units --state=active,activating --plain --no-legend").stdout
        names = [line.split()[0] for line in listed.splitlines() if line.split()[0] in self.system.units]
        shown = self.machine.run(["systemctl", "show", "-p", "FragmentPath", *names]).stdout.split()
        return [name for name in names if f"FragmentPath=/{UNITS}/{name}" in shown]

    def _left(self) -> Actions:
        """Return what an interrupted switch has left to do."""
        look = "cd /run/nixos; for name in reload restart start; do echo $(cat $name-list); done"
        return Actions(set(), *(set(line.split()) for line in self.machine.run(look).stdout.split("\n")[:3]))

    def switch(self, toplevel: Toplevel, *, checked: bool = True, until: str = "") -> Switched:
        """Do what `switch-to-configuration switch` does.

        Args:
            toplevel: the system to be.
            checked: False for NIXOS_NO_CHECK=1.
            until: it is killed at the end of this step.
        """
        if checked:
            self.check(toplevel)
        self.machine.run(["ln", "-sfn", toplevel.path, PROFILE])
        actions = plan(self.system.units, toplevel.units, self.running(), self._left())
        start = random.sample(sorted(actions.start), len(actions.start))
        lists = (actions.stop, actions.reload, sorted(actions.restart), start)
        command = ["bash", "-c", SWITCH, "switch", toplevel.path, *(" ".join(units) for units in lists)]
        done = self.machine.run(command, env={"UNTIL": until}, timeout=300)
        if until not in ("begin", "stopped"):
            self.system = toplevel
        said = [line.split(" ", 1) for line in done.stdout.splitlines()]
        steps = dict(rest.split(" ") for kind, rest in said if kind == "step")
        moments = {name: float(moment) for name, moment in steps.items()}
        return Switched(actions, moments, [rest for kind, rest in said if kind == "failed"])
