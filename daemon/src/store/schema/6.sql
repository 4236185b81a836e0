-- Maintenance plans: the facts `plan` and `plan_progress`, as JSON; the announcements and requests to end sessions that are not over, in
-- their order, as JSON. An older daemon would forget a plan that runs, so it must not open this state.
CREATE TABLE announcements (place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, announcement TEXT NOT NULL, progress TEXT NOT NULL) STRICT;
CREATE TABLE ends (place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, request TEXT NOT NULL, progress TEXT NOT NULL) STRICT;
