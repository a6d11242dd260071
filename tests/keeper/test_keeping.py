"""What is declared of the keeper, how it is resolved, and what is said of mistakes."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from rota_agents.home_keeper.words import PROBLEMS

from rota import keeper_rules
from rota.keeper_rules import Override, Policy, Rules, policy_for, specificity
from rota.keeping import KINDS, Keeper, breaches, resolve
from rota.quantity import USEC
from rota.quiet import Quiet

DECLARED = """
enable = true
unnamed = "ask"
actions_per_hour = 6
never = ["unit:vault.service", "disk:*"]
quiet = ["22:30-07:00", "13:00-14:00"]
timezone = "Europe/Rome"
[policy]
strikes = ["act", "escalate"]
cooldown = "1min"
growth = 3
[targets."unit:postgresql.service"]
settle = "2min"
[targets."unit:app-*.service"]
mode = "ask"
after = ["unit:postgresql.service"]
[targets."unit:app-db.service"]
remedy = "agent:tidy-up"
"""


def resolved(text: str = DECLARED) -> Rules:
    return resolve(Keeper.model_validate(tomllib.loads(text)))


def test_nothing_declared_is_what_the_rules_say_themselves() -> None:
    found = resolve(Keeper())
    assert not found.enable
    assert (found.mode, found.unnamed, found.policy) == ("act", "observe", Policy())
    assert policy_for(found, "unit:a.service") == Policy(mode="observe")


def test_resolved() -> None:
    found = resolved()
    assert found.quiet == (Quiet(1350, 420), Quiet(780, 840))
    assert [str(item) for item in found.quiet] == ["22:30-07:00", "13:00-14:00"]
    assert (found.policy.cooldown, found.policy.growth, found.timezone) == (60 * USEC, 3.0, "Europe/Rome")
    assert found.targets[-1] == Override("unit:app-*.service", mode="ask", after=("unit:postgresql.service",))


def test_json_both_ways() -> None:
    text = keeper_rules.to_json(resolved())
    again = keeper_rules.from_json(text)
    assert keeper_rules.to_json(again) == text
    assert policy_for(again, "unit:app-db.service") == policy_for(resolved(), "unit:app-db.service")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "keeper: must be an object"),
        ('{"mod": "act"}', "keeper: unknown key mod"),
        ('{"actions_per_hour": "6"}', "keeper.actions_per_hour: must be int, is '6'"),
        ('{"enable": 1}', "keeper.enable: must be bool, is 1"),
        ('{"targets": [{}]}', "missing 1 required positional argument: 'pattern'"),
        ('{"quiet": [{"since": 1, "until": null}]}', r"keeper.quiet[0].until: must be int, is None"),
    ],
)
def test_json_that_is_not_ours(text: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        keeper_rules.from_json(text)
    assert said in str(error.value)


def test_each_key_is_of_the_most_specific_pattern_that_sets_it() -> None:
    rules = Rules(
        policy=Policy(attempts=9, settle=9),
        targets=(
            Override("*", attempts=1, settle=1, window=1),
            Override("unit:*", attempts=2, settle=2),
            Override("unit:a*", attempts=3),
            Override("unit:a.service", mode="ask"),
        ),
    )
    found = policy_for(rules, "unit:a.service")
    assert (found.mode, found.attempts, found.settle, found.window) == ("ask", 3, 2, 1)
    assert policy_for(rules, "disk:/").settle == 1
    assert policy_for(Rules(targets=rules.targets[1:]), "disk:/").mode == "observe"


def test_specificity() -> None:
    patterns = ["*", "unit:*", "unit:?*", "unit:a*", "unit:?a*", "unit:a*b", "unit:b*", "unit:a"]
    assert sorted(patterns, key=specificity) == [
        "unit:a",
        "unit:a*b",
        "unit:a*",
        "unit:b*",
        "unit:?a*",
        "unit:*",
        "unit:?*",
        "*",
    ]


@pytest.mark.parametrize(
    ("pattern", "target", "does"),
    [
        ("unit:*", "unit:a", True),
        ("unit:a?c", "unit:abc", True),
        ("unit:a?c", "unit:ac", False),
        ("unit:a.c", "unit:abc", False),
        ("unit:[a]", "unit:a", False),
        ("*", "disk:/a\nb", True),
        ("unit:a", "unit:ab", False),
    ],
)
def test_patterns(pattern: str, target: str, does: bool) -> None:
    assert keeper_rules.matches(pattern, target) is does


TEXTS = st.text("ab*?[]!-.\\\n|ä", max_size=12)


def by_definition(pattern: str, target: str) -> bool:
    """Tell the same by trying everything."""
    if not pattern:
        return not target
    if pattern[0] == "*":
        return any(by_definition(pattern[1:], target[skipped:]) for skipped in range(len(target) + 1))
    return bool(target) and pattern[0] in ("?", target[0]) and by_definition(pattern[1:], target[1:])


@given(pattern=TEXTS, target=TEXTS)
@example(pattern="a*ab*b", target="aab")
@example(pattern="*aab", target="aaab")
@example(pattern="a*a", target="a")
@example(pattern="*?b*b", target="abab")
def test_patterns_are_fnmatchs_without_sets(pattern: str, target: str) -> None:
    does = keeper_rules.matches(pattern, target)
    assert does is by_definition(pattern, target)
    assert does is fnmatchcase(target, pattern.replace("[", "[[]"))


def test_no_pattern_takes_long_whatever_it_is_held_against() -> None:
    """With `.*` for each *, the time grows tenfold with each doubling: this would take years."""
    for piece in ("a", "?a", "aaaa"):
        pattern = f"unit:{piece}*" * 40 + "b"
        assert not keeper_rules.matches(pattern, "unit:" + "a" * 4000)
        assert not keeper_rules.matches(f"*{piece}" * 40 + "b", "a" * 4000)
    assert keeper_rules.matches("*a" * 40 + "b", "a" * 4000 + "b")


@pytest.mark.parametrize(
    "unit",
    [
        "init.scope",
        "dbus.service",
        "dbus-broker.service",
        "sshd.service",
        "ssh.service",
        "sshd@1.service",
        "ssh.socket",
        "rotad.service",
        "rotad-metrics.service",
        "systemd-journald.service",
        "systemd-journald.socket",
        "systemd-journald@a.service",
        "systemd-logind.service",
        "rota-home-keeper.service",
        "rota-notify.service",
        "user@1000.service",
        "-.mount",
    ],
)
def test_never_touched(unit: str) -> None:
    assert keeper_rules.never(Rules(), f"unit:{unit}") is not None
    assert keeper_rules.never(Rules(), f"unit:nas/{unit}") is not None
    assert keeper_rules.never(Rules(), f"container:{unit}") is None


@pytest.mark.parametrize(
    "unit", ["rota-backup.service", "sshguard.service", "nginx.service", "users.service"]
)
def test_touched(unit: str) -> None:
    assert keeper_rules.never(Rules(), f"unit:{unit}") is None


def test_rest_grows_to_its_limit() -> None:
    policy = Policy(cooldown=30, growth=2.0, max_cooldown=200)
    assert [policy.rest(acted) for acted in (0, 1, 2, 3, 4, 10**9)] == [30, 30, 60, 120, 200, 200]
    assert Policy(cooldown=30, growth=1.0, max_cooldown=200).rest(10**9) == 30
    assert Policy(cooldown=300, max_cooldown=200).rest(1) == 200
    assert Policy(cooldown=0, max_cooldown=200).rest(50) == 0


def test_kinds_are_those_the_keeper_knows() -> None:
    assert tuple(sorted(PROBLEMS)) == KINDS


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("mode = 'acts'", "mode", "'observe', 'ask' or 'act'"),
        ("attempts = 3", "attempts", "Extra inputs"),
        ("never = ['nginx.service']", "never", 'write for example "unit:nginx.service"'),
        ("never = ['web']", "never", 'write for example "unit:nginx.service" or "container:web-*"'),
        ("never = ['unit:']", "never", 'has no name; write for example "unit:NAME", or "unit:*" for all'),
        ("never = ['unit:nginx']", "never", 'write for example "unit:nginx.service"'),
        ("never = ['disk:/a b']", "never", "must not contain blanks"),
        ("quiet = ['22:30']", "quiet", 'write for example "22:30-07:00"'),
        ("quiet = ['24:00-07:00']", "quiet", 'write for example "22:30-07:00"'),
        ("quiet = ['07:00-07:00']", "quiet", "begins when it ends"),
        ("timezone = 'Rome'", "timezone", 'write an IANA name such as "Europe/Rome"'),
        ("actions_per_hour = 0", "actions_per_hour", "greater than or equal to 1"),
        ("[policy]\nstrikes = []", "policy", "at least 1 item"),
        ("[policy]\nsettle = '0s'", "policy", "must be 1s or more"),
        ("[policy]\nwindow = 'infinity'", "policy", "must be a year or less"),
        ("[policy]\ncooldown = 30", "policy", 'has no unit; write for example "30s"'),
        ("[policy]\ngrowth = 0.5", "policy", "greater than or equal to 1"),
        ("[policy]\ngrowth = true", "policy", "must be a number"),
        (
            "[policy]\nremedy = 'reboot'",
            "policy",
            "must be one of restart, start, reset-failed, clean, none, or",
        ),
        ("[policy]\nremedy = 'agent:'", "policy", 'or "agent:NAME"'),
    ],
)
def test_mistakes(text: str, key: str, said: str) -> None:
    with pytest.raises(ValidationError) as failed:
        resolved(text)
    errors: list[Any] = failed.value.errors()
    assert said in errors[0]["msg"]
    assert str(errors[0]["loc"][0] if errors[0]["loc"] else "") == key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[targets.'unit:sshd.service']",
            'targets."unit:sshd.service": is never touched (unit:sshd.service); write mode = "observe"',
        ),
        (
            "[targets.'unit:a.service']\nafter = ['unit:b.service']\n"
            "[targets.'unit:b.service']\nafter = ['unit:a.*']",
            'targets."unit:a.service".after: needs "unit:b.service", which needs "unit:a.service"; one',
        ),
        (
            "[targets.'unit:a.service']\nafter = ['unit:*']",
            'targets."unit:a.service".after: needs "unit:a.service"; one of them',
        ),
    ],
)
def test_rules_between_keys(text: str, said: str) -> None:
    first = next(breaches(Keeper.model_validate(tomllib.loads(text))))
    assert f"{first.key}: {first.message}".startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        "[targets.'unit:sshd.service']\nmode = 'observe'",
        "[targets.'unit:*']",
        "[targets.'unit:app-*.service']\nafter = ['unit:app-db.service']",
        "[policy]\ncooldown = '0s'",
    ],
)
def test_no_mistakes(text: str) -> None:
    assert isinstance(resolved(text), Rules)
    assert list(breaches(Keeper.model_validate(tomllib.loads(text)))) == []
