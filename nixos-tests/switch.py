"""A switch neither stops nor starts an agent, whatever has become of its declaration."""

AFTER = f"{toplevel}/specialisation/after"
OFF = f"{toplevel}/specialisation/off"
EDITED = ("paced", "slotted", "persistent", "booted", "demanded")
SLICES = ("rota.slice", "rota-medium.slice", "rota-low.slice")
SECOND = 1_000_000


def switch(system: str) -> None:
    """Switch to a system, as nixos-rebuild does."""
    machine.succeed(f"{system}/bin/switch-to-configuration test 2>&1")


def armed(agent: str) -> int:
    """Return the second when an agent's timer was started, which is when its schedule begins to count."""
    since = show(f"rota-{agent}.timer", "ActiveEnterTimestamp")
    return int(machine.succeed(f"date --date='{since}' +%s"))


def scheduled(agent: str, since: int = 0) -> list[dict[str, Any]]:
    """Return the runs that an agent's timer has started since some second."""
    return [run for run in ran(agent) if run.get("trigger") == "timer" and run["started"] >= since * SECOND]


def first_scheduled(agent: str) -> float:
    """Wait for the first run by an agent's timer; return how long after the timer's start it began."""
    since = armed(agent)
    retry(lambda _: len(scheduled(agent, since)) > 0, 120)
    return float(scheduled(agent, since)[0]["started"] / SECOND - since)


def goes_on(agent: str, run: str) -> None:
    """Check that a run is still under way."""
    unit = f"rota-{agent}.service"
    assert (show(unit, "ActiveState"), show(unit, "InvocationID")) == ("active", run), unit


def slices() -> list[str]:
    """Return since when slices have been active."""
    return [show(unit, "ActiveEnterTimestampMonotonic") for unit in SLICES]


with subtest("before: every schedule to be edited has run, and slots of the new one pass"):
    machine.succeed("rota pause resting")
    for agent in EDITED:
        machine.succeed(f"rota run --wait {agent}")
    machine.sleep(31)
    rested = len(ran("resting"))
    edited, leaving = run_agent("edited"), run_agent("leaving")
    active = slices()
    daemon = show("rotad.service", "MainPID")

with subtest("a switch stops no run, and takes no slice away"):
    switch(AFTER)
    goes_on("edited", edited)
    goes_on("leaving", leaving)
    assert slices() == active
    assert show("rotad.service", "MainPID") == daemon

with subtest("what is declared is there, what is not is gone"):
    names = {"edited", "new-name", "dormant", "resting", *EDITED}
    retry(lambda _: {agent["name"] for agent in ask("list")} == names, 30)
    for gone in ("leaving", "old-name", "dozing"):
        assert not is_active(f"rota-{gone}.timer")
        machine.fail(f"test -e /etc/systemd/system/rota-{gone}.service")
    for there in names:
        assert is_active(f"rota-{there}.timer")

with subtest("runs end by themselves, are recorded, and were not doubled"):
    machine.succeed("touch /run/go")
    (run,) = filed("edited")
    assert (run["id"], run["state"], run["status"]) == (edited, "failed", 3), run
    machine.succeed(f"rota logs {edited[:12]} | grep 'the old way'")
    (run,) = filed("leaving")
    assert (run["id"], run["state"], run["status"]) == (leaving, "failed", 5), run

with subtest("an edited schedule counts from the switch"):
    for agent in ("paced", "demanded", "dormant"):
        waited = first_scheduled(agent)
        assert waited >= 14.9, (agent, waited)
    for agent in ("slotted", "persistent"):
        first_scheduled(agent)
        began = scheduled(agent, armed(agent))[0]["started"] / SECOND
        assert began % 30 < 10, (agent, began)
    assert len(ran("booted")) == 1, "boot is past"
    assert ran("new-name") == []

with subtest("what was paused is paused"):
    (agent,) = [agent for agent in ask("list") if agent["name"] == "resting"]
    assert agent["paused"], agent
    retry(lambda _: len(runs("resting")) > rested, 60)
    assert len(ran("resting")) == rested

with subtest("and back again"):
    machine.succeed("rm /run/go")
    edited = run_agent("edited")
    active = slices()[:2]
    dozed = len(ran("dozing"))
    switch(toplevel)
    goes_on("edited", edited)
    assert slices()[:2] == active
    assert not is_active("rota-dormant.timer")
    assert not is_active("rota-new-name.timer")
    machine.succeed("touch /run/go")
    retry(lambda _: runs("edited")[-1].get("archived"), 60)
    run = runs("edited")[-1]
    assert (len(runs("edited")), run["id"], run["state"], run["status"]) == (2, edited, "failed", 4), run
    machine.succeed(f"rota logs {edited[:12]} | grep 'the new way'")
    waited = first_scheduled("dozing")
    assert waited >= 14.9 and len(ran("dozing")) > dozed, waited
    assert len(runs("leaving")) == 1 and ran("old-name") == []
    assert len(ran("resting")) == rested

with subtest("turned off and on again, rota has stopped nothing either"):
    machine.succeed("rm /run/go")
    edited = run_agent("edited")
    switch(OFF)
    goes_on("edited", edited)
    assert not is_active("rotad.service")
    assert not is_active("rota-paced.timer")
    switch(toplevel)
    goes_on("edited", edited)
    machine.wait_for_unit("rotad.service")
    machine.succeed("touch /run/go")
    retry(lambda _: runs("edited")[-1].get("archived"), 60)
    run = runs("edited")[-1]
    assert (len(runs("edited")), run["id"], run["state"], run["status"]) == (3, edited, "failed", 3), run
