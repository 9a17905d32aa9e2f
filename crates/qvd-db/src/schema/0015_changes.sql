-- What changed, for whoever follows it: a line for each changed object, written by the change itself.

CREATE TABLE changes (
    id bigserial PRIMARY KEY,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    time timestamp with time zone NOT NULL DEFAULT now(),
    kind text NOT NULL,
    object_id integer,
    tenant_id integer,
    operation text NOT NULL
);
CREATE INDEX changes_idx_transaction ON changes (transaction);
CREATE INDEX changes_idx_time ON changes (time);

-- The highest transaction of which lines were removed: nobody can go on from it or before.
CREATE TABLE changes_forgotten (transaction xid8 NOT NULL);
INSERT INTO changes_forgotten VALUES ('0');

-- Arguments: the kind of object, the column with its number, how its tenant is found, and whether the row is only a part
-- of the object. Whoever changes an object need not be allowed to write here otherwise.
CREATE FUNCTION change_noted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    line jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    object integer := (line ->> TG_ARGV[1])::integer;
    tenant integer;
BEGIN
    tenant := CASE TG_ARGV[2]
        WHEN 'own' THEN (line ->> 'tenant_id')::integer
        WHEN 'itself' THEN object
        WHEN 'of its user' THEN (SELECT u.tenant_id FROM public.users AS u WHERE u.id = (line ->> 'user_id')::integer)
        WHEN 'of its osf' THEN (SELECT o.tenant_id FROM public.osfs AS o WHERE o.id = (line ->> 'osf_id')::integer)
        WHEN 'user' THEN (SELECT u.tenant_id FROM public.users AS u WHERE u.id = object)
        WHEN 'vm' THEN (SELECT u.tenant_id FROM public.vms AS v JOIN public.users AS u ON u.id = v.user_id
            WHERE v.id = object)
        WHEN 'osf' THEN (SELECT o.tenant_id FROM public.osfs AS o WHERE o.id = object)
        WHEN 'di' THEN (SELECT o.tenant_id FROM public.dis AS d JOIN public.osfs AS o ON o.id = d.osf_id
            WHERE d.id = object)
        WHEN 'administrator' THEN (SELECT a.tenant_id FROM public.administrators AS a WHERE a.id = object)
        WHEN 'role' THEN (SELECT r.tenant_id FROM public.roles AS r WHERE r.id = object)
        END;
    INSERT INTO public.changes (kind, object_id, tenant_id, operation) VALUES (TG_ARGV[0], object, tenant,
        CASE WHEN TG_ARGV[3] = 'part' OR TG_OP = 'UPDATE' THEN 'changed'
            WHEN TG_OP = 'INSERT' THEN 'created' ELSE 'deleted' END);
    PERFORM pg_notify('qvd_changes', '');
    RETURN NULL;
END $$;

-- Somebody may do more or less than before, or is known no more.
CREATE FUNCTION access_noted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qvd_access_changed', '');
    RETURN NULL;
END $$;

DO $$
DECLARE
    followed record;
BEGIN
    FOR followed IN SELECT * FROM (VALUES
        ('users', 'user', 'id', 'own', 'whole', ''),
        ('vms', 'vm', 'id', 'of its user', 'whole', ''),
        ('hosts', 'host', 'id', 'none', 'whole', ''),
        ('osfs', 'osf', 'id', 'own', 'whole', ''),
        ('dis', 'di', 'id', 'of its osf', 'whole', ''),
        ('tenants', 'tenant', 'id', 'itself', 'whole', ''),
        ('administrators', 'administrator', 'id', 'own', 'whole', ''),
        ('roles', 'role', 'id', 'own', 'whole', ''),
        ('properties_list', 'property', 'id', 'own', 'whole', ''),
        ('configs', 'config', 'no number', 'own', 'part', ''),
        ('vm_runtimes', 'vm', 'vm_id', 'vm', 'part', 'vm_state, user_state, vm_cmd, user_cmd, start_step, failure_code, '
            'host_id, blocked, vm_address, current_di_id, vm_expiration_soft, vm_expiration_hard'),
        ('host_runtimes', 'host', 'host_id', 'none', 'part', 'state, blocked'),
        ('di_runtimes', 'di', 'di_id', 'di', 'part', 'state, percentage'),
        ('di_tags', 'di', 'di_id', 'di', 'part', ''),
        ('user_properties', 'user', 'user_id', 'user', 'part', ''),
        ('vm_properties', 'vm', 'vm_id', 'vm', 'part', ''),
        ('host_properties', 'host', 'host_id', 'none', 'part', ''),
        ('osf_properties', 'osf', 'osf_id', 'osf', 'part', ''),
        ('di_properties', 'di', 'di_id', 'di', 'part', ''),
        ('role_administrator_relations', 'administrator', 'administrator_id', 'administrator', 'part', ''),
        ('acl_role_relations', 'role', 'role_id', 'role', 'part', ''),
        ('role_role_relations', 'role', 'inheritor_id', 'role', 'part', '')
    ) AS f (relation, kind, number, tenant, whole, columns) LOOP
        EXECUTE format('CREATE TRIGGER change_noted_on_update AFTER UPDATE %s ON %I FOR EACH ROW '
            'WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION change_noted(%L, %L, %L, %L)',
            CASE WHEN followed.columns = '' THEN '' ELSE 'OF ' || followed.columns END,
            followed.relation, followed.kind, followed.number, followed.tenant, followed.whole);
        IF followed.columns = '' THEN
            EXECUTE format('CREATE TRIGGER change_noted AFTER INSERT OR DELETE ON %I FOR EACH ROW '
                'EXECUTE FUNCTION change_noted(%L, %L, %L, %L)',
                followed.relation, followed.kind, followed.number, followed.tenant, followed.whole);
        END IF;
    END LOOP;
    FOR followed IN SELECT * FROM (VALUES
        ('session', 'DELETE'),
        ('api_tokens', 'DELETE'),
        ('administrators', 'UPDATE OR DELETE'),
        ('tenants', 'UPDATE OR DELETE'),
        ('role_administrator_relations', 'INSERT OR UPDATE OR DELETE'),
        ('acl_role_relations', 'INSERT OR UPDATE OR DELETE'),
        ('role_role_relations', 'INSERT OR UPDATE OR DELETE')
    ) AS f (relation, events) LOOP
        EXECUTE format('CREATE TRIGGER access_noted AFTER %s ON %I FOR EACH ROW EXECUTE FUNCTION access_noted()',
            followed.events, followed.relation);
    END LOOP;
END $$;
