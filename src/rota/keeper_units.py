"""What [keeper] makes: a drop-in with the Home Keeper's config and secrets, its link, its rules for polkit.

systemd reads the secrets, as root, and hands them over as credentials (systemd.exec(5), LoadCredential=).
Where the file of one is missing, the keeper starts all the same, and the check that needs it says so.
"""

from __future__ import annotations

from rota import keeper_config, keeper_parts, keeper_polkit, names
from rota.keeper_config import CREDENTIAL, Config
from rota.settings import HomeKeeper
from rota.units import UnitFile, made_file


def _credentials(config: Config) -> list[str]:
    lines = []
    for name, path in sorted(config.credentials.items()):
        # A blank line as the default, because systemd takes no less: a missing file is not fatal then.
        lines += [f"LoadCredential={name}:{path.replace('%', '%%')}", rf"SetCredential={name}:\n"]
    told = keeper_config.to_json(config).replace("\\", "\\\\")
    return [*lines, f"SetCredential={CREDENTIAL}:{told}"]


def keeper_units(keeper: HomeKeeper, source: str, *, nixos: bool) -> list[UnitFile]:
    """Return what makes the Home Keeper run: nothing where it is not enabled.

    Args:
        keeper: what is declared.
        source: the configuration.
        nixos: the module enables the service; NixOS passes over the links of packages.
    """
    if not keeper.enable:
        return []
    config = keeper_parts.resolve(keeper)
    section = "\n".join(["[Service]", *_credentials(config)])
    files = [
        UnitFile(names.KEEPER_DROP_IN, made_file(source, section)),
        UnitFile(names.KEEPER_RULES, keeper_polkit.text(config, source)),
    ]
    if not nixos:
        files.append(UnitFile(names.KEEPER_LINK, target=f"../{names.KEEPER_SERVICE}"))
    return files
