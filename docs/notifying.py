"""The pages about telling people, made from the code's tables and its own wording."""

from __future__ import annotations

from datetime import UTC

import tables
from render import Block, Code, Section, Table, Text, man, markdown

from rota import __version__, desk, model, notifier, telling, wording
from rota.events import Run
from rota.names import NOTIFIER_BUS_NAME, NOTIFIER_INTERFACE, NOTIFIER_PATH
from rota.routes import Facts

_MADE = "<!-- Made by docs/generate.py from the code; do not edit. -->\n\n"
_ROTA_TOML = """
# /etc/rota/rota.toml
[channels.ops]
url = "/etc/rota/secrets/ops-url"

[[routes]]
channels = ["ops"]
on       = ["failure", "recovery", "missed", "escalation"]
quiet    = ["22:30-07:00"]
"""
_SETTING_UP = """
install -d -m 700 /etc/rota/secrets
install -m 600 /dev/stdin /etc/rota/secrets/ops-url <<<'ntfys://ntfy.example.org/house'
rota apply
rota notify test ops
"""
_AGENT = """
# /etc/rota/agents.d/backup-check.toml
notify = { on = ["failure", "recovery"], channels = ["ops"] }
"""
_KINDS = Table(
    ("Word", "What happened"),
    (
        (
            "`failure`",
            "A run failed, timed out, was killed, or nobody knows how it ended; not what a person stopped."
            " Or Home Keeper found that something is wrong, or worse than it was.",
        ),
        (
            "`recovery`",
            "The first success after that. Or what Home Keeper found has stayed away for its `settle`: what"
            " comes again before is the same trouble, and told once.",
        ),
        ("`success`", "A run succeeded; a recovery is one."),
        ("`missed`", "Slots of its schedule that nothing came of, once for each row of `rota runs`."),
        (
            "`escalation`",
            "Home Keeper has done what it may, and leaves it to a person; or asks one whether to act.",
        ),
    ),
)


_AT = 1_796_029_203_000_000
_TRIED = ["restart-unit: failed"]


def keys() -> list[Section]:
    """Return the sections of the reference about channels and routes."""
    return [
        Section(
            "[channels.NAME]",
            [
                Text("Where people are told. See rotad-notify(8)."),
                tables.keys(model.Channel),
            ],
        ),
        Section(
            "[[routes]]",
            [
                Text(
                    "What is told by which channels. All keys that are set must match. What happened goes"
                    " to a"
                    " channel once: what agents say in `notify` comes first, then the routes in their order."
                ),
                tables.keys(model.Route),
                _KINDS,
            ],
        ),
        Section("rate", [Text("Of a channel or a route."), tables.keys(model.Rate)]),
        Section(
            "notify",
            [
                Text("What an agent says itself; of all agents that do, one message is made."),
                tables.keys(model.Notify),
            ],
        ),
    ]


def _sample() -> str:
    run = Run(
        id="9f2c51d0aa4e4d0c8d8e2f1b5a6c7d8e",
        agent="backup-check",
        state="failed",
        reason="exit-code",
        started=1_796_029_200_000_000,
        ended=1_796_029_203_100_000,
        took=3_100_000,
        status=3,
        archived=True,
    )
    before = telling.Standing(1_796_025_600_000_000, 3, "")
    happening, _ = telling.judge(run, before, Facts())
    lines = ["looking into /srv/backup", "newest: 2026-11-27T02:00, 31 hours old", "too old"]
    tail = {telling.run_key(run.id): lines}
    made = wording.message([happening] if happening else [], tail, "nas", zone=UTC)
    return f"{made.subject}\n\n{made.body}"


def _use() -> list[Block]:
    return [
        Text(
            "A channel is one URL as `apprise` writes them, for chat, mail, push or a webhook"
            " (https://github.com/caronc/apprise). It is a secret, so it stands in a file of its own:"
        ),
        Code(_ROTA_TOML, "toml"),
        Code(_SETTING_UP, "sh"),
        Text("An agent may say itself whom to tell:"),
        Code(_AGENT, "toml"),
        Text("What comes looks like this:"),
        Code(_sample()),
    ]


def _of_the_keeper() -> list[Block]:
    about = {"target": "unit:nginx.service", "problem": "failed", "severity": "warning"}
    summary = "nginx.service failed: it exited with status 1; look at journalctl -u nginx.service"
    more = {"summary": summary, "since": _AT - 40_000_000, "why": "strike 3 of 3", "also": []}
    event = {"seq": 1, "at": _AT, "kind": "escalated", "data": about | more | {"tried": _TRIED}}
    happening = telling.from_keeper("", event)
    tail = {"keeper::1": ['nginx: [emerg] open() "/etc/nginx/mime.types" failed']}
    made = wording.message([happening] if happening else [], tail, "nas", zone=UTC)
    return [
        Text(
            "Of what Home Keeper finds a person hears once when it begins, and once when it is over: when the"
            " target has stayed without it for `settle`. What comes and goes meanwhile is the same trouble,"
            " even if Home Keeper or rotad-notify is started again. It is told again only if it gets worse."
            " Each problem of a target is a trouble of its own. What is of severity `info` is noted, and told"
            " to nobody: `rota keeper` shows it."
        ),
        Text(
            "Of a unit of this machine, the last lines are shown that it wrote from a minute before it went"
            ' wrong on; of a container, what its health check said. A question (`mode = "ask"`) is an'
            " escalation, with the commands that answer it. What Home Keeper could not help looks like this:"
        ),
        Code(f"{made.subject}\n\n{made.body}"),
    ]


