# Agents are declared, timers start them, rotad records them, and who may manage them is who should.
{
  nodes.machine =
    { lib, pkgs, ... }:
    {
      services.rota = {
        settings.bundled = [ "disk-report" ];

        runners.parrot.command = [
          (lib.getExe' pkgs.coreutils "echo")
          "you said:"
          "{prompt}"
        ];

        agents = {
          # One key of an agent that comes with rota: the disk of who runs this test may be full.
          disk-report.command = [
            "rota-agent"
            "disk-report"
            "--warn-percent"
            "100"
          ];

          heartbeat = {
            command = [
              "/bin/sh"
              "-c"
              "echo beat"
            ];
            schedule = {
              every = "5s";
              afterBoot = "2s";
            };
          };

          weekly = {
            command = [ (lib.getExe' pkgs.coreutils "true") ];
            schedule = [
              {
                cron = "0 9 * * MON";
                timezone = "Europe/Rome";
              }
              { calendar = "Sat *-*-* 12:00:00"; }
            ];
            catchUp.mode = "once";
          };

          # On demand.
          parrot = {
            prompt = "audit $everything, 100%";
            runner = "parrot";
          };
          broken.command = [
            "/bin/sh"
            "-c"
            "echo cannot >&2; exit 3"
          ];
        };
      };

      users.users.alice.isNormalUser = true;
      users.users.bob = {
        isNormalUser = true;
        extraGroups = [ "rota" ];
      };
    };

  testScript = builtins.readFile ./house.py + builtins.readFile ./basic.py;
}
