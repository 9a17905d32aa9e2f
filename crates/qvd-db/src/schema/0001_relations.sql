-- The relations of schema 4.3.0. Names, types and order of columns are given: existing software reads them.

CREATE TYPE administrator_and_tenant_views_setups_device_type_enum AS ENUM ('mobile', 'desktop');
CREATE TYPE administrator_and_tenant_views_setups_qvd_object_enum AS ENUM ('user', 'vm', 'log', 'host', 'osf', 'di', 'role', 'administrator', 'tenant');
CREATE TYPE administrator_and_tenant_views_setups_view_type_enum AS ENUM ('filter', 'list_column');
CREATE TYPE log_qvd_object_enum AS ENUM ('user', 'vm', 'log', 'host', 'osf', 'di', 'role', 'administrator', 'tenant', 'acl', 'config', 'tenant_view', 'admin_view');
CREATE TYPE log_type_of_action_enum AS ENUM ('create', 'create_or_update', 'delete', 'see', 'update', 'exec', 'login');
CREATE TYPE language_enum AS ENUM ('es', 'en', 'auto', 'default');
CREATE TYPE user_portal_parameters_enum AS ENUM ('connection', 'audio', 'printers', 'fullscreen', 'share_folders', 'share_usb', 'client', 'kb_layout');
CREATE TYPE di_generation_state_enum AS ENUM ('new', 'generating', 'fail', 'uploading', 'upload_stalled', 'verifying', 'ready', 'published', 'retired');

CREATE TABLE tenants (
    id serial NOT NULL,
    name varchar(80) NOT NULL,
    description varchar(32768),
    blocked boolean DEFAULT false,
    CONSTRAINT tenants_pkey PRIMARY KEY (id),
    CONSTRAINT tenants_name UNIQUE (name)
);

CREATE TABLE users (
    id serial NOT NULL,
    description varchar(32768),
    tenant_id integer NOT NULL,
    login varchar(64) NOT NULL,
    blocked boolean NOT NULL DEFAULT false,
    password varchar(64),
    language language_enum NOT NULL DEFAULT 'auto',
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_login_tenant_id UNIQUE (login, tenant_id)
);

CREATE TABLE user_tokens (
    token varchar(256) NOT NULL,
    user_id integer NOT NULL,
    vm_id integer,
    expiration integer NOT NULL,
    auth_params_id integer,
    multi_use boolean NOT NULL DEFAULT false,
    CONSTRAINT user_tokens_pkey PRIMARY KEY (token)
);

CREATE TABLE user_auth_parameters (
    id serial NOT NULL,
    parameters json NOT NULL,
    CONSTRAINT user_auth_parameters_pkey PRIMARY KEY (id)
);

CREATE TABLE user_connections (
    id integer NOT NULL,
    ip_address inet,
    location text,
    datetime timestamp without time zone,
    browser text,
    os text,
    device text,
    CONSTRAINT user_connections_pkey PRIMARY KEY (id)
);

CREATE TABLE session_up (
    sid varchar(40) NOT NULL,
    data text,
    expires integer NOT NULL,
    CONSTRAINT session_up_pkey PRIMARY KEY (sid)
);

CREATE TABLE workspaces (
    id serial NOT NULL,
    user_id integer NOT NULL,
    name varchar(128) NOT NULL,
    fixed boolean NOT NULL DEFAULT false,
    active boolean NOT NULL DEFAULT false,
    CONSTRAINT workspaces_pkey PRIMARY KEY (id),
    CONSTRAINT workspaces_user_id_name UNIQUE (user_id, name)
);

CREATE TABLE workspace_settings (
    id serial NOT NULL,
    workspace_id integer NOT NULL,
    parameter user_portal_parameters_enum NOT NULL,
    value text NOT NULL,
    CONSTRAINT workspace_settings_pkey PRIMARY KEY (id),
    CONSTRAINT workspace_settings_workspace_id_parameter UNIQUE (workspace_id, parameter)
);

CREATE TABLE workspace_setting_collection (
    id serial NOT NULL,
    setting_id integer NOT NULL,
    item_value text NOT NULL,
    CONSTRAINT workspace_setting_collection_pkey PRIMARY KEY (id)
);

