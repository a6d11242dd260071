"""Containers: from what they are, and what was heard of them, to findings. Pure.

**A stop by hand is a person's wish.** A container was stopped by hand if, since it was started last, somebody
had the engine send it a signal that ends it (`docker stop`, `docker kill`: event `kill` with its own stop
signal, INT, QUIT, KILL or TERM) or the engine tells of `stop`; except by the keeper itself, and except
where the engine did it to all of them because it ended. What ended before anybody listened is judged by what
the engine does: it starts again what has the policy `always` or `unless-stopped`, and `on-failure` after a
failure, unless a person stopped it (https://docs.docker.com/engine/containers/start-containers-automatically/).
Where that says nothing either, and a signal may have ended it, nobody knows: that is noted, and no more.

**The engine's own restarts come first.** What it starts again is in no trouble, until it does so too often.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rota.container_watches import Containers, Engine
from rota.keeper_rules import LABELS, matches

from ..words import Finding, Target
from .engine import Container, Happened
from .words import SECOND, clip, span

_BY_SIGNAL = frozenset((130, 131, 137, 143))
"""Exit codes of what was ended by INT, QUIT, KILL or TERM: by a person, or not."""
_TOGETHER = 2 * SECOND
_SHUTDOWN = 30 * SECOND
"""An engine that ends sends a signal to all at once, and waits for them this long at most, as a rule."""
_LAG = 2 * SECOND
"""What is looked at may be ahead of what is heard by so much."""
_GAP = 3 * SECOND
"""Podman tells of the end of a container before it starts it again."""
_MADE = 60 * SECOND
"""So long a container that is to run may be there without ever having been started."""
_UNDER_WAY = 1 << 62


@dataclass(frozen=True, slots=True)
class Track:
    """What was heard of a container. Times: microseconds since 1970, 0 for never.

    Attributes:
        asked: when somebody had it end, since it was started last.
        died: when it ended while it was followed.
        unheard: since when it is seen to have ended, though its end was not heard of yet; who asked for it is
            heard of before.
        with_engine: whether it ended because the engine did.
        restarts: when the engine started it again.
        count: how often by its own count, -1 if not known.
        looping: whether that is too often.
        oom: when the kernel killed something in it last.
        code: its exit code, when it was started again last; of what runs, the engine says 0.
    """

    asked: int = 0
    died: int = 0
    unheard: int = 0
    with_engine: bool = False
    restarts: tuple[int, ...] = ()
    count: int = -1
    looping: bool = False
    oom: int = 0
    code: int = 0


@dataclass(slots=True)
class Own:
    """What the keeper itself does to containers: from when to when, microseconds, by their ids."""

    spans: dict[str, list[int]] = field(default_factory=dict)

    def begin(self, container_id: str, at: int) -> None:
        """Take note that from now on it is the keeper that acts on a container."""
        self.spans[container_id] = [at, _UNDER_WAY]

    def end(self, container_id: str, at: int) -> None:
        """Take note that it is done."""
        self.spans[container_id][1] = at

    def at(self, container_id: str, at: int) -> bool:
        """Tell whether it was the keeper that acted on a container at a moment."""
        since, until = self.spans.get(container_id, (1, 0))
        return since <= at <= until

    def forget_others(self, known: Collection[str]) -> None:
        """Forget what is over and was done to containers that are gone: nothing is heard of them any more."""
        self.spans = {key: span for key, span in self.spans.items() if key in known or span[1] == _UNDER_WAY}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a container now, and when that may change if nothing happens."""

    findings: tuple[Finding, ...] = ()
    again: int | None = None


def heard(track: Track, event: Happened, container: Container | None) -> Track:
    """Take in an event that is not of the keeper's own doing."""
    if event.action in ("start", "restart"):
        return replace(track, asked=0, died=0, unheard=0, with_engine=False)
    if event.ends(container.stop_signal if container else 15):
        return replace(track, asked=track.asked or event.at)
    if event.action == "die":
        return replace(track, died=event.at, unheard=0)
    return replace(track, oom=event.at) if event.action == "oom" else track


def seen(
    track: Track, before: Container | None, now: Container, rules: Containers, at: int, *, listening: int = 0
) -> Track:
    """Take in how a container was found.

    Args:
        track: what was heard of it.
        before: how it was found last.
        now: how it is found.
        rules: what is declared.
        at: when it was looked at.
        listening: since when everything that happens is heard of; 0: it is not.
    """
    runs = now.status in ("running", "restarting", "paused")
    if runs and now.status != "restarting" and now.started > max(track.asked, track.died):
        track = replace(track, asked=0, died=0, unheard=0, with_engine=False)
    if now.over and not track.died:
        if listening and now.finished >= listening:
            track = replace(track, unheard=track.unheard or at)
        elif before is not None and not before.over:
            track = replace(track, died=now.finished or at)
    if now.restarts < track.count:
        track = replace(track, restarts=(), looping=False)
    more = now.restarts - track.count if track.count >= 0 else 0
    if more > 0:
        when = now.finished or at
        kept = (*track.restarts, *[when] * min(more, rules.restarts))[-10 * rules.restarts :]
        track = replace(track, restarts=kept)
    if track.count < 0 and now.status == "restarting" and now.restarts >= rules.restarts:
        track = replace(track, restarts=(at,), looping=True)
    code = now.exit_code if now.over or now.status == "restarting" else track.code
    track = replace(track, count=now.restarts, code=code)
    return passed(track, rules, at)


