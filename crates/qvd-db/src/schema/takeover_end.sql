-- What becomes of the rows of an older version once they are in the new relations.

-- The roles that come with QVD are there; others keep what they inherit and those of their ACLs that still exist, under
-- new ids of the relation.
INSERT INTO role_role_relations (inheritor_id, inherited_id)
    SELECT old.inheritor_id, old.inherited_id FROM qvd_before.role_role_relations AS old
    WHERE old.inheritor_id NOT IN (SELECT id FROM roles) ORDER BY old.id;
INSERT INTO acl_role_relations (role_id, acl_id, positive)
    SELECT old.role_id, acls.id, old.positive FROM qvd_before.acl_role_relations AS old
    JOIN qvd_before.acls AS named ON named.id = old.acl_id JOIN acls ON acls.name = named.name
    WHERE old.role_id NOT IN (SELECT id FROM roles) ORDER BY old.id;
INSERT INTO roles (id, tenant_id, name, description, internal, fixed)
    SELECT id, tenant_id, name, description, internal, fixed FROM qvd_before.roles WHERE id NOT IN (SELECT id FROM roles);

-- Nothing runs while a database is taken over.
UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = NULL, vm_pid = NULL, host_id = NULL, vm_address = NULL,
    vm_vma_port = NULL, vm_x_port = NULL, vm_ssh_port = NULL, vm_vnc_port = NULL, vm_mon_port = NULL,
    vm_serial_port = NULL, current_di_id = NULL, current_osf_id = NULL, vma_ok_ts = NULL, vm_expiration_soft = NULL,
    vm_expiration_hard = NULL, user_state = 'disconnected', user_cmd = NULL, l7r_host_id = NULL, l7r_pid = NULL;
UPDATE host_runtimes SET state = 'stopped', cmd = NULL, pid = NULL;
UPDATE di_runtimes SET state = 'fail', status_message = 'interrupted by the take-over of the database'
    WHERE state IN ('generating', 'uploading', 'verifying', 'upload_stalled');

-- Older versions, and their command line, made objects without the rows that go with them.
INSERT INTO vm_runtimes (vm_id, vm_state, user_state, blocked)
    SELECT id, 'stopped', 'disconnected', false FROM vms ON CONFLICT DO NOTHING;
INSERT INTO vm_counters (vm_id, run_attempts, run_ok) SELECT id, 0, 0 FROM vms ON CONFLICT DO NOTHING;
INSERT INTO host_runtimes (host_id, state, blocked) SELECT id, 'stopped', false FROM hosts ON CONFLICT DO NOTHING;
INSERT INTO host_counters (host_id, http_requests, auth_attempts, auth_ok, nx_attempts, nx_ok, short_sessions)
    SELECT id, 0, 0, 0, 0, 0, 0 FROM hosts ON CONFLICT DO NOTHING;
INSERT INTO di_runtimes (di_id, state, state_ts, percentage)
    SELECT id, 'published', 0, 100 FROM dis ON CONFLICT DO NOTHING;
INSERT INTO wat_setups_by_tenants (tenant_id, block, language)
    SELECT id, 10, 'auto' FROM tenants WHERE id >= 0 ON CONFLICT (tenant_id) DO NOTHING;
INSERT INTO wat_setups_by_administrators (administrator_id, block, language)
    SELECT id, 10, 'auto' FROM administrators ON CONFLICT (administrator_id) DO NOTHING;

-- No size meant no home; now it means one without limit.
UPDATE osfs SET user_storage_size = 0 WHERE user_storage_size IS NULL;

-- Who made an object, and when, stood in the log only; of several rows the first counts.
DO $$
DECLARE
    kind text;
    relation text;
BEGIN
    FOR kind, relation IN VALUES ('user', 'users'), ('vm', 'vms'), ('host', 'hosts'), ('osf', 'osfs'), ('di', 'dis'),
        ('tenant', 'tenants'), ('administrator', 'administrators'), ('role', 'roles')
    LOOP
        EXECUTE format('UPDATE %I AS made SET creation_date = first.time, creation_admin_id = first.administrator_id,
            creation_admin_name = first.administrator_name FROM (SELECT DISTINCT ON (object_id) object_id, time,
            administrator_id, administrator_name FROM log WHERE type_of_action = ''create'' AND qvd_object = %L
            ORDER BY object_id, id) AS first WHERE first.object_id = made.id', relation, kind);
    END LOOP;
END $$;
SET CONSTRAINTS ALL IMMEDIATE;
