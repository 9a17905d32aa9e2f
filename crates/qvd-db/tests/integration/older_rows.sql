-- What a farm of an older version may hold, in columns that all versions have.
INSERT INTO tenants (id, name) VALUES (10000, 'acme');
INSERT INTO administrators (id, name, tenant_id, password) VALUES
    (0, 'batman', 0, 'x'), (1, 'superadmin', 0, 'x'), (2, 'admin', 1, 'x'),
    (10000, 'first', 10000, 'n1/7gC+QdyG0EnXEXcHVbt2fcQyTCgtpxFznzbRYzP0');
INSERT INTO role_administrator_relations (id, role_id, administrator_id) VALUES (1, 43, 1), (2, 43, 2), (3, 68, 10000);
INSERT INTO roles (id, tenant_id, name, internal, fixed) VALUES (68, 10000, 'Helpers', false, false);
INSERT INTO role_role_relations (id, inheritor_id, inherited_id) VALUES (10000, 68, 65);
INSERT INTO acl_role_relations (id, role_id, acl_id, positive)
    SELECT 10000, 68, id, true FROM acls WHERE name = 'host.see-main.'
    UNION ALL SELECT 10001, 68, id, false FROM acls WHERE name = 'vm.update.name';
INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'l7r.auth.plugin.default.salt', 'qvd1234'),
    (10000, 'l7r.auth.plugins', 'ldap');
INSERT INTO ssl_configs (key, value) VALUES ('l7r.ssl.key', E'-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\nlines');
INSERT INTO users (id, tenant_id, login, password) VALUES
    (10000, 10000, 'anna', 'o3lDw1bT9nbsTfIDDuTTVTjw7SAB3HzGlOPDWZqC0Rk'), (10001, 10000, 'bert', NULL);
INSERT INTO hosts (id, name, address, frontend, backend) VALUES (10000, 'node1', '10.3.15.1', true, true);
INSERT INTO host_runtimes (host_id, state, ok_ts, blocked, pid) VALUES (10000, 'running', '2020-01-01', true, 99);
INSERT INTO osfs (id, tenant_id, name, memory, use_overlay, user_storage_size) VALUES
    (10000, 10000, 'plain', 256, true, NULL), (10001, 10000, 'home', 512, true, 500);
INSERT INTO dis (id, osf_id, path, version) VALUES
    (10000, 10000, '10000-a.tgz', '2016-12-01-000'), (10001, 10001, '10001-b.tgz', '2016-12-01-001');
INSERT INTO di_tags (id, di_id, tag, fixed) VALUES (10000, 10000, 'default', false), (10001, 10001, 'head', false);
INSERT INTO vms (id, name, user_id, osf_id, di_tag, ip) VALUES
    (10000, 'vm1', 10000, 10000, 'default', '10.3.15.254'), (10001, 'vm2', 10000, 10001, 'head', '10.3.15.253');
INSERT INTO vm_runtimes (vm_id, host_id, vm_state, user_state, l7r_host_id, l7r_pid, blocked, vm_address, current_di_id)
    VALUES (10000, 10000, 'running', 'connected', 10000, 7, true, '10.3.15.254', 10000);
INSERT INTO vm_counters (vm_id, run_attempts, run_ok) VALUES (10000, 9, 7);
INSERT INTO properties_list (id, key, tenant_id) VALUES (10000, 'colour', 10000);
INSERT INTO qvd_object_properties_list (id, property_id, qvd_object) VALUES (10000, 10000, 'vm');
INSERT INTO vm_properties (vm_id, property_id, value) VALUES (10000, 10000, 'kept');
INSERT INTO log (id, administrator_id, administrator_name, action, type_of_action, qvd_object, object_id, time, status)
    VALUES (10000, 10000, 'first', 'vm_create', 'create', 'vm', 10000, '2017-01-01', 0),
        (10001, 1, 'second', 'vm_create', 'create', 'vm', 10000, '2018-01-01', 0);
