"""The policy as rules for polkit: they say what the keeper itself goes by, for any policy and unit."""

from __future__ import annotations

import itertools
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rota_agents.home_keeper.words import PROBLEMS, Target, remedy_for

from rota import keeper_rules, names
from rota.keeper_config import Config
from rota.keeper_polkit import VERBS, text
from rota.keeping import Keeper, resolve
from tests.keeper.javascript import ask

MANAGE = "org.freedesktop.systemd1.manage-units"
ALL = ["start", "stop", "restart", "try-restart", "reload", "reload-or-restart", "kill", "reset-failed"]
ALL += ["clean", "set-property", "freeze", ""]
MESSAGES = {"start": "Authentication is required to start '$(unit)'."}
DECLARED = """
mode = "act"
never = ["unit:app-db.service"]
[policy]
remedy = "agent:tidy-up"
[targets."unit:app-*.service"]
remedy = "restart"
[targets."unit:app-quiet.service"]
mode = "observe"
[targets."unit:app-shy.service"]
mode = "ask"
remedy = "start"
[targets."unit:app-told.service"]
strikes = ["note", "escalate"]
[targets."unit:app-stale.service"]
remedy = "reset-failed"
[targets."container:web"]
remedy = "command:renew-lease"
[targets."unit:nginx.service"]
"""


def made(declared: str) -> str:
    return text(Config(rules=resolve(Keeper.model_validate(tomllib.loads(declared)))), "/etc/rota")


def verbs(rules: str, *units: str, user: str = names.KEEPER_USER) -> list[set[str]]:
    """Return what a user may do to units."""
    pairs = list(itertools.product(units, ALL))
    details = [
        {
            "unit": unit,
            "verb": verb,
            "polkit.message": MESSAGES.get(verb, f"Authentication is required to {verb}"),
        }
        for unit, verb in pairs
    ]
    said = ask(rules, [(MANAGE, user, item) for item in details])
    assert set(said) <= {"yes", "no"}
    yes = [pair for pair, answer in zip(pairs, said, strict=True) if answer == "yes"]
    return [{verb for other, verb in yes if other == unit} for unit in units]


def test_what_is_named_and_nothing_else() -> None:
    rules = made(DECLARED)
    restart = {"restart", "start", "reset-failed"}
    expected = {
        "app-web.service": restart,
        "app-shy.service": {"start", "reset-failed"},
        "app-stale.service": {"reset-failed"},
        "app-quiet.service": set(),
        "app-told.service": set(),
        "app-db.service": set(),
        "xapp-web.service": set(),
        "app-web.service.d": set(),
        "other.service": set(),
        # An agent is to deal with it: the keeper itself need not touch it.
        "nginx.service": set(),
        "sshd.service": set(),
        "rota-home-keeper.service": set(),
        "rota-clean@srv.service": {"start"},
        # What would be cleaned is for people to see, who are root.
        "rota-clean-preview@srv.service": set(),
        "rota-command@renew-lease.service": {"start"},
        "rota-command@other.service": set(),
        "": set(),
    }
    assert dict(zip(expected, verbs(rules, *expected), strict=True)) == expected


def test_a_house_where_all_may_be_touched_but_what_never_is() -> None:
    rules = made('unnamed = "act"\nnever = ["unit:postgresql*"]')
    units = (
        "nginx.service",
        "postgresql@15-main.service",
        *(f.replace("*", "x") for f in keeper_rules.NEVER),
    )
    nginx, *others = verbs(rules, *units)
    assert nginx == set(VERBS["restart"])
    assert others == [set()] * len(others)


# A shell as root; the machine ended, asleep, or in another state; all that somebody runs; anything as root.
GIVEN_AWAY = """
debug-shell.service rescue.service emergency.service console-getty.service container-getty@1.service
getty@tty9.service serial-getty@ttyS0.service autovt@tty1.service
poweroff.target reboot.target soft-reboot.target halt.target kexec.target exit.target shutdown.target
ctrl-alt-del.target umount.target final.target sigpwr.target runlevel0.target runlevel1.target
runlevel6.target default.target sleep.target suspend.target hibernate.target hybrid-sleep.target
suspend-then-hibernate.target
rescue.target rescue-ssh.target emergency.target initrd.target initrd-switch-root.target factory-reset.target
systemd-poweroff.service systemd-reboot.service systemd-soft-reboot.service systemd-halt.service
systemd-kexec.service systemd-exit.service systemd-suspend.service systemd-suspend-then-hibernate.service
systemd-hibernate.service systemd-hibernate-resume@dev-sda2.service systemd-hybrid-sleep.service
initrd-switch-root.service initrd-cleanup.service system-update.target system-update-cleanup.service
packagekit-offline-update.service systemd-sysupdate-reboot.service
-.slice user.slice user-1000.slice system.slice machine.slice user@1000.service user-runtime-dir@1000.service
session-1.scope init.scope -.mount sysinit.target basic.target
modprobe@dummy.service podman-kube@-tmp-x.yaml.service systemd-makefs@dev-sdb.service systemd-repart.service
"""
HARMLESS = """
nginx.service my-debug-shell.service rescue-boat.service getty-monitor.service network-online.target
multi-user.target systemd-resolved.service systemd-networkd.service systemd-timesyncd.service home.mount
halt-and-catch-fire.service initrd.service apt-daily.timer podman-auto-update.service user-sync.service
"""


