{
  description = "Declared agents as systemd timers and sandboxed services, with a memory of every run";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      forAllSystems =
        f:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: f nixpkgs.legacyPackages.${system});

      rotaFor = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system}.rota;

      vmTestsFor =
        pkgs:
        import ./nixos-tests {
          inherit pkgs;
          module = self.nixosModules.default;
        };
    in
    {
      packages = forAllSystems (pkgs: rec {
        default = rota;
        rota = pkgs.callPackage ./nix/package.nix { };
      });

      overlays.default = final: _prev: {
        rota = final.callPackage ./nix/package.nix { };
      };

      nixosModules = {
        default = self.nixosModules.rota;

        # Builds rota with the nixpkgs of the system it becomes part of. Has a key, so as to be one
        # module however often it is imported.
        rota = {
          _file = ./flake.nix;
          key = "${self.outPath}/flake.nix#nixosModules.rota";
          imports = [
            ./nix/module.nix
            (
              { lib, pkgs, ... }:
              {
                services.rota.package = lib.mkDefault (pkgs.callPackage ./nix/package.nix { });
              }
            )
          ];
        };
      };

      devShells = forAllSystems (pkgs: {
        default = pkgs.mkShellNoCC {
          inputsFrom = [ (rotaFor pkgs) ];
          packages = [
            pkgs.groff
            pkgs.nixfmt
            pkgs.ruff
            pkgs.shellcheck
            pkgs.systemd
            (pkgs.python3.withPackages (python: [
              python.croniter
              python.hypothesis
              python.mypy
              python.pytest
              python.pytest-xdist
              python.shtab
            ]))
          ];
          # The sources under the names that they are installed by, for `pytest` and `python -m rota.cli`.
          shellHook = ''
            if [ -e flake.nix ]; then
              mkdir --parents .cache/nix-develop
              ln --symbolic --force --no-dereference ../../src/rota .cache/nix-develop/rota
              ln --symbolic --force --no-dereference ../../agents .cache/nix-develop/rota_agents
              export PYTHONPATH=$PWD/.cache/nix-develop''${PYTHONPATH:+:$PYTHONPATH}
            fi
          '';
        };
      });

      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree);

      checks = forAllSystems (
        pkgs:
        {
          package = rotaFor pkgs;

          inherit ((rotaFor pkgs).tests) examples;

          formatting =
            let
              nixFiles = lib.fileset.toSource {
                root = ./.;
                fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ./.;
              };
            in
            pkgs.runCommand "rota-formatting" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
              find ${nixFiles} -name '*.nix' -exec nixfmt --check {} +
              touch "$out"
            '';
        }
        // import ./nix/checks.nix {
          inherit pkgs;
          module = self.nixosModules.default;
        }
        // lib.mapAttrs' (name: lib.nameValuePair "vm-${name}") (vmTestsFor pkgs)
      );

      apps = forAllSystems (pkgs: {
        default = {
          type = "app";
          program = lib.getExe (rotaFor pkgs);
          meta.description = "rota's command line";
        };

        demo =
          let
            system = lib.nixosSystem {
              modules = [
                self.nixosModules.default
                ./nix/demo.nix
                { nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system; }
              ];
            };
            demo = pkgs.writeShellApplication {
              name = "rota-demo";
              runtimeInputs = [ pkgs.coreutils ];
              text = ''
                directory=$(mktemp --directory)
                trap 'rm --recursive --force "$directory"' EXIT
                TMPDIR=$directory NIX_DISK_IMAGE=$directory/disk.qcow2 \
                  ${lib.getExe system.config.system.build.vm} "$@"
              '';
            };
          in
          {
            type = "app";
            program = lib.getExe demo;
            meta.description = "A virtual machine with a small house of agents; it leaves nothing behind";
          };

        vm-test = {
          type = "app";
          program = "${(vmTestsFor pkgs).basic.driverInteractive}/bin/nixos-test-driver";
          meta.description = "The machine of the VM test `basic`, driven by hand";
        };
      });
    };
}
