-- What was done for a request that has a name of its own (Idempotency-Key), so that it is not done again when the request
-- is sent again.

CREATE TABLE api_repeats (
    caller text NOT NULL,
    key text NOT NULL,
    digest text NOT NULL,
    object_id integer NOT NULL,
    time timestamp with time zone NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);
CREATE INDEX api_repeats_idx_time ON api_repeats (time);