def passed(track: Track, rules: Containers, at: int) -> Track:
    """Take in that time has passed: a loop begins with too many restarts, and ends with none for a while."""
    if track.restarts and at >= track.restarts[-1] + rules.calm:
        if track.looping:
            return replace(track, restarts=(), looping=False)
    elif sum(when > at - rules.within for when in track.restarts) >= rules.restarts:
        return replace(track, looping=True)
    return track


def ended_with_engine(
    tracks: Mapping[str, Track], before: Mapping[str, Container], found: Mapping[str, Container], gone: int
) -> dict[str, Track]:
    """Return the tracks, with those marked that ended because their engine, which is another by now, did.

    It sends a signal to all containers at once (`kill`, `die`, `stop`, as for a stop by hand), and is gone
    when they are.

    Args:
        tracks: what was heard until then, by id.
        before: containers as they were then.
        found: as they are now.
        gone: when it ceased to answer.
    """
    last = max((track.asked for key, track in tracks.items() if key in before), default=0)
    since = max(last - _TOGETHER, gone - _SHUTDOWN)
    # An engine that is killed asks nobody: whoever was asked then, a person asked.
    all_asked = all(one.over or (key in tracks and tracks[key].asked) for key, one in before.items())

    def with_it(key: str, track: Track) -> bool:
        if track.asked:
            return all_asked and track.asked > since
        return key in before and key in found and not before[key].over and found[key].over

    return {
        key: replace(track, with_engine=True, asked=0, died=track.died or gone)
        if with_it(key, track)
        else track
        for key, track in tracks.items()
    }


def by_hand(one: Container, track: Track, *, starts_again: bool = True) -> bool | None:
    """Tell whether a container that has ended was stopped by a person; None: nobody knows.

    Args:
        one: the container.
        track: what was heard of it.
        starts_again: whether the engine starts what has a restart policy again after it was away, which
            Docker does and Podman does not.
    """
    if starts_again and one.policy in ("always", "unless-stopped"):
        return not one.error
    if track.with_engine:
        return False
    if track.asked:
        return True
    if starts_again and one.policy == "on-failure" and one.exit_code:
        return not one.error and not 0 < one.retries <= one.restarts
    if track.died or track.unheard or one.error or one.oom or one.exit_code not in _BY_SIGNAL:
        return False
    return None


