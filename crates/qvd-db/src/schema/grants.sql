-- What each daemon may do; nothing else is granted. The owner of the relations deploys and migrates.

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM qvd_node, qvd_l7r, qvd_api;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM qvd_node, qvd_l7r, qvd_api;
-- Before PostgreSQL 15 everybody may make relations.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO qvd_node, qvd_l7r, qvd_api;

GRANT SELECT ON configs, versions, tenants, hosts, host_runtimes, host_counters, osfs, osf_properties, dis, di_tags,
    di_runtimes, di_properties, user_properties, vms, vm_properties, vm_runtimes, vm_counters, properties_list,
    qvd_object_properties_list, events TO qvd_node, qvd_l7r;
GRANT SELECT (id, login, tenant_id, blocked) ON users TO qvd_node;
GRANT SELECT ON users, ssl_configs TO qvd_l7r;

GRANT UPDATE ON host_runtimes, host_counters, vm_runtimes, vm_counters TO qvd_node;
GRANT INSERT ON events TO qvd_node;
GRANT DELETE ON events TO qvd_node;

GRANT UPDATE (password) ON users TO qvd_l7r;
GRANT UPDATE (host_id, generation, vm_cmd, user_ip, real_user_id, user_state, user_state_ts, user_cmd, l7r_host_id,
    l7r_pid, l7r_instance, session_id, restart, failure_code, failure_text, failure_ts) ON vm_runtimes TO qvd_l7r;
GRANT UPDATE ON host_counters TO qvd_l7r;
GRANT UPDATE (l7r_instance) ON host_runtimes TO qvd_l7r;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_tokens, user_auth_parameters, login_failures TO qvd_l7r;
GRANT INSERT ON events TO qvd_l7r;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO qvd_api;
REVOKE UPDATE, DELETE, TRUNCATE ON log, wat_log, events FROM qvd_api;
REVOKE INSERT, UPDATE, DELETE ON versions, acls, migrations FROM qvd_api;

GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO qvd_api;
GRANT USAGE ON SEQUENCE events_id_seq TO qvd_node, qvd_l7r;
GRANT USAGE ON SEQUENCE user_auth_parameters_id_seq TO qvd_l7r;

-- They act with the rights of their owner, and for triggers only.
REVOKE EXECUTE ON FUNCTION user_tickets_end(), tenant_tickets_end(), vm_tickets_end() FROM PUBLIC;
