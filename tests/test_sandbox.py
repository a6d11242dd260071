"""The sandbox: closed by default, opened key by key and no further."""

from __future__ import annotations

from typing import Any

import pytest

from rota.model import Agent, Resources, Sandbox
from rota.sandbox import Keys, impossible, quote, resource_keys, service_keys

DEFAULT = service_keys(Sandbox())
NEEDS_PRIVILEGE = {
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "DevicePolicy",
    "DynamicUser",
    "IPAddressDeny",
    "PrivateDevices",
    "ProtectClock",
    "ProtectKernelModules",
    "ProtectProc",
}

# What each opening changes against the default, and nothing else: None is a key that goes.
OPENINGS: list[tuple[dict[str, Any], dict[str, tuple[str, ...] | None]]] = [
    ({}, {}),
    ({"network": False}, {}),
    (
        {"network": True},
        {
            "PrivateNetwork": ("no",),
            "RestrictAddressFamilies": ("AF_UNIX AF_INET AF_INET6 AF_NETLINK",),
            "IPAccounting": ("yes",),
            "IPAddressDeny": None,
        },
    ),
    (
        {"network": ["192.0.2.0/24", "localhost"]},
        {
            "PrivateNetwork": ("no",),
            "RestrictAddressFamilies": ("AF_UNIX AF_INET AF_INET6 AF_NETLINK",),
            "IPAccounting": ("yes",),
            "IPAddressAllow": ("192.0.2.0/24", "localhost"),
        },
    ),
    ({"writable": ["/srv/a", "/srv/b c"]}, {"ReadWritePaths": ("/srv/a", '"/srv/b c"')}),
    ({"writable": ["/home/ada"]}, {"ProtectHome": ("tmpfs",), "BindPaths": ("/home/ada",)}),
    ({"readable": ["/srv/a"]}, {}),
    ({"readable": ["/run/user/1000"]}, {"ProtectHome": ("tmpfs",), "BindReadOnlyPaths": ("/run/user/1000",)}),
    ({"devices": ["/dev/null"]}, {"PrivateDevices": ("no",), "DeviceAllow": ("/dev/null rw",)}),
    ({"user": "ada"}, {"DynamicUser": None, "User": ("ada",)}),
    ({"groups": ["video", "audio"]}, {"SupplementaryGroups": ("video audio",)}),
    ({"unit": {"MemoryDenyWriteExecute": False}}, {"MemoryDenyWriteExecute": ("no",)}),
    ({"unit": {"PrivateNetwork": True, "Nice": -5}}, {"Nice": ("-5",)}),
    ({"unit": {"SystemCallFilter": ["@basic-io"]}}, {"SystemCallFilter": ("@basic-io",)}),
    ({"unit": {"SystemCallFilter": []}}, {"SystemCallFilter": None}),
    ({"unit": {"ProtectHome": "read-only"}, "writable": ["/home/a"]}, {"ProtectHome": ("read-only",)}),
]


def changes(keys: Keys) -> dict[str, tuple[str, ...] | None]:
    names = {*keys, *DEFAULT}
    return {name: keys.get(name) for name in names if keys.get(name) != DEFAULT.get(name)}


@pytest.mark.parametrize(("written", "expected"), OPENINGS)
def test_an_opening_opens_what_it_says(written: dict[str, Any], expected: dict[str, Any]) -> None:
    found = changes(service_keys(Sandbox.model_validate(written)))
    if "writable" in written and "unit" in written:
        assert found.pop("BindPaths") == ("/home/a",)
    assert found == expected


def test_keys_are_sorted_and_none_is_empty() -> None:
    assert list(DEFAULT) == sorted(DEFAULT)
    assert all(DEFAULT.values())


def test_a_user_manager_gets_no_key_that_needs_privilege() -> None:
    user = service_keys(Sandbox(), user=True)
    assert not NEEDS_PRIVILEGE & set(user)
    assert set(DEFAULT) >= NEEDS_PRIVILEGE
    assert {key: DEFAULT[key] for key in user if key != "ProtectHome"} == {
        key: value for key, value in user.items() if key != "ProtectHome"
    }
    assert user["ProtectHome"] == ("read-only",)
    opened = service_keys(Sandbox(writable=("/home/ada/x", "/srv")), user=True)
    assert opened["ReadWritePaths"] == ("/home/ada/x", "/srv")


def test_a_network_list_never_opens_more_than_it_says() -> None:
    for user in (False, True):
        keys = service_keys(Sandbox(network=("10.0.0.0/8",)), user=user)
        assert (keys["IPAddressDeny"], keys["IPAddressAllow"]) == (("any",), ("10.0.0.0/8",))


def test_quote() -> None:
    quoted = {
        "/plain": "/plain",
        "": '""',
        "/a b": '"/a b"',
        '/a"b': '"/a\\"b"',
        "/a'b": '"/a\'b"',
        "/a\\b": '"/a\\\\b"',
        "/a:b": '"/a:b"',
        "/100%": "/100%%",
        "/é": "/é",
    }
    assert {word: quote(word) for word in quoted} == quoted


def test_resources() -> None:
    assert resource_keys(Resources()) == {}
    assert resource_keys(Resources(memory="512M", cpu="50%", tasks=64)) == {
        "MemoryMax": ("512M",),
        "CPUQuota": ("50%",),
        "TasksMax": ("64",),
    }


HIDDEN = "is hidden from it; add the folder to sandbox.readable or sandbox.writable"
# What one manager or the other cannot do: a declaration, whose manager, the keys it is told of.
IMPOSSIBLE: list[tuple[dict[str, Any], bool, dict[str, str]]] = [
    ({}, False, {}),
    ({}, True, {}),
    ({"sandbox": {"user": "ada", "groups": ["disk"], "devices": ["/dev/fuse"]}}, False, {}),
    (
        {"sandbox": {"user": "ada", "groups": ["disk"], "devices": ["/dev/fuse"], "network": ["::1"]}},
        True,
        {
            "sandbox.user": "not with --user: your agents run as you",
            "sandbox.groups": "not with --user: your agents have your groups",
            "sandbox.devices": "not with --user: your agents have your devices",
            "sandbox.network": "not a list with --user: only the system manager filters addresses",
        },
    ),
    ({"working_directory": "/home/ada/x"}, False, {"working_directory": f"/home/ada/x {HIDDEN}"}),
    ({"working_directory": "/home/ada/x"}, True, {}),
    ({"working_directory": "/home/ada/x", "sandbox": {"writable": ["/home/ada/x"]}}, False, {}),
    ({"working_directory": "/home/ada/x", "sandbox": {"readable": ["/home/ada"]}}, False, {}),
    (
        {"working_directory": "/home/adam", "sandbox": {"readable": ["/home/ada"]}},
        False,
        {"working_directory": f"/home/adam {HIDDEN}"},
    ),
    ({"path": ["/opt", "/home/ada/bin"]}, False, {"path[1]": f"/home/ada/bin {HIDDEN}"}),
    ({"command": ["/home/ada/run"]}, False, {"command": f"/home/ada/run {HIDDEN}"}),
    ({"command": ["/home/ada/run"], "sandbox": {"unit": {"ProtectHome": False}}}, False, {}),
    ({"working_directory": "/srv"}, False, {}),
]


@pytest.mark.parametrize(("written", "user", "told"), IMPOSSIBLE)
def test_what_a_manager_cannot_do_is_refused(
    written: dict[str, Any], user: bool, told: dict[str, str]
) -> None:
    agent = Agent.model_validate({"command": ["/bin/true"], **written})
    assert dict(impossible(agent, user=user)) == told
