# services.rota: agents as systemd timers and sandboxed services, with a memory of every run.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;

  cfg = config.services.rota;

  rotaTypes = import ./types.nix { inherit lib; };
  declaration = import ./declaration.nix { inherit lib; };
  keeper = import ./keeper.nix { inherit lib rotaTypes; };
  json = pkgs.formats.json { };

  # What NixOS gives to every service that it makes itself.
  defaultPath = [
    pkgs.coreutils
    pkgs.findutils
    pkgs.gnugrep
    pkgs.gnused
    config.systemd.package
  ];

  agent = types.submodule (import ./agent.nix { inherit lib rotaTypes defaultPath; });

  runner = types.submodule {
    options = {
      command = mkOption {
        type = types.nonEmptyListOf types.str;
        example = lib.literalExpression ''[ (lib.getExe pkgs.claude-code) "-p" "{prompt}" ]'';
        description = "Program and arguments; `{prompt}` is replaced by the agent's prompt.";
      };
      environment = mkOption {
        type = types.attrsOf types.str;
        default = { };
        example = {
          LANG = "C.UTF-8";
        };
        description = "Environment variables for its agents.";
      };
    };
  };

  rate = types.submodule {
    options = {
      messages = mkOption {
        type = types.ints.between 1 10000;
        example = 10;
        description = "So many messages.";
      };
      per = mkOption {
        type = rotaTypes.duration;
        example = "1h";
        description = "In any such span.";
      };
    };
  };

  channel = types.submodule {
    options = {
      url = mkOption {
        type = types.externalPath;
        example = "/run/secrets/ops-url";
        description = "A file that holds one apprise URL, which is a secret: systemd reads it, so it may be root's alone.";
      };
      rate = {
        messages = mkOption {
          type = types.ints.between 1 10000;
          default = 30;
          example = 10;
          description = "The most messages in any span of {option}`per`, whatever they are about; what is held back goes out in one when there is room.";
        };
        per = mkOption {
          type = rotaTypes.duration;
          default = "1h";
          example = "10min";
          description = "In any such span.";
        };
      };
      expiry = mkOption {
        type = rotaTypes.duration;
        default = "2d";
        example = "6h";
        description = "A message that cannot be sent for so long is given up.";
      };
    };
  };

  route = types.submodule {
    options = {
      channels = mkOption {
        type = types.nonEmptyListOf rotaTypes.agentName;
        example = [ "ops" ];
        description = "Names of channels.";
      };
      on = mkOption {
        type = types.listOf rotaTypes.happening;
        default = [
          "failure"
          "recovery"
          "missed"
          "escalation"
        ];
        example = [ "failure" ];
        description = "What is told.";
      };
      agents = mkOption {
        type = types.listOf rotaTypes.pattern;
        default = [ ];
        example = [ "backup-*" ];
        description = "Names of agents, with * and ?; none: all, and what is about none.";
      };
      tags = mkOption {
        type = types.listOf rotaTypes.tag;
        default = [ ];
        example = [ "backup" ];
        description = "Agents with any of these tags; none: all.";
      };
      severity = mkOption {
        type = types.enum [
          "info"
          "warning"
          "critical"
        ];
        default = "info";
        example = "warning";
        description = ''
          This or worse. A success is info; a failure, its recovery, and missed slots are warning, and critical of
          agents of critical priority; the keeper says its own.
        '';
      };
      group = mkOption {
        type = rotaTypes.duration;
        default = "30s";
        example = "1min";
        description = "What happens within this after the first is one message.";
      };
      rate = mkOption {
        type = types.nullOr rate;
        default = null;
        example = {
          messages = 10;
          per = "1h";
        };
        description = "The most messages by this route to each channel.";
      };
      quiet = mkOption {
        type = types.listOf rotaTypes.quietHours;
        default = [ ];
        example = [ "22:30-07:00" ];
        description = "Hours, in local time, in which only what is critical is told.";
      };
    };
  };

  # Where a switch leaves word of the system that is to be, for rota-rearm.
  nextSystem = "/run/rota-next-system";

  # What switch-to-configuration locks while it is at work.
  switchLock = "/run/nixos/switch-to-configuration.lock";
