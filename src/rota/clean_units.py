"""What root hands to the units that Home Keeper may start: rules of cleaning, and declared commands.

Who starts such a unit can tell it nothing but, of a disk, where it is mounted; and that has to be one that is
watched. All else comes from the declaration, by way of files that only root writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rota.clean_rules import CLEAN_UNIT, COMMAND_UNIT, CREDENTIAL, PREVIEW_UNIT, CleanRules, to_json
from rota.cleaning import KeeperCommand
from rota.model import Sandbox
from rota.sandbox import quote, service_keys
from rota.units import NIXOS_ENVIRONMENT, Context, UnitFile, command_line, made_file, quote_argument

DROP_INS = tuple(f"{unit.format('')}.d/50-rota.conf" for unit in (CLEAN_UNIT, PREVIEW_UNIT))
"""For rota-clean@.service, and for its preview, which is given no path to write to."""
_JOURNALS = "/var/log/journal"
_PROFILES = "/nix/var/nix/profiles"
"""The store itself is nix-daemon's to write to."""


def writable(rules: CleanRules) -> tuple[str, ...]:
    """Return where rota-clean has to write, and nowhere else."""
    found = [
        *(rules.tmp.paths if rules.tmp is not None else ()),
        *((_JOURNALS,) if rules.journal is not None else ()),
        *((_PROFILES,) if rules.nix is not None else ()),
        *(one.path for one in rules.paths),
    ]
    return tuple(dict.fromkeys(found))


def clean_units(rules: CleanRules, source: str) -> list[UnitFile]:
    """Return the drop-ins that make rota-clean@.service work: its rules, and where it may write.

    Args:
        rules: what may be cleaned.
        source: the configuration.
    """
    # Of its value systemd undoes what is escaped as in C, but expands no % (systemd.exec(5), SetCredential=).
    told = to_json(rules).replace("\\", "\\\\")
    credential = f"SetCredential={CREDENTIAL}:{told}"
    # A directory that is not there is no reason not to clean the others.
    paths = [f"ReadWritePaths={quote(f'-{path}')}" for path in writable(rules)]
    clean, preview = DROP_INS
    return [
        UnitFile(clean, made_file(source, "\n".join(["[Service]", credential, *paths]))),
        UnitFile(preview, made_file(source, "\n".join(["[Service]", credential]))),
    ]


def _environment(command: KeeperCommand, context: Context) -> Iterator[str]:
    variables = {**(NIXOS_ENVIRONMENT if context.nixos else {}), **command.environment}
    for name, value in sorted(variables.items()):
        yield f"Environment={quote_argument(f'{name}={value}')}"


def _service(name: str, command: KeeperCommand, context: Context) -> Iterator[str]:
    lines = {
        "Type": "oneshot",
        "ExecStart": command_line(list(command.command)),
        "TimeoutStartSec": command.timeout,
        "TimeoutStopSec": "30s",
        "Slice": "rota-medium.slice",
        "SyslogIdentifier": f"rota-command-{name}",
    }
    yield from (f"{key}={value}" for key, value in lines.items() if key not in command.unit)
    yield from _environment(command, context)
    box = Sandbox(
        network=command.network, writable=command.writable, user=command.user, unit=dict(command.unit)
    )
    for key, values in service_keys(box).items():
        yield from (f"{key}={value}" for value in values)


def command_unit(name: str, command: KeeperCommand, source: str, context: Context) -> UnitFile:
    """Return the unit of a declared command, sandboxed as an agent is; nothing starts it by itself.

    Args:
        name: the command's.
        command: what was declared.
        source: the configuration.
        context: what units depend on beside it.
    """
    plain = (command.description or f"Command {name} of Home Keeper").replace("%", "%%")
    about = [
        "[Unit]",
        f"Description={plain}",
        # How often it is run is the policy's business, and what became of it is read from its job.
        "StartLimitIntervalSec=0",
        "CollectMode=inactive-or-failed",
    ]
    if command.network is not False:
        about += ["Wants=network-online.target", "After=network-online.target"]
    service = ["[Service]", *_service(name, command, context), "X-RestartIfChanged=false"]
    text = made_file(source, "\n".join(about), "\n".join(service))
    return UnitFile(COMMAND_UNIT.format(name), text)


def command_units(commands: Mapping[str, KeeperCommand], source: str, context: Context) -> Iterable[UnitFile]:
    """Return the units of all declared commands."""
    return [command_unit(name, one, source, context) for name, one in sorted(commands.items())]
