"""The keeper's check of rotad, over a private bus: what it reads, and what silence is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agents.home_keeper.checks.upkeep import Agent
from agents.home_keeper.probes.services import RotadProbe
from rota.systemd import connect
from tests.bus.house import NAMES, House, meeting
