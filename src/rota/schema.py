"""The tables of the store, and how older ones are changed into them."""

from __future__ import annotations

from dataclasses import fields

from rota.events import Run

VERSION = 2
"""Of the schema, in PRAGMA user_version; an older one is changed into it, a newer one set aside."""

COLUMNS = tuple(field.name for field in fields(Run))
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
CREATE INDEX runs_of_state ON runs (state);
CREATE INDEX runs_by ON runs (trigger);
CREATE INDEX runs_started ON runs (started);
CREATE INDEX events_of_agent ON events (agent);
INSERT INTO meta VALUES ('id', lower(hex(randomblob(8))));
"""
SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
{_EVENTS}
CREATE TABLE runs (id TEXT PRIMARY KEY, {", ".join(COLUMNS[1:])});
CREATE INDEX runs_of_agent ON runs (agent);
CREATE INDEX runs_open ON runs (agent) WHERE NOT archived;
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
{_TOTALS}
""",
}
"""By the version they lead away from. Runs recorded before there were totals and lifetimes are in none."""
