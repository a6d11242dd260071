"""rota-clean@.service and commands, as the keeper starts them: real disks, a real journal, tmpfiles."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rota.clean_rules import CleanRules, JournalRule, NixRule, PathRule, TmpRule
from rota.clean_units import clean_units, command_units
from rota.cleaning import KeeperCommand
from rota.units import Context
from rota.watch_rules import limits
from rota.watches import Disk
from tests import loops
from tests.loops import MIB
from tests.machine.install import install_rota
from tests.machine.machine import Machine

DAY = 86_400_000_000
UNITS = "/etc/systemd/system"
DISK = Disk(limits("space", declared=True), limits("inodes", declared=True))
FULL = "/srv/my disk"
UNIT = "rota-clean@srv-my\\x20disk.service"
REPORT = "/run/rota-clean/srv-my\\x20disk.json"
DISKS = {"disk": FULL, "journal": "/var/log/journal", "tmp": "/var/tmp", "nix": "/nix"}
AGE = 1_000_000
"""Nobody can set the ctime of a file: what is old is seconds old here."""
RULES = CleanRules(disk=DISK, paths=(PathRule(f"{FULL}/cache", AGE, keep=1),))
# What the declare part makes of the policy: the keeper may start these, and nothing else.
POLKIT = """polkit.addRule(function (action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "alice" &&
        /^rota-(clean|command)@[^\\/]+\\.service$/.test(action.lookup("unit")) &&
        action.lookup("verb") == "start" &&
        /^Authentication is required to start '/.test(action.lookup("polkit.message"))) {
        return polkit.Result.YES;
    }
});
"""
ASK = """import asyncio, json, sys
sys.path.insert(0, "/usr/lib/rota")
from rota.clean_rules import CommandRule
from rota.errors import RotaError
from rota_agents.home_keeper.remedies import clean, commands
from rota_agents.home_keeper.remedies.jobs import Jobs
from rota_agents.home_keeper.words import Action, Remedy, Target

word, name = sys.argv[1:3]
jobs = Jobs()
known = {name: CommandRule(60_000_000) for name in ("works", "fails", "slow", "who", "gone")}
remedies = {**clean.remedies(jobs), **commands.remedies(jobs, known)}
target = Target("disk", name) if name.startswith("/") else Target("disk", "/")
action = Action(1, target, "space", Remedy(word, name), 0, "", 1)
try:
    done = asyncio.run(remedies[word](action))
    print(json.dumps({"done": dict(done)}))
except RotaError as error:
    print(json.dumps({"failed": error.message, "hint": error.hint}))
"""


@pytest.fixture(scope="module")
def machine(bootable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with three small disks of its own, and a user who may start what the keeper may."""
    folder = tmp_path_factory.mktemp("disks")
    points = [loops.mount(folder, name, mib=64, inodes=6000) for name in DISKS]
    try:
        binds = [f"--bind={point}:{where}" for point, where in zip(points, DISKS.values(), strict=True)]
        with Machine(options=binds) as booted:
            install_rota(booted, start=False)
            booted.write("/etc/polkit-1/rules.d/90-test.rules", POLKIT)
            booted.write("/opt/ask.py", ASK)
            booted.run("chmod 1777 /var/tmp && journalctl --flush")
            yield booted
    finally:
        for point in points:
            loops.unmount(point)


def declare(machine: Machine, rules: CleanRules, commands: dict[str, KeeperCommand] | None = None) -> None:
    made = [*clean_units(rules, "/etc/rota/rota.toml")]
    made += command_units(commands or {}, "/etc/rota/rota.toml", Context())
    for file in made:
        machine.write(f"{UNITS}/{file.name}", file.text or "")
    machine.run("systemctl daemon-reload")


def ask(machine: Machine, word: str, name: str, user: str = "alice") -> dict[str, Any]:
    command = ["python3", "/opt/ask.py", word, name]
    return dict(json.loads(machine.run(command, user=user, timeout=100).stdout))


