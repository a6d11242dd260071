"""The pages made from the code: what they say beside its tables, and in which order."""

from __future__ import annotations

import homekeeping
import keeper_pages
import notifying
import tables
import words
from render import Block, Code, Section, Table, Text, man, markdown

from rota import __version__, cli, daemon, interface, model, said, sandbox, settings, turns
from rota.journal import ROTA_MESSAGE
from rota.names import (
    AGENT_INTERFACE,
    AGENT_PATH,
    BUS_NAME,
    CONFIG_DIR,
    MANAGER_INTERFACE,
    MANAGER_PATH,
    POLKIT_ACTION,
)
from rota.systemd import escape

_MADE = "<!-- Made by docs/generate.py from the code; do not edit. -->\n\n"


def _strict() -> Code:
    lines = [
        f"{key}={value}" for key, values in sandbox.service_keys(model.Sandbox()).items() for value in values
    ]
    return Code("\n".join(lines), "ini")


def _declarations() -> list[Block]:
    later = tables.later(
        ("", model.Agent),
        ("schedule.", model.Schedule),
        ("catch_up.", model.CatchUp),
        ("", settings.Settings),
    )
    return [
        Text(
            f"An agent is a file `{CONFIG_DIR}/agents.d/NAME.toml`; what agents share is in"
            f" `{CONFIG_DIR}/rota.toml`."
            " NAME is made of lower-case letters, digits and -, begins with a letter or digit, and has 63"
            " characters at most. A file of JSON with the keys of rota.toml, and `agents` as a table of"
            " agents by"
            " name, does as well. A key that is not listed here is an error."
        ),
        Code(words.TOML, "toml"),
        Code(words.SETTINGS_TOML, "toml"),
        Section("Kinds of value", [words.VALUES]),
        Section(
            "An agent",
            [Text("Either `command`, or `prompt` with `runner`, is required."), tables.keys(model.Agent)],
        ),
        Section(
            "schedule",
            [
                Text(
                    "Exactly one of `cron`, `every`, `calendar`, `once` and `on_boot`. Several schedules"
                    " are a"
                    " list; they have one jitter."
                ),
                tables.keys(model.Schedule),
            ],
        ),
        Section(
            "catch_up",
            [Text("For schedules by `cron`, `calendar` and `once`."), tables.keys(model.CatchUp)],
        ),
        Section("priority", [Text("Other services of the machine have 100."), tables.weights()]),
        Section(
            "[sandbox]",
            [
                Text("An agent may do little unless its declaration opens it, key by key."),
                tables.keys(model.Sandbox),
                Text("Without any of them, its service has these keys:"),
                _strict(),
                Text("With --user, only those of them that need no privilege."),
            ],
        ),
        Section("Keys refused in sandbox.unit", [tables.refused()]),
        Section("[resources]", [tables.keys(model.Resources)]),
        Section("rota.toml", [tables.keys(settings.Settings)]),
        Section("[runners.NAME]", [tables.keys(model.Runner)]),
        Section(
            "[retention]",
            [
                Text(
                    "How long rotad remembers; the journal keeps what it keeps. The last run of each agent is"
                    " kept always, and so is everything of agents of critical priority."
                ),
                tables.keys(model.Retention),
            ],
        ),
        Section(
            "[metrics]",
            [
                Text(
                    "Where metrics for Prometheus are served, at /metrics; nowhere by default. Only this"
                    " machine may ask: any of its users. See rotad-metrics(8)."
                ),
                tables.keys(model.Metrics),
            ],
        ),
        *notifying.keys(),
        *homekeeping.keys(),
        Section(
            "Not available in this version",
            [Text("These keys belong to the schema, and `rota check` refuses them by name."), later],
        ),
    ]


def _agent_environment() -> list[Block]:
    return [
        Text(
            "Beside what systemd sets for every service. Later ones win: rota's, the runner's, `environment`,"
            " `environment_files`."
        ),
        tables.environment(words.VARIABLES),
    ]


