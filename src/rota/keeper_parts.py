"""The parts of [keeper], each with its rules between keys and what it comes to; and rules between parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from rota import clean_declared, container_watching, keeping, unit_watching, watch_rules
from rota.container_watches import PROXY
from rota.errors import nearest
from rota.keeper_config import Config
from rota.keeper_rules import is_pattern
from rota.rules import Breach, dotted
from rota.settings import HomeKeeper


class Part(NamedTuple):
    """One of them.

    Attributes:
        breaches: yields the rules between keys that are broken, by keys below [keeper].
        resolve: returns fields of `keeper_config.Config`, of a declaration that breaks none.
    """

    breaches: Callable[[HomeKeeper], Iterator[Breach]]
    resolve: Callable[[HomeKeeper], Mapping[str, Any]]


def _units(keeper: HomeKeeper) -> Mapping[str, Any]:
    units, hosts = unit_watching.resolve(keeper)
    return {"units": units, "hosts": hosts}


PARTS = (
    Part(keeping.breaches, lambda keeper: {"rules": keeping.resolve(keeper)}),
    Part(watch_rules.breaches, lambda keeper: {"watches": watch_rules.resolve(keeper)}),
    Part(unit_watching.breaches, _units),
    Part(lambda _: iter(()), lambda keeper: {"containers": container_watching.resolve(keeper.containers)}),
    Part(clean_declared.breaches, lambda keeper: {"commands": clean_declared.resolve_commands(keeper)}),
)
"""The keys of each are those of a record that HomeKeeper is made of."""
_RELY = {"prometheus": "queries"}
"""Keys that name entries of others: nothing is said of them while those others have mistakes."""
_LOOKED_AT = {"endpoint": "endpoints", "database": "databases", "query": "queries"}
"""Kinds of targets that are there only if they are declared, and where."""


def resolve(keeper: HomeKeeper) -> Config:
    """Return what the keeper reads; `keeper` must break no rule, see `breaches`."""
    return Config(**{name: found for part in PARTS for name, found in part.resolve(keeper).items()})


def sound(raw: Any) -> HomeKeeper:
    """Return a [keeper] table without what is wrong with it, key by key, so that the rest can be judged."""
    kept: Any = dict(raw) if isinstance(raw, dict) else {}
    while True:
        try:
            return HomeKeeper.model_validate(kept)
        except ValidationError as failed:
            for place in {error["loc"][:2] for error in failed.errors(include_url=False)}:
                kept = _without(kept, *place)


def _without(table: dict[Any, Any], key: int | str, entry: int | str = "") -> dict[Any, Any]:
    """Return a table without an entry of one of its tables; or, where that is none, without the key."""
    gone = {key, _RELY.get(str(key), key)}
    left = {name: item for name, item in table.items() if name not in gone}
    if isinstance(inner := table.get(key), dict) and entry in inner:
        left[key] = {name: item for name, item in inner.items() if name != entry}
    return left


def breaches(keeper: HomeKeeper, agents: Mapping[str, bool], raw: Any = None) -> Iterator[Breach]:
    """Yield every rule that is broken, by keys below [keeper].

    Args:
        keeper: what is declared, without what is wrong by itself.
        agents: names of those that are declared, and whether they are enabled.
        raw: the table as written, with what is wrong.
    """
    for part in PARTS:
        yield from part.breaches(keeper)
    yield from _remedies(keeper, agents)
    yield from _unseen(keeper, raw if isinstance(raw, dict) else {})


def doubts(keeper: HomeKeeper) -> Iterator[Breach]:
    """Yield what is right, but perhaps not meant, by keys below [keeper]; `keeper` must break no rule."""
    if keeper.enable:
        yield from keeping.doubts(keeper)


def _unseen(keeper: HomeKeeper, raw: Mapping[str, Any]) -> Iterator[Breach]:
    """Yield targets that nothing declared looks at, so that what is said of them is never heard of."""
    wanted = [(dotted("targets", name), "", name) for name in keeper.targets]
    wanted += [
        (dotted("targets", name, "after"), other, other)
        for name, target in keeper.targets.items()
        for other in target.after or ()
    ]
    for key, value, name in wanted:
        kind, _, rest = name.partition(":")
        if kind == "container" and not keeper.containers.sockets and "containers" not in raw:
            told = f'no engine is asked; write sockets = ["{PROXY}"] in [keeper.containers]'
            yield Breach(key, told, value)
        host, slash, _ = rest.partition("/")
        table = "hosts" if kind == "unit" and slash else _LOOKED_AT.get(kind, "")
        own = host if table == "hosts" else rest
        if not table or is_pattern(name) or (kind == "query" and slash):
            continue  # query:SERVER/ALERT is an alert of Prometheus
        written = raw.get(table)
        known = {*getattr(keeper, table), *(written if isinstance(written, dict) else ())}
        if own not in known:
            hint = nearest(own, known) or f"; declare [keeper.{table}.{own}]"
            yield Breach(key, f"no such {'host' if slash else kind}{hint}", value)


def _remedies(keeper: HomeKeeper, agents: Mapping[str, bool]) -> Iterator[Breach]:
    """Yield remedies that are agents or commands which nobody declared."""
    wanted = [("policy.remedy", keeper.policy.remedy)]
    wanted += [
        (dotted("targets", name, "remedy"), one.remedy) for name, one in keeper.targets.items() if one.remedy
    ]
    for key, remedy in wanted:
        word, _, name = remedy.partition(":")
        if word == "agent" and not agents.get(name, False):
            near = nearest(name, agents) or "; declare one of this name"
            hint = "; it is not enabled" if name in agents else near
            yield Breach(key, f"no such agent{hint}", remedy)
        if word == "command" and name not in keeper.commands:
            hint = nearest(name, keeper.commands) or f"; declare [keeper.commands.{name}]"
            yield Breach(key, f"no such command{hint}", remedy)
