"""What the Home Keeper goes by: its policy as resolved from `[keeper]`, without pydantic, to JSON and back.

Which rules a target has: every table of `[keeper.targets]` whose pattern matches it is asked, the most
specific first, and each key is taken from the first that sets it; what none sets is `[keeper.policy]`'s.
More specific is: a name without wildcards; then more characters that are no wildcards; then fewer wildcards;
then what comes first in the alphabet. The order in the file does not matter.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from rota import quiet
from rota.frozen import from_plain, to_plain
from rota.quantity import USEC
from rota.quiet import Quiet

MODES = ("observe", "ask", "act")
STEPS = ("note", "act", "escalate")
LABELS = ("ignore", "restart", "escalate")
"""Of a container, in `rota.keeper`."""
REMEDIES = ("restart", "start", "reset-failed", "clean", "none")
"""Words for `remedy`; besides, `agent:NAME` and `command:NAME`."""

NEVER = (
    # Without them nobody gets in, nothing is known, or all that is in them ends.
    "init.scope",
    "-.mount",
    "*.slice",
    "session-*.scope",
    "user@*.service",
    "user-runtime-dir@*.service",
    "dbus.service",
    "dbus.socket",
    "dbus-broker.service",
    "ssh.service",
    "ssh.socket",
    "ssh@*.service",
    "sshd.service",
    "sshd.socket",
    "sshd@*.service",
    "systemd-journald*",
    "systemd-logind*",
    "sysinit.target",
    "basic.target",
    "rotad.service",
    "rotad-*",
    "rota-home-keeper.service",
    "rota-notify.service",
    # Starting them ends the machine, puts it to sleep, or has it in another state (systemd.special(7)).
    *(
        f"{name}.target"
        for name in ("poweroff", "reboot", "soft-reboot", "halt", "kexec", "exit", "shutdown")
    ),
    *(f"{name}.target" for name in ("umount", "final", "ctrl-alt-del", "sigpwr", "runlevel?", "default")),
    *(
        f"{name}.target"
        for name in ("sleep", "suspend", "hibernate", "hybrid-sleep", "suspend-then-hibernate")
    ),
    *(f"{name}.target" for name in ("rescue", "rescue-ssh", "emergency", "initrd*", "factory-reset")),
    *(f"systemd-{name}.service" for name in ("poweroff", "reboot", "soft-reboot", "halt", "kexec", "exit")),
    *(f"systemd-{name}.service" for name in ("suspend*", "hibernate*", "hybrid-sleep")),
    "initrd-*.service",
    "system-update*",
    "systemd-sysupdate*",
    "*-offline-update.service",
    # Starting them gives a shell, or ends that of somebody.
    "debug-shell.service",
    "rescue.service",
    "emergency.service",
    "*getty@*.service",
    "console-getty.service",
    "autovt@*.service",
    # They do as root what their instance says, or write on disks.
    "modprobe@*.service",
    "podman-kube@*.service",
    "systemd-factory-reset*",
    "systemd-firstboot.service",
    "systemd-makefs@*.service",
    "systemd-mkswap@*.service",
    "systemd-repart.service",
    "systemd-volatile-root.service",
)
"""Units that are never touched, on any machine.

To restart or start one of them loses the machine, its record or the keeper, or gives the machine away to who
has become the keeper.
"""

_MINUTE = 60 * USEC


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for one target. Spans are microseconds.

    Attributes:
        mode: observe (nothing is done), ask (a person is asked first) or act.
        strikes: what each strike leads to: note, act or escalate.
        attempts: most actions within `window`.
        window: see there.
        cooldown: rest after an action; times `growth` for each further one.
        growth: 1.0 or more.
        max_cooldown: the rest never grows beyond this.
        settle: how long a step is given to take effect.
        healthy_after: so long without a finding, and all begins anew.
        answer_within: a question is open so long.
        remedy: a word of REMEDIES, `agent:NAME` or `command:NAME`.
        after: patterns of the targets that this one needs: they are healed first.
    """

    mode: str = "observe"
    strikes: tuple[str, ...] = ("note", "act", "escalate")
    attempts: int = 3
    window: int = 3600 * USEC
    cooldown: int = 30 * USEC
    growth: float = 2.0
    max_cooldown: int = 15 * _MINUTE
    settle: int = 30 * USEC
    healthy_after: int = 10 * _MINUTE
    answer_within: int = 3600 * USEC
    remedy: str = "restart"
    after: tuple[str, ...] = ()

    def rest(self, acted: int) -> int:
        """Return how long nothing is done after the last of so many actions."""
        grown = float(self.cooldown)
        for _ in range(acted - 1):
            if grown >= self.max_cooldown:
                break
            grown *= self.growth
            if self.growth == 1:
                break
        return min(round(grown), self.max_cooldown)


