# What is cheap to check before anything is built, in the words of the generator.
{ lib, cfg }:

let
  root = "services.rota";

  attribute = lib.strings.escapeNixIdentifier;

  later = [
    [ "when" ]
    [ "afterSuccess" ]
    [ "afterFailure" ]
    [ "keepRunning" ]
    [ "retries" ]
    [
      "catchUp"
      "grace"
    ]
  ];

  laterInSchedules = [
    "solar"
    "offset"
  ];

  unavailable = "not available in this version of rota; remove it";

  ofAgent =
    name: agent:
    let
      option = "${root}.agents.${attribute name}";
      check = key: assertion: message: {
        inherit assertion;
        message = "${option}${key}: ${message}";
      };
      bundled = lib.elem name cfg.settings.bundled;
    in
    [
      (check "" (
        builtins.match "[a-z0-9][a-z0-9-]{0,62}" name != null
      ) "an agent's name is lower-case letters, digits and -, 63 characters at most")
      (check "" (
        bundled || agent.command != null || agent.prompt != null
      ) ''says nothing to run; write command = [ "/path/to/program" ]; or prompt = "…";'')
      (check ".prompt" (
        agent.command == null || agent.prompt == null
      ) "not together with command; keep one of them")
      (check ".prompt" (
        agent.prompt == null || agent.runner != null
      ) "needs a runner; write runner = NAME;, declared as ${root}.runners.NAME")
      (check ".runner" (bundled || agent.runner == null || agent.prompt != null) "only goes with prompt")
      (check ".runner" (
        agent.runner == null || cfg.runners ? ${agent.runner}
      ) ''unknown runner "${agent.runner}"; declare ${root}.runners.${attribute agent.runner}'')
    ]
    ++ map (
      path: check ".${lib.concatStringsSep "." path}" (lib.getAttrFromPath path agent == null) unavailable
    ) later
    ++ map (
      key:
      check ".schedule.${key}" (lib.all (schedule: schedule.${key} == null) agent.schedule) unavailable
    ) laterInSchedules;
in
map
  (key: {
    assertion = !cfg.settings ? ${key};
    message = "${root}.settings.${key}: write ${root}.${
      if key == "keeper" then "homeKeeper" else key
    } instead";
  })
  [
    "agents"
    "keeper"
    "runners"
  ]
++ lib.concatLists (lib.mapAttrsToList ofAgent cfg.agents)
