"""What Home Keeper promises, as a person has it: rota.toml, `rota apply`, a real systemd and a real Docker.

Nothing here reaches into the keeper: things are broken by systemctl, Docker and a full disk, and looked at by
the CLI, systemd and a webhook.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from rota.names import KEEPER_DROP_IN, KEEPER_SERVICE, SYSTEM_UNIT_DIR
from tests import loops
from tests.loops import MIB
from tests.machine import dockerd, test_notify
from tests.machine.dockerd import Docker
from tests.machine.install import install_rota
from tests.machine.kept import (
    CURED,
    DECLARED,
    DOORS,
    ENGINE,
    FULL,
    OBEYS,
    OPENER,
    PROXY,
    RULES,
    RUNNING,
    SOCKET,
    UNITS,
    Kept,
)
from tests.machine.machine import Machine


@pytest.fixture(scope="module")
def keeper(bootable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """All of it: set up once, as a person does."""
    if why := dockerd.missing():
        pytest.skip(why)
    with ExitStack() as stack:
        docker = stack.enter_context(Docker())
        docker.run.chmod(0o755)
        disk = loops.mount(tmp_path_factory.mktemp("disk"), "full", mib=64, inodes=6000)
        stack.callback(loops.unmount, disk)
        binds = [f"--bind={docker.run}:{ENGINE}", f"--bind={disk}:{FULL}"]
        machine = stack.enter_context(Machine(options=binds))
        machine.run("groupadd --system docker")
        install_rota(machine)
        house = Kept(machine, docker)
        house.let_in()
        machine.run("install -d -m 700 /etc/rota/secrets; install -d -m 1777 /run/opener")
        machine.run(f"touch /run/opener/door /run/opener/gate; mkdir {FULL}/cache")
        machine.write(test_notify.SECRET, f"json://127.0.0.1:{test_notify.PORT}/x\n", 0o600)
        test_notify.serve(machine)
        for name, text in UNITS.items():
            machine.write(f"{SYSTEM_UNIT_DIR}/{name}.service", f"[Service]\n{text}")
        machine.run(["systemctl", "daemon-reload"])
        machine.run(["systemctl", "start", *RUNNING])
        house.declare("opener", OPENER, apply=False)
        said = house.settings(DECLARED)
        assert "The Home Keeper goes by what is declared." in said
        yield house


@pytest.fixture
def kept(keeper: Kept) -> Kept:
    """A keeper that goes by what this file declares."""
    keeper.as_declared()
    return keeper


def test_a_unit_that_is_killed_comes_back(kept: Kept) -> None:
    began = time.monotonic()  # the machine's, too
    kept.kill("kept-web")
    kept.until(lambda: kept.history("unit:kept-web.service")[0], "it to be restarted")
    kept.active("kept-web")
    back = int(kept.show("kept-web", "ActiveEnterTimestampMonotonic")) / 1e6
    print(f"killed and back in {(back - began) * 1000:.0f} ms, systemctl's own time included")
    remedy = kept.healed("unit:kept-web.service")
    assert (remedy["remedy"], remedy["attempt"]) == ("restart-unit", 1)
    assert kept.show("kept-web", "NRestarts") == "0", "systemd itself did not"
    _, (finding,) = kept.history("unit:kept-web.service")
    assert finding["problem"] == "failed"
    assert "killed by SIGKILL" in kept.rota("keeper history unit:kept-web.service").stdout


def test_an_unhealthy_container_gets_well(kept: Kept) -> None:
    """By rota-docker-proxy, for the keeper itself is not let near Docker."""
    docker, began = kept.docker, time.time()
    docker.run_one("kept-shop", **CURED)
    kept.until(lambda: docker.inspect("kept-shop")["State"]["Health"]["Status"] == "healthy", "it to be well")
    docker.execute("kept-shop", "rm /run/well")
    remedy = kept.healed("container:kept-shop")
    assert (remedy["remedy"], remedy["problem"]) == ("restart-container", "unhealthy")
    assert docker.inspect("kept-shop")["State"]["Health"]["Status"] == "healthy"
    heard = docker.events("kept-shop", began)
    sick = next(at for what, at in heard if what == "health_status: unhealthy")
    started = next(at for what, at in heard if what == "start" and at > sick)
    print(f"unhealthy and started again in {(started - sick) * 1000:.0f} ms, as Docker counts")
    journal = kept.machine.run(f"journalctl -u {PROXY}.service -o cat --no-pager").stdout
    assert f"POST /v1.41/containers/{docker.inspect('kept-shop')['Id']}/restart" in journal
    groups = kept.machine.run(f"grep Groups /proc/{kept.show(KEEPER_SERVICE, 'MainPID')}/status").stdout
    assert kept.machine.run("getent group docker").stdout.split(":")[2] not in groups.split()
    asked = f"curl --silent --max-time 5 --unix-socket {ENGINE}/docker.sock http://d/version"
    assert kept.machine.run(asked, user="rota-keeper", check=False).returncode


def test_what_was_stopped_by_hand_and_what_is_not_named_is_let_be(kept: Kept) -> None:
    machine, docker = kept.machine, kept.docker
    docker.run_one("kept-by-hand", OBEYS, restart="unless-stopped")
    docker.run_one("other", "sleep 1; exit 3")
    machine.run("systemctl stop kept-by-hand")
    kept.kill("other")
    docker.do("kept-by-hand", "stop")
    kept.until(lambda: kept.problems("unit:other.service") == ["failed"], "it to be noted")
    kept.until(lambda: kept.problems("container:other") == ["exited"], "it to be noted")
    assert kept.target("unit:other.service")["mode"] == "observe"
    time.sleep(4.5)  # the longest settle, after which a strike would lead to something
    for name in ("unit:kept-by-hand.service", "container:kept-by-hand"):
        assert kept.problems(name) == [], name
    for name in (
        "unit:other.service",
        "container:other",
        "unit:kept-by-hand.service",
        "container:kept-by-hand",
    ):
        assert kept.history(name)[0] == [], name
    assert (kept.state("kept-by-hand"), kept.state("other")) == ("inactive", "failed")
    for container in ("kept-by-hand", "other"):
        assert not docker.inspect(container)["State"]["Running"]
    assert "Not named, so its mode is that of all such: observe." in (
        kept.rota("keeper explain unit:other.service").stdout
    )


def test_a_crash_loop_ends_with_a_person(kept: Kept) -> None:
    machine, name, target = kept.machine, "kept-hopeless", "unit:kept-hopeless.service"
    machine.run(f"systemctl start {name}", check=False)
    kept.until(lambda: kept.target(target).get("hands_off"), "hands off")
    remedies, _ = kept.history(target)
    assert [one["verdict"] for one in remedies] == ["failed", "failed"], "as many as it has attempts"
    kept.until(lambda: kept.told(target), "a person to be told")
    # Somebody tries by hand, in vain: hands stay off, also when the window of attempts is over.
    machine.run(f"systemctl start {name}", check=False)
    time.sleep(6.5)
    assert kept.starts(name) == 4, "two by hand, two by the keeper"
    (message,) = kept.told(target)
    (command,) = [line.partition("See:")[2] for line in message["message"].splitlines() if "See:" in line]
    said = machine.run(command).stdout
    assert "Hands off since" in said and f"rota keeper resume {target}" in said
    machine.run("touch /run/hope")
    assert target in kept.rota(f"keeper resume {target}", user="bob").stdout
    kept.active(name)
    kept.until(lambda: kept.history(target)[0][-1]["verdict"] == "healed", "it to be well")
    assert kept.starts(name) == 5
    assert len(kept.told(target)) == 1


def test_a_person_is_asked(kept: Kept) -> None:
    yes, no = ("unit:kept-asked-yes.service", "unit:kept-asked-no.service")
    kept.kill("kept-asked-yes", "kept-asked-no")
    for target in (yes, no):
        kept.until(lambda target=target: kept.target(target).get("question"), "a question")
        assert kept.history(target)[0] == []
    questions = {target: kept.target(target)["question"]["id"] for target in (yes, no)}
    assert f"rota keeper approve {questions[yes]}" in kept.rota("keeper").stdout
    kept.rota(f"keeper deny {questions[no]}", user="bob")
    kept.rota(f"keeper approve {questions[yes]}", user="bob")
    assert kept.healed(yes)["approved_by"] == "bob"
    time.sleep(2.5)
    assert (kept.state("kept-asked-yes"), kept.state("kept-asked-no")) == ("active", "failed")
    assert kept.history(no)[0] == []
    assert kept.target(no)["question"] is None


def test_maintenance_holds(kept: Kept) -> None:
    target = "unit:kept-patient.service"
    kept.rota(f"keeper maintenance 2h {target}", user="bob")
    try:
        kept.kill("kept-patient")
        kept.until(lambda: kept.problems(target) == ["failed"], "it to be noted")
        time.sleep(2.5)
        assert kept.history(target)[0] == []
        assert "in maintenance by bob" in kept.rota(f"keeper explain {target}").stdout
    finally:
        kept.rota("keeper maintenance --end", user="bob")
    kept.healed(target)
    assert kept.state("kept-patient") == "active"


def test_the_database_first_and_then_its_clients(kept: Kept) -> None:
    clients = [f"kept-client-{number}" for number in range(4)]
    kept.kill(*clients, "kept-db")
    kept.active("kept-db", *clients)
    (first,), _ = kept.history("unit:kept-db.service")
    ready = int(kept.show("kept-db", "ActiveEnterTimestampMonotonic"))
    for client in clients:
        remedy = kept.healed(f"unit:{client}.service")
        assert remedy["begun"] > first["ended"]
        assert int(kept.show(client, "ActiveEnterTimestampMonotonic")) > ready


def test_a_disk_that_is_full_is_cleaned(kept: Kept) -> None:
    machine, target = kept.machine, f"disk:{FULL}"
    # No ctime can be set: what is old is seconds old here, though an hour is the least to declare.
    drop_ins = f"{SYSTEM_UNIT_DIR}/rota-clean@.service.d"
    text = machine.read(f"{drop_ins}/50-rota.conf")
    age = f'"older_than":{86_400_000_000}'
    assert age in text
    machine.write(f"{drop_ins}/60-age.conf", text.replace(age, '"older_than":2000000'))
    machine.run("systemctl daemon-reload")
    write = f"do head -c 1M /dev/zero >{FULL}/cache/$n; done"
    machine.run(f"for n in 7 $(seq 1 6) $(seq 8 30); {write}; sleep 3; for n in $(seq 31 50); {write}")
    remedy = kept.healed(target)
    assert (remedy["remedy"], remedy["problem"]) == ("clean", "space")
    left = set(machine.run(["ls", f"{FULL}/cache"]).stdout.split())
    assert "50" in left and "7" not in left, "the oldest go, and what is young stays"
    assert remedy["report"]["freed"] >= (50 - len(left)) * MIB * 0.9
    assert 10 <= len(left) < 40, "no more than is needed"
    (line,) = [
        line for line in kept.rota(f"keeper history {target}").stdout.splitlines() if "healed in" in line
    ]
    assert "clean" in line


@pytest.mark.parametrize(
    ("door", "remedy"), [("door", "run-agent opener"), ("gate", "run-command open-gate")]
)
def test_what_is_declared_is_run(kept: Kept, door: str, remedy: str) -> None:
    machine = kept.machine
    machine.run(f"rm /run/opener/{door}; systemctl restart {door}")
    done = kept.healed(f"endpoint:{door}")
    assert (done["remedy"], done["problem"]) == (remedy, "unreachable")
    machine.run(f"curl --silent http://127.0.0.1:{DOORS[door]}")
    if door == "door":
        (run,) = kept.settled("opener")
        assert (done["report"]["run"], run["requested_by"]) == (run["id"], "rota-keeper")


def test_a_keeper_that_is_killed_while_it_acts(kept: Kept) -> None:
    """What it did counts, although it never learned what came of it; what it found is not lost."""
    machine, good, bad = kept.machine, "unit:kept-slow.service", "unit:kept-stubborn.service"
    machine.run("systemctl start kept-stubborn", check=False)
    kept.kill("kept-slow")
    kept.until(
        lambda: all(kept.target(name).get("under_way") for name in (good, bad)), "both to be under way"
    )
    pid = kept.show(KEEPER_SERVICE, "MainPID")
    kept.kill(KEEPER_SERVICE)
    kept.until(lambda: kept.show(KEEPER_SERVICE, "MainPID") not in (pid, "0"), "another keeper")
    kept.answers()
    kept.active("kept-slow")
    kept.until(lambda: kept.target(bad).get("hands_off"), "hands off")
    kept.until(lambda: kept.told(bad), "a person to be told")
    time.sleep(3)
    for name in (good, bad):
        remedies, findings = kept.history(name)
        assert [one["outcome"] for one in remedies] == ["unknown"], name
        assert findings[0]["problem"] == "failed", name
    assert kept.problems(good) == []
    assert (kept.starts("kept-slow"), kept.starts("kept-stubborn")) == (2, 2), "one by hand, one by it"
    assert len(kept.told(bad)) == 1


def test_docker_goes_and_comes_back(kept: Kept) -> None:
    docker = kept.docker
    docker.clear()
    docker.run_one("kept-plain", OBEYS)
    docker.run_one("again", OBEYS, restart="unless-stopped")
    docker.run_one("kept-asleep", OBEYS)
    docker.do("kept-asleep", "stop")
    time.sleep(2.5)  # what ends within two seconds of all others ended with them
    docker.stop()
    kept.until(lambda: kept.problems("check:containers") == ["blind"], "it to be noted")
    kept.engine()
    kept.until(lambda: kept.problems("check:containers") == [], "it to see again")
    assert kept.healed("container:kept-plain")["remedy"] == "start-container"
    running = [docker.inspect(name)["State"]["Running"] for name in ("kept-plain", "again", "kept-asleep")]
    assert running == [True, True, False]
    for name in ("again", "kept-asleep"):
        assert kept.history(f"container:{name}")[0] == [], name


def test_what_it_may_do_follows_what_is_declared(kept: Kept) -> None:
    machine, target = kept.machine, "unit:late.service"
    assert "late" not in machine.read(RULES)
    restart = ["systemctl", "--no-ask-password", "restart", "late"]
    assert machine.run(restart, user="rota-keeper", check=False).returncode
    try:
        assert "The Home Keeper goes by what is declared." in kept.settings(
            f'{DECLARED}[keeper.targets."{target}"]\n'
        )
        assert "late" in machine.read(RULES)
        kept.answers()
        kept.kill("late")
        kept.healed(target)
        assert kept.state("late") == "active"
    finally:
        kept.settings(DECLARED)
    assert "late" not in machine.read(RULES)
    assert machine.run(restart, user="rota-keeper", check=False).returncode


def test_drives_are_asked_as_root_and_the_keeper_reads_what_they_said(kept: Kept) -> None:
    machine, report = kept.machine, "/run/rotad-smart/drives.json"
    assert machine.run("systemctl is-active rotad-smart.timer").stdout.strip() == "active"
    machine.wait_for(lambda: machine.exists(report), timeout=60)
    read = machine.run(["cat", report], user="rota-keeper").stdout
    assert json.loads(read).keys() == {"boottime", "drives"}
    assert machine.run(["cat", report], user="bob", check=False).returncode, "it has serial numbers"
    before = machine.read(report)
    machine.run("systemctl start rotad-smart.service")
    assert machine.read(report) != before
    assert kept.show("rotad-smart", "Result") == "success"
    assert kept.history("check:drives") == ([], [])
    try:
        kept.settings(DECLARED.replace("[keeper.watch]\n", "[keeper.watch]\nsmart = false\n"))
        assert machine.run("systemctl is-active rotad-smart.timer", check=False).stdout.strip() == "inactive"
    finally:
        kept.settings(DECLARED)
    assert machine.run("systemctl is-active rotad-smart.timer").stdout.strip() == "active"


def test_least_privilege(kept: Kept) -> None:
    for unit in (KEEPER_SERVICE, f"{PROXY}.service", "rotad-smart.service"):
        verdict = kept.machine.run(["systemd-analyze", "security", "--no-pager", unit]).stdout
        exposure = float(verdict.rpartition(f"{unit}: ")[2].split()[0])
        print(f"exposure of {unit}: {exposure}")
        assert exposure <= 2.0
    errors = f"journalctl --quiet --no-pager --priority err --unit {KEEPER_SERVICE} --unit {PROXY}"
    assert not kept.machine.run(errors).stdout


def test_what_it_consists_of_is_no_agent(kept: Kept) -> None:
    """Units whose names begin as those of agents: they have no runs, and the group rota may not stop them."""
    machine = kept.machine
    for unit in (KEEPER_SERVICE, f"{PROXY}.service"):
        assert kept.state(unit) == "active"
        stop = ["systemctl", "--no-ask-password", "stop", unit]
        assert machine.run(stop, user="bob", check=False).returncode
        assert kept.state(unit) == "active"
    assert not {"home-keeper", "docker-proxy"} & {run["agent"] for run in kept.json("runs -n 1000")}


def test_without_it_nothing_of_it_is_left(kept: Kept) -> None:
    machine = kept.machine
    rest, _, _ = DECLARED.partition("[keeper]")
    machine.run(f"test -S {SOCKET} && test -s {RULES} && test -s {SYSTEM_UNIT_DIR}/{KEEPER_DROP_IN}")
    assert "The Home Keeper is stopped." in kept.settings(rest)
    for unit in (KEEPER_SERVICE, f"{PROXY}.service", f"{PROXY}.socket"):
        assert kept.state(unit) == "inactive", unit
    for path in (SOCKET, RULES, f"{SYSTEM_UNIT_DIR}/{KEEPER_DROP_IN}"):
        assert not machine.exists(path), path
    left = machine.run(f"grep --recursive --files-with-matches keeper {SYSTEM_UNIT_DIR}", check=False).stdout
    assert left == ""
    assert kept.rota("keeper", code=4).stderr.startswith("rota: Home Keeper is not enabled\n")
    restart = ["systemctl", "--no-ask-password", "restart", "kept-web"]
    assert machine.run(restart, user="rota-keeper", check=False).returncode
    kept.kill("kept-later")
    time.sleep(2)
    assert kept.state("kept-later") == "failed"
