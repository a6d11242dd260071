{
  lib,
  python3Packages,
  runCommand,
  systemd,
  versionCheckHook,
}:

let
  inherit (lib) fileset;

  # Tests that need no machine, bus or Nix, and are no part of those that do.
  unitTests = fileset.difference ../tests (
    fileset.unions [
      ../tests/bench
      ../tests/bus
      ../tests/machine
      ../tests/nix
      ../tests/test_nixos_tests.py
      ../tests/vm
    ]
  );

  version = lib.head (
    lib.match ''.*__version__ = "([^"]+)".*'' (lib.readFile ../src/rota/__init__.py)
  );

  # Some releases of nixpkgs build it with systemdLibs, and then it reads no journal: its reader returns
  # empty entries (NixOS/nixpkgs#546650).
  systemd-python = python3Packages.systemd-python.overridePythonAttrs (_: {
    buildInputs = [ systemd ];
  });
in
python3Packages.buildPythonApplication (finalAttrs: {
  pname = "rota";
  inherit version;
  pyproject = true;

  src = fileset.toSource {
    root = ../.;
    fileset = fileset.unions [
      ../LICENSE
      ../README.md
      ../agents
      ../docs
      ../pyproject.toml
      ../share
      ../src
      unitTests
    ];
  };

  build-system = [ python3Packages.setuptools ];

  dependencies = [
    python3Packages.apprise
    python3Packages.asyncpg
    python3Packages.asyncssh
    python3Packages.dbus-next
    python3Packages.dnspython
    python3Packages.docker
    python3Packages.h11
    python3Packages.nvidia-ml-py
    python3Packages.prometheus-client
    python3Packages.pydantic
    python3Packages.rich
    systemd-python
  ];

  # Units, D-Bus and polkit files, man pages, completions, examples.
  postInstall = ''
    PREFIX=$out sh share/install.sh data
  '';

  # `rota check` and `rota apply` call systemd-analyze, `rota logs` journalctl: the system's own if it has them.
  makeWrapperArgs = [
    "--suffix"
    "PATH"
    ":"
    (lib.makeBinPath [ systemd ])
  ];

  # Without systemd: tests that ask systemd-analyze skip themselves. It wants a /run/systemd, which a build has not.
  nativeCheckInputs = [
    python3Packages.aiosmtpd
    python3Packages.croniter
    python3Packages.hypothesis
    python3Packages.pytest-xdist
    python3Packages.pytestCheckHook
    versionCheckHook
  ];

  pythonImportsCheck = [
    "rota.cli"
    "rota.cli_agents"
    "rota.cli_declare"
    "rota.daemon"
    "rota.exporter"
    "rota.notifier"
    "rota_agents"
  ];

  passthru.tests.examples =
    runCommand "rota-examples"
      {
        nativeBuildInputs = [ finalAttrs.finalPackage ];
        # Where nixpkgs keeps systemd's own units, which those of agents refer to.
        env.SYSTEMD_UNIT_PATH = "${systemd}/example/systemd/user";
      }
      ''
        mkdir --parents etc/agents.d
        cp ${finalAttrs.finalPackage}/share/doc/rota/examples/*.toml etc/agents.d
        mv etc/agents.d/rota.toml etc
        rota --config etc generate --output "$out"
        grep --quiet '^ExecStart=${finalAttrs.finalPackage}/bin/rota-agent disk-report' "$out/rota-disk-report.service"
      '';

  meta = {
    description = "Declared agents as systemd timers and sandboxed services, with a memory of every run";
    license = lib.licenses.mit;
    mainProgram = "rota";
    platforms = lib.platforms.linux;
  };
})
