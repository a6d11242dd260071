# Killed, stopped, its store deleted, the machine unplugged: rotad records what happened, once each.
let
  # Ends when the test lets it.
  patient = [
    "/bin/sh"
    "-c"
    "until [ -e /run/go ]; do sleep 0.2; done; exit 7"
  ];
in
{
  nodes.machine = {
    services.rota.agents = {
      patient.command = patient;

      # Keeps an account of its own runs, to hold rotad's against.
      heartbeat = {
        command = [
          "/bin/sh"
          "-c"
          "echo $INVOCATION_ID >>$STATE_DIRECTORY/account"
        ];
        schedule.every = "4s";
      };

      greeter = {
        command = [
          "/bin/sh"
          "-c"
          "echo good morning"
        ];
        schedule.onBoot = true;
      };
    };
  };

  testScript = builtins.readFile ./house.py + builtins.readFile ./recovery.py;
}
