"""Cron expressions: read, checked with advice, and said again as systemd calendar events.

The dialect is that of crontab(5), vixie's and Debian's: five fields, names, ranges, lists, steps
after `*` or a range, and the `@daily` family. We expand it ourselves: croniter needs 130 to 1250 us
an expression, and takes what cron does not (wrapping ranges, `5/15`, `7-7` as every day).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta


class CronError(ValueError):
    """A cron expression that cannot be used: what is wrong and what to write instead."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A checked expression with every field spelled out.

    Attributes:
        expression: as written, with single spaces.
        minutes: the sorted values, as in the four fields that follow.
        weekdays: 0 is Sunday, 6 Saturday; a 7 is folded to 0.
        either_day: a day matches by date *or* weekday, because neither field begins with `*`
            (crontab(5)); otherwise both have to match.
    """

    expression: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool


@dataclass(frozen=True, slots=True)
class _Field:
    label: str
    low: int
    high: int
    kind: str = ""
    names: dict[str, int] = field(default_factory=dict)

    def number(self, word: str) -> int | None:
        """Return what a number or name stands for, None if it stands for nothing here."""
        value = int(word) if word.isdecimal() else self.names.get(word.upper())
        return value if value is not None and self.low <= value <= self.high else None

    def spelled(self, value: int, named: bool) -> str:
        """Return a value as the person would write it: by name when they used names."""
        names = {number: name for name, number in self.names.items()} if named else {}
        return names.get(value) or names.get(value - 7) or str(value)  # 7 is SUN too


_WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # as systemd spells and orders them
_YEAR = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAY = _Field("weekday", 0, 7, "day", {name.upper(): i % 7 for i, name in enumerate(_WEEK, 1)})
_MONTH = _Field("month", 1, 12, "month", {name.upper(): i for i, name in enumerate(_YEAR, 1)})
_MINUTE, _HOUR, _DAY = _Field("minute", 0, 59), _Field("hour", 0, 23), _Field("day", 1, 31)
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)
_ALL = {f.label: tuple(range(f.low, f.high + (f is not _WEEKDAY))) for f in _FIELDS}
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SUFFIX = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
_LONGEST = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WORD = r"([0-9]{1,9}|[A-Za-z]+)"
_ITEM = re.compile(rf"(?:\*|{_WORD}(?:-{_WORD})?)(?:/([0-9]{{1,9}}))?")


@functools.cache
def parse(expression: str) -> Cron:
    """Read a cron expression.

    Args:
        expression: five fields or a macro such as `@daily`, see crontab(5).

    Raises:
        CronError: naming every mistake of the expression, joined by "; ".
    """
    texts = expression.split()
    written = " ".join(texts)
    if written.startswith("@"):
        texts = _macro(written).split()
    if len(texts) != len(_FIELDS):
        raise CronError(_wrong_count(texts))
    columns = [_expand(f, text) for f, text in zip(_FIELDS, texts, strict=True)]
    if () in columns:
        raise CronError("; ".join(dict.fromkeys(_mistakes(texts))))
    minutes, hours, days, months, weekdays = columns
    either = not (texts[2].startswith("*") or texts[4].startswith("*"))
    cron = Cron(written, minutes, hours, days, months, weekdays, either)
    if not either and not _exists(cron):
        raise CronError(_never(cron))
    return cron


_ANY_SHIFT = frozenset((0, 15, 30, 45))
"""Minutes by which local times differ from UTC's, hours aside, the world over."""


@functools.cache
def on_calendar(cron: Cron, timezone: str | None = None) -> tuple[str, ...]:
    """Return the `OnCalendar=` values that elapse exactly when the cron expression does.

    Two of them where cron ORs date and weekday: systemd ORs lines, and fires once for a moment that
    matches both. Hours and minutes are lists, never steps: a stepped hour that falls into a DST gap
    stops a systemd timer for good. See systemd.time(7), CALENDAR EVENTS.

    What happens in every hour of every day is said in UTC where that is the same: systemd passes over the
    hour that comes twice when clocks are set back (systemd issue 8647), and nothing would happen in it.

    Args:
        cron: what `parse` returned.
        timezone: an IANA name to append, None for the machine's own.
    """
    time = f"{_two(cron.hours, _HOUR)}:{_two(cron.minutes, _MINUTE)}:00"
    zone = " UTC" if _same_in_utc(cron, timezone) else f" {timezone}" if timezone else ""
    return tuple(
        f"{_week(weekdays)} *-{_two(cron.months, _MONTH)}-{_two(days, _DAY)} {time}{zone}".lstrip()
        for days, weekdays in _alternatives(cron)
    )


