-- Rooms of the SFU that may be locked. An older daemon would leave them locked for ever, so it must not open this state.
CREATE TABLE locked_rooms (channel_id TEXT PRIMARY KEY) WITHOUT ROWID, STRICT;
