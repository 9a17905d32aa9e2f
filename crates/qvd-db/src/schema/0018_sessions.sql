-- Sessions of administrators are rows that can be listed and ended one by one, and they end with their administrator.
-- Whoever is logged in has to log in again.

DELETE FROM session;
ALTER TABLE session
    ADD COLUMN id serial,
    ADD COLUMN administrator_id integer NOT NULL CONSTRAINT session_fk_administrator_id
        REFERENCES administrators (id) ON DELETE CASCADE,
    ADD COLUMN address text NOT NULL,
    ADD COLUMN user_agent varchar(200),
    ADD COLUMN opened timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    ADD COLUMN last_used timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    ADD CONSTRAINT session_id UNIQUE (id);
CREATE INDEX session_idx_administrator_id ON session (administrator_id);