in
{
  options.services.rota = {
    enable = lib.mkEnableOption "rota, which runs declared agents and records every run";

    package = lib.mkPackageOption pkgs "rota" { };

    settings = mkOption {
      type = types.submodule {
        freeformType = json.type;
        options = {
          bundled = mkOption {
            type = types.listOf rotaTypes.agentName;
            default = [ ];
            example = [ "disk-report" ];
            description = "Agents that come with rota and are to be enabled; change their keys in {option}`services.rota.agents`.";
          };
          channels = mkOption {
            type = types.attrsOf channel;
            default = { };
            example = {
              ops.url = "/run/secrets/ops-url";
            };
            description = "Where people are told, by name.";
          };
          routes = mkOption {
            type = types.listOf route;
            default = [ ];
            example = [
              {
                channels = [ "ops" ];
                on = [
                  "failure"
                  "recovery"
                ];
              }
            ];
            description = "What is told by which channels; of several that lead to one channel, the first counts.";
          };
          metrics.listen = mkOption {
            type = types.listOf rotaTypes.listenAddress;
            default = [ ];
            example = [ "127.0.0.1:7682" ];
            description = "Loopback addresses with a port, and absolute paths of UNIX sockets that end in .sock; none: off.";
          };
          retention = {
            detail = mkOption {
              type = rotaTypes.duration;
              default = "30d";
              example = "90d";
              description = "Runs and events are kept so long.";
            };
            runs = mkOption {
              type = types.ints.positive;
              default = 10000;
              example = 1000;
              description = "Of each agent, no more runs than this.";
            };
            totals = mkOption {
              type = rotaTypes.duration;
              default = "365d";
              example = "3y";
              description = "What the runs of a day came to is kept so long.";
            };
          };
        };
      };
      default = { };
      example = {
        bundled = [ "disk-report" ];
      };
      description = "The other settings of rota.toml, in snake_case as there; the generator refuses what it does not know.";
    };

    runners = mkOption {
      type = types.attrsOf runner;
      default = { };
      example = lib.literalExpression ''
        {
          claude.command = [ (lib.getExe pkgs.claude-code) "-p" "{prompt}" ];
        }
      '';
      description = "How prompts run.";
    };

    agents = mkOption {
      type = types.attrsOf agent;
      default = { };
      example = lib.literalExpression ''
        {
          backup-check = {
            description = "The newest backup is less than a day old";
            command = [ "find" "/srv/backup" "-name" "*.tar.zst" "-mtime" "-1" ];
            schedule.every = "5min";
          };
        }
      '';
      description = "Agents by name: lower-case letters, digits and -, 63 characters at most.";
    };

    # enable, and all that rota.toml takes below [keeper]
    homeKeeper = keeper.options;

    declarations = mkOption {
      type = json.type;
      internal = true;
      readOnly = true;
      description = "All of the above, as the generator reads it.";
    };

    units = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      description = "The units of all agents, made and verified by the generator.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = import ./assertions.nix { inherit lib cfg; };

    services.rota = {
      declarations =
        cfg.settings
        // {
          channels = lib.mapAttrs (_: declaration.table) cfg.settings.channels;
          routes = map declaration.table cfg.settings.routes;
        }
        // (
          let
            found = keeper.declaration options.services.rota.homeKeeper cfg.homeKeeper;
          in
          lib.optionalAttrs (found != { }) { keeper = found; }
        )
        // lib.optionalAttrs (cfg.runners != { }) {
          runners = lib.mapAttrs (_: declaration.table) cfg.runners;
        }
        // {
          agents =
            lib.genAttrs cfg.settings.bundled (_: {
              path = declaration.searchPath defaultPath;
            })
            // lib.mapAttrs (_: agent: agent.declaration) cfg.agents;
        };

      # Mistakes fail this build, with rota's own words for them.
      units =
        pkgs.runCommand "rota-units"
          {
            nativeBuildInputs = [
              cfg.package
              config.systemd.package
            ];
            env = {
              # What agents' units refer to; NixOS keeps systemd's own units out of its default directories,
              # and in a build they are judged as a user's.
              SYSTEMD_UNIT_PATH = "${config.systemd.package}/example/systemd/user";
              PYTHONTZPATH = "${pkgs.tzdata}/share/zoneinfo";
            };
            preferLocalBuild = true;
          }
          ''
            rota --config ${json.generate "rota.json" cfg.declarations} \
              generate --nixos --output "$out/lib/systemd/system"
            # What the Home Keeper may do is for polkit, which looks for it below share.
            if [ -e "$out/lib/systemd/system/polkit-1" ]; then
              mkdir "$out/share"
              mv "$out/lib/systemd/system/polkit-1" "$out/share"
            fi
          '';
    };

    environment.systemPackages = [ cfg.package ] ++ lib.optional cfg.homeKeeper.enable cfg.units;
    services.dbus.packages = [ cfg.package ];
    security.polkit.enable = true;

    users.users.rota = {
      isSystemUser = true;
      group = "rota";
      description = "rota daemon";
    };
    # Its members may start, stop, pause and resume agents.
    users.groups.rota = { };
    # Who serves metrics: may do nothing that everybody may not.
    users.users.rota-metrics = {
      isSystemUser = true;
      group = "rota-metrics";
      description = "rota metrics";
    };
    users.groups.rota-metrics = { };
    # Who tells people: has a network, and reads of the journal what agents wrote.
    users.users.rota-notify = {
      isSystemUser = true;
      group = "rota-notify";
      description = "rota notify";
    };
    users.groups.rota-notify = { };
    # Who keeps the house: reads of the journal what failed, and may do what polkit lets it.
    users.users.rota-keeper = {
      isSystemUser = true;
      group = "rota-keeper";
      description = "rota Home Keeper";
    };
    users.groups.rota-keeper = { };
    # Who asks Docker on its behalf.
    users.users.rota-docker-proxy = {
      isSystemUser = true;
      group = "rota-docker-proxy";
      description = "rota docker proxy";
    };
    users.groups.rota-docker-proxy = { };

    systemd.packages = [
      cfg.package
      cfg.units
    ];
    systemd.services.rotad.wantedBy = [ "multi-user.target" ];
    # The generator makes its drop-in; a switch starts it again when that changes.
    systemd.services.rotad-notify = lib.mkIf (cfg.settings.channels != { }) {
      wantedBy = [ "multi-user.target" ];
    };
    systemd.services.rota-home-keeper = lib.mkIf cfg.homeKeeper.enable {
      wantedBy = [ "multi-user.target" ];
    };
    # Wants all timers; active targets are started again by every switch, and with it timers that are new.
    systemd.targets.rota-agents.wantedBy = [ "timers.target" ];

    # The generator makes it; a switch passes over changed sockets, but rota-rearm does not.
    systemd.sockets = {
      rotad-metrics = lib.mkIf (cfg.settings.metrics.listen != [ ]) { wantedBy = [ "sockets.target" ]; };
      # For who asks Docker through it; the generator makes the drop-in of its service.
      rota-docker-proxy = lib.mkIf (
        cfg.homeKeeper.enable
        && lib.any (lib.hasSuffix "/run/rota-keeper/docker.sock") cfg.homeKeeper.containers.sockets
      ) { wantedBy = [ "sockets.target" ]; };
    };

    # A switch lets systemd read changed timers before it restarts them, and systemd would start an agent
    # at once if a slot of its new schedule lies between its last run and now. So before anything is
    # changed the switch leaves word of the system to come; rota-rearm, stopped with the old units still in
    # place, makes systemd forget the timers that differ, and started with the new ones before any timer is,
    # makes them count from then.
    system.preSwitchChecks.rota = ''
      case "$2" in
        switch | test) ln --symbolic --force --no-dereference "$1" ${nextSystem} ;;
      esac
    '';

    systemd.services.rota-rearm = {
      description = "Edited schedules of agents count from a switch";
      wantedBy = [
        "timers.target"
        "sysinit-reactivation.target"
      ];
      before = [ "sysinit-reactivation.target" ];
      partOf = [ "sysinit-reactivation.target" ];
      restartTriggers = [ cfg.units ];
      path = [
        cfg.package
        pkgs.util-linux
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        Restart = "on-failure";
        RestartSec = "100ms";
        TimeoutStopSec = "1min";
      };
      # At boot there is nothing to do. The switch starts all timers after this; but this may be late,
      # having been killed and started again.
      script = ''
        if [ -e ${nextSystem} ]; then
          rota rearm
          systemctl start --no-block rota-agents.target
          rm --force ${nextSystem}
        fi
      '';
      # Only while a switch holds its lock: not at shutdown, nor when one was refused and left its word. And
      # only before it activates the new system: what comes after is the script's.
      preStop = ''
        if [ -e ${nextSystem} ] && [ ! ${nextSystem} -ef /run/current-system ] &&
          ! flock --shared --nonblock ${switchLock} true; then
          rota rearm --replaced-by ${nextSystem}/etc/systemd/system
        fi
      '';
    };
  };
}