def preview(machine: Machine, path: str) -> dict[str, Any]:
    """Return what a person is told who has it looked at first."""
    name = machine.run(["systemd-escape", "--path", path]).stdout.strip()
    machine.run(["systemctl", "start", f"rota-clean-preview@{name}.service"], timeout=100)
    return dict(json.loads(machine.read(f"/run/rota-clean-preview/{name}.json")))


def used(machine: Machine, path: str) -> int:
    return int(machine.run(["df", "--output=pcent", path]).stdout.split()[-1].rstrip("%"))


def fill(machine: Machine) -> None:
    """Write old files of a MiB until the disk is 95 % full; others own them."""
    machine.run(["rm", "-rf", f"{FULL}/cache"])
    machine.run(["install", "-d", "-o", "bob", "-m", "0700", f"{FULL}/cache/deep"])
    machine.run(
        "n=0; while head -c 1M /dev/zero >f$n && touch -d '-40 days -'$((1000 - n))' min' f$n; "
        "do n=$((n + 1)); [ $(df --output=pcent . | tail -1 | tr -d ' %') -lt 95 ] || break; done; sleep 1.1",
        cwd=f"{FULL}/cache/deep",
        user="bob",
    )


def files(machine: Machine) -> int:
    return int(machine.run(["sh", "-c", f"find '{FULL}/cache' -type f | wc -l"]).stdout)


def test_the_keeper_has_a_full_disk_cleaned(machine: Machine) -> None:
    declare(machine, RULES)
    fill(machine)
    before = files(machine)
    seen = preview(machine, FULL)
    assert seen["need"]["size"] > 0 and seen["steps"][0]["count"] == before - 1, "one is the floor"
    assert files(machine) == before
    done = ask(machine, "clean", FULL)["done"]
    assert 84 <= used(machine, FULL) <= 87
    (step,) = done["steps"]
    assert step["count"] == before - files(machine) > 0
    assert done["enough"] and done["freed"] >= (step["count"] - 1) * MIB
    assert ask(machine, "clean", FULL)["done"]["steps"] == [], "nothing is too full any more"
    said = machine.run(["journalctl", "-o", "cat", "-u", UNIT]).stdout
    assert "removed" in said and "by df" in said
    states = machine.run(["systemctl", "list-units", "--all", "--plain", "rota-clean*"]).stdout
    assert "failed" not in states


def test_paths_are_taken_as_they_were_declared(machine: Machine) -> None:
    """Nothing in them is expanded on the way through a unit file, neither in rules nor in sandboxes."""
    odd = f"{FULL}/100%% of %n\\x20"
    declare(machine, replace(RULES, paths=(PathRule(odd, AGE, keep=1),)))
    fill(machine)
    machine.run(["mv", f"{FULL}/cache", odd])
    done = ask(machine, "clean", FULL)["done"]
    machine.run(["rm", "-rf", odd])
    assert done["enough"] and done["freed"] > MIB


def test_what_is_still_too_full_is_no_success_and_no_failed_unit(machine: Machine) -> None:
    declare(machine, replace(RULES, paths=(replace(RULES.paths[0], keep=1000),)))
    fill(machine)
    failed = ask(machine, "clean", FULL)
    assert re.fullmatch(f"0 B freed, and {FULL} is still 9[45] % full", failed["failed"])
    machine.run(["systemctl", "start", UNIT])
    assert "failed" not in machine.run(["systemctl", "list-units", "--all", "rota-clean*"]).stdout


@pytest.mark.parametrize("path", ["/proc", "/srv", "/etc", "/run"])
def test_who_starts_it_cannot_name_what_is_no_watched_disk(machine: Machine, path: str) -> None:
    declare(machine, RULES)
    assert "it ended with exit status 2" in ask(machine, "clean", path)["failed"]


