-- The second factors of administrators: the secret sealed, codes for emergencies as digests, the step of time whose code
-- was taken last.

CREATE TABLE second_factors (
    administrator_id integer PRIMARY KEY REFERENCES administrators (id) ON DELETE CASCADE,
    secret text NOT NULL,
    confirmed boolean NOT NULL DEFAULT false,
    last_step bigint NOT NULL DEFAULT 0,
    recovery text[] NOT NULL DEFAULT '{}'
);