CREATE TABLE desktops (
    id serial NOT NULL,
    vm_id integer NOT NULL,
    alias text NOT NULL,
    active boolean NOT NULL DEFAULT false,
    CONSTRAINT desktops_pkey PRIMARY KEY (id),
    CONSTRAINT desktops_vm_id_alias UNIQUE (vm_id, alias)
);

CREATE TABLE desktop_settings (
    id serial NOT NULL,
    desktop_id integer NOT NULL,
    parameter user_portal_parameters_enum NOT NULL,
    value text NOT NULL,
    CONSTRAINT desktop_settings_pkey PRIMARY KEY (id),
    CONSTRAINT desktop_settings_desktop_id_parameter UNIQUE (desktop_id, parameter)
);

CREATE TABLE desktop_setting_collection (
    id serial NOT NULL,
    setting_id integer NOT NULL,
    item_value text NOT NULL,
    CONSTRAINT desktop_setting_collection_pkey PRIMARY KEY (id),
    CONSTRAINT desktop_setting_collection_item_value_setting_id UNIQUE (item_value, setting_id)
);

CREATE TABLE administrators (
    tenant_id integer NOT NULL,
    id serial NOT NULL,
    name varchar(64) NOT NULL,
    description varchar(32768),
    password varchar(64),
    CONSTRAINT administrators_pkey PRIMARY KEY (id),
    CONSTRAINT administrators_name_tenant_id UNIQUE (name, tenant_id)
);

CREATE TABLE roles (
    id serial NOT NULL,
    tenant_id integer NOT NULL,
    name varchar(64) NOT NULL,
    description varchar(32768),
    internal boolean NOT NULL,
    fixed boolean NOT NULL,
    CONSTRAINT roles_pkey PRIMARY KEY (id),
    CONSTRAINT roles_name_tenant_id UNIQUE (name, tenant_id)
);

CREATE TABLE acls (
    id serial NOT NULL,
    name varchar(64) NOT NULL,
    description varchar(80),
    CONSTRAINT acls_pkey PRIMARY KEY (id),
    CONSTRAINT acls_name UNIQUE (name)
);

CREATE TABLE acl_role_relations (
    id serial NOT NULL,
    acl_id integer NOT NULL,
    role_id integer NOT NULL,
    positive boolean NOT NULL,
    CONSTRAINT acl_role_relations_pkey PRIMARY KEY (id),
    CONSTRAINT acl_role_relations_role_id_acl_id UNIQUE (role_id, acl_id)
);

CREATE TABLE role_role_relations (
    id serial NOT NULL,
    inheritor_id integer NOT NULL,
    inherited_id integer NOT NULL,
    CONSTRAINT role_role_relations_pkey PRIMARY KEY (id),
    CONSTRAINT role_role_relations_inheritor_id_inherited_id UNIQUE (inheritor_id, inherited_id)
);

CREATE TABLE role_administrator_relations (
    id serial NOT NULL,
    role_id integer NOT NULL,
    administrator_id integer NOT NULL,
    CONSTRAINT role_administrator_relations_pkey PRIMARY KEY (id),
    CONSTRAINT role_administrator_relations_administrator_id_role_id UNIQUE (administrator_id, role_id)
);

CREATE TABLE session (
    sid varchar(40) NOT NULL,
    data text,
    expires integer NOT NULL,
    CONSTRAINT session_pkey PRIMARY KEY (sid)
);

CREATE TABLE wat_setups_by_administrators (
    id serial NOT NULL,
    block integer NOT NULL DEFAULT 0,
    language varchar(64) NOT NULL DEFAULT 'default',
    administrator_id integer NOT NULL,
    CONSTRAINT wat_setups_by_administrators_pkey PRIMARY KEY (id),
    CONSTRAINT wat_setups_by_administrators_administrator_id UNIQUE (administrator_id)
);

CREATE TABLE wat_setups_by_tenants (
    id serial NOT NULL,
    block integer NOT NULL DEFAULT 0,
    language varchar(64) NOT NULL DEFAULT 'auto',
    tenant_id integer NOT NULL,
    CONSTRAINT wat_setups_by_tenants_pkey PRIMARY KEY (id),
    CONSTRAINT wat_setups_by_tenants_tenant_id UNIQUE (tenant_id)
);

