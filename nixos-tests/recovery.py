"""Killed, stopped, its store deleted, the machine unplugged: rotad records what happened, once each."""

ACCOUNT = "/var/lib/rota-agents/heartbeat/account"


def account() -> list[str]:
    """Return the runs of heartbeat by its own account."""
    return machine.succeed(f"cat {ACCOUNT} 2>/dev/null || true").split()


def at_rest() -> None:
    """Pause heartbeat, and wait until all of its runs are over and filed."""
    machine.succeed("rota pause heartbeat")
    machine.wait_until_fails("systemctl is-active rota-heartbeat.service")
    retry(lambda _: all(run.get("archived") for run in runs("heartbeat")), 60)


def recorded() -> dict[str, tuple[str, object]]:
    """Return state and exit status of all runs by id."""
    return {run["id"]: (run["state"], run.get("status")) for run in ask("runs -n 1000")}


with subtest("killed in the middle of a run"):
    run = run_agent("patient")
    pid = show("rotad.service", "MainPID")
    machine.succeed(f"kill -KILL {pid}")
    assert is_active("rota-patient.service")
    machine.wait_until_succeeds(
        f"pid=$(systemctl show --property=MainPID --value rotad.service); [ $pid != 0 ] && [ $pid != {pid} ]"
    )
    assert show("rota-patient.service", "InvocationID") == run
    machine.succeed("touch /run/go")
    (only,) = filed("patient")
    assert (only["id"], only["state"], only["status"]) == (run, "failed", 7), only

with subtest("killed in the moment when a run ends"):
    machine.succeed("rm /run/go")
    run = run_agent("patient")
    machine.succeed("touch /run/go; kill -KILL $(systemctl show --property=MainPID --value rotad.service)")
    machine.wait_until_fails("systemctl is-active rota-patient.service")
    _, second = filed("patient", 2)
    assert (second["id"], second["state"], second["status"]) == (run, "failed", 7), second

with subtest("timers fire without rotad, and it records that later"):
    machine.wait_for_unit("rotad.service")
    machine.succeed("systemctl stop rotad.service")
    known = len(account())
    retry(lambda _: len(account()) >= known + 2, 120)
    assert show("rotad.service", "ActiveState") == "inactive"
    machine.succeed("systemctl start rotad.service")
    at_rest()
    states = {run["id"]: run["state"] for run in ran("heartbeat")}
    assert sorted(states) == sorted(account()), (states, account())
    assert set(states.values()) == {"succeeded"}, states

with subtest("a store that is gone is made again from the journal"):
    before = recorded()
    machine.succeed("systemctl stop rotad.service; rm /var/lib/rota/rota.db*; systemctl start rotad.service")
    retry(lambda _: before.items() <= recorded().items(), 60)

with subtest("the machine goes down in the middle of a run"):
    machine.succeed("rm /run/go")
    filed("greeter")
    lost = run_agent("patient")
    known = len(account())
    machine.succeed("journalctl --sync; sync")
    machine.crash()
    machine.start()
    machine.wait_for_unit("rotad.service")
    third = filed("patient", 3)[2]
    assert (third["id"], third["state"]) == (lost, "unknown"), third
    assert third["reason"] == "the machine went down", third
    machine.fail("systemctl is-active rota-patient.service")

with subtest("nothing recorded before is lost or doubled, and boot started what it should"):
    ids = [run["id"] for run in ask("runs -n 1000")]
    assert len(ids) == len(set(ids)) and before.keys() <= set(ids)
    assert [run["state"] for run in filed("greeter", 2)] == ["succeeded", "succeeded"]

with subtest("what was paused is paused"):
    (agent,) = [agent for agent in ask("list") if agent["name"] == "heartbeat"]
    assert agent["paused"], agent
    assert len(account()) == known
    machine.succeed("rota resume heartbeat")
    retry(lambda _: len(account()) > known, 60)