def test_others_may_not_start_it(machine: Machine) -> None:
    declare(machine, RULES)
    look = ["systemctl", "start", "--no-ask-password", UNIT.replace("clean@", "clean-preview@")]
    assert machine.run(look, user="alice", check=False).returncode, "to look first is for people"
    refused = machine.run(["systemctl", "start", "--no-ask-password", UNIT], user="bob", check=False)
    assert refused.returncode and "authentication required" in refused.stderr
    assert "authentication required" in ask(machine, "clean", FULL, user="bob")["failed"]
    more = machine.run(["systemctl", "stop", "--no-ask-password", UNIT], user="alice", check=False)
    assert more.returncode, "starting it is all that the keeper may do with it"


def test_two_at_once_are_one(machine: Machine) -> None:
    declare(machine, RULES)
    fill(machine)
    machine.run("mkdir -p /run/rota-clean; touch /run/rota-clean/lock")
    since = machine.run("date +%s.%N").stdout.strip()
    holder = machine.popen(["flock", "/run/rota-clean/lock", "sleep", "2"])
    asked = [machine.popen(["python3", "/opt/ask.py", "clean", FULL], user="alice") for _ in range(2)]
    reports = [json.loads(one.communicate(timeout=60)[0]) for one in asked]
    holder.wait()
    assert reports[0] == reports[1] and reports[0]["done"]["enough"]
    starting = [
        "journalctl",
        "-o",
        "cat",
        f"--since=@{since}",
        "-u",
        UNIT,
        "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5",
    ]
    assert machine.run(starting).stdout.count("Starting") == 1


def test_killed_it_is_told_and_the_next_one_works(machine: Machine) -> None:
    declare(machine, RULES)
    fill(machine)
    before = files(machine)
    machine.run("mkdir -p /run/rota-clean; touch /run/rota-clean/lock")
    holder = machine.popen(["flock", "/run/rota-clean/lock", "sleep", "60"])
    asked = machine.popen(["python3", "/opt/ask.py", "clean", FULL], user="alice")
    machine.wait_for(
        lambda: "activating" in machine.run(["systemctl", "show", "-P", "ActiveState", UNIT]).stdout
    )
    machine.run(["systemctl", "kill", "--signal=KILL", UNIT])
    told = json.loads(asked.communicate(timeout=30)[0])["failed"]
    assert "it was killed by signal 9" in told and "freed" in told
    assert files(machine) == before
    holder.terminate()
    machine.run("pkill -x sleep", check=False)
    assert ask(machine, "clean", FULL)["done"]["enough"]


def test_a_read_only_disk_and_a_path_that_is_gone(machine: Machine) -> None:
    declare(machine, RULES)
    fill(machine)
    machine.run(["mount", "-o", "remount,bind,ro", FULL])
    try:
        failed = ask(machine, "clean", FULL)["failed"]
        assert "Read-only file system" in failed
    finally:
        machine.run(["mount", "-o", "remount,bind,rw", FULL])
    machine.run(["mv", f"{FULL}/cache", f"{FULL}/aside"])
    machine.run(["ln", "-s", "aside", f"{FULL}/cache"])
    failed = ask(machine, "clean", FULL)["failed"]
    assert "leads over a symlink" in failed or "Read-only" in failed
    machine.run(["rm", f"{FULL}/cache"])
    assert "No such file or directory" in ask(machine, "clean", FULL)["failed"]
    machine.run(["mv", f"{FULL}/aside", f"{FULL}/cache"])


def test_without_rules_nothing_is_done(machine: Machine) -> None:
    machine.run(f"rm -rf {UNITS}/rota-clean@.service.d && systemctl daemon-reload")
    fill(machine)
    assert "it ended with exit status 1" in ask(machine, "clean", FULL)["failed"]
    assert used(machine, FULL) >= 95


