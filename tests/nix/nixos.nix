# What services.rota needs of NixOS, without NixOS: the options it sets, of any type, and packages in name only.
{ lib, ... }:

let
  anything = lib.mkOption {
    type = lib.types.anything;
    default = { };
  };

  list = lib.mkOption {
    type = lib.types.listOf lib.types.unspecified;
    default = [ ];
  };

  package = name: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
  };
in
{
  options = {
    assertions = list;
    environment.systemPackages = list;
    security.polkit.enable = lib.mkEnableOption "polkit";
    services.dbus.packages = list;
    system.preSwitchChecks = anything;
    systemd = {
      package = lib.mkOption { default = package "systemd"; };
      packages = list;
      services = anything;
      sockets = anything;
      targets = anything;
    };
    users.groups = anything;
    users.users = anything;
  };

  config._module.args.pkgs =
    lib.genAttrs [
      "bash"
      "coreutils"
      "findutils"
      "git"
      "gnugrep"
      "gnused"
      "restic"
      "rota"
      "tzdata"
      "util-linux"
    ] package
    // {
      aichat = package "aichat" // {
        meta.mainProgram = "aichat";
      };
      claude-code = package "claude-code" // {
        meta.mainProgram = "claude";
      };
      formats.json = _: {
        # The real one refuses more; the values themselves pass through.
        type = lib.types.anything;
        generate = name: _: package name;
      };
      runCommand =
        name: arguments: script:
        package name // { inherit arguments script; };
    };
}
