-- A state as the second schema had it: sqlite3 soramode.db .dump, and what stands in its head.
PRAGMA application_id = 1936683617;
PRAGMA user_version = 2;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE claims (channel_id TEXT PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID, STRICT;
INSERT INTO "claims" VALUES('egg',4712);
INSERT INTO "claims" VALUES('spam',4711);
CREATE TABLE connections (
    connection_id TEXT PRIMARY KEY,
    channel_id TEXT NOT NULL,
    client_id TEXT,
    created_at INTEGER NOT NULL,
    is_live INTEGER NOT NULL,
    is_sora INTEGER NOT NULL,
    is_bound INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
INSERT INTO "connections" VALUES('FIVE','ham','carol',1795488396966484,1,1,0);
INSERT INTO "connections" VALUES('FOUR','ham','bob',1795488396953977,0,1,0);
INSERT INTO "connections" VALUES('one','spam',NULL,1795488396852374,1,0,0);
INSERT INTO "connections" VALUES('three','egg',NULL,1795488396903728,1,0,1);
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
INSERT INTO "deliveries" VALUES(1,'http://user:secret@127.0.0.1:5000/?key=1','http://127.0.0.1:5000/','{"seq":9,"id":"1BZYAN5R497FBB5999GJVAFEW0","type":"session.vanished","timestamp":"2026-11-24T02:46:36.971069Z","node_name":"node-01"}',2,'pending',2,1795488396971069,1795488397971069,NULL,503,'status 503');
INSERT INTO "deliveries" VALUES(2,'http://127.0.0.1:5001/','http://127.0.0.1:5001/','{"seq":9,"id":"1BZYAN5R497FBB5999GJVAFEW0","type":"session.vanished","timestamp":"2026-11-24T02:46:36.971069Z","node_name":"node-01"}',2,'succeeded',1,1795488396971069,NULL,1795488397971069,200,NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY NOT NULL) WITHOUT ROWID, STRICT;
INSERT INTO "facts" VALUES('boot_id','first');
INSERT INTO "facts" VALUES('is_closed',0);
INSERT INTO "facts" VALUES('log_id','VAYQ7ADYWN5GB6HMJR7BBT31S8');
INSERT INTO "facts" VALUES('member','{"incarnation":4710,"fence_after_ms":30000}');
INSERT INTO "facts" VALUES('mode','{"mode":"block_new_session","generation":2,"since":"2026-11-24T02:46:36.971069Z","actor":"uid:0(root)","reason":"kernel","expires_at":"2026-11-24T03:31:36.971069Z"}');
INSERT INTO "facts" VALUES('reserved_seq',65536);
CREATE TABLE log (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, events TEXT NOT NULL) STRICT;
INSERT INTO "log" VALUES(1,2,'{"seq":1,"id":"C4XWG435491YX7M9XYGA741CVM","type":"session.created","channel_id":"spam","session_id":"ERETJ080J12FZEZZJMDZ94TQSG","created_time":"2026-11-24T02:46:36.852374Z","timestamp":"2026-11-24T02:46:36.852374Z","node_name":"node-01"}
{"seq":2,"id":"5ZY1ZC2HWD58NFE1NJQY4PRHY4","type":"connection.created","channel_id":"spam","session_id":"ERETJ080J12FZEZZJMDZ94TQSG","connection_id":"one","timestamp":"2026-11-24T02:46:36.852374Z","node_name":"node-01"}
');
INSERT INTO "log" VALUES(3,3,'{"seq":3,"id":"23V3YDX9KS00D1BHXKQXX90X3C","type":"connection.created","channel_id":"spam","session_id":"ERETJ080J12FZEZZJMDZ94TQSG","connection_id":"two","client_id":"alice","timestamp":"2026-11-24T02:46:36.859862Z","node_name":"node-01"}
');
INSERT INTO "log" VALUES(4,4,'{"seq":4,"id":"2FG1MB51ZX49DD3M5CG7CRCNP4","type":"connection.destroyed","channel_id":"spam","session_id":"ERETJ080J12FZEZZJMDZ94TQSG","connection_id":"two","client_id":"alice","reason":"disconnected","timestamp":"2026-11-24T02:46:36.870600Z","node_name":"node-01"}
');
INSERT INTO "log" VALUES(5,6,'{"seq":5,"id":"5C67KVP6P5079A7QNQQHJDA0NR","type":"session.created","channel_id":"egg","session_id":"WW7HNGSW8X5HN6FW5NRZ1FMHN4","created_time":"2026-11-24T02:46:36.903728Z","timestamp":"2026-11-24T02:46:36.903728Z","node_name":"node-01"}
{"seq":6,"id":"N93MNQ2VR15GZBCD5E8VEEHRS0","type":"connection.created","channel_id":"egg","session_id":"WW7HNGSW8X5HN6FW5NRZ1FMHN4","connection_id":"three","timestamp":"2026-11-24T02:46:36.903728Z","node_name":"node-01"}
');
INSERT INTO "log" VALUES(7,8,'{"seq":7,"id":"03PVKR8G8D1N9ECTW0YQEBPB1M","type":"session.created","channel_id":"ham","session_id":"SESSION1","created_time":"2026-11-24T02:46:36.953977Z","timestamp":"2026-11-24T02:46:36.966484Z","node_name":"node-01"}
{"seq":8,"id":"CBY57MDCYD3F70XN7VWSZ51NJC","type":"connection.created","channel_id":"ham","session_id":"SESSION1","connection_id":"FIVE","client_id":"carol","timestamp":"2026-11-24T02:46:36.966484Z","node_name":"node-01"}
');
INSERT INTO "log" VALUES(9,9,'{"seq":9,"id":"1BZYAN5R497FBB5999GJVAFEW0","type":"mode.changed","mode":"block_new_session","previous_mode":"normal","generation":2,"actor":"uid:0(root)","reason":"kernel","expires_at":"2026-11-24T03:31:36.971069Z","timestamp":"2026-11-24T02:46:36.971069Z","node_name":"node-01"}
');
CREATE TABLE mode_changes (generation INTEGER PRIMARY KEY, change TEXT NOT NULL) STRICT;
INSERT INTO "mode_changes" VALUES(2,'{"timestamp":"2026-11-24T02:46:36.971069Z","mode":"block_new_session","previous_mode":"normal","generation":2,"actor":"uid:0(root)","reason":"kernel","expires_at":"2026-11-24T03:31:36.971069Z"}');
CREATE TABLE sessions (
    channel_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    live INTEGER NOT NULL,
    max_connections INTEGER NOT NULL,
    total_connections INTEGER NOT NULL,
    is_sora INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
INSERT INTO "sessions" VALUES('egg','WW7HNGSW8X5HN6FW5NRZ1FMHN4',1795488396903728,1,1,1,0);
INSERT INTO "sessions" VALUES('ham','SESSION1',1795488396953977,1,1,1,1);
INSERT INTO "sessions" VALUES('spam','ERETJ080J12FZEZZJMDZ94TQSG',1795488396852374,1,2,2,0);
COMMIT;
