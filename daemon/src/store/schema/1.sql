-- The first schema. A later one is a file of its own that changes this one's tables; this file is never edited.

-- What there is one of: log_id, boot_id, is_closed, reserved_seq, is_vanished_held, and the mode as JSON (`GetMode`'s answer).
CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY NOT NULL) WITHOUT ROWID, STRICT;

-- The mode's history, as JSON (a row of `ListModeChanges`).
CREATE TABLE mode_changes (generation INTEGER PRIMARY KEY, change TEXT NOT NULL) STRICT;

-- Sessions that were told of. Times are microseconds since 1970. `is_sora`: a Sora made the id and ends the session.
CREATE TABLE sessions (
    channel_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    live INTEGER NOT NULL,
    max_connections INTEGER NOT NULL,
    total_connections INTEGER NOT NULL,
    is_sora INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- `is_live`: seen; else only let in. `is_sora`: a Sora told of it. `is_bound`: it lives as long as its socket.
CREATE TABLE connections (
    connection_id TEXT PRIMARY KEY,
    channel_id TEXT NOT NULL,
    client_id TEXT,
    created_at INTEGER NOT NULL,
    is_live INTEGER NOT NULL,
    is_sora INTEGER NOT NULL,
    is_bound INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- The event log: events that were committed together, as lines of JSON (`Event`'s params).
CREATE TABLE log (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, events TEXT NOT NULL) STRICT;

-- Deliveries by webhook, in the order in which they were owed. `event` is JSON (`Event`'s params), `state` a word of `ListDeliveries`.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    event TEXT NOT NULL,
    generation INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    next_attempt_at INTEGER,
    finished_at INTEGER,
    status INTEGER,
    problem TEXT
) STRICT;
