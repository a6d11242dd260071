# One agent: services.rota.agents.<name>. The keys of a declaration, in camelCase.
{
  lib,
  rotaTypes,
  defaultPath,
}:

{ config, options, ... }:

let
  inherit (lib) mkOption types;

  declaration = import ./declaration.nix { inherit lib; };

  schedule = types.submodule {
    options = {
      cron = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "0 9 * * MON";
        description = "Five cron fields as in {manpage}`crontab(5)`, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.";
      };
      timezone = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "Europe/Rome";
        description = "IANA time zone of `cron` or `once`; null: the machine's own.";
      };
      every = mkOption {
        type = types.nullOr rotaTypes.duration;
        default = null;
        example = "5min";
        description = "Time from the start of one run to the start of the next.";
      };
      afterBoot = mkOption {
        type = types.nullOr rotaTypes.duration;
        default = null;
        example = "2min";
        description = "With `every`: time from the timer's start (boot, or switch) to the first run; null: `every`.";
      };
      calendar = mkOption {
        type = types.nullOr rotaTypes.line;
        default = null;
        example = "Mon..Fri *-*-* 09:00:00";
        description = "A calendar event in systemd's own grammar, {manpage}`systemd.time(7)`.";
      };
      once = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "2027-01-31 09:00";
        description = "One date and time, in `timezone` or local time.";
      };
      onBoot = mkOption {
        type = types.nullOr (types.either (types.enum [ true ]) rotaTypes.duration);
        default = null;
        example = "2min";
        description = "true: right after each boot; or the time to wait after it.";
      };
      solar = mkOption {
        type = types.nullOr rotaTypes.line;
        default = null;
        example = "sunset";
        visible = false;
        description = "Sunrise, sunset, dawn or dusk at the configured place (not available in this version).";
      };
      offset = mkOption {
        type = types.nullOr rotaTypes.line;
        default = null;
        example = "-30min";
        visible = false;
        description = "With `solar`: time before (-) or after it (not available in this version).";
      };
      jitter = mkOption {
        type = types.nullOr rotaTypes.duration;
        default = null;
        example = "10min";
        description = "Delay each slot by a fixed share of this span, the same for every slot.";
      };
    };
  };

  retries = types.submodule {
    options = {
      max = mkOption {
        type = types.ints.unsigned;
        default = 0;
        example = 3;
        description = "Further attempts after the first.";
      };
      backoff = mkOption {
        type = types.enum [
          "exponential"
          "linear"
          "constant"
        ];
        default = "exponential";
        example = "constant";
        description = "How the delay grows.";
      };
      delay = mkOption {
        type = rotaTypes.duration;
        default = "10s";
        example = "1min";
        description = "Delay before the first retry.";
      };
      maxDelay = mkOption {
        type = rotaTypes.duration;
        default = "5min";
        example = "1h";
        description = "The delay never grows beyond this.";
      };
    };
  };

  notify = types.submodule {
    options = {
      on = mkOption {
        type = types.listOf rotaTypes.happening;
        default = [
          "failure"
          "recovery"
        ];
        example = [ "failure" ];
        description = "What is told.";
      };
      channels = mkOption {
        type = types.nonEmptyListOf rotaTypes.agentName;
        example = [ "ops" ];
        description = "Names of channels in {option}`services.rota.settings.channels`.";
      };
    };
  };

  when = types.submodule {
    options = {
      pathChanged = mkOption {
        type = types.nullOr rotaTypes.absolutePath;
        default = null;
        example = "/srv/inbox";
        description = "Runs when this path is written to.";
      };
      pathExists = mkOption {
        type = types.nullOr rotaTypes.absolutePath;
        default = null;
        example = "/srv/inbox/go";
        description = "Runs when this path exists.";
      };
      pathNotEmpty = mkOption {
        type = types.nullOr rotaTypes.absolutePath;
        default = null;
        example = "/srv/inbox";
        description = "Runs when this directory is not empty.";
      };
      listen = mkOption {
        type = types.nullOr rotaTypes.line;
        default = null;
        example = "[::1]:7000";
        description = "Runs when something connects to this address.";
      };
    };
  };