def _agent_result() -> list[Block]:
    return [
        Text(
            "A run may tell what came of it: a JSON object of at most"
            f" {said.LONGEST_RESULT // 1024} KiB and {said.DEEPEST} levels, numbers within 64 bits. `rota"
            " show` and `rota runs --json` have it as `result`; of what is none, `result_error` says why. The"
            " run's state stays what it is. There are three ways, and the last word counts."
        ),
        Table(
            ("How", "What is to be done"),
            (
                ("A line of output", 'Print `ROTA_RESULT={"files": 3}`, among the last 100 lines.'),
                (
                    "A journal entry",
                    "Log it in the field `ROTA_RESULT`: logger --journald, systemd.journal.send(); among the"
                    " last 100 entries.",
                ),
                (
                    "A file",
                    "With `result_file = true`, write it to `$ROTA_RESULT_FILE`. It is handed over when the"
                    " run is over, by a shell with the rights of the agent, and gone afterwards.",
                ),
            ),
        ),
        Text(
            "All three go by the journal, so that StandardOutput= and journald's rate limit matter. The first"
            f" and last line of output that are not empty, of {said.LONGEST_LINE} characters at most, are"
            " kept with the run too."
        ),
    ]


def _common() -> list[Block]:
    rows = list(tables.option_rows(cli.parser()))
    return [
        Text(
            "Options stand before the verb or after it. Results go to standard output, all else to standard"
            " error."
        ),
        Table(("Option", "Meaning"), rows),
    ]


def _verbs() -> list[Block]:
    return [
        Section(f"`{verb.usage}`", [*verb.about, *([verb.options] if verb.options.rows else [])])
        for verb in tables.all_verbs(words.NOTES)
    ]


def reference() -> str:
    """Return docs/reference.md."""
    blocks = [
        Section(
            "Reference",
            [
                Text(f"Of rota {__version__}. The same is in rota(1); D-Bus is in [dbus.md](dbus.md)."),
                Section("Declarations", _declarations()),
                Section("What an agent finds in its environment", _agent_environment()),
                Section("What an agent may tell of its run", _agent_result()),
                Section("Command line", [*_common(), *_verbs()]),
                Section("Exit codes", [tables.exits(words.EXITS, *words.EXITS_MORE)]),
            ],
        )
    ]
    return _MADE + markdown(blocks)


