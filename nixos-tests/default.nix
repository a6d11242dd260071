# VM tests, each of a promise of the README: NAME.nix is the machine and its agents, NAME.py what is done to them.
{ pkgs, module }:

pkgs.lib.genAttrs
  [
    "basic"
    "home-keeper"
    "recovery"
    "sandbox"
    "switch"
  ]
  (
    name:
    pkgs.testers.runNixOSTest {
      imports = [ ./${name}.nix ];
      name = "rota-${name}";
      defaults = {
        imports = [ module ];
        services.rota.enable = true;
      };
    }
  )
