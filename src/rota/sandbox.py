"""The strict sandbox as a table of [Service] keys, and what each opening changes in it.

The keys are those of systemd.exec(5) and systemd.resource-control(5); the aim is what
`systemd-analyze security` calls OK: an exposure of 1.5 or less where a bare service has 9.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rota.model import Agent, Resources, Sandbox

Keys = dict[str, tuple[str, ...]]
"""[Service] keys with their values: one line each; ("",) resets a list."""

_ANY_MANAGER: Mapping[str, tuple[str, ...]] = {
    "NoNewPrivileges": ("yes",),
    "ProtectSystem": ("strict",),
    "PrivateTmp": ("yes",),
    "PrivateNetwork": ("yes",),
    "PrivateUsers": ("yes",),
    "ProtectKernelTunables": ("yes",),
    "ProtectControlGroups": ("yes",),
    "RestrictAddressFamilies": ("AF_UNIX",),
    "RestrictNamespaces": ("yes",),
    "RestrictRealtime": ("yes",),
    "RestrictSUIDSGID": ("yes",),
    "LockPersonality": ("yes",),
    "MemoryDenyWriteExecute": ("yes",),
    "SystemCallArchitectures": ("native",),
    "SystemCallFilter": ("@system-service", "~@privileged @resources"),
    "SystemCallErrorNumber": ("EPERM",),
    "UMask": ("0077",),
}
# What only the system manager can do: it takes privileges that a user's manager has not.
_SYSTEM_MANAGER: Mapping[str, tuple[str, ...]] = {
    "DynamicUser": ("yes",),
    "CapabilityBoundingSet": ("",),
    "AmbientCapabilities": ("",),
    "DevicePolicy": ("closed",),
    "IPAddressDeny": ("any",),
    "KeyringMode": ("private",),
    "PrivateDevices": ("yes",),
    "PrivateIPC": ("yes",),
    "ProcSubset": ("pid",),
    "ProtectClock": ("yes",),
    "ProtectHome": ("yes",),
    "ProtectHostname": ("yes",),
    "ProtectKernelLogs": ("yes",),
    "ProtectKernelModules": ("yes",),
    "ProtectProc": ("invisible",),
    "RemoveIPC": ("yes",),
}

_HOMES = ("/home", "/root", "/run/user")


def _under_home(path: str) -> bool:
    return any(path == home or path.startswith(f"{home}/") for home in _HOMES)


def quote(word: str) -> str:
    """Return a word of a list value such as ReadWritePaths=, quoted where systemd.syntax(7) needs it."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{word}"' if not word or any(char in word for char in " \t\\\"':") else word


def _paths(sandbox: Sandbox) -> Keys:
    """Open paths; those under ProtectHome= are bound into an empty home instead."""
    keys: Keys = {}
    outside = tuple(quote(path) for path in sandbox.writable if not _under_home(path))
    if outside:
        keys["ReadWritePaths"] = outside
    bound = tuple(quote(path) for path in sandbox.writable if _under_home(path))
    read = tuple(quote(path) for path in sandbox.readable if _under_home(path))
    if bound or read:
        keys["ProtectHome"] = ("tmpfs",)
    if bound:
        keys["BindPaths"] = bound
    if read:
        keys["BindReadOnlyPaths"] = read
    return keys


def _network(sandbox: Sandbox, *, user: bool) -> Keys:
    if sandbox.network is False:
        return {}
    # getaddrinfo() and interface listings need netlink.
    keys: Keys = {
        "PrivateNetwork": ("no",),
        "RestrictAddressFamilies": ("AF_UNIX AF_INET AF_INET6 AF_NETLINK",),
    }
    if not user:
        keys["IPAccounting"] = ("yes",)
    keys["IPAddressDeny"] = () if sandbox.network is True else ("any",)
    if isinstance(sandbox.network, tuple):
        keys["IPAddressAllow"] = sandbox.network
    return keys


def _identity(sandbox: Sandbox) -> Keys:
    keys: Keys = {}
    if sandbox.user is not None:
        keys |= {"DynamicUser": (), "User": (sandbox.user,)}
    if sandbox.groups:
        keys["SupplementaryGroups"] = (" ".join(sandbox.groups),)
    if sandbox.devices:
        keys |= {
            "PrivateDevices": ("no",),
            "DeviceAllow": tuple(f"{quote(path)} rw" for path in sandbox.devices),
        }
    return keys


def _unit_value(value: bool | int | str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    return value if isinstance(value, tuple) else (str(value),)


def service_keys(sandbox: Sandbox, *, user: bool = False) -> Keys:
    """Return the [Service] keys of an agent's sandbox, sorted by name.

    Args:
        sandbox: what the declaration opens.
        user: for the user manager, where only what needs no privilege is available.
    """
    keys: Keys = dict(_ANY_MANAGER)
    if user:
        keys["ProtectHome"] = ("read-only",)
    else:
        keys |= _SYSTEM_MANAGER
    keys |= _network(sandbox, user=user) | _identity(sandbox)
    keys |= {"ReadWritePaths": tuple(map(quote, sandbox.writable))} if user else _paths(sandbox)
    keys |= {name: _unit_value(value) for name, value in sandbox.unit.items()}
    return {name: values for name, values in sorted(keys.items()) if values}


def resource_keys(resources: Resources) -> Keys:
    """Return the [Service] keys of an agent's limits."""
    table = {"MemoryMax": resources.memory, "CPUQuota": resources.cpu, "TasksMax": resources.tasks}
    return {name: (str(value),) for name, value in table.items() if value is not None}


# What a declaration may hold that a user's manager has not the privilege to do.
_SYSTEM_ONLY: Mapping[str, str] = {
    "user": "your agents run as you",
    "groups": "your agents have your groups",
    "devices": "your agents have your devices",
}


def impossible(agent: Agent, *, user: bool) -> Iterator[tuple[str, str]]:
    """Yield the keys of a right declaration that cannot work here, each with the reason.

    Args:
        agent: the declaration.
        user: it is for the user manager.
    """
    box = agent.sandbox
    if user:
        for key, reason in _SYSTEM_ONLY.items():
            if getattr(box, key):
                yield f"sandbox.{key}", f"not with --user: {reason}"
        if isinstance(box.network, tuple):
            yield "sandbox.network", "not a list with --user: only the system manager filters addresses"
        return
    if "ProtectHome" in box.unit:
        return
    opened = (*box.writable, *box.readable)
    programs = [
        ("working_directory", agent.working_directory),
        ("command", (agent.command or ("",))[0]),
        *((f"path[{index}]", path) for index, path in enumerate(agent.path)),
    ]
    for key, path in programs:
        if path and _under_home(path) and not any(_is_below(path, top) for top in opened):
            yield key, f"{path} is hidden from it; add the folder to sandbox.readable or sandbox.writable"


def _is_below(path: str, top: str) -> bool:
    return f"{path}/".startswith(f"{top.rstrip('/')}/")


def unreadable(agent: Agent) -> Iterator[tuple[str, str]]:
    """Yield the keys whose values NixOS could not read when it compares units, each with the reason.

    Its switch-to-configuration takes a value that begins with a quote for a quoted one, and fails as a
    whole where the quote is not closed in that line.
    """
    for name, value in agent.sandbox.unit.items():
        for line in _unit_value(value):
            if line[:1] in ("'", '"') and line.count(line[0]) < 2:
                yield (
                    f"sandbox.unit.{name}",
                    f"begins with a {line[0]} that is not closed: NixOS cannot read it",
                )
