# What a configuration comes to: failed assertions, what the generator reads, and what NixOS is told.
{ lib, configurations }:

let
  evaluate =
    configuration:
    let
      evaluated = lib.evalModules {
        modules = [
          ../../nix/module.nix
          ./nixos.nix
          configuration
        ];
      };
      inherit (evaluated) config;
    in
    {
      assertions = map (failed: failed.message) (lib.filter (item: !item.assertion) config.assertions);
      inherit (config.services.rota) declarations;
      units = { inherit (config.services.rota.units) arguments script; };
      inherit (config) systemd system users;
      packages = {
        system = map toString config.environment.systemPackages;
        dbus = map toString config.services.dbus.packages;
      };
    };
in
map evaluate configurations