in
{
  options = {
    description = mkOption {
      type = rotaTypes.line;
      default = "";
      example = "Audit the repository";
      description = "One line for people.";
    };

    enabled = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = "false: no units are made for it.";
    };

    command = mkOption {
      type = types.nullOr (types.nonEmptyListOf types.str);
      default = null;
      example = lib.literalExpression ''[ (lib.getExe pkgs.restic) "check" ]'';
      description = ''
        Program and arguments; no shell is involved. A name without / is looked up in
        {option}`services.rota.agents.<name>.path`.
      '';
    };

    prompt = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/audit";
      description = "A prompt for the runner, instead of a command.";
    };

    runner = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "claude";
      description = "Which of {option}`services.rota.runners` runs the prompt.";
    };

    path = mkOption {
      type = types.listOf (types.either types.package rotaTypes.absolutePath);
      default = [ ];
      example = lib.literalExpression ''[ pkgs.git "/srv/tools/bin" ]'';
      description = ''
        Packages, whose bin and sbin are meant, and directories where programs are looked up: ExecSearchPath=, and
        so $PATH. Coreutils, findutils, gnugrep, gnused and systemd follow, as in other NixOS services.
      '';
    };

    schedule = mkOption {
      # A single schedule is a list of one; coercedTo takes no submodule, so it is one only afterwards.
      type = types.coercedTo (types.attrsOf types.raw) lib.singleton (types.listOf schedule);
      default = [ ];
      example = {
        cron = "0 9 * * MON";
        timezone = "Europe/Rome";
      };
      description = ''
        One schedule or a list, each with exactly one of `cron`, `every`, `calendar`, `once` and `onBoot`; none:
        runs on demand only.
      '';
    };

    catchUp = {
      mode = mkOption {
        type = types.enum [
          "once"
          "never"
        ];
        default = "never";
        example = "once";
        description = "After downtime, once: one run, however many slots were missed; never: none.";
      };
      grace = mkOption {
        type = types.nullOr rotaTypes.duration;
        default = null;
        example = "5min";
        visible = false;
        description = "A slot later than this is recorded as missed, not run (not available in this version).";
      };
    };

    when = mkOption {
      type = types.nullOr when;
      default = null;
      example = {
        pathChanged = "/srv/inbox";
      };
      visible = false;
      description = "Run on a condition (not available in this version).";
    };

    afterSuccess = mkOption {
      type = types.nullOr (types.listOf rotaTypes.agentName);
      default = null;
      example = [ "fetch" ];
      visible = false;
      description = "Run after these agents succeeded (not available in this version).";
    };

    afterFailure = mkOption {
      type = types.nullOr (types.listOf rotaTypes.agentName);
      default = null;
      example = [ "fetch" ];
      visible = false;
      description = "Run after these agents failed (not available in this version).";
    };

    keepRunning = mkOption {
      type = types.nullOr types.bool;
      default = null;
      example = true;
      visible = false;
      description = "Always running, restarted when it ends (not available in this version).";
    };

    timeout = mkOption {
      type = rotaTypes.duration;
      default = "1h";
      example = "30min";
      description = "A run is stopped after this: RuntimeMaxSec=; `infinity` for never.";
    };

    retries = mkOption {
      type = types.nullOr retries;
      default = null;
      example = {
        max = 3;
      };
      visible = false;
      description = "Try a failed run again (not available in this version).";
    };

    priority = mkOption {
      type = types.enum [
        "critical"
        "high"
        "medium"
        "low"
        "background"
      ];
      default = "medium";
      example = "low";
      description = "Share of processor and disk against other agents.";
    };

    notify = mkOption {
      type = types.nullOr notify;
      default = null;
      example = {
        on = [
          "failure"
          "recovery"
        ];
        channels = [ "ops" ];
      };
      description = "Tell people of its runs: on what, and by which channels.";
    };

    tags = mkOption {
      type = types.listOf rotaTypes.tag;
      default = [ ];
      example = [ "backup" ];
      description = "Words to group agents by.";
    };

    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        LANG = "C.UTF-8";
      };
      description = "Environment variables; not for secrets, the unit is world-readable.";
    };

    environmentFiles = mkOption {
      type = types.listOf rotaTypes.environmentFile;
      default = [ ];
      example = [ "/run/secrets/agent.env" ];
      description = "Files with environment variables, read by systemd; with a leading -, may be absent.";
    };

    credentials = mkOption {
      type = types.attrsOf types.externalPath;
      default = { };
      example = {
        api-key = "/run/secrets/api-key";
      };
      description = "Secrets by name: files that systemd hands over in $CREDENTIALS_DIRECTORY.";
    };

    resultFile = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the run may leave its result, a JSON object, in the file $ROTA_RESULT_FILE. It takes one more
        process per run.
      '';
    };

    workingDirectory = mkOption {
      type = types.nullOr rotaTypes.absolutePath;
      default = null;
      example = "/srv/repo";
      description = "Where the program starts; null: its state directory.";
    };

    sandbox = {
      network = mkOption {
        type = types.either types.bool (types.nonEmptyListOf rotaTypes.network);
        default = false;
        example = [ "10.0.0.0/8" ];
        description = ''
          false: none; true: all; a list: only these addresses and prefixes, or the words `localhost`, `link-local`
          and `multicast`.
        '';
      };
      writable = mkOption {
        type = types.listOf rotaTypes.absolutePath;
        default = [ ];
        example = [ "/srv/repo" ];
        description = "Paths the agent may write to, beside its own state directory.";
      };
      readable = mkOption {
        type = types.listOf rotaTypes.absolutePath;
        default = [ ];
        example = [ "/home/ada/notes" ];
        description = "Paths under /home, /root or /run/user the agent may read.";
      };
      devices = mkOption {
        type = types.listOf rotaTypes.absolutePath;
        default = [ ];
        example = [ "/dev/nvidia0" ];
        description = "Device nodes the agent may use.";
      };
      user = mkOption {
        type = types.nullOr rotaTypes.userName;
        default = null;
        example = "ada";
        description = "Run as this existing user; null: as one that lives as long as the run.";
      };
      groups = mkOption {
        type = types.listOf rotaTypes.userName;
        default = [ ];
        example = [ "systemd-journal" ];
        description = "Supplementary groups.";
      };
      unit = mkOption {
        type = types.attrsOf rotaTypes.unitValue;
        default = { };
        example = {
          MemoryDenyWriteExecute = false;
        };
        description = "Any key of the [Service] section as the way out; replaces what rota would write.";
      };
    };

    resources = {
      memory = mkOption {
        type = types.nullOr rotaTypes.size;
        default = null;
        example = "512M";
        description = "Most memory a run may use: MemoryMax=.";
      };
      cpu = mkOption {
        type = types.nullOr rotaTypes.percent;
        default = null;
        example = "50%";
        description = "Most processor time, 100% being one processor: CPUQuota=.";
      };
      tasks = mkOption {
        type = types.nullOr (types.ints.between 1 4194304);
        default = null;
        example = 64;
        description = "Most processes and threads: TasksMax=.";
      };
    };

    declaration = mkOption {
      type = types.attrsOf types.raw;
      internal = true;
      readOnly = true;
      visible = false;
      description = "What is handed to the generator.";
    };
  };

  config.declaration =
    declaration.written (removeAttrs options [
      "_module"
      "declaration"
      "path"
    ]) config
    // {
      path = declaration.searchPath (config.path ++ defaultPath);
    };
}
