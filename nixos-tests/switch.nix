# A switch neither stops nor starts an agent, whatever has become of its declaration.
{ lib, ... }:

let
  sh = script: [
    "/bin/sh"
    "-c"
    script
  ];

  # Ends when the test lets it, and says which declaration it was started from.
  patient =
    words: status:
    sh "until [ -e /run/go ]; do sleep 0.2; done; echo ${words}; exit ${toString status}";

  count = sh "echo x >>$STATE_DIRECTORY/count";

  before = {
    edited = {
      command = patient "the old way" 3;
      schedule.every = "1h";
    };
    leaving = {
      command = patient "farewell" 5;
      schedule.every = "1h";
      priority = "low";
    };
    old-name = {
      command = count;
      schedule.every = "1h";
    };

    # Schedules with slots between their last run and the switch.
    paced = {
      command = count;
      schedule.every = "1h";
    };
    slotted = {
      command = count;
      schedule.calendar = "*-*-* 04:00:00";
    };
    persistent = {
      command = count;
      schedule.calendar = "*-*-* 04:00:00";
      catchUp.mode = "once";
    };
    booted = {
      command = count;
      schedule.calendar = "*-*-* 04:00:00";
    };
    demanded.command = count;

    dormant = {
      enabled = false;
      command = count;
      schedule.every = "15s";
    };
    dozing = {
      command = count;
      schedule.every = "15s";
    };
    resting = {
      command = count;
      schedule.every = "5s";
    };
  };

  after =
    removeAttrs before [
      "leaving"
      "old-name"
    ]
    // {
      edited = {
        command = patient "the new way" 4;
        schedule.every = "1h";
      };
      new-name = before.old-name;
      paced = {
        command = count;
        schedule.every = "15s";
      };
      slotted = {
        command = count;
        schedule.calendar = "*-*-* *:*:0/30";
      };
      persistent = {
        command = count;
        schedule.calendar = "*-*-* *:*:0/30";
        catchUp.mode = "once";
      };
      booted = {
        command = count;
        schedule = [
          { onBoot = "1s"; }
          { calendar = "*-*-* 05:00:00"; }
        ];
      };
      demanded = {
        command = count;
        schedule.every = "15s";
      };
      dormant = before.dormant // {
        enabled = true;
      };
      dozing = before.dozing // {
        enabled = false;
      };
      resting = {
        command = count;
        schedule.every = "6s";
      };
    };
in
{
  nodes.machine = {
    services.rota.agents = before;
    specialisation.after.configuration.services.rota.agents = lib.mkForce after;
    specialisation.off.configuration.services.rota.enable = lib.mkForce false;
  };

  testScript =
    { nodes, ... }:
    ''
      toplevel = "${nodes.machine.system.build.toplevel}"
    ''
    + builtins.readFile ./house.py
    + builtins.readFile ./switch.py;
}
