-- The journal's schema, version 2, as it was.
CREATE TABLE IF NOT EXISTS vault (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS instances (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    object_mark TEXT NOT NULL,
    uid_mark TEXT,
    bytes_mark TEXT NOT NULL,
    size INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    received_at REAL NOT NULL,
    received_lifetime REAL NOT NULL,
    unsynchronised INTEGER NOT NULL,
    kept TEXT NOT NULL DEFAULT 'all' CHECK (kept IN ('all', 'image', 'nothing')),
    state TEXT NOT NULL DEFAULT 'accepted' CHECK (state IN ('accepted', 'processing', 'done')),
    attempts INTEGER NOT NULL DEFAULT 0,
    record BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS same_object ON instances (object_mark) WHERE kept != 'nothing';
CREATE INDEX IF NOT EXISTS same_uid ON instances (uid_mark);
CREATE INDEX IF NOT EXISTS queue ON instances (number, priority, received_lifetime) WHERE state = 'accepted';
CREATE INDEX IF NOT EXISTS oldest_kept ON instances (kept, number) WHERE state = 'done';
CREATE INDEX IF NOT EXISTS unsynchronised ON instances (received_lifetime) WHERE unsynchronised;
CREATE INDEX IF NOT EXISTS in_work ON instances (number) WHERE state = 'processing';
CREATE TABLE IF NOT EXISTS results (
    id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL REFERENCES instances (id),
    seq INTEGER NOT NULL UNIQUE,
    number INTEGER NOT NULL UNIQUE,
    committed_at REAL NOT NULL,
    committed_lifetime REAL,
    waited REAL NOT NULL,
    status TEXT NOT NULL,
    subject BLOB NOT NULL,
    result BLOB NOT NULL,
    explanation BLOB,
    acknowledged_at REAL,
    acknowledged_lifetime REAL,
    acknowledged_by BLOB,
    acknowledged_as TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_instance ON results (instance_id);
CREATE INDEX IF NOT EXISTS committed_unsynchronised ON results (committed_lifetime)
    WHERE committed_lifetime IS NOT NULL;
CREATE INDEX IF NOT EXISTS acknowledged_unsynchronised ON results (acknowledged_lifetime)
    WHERE acknowledged_lifetime IS NOT NULL;
CREATE INDEX IF NOT EXISTS unacknowledged_flags ON results (number)
    WHERE acknowledged_at IS NULL AND status = 'flagged';
CREATE TABLE IF NOT EXISTS owed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    result_id TEXT NOT NULL REFERENCES results (id),
    body TEXT NOT NULL,
    UNIQUE (kind, result_id)
);
CREATE INDEX IF NOT EXISTS owed_of_result ON owed (result_id);
CREATE TABLE IF NOT EXISTS lifetime (
    boot_id TEXT NOT NULL,
    boot REAL NOT NULL,
    seen REAL NOT NULL,
    seen_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counter VALUES ('seq', 0);