@dataclass(frozen=True, slots=True)
class Override:
    """A table of `[keeper.targets]`: its pattern, and the keys that it sets; None is not set."""

    pattern: str
    mode: str | None = None
    strikes: tuple[str, ...] | None = None
    attempts: int | None = None
    window: int | None = None
    cooldown: int | None = None
    growth: float | None = None
    max_cooldown: int | None = None
    settle: int | None = None
    healthy_after: int | None = None
    answer_within: int | None = None
    remedy: str | None = None
    after: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """All of it; is itself only, so that what is found out by it can be kept.

    Attributes:
        enable: whether the keeper runs.
        mode: of targets that are named.
        unnamed: mode of all others.
        actions_per_hour: most actions of the whole house.
        never: patterns of what is never touched, beside NEVER.
        quiet: when nothing is acted on unless it is critical.
        timezone: IANA name, "" is the machine's own.
        policy: what holds where nothing else is said; its mode is not used.
        targets: most specific first.
    """

    enable: bool = True
    mode: str = "act"
    unnamed: str = "observe"
    actions_per_hour: int = 20
    never: tuple[str, ...] = ()
    quiet: tuple[Quiet, ...] = ()
    timezone: str = ""
    policy: Policy = Policy()
    targets: tuple[Override, ...] = ()


def to_json(rules: Rules) -> str:
    """Return rules as one JSON object; equal rules are equal texts."""
    return json.dumps(to_plain(rules), sort_keys=True)


def from_json(text: str) -> Rules:
    """Return rules from what `to_json` wrote.

    Raises:
        ValueError: it was not written by this version.
    """
    return from_plain(Rules, json.loads(text), "keeper")


@functools.lru_cache(4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern as an expression, which takes time linear in its length and in that of the target.

    What stands between two * is taken where it is found first, and never looked for again: (?>...). If the
    rest does not follow from there, it does not follow from a later place either.
    """
    first, *rest = ("".join("." if c == "?" else re.escape(c) for c in part) for part in pattern.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    *between, last = rest
    found = "".join(f"(?>.*?{part})" for part in between if part)
    return re.compile(f"{first}{found}.*{last}", re.DOTALL)


def is_pattern(text: str) -> bool:
    """Tell whether there are wildcards in it."""
    return "*" in text or "?" in text


def matches(pattern: str, target: str) -> bool:
    """Tell whether a pattern matches a target: * is any characters or none, ? is one."""
    return pattern == target or (is_pattern(pattern) and _compiled(pattern).fullmatch(target) is not None)


def specificity(pattern: str) -> tuple[bool, int, int, str]:
    """Return what patterns are sorted by, the most specific first."""
    wild = sum(pattern.count(sign) for sign in "*?")
    return (wild > 0, wild - len(pattern), wild, pattern)


@functools.lru_cache(4096)
def overrides(rules: Rules, target: str) -> tuple[Override, ...]:
    """Return what is declared about a target, most specific first."""
    exact, wild = _declared(rules)
    found = [exact[target]] if target in exact else []
    return (*found, *(item for item in wild if matches(item.pattern, target)))


@functools.lru_cache(8)
def _declared(rules: Rules) -> tuple[dict[str, Override], tuple[Override, ...]]:
    """Return overrides by name, and those with wildcards: of a thousand names, a target asks for its own."""
    exact = {item.pattern: item for item in rules.targets if not is_pattern(item.pattern)}
    wild = [item for item in rules.targets if is_pattern(item.pattern)]
    return exact, tuple(sorted(wild, key=lambda item: specificity(item.pattern)))


_OWN = [field.name for field in dataclasses.fields(Policy)]


@functools.lru_cache(4096)
def policy_for(rules: Rules, target: str, label: str = "") -> Policy:
    """Return what holds for a target.

    Args:
        rules: the policy of the house.
        target: KIND:NAME.
        label: what a container asks for itself: `restart` names it, as long as no pattern does; `escalate`
            has a person told where it would be acted on.
    """
    found = overrides(rules, target)
    keys: dict[str, Any] = {name: next(_set(found, name), getattr(rules.policy, name)) for name in _OWN}
    named = bool(found) or label == "restart"
    keys["mode"] = next(_set(found, "mode"), rules.mode if named else rules.unnamed)
    if label == "escalate" and "act" in keys["strikes"]:
        keys["strikes"] = (*keys["strikes"][: keys["strikes"].index("act")], "escalate")
    return Policy(**keys)


def _set(found: tuple[Override, ...], name: str) -> Iterator[object]:
    return (value for item in found if (value := getattr(item, name)) is not None)


@functools.lru_cache(4096)
def never(rules: Rules, target: str) -> str | None:
    """Return the pattern by which a target is never touched, None if it may be."""
    kind, _, name = target.partition(":")
    if kind == "unit":
        unit = name.rpartition("/")[2]
        for pattern in NEVER:
            if matches(pattern, unit):
                return f"unit:{pattern}"
    return next((pattern for pattern in rules.never if matches(pattern, target)), None)


@functools.cache
def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # noqa: PLC0415  (only where a time zone is named)

    return ZoneInfo(name)


def local(rules: Rules, at: int) -> datetime:
    """Return a moment as the clock on the wall shows it."""
    return quiet.local(at, _of(rules))


def _of(rules: Rules) -> tzinfo | None:
    return _zone(rules.timezone) if rules.timezone else None


def spoken(rules: Rules, at: int) -> str:
    """Return a moment as people read it."""
    return local(rules, at).strftime("%Y-%m-%d %H:%M:%S")


def quiet_until(rules: Rules, at: int) -> int | None:
    """Return the moment at which it is no longer quiet, None if it is not quiet at a moment."""
    return quiet.quiet_until(rules.quiet, at, _of(rules))
