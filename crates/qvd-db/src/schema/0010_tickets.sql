-- A client that lost its connection comes back to its VM with a ticket in place of a password: a token, of which a VM has
-- one at most, that of the client that was connected last. Whatever ends the right to come back takes the ticket away,
-- whoever writes it; the daemons that do need no right to see tickets for that.

ALTER TABLE user_tokens ADD COLUMN ticket boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX user_tokens_idx_vm_id_ticket ON user_tokens (vm_id, ticket) WHERE ticket;

CREATE FUNCTION user_tickets_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM user_tokens WHERE ticket AND user_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER user_tickets_trigger AFTER UPDATE OF password, blocked ON users
    FOR EACH ROW WHEN (NEW.blocked OR NEW.password IS DISTINCT FROM OLD.password) EXECUTE FUNCTION user_tickets_end();

CREATE FUNCTION tenant_tickets_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM user_tokens USING users WHERE ticket AND user_tokens.user_id = users.id AND users.tenant_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER tenant_tickets_trigger AFTER UPDATE OF blocked ON tenants
    FOR EACH ROW WHEN (NEW.blocked) EXECUTE FUNCTION tenant_tickets_end();

CREATE FUNCTION vm_tickets_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM user_tokens WHERE ticket AND vm_id = NEW.vm_id;
    RETURN NULL;
END $$;
CREATE TRIGGER vm_tickets_trigger AFTER UPDATE OF vm_state ON vm_runtimes
    FOR EACH ROW WHEN (NEW.vm_state <> OLD.vm_state AND NEW.vm_state::text IN ('stopping', 'stopped', 'zombie'))
    EXECUTE FUNCTION vm_tickets_end();