def test_the_journal_is_vacuumed_by_age_down_to_its_floor(machine: Machine) -> None:
    where = DISKS["journal"]
    machine.write(
        "/etc/systemd/journald.conf.d/big.conf",
        "[Journal]\nSystemMaxUse=62M\nSystemKeepFree=1M\nSystemMaxFileSize=4M\nRateLimitBurst=0\nCompress=no\n",
    )
    machine.run("systemctl restart systemd-journald && journalctl --flush")
    machine.run(
        "for n in $(seq 60); do head -c 3M /dev/urandom | base64 -w 900 | systemd-cat -t noise; "
        "journalctl --sync; "
        f"[ $(df --output=pcent {where} | tail -1 | tr -d ' %') -lt 91 ] || break; done",
        timeout=120,
    )
    assert used(machine, where) > 88
    archived = machine.run(f"ls -tr {where}/*/system@*.journal").stdout.split()
    assert len(archived) > 6
    young = archived[-3:]
    for path in archived[:-3]:
        machine.run(["touch", "-d", "-20 days", path])
    rules = CleanRules(disk=DISK, journal=JournalRule(14 * DAY, MIB))
    declare(machine, rules)
    done = ask(machine, "clean", where)["done"]
    assert used(machine, where) < 87
    (step,) = done["steps"]
    left = machine.run(f"ls {where}/*/system@*.journal").stdout.split()
    assert set(young) <= set(left), "what is younger stays"
    assert step["freed"] > MIB and step["count"] == len(set(archived) - set(left))
    machine.run(["journalctl", "--verify", "-q"], check=False)
    assert machine.run(["journalctl", "-n1", "-q", "-o", "cat"]).stdout, "it can still be read"


def test_temporary_files_go_by_the_rules_of_tmpfiles(machine: Machine) -> None:
    where = DISKS["tmp"]
    boot = machine.read("/proc/sys/kernel/random/boot_id").strip().replace("-", "")
    private = f"{where}/systemd-private-{boot}-x.service-abc/tmp"
    machine.run(f"mkdir -p {private} {where}/kept {where}/old")
    machine.write("/etc/tmpfiles.d/kept.conf", f"x {where}/kept\n")
    machine.run(f"for n in $(seq 50); do head -c 1M /dev/zero >{where}/old/$n; done")
    machine.run(f"head -c 8M /dev/zero >{where}/young; touch {where}/kept/a {private}/b {where}/c")
    # Every time of a file counts, and that of its inode cannot be set: what is old is seconds old here.
    machine.run("sleep 4")
    toucher = machine.popen(f"timeout 30 sh -c 'while touch {where}/young; do sleep 0.2; done'")
    assert used(machine, where) >= 95
    declare(machine, CleanRules(disk=DISK, tmp=TmpRule((where, "/tmp"), 3_000_000)))
    seen = preview(machine, where)["steps"][0]
    assert seen["count"] >= 51 and seen["frees"] >= 50 * MIB, seen
    done = ask(machine, "clean", where)["done"]
    assert toucher.poll() is None
    toucher.kill()
    assert done["freed"] >= 49 * MIB and used(machine, where) < 30
    assert not machine.exists(f"{where}/old/1") and not machine.exists(f"{where}/c")
    assert machine.exists(f"{where}/young") and machine.exists(f"{where}/kept/a")
    assert machine.exists(f"{private}/b"), "what systemd gave a service is its own"
    assert "/tmp" not in done["steps"][0]["did"].replace("/var/tmp", ""), "/tmp is another file system"


