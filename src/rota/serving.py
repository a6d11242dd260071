"""What settings turn on beside agents: stopped with its old unit in place, started with the new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from rota.errors import RotaError
from rota.names import (
    KEEPER_DROP_IN,
    KEEPER_SERVICE,
    METRICS_SERVICE,
    METRICS_SOCKET,
    NOTIFY_DROP_IN,
    NOTIFY_SERVICE,
    PROXY_DROP_IN,
    PROXY_SERVICE,
    PROXY_SOCKET,
    SMART_DROP_IN,
    SMART_SERVICE,
    SMART_TIMER,
)
from rota.systemd import Systemd

_STOPPED = ("inactive", "failed")


METRICS = (METRICS_SOCKET, METRICS_SERVICE)
"""systemd starts no socket whose service is running, with what the socket was before."""
NOTIFY = (NOTIFY_SERVICE,)
MADE_OF: Mapping[str, tuple[str, ...]] = {
    METRICS_SOCKET: METRICS,
    NOTIFY_DROP_IN: NOTIFY,
    PROXY_DROP_IN: (PROXY_SOCKET, PROXY_SERVICE),
    SMART_DROP_IN: (SMART_TIMER, SMART_SERVICE),
    KEEPER_DROP_IN: (KEEPER_SERVICE,),
}
"""By the file that turns them on: units that are stopped when it changes, of which the first is started."""


async def release(systemd: Systemd, units: Iterable[str], before: str | None, after: str | None) -> None:
    """Stop units, if what they are made of is about to change or to go.

    Args:
        systemd: the manager.
        units: a row of MADE_OF.
        before: the text of the file that is in place; None if there is none.
        after: of that which is to be.
    """
    if before is None or before == after:
        return
    for unit in units:
        state = (await systemd.loaded(unit)).get(unit, "inactive")
        if state not in _STOPPED:
            await systemd.settle(partial(systemd.stop, unit), unit)
        elif state == "failed":
            await systemd.reset_failed(unit)


_WITHOUT = {
    METRICS_SOCKET: ("metrics are not served", "Is the address taken? See "),
    NOTIFY_SERVICE: ("nobody is told of runs", "See "),
    PROXY_SOCKET: ("the Home Keeper cannot ask Docker", "See "),
    SMART_TIMER: ("no drive is asked for its diagnosis", "See "),
    KEEPER_SERVICE: ("the Home Keeper does not watch", "See "),
}


async def start(systemd: Systemd, unit: str) -> None:
    """Start the first unit of a row of MADE_OF, if it is not; to be called when systemd has read it.

    Raises:
        RotaError: it does not start.
    """
    result = await systemd.settle(partial(systemd.start, unit), unit)
    if result != "done":
        what, hint = _WITHOUT[unit]
        raise RotaError(
            f"agents are applied, but {what}: {unit} did not start ({result})",
            f"{hint}systemctl status {unit}.",
        )
