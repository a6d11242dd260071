"""Home Keeper beside the agents: its line below `rota list`, and what who takes it for an agent is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from rota.errors import Exit, RotaError
from rota.names import KEEPER_AGENT, KEEPER_SERVICE
from rota.output import Cell
from rota.quantity import USEC, format_duration
from rota.systemd import Systemd

_STATUS = f"systemctl status {KEEPER_SERVICE}"
_LET_BE = f"Write: rota keeper maintenance 2h, to have it do nothing; or systemctl stop {KEEPER_SERVICE}."
_INSTEAD: Mapping[str, str] = {
    "show": f"See rota keeper, and {_STATUS}.",
    "why": "Write: rota keeper explain TARGET.",
    "run": f"It runs all the time, where it is enabled: see rota keeper, and {_STATUS}.",
    "stop": _LET_BE,
    "pause": _LET_BE,
    "resume": "Write: rota keeper resume TARGET, or rota keeper maintenance --end.",
    "logs": f"Write: journalctl -u {KEEPER_SERVICE}.",
    "runs": "What it found and did: rota keeper history.",
    "stats": "What it found and did: rota keeper history.",
    "export": "What it found and did: rota --json keeper history.",
}
"""By verb, what to write instead. `rota events` is not among them: of it, rotad has events."""


def check(verb: str) -> None:
    """Refuse a verb about agents that was asked about Home Keeper, whose unit is called like an agent's.

    Raises:
        RotaError: it is a verb that knows agents only.
    """
    if verb in _INSTEAD:
        raise RotaError(f"{KEEPER_AGENT} is no agent, but Home Keeper itself", _INSTEAD[verb], Exit.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Glance:
    """What systemd says of it.

    Attributes:
        active: its ActiveState=.
        since: when it became active, microseconds since 1970.
        said: its own status, as "2 findings, 1 question open".
    """

    active: str
    since: int = 0
    said: str = ""

    def line(self, now: int) -> Cell:
        """Return it in words; `now` in microseconds since 1970."""
        if self.active == "active":
            span = format_duration(max(now - self.since, USEC) // USEC * USEC, 1)
            said = f"; {self.said}" if self.said else ""
            return f"Home Keeper: running for {span}{said} (rota keeper).", ""
        if self.active == "activating":
            return f"Home Keeper: starting ({_STATUS}).", "yellow"
        return f"Home Keeper: not running, {self.active} ({_STATUS}).", "red"


async def look(systemd: Systemd) -> Glance | None:
    """Return what systemd says of Home Keeper, None if it is not enabled or systemd does not answer."""
    try:
        active, since, said = await asyncio.gather(
            systemd.unit_property(KEEPER_SERVICE, "ActiveState"),
            systemd.unit_property(KEEPER_SERVICE, "ActiveEnterTimestamp"),
            systemd.unit_property(KEEPER_SERVICE, "StatusText", "Service"),
        )
        if active != "active" and not await systemd.wanted(KEEPER_SERVICE):
            return None
    except RotaError:
        return None
    return Glance(str(active), int(since), str(said))