CREATE TABLE views_setups_attributes_administrator (
    id serial NOT NULL,
    field varchar(64) NOT NULL,
    administrator_id integer NOT NULL,
    visible boolean NOT NULL,
    view_type administrator_and_tenant_views_setups_view_type_enum NOT NULL,
    device_type administrator_and_tenant_views_setups_device_type_enum NOT NULL,
    qvd_object administrator_and_tenant_views_setups_qvd_object_enum NOT NULL,
    CONSTRAINT views_setups_attributes_administrator_pkey PRIMARY KEY (id),
    CONSTRAINT views_setups_attributes_administrator_administrator_id_field_vi UNIQUE (administrator_id, field, view_type, device_type, qvd_object)
);

CREATE TABLE views_setups_attributes_tenant (
    id serial NOT NULL,
    field varchar(64) NOT NULL,
    tenant_id integer NOT NULL,
    visible boolean NOT NULL,
    view_type administrator_and_tenant_views_setups_view_type_enum NOT NULL,
    device_type administrator_and_tenant_views_setups_device_type_enum NOT NULL,
    qvd_object administrator_and_tenant_views_setups_qvd_object_enum NOT NULL,
    CONSTRAINT views_setups_attributes_tenant_pkey PRIMARY KEY (id),
    CONSTRAINT views_setups_attributes_tenant_tenant_id_field_view_type_device UNIQUE (tenant_id, field, view_type, device_type, qvd_object)
);

CREATE TABLE views_setups_properties_administrator (
    id serial NOT NULL,
    administrator_id integer NOT NULL,
    qvd_obj_prop_id integer NOT NULL,
    visible boolean NOT NULL,
    view_type administrator_and_tenant_views_setups_view_type_enum NOT NULL,
    device_type administrator_and_tenant_views_setups_device_type_enum NOT NULL,
    CONSTRAINT views_setups_properties_administrator_pkey PRIMARY KEY (id),
    CONSTRAINT views_setups_properties_administrator_qvd_obj_prop_id_view_type UNIQUE (qvd_obj_prop_id, view_type, device_type)
);

CREATE TABLE views_setups_properties_tenant (
    id serial NOT NULL,
    qvd_obj_prop_id integer NOT NULL,
    visible boolean NOT NULL,
    view_type administrator_and_tenant_views_setups_view_type_enum NOT NULL,
    device_type administrator_and_tenant_views_setups_device_type_enum NOT NULL,
    CONSTRAINT views_setups_properties_tenant_pkey PRIMARY KEY (id),
    CONSTRAINT views_setups_properties_tenant_qvd_obj_prop_id_view_type_device UNIQUE (qvd_obj_prop_id, view_type, device_type)
);

CREATE TABLE configs (
    tenant_id integer NOT NULL,
    key varchar(64) NOT NULL,
    value varchar(4096) NOT NULL,
    CONSTRAINT configs_pkey PRIMARY KEY (tenant_id, key)
);

CREATE TABLE ssl_configs (
    key varchar(64) NOT NULL,
    value varchar(32768) NOT NULL,
    CONSTRAINT ssl_configs_pkey PRIMARY KEY (key)
);

CREATE TABLE versions (
    component varchar(100) NOT NULL,
    version varchar(100) NOT NULL,
    CONSTRAINT versions_pkey PRIMARY KEY (component)
);

CREATE TABLE hosts (
    id serial NOT NULL,
    name varchar(127) NOT NULL,
    description varchar(32768),
    address varchar(127) NOT NULL,
    frontend boolean NOT NULL,
    backend boolean NOT NULL,
    CONSTRAINT hosts_pkey PRIMARY KEY (id),
    CONSTRAINT hosts_address UNIQUE (address),
    CONSTRAINT hosts_name UNIQUE (name)
);

CREATE TABLE host_runtimes (
    host_id integer NOT NULL,
    pid integer,
    ok_ts timestamp without time zone,
    usable_ram real,
    usable_cpu real,
    state varchar(12) NOT NULL,
    blocked boolean NOT NULL,
    cmd varchar(12),
    CONSTRAINT host_runtimes_pkey PRIMARY KEY (host_id)
);

