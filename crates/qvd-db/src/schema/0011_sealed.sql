-- A sealed secret is longer than the secret.

ALTER TABLE configs ALTER COLUMN value TYPE text;
ALTER TABLE ssl_configs ALTER COLUMN value TYPE text;
