"""Install rota in a machine, the way a person does on their own."""

from __future__ import annotations

from tests.machine.machine import Machine
from tests.machine.rootfs import CHECKOUT

NEEDED = ("Makefile", "agents", "share", "src")
SOURCES = "/usr/src/rota"
ACTIVATE = """set -e
systemd-sysusers
systemd-tmpfiles --create
busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig
systemctl daemon-reload
"""


def install_rota(machine: Machine, prefix: str = "/usr", start: bool = True) -> None:
    """Run `make install` in the machine and what it says to do next; bob becomes a member of group rota."""
    machine.copy_in(CHECKOUT, NEEDED, SOURCES)
    machine.run(["make", "--silent", "-C", SOURCES, "install", f"PREFIX={prefix}"])
    machine.run(ACTIVATE)
    if (CHECKOUT / "share" / "rota.sysusers").exists():
        machine.run(["gpasswd", "--add", "bob", "rota"])
    if start and (CHECKOUT / "share" / "rotad.service").exists():
        machine.run(["systemctl", "enable", "--quiet", "--now", "rotad.service"])
