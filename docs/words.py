"""Words that the pages need and the code does not have, by what they are about."""

from __future__ import annotations

from render import Block, Code, Table, Text

from rota.errors import Exit
from rota.names import (
    CONFIG_DIR,
    KEEPER_DROP_IN,
    KEEPER_RULES,
    METRICS_SOCKET,
    NOTIFY_DROP_IN,
    SYSTEM_UNIT_DIR,
    TARGET,
)

NOTES = {
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
    "rearm": "For whoever installs units by other means than `rota apply`, as NixOS does. systemd would start"
    " the agent of an edited timer at once if a slot of the new schedule lies between its last run and now."
    " So, first, `rota rearm --replaced-by NEW`: timers that differ are stopped and forgotten. Then the units"
    " are replaced, and `systemctl daemon-reload`. Then `rota rearm`: timers that do not run are made to"
    " count from their start. Then `systemctl start rota-agents.target`. Runs under way go on.",
    "list": "Without rotad it shows what the units alone say, without history, and says so. Where Home Keeper"
    " is enabled, a line below says how it does. It is no agent, though its unit is called like one's, and"
    " not in --json: see `rota keeper`.",
    "show": "Of an agent: its schedule, next three slots, pause, unit, exposure (`systemd-analyze security`,"
    " 0 to 10), declaration, last thirty results and last five runs. Of a run: result, times, its slot, who"
    " started it, and what it used.",
    "why": "One or two sentences, from the record: whether its last slot was served, how late and what held"
    " it up, or why nothing came of it; and when it runs next, or what keeps it from that. With --at, the"
    " same of the slot or run at that moment, or of the slots around it.",
    "run": "Says how to follow it; with --json, prints the run's id. An agent that is running already, or"
    " paused,"
    " is not started."
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
    "runs": "Slots that nothing came of are rows of their own, `missed`, with the reason; slots that follow"
    " each other and were missed for one cause are one row. LATE is how much later than its slot, and its"
    " jitter, a run began. Filters of one kind widen, of several narrow:"
    " `--state failed --state killed --tag backup`.",
    "events": "What a run went through, each step with a number; numbers have no gaps and never change."
    " Who was away reads from the last number it has seen, `--since 1234`, and goes on with `--follow`."
    " With --json, an event a line. How long they are kept, `[retention]` in rota.toml says.",
    "stats": "Beyond two days back, whole days of UTC, and percentiles to within 9 %. FAILED is what failed,"
    " was killed, timed out, or is unknown. LATE95: 19 of 20 runs of a slot began no later than that. MISSED"
    " are slots that nothing came of, counted one by one.",
    "export": "All fields of all runs that are kept, or of those that the filters leave.",
    "notify": "What waits, what is held back by quiet hours or a limit, why something was not sent and when"
    " it is tried again, and the last twenty messages. With test: sends a message at once, past all limits,"
    " and"
    " says why it was not sent. Asks rotad-notify, as root or a member of the group `rota`.",
    "keeper": "A finding is a target (KIND:NAME, such as unit:nginx.service or endpoint:router) and what is"
    " wrong with it. STRIKE is how many of its policy's steps were taken; NEXT, what comes next or stands in"
    " the way. explain says why, in sentences. approve and deny answer what a target of mode ask waits for."
    " resume gives back what the keeper let be after its last step. Within maintenance nothing is acted on,"
    " and nothing counted: of one target, of a pattern, or of the whole house, for at most 30 days. All from"
    " approve on need authorisation. Exit code 4 if the keeper is not running, or not enabled.",
    "logs": "Hands over to `journalctl`: what may be read is what the journal lets you read. Root and"
    " members of the"
    " group `systemd-journal` may read everything.",
}
EXITS = {
    Exit.OK: "Done.",
    Exit.FAILED: "It failed.",
    Exit.USAGE: "Wrong usage, or a bad declaration.",
    Exit.NOT_FOUND: "No such agent or run.",
    Exit.UNREACHABLE: "rotad, the bus or systemd is out of reach.",
    Exit.NOT_AUTHORISED: "Not authorised.",
}
EXITS_MORE = (
    ("`130`", "Interrupted."),
    ("`any`", "`rota run --wait`: the agent's own status; 124, or 128 and more, as described there."),
)
VARIABLES = (
    ("`ROTA_AGENT`", "The agent's name."),
    ("`ROTA_ATTEMPT`", "Which attempt this is; always 1 in this version."),
    ("`ROTA_RESULT_FILE`", "Where it may leave its result; set with `result_file`."),
    ("`STATE_DIRECTORY`", "A directory of its own that stays between runs, and where it starts by default."),
    ("`CREDENTIALS_DIRECTORY`", "Where its credentials are, one file each; set if it has any."),
    ("`HOME`", "The state directory; with `sandbox.user` or --user, the user's home."),
    ("`INVOCATION_ID`", "The run's id, as in `rota runs`."),
    ("`TRIGGER_UNIT`", "The timer that started it, if one did; set by systemd 252 or newer."),
)
TOML = """
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
SETTINGS_TOML = """
# /etc/rota/rota.toml
bundled = ["disk-report"]

