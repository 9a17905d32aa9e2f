-- Tokens by which programs of an administrator are known to the API. The token itself is nowhere; a digest stands for it.

CREATE TABLE api_tokens (
    id serial PRIMARY KEY,
    administrator_id integer NOT NULL REFERENCES administrators (id) ON DELETE CASCADE,
    name varchar(64) NOT NULL,
    digest text NOT NULL,
    read_only boolean NOT NULL,
    scope text,
    manages_tokens boolean NOT NULL,
    expiration timestamp,
    creation_date timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    last_used timestamp,
    CONSTRAINT api_tokens_digest UNIQUE (digest),
    CONSTRAINT api_tokens_name UNIQUE (administrator_id, name)
);
