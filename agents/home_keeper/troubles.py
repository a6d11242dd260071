"""What people are told of a target: each problem once while it lasts, however often it comes and goes. Pure.

A trouble begins with a finding of more than info. It is over when the target has stayed without that finding
for `settle`, and a remedy that was done meanwhile has had its time. What comes again before is the same one.
In quiet hours neither is told, unless it is critical: what comes and goes then is one trouble, told later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rota import keeper_rules

from .messages import Event
from .state import Case, Trouble
from .turn import Turn
from .words import SEVERITIES, Finding


def _counting(case: Case) -> Mapping[str, Finding]:
    found = {problem: item.finding for problem, item in case.open.items()}
    return {problem: item for problem, item in found.items() if item.severity != "info"}


def _worse(finding: Finding, trouble: Trouble) -> bool:
    return SEVERITIES.index(finding.severity) > SEVERITIES.index(trouble.severity)


def noticed(turn: Turn, name: str, case: Case) -> Case:
    """Return the case with its troubles as its findings are now; file what begins, or is worse than told."""
    counting, after = _counting(case), dict(case.troubles)
    for problem, finding in counting.items():
        known = after.get(problem)
        if known is not None and not _worse(finding, known):
            after[problem] = replace(known, clear=None)
            continue
        since = known.since if known is not None else finding.since
        untold = turn.quiet(finding.severity)
        after[problem] = Trouble(since, finding.severity, finding.summary, untold=untold)
        if not untold:
            turn.events.append(told(name, problem, after[problem], turn.now, _said(finding)))
    for problem in after.keys() - counting.keys():
        if after[problem].clear is None:
            after[problem] = replace(after[problem], clear=turn.now)
    return case if after == case.troubles else replace(case, troubles=after)


def _said(finding: Finding) -> str:
    return str(finding.details.get("said", ""))


def told(name: str, problem: str, trouble: Trouble, now: int, said: str = "") -> Event:
    """Return the event by which people are told of a trouble; `said`: the output of what found it."""
    what = {"severity": trouble.severity, "summary": trouble.summary, "since": trouble.since}
    return Event("trouble", name, now, {"problem": problem, **what, "said": said})


def settled(turn: Turn, name: str, case: Case, clear: int) -> int:
    """Return when it is sure that what is not found since `clear` is over."""
    end = clear + turn.policy(name).settle
    return max(end, case.proving.until) if case.proving is not None else end


def ends(turn: Turn, name: str, case: Case, trouble: Trouble) -> int | None:
    """Return when a trouble is over if nothing happens, None if it goes on."""
    if trouble.clear is None or case.underway is not None:
        return None
    end = settled(turn, name, case, trouble.clear)
    quiet = (
        None if trouble.severity == "critical" else keeper_rules.quiet_until(turn.rules, max(end, turn.now))
    )
    return quiet or end


def wake(turn: Turn, name: str, case: Case) -> list[int]:
    """Return when people are to be told of troubles of a case, or that they are over, if nothing happens."""
    found = [ends(turn, name, case, one) for one in case.troubles.values()]
    if any(one.untold for one in case.troubles.values()):
        found.append(keeper_rules.quiet_until(turn.rules, turn.now) or turn.now)
    return [at for at in found if at is not None]


def told_late(turn: Turn, name: str, case: Case) -> Case:
    """Return the case with its troubles told of that waited for the end of quiet hours."""
    late = {
        problem: replace(one, untold=False)
        for problem, one in case.troubles.items()
        if one.untold and not turn.quiet(one.severity)
    }
    for problem, trouble in late.items():
        item = case.open.get(problem)
        turn.events.append(told(name, problem, trouble, turn.now, _said(item.finding) if item else ""))
    return replace(case, troubles={**case.troubles, **late}) if late else case


def over(turn: Turn, name: str, case: Case) -> Case:
    """Return the case without the troubles that are over by now, and file that they are."""
    case = told_late(turn, name, case)
    gone = []
    for problem, trouble in case.troubles.items():
        end = ends(turn, name, case, trouble)
        if end is not None and end <= turn.now:
            gone.append(problem)
    left = {problem: one for problem, one in case.troubles.items() if problem not in gone}
    for problem in gone:
        trouble = case.troubles[problem]
        turn.event(
            "trouble-over",
            name,
            problem=problem,
            severity=trouble.severity,
            summary=trouble.summary,
            since=trouble.since,
            took=max((trouble.clear or turn.now) - trouble.since, 0),
            tried=list(case.tried),
            left=sorted(left),
        )
    return replace(case, troubles=left) if gone else case
