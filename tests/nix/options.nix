# Every option of services.rota, as nixpkgs's own documentation describes them; also what is inside hidden ones.
{ lib }:

let
  evaluated = lib.evalModules {
    modules = [
      ../../nix/module.nix
      ./nixos.nix
    ];
  };

  shown = lib.optionAttrSetToDocList { inherit (evaluated.options.services) rota; };

  inside =
    option:
    map (found: found // { visible = false; }) (
      lib.optionAttrSetToDocList (option.type.getSubOptions option.loc)
    );

  agent = evaluated.options.services.rota.agents.type.getSubOptions [
    "services"
    "rota"
    "agents"
  ];

  hidden = lib.filter (option: lib.isOption option && !(option.visible or true)) (
    lib.attrValues (removeAttrs agent [ "_module" ])
  );
in
map (option: removeAttrs option [ "declarations" ]) (shown ++ lib.concatMap inside hidden)