def _promises() -> list[Block]:
    return [
        Text(
            "What happened is filed in one transaction with the number of the event it was told from, before"
            " anything is sent, and is on the disk then. A message is marked as sent after it was. Killed"
            " at any"
            " moment, rotad-notify loses nothing; what was being sent just then may come twice, and says so."
        ),
        Text(
            "What happens within `group` after the first is one message. Where a limit is reached, or a"
            " channel"
            " is down, or hours are quiet, things wait, and go out together: none is dropped. A message that"
            " could not be sent is tried again, first after ten seconds, then at twice the distance up to"
            " half"
            " an hour, until `expiry`; then it is given up, which the journal and `rota notify` tell."
            " A message that a service refuses for good keeps nothing waiting: after ten minutes the next one"
            " is made, and at once if there is something critical. When the clock is set, nothing is given up"
            " that was not tried for an hour, and nothing waits for a time that is in the future again."
        ),
        Text(
            "Each channel has a worker of its own and each message a process of its own, which is ended after"
            " a minute. So one that hangs or fails keeps no other waiting, and rotad never: if rotad is down,"
            " what happened is told when it is back."
        ),
        Text(
            "When rotad-notify hears of rotad for the first time, it begins with what happens from then on."
            " If"
            " its outbox is damaged, it is kept aside, and the last day is told again."
        ),
    ]


def _trust() -> list[Block]:
    return [
        Text(
            "systemd reads the URLs, as root, and hands them over as credentials when rotad-notify starts;"
            " after"
            " a change of such a file, `systemctl restart rotad-notify`. They are never logged, and cut out"
            " of"
            " what services answer. rotad-notify is a user of its own, has a network, and is a member of the"
            " group `systemd-journal`, for the last lines of runs and units that failed; these lines"
            " leave the machine, so choose channels that may know them. It can neither start nor stop"
            " anything."
        ),
    ]


def _bus() -> list[Block]:
    rows = [
        (f"`{name}`", one.about, tables.signature(one.arguments), tables.signature(one.returns))
        for name, one in desk.METHODS.items()
    ]
    return [
        Text(
            f"`{NOTIFIER_BUS_NAME}`, object `{NOTIFIER_PATH}`, interface `{NOTIFIER_INTERFACE}`. Only root"
            " and members of the group `rota` may call it."
        ),
        Table(("Method", "What it does", "in", "out"), rows),
    ]


def page() -> str:
    """Return docs/notify.md."""
    blocks = [
        Section(
            "Telling people",
            [
                Text(f"Of rota {__version__}. The keys are in [reference.md](reference.md#channelsname)."),
                Section("How to have it", _use()),
                Section("What is told", [_KINDS]),
                Section("Of Home Keeper", _of_the_keeper()),
                Section("What you can rely on", _promises()),
                Section("Who sees what", _trust()),
                Section("D-Bus", _bus()),
            ],
        )
    ]
    return _MADE + markdown(blocks)


def rotad_notify_8() -> str:
    """Return the man page rotad-notify(8)."""
    parser = notifier.parser()
    dests = [
        item.option_strings[0] for item in tables.options(parser) if item.dest not in ("help", "version")
    ]
    sections = [
        Section("Name", [Text("rotad-notify - tells people what became of rota's agents")]),
        Section(
            "Synopsis",
            [
                Text(" ".join(("`rotad-notify`", *(f"[{name}]" for name in dests)))),
                Text("`rotad-notify.service`"),
            ],
        ),
        Section(
            "Description",
            [
                Text(
                    "rotad-notify follows what `rotad(8)` records and tells people of it by channels and"
                    " routes"
                    " in rota.toml. systemd starts it at boot where there are channels; `rota apply` sees to"
                    " that."
                ),
                *_use(),
            ],
        ),
        Section("Options", [Table(("Option", "Meaning"), list(tables.option_rows(parser)))]),
        Section("What is told", [_KINDS]),
        Section("Of Home Keeper", _of_the_keeper()),
        Section("Guarantees", _promises()),
        Section("Security", _trust()),
        Section("D-Bus", _bus()),
        Section(
            "Files",
            [
                Table(
                    ("File", "What it is"),
                    (
                        ("`/var/lib/rota-notify/outbox.db`", "What is to be told and what was."),
                        ("`/var/lib/rota-notify/outbox.db.damaged-*`", "One that could not be read."),
                    ),
                ),
                Text("With --user: `~/.local/state/rota-notify`."),
            ],
        ),
        Section(
            "Exit status",
            [
                Table(
                    ("Code", "Meaning"),
                    (
                        ("`0`", "It was told to stop."),
                        ("`1`", "It failed; another one has the name, or the outbox cannot be used."),
                        ("`2`", "No channels are declared."),
                        ("`4`", "The bus is out of reach."),
                    ),
                )
            ],
        ),
        Section("See also", [Text("`rota(1)`, `rotad(8)`, `systemd.exec(5)`")]),
    ]
    return man("rotad-notify", 8, f"rota {__version__}", sections)
