-- Views that existing software reads, and the notifications of schema 4.3.0.

-- A negative assignment blocks what would be inherited through the role that carries it, and nothing else.
CREATE VIEW all_acl_role_relations AS
WITH RECURSIVE inherited (inheritor_id, inherited_id, acl_id) AS (
    SELECT edge.inheritor_id, edge.inherited_id, granted.acl_id
    FROM role_role_relations AS edge
    JOIN acl_role_relations AS granted ON granted.role_id = edge.inherited_id AND granted.positive
    WHERE NOT EXISTS (
        SELECT 1 FROM acl_role_relations AS refused
        WHERE refused.role_id = edge.inheritor_id AND refused.acl_id = granted.acl_id AND NOT refused.positive)
    UNION
    SELECT edge.inheritor_id, edge.inherited_id, inherited.acl_id
    FROM role_role_relations AS edge
    JOIN inherited ON inherited.inheritor_id = edge.inherited_id
    WHERE NOT EXISTS (
        SELECT 1 FROM acl_role_relations AS refused
        WHERE refused.role_id = edge.inheritor_id AND refused.acl_id = inherited.acl_id AND NOT refused.positive)
)
SELECT inheritor_id, inherited_id, acl_id FROM inherited
UNION
SELECT role_id, role_id, acl_id FROM acl_role_relations WHERE positive;

-- The transitive closure, as the name says; older versions stopped at the direct edges.
CREATE VIEW all_role_role_relations AS
WITH RECURSIVE closure (inheritor_id, inherited_id) AS (
    SELECT inheritor_id, inherited_id FROM role_role_relations
    UNION
    SELECT closure.inheritor_id, edge.inherited_id
    FROM closure JOIN role_role_relations AS edge ON edge.inheritor_id = closure.inherited_id
)
SELECT inheritor_id, inherited_id FROM closure;

CREATE VIEW operative_views_in_tenants AS
SELECT device_type, view_type, tenant_id, field, coalesce(visible, false) AS visible, 0 AS property, qvd_object
FROM views_setups_attributes_tenant
UNION
SELECT setup.device_type, setup.view_type, listed.tenant_id, listed.key, coalesce(setup.visible, false), listed.id,
    applied.qvd_object
FROM views_setups_properties_tenant AS setup
JOIN qvd_object_properties_list AS applied ON applied.id = setup.qvd_obj_prop_id
JOIN properties_list AS listed ON listed.id = applied.property_id;

CREATE VIEW operative_views_in_administrators AS
WITH own AS (
    SELECT setup.device_type, setup.view_type, administrators.tenant_id, setup.field, setup.visible, 0 AS property,
        setup.qvd_object, setup.administrator_id
    FROM views_setups_attributes_administrator AS setup
    JOIN administrators ON administrators.id = setup.administrator_id
    UNION
    SELECT setup.device_type, setup.view_type, listed.tenant_id, listed.key, setup.visible, listed.id,
        applied.qvd_object, setup.administrator_id
    FROM views_setups_properties_administrator AS setup
    JOIN qvd_object_properties_list AS applied ON applied.id = setup.qvd_obj_prop_id
    JOIN properties_list AS listed ON listed.id = applied.property_id
)
SELECT coalesce(own.field, common.field) AS field, coalesce(own.tenant_id, common.tenant_id) AS tenant_id,
    own.administrator_id, coalesce(own.visible, common.visible) AS visible,
    coalesce(own.view_type, common.view_type) AS view_type,
    coalesce(own.device_type, common.device_type) AS device_type,
    coalesce(own.qvd_object, common.qvd_object) AS qvd_object, coalesce(own.property, common.property) AS property
FROM own FULL OUTER JOIN operative_views_in_tenants AS common
    ON common.tenant_id = own.tenant_id AND common.device_type = own.device_type
    AND common.view_type = own.view_type AND common.field = own.field AND common.property = own.property
    AND common.qvd_object = own.qvd_object;

-- Functions of older versions also executed LISTEN, which subscribed whoever wrote; these only notify.

CREATE FUNCTION config_created_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qvd_config_changed', 'tenant_id=' || NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER config_created_trigger AFTER INSERT ON configs FOR EACH ROW EXECUTE FUNCTION config_created_notify();

CREATE FUNCTION config_changed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qvd_config_changed', 'tenant_id=' || NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER config_changed_trigger AFTER UPDATE ON configs FOR EACH ROW EXECUTE FUNCTION config_changed_notify();

CREATE FUNCTION config_deleted_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qvd_config_changed', 'tenant_id=' || OLD.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER config_deleted_trigger AFTER DELETE ON configs FOR EACH ROW EXECUTE FUNCTION config_deleted_notify();

CREATE FUNCTION di_created_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('di_created', '');
    RETURN NULL;
END $$;
CREATE TRIGGER di_created_trigger AFTER INSERT ON dis FOR EACH ROW EXECUTE FUNCTION di_created_notify();

