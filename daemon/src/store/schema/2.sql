-- The node as a member of its cluster: the fact `member` (its last life there, as JSON), and the channels that it owns, each with the
-- token of its claim.
CREATE TABLE claims (channel_id TEXT PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID, STRICT;
