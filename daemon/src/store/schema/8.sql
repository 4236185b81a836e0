-- The session that the offer of a pending connection named, which an older daemon would replace by another.
ALTER TABLE connections ADD COLUMN session_id TEXT;
