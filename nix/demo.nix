# A virtual machine with a small house of agents, for somebody who wants to see one: `nix run .#demo`.
{
  config,
  lib,
  modulesPath,
  pkgs,
  ...
}:

let
  sh = script: [
    "/bin/sh"
    "-c"
    script
  ];
in
{
  imports = [ "${modulesPath}/virtualisation/qemu-vm.nix" ];

  services.rota = {
    enable = true;

    settings.bundled = [
      "disk-report"
      "journal-digest"
    ];

    runners.parrot.command = [
      (lib.getExe' pkgs.coreutils "echo")
      "If I were a language model, I would:"
      "{prompt}"
    ];

    agents = {
      heartbeat = {
        description = "Shows that the house is alive";
        command = sh "echo beat";
        schedule = {
          every = "10s";
          afterBoot = "5s";
        };
        priority = "background";
      };

      broken = {
        description = "Fails each time";
        command = sh "echo I cannot go on >&2; exit 3";
        schedule.every = "1min";
      };

      too-slow = {
        description = "Takes longer than it may";
        command = sh "sleep 60";
        timeout = "3s";
      };

      nightly = {
        description = "Runs at night, in Rome";
        command = sh "echo buona notte";
        schedule = {
          cron = "0 3 * * *";
          timezone = "Europe/Rome";
        };
        catchUp.mode = "once";
      };

      thinker = {
        description = "A prompt instead of a command";
        prompt = "audit the repository";
        runner = "parrot";
      };

      prisoner = {
        description = "Tries to break out of its sandbox";
        command = [
          (lib.getExe pkgs.python3)
          "-B"
          "${../tests/machine/demo/escape}"
        ];
        path = [ config.services.rota.package ];
      };
    };
  };

  networking.hostName = "rota-demo";

  users.users.ada = {
    isNormalUser = true;
    extraGroups = [
      "rota"
      "systemd-journal"
      "wheel"
    ];
  };
  # There is no way in but the console.
  services.getty.autologinUser = "ada";
  security.sudo.wheelNeedsPassword = false;

  users.motd = ''

    A house of agents. You are ada, of the group rota; sudo asks for no password.

      systemctl list-timers 'rota-*'           agents are timers and services of systemd
      rota list                                what they do, and what came of it
      rota run --wait thinker                  start one
      rota run --wait prisoner                 one that tries to break out
      rota run --wait too-slow; echo $?        one that takes too long
      rota runs                                every run; then: rota show RUN, rota logs RUN
      rota pause heartbeat --why 'too loud'    and: rota resume heartbeat
      sudo systemctl kill --signal KILL rotad  what happens meanwhile is recorded, too
      systemctl cat rota-heartbeat             what has been made of a declaration
      man rota

    sudo poweroff, or Ctrl-a x, ends it all.

  '';

  virtualisation = {
    cores = 2;
    graphics = false;
  };

  documentation.nixos.enable = false;
  system.stateVersion = lib.trivial.release;
}
