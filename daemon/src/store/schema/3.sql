-- The event log: as before, but lines that LZ4 has made small (a block behind its length), as BLOB. Rows that were there stay TEXT.
CREATE TABLE log_3 (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, events ANY NOT NULL) STRICT;
INSERT INTO log_3 SELECT first_seq, last_seq, events FROM log;
DROP TABLE log;
ALTER TABLE log_3 RENAME TO log;
