"""An agent reaches nothing that its declaration does not open, and what it opens, and nothing beside it."""


def got_out(said: str) -> set[str]:
    """Return which attempts succeeded, by what the program `escape` says."""
    assert "attempts got out." in said, said
    return {line.removeprefix("GOT OUT").strip() for line in said.splitlines() if line.startswith("GOT OUT")}


def outcome(agent: str) -> str:
    """Run an agent, whatever its exit status, and return what it wrote."""
    _, said = machine.execute(f"rota run --wait {agent} 2>&1")
    return said


machine.wait_for_unit("web.service")
machine.wait_for_open_port(8080)
machine.succeed("echo for everyone >/tmp/public; chmod 644 /tmp/public")
assert "mine" in outcome("heartbeat")

with subtest("without a sandbox the attempts work: so it is the sandbox that refuses them"):
    _, said = machine.execute("cd /root && escape 2>&1")
    free = got_out(said)
    machine.execute("pkill --full '^sleep 4242'")
    wanted = {
        "write /etc/escaped",
        "write into rota's own store",
        "write another agent's state",
        "read /etc/shadow",
        "read a public file in /home",
        "read a public file in /tmp",
        "read the journal",
        "connect to 127.0.0.1:8080",
        "look at other processes",
        "signal another process",
        "run memory it has written",
        "have systemd run a program",
        "have rota run another agent",
    }
    assert wanted <= free, wanted - free

with subtest("by default an agent reaches nothing"):
    said = outcome("prisoner")
    assert got_out(said) == set(), said
    machine.fail("pgrep --full '^sleep 4242'")
    machine.fail("test -e /etc/escaped")

with subtest("what is opened is opened, and nothing beside it"):
    said = outcome("trusted")
    opened = {"read a public file in /home", "connect to 127.0.0.1:8080", "run memory it has written"}
    assert got_out(said) == opened, said

with subtest("it writes where it may"):
    said = outcome("writer")
    wrote = [line for line in said.splitlines() if line.startswith("wrote ")]
    assert wrote == ["wrote /srv/open"], said
    machine.succeed("test -e /srv/open/file")
    machine.fail("test -e /srv/closed/file")
    machine.fail("test -e /home/bob/file")

with subtest("it reaches the addresses it may"):
    said = outcome("fenced")
    assert "reached 127.0.0.1\nrefused 127.0.0.2" in said, said

with subtest("it is nobody, or who it is declared to be"):
    assert show("rota-prisoner.service", "DynamicUser") == "yes"
    said = outcome("bob")
    assert said.startswith("bob\n"), said

with subtest("secrets are handed over, and are not in the unit"):
    said = outcome("secretive")
    assert "hush" in said and "quiet" in said, said
    assert said.count("hush") == 1, "the file itself is out of reach"
    said = machine.succeed("systemctl cat rota-secretive.service")
    assert "hush" not in said and "quiet" not in said, said
