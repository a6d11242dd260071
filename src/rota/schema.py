"""The tables of the store, and how older ones are changed into them."""

from __future__ import annotations

from rota.events import Run

VERSION = 2
"""Of the schema, in PRAGMA user_version; an older one is changed into it, a newer one set aside."""

COLUMNS = Run._fields
"""Of the table `runs`."""

_EVENTS = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, agent TEXT NOT NULL,
    kind TEXT NOT NULL, at INTEGER NOT NULL, data TEXT NOT NULL, monotonic INTEGER
);
"""
_TOTALS = """
CREATE TABLE totals (
    agent TEXT NOT NULL, day INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (agent, day)
) WITHOUT ROWID;
CREATE TABLE lifetimes (agent TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX runs_of_state ON runs (state) WHERE state <> 'succeeded';
CREATE INDEX runs_of_agent_and_state ON runs (agent, state) WHERE state <> 'succeeded';
CREATE INDEX runs_by ON runs (trigger) WHERE trigger <> 'timer';
CREATE INDEX runs_started ON runs (started);
CREATE INDEX events_of_agent ON events (agent);
CREATE INDEX runs_unfiled ON runs (agent) WHERE archived AND NOT output_filed;
INSERT INTO meta VALUES ('id', lower(hex(randomblob(8))));
"""
_OF_SLOTS = ("slot", "late", "held", "slot_until", "slots", "cause_since", "cause_until")
# Up to where an agent's slots are accounted for; row: of those missed last, if it may go on. digest and lines
# are of the timer they are slots of: lines only as long as the store was not lost.
_MARKS = """
CREATE TABLE marks (
    agent TEXT PRIMARY KEY, upto INTEGER NOT NULL, digest TEXT NOT NULL, row TEXT, lines TEXT
) WITHOUT ROWID;
"""
SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
{_EVENTS}
CREATE TABLE runs (id TEXT PRIMARY KEY, {", ".join(COLUMNS[1:])});
CREATE INDEX runs_of_agent ON runs (agent);
CREATE INDEX runs_open ON runs (agent) WHERE NOT archived;
{_MARKS}
{_TOTALS}
"""
MIGRATIONS = {
    1: f"""
ALTER TABLE events RENAME TO old;
{_EVENTS}
INSERT INTO events SELECT seq, run, agent, kind, at, data, NULL FROM old;
DROP TABLE old;
ALTER TABLE runs ADD COLUMN took;
ALTER TABLE runs ADD COLUMN began;
{"".join(f"ALTER TABLE runs ADD COLUMN {name};" for name in _OF_SLOTS)}
{_MARKS}
ALTER TABLE runs ADD COLUMN net_in;
ALTER TABLE runs ADD COLUMN net_out;
ALTER TABLE runs ADD COLUMN pid;
ALTER TABLE runs ADD COLUMN first_line;
ALTER TABLE runs ADD COLUMN last_line;
ALTER TABLE runs ADD COLUMN result;
ALTER TABLE runs ADD COLUMN result_error;
ALTER TABLE runs ADD COLUMN output_filed;
{_TOTALS}
""",
}
"""By the version they lead away from. Runs recorded before there were totals and lifetimes are in none."""
