"""Random calls to the keeper's object: always a right answer, never a lost connection, nothing acted on.

ROTA_FUZZ=N draws others.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from pathlib import Path
from typing import Any

from dbus_next.constants import MessageType
from rota_agents.home_keeper.desk import METHODS

from tests.bus.keeper_kit import DOOR, Caller, Door, kept, rules, watching

_ERROR = re.compile(r"org\.(freedesktop\.DBus\.Error|rota1\.Error)\.[A-Z][A-Za-z]+")
_VALUES: dict[str, list[Any]] = {
    "s": [
        *(
            "",
            DOOR,
            "*",
            ":",
            "unit:",
            "unit:*",
            "unit:x.service",
            "check:ledger",
            "%s%n",
            "\n",
            "wäsche:ü",
            "?:?",
        ),
        *("unit:" + "a*" * 40 + "b", "unit:" + "x" * 5000, "\U0001f6aa:\ud7ff"),
    ],
    "b": [True, False],
    "u": [0, 1, 50, 2**31, 2**32 - 1],
    "t": [0, 1, 2, 7, 2**31, 2**63 - 1, 2**63, 2**64 - 1],
    "x": [0, 1, -1, 2**63 - 1, -(2**63)],
}


def test_whatever_is_asked_is_answered(private_bus: str, tmp_path: Path) -> None:
    async def main() -> None:
        with kept(tmp_path, private_bus, rules(), watching(door=Door())) as keeper:
            caller = await Caller.on(private_bus)
            await caller.there()
            for _ in range(600):
                name = dice.choice(sorted(METHODS))
                body = [dice.choice(_VALUES[kind]) for _, kind in METHODS[name].arguments]
                reply = await caller.ask(name, METHODS[name].signature, *body)
                if reply.message_type is MessageType.ERROR:
                    assert _ERROR.fullmatch(reply.error_name)
                    assert "failed; see journalctl" not in reply.body[0], (name, body, reply.body)
                else:
                    assert reply.signature == METHODS[name].result, name
            assert (await caller.told("Explain", "s", "unit:" + "x" * 507))["target"]
            name, text = await caller.error("Explain", "s", "unit:" + "x" * 508)
            assert name.endswith(".InvalidArgs") and "is no target" in text and len(text) < 300
            for signature in ("", "s", "tt"):
                wrong = [dice.choice(_VALUES[kind]) for kind in signature]
                assert (await caller.error("Nonsense", signature, *wrong))[0].endswith("UnknownMethod")
                assert (await caller.error("Approve", signature, *wrong))[0].endswith("InvalidArgs")
            assert (await caller.told("Status"))["targets"]
            assert keeper.rows("SELECT count(*) FROM actions") == [(0,)]

    dice = random.Random(int(os.environ.get("ROTA_FUZZ", "1")))  # noqa: S311
    asyncio.run(main())
