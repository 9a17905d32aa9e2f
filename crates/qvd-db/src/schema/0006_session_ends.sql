-- A client may ask afterwards why its session ended, by the number that its router gave it.

ALTER TABLE events ADD COLUMN session_id bigint;
CREATE INDEX events_idx_session ON events (session_id) WHERE session_id IS NOT NULL;
