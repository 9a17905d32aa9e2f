-- The audit log says what a change replaced by what, and with which program it was asked for.

ALTER TABLE log
    ADD COLUMN before text,
    ADD COLUMN after text,
    ADD COLUMN user_agent varchar(200);
