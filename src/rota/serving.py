"""The socket that metrics are served at: stopped with its old unit in place, started with the new one."""

from __future__ import annotations

from functools import partial

from rota.errors import RotaError
from rota.names import METRICS_SERVICE, METRICS_SOCKET
from rota.systemd import Systemd

_STOPPED = ("inactive", "failed")


async def release(systemd: Systemd, before: str | None, after: str | None) -> None:
    """Stop the socket and the service at it, if its unit is about to change or to go.

    systemd starts no socket whose service is running, with what the socket was before.

    Args:
        systemd: the manager.
        before: the text of the unit that is in place; None if there is none.
        after: of that which is to be.
    """
    if before is None or before == after:
        return
    for unit in (METRICS_SOCKET, METRICS_SERVICE):
        state = (await systemd.loaded(unit)).get(unit, "inactive")
        if state not in _STOPPED:
            await systemd.settle(partial(systemd.stop, unit), unit)
        elif state == "failed":
            await systemd.reset_failed(unit)


async def start(systemd: Systemd) -> None:
    """Start the socket, if it does not listen; to be called when systemd has read its unit.

    Raises:
        RotaError: it does not start.
    """
    result = await systemd.settle(partial(systemd.start, METRICS_SOCKET), METRICS_SOCKET)
    if result != "done":
        raise RotaError(
            f"agents are applied, but metrics are not served: {METRICS_SOCKET} did not start ({result})",
            f"Is the address taken? See systemctl status {METRICS_SOCKET}.",
        )
