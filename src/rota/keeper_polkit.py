"""What the Home Keeper's user may have systemd and rotad do: its policy as rules for polkit (polkit(8)).

Everything it asks for is decided here, one way or the other, so that no other rule is asked. By which verbs
systemd asks is in its bus_unit_method_start_generic() and bus_unit_method_reset_failed(). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rota.clean_rules import CLEAN_UNIT, COMMAND_UNIT
from rota.keeper_config import Config
from rota.keeper_rules import NEVER, REMEDIES, Override, Policy, Rules, is_pattern
from rota.names import KEEPER_USER, POLKIT_ACTION, RULES_MARKER

VERBS: Mapping[str, tuple[str, ...]] = {
    "restart": ("restart", "start", "reset-failed"),
    "start": ("start", "reset-failed"),
    "reset-failed": ("reset-failed",),
}
"""Of systemd, by the remedy of a unit; the other remedies do nothing to it."""
CLEAN = CLEAN_UNIT.format("*")
"""The unit that root made for a remedy of the keeper's: it may start it, whatever else is named."""

_TEXT = """\
%(marker)s from %(source)s; it is made again whenever that changes.
// What the user %(user)s may do: restart, start and reset those units that [keeper] names, and no others.

// Patterns of targets that are never touched; rota's own come first.
var never = %(never)s;

// What is declared of targets, the most specific first; the first that sets a key wins. "acts": a step does.
var targets = %(targets)s;

// What holds where nothing sets it, and for what is not named at all.
var otherwise = %(otherwise)s;
var unnamed = %(unnamed)s;

// What systemd does for a remedy.
var verbs = %(verbs)s;

// Units made for the keeper, and agents that are remedies: to be started.
var oneshots = %(oneshots)s;
var agents = %(agents)s;

function matches(pattern, text) {
    return new RegExp("^(?:" + pattern + ")$").test(text);
}

function policy(target) {
    var found = targets.filter(function (one) { return matches(one.pattern, target); });
    var held = {};
    for (var key in otherwise) {
        held[key] = found.length > 0 || key != "mode" ? otherwise[key] : unnamed;
        for (var i = found.length - 1; i >= 0; i--) {
            if (key in found[i]) {
                held[key] = found[i][key];
            }
        }
    }
    return held;
}

function allowed(unit, verb) {
    if (never.some(function (pattern) { return matches(pattern, "unit:" + unit); })) {
        return false;
    }
    if (oneshots.some(function (pattern) { return matches(pattern, unit); })) {
        return verb == "start";
    }
    var held = policy("unit:" + unit);
    return held.mode != "observe" && held.acts && (verbs[held.remedy] || []).indexOf(verb) >= 0;
}

polkit.addRule(function (action, subject) {
    if (subject.user != "%(user)s") {
        return polkit.Result.NOT_HANDLED;
    }
    var verb = action.lookup("verb") || "";
    if (action.id == "org.freedesktop.systemd1.manage-units") {
        var unit = action.lookup("unit") || "";
        // StartTransientUnit() says "start" as well; only the message tells it apart.
        var message = action.lookup("polkit.message") || "";
        var transient = verb == "start" && !/^Authentication is required to start '/.test(message);
        return unit != "" && !transient && allowed(unit, verb) ? polkit.Result.YES : polkit.Result.NO;
    }
    if (action.id == "%(action)s") {
        var agent = action.lookup("agent") || "";
        return verb == "start" && agents.indexOf(agent) >= 0 ? polkit.Result.YES : polkit.Result.NO;
    }
    return polkit.Result.NOT_HANDLED;
});
"""
_SPECIAL = frozenset("\\^$.|?*+()[]{}")


def expression(pattern: str) -> str:
    """Return a pattern, in which * is any characters and ? is one, as an expression of ECMAScript 5."""
    return "".join(
        r"[\s\S]*" if char == "*" else r"[\s\S]" if char == "?" else f"\\{char}" if char in _SPECIAL else char
        for char in pattern
    )


def _keys(rule: Override | Policy) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rule.mode is not None:
        found["mode"] = rule.mode
    if rule.remedy is not None:
        found["remedy"] = rule.remedy
    if rule.strikes is not None:
        found["acts"] = "act" in rule.strikes
    return found


def _of_units(targets: Iterable[Override]) -> list[dict[str, Any]]:
    """Return what may be about units, and whose keys matter here."""
    found = [
        one for one in targets if one.pattern.startswith("unit:") or is_pattern(one.pattern.partition(":")[0])
    ]
    return [{"pattern": expression(one.pattern), **_keys(one)} for one in found]


def _run(rules: Rules, word: str) -> list[str]:
    """Return the agents, or the commands, that are remedies."""
    remedies = [rules.policy.remedy, *(one.remedy or "" for one in rules.targets)]
    return sorted({one.removeprefix(f"{word}:") for one in remedies if one.startswith(f"{word}:")})


def _js(value: Any) -> str:
    """Return a value as JavaScript, a table or list an item a line; ASCII only."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"    {json.dumps(item)}" for item in value) + "\n]"
    return json.dumps(value)


def text(config: Config, source: str) -> str:
    """Return the text of the rules' file.

    Args:
        config: what is declared; nothing of it but the policy counts.
        source: the configuration.
    """
    policy = config.rules
    oneshots = [CLEAN, *(COMMAND_UNIT.format(name) for name in _run(policy, "command"))]
    never = [f"unit:{pattern}" for pattern in NEVER] + list(policy.never)
    return _TEXT % {
        "marker": RULES_MARKER,
        "source": source,
        "user": KEEPER_USER,
        "action": POLKIT_ACTION,
        "never": _js([expression(pattern) for pattern in never]),
        "targets": _js(_of_units(policy.targets)),
        "otherwise": _js({**_keys(policy.policy), "mode": policy.mode}),
        "unnamed": _js(policy.unnamed),
        "verbs": _js({word: list(VERBS[word]) for word in REMEDIES if word in VERBS}),
        "oneshots": _js([expression(pattern) for pattern in oneshots]),
        "agents": _js(_run(policy, "agent")),
    }
