"""The pages made from the code: what they say beside its tables, and in which order."""

from __future__ import annotations

import tables
from render import Block, Code, Section, Table, Text, man, markdown

from rota import __version__, bus, cli, daemon, model, sandbox
from rota.errors import Exit
from rota.journal import ROTA_MESSAGE
from rota.names import (
    AGENT_INTERFACE,
    AGENT_PATH,
    BUS_NAME,
    CONFIG_DIR,
    MANAGER_INTERFACE,
    MANAGER_PATH,
    POLKIT_ACTION,
    SYSTEM_UNIT_DIR,
    TARGET,
)
from rota.systemd import escape

_MADE = "<!-- Made by docs/generate.py from the code; do not edit. -->\n\n"

_NOTES = {
    "check": "Nothing is written. systemd itself reads calendar events and the units that would be made"
    " (`systemd-analyze`), so what passes here, systemd accepts. Every mistake is one line on standard error:"
    " file, key, value, what is wrong and what to write. A program that is not on this machine is a warning.",
    "schema": "An editor that knows JSON Schema completes and checks declarations with it.",
    "generate": "DIR must not exist yet, or hold nothing but files that rota wrote. It is replaced in one"
    " step:"
    " who looks into it sees all old units or all new ones. systemd is not told.",
    "plan": "A unified diff of the unit files, then how many agents would be added, changed and removed."
    " Nothing is written; the exit code is 0 whether or not there is something to do."
    " Beyond 1,000 timers it warns, because reloading systemd then takes seconds.",
    "apply": "A run under way goes on, whatever becomes of its agent. No agent is started because its"
    " schedule was"
    " edited, or because it is new: a schedule counts from now, and on_boot from the next boot."
    " Files that rota did not write are not touched; where one has the name of a unit to be made, nothing is"
    " done. Killed at any moment, the next apply finishes what was begun.",
    "list": "Without rotad it shows what the units alone say, without history, and says so.",
    "show": "Of an agent: its schedule, next run, pause, unit, declaration and last five runs. Of a run:"
    " result,"
    " times, who started it, and what it used.",
    "run": "Says how to follow it; with --json, prints the run's id. An agent that is running already, or paused, is not"
    " started."
    " With --wait: exits with the agent's own status; 124 if the run timed out; 128 and the signal's number"
    " if a"
    " signal ended it; 1 if it ended otherwise. Interrupting rota leaves the run alone. Needs authorisation.",
    "stop": "SIGTERM to every process of the run, SIGKILL after 30 seconds. The run is recorded as killed,"
    " and who"
    " stopped it. Needs authorisation.",
    "pause": "A run under way goes on. The pause is a file that systemd itself looks for at each start, so it"
    " holds without rotad and across reboots; a slot that falls into it is recorded as skipped."
    " Needs authorisation.",
    "resume": "Slots that were skipped are not made up for. Needs authorisation.",
    "runs": "At most 10000.",
    "logs": "Hands over to `journalctl`: what may be read is what the journal lets you read. Root and"
    " members of the"
    " group `systemd-journal` may read everything.",
}
_EXITS = {
    Exit.OK: "Done.",
    Exit.FAILED: "It failed.",
    Exit.USAGE: "Wrong usage, or a bad declaration.",
    Exit.NOT_FOUND: "No such agent or run.",
    Exit.UNREACHABLE: "rotad, the bus or systemd is out of reach.",
    Exit.NOT_AUTHORISED: "Not authorised.",
}
_EXITS_MORE = (
    ("`130`", "Interrupted."),
    ("`any`", "`rota run --wait`: the agent's own status; 124, or 128 and more, as described there."),
)
_VARIABLES = (
    ("`ROTA_AGENT`", "The agent's name."),
    ("`ROTA_ATTEMPT`", "Which attempt this is; always 1 in this version."),
    (
        "`ROTA_TRIGGER`",
        "`person` if it was started through rota; else `timer` if it has a schedule, `manual` if it has"
        " none.",
    ),
    ("`STATE_DIRECTORY`", "A directory of its own that stays between runs, and where it starts by default."),
    ("`CREDENTIALS_DIRECTORY`", "Where its credentials are, one file each; set if it has any."),
    ("`HOME`", "The state directory; with `sandbox.user` or --user, the user's home."),
    ("`INVOCATION_ID`", "The run's id, as in `rota runs`."),
    ("`TRIGGER_UNIT`", "The timer that started it, if one did; set by systemd 252 or newer."),
)
_TOML = """
# /etc/rota/agents.d/weekly-audit.toml
description = "Audit the repository"
prompt      = "/audit"
runner      = "claude"
schedule    = { cron = "0 9 * * MON", timezone = "Europe/Rome" }
catch_up    = { mode = "once" }
timeout     = "30min"

[sandbox]
network  = true
writable = ["/srv/repo"]

[resources]
memory = "2G"
"""
_SETTINGS_TOML = """
# /etc/rota/rota.toml
bundled = ["disk-report"]

[runners.claude]
command = ["claude", "-p", "{prompt}"]
"""
_VALUES = Table(
    ("Word", "Meaning", "for example"),
    (
        ("time span", "systemd's own grammar, with a unit; `infinity` for none.", '`"1h 30min"`'),
        ("size", "A number with K, M, G or T, powers of 1024; or a percentage.", '`"512M"`'),
        ("percentage", "Of one processor: 200% is two.", '`"50%"`'),
        (
            "cron expression",
            "Five fields as in `crontab(5)`, or one of @hourly, @daily, @weekly, @monthly, @yearly.",
            '`"0 9 * * MON"`',
        ),
        ("time zone", "An IANA name.", '`"Europe/Rome"`'),
        ("date and time", "A string, or TOML's own date-time.", '`"2027-01-31 09:00"`'),
        ("absolute path", "Begins with /, without `..`.", '`"/srv/repo"`'),
    ),
)
_READING = {"ListAgents", "GetAgent", "ListRuns", "GetRun", "Describe"}
_AGENT_FIELDS = Table(
    ("Field", "What it says", "type"),
    (
        ("`name`", "The agent's name.", "`s`"),
        ("`description`", "As declared.", "`s`"),
        ("`schedule`", "In words.", "`s`"),
        ("`priority`", "As declared.", "`s`"),
        ("`tags`", "As declared.", "`as`"),
        ("`paused`", "Whether it is paused.", "`b`"),
        ("`paused_by`", "Who paused it.", "`s`"),
        ("`paused_at`", "When.", "`x`"),
        ("`paused_why`", "Why, as they said.", "`s`"),
        ("`state`", "`running` or `idle`.", "`s`"),
        ("`timer`", "systemd's state of its timer, `active` as a rule; absent without a schedule.", "`s`"),
        ("`next`", "When it runs next.", "`x`"),
        ("`running`", "The run under way, with the fields of a run.", "`a{sv}`"),
        ("`last`", "The last run that is over.", "`a{sv}`"),
        ("`trend`", "States of the last ten runs that are over, oldest first.", "`as`"),
        ("`declaration`", "GetAgent and Describe only: the keys that were written, as JSON.", "`s`"),
        ("`unit`", "GetAgent and Describe only: path of its service file.", "`s`"),
    ),
)
_STATES = Table(
    ("State", "Meaning"),
    (
        ("`activated`", "systemd is starting it."),
        ("`running`", "Its program runs."),
        ("`succeeded`", "It ended with status 0."),
        ("`failed`", "It could not be started, or ended with another status."),
        ("`timed-out`", "It was ended for taking longer than its timeout."),
        ("`killed`", "A signal ended it, the kernel for want of memory, or somebody who stopped it."),
        ("`skipped`", "Nothing was run: paused, or a condition of the unit was not met."),
        ("`unknown`", "It is over, and nothing says how: the machine went down, or the journal lost it."),
    ),
)
_SIGNALS = {
    "RunChanged": "A run began, went on or ended, or its resources were filed; details as from GetRun.",
    "AgentsChanged": "systemd read its unit files anew: agents may have come, gone or changed.",
}
_PROPERTIES = {"Version": "rotad's version.", "Name": "The agent's name."}
_BUS_ERRORS = {
    Exit.FAILED: "It could not be done: the agent is paused, running already, not running.",
    Exit.USAGE: "Wrong arguments.",
    Exit.NOT_FOUND: "No such agent or run, or several runs whose ids begin so.",
    Exit.UNREACHABLE: "systemd is out of reach.",
    Exit.NOT_AUTHORISED: "The caller may not do that.",
}