CREATE TABLE host_counters (
    host_id integer NOT NULL DEFAULT 0,
    http_requests integer NOT NULL DEFAULT 0,
    auth_attempts integer NOT NULL DEFAULT 0,
    auth_ok integer NOT NULL DEFAULT 0,
    nx_attempts integer NOT NULL DEFAULT 0,
    nx_ok integer NOT NULL DEFAULT 0,
    short_sessions integer NOT NULL DEFAULT 0,
    CONSTRAINT host_counters_pkey PRIMARY KEY (host_id)
);

CREATE TABLE host_states (
    name varchar(20) NOT NULL,
    CONSTRAINT host_states_pkey PRIMARY KEY (name)
);

CREATE TABLE host_cmds (
    name varchar(20) NOT NULL,
    CONSTRAINT host_cmds_pkey PRIMARY KEY (name)
);

CREATE TABLE host_properties (
    host_id integer NOT NULL,
    property_id integer NOT NULL,
    value varchar(32768) NOT NULL,
    CONSTRAINT host_properties_pkey PRIMARY KEY (host_id, property_id)
);

CREATE TABLE osfs (
    tenant_id integer NOT NULL,
    id serial NOT NULL,
    name varchar(64) NOT NULL,
    description varchar(32768),
    memory integer NOT NULL,
    use_overlay boolean NOT NULL,
    is_application boolean NOT NULL DEFAULT false,
    user_storage_size integer,
    osd_id integer,
    CONSTRAINT osfs_pkey PRIMARY KEY (id),
    CONSTRAINT osfs_name_tenant_id UNIQUE (name, tenant_id)
);

CREATE TABLE dis (
    id serial NOT NULL,
    osf_id integer NOT NULL,
    blocked boolean NOT NULL DEFAULT false,
    description varchar(32768),
    path varchar(4096) NOT NULL,
    version varchar(64) NOT NULL,
    CONSTRAINT dis_pkey PRIMARY KEY (id),
    CONSTRAINT dis_osf_id_version UNIQUE (osf_id, version)
);

CREATE TABLE di_tags (
    id serial NOT NULL,
    di_id integer NOT NULL,
    tag varchar(1024) NOT NULL,
    fixed boolean NOT NULL DEFAULT false,
    CONSTRAINT di_tags_pkey PRIMARY KEY (id)
);

CREATE TABLE di_runtimes (
    di_id integer NOT NULL,
    state di_generation_state_enum NOT NULL DEFAULT 'new',
    state_ts integer,
    elapsed_time integer,
    auto_publish integer NOT NULL DEFAULT 0,
    foreign_id integer,
    expiration_time_soft integer,
    expiration_time_hard integer,
    percentage real NOT NULL DEFAULT 0,
    error_code integer,
    status_message text,
    CONSTRAINT di_runtimes_pkey PRIMARY KEY (di_id)
);

CREATE TABLE di_properties (
    di_id integer NOT NULL,
    property_id integer NOT NULL,
    value varchar(32768) NOT NULL,
    CONSTRAINT di_properties_pkey PRIMARY KEY (di_id, property_id)
);

CREATE TABLE osf_properties (
    osf_id integer NOT NULL,
    property_id integer NOT NULL,
    value varchar(32768) NOT NULL,
    CONSTRAINT osf_properties_pkey PRIMARY KEY (osf_id, property_id)
);

CREATE TABLE vms (
    id serial NOT NULL,
    name varchar(64) NOT NULL,
    description varchar(32768),
    user_id integer NOT NULL,
    osf_id integer NOT NULL,
    di_tag varchar(128) NOT NULL,
    ip varchar(15),
    storage varchar(4096),
    CONSTRAINT vms_pkey PRIMARY KEY (id),
    CONSTRAINT vms_ip UNIQUE (ip),
    CONSTRAINT vms_name_user_id UNIQUE (name, user_id)
);

