# Checks of the module, with real packages: for `nix flake check`.
{
  pkgs,
  module,
}:

let
  inherit (pkgs) lib;

  # The README's configuration, and what a system needs to be one.
  house =
    (pkgs.nixos {
      imports = [
        module
        ./example.nix
      ];
      boot.isContainer = true;
      users.users.ada.isNormalUser = true;
      system.stateVersion = lib.trivial.release;
    }).config;

  options = import ../tests/nix/options.nix { inherit lib; };
in
{
  # Builds the units of the README's configuration: evaluated, generated, verified by systemd.
  module-evaluation =
    assert lib.all (item: item.assertion) house.assertions;
    assert !lib.any (lib.hasInfix "rota") house.warnings;
    pkgs.runCommand "rota-module-evaluation" { } ''
      units=${house.system.build.etc}/etc/systemd/system
      for unit in rota-backup-check.{service,timer} rota-weekly-audit.{service,timer} rota-agents.target rotad.service; do
        test -e "$units/$unit" || { echo "$unit is missing" >&2; exit 1; }
      done
      test -e "$units/timers.target.wants/rota-agents.target"
      touch "$out"
    '';

  option-docs =
    pkgs.runCommand "rota-option-docs"
      {
        nativeBuildInputs = [ pkgs.python3 ];
        options = builtins.toJSON options;
        passAsFile = [ "options" ];
      }
      ''
        python3 ${../docs/nixos.py} "$optionsPath" | diff ${../docs/nixos.md} - ||
          { echo "docs/nixos.md is stale; run: make docs" >&2; exit 1; }
        touch "$out"
      '';
}
