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
"""Who asked for too much rests for so many times what its last call took, after it: a tenth is its share."""
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
    """

    caller: str
    data: bytes
    came: float
    began: float = 0.0
    at_work: bool = False


@dataclass(slots=True)
class _Lane:
    """What there is of one caller."""

    waiting: deque[Call] = field(default_factory=deque)
    size: int = 0
    under_way: int = 0
    at_work: int = 0
    refused: bool = False
    rests_until: float = 0.0

    def may_begin(self) -> bool:
        return self.at_work < (1 if self.refused else _AT_WORK)


class Turns:
    """Calls in the order in which they are to begin: round robin by callers, each caller's in their order.

    A caller of whom nothing waits and nothing is under way is forgotten.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._round: deque[str] = deque()  # those of whom something waits, whose turn is next first

    def __len__(self) -> int:
        """Return how many callers are known."""
        return len(self._lanes)

    def put(self, call: Call) -> bool:
        """Let a call wait for its turn; tell whether it may: not if its caller has too many unanswered."""
        lane = self._lanes.setdefault(call.caller, _Lane())
        if len(lane.waiting) + lane.under_way >= UNANSWERED or lane.size >= WAITING:
            lane.refused = True
            return False
        if not lane.waiting:
            self._round.append(call.caller)
        lane.waiting.append(call)
        lane.size += len(call.data)
        return True

    def take(self, now: float) -> Call | None:
        """Return the call that is to begin now, None if there is none that may."""
        for _ in range(len(self._round)):
            caller = self._round[0]
            lane = self._lanes[caller]
            if lane.may_begin() and lane.rests_until <= now:
                call = lane.waiting.popleft()
                lane.size -= len(call.data)
                call.began, call.at_work = now, True
                lane.at_work += 1
                lane.under_way += 1
                lane.refused &= 2 * len(lane.waiting) >= UNANSWERED or 2 * lane.size >= WAITING
                self._round.popleft()
                if lane.waiting:
                    self._round.append(caller)
                return call
            self._round.rotate(-1)
        return None

    def rested(self) -> float | None:
        """Return when the first caller that only rests may begin again, None if nobody does."""
        lanes = [self._lanes[caller] for caller in self._round]
        return min((lane.rests_until for lane in lanes if lane.may_begin()), default=None)

    def waits(self, call: Call) -> None:
        """A call that is under way does nothing but wait for something: another may begin meanwhile."""
        if call.at_work:
            call.at_work = False
            self._lanes[call.caller].at_work -= 1

    def done(self, call: Call, now: float) -> None:
        """A call is answered."""
        lane = self._lanes[call.caller]
        if lane.refused:
            lane.rests_until = now + min(_REST * (now - call.began), _LONGEST_REST)
        self.waits(call)
        lane.under_way -= 1
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
