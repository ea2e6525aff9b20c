"""The journal: the SQLite file that says what was accepted, answered and is owed."""

from __future__ import annotations

# `same_object` was the index of version 0.1, before a person could state what a picture does not say.
SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    sop_instance_uid TEXT,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    arrival TEXT NOT NULL,
    priority INTEGER NOT NULL,
    received_at REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'accepted' CHECK (state IN ('accepted', 'processing', 'done')),
    attempts INTEGER NOT NULL DEFAULT 0
);
DROP INDEX IF EXISTS same_object;
CREATE UNIQUE INDEX IF NOT EXISTS same_object_and_statement ON instances (
    sha256,
    ifnull(sop_instance_uid, ''),
    ifnull(json_extract(arrival, '$.stated_modality'), ''),
    ifnull(json_extract(arrival, '$.stated_age_years'), '')
);
CREATE INDEX IF NOT EXISTS same_uid ON instances (sop_instance_uid);
CREATE INDEX IF NOT EXISTS queue ON instances (priority, number) WHERE state = 'accepted';
CREATE INDEX IF NOT EXISTS in_work ON instances (number) WHERE state = 'processing';
CREATE TABLE IF NOT EXISTS results (
    id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL REFERENCES instances (id),
    seq INTEGER NOT NULL UNIQUE,
    committed_at REAL NOT NULL,
    subject TEXT NOT NULL,
    result TEXT NOT NULL,
    explanation TEXT,
    acknowledged_at REAL,
    acknowledged_by TEXT,
    acknowledged_as TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS newest ON results (committed_at, id);
CREATE INDEX IF NOT EXISTS unacknowledged_flags ON results (committed_at, id)
    WHERE acknowledged_at IS NULL AND json_extract(result, '$.status') = 'flagged';
CREATE TABLE IF NOT EXISTS owed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    result_id TEXT NOT NULL REFERENCES results (id),
    body TEXT NOT NULL,
    UNIQUE (kind, result_id)
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counter VALUES ('seq', 0);
"""