CREATE TABLE vm_runtimes (
    vm_id integer NOT NULL,
    host_id integer,
    current_osf_id integer,
    current_di_id integer,
    user_ip varchar(15),
    real_user_id integer,
    vm_state varchar(12) NOT NULL,
    vm_state_ts integer,
    vm_cmd varchar(12),
    vm_pid integer,
    user_state varchar(12) NOT NULL,
    user_state_ts integer,
    user_cmd varchar(12),
    vma_ok_ts integer,
    l7r_host_id integer,
    l7r_pid integer,
    vm_address varchar(127),
    vm_vma_port integer,
    vm_x_port integer,
    vm_ssh_port integer,
    vm_vnc_port integer,
    vm_mon_port integer,
    vm_serial_port integer,
    blocked boolean,
    vm_expiration_soft timestamp without time zone,
    vm_expiration_hard timestamp without time zone,
    CONSTRAINT vm_runtimes_pkey PRIMARY KEY (vm_id)
);

CREATE TABLE vm_counters (
    vm_id integer NOT NULL DEFAULT 0,
    run_attempts integer NOT NULL DEFAULT 0,
    run_ok integer NOT NULL DEFAULT 0,
    CONSTRAINT vm_counters_pkey PRIMARY KEY (vm_id)
);

CREATE TABLE vm_states (
    name varchar(12) NOT NULL,
    CONSTRAINT vm_states_pkey PRIMARY KEY (name)
);

CREATE TABLE vm_cmds (
    name varchar(20) NOT NULL,
    CONSTRAINT vm_cmds_pkey PRIMARY KEY (name)
);

CREATE TABLE user_states (
    name varchar(20) NOT NULL,
    CONSTRAINT user_states_pkey PRIMARY KEY (name)
);

CREATE TABLE user_cmds (
    name varchar(20) NOT NULL,
    CONSTRAINT user_cmds_pkey PRIMARY KEY (name)
);

CREATE TABLE vm_properties (
    vm_id integer NOT NULL,
    property_id integer NOT NULL,
    value varchar(32768) NOT NULL,
    CONSTRAINT vm_properties_pkey PRIMARY KEY (vm_id, property_id)
);

CREATE TABLE user_properties (
    user_id integer NOT NULL,
    property_id integer NOT NULL,
    value varchar(32768) NOT NULL,
    CONSTRAINT user_properties_pkey PRIMARY KEY (user_id, property_id)
);

CREATE TABLE properties_list (
    id serial NOT NULL,
    key varchar(1024) NOT NULL,
    tenant_id integer NOT NULL,
    description varchar(1024),
    CONSTRAINT properties_list_pkey PRIMARY KEY (id),
    CONSTRAINT properties_list_key_tenant_id UNIQUE (key, tenant_id)
);

CREATE TABLE qvd_object_properties_list (
    id serial NOT NULL,
    property_id integer NOT NULL,
    qvd_object administrator_and_tenant_views_setups_qvd_object_enum NOT NULL,
    CONSTRAINT qvd_object_properties_list_pkey PRIMARY KEY (id),
    CONSTRAINT qvd_object_properties_list_property_id_qvd_object UNIQUE (property_id, qvd_object)
);

CREATE TABLE log (
    id serial NOT NULL,
    administrator_id integer,
    administrator_name varchar(80),
    tenant_id integer,
    tenant_name varchar(80),
    action varchar(80) NOT NULL,
    type_of_action varchar(80) NOT NULL,
    arguments text,
    qvd_object varchar(80) NOT NULL,
    object_id integer,
    object_name varchar(80),
    time timestamp without time zone NOT NULL,
    status integer NOT NULL,
    source varchar(80),
    ip varchar(80),
    superadmin boolean,
    CONSTRAINT log_pkey PRIMARY KEY (id)
);

CREATE TABLE wat_log (
    id serial NOT NULL,
    administrator_id integer,
    administrator_name varchar(80),
    tenant_id integer NOT NULL,
    tenant_name varchar(80) NOT NULL,
    action varchar(80) NOT NULL,
    type_of_action varchar(80) NOT NULL,
    arguments text,
    qvd_object administrator_and_tenant_views_setups_qvd_object_enum NOT NULL,
    object_id integer,
    object_name varchar(80),
    time timestamp without time zone NOT NULL,
    status integer NOT NULL,
    source varchar(80),
    ip varchar(80),
    superadmin boolean,
    CONSTRAINT wat_log_pkey PRIMARY KEY (id)
);