def test_what_gives_the_machine_away_is_never_started() -> None:
    lost, harmless = GIVEN_AWAY.split(), HARMLESS.split()
    declared = 'unnamed = "act"\n[targets."unit:*"]\nmode = "act"'
    rules = resolve(Keeper.model_validate(tomllib.loads(declared)))
    assert [one for one in lost if keeper_rules.never(rules, f"unit:{one}") is None] == []
    assert [one for one in lost if keeper_rules.never(rules, f"unit:other/{one}") is None] == []
    assert [one for one in harmless if keeper_rules.never(rules, f"unit:{one}")] == []
    may = dict(zip([*lost, *harmless], verbs(made(declared), *lost, *harmless), strict=True))
    assert {unit for unit, found in may.items() if found} == set(harmless)


def test_units_of_its_own_making_and_all_units_at_once() -> None:
    rules = made('unnamed = "act"')
    transient = {"unit": "nginx.service", "verb": "start"}
    transient["polkit.message"] = "Authentication is required to start transient unit '$(unit)'."
    assert ask(rules, [(MANAGE, names.KEEPER_USER, transient), (MANAGE, names.KEEPER_USER, {})]) == [
        "no",
        "no",
    ]


def test_others_and_other_actions_are_not_decided() -> None:
    rules = made('unnamed = "act"')
    details = {"unit": "nginx.service", "verb": "restart"}
    asked = [(MANAGE, "rota", details), ("org.freedesktop.systemd1.reload-daemon", names.KEEPER_USER, {})]
    assert ask(rules, asked) == ["not handled", "not handled"]


def test_agents_that_are_remedies_are_started() -> None:
    pairs = [("tidy-up", "start"), ("tidy-up", "stop"), ("tidy-up", "pause"), ("other", "start")]
    asked = [
        (names.POLKIT_ACTION, names.KEEPER_USER, {"agent": agent, "verb": verb}) for agent, verb in pairs
    ]
    assert ask(made(DECLARED), asked) == ["yes", "no", "no", "no"]


def test_the_file_is_ascii_and_known_for_rotas() -> None:
    rules = made('never = ["unit:größe*.service"]\n[targets."unit:\\"*.service"]\n[targets."container:日本"]')
    assert rules.isascii()
    assert rules.startswith(f"{names.RULES_MARKER} from /etc/rota;")
    assert verbs(rules, "nginx.service") == [set()]


# --- any policy -----------------------------------------------------------------------------------

_CHARS = st.sampled_from(["a", "b", ".", "-", "@", "\\x2d", "*", "?", "+", "(", "[", "^", "$", "|"])
NAMES = st.lists(_CHARS, min_size=1, max_size=4).map("".join)
UNITS = st.sampled_from(
    ["a.service", "b.service", "ab.service", "a-b@a.service", "a\\x2db.service", "aa.timer", "dbus.service",
     "a.b.service", "rota-a.service", "rotad-notify.service", "sshd@1.service", "a+.service", "-.mount"]
)  # fmt: skip
PATTERNS = st.one_of(
    NAMES.map(lambda name: f"unit:{name}.service"),
    UNITS.map(lambda name: f"unit:{name}"),
    NAMES.map(lambda name: f"*:{name}*"),
    st.sampled_from(["*:*", "u*:*", "unit:*", "?nit:a*", "container:*", "unit:a?b*", "disk:/a"]),
)
MODES = st.sampled_from(["observe", "ask", "act"])
REMEDIES = st.sampled_from([*keeper_rules.REMEDIES, "agent:a", "command:b"])
STRIKES = st.lists(st.sampled_from(["note", "act", "escalate"]), min_size=1, max_size=3)


def tables(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"strikes": STRIKES, "remedy": REMEDIES, **more})


HOUSES = st.fixed_dictionaries(
    {},
    optional={
        "mode": MODES,
        "unnamed": MODES,
        "never": st.lists(PATTERNS, max_size=2),
        "policy": tables(),
        "targets": st.dictionaries(PATTERNS, tables(mode=MODES), max_size=5),
    },
)


def wanted(rules: keeper_rules.Rules, unit: str) -> set[str]:
    """Return what the keeper may come to do to a unit, by what it goes by itself."""
    target = f"unit:{unit}"
    policy = keeper_rules.policy_for(rules, target)
    idle = policy.mode == "observe" or "act" not in policy.strikes
    if idle or keeper_rules.never(rules, target) is not None:
        return set()
    remedies = [remedy_for(Target.parse(target), problem, policy.remedy) for problem in PROBLEMS["unit"]]
    needed = {"restart-unit": "restart", "start-unit": "start", "reset-failed": "reset-failed"}
    return {needed[found.word] for found in remedies if found is not None and found.word in needed}


@given(HOUSES, st.lists(UNITS, min_size=1, max_size=5, unique=True))
@settings(max_examples=300)
def test_polkit_allows_what_the_keeper_may_want_and_refuses_what_it_never_wants(
    declared: dict[str, Any], units: list[str]
) -> None:
    rules = resolve(Keeper.model_validate(declared))
    for unit, found in zip(units, verbs(text(Config(rules=rules), "/etc/rota"), *units), strict=True):
        needs = wanted(rules, unit)
        assert found >= needs, unit
        # To start again what failed too often takes a reset first.
        assert found <= (needs | {"reset-failed", "start"} if needs else set()), unit
        assert "restart" not in found or "restart" in needs


@pytest.mark.parametrize("verb", sorted({verb for found in VERBS.values() for verb in found}))
def test_nothing_that_stops_for_good_is_among_the_verbs(verb: str) -> None:
    assert verb in ("start", "restart", "reset-failed")
