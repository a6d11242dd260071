"""When something that waits is told, and what goes into one message; pure. Times: microseconds since 1970."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import NamedTuple

from rota.quantity import USEC
from rota.quiet import quiet_until
from rota.routes import HOUR, Channel, Rate, Route

FIRST_RETRY, LAST_RETRY = 10 * USEC, 1800 * USEC
"""Between the first attempt and the second; and, doubled each time, at most."""


class Item(NamedTuple):
    """Something that waits to be told.

    Attributes:
        id: of its own.
        filed: since when it waits.
        ready: when all is known of it, or what is not will be no more.
        critical: whether it is told in quiet hours, too.
    """

    id: int
    filed: int
    ready: int
    critical: bool


class Ahead(NamedTuple):
    """A message of the same lane that is not done with.

    Attributes:
        attempts: how often it was tried.
        critical: whether there is something critical in it.
    """

    attempts: int
    critical: bool


class Due(NamedTuple):
    """When a message is due that could not be sent yet.

    Attributes:
        created: when it was made.
        attempts: how often it was tried.
        next_at: when it is tried next.
    """

    created: int
    attempts: int
    next_at: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about what waits.

    Attributes:
        items: ids of what is told now, in one message; empty: nothing.
        until: when to look again; None if all is told.
        why: what for: grouping, quiet, rate, retry; "" if nothing waits.
        held_since: since when the rate limit held back some of it; None if it did not.
    """

    items: tuple[int, ...] = ()
    until: int | None = None
    why: str = ""
    held_since: int | None = None


def free_at(rate: Rate | None, sends: Sequence[int]) -> int:
    """Return when a rate allows the next message; 0: always did.

    Args:
        rate: the limit; None for none.
        sends: when messages were made, oldest first.
    """
    if rate is None or len(sends) < rate.messages:
        return 0
    return sends[-rate.messages] + rate.per


_TRIES = {False: 7, True: 3}
"""After so many attempts a message lets the next pass: ten minutes; where both are critical, half a one."""


def held_back(ahead: Sequence[Ahead], *, critical: bool) -> bool:
    """Tell whether something waits because messages ahead of it could not be sent yet.

    While a channel is down, what comes becomes one message; but one that is refused for good must not keep
    the others waiting. So after some attempts a message lets the next pass, and each further one does so
    later: of two days without a channel there are some fifteen. What is critical waits for nothing else.

    Args:
        ahead: messages of its lane that are not done with.
        critical: whether it is told at once.
    """
    tries = [one.attempts for one in ahead if one.critical or not critical]
    return bool(tries) and min(tries) < _TRIES[critical] + 2 * (len(tries) - 1)


def decide(
    items: Sequence[Item],
    channel: Channel,
    route: Route,
    sends: tuple[Sequence[int], Sequence[int]],
    ahead: Sequence[Ahead] = (),
    *,
    now: int,
    zone: tzinfo | None = None,
) -> Decision:
    """Return what of that which waits for a channel by a route is told now.

    All that may be told goes into one message: what the limit held back is never dropped, only summed up.

    Args:
        items: what waits, in the order in which it was filed.
        channel: where to.
        route: by which way.
        sends: when messages went to the channel, and those of them by this route; oldest first.
        ahead: messages of this route to the channel that are not done with.
        now: the present.
        zone: local time, for quiet hours; the machine's by default.
    """
    held = {critical: held_back(ahead, critical=critical) for critical in (False, True)}
    passing = [item for item in items if not held[item.critical]]
    if items and not passing:
        return Decision(why="retry")
    loud = quiet_until(route.quiet, now, zone) or now
    chosen = [item for item in passing if loud <= now or item.critical]
    if not chosen:
        return Decision(until=loud, why="quiet") if items else Decision()
    # What is in a message has been waiting for the first of it, and each for its own output.
    first = min(item.filed for item in chosen)
    grouped = max(first + route.group, min(max(item.ready for item in chosen), first + route.group + _LATEST))
    # What seems to come yet was made before the clock was set back.
    of_channel, of_route = ([at for at in moments if at <= now] for moments in sends)
    free = max(free_at(channel.rate, of_channel), free_at(route.rate, of_route))
    if max(grouped, free) > now:
        return Decision(until=max(grouped, free), why="rate" if free > grouped else "grouping")
    left = loud if len(chosen) < len(passing) else None
    told = tuple(item.id for item in chosen)
    return Decision(told, left, "quiet" if left else "", first if free > grouped else None)


_LATEST = 5 * USEC
"""What is ready later than this after its group is over is not waited for."""


_TRIED = HOUR
"""However old it seems to be, a message was tried for so long before it is given up."""


def _delay(attempts: int, first: int) -> int:
    return min(first << min(max(attempts - 1, 0), 20), LAST_RETRY)


def retry_at(attempts: int, now: int, chance: float, first: int = FIRST_RETRY) -> int:
    """Return when to try again: twice as long after each attempt, and never all at the same moment.

    Args:
        attempts: how many there were.
        now: the present.
        chance: a random number from 0 to 1.
        first: how long after the first attempt, microseconds.
    """
    return now + round(_delay(attempts, first) * (0.75 + chance / 2))


def is_expired(due: Due, expiry: int, now: int, first: int = FIRST_RETRY) -> bool:
    """Tell whether a message that could not be sent is given up: it is old, and was tried often enough.

    Age alone will not do: where the clock was wrong at boot and is set, or the machine was off, what was
    tried once may be days old.

    Args:
        due: the message; `next_at` does not matter.
        expiry: so long it may take (microseconds).
        now: the present.
        first: how long after the first attempt is the second, microseconds.
    """
    tried = sum(_delay(attempts, first) for attempts in range(1, min(due.attempts, 1000)))
    return now - due.created >= expiry and tried >= min(expiry, _TRIED)


def in_the_present(due: Due, now: int, first: int = FIRST_RETRY) -> Due:
    """Return a message without what lies in the future because the clock was set back since.

    Args:
        due: the message.
        now: the present.
        first: how long after the first attempt is the second, microseconds.
    """
    latest = retry_at(due.attempts, now, 1, first) if due.attempts else now
    return Due(min(due.created, now), due.attempts, min(due.next_at, latest))
