"""What settings make of rotad-notify: a drop-in that hands it rules and the URLs of channels, as credentials.

systemd reads the URLs, as root, and nobody but rotad-notify sees them (systemd.exec(5), LoadCredential=).
Where the file of one is missing, rotad-notify starts all the same: the others are not to suffer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rota import model, names
from rota.quantity import parse_duration
from rota.routes import OWN, digest
from rota.settings import Settings
from rota.units import UnitFile, made_file

RULES = "rules"
"""Name of the credential with the rules; a channel's is `channel.NAME`."""
LARGEST = 2**62
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _span(text: str) -> int:
    return min(parse_duration(text), LARGEST)


def _rate(rate: model.Rate) -> list[int]:
    return [rate.messages, _span(rate.per)]


def _route(route: model.Route) -> dict[str, Any]:
    table: dict[str, Any] = {
        "channels": list(route.channels),
        "on": list(route.on),
        "agents": list(route.agents),
        "tags": list(route.tags),
        "severity": route.severity,
        "group": _span(route.group),
        "rate": _rate(route.rate) if route.rate else None,
        "quiet": list(route.quiet),
    }
    return {"name": digest(table), **table}


def _own(declarations: Iterable[model.Declaration]) -> list[dict[str, Any]]:
    """Return what agents say themselves as routes, one for all that say the same."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for declaration in declarations:
        notify = declaration.agent.notify
        if notify is not None:
            alike.setdefault((notify.channels, notify.on), []).append(declaration.name)
    return [
        {"name": f"{OWN}:{number}", "channels": list(channels), "on": list(on), "agents": sorted(agents)}
        for number, ((channels, on), agents) in enumerate(sorted(alike.items()))
    ]


def rules(settings: Settings, declarations: Iterable[model.Declaration]) -> dict[str, Any]:
    """Return what rotad-notify is to know, for `routes.from_json`; what agents say comes first."""
    declared = list(declarations)
    wanted = {tag for route in settings.routes for tag in route.tags}
    facts: dict[str, dict[str, Any]] = {}
    for declaration in declared:
        tags = sorted(wanted & set(declaration.agent.tags))
        critical = declaration.agent.priority == "critical"
        if tags or critical:
            facts[declaration.name] = {"tags": tags, "critical": critical}
    return {
        "channels": {
            name: {"rate": _rate(channel.rate), "expiry": _span(channel.expiry)}
            for name, channel in settings.channels.items()
        },
        "routes": [*_own(declared), *map(_route, settings.routes)],
        "agents": facts,
    }


def _credentials(channels: Mapping[str, model.Channel], told: str) -> list[str]:
    lines = []
    for name, channel in sorted(channels.items()):
        path = channel.url.replace("%", "%%")
        # A comment if the file cannot be read: where there is such a default, that is not fatal.
        lines += [f"LoadCredential=channel.{name}:{path}", f"SetCredential=channel.{name}:#"]
    return [*lines, f"SetCredential={RULES}:{told}"]


def notify_units(
    settings: Settings,
    declarations: Iterable[model.Declaration],
    source: str,
    *,
    user: bool,
    nixos: bool,
) -> list[UnitFile]:
    """Return what makes rotad-notify run: nothing where there are no channels.

    Args:
        settings: channels and routes.
        declarations: of agents.
        source: the configuration.
        user: for a user's manager.
        nixos: the module enables the service; NixOS passes over the links of packages.
    """
    if not settings.channels:
        return []
    told = _JSON.encode(rules(settings, declarations)).replace("\\", "\\\\")
    section = "\n".join(["[Service]", *_credentials(settings.channels, told)])
    files = [UnitFile(names.NOTIFY_DROP_IN, made_file(source, section))]
    if not nixos:
        link = names.NOTIFY_LINKS[1 if user else 0]
        files.append(UnitFile(link, target=f"../{names.NOTIFY_SERVICE}"))
    return files