ALTER TABLE users ADD CONSTRAINT users_fk_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE user_tokens ADD CONSTRAINT user_tokens_fk_auth_params_id FOREIGN KEY (auth_params_id) REFERENCES user_auth_parameters (id) DEFERRABLE;
ALTER TABLE user_tokens ADD CONSTRAINT user_tokens_fk_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE user_tokens ADD CONSTRAINT user_tokens_fk_vm_id FOREIGN KEY (vm_id) REFERENCES vms (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE user_connections ADD CONSTRAINT user_connections_fk_id FOREIGN KEY (id) REFERENCES users (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE workspaces ADD CONSTRAINT workspaces_fk_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE workspace_settings ADD CONSTRAINT workspace_settings_fk_workspace_id FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE workspace_setting_collection ADD CONSTRAINT workspace_setting_collection_fk_setting_id FOREIGN KEY (setting_id) REFERENCES workspace_settings (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE desktops ADD CONSTRAINT desktops_fk_vm_id FOREIGN KEY (vm_id) REFERENCES vms (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE desktop_settings ADD CONSTRAINT desktop_settings_fk_desktop_id FOREIGN KEY (desktop_id) REFERENCES desktops (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE desktop_setting_collection ADD CONSTRAINT desktop_setting_collection_fk_setting_id FOREIGN KEY (setting_id) REFERENCES desktop_settings (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE administrators ADD CONSTRAINT administrators_fk_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE roles ADD CONSTRAINT roles_fk_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) DEFERRABLE;
ALTER TABLE acl_role_relations ADD CONSTRAINT acl_role_relations_fk_acl_id FOREIGN KEY (acl_id) REFERENCES acls (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE acl_role_relations ADD CONSTRAINT acl_role_relations_fk_role_id FOREIGN KEY (role_id) REFERENCES roles (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE role_role_relations ADD CONSTRAINT role_role_relations_fk_inherited_id FOREIGN KEY (inherited_id) REFERENCES roles (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE role_role_relations ADD CONSTRAINT role_role_relations_fk_inheritor_id FOREIGN KEY (inheritor_id) REFERENCES roles (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE role_administrator_relations ADD CONSTRAINT role_administrator_relations_fk_administrator_id FOREIGN KEY (administrator_id) REFERENCES administrators (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE role_administrator_relations ADD CONSTRAINT role_administrator_relations_fk_role_id FOREIGN KEY (role_id) REFERENCES roles (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE wat_setups_by_administrators ADD CONSTRAINT wat_setups_by_administrators_fk_administrator_id FOREIGN KEY (administrator_id) REFERENCES administrators (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE wat_setups_by_tenants ADD CONSTRAINT wat_setups_by_tenants_fk_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE views_setups_attributes_administrator ADD CONSTRAINT views_setups_attributes_administrator_fk_administrator_id FOREIGN KEY (administrator_id) REFERENCES administrators (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE views_setups_attributes_tenant ADD CONSTRAINT views_setups_attributes_tenant_fk_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE views_setups_properties_administrator ADD CONSTRAINT views_setups_properties_administrator_fk_administrator_id FOREIGN KEY (administrator_id) REFERENCES administrators (id) DEFERRABLE;
ALTER TABLE views_setups_properties_administrator ADD CONSTRAINT views_setups_properties_administrator_fk_qvd_obj_prop_id FOREIGN KEY (qvd_obj_prop_id) REFERENCES qvd_object_properties_list (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE views_setups_properties_tenant ADD CONSTRAINT views_setups_properties_tenant_fk_qvd_obj_prop_id FOREIGN KEY (qvd_obj_prop_id) REFERENCES qvd_object_properties_list (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE configs ADD CONSTRAINT configs_fk_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE host_runtimes ADD CONSTRAINT host_runtimes_fk_cmd FOREIGN KEY (cmd) REFERENCES host_cmds (name) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE host_runtimes ADD CONSTRAINT host_runtimes_fk_host_id FOREIGN KEY (host_id) REFERENCES hosts (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE host_runtimes ADD CONSTRAINT host_runtimes_fk_state FOREIGN KEY (state) REFERENCES host_states (name) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE host_counters ADD CONSTRAINT host_counters_fk_host_id FOREIGN KEY (host_id) REFERENCES hosts (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE host_properties ADD CONSTRAINT host_properties_fk_host_id FOREIGN KEY (host_id) REFERENCES hosts (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE host_properties ADD CONSTRAINT host_properties_fk_property_id FOREIGN KEY (property_id) REFERENCES qvd_object_properties_list (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE osfs ADD CONSTRAINT osfs_fk_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE dis ADD CONSTRAINT dis_fk_osf_id FOREIGN KEY (osf_id) REFERENCES osfs (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE di_tags ADD CONSTRAINT di_tags_fk_di_id FOREIGN KEY (di_id) REFERENCES dis (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE di_runtimes ADD CONSTRAINT di_runtimes_fk_di_id FOREIGN KEY (di_id) REFERENCES dis (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE di_properties ADD CONSTRAINT di_properties_fk_di_id FOREIGN KEY (di_id) REFERENCES dis (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE di_properties ADD CONSTRAINT di_properties_fk_property_id FOREIGN KEY (property_id) REFERENCES qvd_object_properties_list (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE osf_properties ADD CONSTRAINT osf_properties_fk_osf_id FOREIGN KEY (osf_id) REFERENCES osfs (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE osf_properties ADD CONSTRAINT osf_properties_fk_property_id FOREIGN KEY (property_id) REFERENCES qvd_object_properties_list (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE vms ADD CONSTRAINT vms_fk_osf_id FOREIGN KEY (osf_id) REFERENCES osfs (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vms ADD CONSTRAINT vms_fk_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_current_di_id FOREIGN KEY (current_di_id) REFERENCES dis (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_current_osf_id FOREIGN KEY (current_osf_id) REFERENCES osfs (id) DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_host_id FOREIGN KEY (host_id) REFERENCES hosts (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_l7r_host_id FOREIGN KEY (l7r_host_id) REFERENCES hosts (id) ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_real_user_id FOREIGN KEY (real_user_id) REFERENCES users (id) DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_user_cmd FOREIGN KEY (user_cmd) REFERENCES user_cmds (name) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_user_state FOREIGN KEY (user_state) REFERENCES user_states (name) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_vm_cmd FOREIGN KEY (vm_cmd) REFERENCES vm_cmds (name) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_vm_id FOREIGN KEY (vm_id) REFERENCES vms (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_fk_vm_state FOREIGN KEY (vm_state) REFERENCES vm_states (name) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE vm_counters ADD CONSTRAINT vm_counters_fk_vm_id FOREIGN KEY (vm_id) REFERENCES vms (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE vm_properties ADD CONSTRAINT vm_properties_fk_property_id FOREIGN KEY (property_id) REFERENCES qvd_object_properties_list (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE vm_properties ADD CONSTRAINT vm_properties_fk_vm_id FOREIGN KEY (vm_id) REFERENCES vms (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE user_properties ADD CONSTRAINT user_properties_fk_property_id FOREIGN KEY (property_id) REFERENCES qvd_object_properties_list (id) ON DELETE CASCADE DEFERRABLE;
ALTER TABLE user_properties ADD CONSTRAINT user_properties_fk_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;
ALTER TABLE properties_list ADD CONSTRAINT properties_list_fk_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) DEFERRABLE;
ALTER TABLE qvd_object_properties_list ADD CONSTRAINT qvd_object_properties_list_fk_property_id FOREIGN KEY (property_id) REFERENCES properties_list (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE;

CREATE INDEX users_idx_tenant_id ON users (tenant_id);
CREATE INDEX user_tokens_idx_auth_params_id ON user_tokens (auth_params_id);
CREATE INDEX user_tokens_idx_user_id ON user_tokens (user_id);
CREATE INDEX user_tokens_idx_vm_id ON user_tokens (vm_id);
CREATE INDEX workspaces_idx_user_id ON workspaces (user_id);
CREATE INDEX workspace_settings_idx_workspace_id ON workspace_settings (workspace_id);
CREATE INDEX workspace_setting_collection_idx_setting_id ON workspace_setting_collection (setting_id);
CREATE INDEX desktops_idx_vm_id ON desktops (vm_id);
CREATE INDEX desktop_settings_idx_desktop_id ON desktop_settings (desktop_id);
CREATE INDEX desktop_setting_collection_idx_setting_id ON desktop_setting_collection (setting_id);
CREATE INDEX administrators_idx_tenant_id ON administrators (tenant_id);
CREATE INDEX roles_idx_tenant_id ON roles (tenant_id);
CREATE INDEX acl_role_relations_idx_acl_id ON acl_role_relations (acl_id);
CREATE INDEX acl_role_relations_idx_role_id ON acl_role_relations (role_id);
CREATE INDEX role_role_relations_idx_inherited_id ON role_role_relations (inherited_id);
CREATE INDEX role_role_relations_idx_inheritor_id ON role_role_relations (inheritor_id);
CREATE INDEX role_administrator_relations_idx_administrator_id ON role_administrator_relations (administrator_id);
CREATE INDEX role_administrator_relations_idx_role_id ON role_administrator_relations (role_id);
CREATE INDEX wat_setups_by_administrators_idx_administrator_id ON wat_setups_by_administrators (administrator_id);
CREATE INDEX wat_setups_by_tenants_idx_tenant_id ON wat_setups_by_tenants (tenant_id);
CREATE INDEX views_setups_attributes_administrator_idx_administrator_id ON views_setups_attributes_administrator (administrator_id);
CREATE INDEX views_setups_attributes_tenant_idx_tenant_id ON views_setups_attributes_tenant (tenant_id);
CREATE INDEX views_setups_properties_administrator_idx_administrator_id ON views_setups_properties_administrator (administrator_id);
CREATE INDEX views_setups_properties_administrator_idx_qvd_obj_prop_id ON views_setups_properties_administrator (qvd_obj_prop_id);
CREATE INDEX views_setups_properties_tenant_idx_qvd_obj_prop_id ON views_setups_properties_tenant (qvd_obj_prop_id);
CREATE INDEX configs_idx_tenant_id ON configs (tenant_id);
CREATE INDEX host_runtimes_idx_cmd ON host_runtimes (cmd);
CREATE INDEX host_runtimes_idx_state ON host_runtimes (state);
CREATE INDEX host_properties_idx_host_id ON host_properties (host_id);
CREATE INDEX host_properties_idx_property_id ON host_properties (property_id);
CREATE INDEX osfs_idx_tenant_id ON osfs (tenant_id);
CREATE INDEX dis_idx_osf_id ON dis (osf_id);
CREATE INDEX di_tags_idx_di_id ON di_tags (di_id);
CREATE INDEX di_properties_idx_di_id ON di_properties (di_id);
CREATE INDEX di_properties_idx_property_id ON di_properties (property_id);
CREATE INDEX osf_properties_idx_osf_id ON osf_properties (osf_id);
CREATE INDEX osf_properties_idx_property_id ON osf_properties (property_id);
CREATE INDEX vms_idx_osf_id ON vms (osf_id);
CREATE INDEX vms_idx_user_id ON vms (user_id);
CREATE INDEX vm_runtimes_idx_current_di_id ON vm_runtimes (current_di_id);
CREATE INDEX vm_runtimes_idx_current_osf_id ON vm_runtimes (current_osf_id);
CREATE INDEX vm_runtimes_idx_host_id ON vm_runtimes (host_id);
CREATE INDEX vm_runtimes_idx_l7r_host_id ON vm_runtimes (l7r_host_id);
CREATE INDEX vm_runtimes_idx_real_user_id ON vm_runtimes (real_user_id);
CREATE INDEX vm_runtimes_idx_user_cmd ON vm_runtimes (user_cmd);
CREATE INDEX vm_runtimes_idx_user_state ON vm_runtimes (user_state);
CREATE INDEX vm_runtimes_idx_vm_cmd ON vm_runtimes (vm_cmd);
CREATE INDEX vm_runtimes_idx_vm_state ON vm_runtimes (vm_state);
CREATE INDEX vm_properties_idx_property_id ON vm_properties (property_id);
CREATE INDEX vm_properties_idx_vm_id ON vm_properties (vm_id);
CREATE INDEX user_properties_idx_property_id ON user_properties (property_id);
CREATE INDEX user_properties_idx_user_id ON user_properties (user_id);
CREATE INDEX properties_list_idx_tenant_id ON properties_list (tenant_id);
CREATE INDEX qvd_object_properties_list_idx_property_id ON qvd_object_properties_list (property_id);