@functools.cache
def _shifts(timezone: str) -> frozenset[int]:
    """Return by how many minutes a zone differs from UTC, hours aside, in any month of these decades."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415  (only when a declaration names one)

    zone = ZoneInfo(timezone)
    months = (datetime(year, month, 1, tzinfo=zone) for year in range(2020, 2050) for month in range(1, 13))
    return frozenset(int((month.utcoffset() or timedelta()).total_seconds() // 60) % 60 for month in months)


def _same_in_utc(cron: Cron, timezone: str | None) -> bool:
    every_hour = all(
        getattr(cron, name) == _ALL[label]
        for name, label in (("hours", "hour"), ("days", "day"), ("months", "month"), ("weekdays", "weekday"))
    )
    if not every_hour:
        return False
    shifts = _shifts(timezone) if timezone else _ANY_SHIFT
    return all(tuple(sorted((m + by) % 60 for m in cron.minutes)) == cron.minutes for by in shifts)


@functools.cache
def describe(cron: Cron) -> str:
    """Return a few words for a simple expression ("Mon..Fri 09:00"), otherwise the expression."""
    (days, weekdays), *more = _alternatives(cron)
    any_date, any_month = days == _ALL["day"], cron.months == _ALL["month"]
    if more or (any_date and not any_month):
        return cron.expression
    few = len(cron.minutes) == 1 and len(cron.hours) <= 3
    clock = ",".join(f"{hour:02}:{cron.minutes[0]:02}" for hour in cron.hours) if few else ""
    if any_date and weekdays == _ALL["weekday"]:
        return _rhythm(cron) or (f"daily {clock}" if clock else cron.expression)
    if clock and any_date:
        return f"{_week(weekdays)} {clock}"
    if clock and weekdays == _ALL["weekday"] and len(days) <= 3 and (any_month or len(cron.months) == 1):
        month = "month" if any_month else _YEAR[cron.months[0] - 1]
        dates = ",".join(str(day) + _SUFFIX.get(day, "th") for day in days)
        return f"{dates} of {month} {clock}"
    return cron.expression


def _alternatives(cron: Cron) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return pairs of days and weekdays: a day has to match both of any one pair."""
    if not cron.either_day:
        return [(cron.days, cron.weekdays)]
    every_day, every_weekday = _ALL["day"], _ALL["weekday"]
    if cron.days == every_day or cron.weekdays == every_weekday:
        return [(every_day, every_weekday)]
    return [(cron.days, every_weekday)] * _exists(cron) + [(every_day, cron.weekdays)]


