"""Each sentence that explains how a target is treated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rota_agents.home_keeper.messages import Started

from rota.keeper_rules import Override
from rota.quantity import USEC

from .kit import DATABASE, HOUR, MINUTE, WEB, House, moment, rules

ONE = rules(strikes=("act", "act", "escalate"))
NIGHT = moment("2026-11-21 23:00:00")


def noted() -> House:
    house = House()
    house.fails()
    return house


def acting(**more: object) -> House:
    house = House(rules(strikes=("act", "act", "escalate"), **more))  # type: ignore[arg-type]
    house.fails()
    return house


def failed() -> House:
    house = acting(cooldown=100 * USEC)
    house.ends("failed", "job canceled")
    return house


def proving() -> House:
    house = acting()
    house.ends()
    return house


def let_be() -> House:
    house = failed()
    house.wait(HOUR)
    house.ends("failed")
    return house


def asked() -> House:
    house = House(rules(Override(WEB, mode="ask"), strikes=("act",)))
    house.fails()
    return house


def approved() -> House:
    house = House(rules(Override(WEB, mode="ask"), strikes=("act", "act"), cooldown=100 * USEC))
    house.fails()
    house.answer(True)
    house.ends("failed")
    house.answer(True)
    return house


def denied() -> House:
    house = asked()
    house.answer(False)
    return house


def told() -> House:
    house = House(rules(mode="observe", strikes=("act", "escalate")))
    house.fails()
    house.wait(30)
    return house


def quiet() -> House:
    house = House(rules(quiet="22:30-07:00", strikes=("act",)), NIGHT)
    house.fails()
    return house


def maintained() -> House:
    house = noted()
    house.maintain("unit:*")
    return house


def maintained_and_well() -> House:
    house = House()
    house.maintain("*")
    return house


def needing() -> House:
    house = House(rules(Override(WEB, after=(DATABASE,)), Override(DATABASE)))
    house.fails(DATABASE)
    house.fails()
    return house


def unseen() -> House:
    house = noted()
    house.step(Started(frozenset(("units",))))
    return house


def crowded() -> House:
    named = (Override("unit:a.service"), Override(WEB))
    house = House(rules(*named, strikes=("act",), actions_per_hour=1))
    house.fails("unit:a.service")
    house.wait(60)
    house.fails()
    return house


def spent() -> House:
    house = House(rules(strikes=("act", "act"), attempts=1, cooldown=0))
    house.fails()
    house.works()
    house.wait(15 * MINUTE)
    return house


def well() -> House:
    return House()


def never() -> House:
    house = House(rules(Override("unit:*"), never=(WEB,)))
    house.fails()
    return house


def unnamed() -> House:
    house = House(rules(Override("unit:other")))
    house.fails()
    return house


def labelled() -> House:
    house = House(rules(Override("unit:other"), strikes=("act",)))
    house.fails(label="restart")
    return house


@pytest.mark.parametrize(
    ("situation", "sentence"),
    [
        (well, 'Named by "unit:web.service"; mode act.'),
        (well, "Nothing is wrong with it, as far as is known."),
        (well, "An action would be allowed now."),
        (unnamed, "Not named, so its mode is that of all such: observe."),
        (unnamed, "No action is allowed at present (observe)."),
        (labelled, "Not named, but its label says restart; mode act."),
        (never, "Never touched: unit:web.service."),
        (never, 'Named by "unit:*"; mode act.'),
        (never, "No action is allowed at present (never)."),
        (noted, "failed (warning) since 2026-11-21 12:00:00: unit:web.service is failed (check units)."),
        (
            noted,
            "Strike 1 of 3: it is noted, then it is acted on, then a person is told, then hands off.",
        ),
        (
            noted,
            "Decided at 2026-11-21 12:00:00: note, because strike 1 of 3: it may get well by itself "
            "within 30s. "
            "Looked at again at 2026-11-21 12:00:30.",
        ),
        (noted, "Remedy for failed: restart-unit."),
        (acting, "Under way since 2026-11-21 12:00:00: restart-unit."),
        (acting, "Attempts: 1 of 3 within 1h are used."),
        (acting, "The house: 1 of 20 actions of an hour are used."),
        (proving, "restart-unit has to prove itself until 2026-11-21 12:00:30."),
        (
            proving,
            "Decided at 2026-11-21 12:00:00: hold, because restart-unit was done, and has 30s to "
            "prove itself. "
            "Looked at again at 2026-11-21 12:00:30.",
        ),
        (failed, "Tried: restart-unit: failed, job canceled."),
        (failed, "Next action allowed at 2026-11-21 12:01:40 (cooldown)."),
        (
            failed,
            "Decided at 2026-11-21 12:00:00: hold, because it rests after an action "
            "until 2026-11-21 12:01:40. "
            "Looked at again at 2026-11-21 12:01:40.",
        ),
        (
            let_be,
            "Hands off since 2026-11-21 13:00:00 (strike 3 of 3), until somebody resumes: "
            "rota keeper resume unit:web.service.",
        ),
        (
            let_be,
            "Decided at 2026-11-21 13:00:00: escalate, because strike 3 of 3: a person is told, "
            "and it is let be.",
        ),
        (let_be, "No action is allowed at present (hands off)."),
        (
            asked,
            "Question 1, whether to restart-unit, is open until 2026-11-21 13:00:00: "
            "rota keeper approve 1, or rota keeper deny 1.",
        ),
        (
            asked,
            "Decided at 2026-11-21 12:00:00: ask, because a person is asked whether to restart-unit "
            "(question 1, open until 2026-11-21 13:00:00). Looked at again at 2026-11-21 13:00:00.",
        ),
        (approved, "Question 3, whether to restart-unit: approved by ada."),
        (
            denied,
            "Hands off since 2026-11-21 12:00:00 (ada denied to restart-unit), until it is well again, or: "
            "rota keeper resume unit:web.service.",
        ),
        (
            told,
            "Hands off since 2026-11-21 12:00:30 (strike 2 of 2), until it was well for 10min.",
        ),
        (quiet, "Next action allowed at 2026-11-22 07:00:00 (quiet)."),
        (
            quiet,
            "Decided at 2026-11-21 23:00:00: hold, because it is quiet until 2026-11-22 07:00:00. "
            "Looked at again at 2026-11-22 07:00:00.",
        ),
        (
            maintained,
            "Stands still, uncounted: unit:* is in maintenance by ada until 2026-11-21 14:00:00.",
        ),
        (maintained, "Next action allowed at 2026-11-21 14:00:00 (maintenance)."),
        (maintained_and_well, "In maintenance by ada until 2026-11-21 14:00:00."),
        (needing, "Stands still, uncounted: it needs unit:postgresql.service, which is to be well first."),
        (needing, "No action is allowed at present (dependency)."),
        (unseen, "Stands still, uncounted: it was not looked at again since the keeper was started."),
        (
            unseen,
            "failed (warning) since 2026-11-21 12:00:00: unit:web.service is failed "
            "(check units; not seen again since the keeper was started).",
        ),
        (crowded, "Next action allowed at 2026-11-21 13:00:00 (house)."),
        (
            crowded,
            "Decided at 2026-11-21 12:01:00: hold, because the house has had its 1 actions of an hour. "
            "Looked at again at 2026-11-21 13:00:00.",
        ),
        (spent, "Next action allowed at 2026-11-21 13:00:00 (attempts)."),
    ],
)
def test_sentences(situation: Callable[[], House], sentence: str) -> None:
    assert sentence in situation().sentences()


def test_what_is_no_target_is_said() -> None:
    with pytest.raises(ValueError, match="is no kind of target; there are agent, check"):
        House().sentences("nginx.service")


def test_next_allowed_is_when_it_is_then_allowed() -> None:
    house = House(rules(quiet="12:01-12:30", strikes=("act",) * 9, cooldown=100 * USEC))
    house.fails()
    house.ends("failed")
    assert house.allowed() == (30 * MINUTE, "cooldown, quiet")
    house.wait(30 * MINUTE)
    assert house.at() == 30 * MINUTE
