-- Failed attempts to log in, counted by all routers and APIs together. The key is the digest of an account, an address or
-- both. What a crash of the server forgets here is not missed, so that nothing waits for its journal.

CREATE UNLOGGED TABLE login_failures (
    key text PRIMARY KEY,
    kind smallint NOT NULL,
    failures integer NOT NULL,
    free_at timestamp with time zone NOT NULL,
    touched timestamp with time zone NOT NULL
);
CREATE INDEX login_failures_idx_touched ON login_failures (touched);
