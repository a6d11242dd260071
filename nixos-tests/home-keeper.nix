# A failed unit and an unhealthy container come back, and what is not named is let be.
{
  nodes.machine =
    { lib, pkgs, ... }:
    let
      forever = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = "${lib.getExe' pkgs.coreutils "sleep"} infinity";
      };
    in
    {
      virtualisation.docker.enable = true;

      services.rota.homeKeeper = {
        enable = true;
        policy = {
          strikes = [
            "act"
            "escalate"
          ];
          settle = "10s";
        };
        containers.sockets = [ "/run/rota-keeper/docker.sock" ];
        targets = {
          "unit:web.service" = { };
          "unit:stopped.service" = { };
          "unit:asked.service".mode = "ask";
          "container:shop" = { };
        };
      };

      systemd.services = {
        web = forever;
        stopped = forever;
        asked = forever;
        other = forever;
      };

      # Well as long as its file is there; /run is a tmpfs of the container's, so that a restart makes it anew.
      environment.etc."shop.tar.gz".source = pkgs.dockerTools.buildImage {
        name = "shop";
        tag = "latest";
        copyToRoot = [ pkgs.pkgsStatic.busybox ];
        config.Cmd = [
          "/bin/sh"
          "-c"
          "trap 'exit 0' TERM; touch /run/well; while :; do sleep 0.2; done"
        ];
      };

      users.users.bob = {
        isNormalUser = true;
        extraGroups = [ "rota" ];
      };
    };

  testScript = builtins.readFile ./house.py + builtins.readFile ./home-keeper.py;
}
