-- What a new database starts with. Ids are those of existing databases; ACLs and roles come from
-- the registries in code.

INSERT INTO tenants (id, name, description, blocked) VALUES
    (-1, '-', 'invalid tenant', false),
    (0, '*', 'supertenant', false),
    (1, 'default', 'tenant1', false);

-- The recovery administrator has a password that nobody knows until one is set; the other two are given theirs by
-- whoever deploys.
INSERT INTO administrators (id, name, tenant_id, password) VALUES
    (0, 'batman', 0, '!'),
    (1, 'superadmin', 0, '!'),
    (2, 'admin', 1, '!');

INSERT INTO wat_setups_by_administrators (id, administrator_id, block, language) VALUES
    (0, 0, 10, 'auto'), (1, 1, 10, 'auto'), (2, 2, 10, 'auto');
INSERT INTO wat_setups_by_tenants (id, tenant_id, block, language) VALUES (0, 0, 10, 'auto'), (1, 1, 10, 'auto');

INSERT INTO configs (tenant_id, key, value) VALUES
    (-1, 'wat.multitenant', '1'),
    (-1, 'api.public.footer.link.1.label.default', 'Qindel Group (c) 2018'),
    (-1, 'api.public.footer.link.1.src.default', 'http://qindel.com/'),
    (-1, 'api.public.footer.link.2.label.default', 'Contact'),
    (-1, 'api.public.footer.link.2.src.default', 'http://theqvd.com/contact'),
    (-1, 'api.public.footer.link.2.src.es', 'http://theqvd.com/es/contacto');

INSERT INTO role_administrator_relations (id, role_id, administrator_id) VALUES (1, 43, 1), (2, 43, 2);

INSERT INTO log (id, administrator_id, administrator_name, tenant_id, tenant_name, action, type_of_action, arguments,
    qvd_object, object_id, object_name, time, status, superadmin) VALUES
    (0, 1, 'superadmin', -1, 'Invalid', 'tenant_create', 'create', '{}', 'tenant', 1, 'default', now(), 0, true),
    (1, 1, 'superadmin', -1, 'Invalid', 'admin_create', 'create', '{}', 'administrator', 1, 'superadmin', now(), 0, true),
    (2, 1, 'superadmin', -1, 'Invalid', 'admin_create', 'create', '{}', 'administrator', 2, 'admin', now(), 0, true),
    (3, 1, 'superadmin', -1, 'Invalid', 'role_create', 'create', '{}', 'role', 21, 'Operator L1', now(), 0, true),
    (4, 1, 'superadmin', -1, 'Invalid', 'role_create', 'create', '{}', 'role', 22, 'Operator L2', now(), 0, true),
    (5, 1, 'superadmin', -1, 'Invalid', 'role_create', 'create', '{}', 'role', 23, 'Operator L3', now(), 0, true),
    (6, 1, 'superadmin', -1, 'Invalid', 'role_create', 'create', '{}', 'role', 43, 'Root', now(), 0, true);

UPDATE tenants SET creation_date = now() AT TIME ZONE 'UTC', creation_admin_id = 1, creation_admin_name = 'superadmin'
    WHERE id = 1;
UPDATE administrators SET creation_date = now() AT TIME ZONE 'UTC', creation_admin_id = 1,
    creation_admin_name = 'superadmin' WHERE id IN (1, 2);
UPDATE roles SET creation_date = now() AT TIME ZONE 'UTC', creation_admin_id = 1, creation_admin_name = 'superadmin'
    WHERE id IN (21, 22, 23, 43);