def _rhythm(cron: Cron) -> str:
    minutes, hours = cron.minutes, cron.hours
    if hours == _ALL["hour"] and len(minutes) == 1:
        return f"hourly :{minutes[0]:02}"
    if hours == _ALL["hour"] and minutes == tuple(range(0, 60, 60 // len(minutes))):
        return f"every {60 // len(minutes)}min" if len(minutes) < 60 else "every minute"
    if minutes == (0,) and len(hours) > 1 and hours == tuple(range(0, 24, 24 // len(hours))):
        return f"every {24 // len(hours)}h"
    return ""


def _two(values: tuple[int, ...], column: _Field) -> str:
    return "*" if values == _ALL[column.label] else ",".join(f"{value:02}" for value in values)


def _week(weekdays: Iterable[int]) -> str:
    """Return systemd's words for some weekdays; its week begins on Monday, and ranges cannot wrap."""
    present = {(day - 1) % 7 for day in weekdays}
    starts = [day for day in sorted(present) if day - 1 not in present]
    ends = [day for day in sorted(present) if day + 1 not in present]
    runs = (
        f"{_WEEK[a]}..{_WEEK[b]}" if b > a + 1 else ",".join(_WEEK[a : b + 1])
        for a, b in zip(starts, ends, strict=True)
    )
    return "" if len(present) == 7 else ",".join(runs)


def _exists(cron: Cron) -> bool:
    return any(cron.days[0] <= _LONGEST[month] for month in cron.months)


def _expand(column: _Field, text: str) -> tuple[int, ...]:
    """Return the values of one field, () if any part of it is wrong."""
    if text == "*":
        return _ALL[column.label]
    values: set[int] = set()
    for item in text.split(","):
        found = _item(column, item)
        if found is None:
            return ()
        values.update(found)
    return tuple(sorted({value % 7 for value in values} if column is _WEEKDAY else values))


def _item(column: _Field, text: str) -> range | None:
    match = _ITEM.fullmatch(text)
    if match is None:
        return None
    first, last, step = match.groups()
    by = int(step or 1)
    if first is None:
        return range(column.low, column.high + 1, by) if by else None
    low = column.number(first)
    high = column.number(last) if last else low
    if last and last.upper() == "SUN" and low:
        high = 7  # FRI-SUN ends the week; as a start, SUN is 0
    if low is None or high is None or low > high or not by or (step and not last):
        return None
    return range(low, high + 1, by)


# From here on explanations: nothing below runs for a good expression, but for the macros.

_NO_MACROS = {
    "@reboot": "@reboot is not a time; write on_boot = true instead of cron",
    "@every": '@every is not cron; write every = "5min" instead of cron',
}


def _macro(written: str) -> str:
    word = written.split(maxsplit=1)[0].lower()
    if written.lower() in _MACROS:
        return _MACROS[word]
    if word in _MACROS:
        raise CronError(f"{word} stands alone; remove what follows it")
    hint = _similar(word, _MACROS) or f"; write one of {' '.join(_MACROS)}"
    raise CronError(_NO_MACROS.get(word) or f"unknown macro {word}{hint}")


def _similar(word: str, known: Collection[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  (only when something is wrong)

    close = [word[:3]] if word[:3] in known else sorted(get_close_matches(word, list(known), n=2))
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _wrong_count(texts: Sequence[str]) -> str:
    count = len(texts)
    told = f"{count} field{'s' * (count != 1)}, but cron has 5: minute hour day month weekday"
    if count < 5:
        return f"{told}; write * for any"
    five = ["*" if text == "?" else text for text in texts[1:6]]
    quartz = "?" in texts and re.search("[0-9]", five[4])  # there 1 is Sunday: ask, do not guess
    plain = texts[0] in ("0", "00") and texts[6:] in ([], ["*"]) and not quartz
    if plain and all(map(_expand, _FIELDS, five)):
        return f'{told}; without seconds write "{" ".join(five)}"'
    return f'{told}; for seconds or years use calendar = "Mon 2027-*-* 09:00:30"'


def _never(cron: Cron) -> str:
    months = ",".join(_YEAR[month - 1] for month in cron.months)
    end = on_calendar(cron)[0].replace(f"-{_two(cron.days, _DAY)} ", "~1 ")
    has = "has" if len(cron.months) == 1 else "have"
    return f'never happens: {months} {has} no day {cron.days[0]}; for the last day use calendar = "{end}"'


def _mistakes(texts: Sequence[str]) -> Iterator[str]:
    months, hours, minutes = (_expand(_FIELDS[i], texts[i]) for i in (3, 1, 0))
    dates = f"*-{_two(months, _MONTH) if months else '…'}"
    time = f"{_two(hours, _HOUR)}:{_two(minutes, _MINUTE)}:00" if hours and minutes else "…"
    for column, text in zip(_FIELDS, texts, strict=True):
        for item in text.split(","):
            if _item(column, item) is None:
                yield from _foreign(column, item, dates, time) or _explain(column, item)


def _explain(column: _Field, text: str) -> list[str]:
    match = _ITEM.fullmatch(text)
    if not text:
        return [f"empty item in the {column.label} list; remove the extra comma"]
    if match is None:
        return [f"{column.label} {text} is not cron; write a value, a range a-b, a list a,b or a step */n"]
    first, last, step = match.groups()
    label, named = column.label, not (first or "0").isdecimal()
    wrong = [_bad_word(column, word) for word in (first, last) if word and column.number(word) is None]
    if step and int(step) == 0:
        wrong.append(f"step 0 in {text} goes nowhere; write a step of 1 or more")
    elif not wrong and last:
        wrong.append(f"{label} range {text} runs backwards; write {_unwrapped(column, first, last, step)}")
    elif not wrong:
        end = column.spelled(6 if column is _WEEKDAY else column.high, named)
        wrong.append(f"{label} {text} has a step but no range; write {first}-{end}/{step}")
    return wrong


def _bad_word(column: _Field, word: str) -> str:
    if word.isdecimal():
        return f"{column.label} {word} is not in {column.low}-{column.high}"
    if other := next((f for f in _FIELDS if word.upper() in f.names), None):
        return f"{word} is a {other.kind} name; write it in the {other.label} field"
    if not column.kind:
        return f"{column.label} {word} is not a number in {column.low}-{column.high}"
    hint = _similar(word.upper(), column.names) or f"; write one of {' '.join(column.names)}"
    return f"unknown {column.kind} name {word}{hint}"


def _unwrapped(column: _Field, first: str, last: str, step: str | None) -> str:
    low, high = column.number(first) or 0, column.number(last) or 0
    named = not first.isdecimal()
    base, top = (1, 7) if column is _WEEKDAY else (column.low, column.high)
    if step:
        steps = range(low, high + top - base + 2, int(step))
        return ",".join(column.spelled((v - base) % (top - base + 1) + base, named) for v in steps)
    spans = [(low, top), (base, high)]
    ends = [[column.spelled(v, named) for v in sorted({*span})] for span in spans if span[0] <= span[1]]
    return ",".join("-".join(pair) for pair in ends)


def _near(match: re.Match[str]) -> list[str]:
    day = int(match[1])
    around = [f"Fri @-{day - 1:02}", f"Mon @-{day + 1:02}"] if day > 1 else ["Mon @-02,03"]
    return [f"Mon..Fri @-{day:02}", *around]


def _in_month(match: re.Match[str]) -> list[str]:
    nth = int(match[2] or 0)
    days = f"-{7 * nth - 6:02}..{min(7 * nth, 31):02}" if nth else "~7/1"
    return [f"{_week([_WEEKDAY.number(match[1]) or 0])} @{days}"]


# What Quartz, Jenkins and others take beyond crontab(5): where, pattern, name, and what to write: words,
# or the days of calendar events, with @ for year and month. From the 28th on, W depends on the month.
_ANY_DAY = f"([0-7]|{'|'.join(_WEEKDAY.names)})"
_FOREIGN: tuple[tuple[tuple[_Field, ...], str, str, str | Callable[[re.Match[str]], list[str]]], ...] = (
    (_FIELDS, r"\?", "?", "write *"),
    (_FIELDS, r"[HR](\([^)]*\))?(/[0-9]+)?", "H (or R)", 'write a number or */n, and jitter = "10min"'),
    ((_DAY,), "L(?:-([12]?[0-9]))?", "L (last day)", lambda match: [f"@~{int(match[1] or 0) + 1}"]),
    ((_DAY,), "LW", "LW (last working day)", lambda _: ["Mon..Fri @~1", "Fri @~2,3"]),
    ((_DAY,), "(0?[1-9]|1[0-9]|2[0-7])W", "W (nearest weekday)", _near),
    ((_WEEKDAY,), "L", "L", "write SAT"),
    ((_WEEKDAY,), f"{_ANY_DAY}#([1-5])", "# (nth weekday)", _in_month),
    ((_WEEKDAY,), f"{_ANY_DAY}L()", "L (last weekday of the month)", _in_month),
)


def _foreign(column: _Field, text: str, dates: str, time: str) -> list[str]:
    for columns, pattern, name, advice in _FOREIGN:
        match = re.fullmatch(pattern, text, re.IGNORECASE | re.ASCII) if column in columns else None
        if match and isinstance(advice, str):
            return [f"{name} is not cron; {advice}"]
        if match and callable(advice):
            days = (f"{day} {time}".replace("@", dates) for day in advice(match))
            said = " and ".join(f'calendar = "{day}"' for day in days)
            return [f"{name} is not cron; use {said}"]
    return []