@dataclass(frozen=True)
class Judge:
    """Judges the containers of one engine.

    Attributes:
        engine: which.
        rules: what is declared.
        since: when they were first looked at.
        starts_again: see `by_hand`.
    """

    engine: Engine
    rules: Containers
    since: int
    starts_again: bool = True

    def target(self, one: Container) -> Target:
        """Return what a container is called."""
        return Target("container", f"{self.engine.prefix}{one.name}")

    def ignored(self, one: Container) -> bool:
        """Tell whether a container is not watched."""
        return one.label == "ignore" or self._matches(self.rules.ignore, one)

    def _matches(self, patterns: Iterable[str], one: Container) -> bool:
        name = self.target(one).name
        return any(matches(pattern, name) for pattern in patterns)

    def verdict(self, one: Container, track: Track, others: Mapping[str, Container], now: int) -> Verdict:
        """Judge a container.

        Args:
            one: the container.
            track: what was heard of it.
            others: all of the engine, by id: those it may need.
            now: microseconds since 1970.
        """
        if self.ignored(one):
            return Verdict()
        details: dict[str, Any] = {"id": one.id[:12], "image": one.image}
        if one.label:
            details["label"] = one.label if one.label in LABELS else "escalate"
        if needs := self._needs(one, others):
            details["needs"] = needs
        found = [*self._state(one, track, now, details), *self._label(one, details)]
        moments = [at for at in self._again(one, track) if at > now]
        return Verdict(tuple(found), min(moments, default=None))

    def _again(self, one: Container, track: Track) -> Iterable[int]:
        if track.restarts:
            yield track.restarts[-1] + self.rules.calm
        if track.oom:
            yield track.oom + self.rules.within
        if one.status == "created":
            yield one.created + _MADE
        if one.over:
            yield one.finished + _GAP
            yield track.unheard + _LAG

    def _comes_back(self, one: Container, track: Track, now: int) -> bool:
        """Tell whether the engine may be about to start a container again that it says has ended."""
        if self.starts_again or not one.over or track.asked or now >= one.finished + _GAP:
            return False
        left = not one.retries or one.restarts < one.retries
        return one.policy in ("always", "unless-stopped") or (
            one.policy == "on-failure" and one.exit_code != 0 and left
        )

    def _needs(self, one: Container, others: Mapping[str, Container]) -> list[str]:
        """Return the targets that a container needs: by compose, or because it is in their network."""
        found = set[str]()
        if not one.depends and not one.network_of:
            return []
        for other in others.values():
            service = one.project and other.project == one.project and other.service in one.depends
            network = one.network_of and one.network_of in (other.id, other.name)
            if (service or network) and other.id != one.id:
                found.add(str(self.target(other)))
        return sorted(found)

    def _state(self, one: Container, track: Track, now: int, details: dict[str, Any]) -> Iterable[Finding]:
        if self._comes_back(one, track, now):
            return self._runs(one, track, now, details)
        if one.over and track.unheard and now < track.unheard + _LAG:
            return ()
        if one.over or one.status == "created":
            return self._ended(one, track, now, details)
        if one.status in ("paused", "removing"):
            return ()
        return self._runs(one, track, now, details)

    def _runs(self, one: Container, track: Track, now: int, details: dict[str, Any]) -> Iterable[Finding]:
        target = self.target(one)
        if track.looping:
            # Not the number itself: each restart would be news.
            times = 1 << max(one.restarts, 1).bit_length() - 1
            text = (
                f"{one.name} is started again and again by its engine: {times} times or more by now, "
                f"last after exit code {track.code}{' (out of memory)' if one.oom else ''}"
            )
            more = {"restarts": times, "exit_code": track.code}
            yield Finding(target, "restart-loop", "warning", track.restarts[0], text, details | more)
        if one.status == "running" and one.health == "unhealthy":
            said = f": {one.said}" if one.said else ""
            text = f"{one.name} is unhealthy, its health check failed {one.failures} times in a row{said}"
            yield Finding(
                target, "unhealthy", "warning", one.failing_since or now, text, details | {"said": one.said}
            )
        if track.oom and now < track.oom + self.rules.within:
            text = f"{one.name} ran out of memory: the kernel killed a process in it; it runs"
            yield Finding(target, "oom-killed", "info", track.oom, text, details)

    def _ended(self, one: Container, track: Track, now: int, details: dict[str, Any]) -> Iterable[Finding]:
        wanted = self._matches(self.rules.running, one)
        if one.status == "created":
            if wanted and now >= one.created + _MADE:
                why = f": {one.error}" if one.error else ""
                text = f"{one.name} is to run, and was never started{why}"
                yield Finding(self.target(one), "exited", "warning", one.created, text, details)
            return
        hand = by_hand(one, track, starts_again=self.starts_again)
        if (
            one.auto_remove
            or one.status == "dead"
            or hand
            or (not wanted and not self._unexpected(one, track))
        ):
            return
        oom, since = one.oom, one.finished or now
        severity = "warning" if wanted or hand is not None else "info"
        problem = "oom-killed" if oom else "exited"
        yield Finding(
            self.target(one),
            problem,
            severity,
            since,
            _ended_text(one, track, hand),
            details | {"exit_code": one.exit_code, "policy": one.policy},
        )

    def _unexpected(self, one: Container, track: Track) -> bool:
        """Tell whether the end of a container that may end is one to tell of."""
        followed = track.died or track.unheard or track.with_engine
        if not followed and one.finished < self.since - self.rules.recent:
            return False
        return bool(one.exit_code or one.error or track.with_engine or one.oom)

    def _label(self, one: Container, details: dict[str, Any]) -> Iterable[Finding]:
        if one.label and one.label not in LABELS:
            words = ", ".join(LABELS)
            text = (
                f"{one.name} has the label rota.keeper={clip(one.label, 40)}, which means nothing: "
                f"write one of {words}; until then it is not acted on"
            )
            yield Finding(self.target(one), "label", "info", one.created, text, details)


def _ended_text(one: Container, track: Track, hand: bool | None) -> str:
    if one.error:
        return f"{one.name} could not be started: {one.error}"
    if one.oom:
        return f"{one.name} was killed by the kernel: it ran out of memory"
    if track.with_engine:
        return f"{one.name} ended with its engine, which does not start it again (--restart {one.policy})"
    text = f"{one.name} ended with exit code {one.exit_code}"
    if one.policy == "on-failure" and one.restarts:
        text += f", and was not started again after {one.restarts} times"
    elif one.started and one.finished > one.started:
        text += f", after it ran for {span(one.finished - one.started)}"
    return f"{text}, when nobody looked: perhaps by hand" if hand is None else text
