"""What [keeper] makes: drop-ins with configs and secrets, links, rules for polkit, units of commands.

systemd reads the secrets, as root, and hands them over as credentials (systemd.exec(5), LoadCredential=).
Where the file of one is missing, the keeper starts all the same, and the check that needs it says so.
"""

from __future__ import annotations

from rota import clean_declared, keeper_config, keeper_parts, keeper_polkit, names
from rota.clean_units import clean_units, command_units
from rota.container_watches import PROXY, proxy, to_json
from rota.keeper_config import CREDENTIAL, Config
from rota.settings import HomeKeeper
from rota.units import Context, UnitFile, made_file


def _credentials(config: Config) -> list[str]:
    lines = []
    for name, path in sorted(config.credentials.items()):
        # A blank line as the default, because systemd takes no less: a missing file is not fatal then.
        lines += [f"LoadCredential={name}:{path.replace('%', '%%')}", rf"SetCredential={name}:\n"]
    told = keeper_config.to_json(config).replace("\\", "\\\\")
    return [*lines, f"SetCredential={CREDENTIAL}:{told}"]


def _proxy_units(config: Config, docker: str, source: str, context: Context) -> list[UnitFile]:
    """Return what makes rota-docker-proxy run: nothing where the keeper asks no engine through it."""
    engine = next((one for one in config.containers.engines if one.socket == PROXY), None)
    if engine is None:
        return []
    told = to_json(proxy(config.rules, docker, engine.name)).replace("\\", "\\\\")
    files = [UnitFile(names.PROXY_DROP_IN, made_file(source, f"[Service]\nSetCredential=proxy:{told}"))]
    if not context.nixos:
        files.append(UnitFile(names.PROXY_LINK, target=f"../{names.PROXY_SOCKET}"))
    return files


def _smart_units(config: Config, source: str) -> list[UnitFile]:
    """Return how often drives are asked for their own diagnosis: nothing where they are not."""
    interval = config.watches.smart_interval
    timer = f"[Timer]\nOnUnitInactiveSec={interval}us"
    return [UnitFile(names.SMART_DROP_IN, made_file(source, timer))] if interval else []


def keeper_units(keeper: HomeKeeper, source: str, context: Context) -> list[UnitFile]:
    """Return what makes the Home Keeper run: nothing where it is not enabled.

    Args:
        keeper: what is declared.
        source: the configuration.
        context: what units depend on beside it. On NixOS the module enables services, not links.
    """
    if not keeper.enable:
        return []
    config = keeper_parts.resolve(keeper)
    sections = ["\n".join(["[Service]", *_credentials(config)])]
    if config.watches.smart_interval:
        sections.insert(0, f"[Unit]\nWants={names.SMART_TIMER}")
    files = [
        UnitFile(names.KEEPER_DROP_IN, made_file(source, *sections)),
        UnitFile(names.KEEPER_RULES, keeper_polkit.text(config, source)),
        *_smart_units(config, source),
        *_proxy_units(config, keeper.containers.docker, source, context),
        *clean_units(clean_declared.resolve(keeper, config.watches), source),
        *command_units(keeper.commands, source, context),
    ]
    if not context.nixos:
        files.append(UnitFile(names.KEEPER_LINK, target=f"../{names.KEEPER_SERVICE}"))
    return files
