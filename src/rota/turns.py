"""Whose turn it is: calls wait in a queue for each caller, and callers are served one after the other."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

UNANSWERED = 512
"""So many calls of one caller may be unanswered."""
WAITING = 4 << 20
"""So many bytes of them may wait, or a single longer one."""
_AT_WORK = 4
"""So many calls of one caller are at work at once."""
_REST = 9
"""After a call of one who asked for too much, none of such callers begins for so many times what it took.

All of them share a tenth: a flood may come by many connections.
"""
_LONGEST_REST = 5.0
"""Seconds."""


@dataclass(slots=True, eq=False)
class Call:
    """A call that waits or is under way.

    Attributes:
        caller: unique bus name.
        data: the message.
        came: when, in seconds of any clock that only goes forward.
        began: when its turn was.
        at_work: whether it counts against what one caller may have at work.
        too_much: whether its caller had asked for too much when it began.
    """

    caller: str
    data: bytes
    came: float
    began: float = 0.0
    at_work: bool = False
    too_much: bool = False


@dataclass(slots=True)
class _Lane:
    """What there is of one caller."""

    waiting: deque[Call] = field(default_factory=deque)
    size: int = 0
    under_way: int = 0
    at_work: int = 0
    too_much: bool = False

    def full(self) -> bool:
        return len(self.waiting) + self.under_way >= UNANSWERED or self.size >= WAITING

    def half_full(self) -> bool:
        return 2 * len(self.waiting) >= UNANSWERED or 2 * self.size >= WAITING


class Turns:
    """Which call is to begin: round robin by callers, each caller's in their order.

    Who is refused is one who asks for too much, until half of what waits of it is done. A caller of whom
    nothing waits and nothing is under way is forgotten.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._round: deque[str] = deque()  # those of whom something waits; whose turn is next comes first
        self._rest_until = 0.0
        self._restless: Call | None = None  # the call at work of those who asked for too much

    def __len__(self) -> int:
        """Return how many callers are known."""
        return len(self._lanes)

    def put(self, call: Call) -> bool:
        """Let a call wait for its turn; tell whether it may: not if its caller has too many unanswered."""
        lane = self._lanes.setdefault(call.caller, _Lane())
        if lane.full():
            lane.too_much = True
            return False
        if not lane.waiting:
            self._round.append(call.caller)
        lane.waiting.append(call)
        lane.size += len(call.data)
        return True

    def _may_begin(self, lane: _Lane, now: float) -> bool:
        if lane.too_much and (self._restless is not None or now < self._rest_until):
            return False
        return lane.at_work < _AT_WORK

    def take(self, now: float) -> Call | None:
        """Return the call that is to begin now, None if there is none that may."""
        for caller in self._round:
            lane = self._lanes[caller]
            if self._may_begin(lane, now):
                break
        else:
            return None
        self._round.remove(caller)
        call = lane.waiting.popleft()
        lane.size -= len(call.data)
        if lane.waiting:
            self._round.append(caller)
        call.began, call.at_work, call.too_much = now, True, lane.too_much
        lane.at_work += 1
        lane.under_way += 1
        if lane.too_much:
            self._restless = call
            lane.too_much = lane.half_full()
        return call

    def rested(self) -> float | None:
        """Return when those may begin again who asked for too much, None if it is not for that they wait."""
        waits = any(self._lanes[caller].too_much for caller in self._round)
        return self._rest_until if waits and self._restless is None else None

    def waits(self, call: Call) -> None:
        """A call that is under way does nothing but wait for something: another may begin meanwhile."""
        if call.at_work:
            call.at_work = False
            self._lanes[call.caller].at_work -= 1
        if call is self._restless:
            self._restless = None

    def done(self, call: Call, now: float) -> None:
        """A call is answered."""
        if call.too_much:
            self._rest_until = now + min(_REST * (now - call.began), _LONGEST_REST)
        self.waits(call)
        self._lanes[call.caller].under_way -= 1
        self._forget(call.caller)

    def drop(self, caller: str) -> None:
        """Forget what waits of a caller that is gone."""
        lane = self._lanes.get(caller)
        if lane is not None and lane.waiting:
            lane.waiting.clear()
            lane.size = 0
            self._round.remove(caller)
            self._forget(caller)

    def _forget(self, caller: str) -> None:
        lane = self._lanes[caller]
        if not lane.waiting and not lane.under_way:
            del self._lanes[caller]
