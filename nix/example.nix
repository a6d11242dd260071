# configuration.nix, beside what you have there already
{ lib, pkgs, ... }:
{
  services.rota = {
    enable = true;

    agents.backup-check = {
      description = "The newest backup is less than a day old";
      command = [
        "/bin/sh"
        "-c"
        "find /srv/backup -name '*.tar.zst' -mtime -1 | grep -q ."
      ];
      schedule = {
        every = "5min";
        afterBoot = "1min";
      };
      timeout = "1min";
      priority = "background";
      resources.memory = "64M";
    };

    # How prompts run, and an agent that is one.
    runners.aichat.command = [
      (lib.getExe pkgs.aichat)
      "--file"
      "/srv/repo"
      "{prompt}"
    ];
    agents.weekly-audit = {
      description = "Audit the repository";
      prompt = "Name what the documentation promises and the code does not keep.";
      runner = "aichat";
      schedule = {
        cron = "0 9 * * MON";
        timezone = "Europe/Rome";
      };
      catchUp.mode = "once"; # if the machine was off then: one run when it is on again
      path = [ pkgs.git ];
      environmentFiles = [ "/run/secrets/aichat.env" ]; # a path; never the secret itself
      sandbox = {
        network = true; # closed unless opened here
        writable = [ "/srv/repo" ];
      };
    };

    # Who is told when something fails, and when it is well again; of other events, see settings.routes.
    settings.channels.ops.url = "/run/secrets/ops-url"; # a file with an apprise URL
    agents.backup-check.notify.channels = [ "ops" ];

    # An agent that comes with rota, and one key of it changed.
    settings.bundled = [ "disk-report" ];
    agents.disk-report.schedule.every = "1h";
  };

  # Members of the group may start, stop and pause agents; everyone may look.
  users.users.ada.extraGroups = [ "rota" ];
}