def _strict() -> Code:
    lines = [
        f"{key}={value}" for key, values in sandbox.service_keys(model.Sandbox()).items() for value in values
    ]
    return Code("\n".join(lines), "ini")


def _declarations() -> list[Block]:
    later = tables.later(
        ("", model.Agent), ("schedule.", model.Schedule), ("catch_up.", model.CatchUp), ("", model.Settings)
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
        Code(_TOML, "toml"),
        Code(_SETTINGS_TOML, "toml"),
        Section("Kinds of value", [_VALUES]),
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
        Section("rota.toml", [tables.keys(model.Settings)]),
        Section("[runners.NAME]", [tables.keys(model.Runner)]),
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
        tables.environment(_VARIABLES),
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
        for verb in tables.all_verbs(_NOTES)
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
                Section("Command line", [*_common(), *_verbs()]),
                Section("Exit codes", [tables.exits(_EXITS, *_EXITS_MORE)]),
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
                        tables.methods(MANAGER_INTERFACE, _READING),
                        Text(
                            "StartAgent returns when the agent has been started, StopAgent when its run is"
                            " over."
                            f" ListRuns returns {bus.MAX_RUNS} runs at most."
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
                        tables.methods(AGENT_INTERFACE, _READING),
                    ],
                ),
                Section("Properties", [tables.properties(_PROPERTIES)]),
                Section("Signals", [Text(f"From `{MANAGER_PATH}`."), tables.signals(_SIGNALS)]),
                Section(
                    "Errors",
                    [
                        Text("The text says what is wrong; a second line, what to do."),
                        tables.errors(_BUS_ERRORS),
                    ],
                ),
                Section(
                    "An agent",
                    [
                        Text("Times are microseconds since 1970 (UTC). What is not known is left out."),
                        _AGENT_FIELDS,
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
                        _STATES,
                    ],
                ),
                Section(
                    "Examples",
                    [
                        Text("The last five runs of weekly-audit:"),
                        Code(
                            f"busctl --json=pretty call {BUS_NAME} {MANAGER_PATH} {MANAGER_INTERFACE}"
                            " ListRuns su weekly-audit 5",
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


_FILES = (
    (f"`{CONFIG_DIR}/rota.toml`", "Settings."),
    (f"`{CONFIG_DIR}/agents.d/NAME.toml`", "The declaration of the agent NAME."),
    (
        f"`{SYSTEM_UNIT_DIR}/rota-NAME.service`, `{SYSTEM_UNIT_DIR}/rota-NAME.timer`",
        "Its units, made by rota.",
    ),
    (f"`{SYSTEM_UNIT_DIR}/{TARGET}`", "Starts all timers at boot."),
    ("`/var/lib/rota-agents/NAME`", "What the agent NAME keeps between runs."),
    ("`/var/lib/rota/paused/NAME`", "Is there while NAME is paused: who paused it, when and why."),
    (
        "`/var/lib/rota/rota.db`",
        "rotad's index of the journal. Deleted, it is made again from what the journal holds.",
    ),
)
_USER_FILES = Text(
    "With --user: `~/.config/rota`, `~/.config/systemd/user`, `~/.local/state/rota`; `$XDG_CONFIG_HOME` is"
    " heeded."
)
_ENVIRONMENT = (
    ("`NO_COLOR`", "If set to anything, output is not coloured; it never is unless it goes to a terminal."),
    ("`XDG_CONFIG_HOME`", "With --user, where declarations and units are; `~/.config` by default."),
    ("`XDG_RUNTIME_DIR`", "With --user, where the user manager's runtime units are."),
    ("`DBUS_SYSTEM_BUS_ADDRESS`, `DBUS_SESSION_BUS_ADDRESS`", "The bus to use."),
)
_EXAMPLES: list[Block] = [
    Text("See what is wrong with the declarations, then what would change, then change it:"),
    Code("rota check\nrota plan\nsudo rota apply"),
    Text("Start an agent and wait for its end, in a script:"),
    Code("rota run --wait backup-check || echo 'the backup is not well'"),
    Text("The last three runs that failed, with their ids:"),
    Code(
        'rota --json runs -n 1000 | jq -r \'[.[] | select(.state == "failed")][:3][] | "\\(.id) \\(.agent)"\''
    ),
    Text("What a run logged, with systemd's own words about it:"),
    Code("rota logs 9f2c51d0"),
]


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
        Section("Files", [Table(("File", "What it is"), _FILES), _USER_FILES]),
        Section("Environment", [Table(("Variable", "Meaning"), _ENVIRONMENT)]),
        Section("Exit status", [tables.exits(_EXITS, *_EXITS_MORE)]),
        Section("Examples", _EXAMPLES),
        Section(
            "See also",
            [
                Text(
                    "`rotad(8)`, `systemctl(1)`, `journalctl(1)`, `systemd-analyze(1)`, `systemd.timer(5)`,"
                    " `systemd.exec(5)`, `systemd.time(7)`"
                )
            ],
        ),
    ]
    return man("rota", 1, f"rota {__version__}", sections)


def rotad_8() -> str:
    """Return the man page rotad(8)."""
    parser = daemon._parser()
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
                            " `archived` (what it used), `lost` (nothing tells how it ended).",
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
                        *(row for row in _FILES if "/var/lib/rota/" in row[0]),
                        ("`/var/lib/rota/rota.db.damaged-*`", "A store that could not be read, kept aside."),
                        ("`/run/rota/start/NAME`", "While NAME is being started: variables for this start."),
                    ),
                ),
                Text("With --user: `~/.local/state/rota` and `$XDG_RUNTIME_DIR/rota`."),
            ],
        ),
        Section(
            "Environment",
            [
                Text(
                    "`STATE_DIRECTORY`, `RUNTIME_DIRECTORY`, `NOTIFY_SOCKET`, `WATCHDOG_USEC` and"
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
        Section("See also", [Text("`rota(1)`, `systemd-journald.service(8)`, `busctl(1)`, `polkit(8)`")]),
    ]
    return man("rotad", 8, f"rota {__version__}", sections)
