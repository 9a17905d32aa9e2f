-- What this implementation adds. Everything here is additive: software that does not know it is not disturbed.

-- Argon2id hashes are longer than the hashes of older versions.
ALTER TABLE users ALTER COLUMN password TYPE varchar(255);
ALTER TABLE administrators ALTER COLUMN password TYPE varchar(255);
-- Seven shipped keys did not fit.
ALTER TABLE configs ALTER COLUMN key TYPE varchar(255);

ALTER TABLE vm_runtimes
    ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN vma_secret text,
    ADD COLUMN start_step text,
    ADD COLUMN failure_code text,
    ADD COLUMN failure_text text,
    ADD COLUMN failure_ts integer,
    ADD COLUMN session_id bigint,
    ADD COLUMN l7r_instance text;

ALTER TABLE host_runtimes
    ADD COLUMN incarnation bigint NOT NULL DEFAULT 0,
    ADD COLUMN hypervisors text,
    ADD COLUMN l7r_instance text;

ALTER TABLE dis
    ADD COLUMN sha256 text,
    ADD COLUMN size bigint;

-- The identifiers of sessions are stored hashed.
ALTER TABLE session ALTER COLUMN sid TYPE varchar(128);

CREATE TABLE events (
    id bigserial PRIMARY KEY,
    time timestamp with time zone NOT NULL DEFAULT now(),
    kind text NOT NULL,
    object_id integer,
    object_name text,
    actor text,
    from_state text,
    to_state text,
    code text,
    text text
);
CREATE INDEX events_idx_object ON events (kind, object_id, id);
CREATE INDEX events_idx_time ON events (time);

-- Where a desktop is and how far its start is matters to whoever waits for it.
CREATE FUNCTION vm_runtime_progress_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('vm_changed', 'tenant_id=' || coalesce((SELECT users.tenant_id FROM users
        JOIN vms ON vms.user_id = users.id WHERE vms.id = NEW.vm_id)::text, ''));
    RETURN NULL;
END $$;
CREATE TRIGGER vm_runtime_progress_trigger
    AFTER UPDATE OF vm_cmd, start_step, failure_code, user_cmd, host_id ON vm_runtimes
    FOR EACH ROW EXECUTE FUNCTION vm_runtime_progress_notify();

-- TLS material is configuration too.
CREATE FUNCTION ssl_config_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qvd_config_changed', 'tenant_id=-1');
    RETURN NULL;
END $$;
CREATE TRIGGER ssl_config_trigger AFTER INSERT OR UPDATE OR DELETE ON ssl_configs
    FOR EACH ROW EXECUTE FUNCTION ssl_config_notify();
