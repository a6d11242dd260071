"""Agents are declared, timers start them, rotad records them, and who may manage them is who should."""

AGENTS = ["broken", "disk-report", "heartbeat", "parrot", "weekly"]
MANAGER = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
TRANSIENT = (
    f"busctl call {MANAGER} StartTransientUnit 'ssa(sv)a(sa(sv))' rota-evil.service replace 1 "
    "ExecStart 'a(sasb)' 1 /run/current-system/sw/bin/touch 2 touch /root/owned false 0"
)

with subtest("systemd holds a timer for each schedule"):
    held = json.loads(machine.succeed("systemctl list-timers 'rota-*' --output=json"))
    timers = {timer["unit"]: timer for timer in held}
    assert sorted(timers) == ["rota-disk-report.timer", "rota-heartbeat.timer", "rota-weekly.timer"], held
    assert timers["rota-weekly.timer"]["next"], "its time zone is known"
    elapses = show("rota-weekly.timer", "TimersCalendar")
    assert "Europe/Rome" in elapses and "Sat *-*-* 12:00:00" in elapses, elapses

with subtest("timers start agents, and rotad records the runs"):
    first = filed("heartbeat", 2)[0]
    assert (first["state"], first["status"], first["trigger"]) == ("succeeded", 0, "timer"), first
    said = machine.succeed(f"journalctl --output=cat _SYSTEMD_INVOCATION_ID={first['id']}")
    assert "beat" in said, said

with subtest("a run's id is systemd's, its exit status the agent's"):
    status, said = machine.execute("rota run --wait broken 2>&1")
    assert status == 3 and "cannot" in said and "failed exit 3" in said, (status, said)
    (failed,) = filed("broken")
    assert (failed["state"], failed["reason"], failed["status"]) == ("failed", "exit-code", 3), failed
    assert (failed["trigger"], failed["requested_by"]) == ("person", "root"), failed
    assert failed["id"] == show("rota-broken.service", "InvocationID")
    machine.succeed(f"rota logs {failed['id'][:8]} | grep cannot")

with subtest("a runner gets the prompt, letter by letter"):
    said = machine.succeed("rota run --wait parrot")
    assert said == "you said: audit $everything, 100%\n", said

with subtest("an agent that comes with rota works"):
    machine.succeed("rota run --wait disk-report")
    report = machine.succeed("cat /var/lib/rota-agents/disk-report/report.json")
    assert '"/"' in json.dumps(json.loads(report)), report

with subtest("list, runs and show tell people of it"):
    filed("parrot")
    filed("disk-report")
    assert [agent["name"] for agent in ask("list")] == AGENTS
    said = machine.succeed("rota list")
    assert "every 5s" in said and "exit 3" in said and "5 agents" in said and "1 failed" in said, said
    said = machine.succeed("rota runs -n 1000")
    assert failed["id"][:8] in said and "failed exit 3" in said, said
    said = machine.succeed("rota show broken")
    assert "on demand" in said and "failed exit 3" in said, said
    said = machine.succeed(f"rota show {failed['id'][:12]}")
    assert failed["id"] in said and "Result: failed exit 3" in said, said

with subtest("everyone may look, and nothing else"):
    for verb in ("list", "runs", "show broken"):
        status, said = by("alice", f"rota {verb}")
        assert status == 0, said
    for verb in ("run parrot", "stop parrot", "pause parrot", "resume parrot"):
        status, said = by("alice", f"rota {verb}")
        assert status == 5 and "not authorised" in said, (verb, status, said)
    status, said = by("alice", "systemctl --no-ask-password start rota-parrot.service")
    assert status != 0, said
    assert len(runs("parrot")) == 1

with subtest("members of the group rota manage agents"):
    status, said = by("bob", "rota run --wait parrot")
    assert status == 0, said
    assert filed("parrot", 2)[1]["requested_by"] == "bob"
    status, said = by("bob", "systemctl --no-ask-password start rota-parrot.service")
    assert status == 0, said
    filed("parrot", 3)

with subtest("and nothing else"):
    for user in ("alice", "bob"):
        for command in (
            TRANSIENT,
            "systemctl --no-ask-password restart rotad.service",
            "systemctl --no-ask-password stop rota-medium.slice",
            "systemctl --no-ask-password daemon-reload",
            "systemctl --no-ask-password set-property --runtime rota-parrot.service CPUWeight=7",
        ):
            status, said = by(user, command)
            assert status != 0, (user, command, said)
    machine.fail("test -e /root/owned")

with subtest("a pause holds until it is over"):
    status, said = by("bob", "rota pause heartbeat --why 'too loud'")
    assert status == 0, said
    machine.succeed("test -e /var/lib/rota/paused/heartbeat")
    (agent,) = [agent for agent in ask("list") if agent["name"] == "heartbeat"]
    assert (agent["paused"], agent["paused_by"], agent["paused_why"]) == (True, "bob", "too loud"), agent
    machine.sleep(2)
    before = len(ran("heartbeat"))
    machine.sleep(12)
    assert len(ran("heartbeat")) == before
    skipped = [run["reason"] for run in runs("heartbeat") if run["state"] == "skipped"]
    assert set(skipped) == {"paused"}, skipped
    machine.fail("rota run heartbeat")
    machine.succeed("rota resume heartbeat")
    retry(lambda _: len(ran("heartbeat")) > before, 60)