def dbus() -> str:
    """Return docs/dbus.md."""
    path = AGENT_PATH + escape("weekly-audit")
    authorised = Text(
        "Everyone may ask. Who changes something must be authorised by polkit for the action"
        f" `{POLKIT_ACTION}`: root and members of the group `rota` are; others are asked for an"
        " administrator's"
        " password, if they let themselves be asked (ALLOW_INTERACTIVE_AUTHORIZATION). Without polkit, only"
        " root"
        " is. On a session bus (`rotad --user`), every program of yours is."
    )
    blocks = [
        Section(
            "D-Bus",
            [
                Text(
                    f"rotad {__version__} owns `{BUS_NAME}` on the system bus, with --user on the session"
                    " bus. The bus"
                    f" starts it when it is asked for. `busctl introspect {BUS_NAME} {MANAGER_PATH}` shows"
                    " what is"
                    " listed here."
                ),
                Section("Who may do what", [authorised]),
                Section(
                    f"`{MANAGER_INTERFACE}` at `{MANAGER_PATH}`",
                    [
                        tables.methods(MANAGER_INTERFACE, words.READING),
                        Text(
                            "StartAgent returns when the agent has been started, StopAgent when its run is"
                            " over."
                            f" ListRuns returns {interface.MAX_RUNS} runs at most,"
                            f" Events {interface.MAX_EVENTS} events."
                        ),
                        Text(
                            "Callers are served in turn, whatever one of them asks for. Of one connection,"
                            f" {turns.UNANSWERED} calls may be unanswered, and {turns.WAITING >> 20} MiB of"
                            " them wait; what is more is refused with"
                            " `org.freedesktop.DBus.Error.LimitsExceeded`. Who goes on nonetheless is served"
                            " less, and may get no answer."
                        ),
                    ],
                ),
                Section(
                    f"`{AGENT_INTERFACE}` at `{AGENT_PATH}NAME`",
                    [
                        Text(
                            "In NAME, every byte that is no letter and no digit is written as _ and two hex"
                            " digits,"
                            f" as sd_bus_path_encode(3) does: weekly-audit is at `{path}`."
                        ),
                        tables.methods(AGENT_INTERFACE, words.READING),
                    ],
                ),
                Section(
                    "Which runs",
                    [
                        Text("ListRuns and Stats take a table; what is not in it does not matter."),
                        tables.filters(words.FILTERS),
                    ],
                ),
                Section("Properties", [tables.properties(words.PROPERTIES)]),
                Section("Signals", [Text(f"From `{MANAGER_PATH}`."), tables.signals(words.SIGNALS)]),
                Section(
                    "Errors",
                    [
                        Text("The text says what is wrong; a second line, what to do."),
                        tables.errors(words.BUS_ERRORS),
                    ],
                ),
                Section(
                    "An agent",
                    [
                        Text("Times are microseconds since 1970 (UTC). What is not known is left out."),
                        words.AGENT_FIELDS,
                    ],
                ),
                Section(
                    "A run",
                    [
                        Text(
                            "Times are microseconds since 1970 (UTC), sizes bytes. What is not known is"
                            " left out."
                        ),
                        tables.run_fields(),
                        Text("States:"),
                        words.STATES,
                    ],
                ),
                Section(
                    "An event",
                    [
                        Text(
                            "Who wants all of them and was away: subscribe to EventsRecorded, call Events"
                            " with the last number seen (0 at first) until it returns none, and from then on"
                            " whenever a signal names a higher number. If `store` is another one than before,"
                            " the store was lost and numbers began anew, at 1; if `first` is higher than the"
                            " number asked for, those in between are no longer kept."
                        ),
                        words.EVENT_FIELDS,
                        Text(f"Version {interface.EVENT_VERSION} has these kinds:"),
                        words.EVENT_KINDS,
                    ],
                ),
                Section("What runs come to", [words.STATS_FIELDS]),
                Section(
                    "What there is to measure",
                    [
                        Text(
                            "Metrics returns JSON. Times are microseconds since 1970 (UTC), spans"
                            " microseconds. Runs count since the store began, whatever was forgotten"
                            " meanwhile; what is not in a table is 0."
                        ),
                        words.METRICS_FIELDS,
                    ],
                ),
                *keeper_pages.sections(),
                Section(
                    "Examples",
                    [
                        Text("The last five runs of weekly-audit:"),
                        Code(
                            f"busctl --json=pretty call {BUS_NAME} {MANAGER_PATH} {MANAGER_INTERFACE}"
                            " ListRuns a{sv}u 1 agent as 1 weekly-audit 5",
                            "sh",
                        ),
                        Text("Start it, and watch its run:"),
                        Code(
                            f"sudo busctl monitor --match"
                            f" \"interface='{MANAGER_INTERFACE}',member='RunChanged'\" &\n"
                            f"busctl call {BUS_NAME} {path} {AGENT_INTERFACE} Start",
                            "sh",
                        ),
                    ],
                ),
            ],
        )
    ]
    return _MADE + markdown(blocks)


def rota_1() -> str:
    """Return the man page rota(1)."""
    parser = cli.parser()
    sections = [
        Section("Name", [Text("rota - declared agents as systemd timers and sandboxed services")]),
        Section(
            "Synopsis",
            [Text(f"`rota` {tables.usage(parser)} *VERB* [ARGUMENT ...]"), Text("`rota` --help | --version")],
        ),
        Section(
            "Description",
            [
                Text(
                    "rota makes systemd services and timers from agents that are declared in TOML or JSON."
                    " systemd"
                    " starts them, keeps them in their sandbox and ends them. `rotad(8)` records every run;"
                    " rota asks"
                    " it, and has it start and stop agents."
                ),
                Text(
                    "`run`, `stop`, `pause` and `resume` need authorisation: root and members of the group"
                    " `rota` have it;"
                    " others are asked for an administrator's password by polkit."
                ),
            ],
        ),
        Section("Verbs", _verbs()),
        Section("Options", _common()),
        Section("Declarations", _declarations()),
        Section("Environment of an agent", _agent_environment()),
        Section("Result of a run", _agent_result()),
        Section("Files", [Table(("File", "What it is"), words.FILES), words.USER_FILES]),
        Section("Environment", [Table(("Variable", "Meaning"), words.ENVIRONMENT)]),
        Section("Exit status", [tables.exits(words.EXITS, *words.EXITS_MORE)]),
        Section("Examples", words.EXAMPLES),
        Section(
            "See also",
            [
                Text(
                    "`rotad(8)`, `rotad-metrics(8)`, `rotad-notify(8)`, `systemctl(1)`, `journalctl(1)`,"
                    " `systemd-analyze(1)`,"
                    " `systemd.timer(5)`, `systemd.exec(5)`, `systemd.time(7)`"
                )
            ],
        ),
    ]
    return man("rota", 1, f"rota {__version__}", sections)