CREATE FUNCTION di_changed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('di_changed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER di_changed_trigger AFTER UPDATE ON dis FOR EACH ROW EXECUTE FUNCTION di_changed_notify();

CREATE FUNCTION di_deleted_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('di_deleted', '');
    RETURN NULL;
END $$;
CREATE TRIGGER di_deleted_trigger AFTER DELETE ON dis FOR EACH ROW EXECUTE FUNCTION di_deleted_notify();

CREATE FUNCTION di_blocked_or_unblocked_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('di_blocked_or_unblocked', '');
    RETURN NULL;
END $$;
CREATE TRIGGER di_blocked_or_unblocked_trigger AFTER UPDATE OF blocked ON dis FOR EACH ROW EXECUTE FUNCTION di_blocked_or_unblocked_notify();

CREATE FUNCTION di_runtimes_changed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('di_changed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER di_runtimes_changed_trigger AFTER UPDATE ON di_runtimes FOR EACH ROW EXECUTE FUNCTION di_runtimes_changed_notify();

CREATE FUNCTION host_created_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('host_created', '');
    RETURN NULL;
END $$;
CREATE TRIGGER host_created_trigger AFTER INSERT ON hosts FOR EACH ROW EXECUTE FUNCTION host_created_notify();

CREATE FUNCTION host_changed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('host_changed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER host_changed_trigger AFTER UPDATE ON hosts FOR EACH ROW EXECUTE FUNCTION host_changed_notify();

CREATE FUNCTION host_deleted_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('host_deleted', '');
    RETURN NULL;
END $$;
CREATE TRIGGER host_deleted_trigger AFTER DELETE ON hosts FOR EACH ROW EXECUTE FUNCTION host_deleted_notify();

CREATE FUNCTION host_blocked_or_unblocked_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('host_blocked_or_unblocked', '');
    RETURN NULL;
END $$;
CREATE TRIGGER host_blocked_or_unblocked_trigger AFTER UPDATE OF blocked ON host_runtimes FOR EACH ROW EXECUTE FUNCTION host_blocked_or_unblocked_notify();

CREATE TRIGGER host_runtime_changed_trigger AFTER UPDATE OF state ON host_runtimes FOR EACH ROW EXECUTE FUNCTION host_changed_notify();

CREATE FUNCTION osf_created_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('osf_created', 'tenant_id=' || NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER osf_created_trigger AFTER INSERT ON osfs FOR EACH ROW EXECUTE FUNCTION osf_created_notify();

CREATE FUNCTION osf_changed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('osf_changed', 'tenant_id=' || NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER osf_changed_trigger AFTER UPDATE ON osfs FOR EACH ROW EXECUTE FUNCTION osf_changed_notify();

CREATE FUNCTION osf_deleted_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('osf_deleted', 'tenant_id=' || OLD.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER osf_deleted_trigger AFTER DELETE ON osfs FOR EACH ROW EXECUTE FUNCTION osf_deleted_notify();

CREATE FUNCTION user_created_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('user_created', 'tenant_id=' || NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER user_created_trigger AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION user_created_notify();

CREATE FUNCTION user_changed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('user_changed', 'tenant_id=' || NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER user_changed_trigger AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION user_changed_notify();

CREATE FUNCTION user_deleted_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('user_deleted', 'tenant_id=' || OLD.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER user_deleted_trigger AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION user_deleted_notify();

CREATE FUNCTION user_blocked_or_unblocked_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('user_blocked_or_unblocked', 'tenant_id=' || NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER user_blocked_or_unblocked_trigger AFTER UPDATE OF blocked ON users FOR EACH ROW EXECUTE FUNCTION user_blocked_or_unblocked_notify();

CREATE FUNCTION vm_created_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('vm_created', 'tenant_id=' || coalesce((SELECT tenant_id FROM users WHERE id = NEW.user_id)::text, ''));
    RETURN NULL;
END $$;
CREATE TRIGGER vm_created_trigger AFTER INSERT ON vms FOR EACH ROW EXECUTE FUNCTION vm_created_notify();

CREATE FUNCTION vm_changed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('vm_changed', 'tenant_id=' || coalesce((SELECT tenant_id FROM users WHERE id = NEW.user_id)::text, ''));
    RETURN NULL;
END $$;
CREATE TRIGGER vm_changed_trigger AFTER UPDATE ON vms FOR EACH ROW EXECUTE FUNCTION vm_changed_notify();

CREATE FUNCTION vm_deleted_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('vm_deleted', 'tenant_id=' || coalesce((SELECT tenant_id FROM users WHERE id = OLD.user_id)::text, ''));
    RETURN NULL;
END $$;
CREATE TRIGGER vm_deleted_trigger AFTER DELETE ON vms FOR EACH ROW EXECUTE FUNCTION vm_deleted_notify();

CREATE FUNCTION vm_runtime_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('vm_changed', 'tenant_id=' || coalesce((SELECT users.tenant_id FROM users JOIN vms ON vms.user_id = users.id WHERE vms.id = NEW.vm_id)::text, ''));
    RETURN NULL;
END $$;
CREATE TRIGGER vm_runtime_changed_trigger AFTER UPDATE OF vm_state, user_state, vm_expiration_soft, vm_expiration_hard ON vm_runtimes FOR EACH ROW EXECUTE FUNCTION vm_runtime_notify();

CREATE FUNCTION vm_blocked_or_unblocked_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('vm_blocked_or_unblocked', 'tenant_id=' || coalesce((SELECT users.tenant_id FROM users JOIN vms ON vms.user_id = users.id WHERE vms.id = NEW.vm_id)::text, ''));
    RETURN NULL;
END $$;
CREATE TRIGGER vm_blocked_or_unblocked_trigger AFTER UPDATE OF blocked ON vm_runtimes FOR EACH ROW EXECUTE FUNCTION vm_blocked_or_unblocked_notify();

CREATE FUNCTION vm_runtime_desktop_changed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('desktop_changed', 'user_id=' || coalesce((SELECT user_id FROM vms WHERE id = NEW.vm_id)::text, '') || ';vm_id=' || NEW.vm_id);
    RETURN NULL;
END $$;
CREATE TRIGGER vm_desktop_changed_trigger AFTER UPDATE OF vm_state, user_state ON vm_runtimes FOR EACH ROW EXECUTE FUNCTION vm_runtime_desktop_changed_notify();