def test_nix_collects_its_garbage_by_way_of_its_daemon(machine: Machine) -> None:
    machine.write("/etc/nix/nix.conf", "build-users-group =\n")
    machine.run("systemd-run --quiet --unit=nix-daemon nix-daemon")
    machine.wait_for(["test", "-S", "/nix/var/nix/daemon-socket/socket"])
    add = "head -c 6M /dev/urandom >/root/{0} && nix-store --add /root/{0}"
    paths = [machine.run(add.format(name)).stdout.strip() for name in ("a", "b", "c", "d", "e", "f")]
    profile = "/nix/var/nix/profiles/test"
    for path in paths[:4]:
        machine.run(["nix-env", "--profile", profile, "--set", path])
    # The third was in use thirty days ago, so that it stays to go back to.
    for number, days in ((1, 60), (2, 50), (3, 40)):
        machine.run(["touch", "-h", "-d", f"-{days} days", f"{profile}-{number}-link"])
    goal = used(machine, "/nix") - 15
    disk = Disk(tuple(replace(one, opens=goal + 1, closes=goal) for one in DISK.space[:1]))
    declare(machine, CleanRules(disk=disk, nix=NixRule(30 * DAY)))
    row = preview(machine, "/nix")["steps"][0]
    assert row["count"] == 2 and row["frees"] == 12 * MIB, row
    assert "2 paths that nothing needs, and what 2 old generations hold" in row["what"]
    assert machine.exists(f"{profile}-1-link"), "a preview changes nothing"
    done = ask(machine, "clean", "/nix")["done"]
    (step,) = done["steps"]
    assert 1 <= step["count"] <= 4 and step["freed"] == step["count"] * 6 * MIB, step
    assert used(machine, "/nix") <= goal
    left = machine.run(["ls", "/nix/var/nix/profiles"]).stdout.split()
    assert {"test", "test-3-link", "test-4-link"} <= set(left) and "test-1-link" not in left
    for path in paths[2:4]:
        assert machine.exists(path)


COMMANDS = {
    "works": KeeperCommand(command=("/bin/true",)),
    "fails": KeeperCommand(command=("/bin/sh", "-c", "exit 7")),
    "slow": KeeperCommand(command=("/bin/sleep", "30"), timeout="1s"),
    "who": KeeperCommand(
        command=("/bin/sh", "-c", 'id -un; echo "$WORD"; touch /etc/x'), environment={"WORD": "a b$%"}
    ),
    "root": KeeperCommand(
        command=("/bin/sh", "-c", "echo >/srv/state/mark"), user="root", writable=("/srv/state",)
    ),
}


def test_commands(machine: Machine) -> None:
    machine.run("mkdir -p /srv/state")
    declare(machine, RULES, COMMANDS)
    assert ask(machine, "run-command", "works")["done"] == {
        "unit": "rota-command@works.service",
        "result": "success",
    }
    assert ask(machine, "run-command", "fails")["failed"] == "fails failed: it ended with exit status 7"
    assert "it took too long" in ask(machine, "run-command", "slow")["failed"]
    assert "there is no rota-command@gone.service" in ask(machine, "run-command", "gone")["failed"]
    assert ask(machine, "run-command", "other")["failed"] == 'no command "other" is declared'
    assert "exit status 1" in ask(machine, "run-command", "who")["failed"]
    said = machine.run(["journalctl", "-o", "cat", "-t", "rota-command-who"]).stdout
    assert said.splitlines()[1:2] == ["a b$%"] and "root" not in said.splitlines()[0]
    assert "Read-only file system" in said
    machine.run(["systemctl", "start", "rota-command@root.service"])
    assert machine.exists("/srv/state/mark")
    states = machine.run(["systemctl", "list-units", "--all", "--plain", "rota-command*"]).stdout
    assert "failed" not in states, "what became of them is the keeper's to tell"


def test_systemd_takes_all_of_it(machine: Machine) -> None:
    declare(
        machine,
        replace(RULES, tmp=TmpRule(("/var/tmp",)), journal=JournalRule(DAY, MIB)),
        COMMANDS,
    )
    units = [UNIT, "rota-clean-preview@-.service", *(f"rota-command@{name}.service" for name in COMMANDS)]
    done = machine.run(["systemd-analyze", "verify", "--man=no", *units])
    assert [line for line in (done.stdout + done.stderr).splitlines() if "rota-" in line] == []