def rotad_8() -> str:
    """Return the man page rotad(8)."""
    parser = daemon.parser()
    dests = [
        item.option_strings[0] for item in tables.options(parser) if item.dest not in ("help", "version")
    ]
    sections = [
        Section("Name", [Text("rotad - records the runs of rota's agents")]),
        Section(
            "Synopsis",
            [Text(" ".join(("`rotad`", *(f"[{name}]" for name in dests)))), Text("`rotad.service`")],
        ),
        Section(
            "Description",
            [
                Text(
                    "rotad reads the journal and keeps an index of every run of every agent: when it began"
                    " and ended,"
                    " how, who or what started it, and what it used. It offers this on D-Bus as"
                    f" `{BUS_NAME}`, and starts, stops, pauses and resumes agents for those who are"
                    " authorised."
                    " It is started by systemd or by the bus, runs as the user `rota`, and has no part in"
                    " starting"
                    " agents on schedule: without it timers fire as ever, and when it is back it records"
                    " what it missed."
                ),
                Text(
                    "Events and the place in the journal up to which it has read are written in one"
                    " transaction; killed"
                    " at any moment, it loses nothing and records nothing twice. A store that is missing or"
                    " damaged is"
                    " made again from what the journal still holds; the damaged one is kept beside it."
                ),
            ],
        ),
        Section("Options", [Table(("Option", "Meaning"), list(tables.option_rows(parser)))]),
        Section(
            "Journal entries",
            [
                Text(
                    "What systemd does not log, rotad logs itself and reads back:"
                    f" `MESSAGE_ID={ROTA_MESSAGE}` with these fields."
                ),
                Table(
                    ("Field", "Meaning"),
                    (
                        (
                            "`ROTA_EVENT`",
                            "`triggered` (who or what started it), `stop-requested` (who had it stopped),"
                            " `archived` (what it used), `output` (what it said), `lost` (nothing tells how"
                            " it ended), `keeper-lost` and `keeper-back` (its watch over Home Keeper),"
                            " with --user `deactivated` (it succeeded).",
                        ),
                        ("`ROTA_AGENT`", "The agent's name."),
                        ("`ROTA_RUN`", "The run's id."),
                        ("`ROTA_DATA`", "What belongs to the event, as JSON."),
                    ),
                ),
                Text("Entries with these fields that do not come from rotad.service are not believed."),
            ],
        ),
        Section(
            "Files",
            [
                Table(
                    ("File", "What it is"),
                    (
                        *(row for row in words.FILES if "/var/lib/rota/" in row[0]),
                        ("`/var/lib/rota/rota.db.damaged-*`", "A store that could not be read, kept aside."),
                    ),
                ),
                Text("With --user: `~/.local/state/rota`."),
            ],
        ),
        Section(
            "Environment",
            [
                Text(
                    "`STATE_DIRECTORY`, `NOTIFY_SOCKET`, `WATCHDOG_USEC` and"
                    " `JOURNAL_STREAM`, as"
                    " systemd sets them; `DBUS_SYSTEM_BUS_ADDRESS` and `DBUS_SESSION_BUS_ADDRESS`."
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
                        ("`1`", "It failed; another rotad has the name, or its directory cannot be written."),
                        ("`4`", "The bus, systemd or the journal is out of reach."),
                    ),
                )
            ],
        ),
        Section(
            "Examples",
            [
                Text("What rotad says of itself, and every event it logged about an agent:"),
                Code(f"systemctl status rotad\njournalctl MESSAGE_ID={ROTA_MESSAGE} ROTA_AGENT=weekly-audit"),
                Text("Have the store made again from the journal:"),
                Code("systemctl stop rotad\nrm /var/lib/rota/rota.db*\nsystemctl start rotad"),
            ],
        ),
        Section(
            "See also",
            [
                Text(
                    "`rota(1)`, `rotad-metrics(8)`, `rotad-notify(8)`, `systemd-journald.service(8)`,"
                    " `busctl(1)`, `polkit(8)`"
                )
            ],
        ),
    ]
    return man("rotad", 8, f"rota {__version__}", sections)
