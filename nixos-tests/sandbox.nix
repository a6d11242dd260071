# An agent reaches nothing that its declaration does not open, and what it opens, and nothing beside it.
{
  nodes.machine =
    {
      config,
      lib,
      pkgs,
      ...
    }:
    let
      # Tries to break out, in some twenty ways.
      escape = [
        (lib.getExe pkgs.python3)
        "-B"
        "${../tests/machine/demo/escape}"
      ];
      path = [
        config.services.rota.package
        pkgs.coreutils
      ];
    in
    {
      services.rota = {
        settings.bundled = [ "disk-report" ];

        agents = {
          # Never too full for this.
          disk-report.command = [
            "rota-agent"
            "disk-report"
            "--warn-percent"
            "100"
          ];

          prisoner = {
            inherit path;
            command = escape;
          };

          # Whose state the others are not to see.
          heartbeat.command = [
            "/bin/sh"
            "-c"
            "echo mine >$STATE_DIRECTORY/mine; cat $STATE_DIRECTORY/mine"
          ];

          trusted = {
            inherit path;
            command = escape;
            sandbox = {
              network = [ "127.0.0.1" ];
              readable = [ "/home/public" ];
              unit.MemoryDenyWriteExecute = false;
            };
          };

          writer = {
            command = [
              "/bin/sh"
              "-c"
              "for there in /srv/open /srv/closed /home/bob; do echo x >$there/file && echo wrote $there; done; true"
            ];
            sandbox.writable = [ "/srv/open" ];
          };

          # Within its network it reaches one address, and not the next.
          fenced = {
            command = [
              (lib.getExe pkgs.python3)
              "-c"
              ''
                import socket
                one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                for host in ("127.0.0.1", "127.0.0.2"):
                    try:
                        one.sendto(b"x", (host, 9))
                        print("reached", host)
                    except OSError as error:
                        print("refused", host, type(error).__name__)
              ''
            ];
            sandbox.network = [ "127.0.0.1" ];
          };

          bob = {
            command = [
              (lib.getExe' pkgs.coreutils "id")
              "--user"
              "--name"
            ];
            sandbox.user = "bob";
          };

          secretive = {
            command = [
              "/bin/sh"
              "-c"
              "cat $CREDENTIALS_DIRECTORY/key; echo $MODE; cat /root/key"
            ];
            credentials.key = "/root/key";
            environmentFiles = [ "/root/agent.env" ];
          };
        };
      };

      users.users.bob.isNormalUser = true;

      systemd.tmpfiles.rules = [
        "d /srv/open 0777 root root -"
        "d /srv/closed 0777 root root -"
        "f+ /home/public 0644 root root - for everyone"
        "f+ /root/key 0600 root root - hush"
        "f+ /root/agent.env 0600 root root - MODE=quiet"
      ];

      systemd.services.web = {
        description = "What is not to be reached";
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = "${lib.getExe pkgs.python3} -m http.server --bind 127.0.0.1 --directory /srv 8080";
      };

      environment.systemPackages = [
        (pkgs.writeShellScriptBin "escape" ''exec ${lib.escapeShellArgs escape} "$@"'')
      ];
    };

  testScript = builtins.readFile ./house.py + builtins.readFile ./sandbox.py;
}