[runners.claude]
command = ["claude", "-p", "{prompt}"]

[metrics]
listen = ["127.0.0.1:7682"]

[channels.ops]
url = "/etc/rota/secrets/ops-url"

[[routes]]
channels = ["ops"]
on       = ["failure", "recovery", "missed", "escalation"]
"""
VALUES = Table(
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
        (
            "time zone",
            "An IANA name. Local times that a change of clocks leaves out are passed over; those that come"
            " twice count once. Where `timezone` is given, cron expressions for every hour of every day go on"
            " all the same; `*/5` and `*/15` do without it, too.",
            '`"Europe/Rome"`',
        ),
        ("date and time", "A string, or TOML's own date-time.", '`"2027-01-31 09:00"`'),
        ("absolute path", "Begins with /, without `..`.", '`"/srv/repo"`'),
    ),
)
READING = {
    *("ListAgents", "GetAgent", "Describe", "Why"),
    *("ListRuns", "GetRun", "Stats", "Metrics", "Health", "Events", "SeqAt", "Keeper"),
}
FILTERS = {
    "agent": "Of any of these agents.",
    "tag": "Of agents with any of these tags, as they are declared now.",
    "state": "In any of these states.",
    "trigger": "Started by any of these.",
    "since": "Begun then or later, microseconds since 1970.",
    "until": "Begun before then.",
    "before": "Recorded before the run of this id: to go on where the last reply ended.",
}
EVENT_FIELDS = Table(
    ("Field", "What it says", "type"),
    (
        ("`version`", "Of these fields: it is raised when one changes its meaning or goes.", "`x`"),
        ("`seq`", "Its number. The next event has the next one.", "`x`"),
        ("`at`", "When, microseconds since 1970 (UTC).", "`x`"),
        ("`agent`", "Whose run.", "`s`"),
        ("`run`", "The run's id.", "`s`"),
        ("`kind`", "What happened, see below.", "`s`"),
        ("`data`", "What is particular to the kind.", "`a{sv}`"),
    ),
)
EVENT_KINDS = Table(
    ("Kind", "What happened", "data"),
    (
        ("`activated`", "systemd began to start it.", "boot, cursor: of the journal entry"),
        ("`running`", "Its program was started.", ""),
        (
            "`exited`",
            "Its main process ended otherwise than with status 0.",
            "code, status, status_name, command",
        ),
        ("`failed`", "It failed.", "result: systemd's word"),
        ("`deactivated`", "It ended.", ""),
        ("`skipped`", "Nothing was run.", "reason, boot, cursor"),
        ("`not-started`", "It could not be started.", "result, boot, cursor"),
        ("`stopping`, `stopped`", "It is being stopped; it is.", ""),
        ("`restart-scheduled`", "systemd will start it again.", ""),
        ("`resources`", "What it used, as systemd logs it.", "cpu_usec, memory_peak, net_in, net_out"),
        ("`triggered`", "Who or what started it.", "trigger, by"),
        ("`stop-requested`", "Somebody had rota stop it.", "by"),
        (
            "`archived`",
            "It is filed.",
            "result, code, status, pid, cpu_usec, memory_peak, io_read, io_write, net_in, net_out",
        ),
        ("`output`", "What it said is filed.", "first_line, last_line, result, result_error"),
        ("`lost`", "Nothing says how it ended.", "reason"),
        (
            "`served`",
            "Which slot of its timer it served, and what held it up if it was late.",
            "slot, late, held, since, until, timer",
        ),
        (
            "`missed`",
            "Slots that nothing came of; told again as they become more.",
            "slot, slot_until, slots, reason, since, until, timer",
        ),
        (
            "`keeper-lost`",
            "Home Keeper is enabled, and was away for half a minute. Of no run: `agent` is home-keeper, `run`"
            " is the same for a loss and its end.",
            "why, since",
        ),
        ("`keeper-back`", "It is back, or no longer enabled.", "enabled, lost: since when it was"),
    ),
)
STATS_FIELDS = Table(
    ("Field", "What it says", "type"),
    (
        ("`agent`", "Whose runs.", "`s`"),
        ("`runs`", "How many were started.", "`x`"),
        ("a state", "How many ended so; of `missed`, how many slots. Left out where none did.", "`x`"),
        ("`p50`, `p95`", "How long half of them, 19 of 20, took at most, in microseconds.", "`x`"),
        ("`late_p95`", "How much later than their slots 19 of 20 began at most, in microseconds.", "`x`"),
        ("`cpu_usec`", "Processor time of all, in microseconds.", "`x`"),
        ("`memory_peak`", "Most memory one had, in bytes.", "`x`"),
        ("`last_success`", "When the last that succeeded ended.", "`x`"),
    ),
)
METRICS_FIELDS = Table(
    ("Field", "What it says"),
    (
        (
            "`lag`",
            "For how long the oldest entry about agents has been waiting to be recorded; 0: none.",
        ),
        ("`events`", "Number of the last event."),
        ("`keeper`", "Whether Home Keeper is there; null if it is not enabled."),
        ("`agents`", "A table for each installed agent, with the fields below."),
        ("`agent`, `schedule`, `priority`, `paused`", "As of an agent; its name is `agent`."),
        ("`running`", "Whether a run is under way."),
        ("`next`", "When its timer starts it next; null if none does."),
        ("`results`", "Runs by the state in which they ended; slots that were missed."),
        ("`durations`", "Runs by how long they took: the upper bound of a bucket, and how many are in it."),
        ("`lateness`", "The same, by how late those began that served a slot."),
        ("`took_usec`, `late_usec`, `cpu_usec`", "Sums: of durations, lateness, processor time."),
        ("`last_run`, `last_success`", "When the last that was started, the last that succeeded, ended."),
        ("`sample`", "A run: its id (`run`), how long it `took`, when it `ended`; null before the first."),
    ),
)
HEALTH_FIELDS = Table(
    ("Field", "What it says"),
    (
        ("`lag`", "As of Metrics."),
        ("`store`, `seq`", "As of Events, and the number of the last event: what to ask with next."),
        ("`names`", "All installed agents."),
        ("`paused`", "Those that are paused."),
        ("`agents`", "A table for each that is told of, with the fields below."),
        ("`agent`, `trend`, `missed`", "As of an agent; its name is `agent`, and `missed` 0 for none."),
        (
            "`last`",
            "`state`, `reason`, `status`, `signal` of its last run that is over; null before the first.",
        ),
    ),
)
AGENT_FIELDS = Table(
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
        (
            "`timer`",
            "systemd's state of its timer, `active` as a rule; "
            "`next-boot` if only boot starts it, and boot is past; absent without a schedule.",
            "`s`",
        ),
        ("`next`", "When it runs next.", "`x`"),
        ("`running`", "The run under way, with the fields of a run.", "`a{sv}`"),
        ("`last`", "The last run that is over; ListAgents leaves out its `result`.", "`a{sv}`"),
        ("`missed`", "How many slots were missed since; absent for none.", "`x`"),
        ("`trend`", "States of the last ten runs that are over, oldest first.", "`as`"),
        ("`coming`", "GetAgent and Describe only: its next three slots, jitter aside.", "`ax`"),
        ("`declaration`", "GetAgent and Describe only: the keys that were written, as JSON.", "`s`"),
        ("`unit`", "GetAgent and Describe only: path of its service file.", "`s`"),
    ),
)
STATES = Table(
    ("State", "Meaning"),
    (
        ("`activated`", "systemd is starting it."),
        ("`running`", "Its program runs."),
        ("`succeeded`", "It ended with status 0."),
        ("`failed`", "It could not be started, or ended with another status."),
        ("`timed-out`", "It was ended for taking longer than its timeout."),
        ("`killed`", "A signal ended it, the kernel for want of memory, or somebody who stopped it."),
        ("`skipped`", "Nothing was run: paused, or a condition of the unit was not met."),
        (
            "`missed`",
            "Not a run: slots of its schedule that nothing came of. `reason` is host-down, suspended,"
            " clock-changed, timer-stopped, still-running, jitter or not-known.",
        ),
        ("`unknown`", "It is over, and nothing says how: the machine went down, or the journal lost it."),
    ),
)
SIGNALS = {
    "RunChanged": "A run began, went on or ended, or what it used or said was filed; details as from GetRun.",
    "EventsRecorded": "Something was recorded; the same as from Events, in the same order.",
    "AgentsChanged": "systemd read its unit files anew: agents may have come, gone or changed.",
}
PROPERTIES = {"Version": "rotad's version.", "Name": "The agent's name."}
BUS_ERRORS = {
    Exit.FAILED: "It could not be done: the agent is paused, running already, not running.",
    Exit.USAGE: "Wrong arguments.",
    Exit.NOT_FOUND: "No such agent or run, or several runs whose ids begin so.",
    Exit.UNREACHABLE: "systemd is out of reach.",
    Exit.NOT_AUTHORISED: "The caller may not do that.",
}


FILES = (
    (f"`{CONFIG_DIR}/rota.toml`", "Settings."),
    (f"`{CONFIG_DIR}/agents.d/NAME.toml`", "The declaration of the agent NAME."),
    (
        f"`{SYSTEM_UNIT_DIR}/rota-NAME.service`, `{SYSTEM_UNIT_DIR}/rota-NAME.timer`",
        "Its units, made by rota.",
    ),
    (f"`{SYSTEM_UNIT_DIR}/{TARGET}`", "Starts all timers at boot."),
    (f"`{SYSTEM_UNIT_DIR}/{METRICS_SOCKET}`", "Where metrics are served, if [metrics] says so."),
    (f"`{SYSTEM_UNIT_DIR}/{NOTIFY_DROP_IN}`", "Who is told what, if there are channels."),
    (f"`{SYSTEM_UNIT_DIR}/{KEEPER_DROP_IN}`", "What the Home Keeper goes by, if it is enabled."),
    (f"`/etc/{KEEPER_RULES}`", "What it may do, for polkit."),
    ("`/var/lib/rota-notify/outbox.db`", "What is to be told and what was."),
    ("`/var/lib/rota-agents/NAME`", "What the agent NAME keeps between runs."),
    ("`/var/lib/rota/paused/NAME`", "Is there while NAME is paused: who paused it, when and why."),
    (
        "`/var/lib/rota/rota.db`",
        "rotad's index of the journal. Deleted, it is made again from what the journal holds.",
    ),
)
USER_FILES = Text(
    "With --user: `~/.config/rota`, `~/.config/systemd/user`, `~/.local/state/rota`; `$XDG_CONFIG_HOME` is"
    " heeded."
)
ENVIRONMENT = (
    ("`NO_COLOR`", "If set to anything, output is not coloured; it never is unless it goes to a terminal."),
    ("`XDG_CONFIG_HOME`", "With --user, where declarations and units are; `~/.config` by default."),
    ("`XDG_RUNTIME_DIR`", "With --user, where the user manager's runtime units are."),
    ("`DBUS_SYSTEM_BUS_ADDRESS`, `DBUS_SESSION_BUS_ADDRESS`", "The bus to use."),
)
EXAMPLES: list[Block] = [
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
