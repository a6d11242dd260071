"""What the journal tells of the machine and of timers in a time that is past."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from systemd import journal

from rota.causes import ASLEEP, AWAKE, CAME_UP, STARTED, STOPPED, WENT_OFF, Fact, Moment
from rota.names import timer_of

# systemd/sd-messages.h
_STARTED = "39f53479d3a045ac8e11786248231fbf"
_STOPPED = "9d1aaa27d60140bd96365438aad20286"
_TIMER = {_STARTED: STARTED, _STOPPED: STOPPED}
_SLEEP = {
    "6bbd95ee977941e497c48be27c254128": ASLEEP,
    "8811e6df2a8e40f58a94cea26f8ebf14": AWAKE,
}
_ALIKE = 1000
"""Entries of one microsecond that are looked through for the next boot."""


def asleep() -> int:
    """Return how long the machine has slept since boot, in microseconds."""
    return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) // 1000


class Past:
    """The journal, looked up by time."""

    def __init__(self, *, user: bool) -> None:
        self._user = user
        self._reader = journal._Reader(journal.LOCAL_ONLY)

    def close(self) -> None:
        """Let go of the journal's files."""
        self._reader.close()

    def _match(self, *matches: str) -> None:
        self._reader.flush_matches()
        for match in matches:
            self._reader.add_match(match)

    def _moment(self) -> Moment:
        monotonic, boot = self._reader._get_monotonic()
        return Moment(self._reader._get_realtime(), monotonic, bytes(boot).hex())

    def around(self, at: int) -> tuple[Moment | None, Moment | None]:
        """Return the last entry before a moment (microseconds since 1970), and the first from then on."""
        self._match()
        self._reader.seek_realtime(at)
        after = self._moment() if self._reader._next() else None
        if after is None:
            self._reader.seek_tail()
        before = self._moment() if self._reader._previous() else None
        return before, after

    def machine(self, since: int, until: int) -> list[Fact]:
        """Return when the machine went off, came up, fell asleep and woke."""
        facts = [*self._boots(since, until), *self._told(since, until, _SLEEP, "_UID=0")]
        return sorted(facts, key=lambda fact: fact.at)

    def timer(self, agent: str, since: int, until: int) -> list[Fact]:
        """Return when the timer of an agent was started and stopped, with the last before that time."""
        unit = timer_of(agent)
        manager = (
            ("_SYSTEMD_USER_UNIT=init.scope", f"_UID={os.getuid()}", f"USER_UNIT={unit}")
            if self._user
            else ("_PID=1", "_UID=0", f"UNIT={unit}")
        )
        return list(self._told(since, until, _TIMER, *manager, before=True))

    def _told(
        self, since: int, until: int, kinds: dict[str, str], *matches: str, before: bool = False
    ) -> Iterator[Fact]:
        self._match(*matches, *(f"MESSAGE_ID={message}" for message in kinds))
        self._reader.seek_realtime(since)
        if before and self._reader._previous():
            yield self._fact(kinds)
        while self._reader._next():
            fact = self._fact(kinds)
            if fact.at > until:
                return
            yield fact

    def _fact(self, kinds: dict[str, str]) -> Fact:
        value = self._reader._get("MESSAGE_ID")
        message = value[0] if isinstance(value, list) else value
        return Fact(kinds[message.decode()], self._reader._get_realtime())

    def _boots(self, since: int, until: int) -> Iterator[Fact]:
        before, after = self.around(since)
        moment = before or after
        while moment is not None:
            last = self._last_of(moment.boot) or moment
            following = self._next_boot(last)
            if following is None or last.at > until:
                return
            yield Fact(WENT_OFF, last.at)
            yield Fact(CAME_UP, following.at)
            moment = following

    def _last_of(self, boot: str) -> Moment | None:
        self._match(f"_BOOT_ID={boot}")
        self._reader.seek_tail()
        return self._moment() if self._reader._previous() else None

    def _next_boot(self, last: Moment) -> Moment | None:
        """Return the first entry after a boot's last."""
        self._match()
        self._reader.seek_realtime(last.at)
        for _ in range(_ALIKE):
            if not self._reader._next():
                return None
            moment = self._moment()
            if moment.boot != last.boot:
                return moment if moment.at >= last.at else None
        return None
