"""What a person declares of the Home Keeper, and how it becomes the rules that the keeper goes by.

Records of `[keeper]`, `[keeper.policy]` and `[keeper.targets]`, as those of `model`; `resolve` makes of them
what `keeper_rules` writes as JSON and the keeper reads, without pydantic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)

from rota import keeper_rules, quantity
from rota.keeper_rules import Override, Policy, Rules, is_pattern, matches
from rota.quiet import parse_quiet
from rota.record import Duration, QuietHours, Record, TimeZone, key
from rota.rules import Breach, dotted

KINDS = ("agent", "check", "container", "database", "disk", "endpoint", "host", "query", "rotad", "unit")
"""Of targets; the keeper knows what can be wrong with each."""
_UNIT_TYPES = re.compile(r"service|socket|device|mount|automount|swap|target|path|timer|slice|scope")
"""systemd.unit(5)."""
_LONGEST = 366 * 86_400 * quantity.USEC
_SHORTEST_SETTLE = quantity.USEC

Mode = Literal["observe", "ask", "act"]
Step = Literal["note", "act", "escalate"]


def _pattern(text: str) -> str:
    kind, _, name = text.partition(":")
    if kind not in KINDS and not is_pattern(kind):
        hint = f'"unit:{text}"' if "." in text else '"unit:nginx.service" or "container:web-*"'
        raise ValueError(f"is no target, which is KIND:NAME; write for example {hint}")
    if not name:
        raise ValueError(f'has no name; write for example "{kind}:NAME", or "{kind}:*" for all')
    if re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError("must not contain blanks or control characters")
    if kind == "unit" and not is_pattern(name) and not _UNIT_TYPES.fullmatch(name.rpartition(".")[2]):
        raise ValueError(f'is a unit without its type; write for example "{text}.service"')
    if kind == "disk" and not is_pattern(name[0]) and not name.startswith("/"):
        raise ValueError(f'is not where a disk is mounted; write for example "disk:/{name}"')
    return text


def _remedy(text: str) -> str:
    word, _, argument = text.partition(":")
    if word in ("agent", "command") and re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", argument):
        return text
    if text not in keeper_rules.REMEDIES:
        words = ", ".join(keeper_rules.REMEDIES)
        raise ValueError(f'must be one of {words}, or "agent:NAME", or "command:NAME"')
    return text


def _span(least: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        found = quantity.parse_duration(text)
        if found < least:
            raise ValueError(f"must be {quantity.format_duration(least)} or more")
        if found > _LONGEST:
            raise ValueError("must be a year or less")
        return text

    return check


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Pattern = Annotated[StrictStr, AfterValidator(_pattern)]
RemedyText = Annotated[StrictStr, AfterValidator(_remedy)]
Span = Annotated[Duration, AfterValidator(_span(0))]
Settle = Annotated[Duration, AfterValidator(_span(_SHORTEST_SETTLE))]
Growth = Annotated[StrictFloat | StrictInt, BeforeValidator(_not_bool), Field(ge=1, le=10)]


class KeeperPolicy(Record):
    """What holds for targets where nothing else is said of them."""

    strikes: tuple[Step, ...] = key(
        ("note", "act", "escalate"),
        "What each strike leads to: note, act or escalate (tell a person). After the last, hands off until "
        "`rota keeper resume TARGET`.",
        ["act", "act", "escalate"],
        min_length=1,
        max_length=20,
    )
    attempts: StrictInt = key(3, "Most actions on a target within window.", 2, ge=1, le=1000)
    window: Settle = key("1h", "See attempts.", "30min")
    cooldown: Span = key("30s", "Rest after an action; times growth for each further one.", "1min")
    growth: Growth = key(2.0, "By what cooldown grows, from 1 (not at all) to 10.", 1.5)
    max_cooldown: Span = key("15min", "cooldown never grows beyond this.", "1h")
    settle: Settle = key(
        "30s",
        "How long a step is given to take effect: a finding so long after a remedy is the remedy's failure.",
        "2min",
    )
    healthy_after: Settle = key(
        "10min", "So long without a finding: strikes, cooldown and growth begin anew.", "1h"
    )
    answer_within: Settle = key("1h", "In mode ask: so long a question is open.", "12h")
    remedy: RemedyText = key(
        "restart",
        "restart (start, for what does not run; clean, for disks), start, reset-failed, clean, none, "
        "agent:NAME or command:NAME.",
        "agent:tidy-up",
    )


class KeeperTarget(Record):
    """What holds for the targets of a name or pattern: keys not written are of less specific ones."""

    mode: Mode | None = key(None, "observe, ask or act, instead of [keeper]'s.", "ask")
    after: tuple[Pattern, ...] | None = key(
        None,
        "Targets that it needs: while one has a finding, that one is healed first, and only it. "
        "Where nobody heals that one, a person is told what waits for it.",
        ["unit:postgresql.service"],
    )
    strikes: tuple[Step, ...] | None = key(
        None, "As in [keeper.policy].", ["act", "escalate"], min_length=1, max_length=20
    )
    attempts: StrictInt | None = key(None, "As in [keeper.policy].", 1, ge=1, le=1000)
    window: Settle | None = key(None, "As in [keeper.policy].", "30min")
    cooldown: Span | None = key(None, "As in [keeper.policy].", "1min")
    growth: Growth | None = key(None, "As in [keeper.policy].", 1.5)
    max_cooldown: Span | None = key(None, "As in [keeper.policy].", "1h")
    settle: Settle | None = key(None, "As in [keeper.policy].", "2min")
    healthy_after: Settle | None = key(None, "As in [keeper.policy].", "1h")
    answer_within: Settle | None = key(None, "As in [keeper.policy].", "12h")
    remedy: RemedyText | None = key(None, "As in [keeper.policy].", "reset-failed")


class Keeper(Record):
    """The Home Keeper: what it may do about what it finds."""

    enable: StrictBool = key(False, "true: the Home Keeper runs.", True)
    mode: Mode = key(
        "act", "For targets that are named: observe (nothing is done), ask (a person is asked) or act.", "ask"
    )
    unnamed: Mode = key("observe", "The same for all other targets.", "ask")
    actions_per_hour: StrictInt = key(20, "Most actions of the whole house.", 6, ge=1, le=1000)
    never: tuple[Pattern, ...] = key(
        (),
        "Targets never to be touched, beside those that never are: init, D-Bus, sshd, journald, logind,"
        " slices, shells, rota's own, and what ends the machine or puts it into another state.",
        ["unit:postgresql.service"],
    )
    quiet: tuple[QuietHours, ...] = key(
        (),
        "Times of day when nothing is done, and nobody told, unless it is critical; local time.",
        ["22:30-07:00"],
    )
    timezone: TimeZone | None = key(
        None, "IANA time zone of quiet; the machine's own by default.", "Europe/Rome"
    )
    policy: KeeperPolicy = key(KeeperPolicy(), "What holds where nothing else is said.", {"settle": "1min"})
    targets: Mapping[Pattern, KeeperTarget] = key(
        {},
        "Targets, KIND:NAME, or patterns with * and ?: the most specific that sets a key wins.",
        {"unit:app-*.service": {"mode": "ask"}},
    )


def breaches(keeper: Keeper) -> Iterator[Breach]:
    """Yield every rule between keys that is broken; keys are those below [keeper]."""
    yield from _never_and_named(keeper)
    yield from _in_circles(keeper)


def _never_and_named(keeper: Keeper) -> Iterator[Breach]:
    """Yield what says of one target both that it is acted on and that it is not."""
    rules = Rules(never=keeper.never)
    for name, target in keeper.targets.items():
        wanted = target.mode or keeper.mode
        pattern = None if is_pattern(name) else keeper_rules.never(rules, name)
        if pattern is not None and wanted != "observe":
            told = f'is never touched ({pattern}); write mode = "observe", or leave it out'
            yield Breach(dotted("targets", name), told)


def _in_circles(keeper: Keeper) -> Iterator[Breach]:
    """Yield targets that need themselves, through others."""
    needs = {name: target.after or () for name, target in keeper.targets.items()}

    def reached(name: str) -> list[str]:
        return [other for pattern in needs[name] for other in needs if _meet(pattern, other)]

    for name in needs:
        if back := _path_back(name, reached):
            chain = ", which needs ".join(f'"{item}"' for item in back)
            told = f"needs {chain}; one of them has to be healed first"
            yield Breach(dotted("targets", name, "after"), told)


def _meet(pattern: str, other: str) -> bool:
    """Tell whether a pattern is surely of the same target as a name or another pattern."""
    return pattern == other or (not is_pattern(other) and matches(pattern, other))


def _path_back(name: str, reached: Callable[[str], list[str]]) -> list[str]:
    """Return the names through which one needs itself, itself the last; [] if it does not."""
    todo, seen = [[item] for item in reached(name)], set[str]()
    while todo:
        path = todo.pop()
        if path[-1] == name:
            return path
        if path[-1] not in seen:
            seen.add(path[-1])
            todo += [[*path, item] for item in reached(path[-1])]
    return []


def doubts(keeper: Keeper) -> Iterator[Breach]:
    """Yield what is right, but perhaps not meant: that `after` names what nobody heals, and nobody said so.

    An endpoint is waited for on purpose; and a container may name itself, by its label.
    """
    rules = resolve(keeper)
    needed = [(name, other) for name, target in keeper.targets.items() for other in target.after or ()]
    for name, other in needed:
        kind, _, rest = other.partition(":")
        healed = kind == "disk" or (kind == "unit" and "/" not in rest)
        said = keeper_rules.overrides(rules, other) or keeper.mode == "observe"
        if not healed or said or is_pattern(other):
            continue
        table = f'[keeper.targets."{other}"]'
        told, pattern = "a person is told of what waits for it", keeper_rules.never(rules, other)
        if pattern is None and keeper.unnamed == "observe":
            instead = f'write {table}, and mode = "observe" in it if that is meant'
            yield Breach(dotted("targets", name, "after"), f"is only observed: {told}; {instead}", other)
        elif pattern is not None and pattern not in keeper.never:
            instead = f'if that is meant, write mode = "observe" in {table}'
            told = f"is never touched ({pattern}): {told}; {instead}"
            yield Breach(dotted("targets", name, "after"), told, other)


_SPANS = ("window", "cooldown", "max_cooldown", "settle", "healthy_after", "answer_within")


def _values(record: KeeperPolicy | KeeperTarget) -> dict[str, Any]:
    """Return the keys that are set, with spans in microseconds."""
    found = {name: getattr(record, name) for name in type(record).model_fields}
    known = {name: value for name, value in found.items() if value is not None}
    spans = {name: quantity.parse_duration(known[name]) for name in _SPANS if name in known}
    growth = {"growth": float(known["growth"])} if "growth" in known else {}
    return known | spans | growth


def resolve(keeper: Keeper) -> Rules:
    """Return the rules of a declaration; `keeper_rules.to_json` writes them down for the keeper."""
    targets = [Override(name, **_values(target)) for name, target in keeper.targets.items()]
    return Rules(
        enable=keeper.enable,
        mode=keeper.mode,
        unnamed=keeper.unnamed,
        actions_per_hour=keeper.actions_per_hour,
        never=keeper.never,
        quiet=tuple(parse_quiet(item) for item in keeper.quiet),
        timezone=keeper.timezone or "",
        policy=Policy(mode=keeper.unnamed, **_values(keeper.policy)),
        targets=tuple(sorted(targets, key=lambda item: keeper_rules.specificity(item.pattern))),
    )
