"""Home Keeper on D-Bus, and its man page, from the keeper's own tables."""

from __future__ import annotations

import tables
import words
from render import Block, Code, Section, Table, Text, man
from rota_agents.home_keeper import desk, feed, keeper
from rota_agents.home_keeper.messages import EVENTS

from rota import __version__
from rota.names import KEEPER_BUS_NAME, KEEPER_INTERFACE, KEEPER_PATH, KEEPER_SERVICE

_SIGNALS = {
    "EventsRecorded": "Something was recorded; the same as from Events, in the same order.",
    "Alert": "A trouble began or got worse (`found`), is over (`healed`), or needs a person (`escalated`,"
    " `asked`).",
    "Remedy": "Something is done (`begun`), is over (`ok`, `failed`, `unknown`, `not-begun`), and later what"
    " came of it (`healed`, `failed`, `unknown`).",
}
_TOLD = {
    "trouble": "Something is wrong that was not, or is worse than was told. What goes and comes again before"
    " it is over is the same trouble.",
    "trouble-over": "It has stayed away for `settle`; `took`: for how long; `left`: what else is wrong.",
    "escalated": "A person is needed: what, why, and what was tried.",
    "asked": "A person is asked whether to do something.",
}
_DATA = {
    "trouble": "target, problem, severity, summary, since, perhaps said",
    "trouble-over": "the same without said; took, tried, left",
    "escalated": "target, problem, severity, summary, since, id, why, also, tried, hands_off",
    "asked": "target, problem, severity, summary, since, id, also, remedy, expires",
}


def sections() -> list[Section]:
    """Return what the page about D-Bus says of the keeper, and of what rotad tells it."""
    return [Section("How agents do", _health()), Section("Home Keeper", _bus())]


def _health() -> list[Block]:
    """Return what is said of what rotad tells the keeper."""
    return [
        Text(
            "Health returns JSON, and costs little where little happened: it is for what asks again and"
            " again, as Home Keeper does. Ask with 0 first, and with the last `seq` from then on: it tells of"
            " the agents whose runs, or missed slots, have changed since; of all, if that was 0, or long ago."
            " Ask with 0 again if `store` is another one, or `names` has one that is new to you."
        ),
        words.HEALTH_FIELDS,
    ]


def _bus() -> list[Block]:
    """Return what is said of the keeper's object."""
    rows = [
        (
            f"`{name}`",
            one.about,
            tables.signature(one.arguments),
            tables.signature(one.returns),
            f"`{desk.ACTIONS[name]}`" if name in desk.ACTIONS else "everyone",
        )
        for name, one in desk.METHODS.items()
    ]
    signals = [
        (f"`{name}`", _SIGNALS[name], tables.signature(arguments)) for name, arguments in desk.SIGNALS.items()
    ]
    told = {name: word for name, (word, _) in feed._WORDS.items()}
    kinds = [(f"`{told[name]}`", text, _DATA[name]) for name, text in _TOLD.items()]
    others = ", ".join(f"`{name}`" for name in sorted(EVENTS - set(_TOLD)))
    return [
        Text(
            f"`{KEEPER_BUS_NAME}`, object `{KEEPER_PATH}`, interface `{KEEPER_INTERFACE}`. It is there while"
            " Home Keeper runs; the bus does not start it. Everyone may ask. Who changes something must be"
            " authorised by polkit for the action that is named: root and members of the group `rota` are."
        ),
        Table(("Method", "What it does", "in", "out", "who may call it"), rows),
        Text("JSON has times as microseconds since 1970 (UTC), spans as microseconds."),
        Table(("Signal", "When it is sent", "arguments"), signals),
        Text(
            "Events have numbers without gaps, as rotad's have, and are read in the same way; `target` stands"
            " beside `kind`. Of what people may want to hear:"
        ),
        Table(("Kind", "What happened", "data"), kinds),
        Text(f"The others are the steps of its policy: {others}. What is nested in their data is JSON."),
        Text(
            "An escalation is acknowledged when rotad-notify, known by its bus name, asks for the events"
            " after it: it asks with the number up to which all is safe in its outbox. Until then it is told"
            " again every five minutes; after a week without anybody to take it over, it is given up, which"
            " the journal tells."
        ),
    ]


def rota_home_keeper_8() -> str:
    """Return the man page rota-home-keeper(8)."""
    parser = keeper.parser()
    dests = [
        item.option_strings[0] for item in tables.options(parser) if item.dest not in ("help", "version")
    ]
    sections = [
        Section("Name", [Text("rota-home-keeper - notices what fails in the house, and heals it by policy")]),
        Section(
            "Synopsis",
            [
                Text(" ".join(("`rota-home-keeper`", *(f"[{name}]" for name in dests)))),
                Text(f"`{KEEPER_SERVICE}`"),
            ],
        ),
        Section(
            "Description",
            [
                Text(
                    "rota-home-keeper watches what is declared in `[keeper]` of rota.toml, each thing by a"
                    " check of its own, and does about it what the policy says: notes it, acts, asks a"
                    " person, or leaves it to one. `rota keeper` shows what it knows. systemd starts it at"
                    " boot where it is enabled; `rota apply` sees to that."
                ),
                Text(
                    "What is done has its row in the ledger, on the disk, before it begins. Killed at any"
                    " moment, the keeper that is started next counts it as an attempt whose end nobody knows,"
                    " and waits until its target was looked at again. What it found stays open until the"
                    " check that found it has looked again."
                ),
                Text(
                    "systemd ends it if its loop stands still (WatchdogSec=), and starts it again. If it is"
                    " away for half a minute, `rotad(8)` records that, `rota list` says so, and rotad-notify"
                    " tells people; the keeper in turn watches rotad."
                ),
            ],
        ),
        Section("Options", [Table(("Option", "Meaning"), list(tables.option_rows(parser)))]),
        Section("D-Bus", _bus()),
        Section(
            "Files",
            [
                Table(
                    ("File", "What it is"),
                    (
                        ("`/var/lib/rota-home-keeper/keeper.db`", "The ledger: findings, actions, events."),
                        ("`/var/lib/rota-home-keeper/keeper.db.damaged-*`", "One that could not be read."),
                    ),
                ),
                Text(
                    "With --user: `~/.local/state/rota-home-keeper`. What is over is forgotten after 90 days."
                ),
            ],
        ),
        Section(
            "Environment",
            [
                Text(
                    "`STATE_DIRECTORY`, `CREDENTIALS_DIRECTORY` (whose file `config` is what is declared),"
                    " `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `JOURNAL_STREAM`, as systemd sets them."
                )
            ],
        ),
        Section(
            "Exit status",
            [
                Table(
                    ("Code", "Meaning"),
                    (
                        ("`0`", "It was told to stop."),
                        ("`1`", "It failed; another one has the name, or its config is of another version."),
                        ("`2`", "It is not enabled."),
                        ("`4`", "The bus is out of reach."),
                    ),
                )
            ],
        ),
        Section(
            "Examples",
            [
                Text("What it says of itself, and why a unit is treated as it is:"),
                Code(f"systemctl status {KEEPER_SERVICE}\nrota keeper explain unit:nginx.service"),
                Text("Watch what it finds and does:"),
                Code(f"sudo busctl monitor --match \"interface='{KEEPER_INTERFACE}',type='signal'\""),
            ],
        ),
        Section(
            "See also", [Text("`rota(1)`, `rotad(8)`, `rotad-notify(8)`, `systemd.service(5)`, `polkit(8)`")]
        ),
    ]
    return man("rota-home-keeper", 8, f"rota {__version__}", sections)
