//! The table of actions (`spec/api.md` 5.1).

use super::Inquiry::{AclCounts, CurrentAdministrator, LogSources, SecondFactor, Staging, Statistics};
use super::Order::{Begin, Confirm, Disconnect, End, ResetSecondFactor, Start, Stop};
use super::Verb::{Create, CreateOrUpdate, Delete, Execute, Inquire, List, Update};
use super::{Action, Object, Verb};

const fn action(name: &'static str, verb: Verb, object: Object, acls: &'static [&'static str]) -> Action {
    Action { name, verb, object, acls, channels: &[] }
}

impl Action {
    const fn refreshed_by(mut self, channels: &'static [&'static str]) -> Self {
        self.channels = channels;
        self
    }
}

const USER_CHANNELS: &[&str] =
    &["user_created", "user_deleted", "user_changed", "vm_created", "vm_deleted", "vm_changed"];
const VM_CHANNELS: &[&str] = &[
    "vm_created",
    "vm_deleted",
    "vm_changed",
    "vm_blocked_or_unblocked",
    "user_created",
    "user_deleted",
    "di_changed",
];
const HOST_CHANNELS: &[&str] = &[
    "host_created",
    "host_deleted",
    "host_changed",
    "host_blocked_or_unblocked",
    "vm_created",
    "vm_deleted",
    "vm_changed",
];
const OSF_CHANNELS: &[&str] = &[
    "osf_created",
    "osf_deleted",
    "osf_changed",
    "vm_created",
    "vm_deleted",
    "di_created",
    "di_deleted",
    "di_changed",
];

const STATISTICS_CHANNELS: &[&str] = &[
    "vm_created",
    "vm_deleted",
    "vm_changed",
    "vm_blocked_or_unblocked",
    "host_created",
    "host_deleted",
    "host_changed",
    "host_blocked_or_unblocked",
    "user_created",
    "user_deleted",
    "user_changed",
    "osf_created",
    "osf_deleted",
    "osf_changed",
    "di_created",
    "di_deleted",
    "di_changed",
];

/// Who may read the log: all of it, or that of one kind of object.
const LOG: &[&str] = &[
    "log.see-main.",
    "administrator.see.log",
    "di.see.log",
    "host.see.log",
    "osf.see.log",
    "role.see.log",
    "tenant.see.log",
    "user.see.log",
    "vm.see.log",
];

/// Every action.
pub const ACTIONS: &[Action] = &[
    action("current_admin_setup", Inquire(CurrentAdministrator), Object::OwnAdministrator, &[]),
    action("myadmin_update", Update, Object::OwnAdministrator, &[]),
    action("mytenant_update", Update, Object::OwnTenant, &["config.wat.*"]),
    action("user_get_list", List, Object::User, &["user.see-main.", "tenant.see.user-list"])
        .refreshed_by(USER_CHANNELS),
    action("user_get_state", List, Object::UserState, &["user.see.vm-list-state"]),
    action("user_create", Create, Object::User, &["user.create."]),
    action("user_update", Update, Object::User, &["user.update.*"]),
    action("user_delete", Delete, Object::User, &["user.delete.*", "tenant.purge."]),
    action("vm_get_list", List, Object::Vm, &["vm.see-main.", "*.see.vm-list"]).refreshed_by(VM_CHANNELS),
    action("vm_create", Create, Object::Vm, &["vm.create.*"]),
    action("vm_update", Update, Object::Vm, &["vm.update.*"]),
    action("vm_delete", Delete, Object::Vm, &["vm.delete.*", "tenant.purge."]),
    action("vm_start", Execute(Start), Object::Vm, &["vm.update.state"]),
    action("vm_stop", Execute(Stop), Object::Vm, &["vm.update.state", "host.update.stop-vms"]),
    action("vm_user_disconnect", Execute(Disconnect), Object::Vm, &["vm.update.disconnect-user"]),
    action("host_get_list", List, Object::Host, &["host.see-main."]).refreshed_by(HOST_CHANNELS),
    action("host_get_state", List, Object::HostState, &["host.see.vm-list-state"]),
    action("host_create", Create, Object::Host, &["host.create.*"]),
    action("host_update", Update, Object::Host, &["host.update.*"]),
    action("host_delete", Delete, Object::Host, &["host.delete."]),
    action("osf_get_list", List, Object::Osf, &["osf.see-main."]).refreshed_by(OSF_CHANNELS),
    action("osf_create", Create, Object::Osf, &["osf.create.*"]),
    action("osf_update", Update, Object::Osf, &["osf.update.*"]),
    action("osf_delete", Delete, Object::Osf, &["osf.delete.*", "tenant.purge."]),
    action("di_get_list", List, Object::Di, &["di.see-main.", "*.see.di-list"]).refreshed_by(&[
        "di_created",
        "di_deleted",
        "di_changed",
    ]),
    action("di_create", Create, Object::Di, &["di.create.*"]),
    action("di_update", Update, Object::Di, &["di.update.*"]),
    action("di_delete", Delete, Object::Di, &["di.delete.*", "tenant.purge."]),
    action("dis_in_staging", Inquire(Staging), Object::Di, &["di.create.*"]),
    action("tag_get_list", List, Object::Tag, &["vm.create.", "vm.update.*"]),
    action("tenant_get_list", List, Object::Tenant, &["tenant.see-main."]),
    action("tenant_create", Create, Object::Tenant, &["tenant.create.*"]),
    action("tenant_update", Update, Object::Tenant, &["tenant.update.*"]),
    action("tenant_delete", Delete, Object::Tenant, &["tenant.delete.*"]),
    action("administrator_get_list", List, Object::Administrator, &["administrator.see-main.*"]),
    action("administrator_create", Create, Object::Administrator, &["administrator.create.*"]),
    action("administrator_update", Update, Object::Administrator, &["administrator.update.*"]),
    action(
        "administrator_delete",
        Delete,
        Object::Administrator,
        &["administrator.delete.*", "tenant.purge."],
    ),
    action("config_get", List, Object::Config, &["config.qvd.*", "tenant.purge."])
        .refreshed_by(&["qvd_config_changed"]),
    action("config_set", CreateOrUpdate, Object::Config, &["config.qvd.*"]),
    action("config_delete", Delete, Object::Config, &["config.qvd.*", "tenant.purge."]),
    action("config_ssl", CreateOrUpdate, Object::Certificate, &["config.qvd.*"]),
    action("config_wat_get_list", List, Object::ConsoleSetup, &["config.wat*"]),
    action("config_wat_update", Update, Object::ConsoleSetup, &["config.wat*"]),
    action("tenant_view_get_list", List, Object::TenantView, &["views.see-main."]),
    action("tenant_attribute_view_set", CreateOrUpdate, Object::TenantAttributeView, &["views.update.*"]),
    action("tenant_property_view_set", CreateOrUpdate, Object::TenantPropertyView, &["views.update.*"]),
    action("tenant_view_reset", Delete, Object::TenantView, &["views.update.*"]),
    action("admin_attribute_view_set", CreateOrUpdate, Object::AdministratorAttributeView, &[]),
    action("admin_property_view_set", CreateOrUpdate, Object::AdministratorPropertyView, &[]),
    action("admin_view_reset", Delete, Object::AdministratorView, &[]),
    action("log_get_list", List, Object::Log, LOG),
    action("sources_in_log", Inquire(LogSources), Object::Log, LOG),
    action("qvd_objects_statistics", Inquire(Statistics), Object::Vm, &["*.stats.*"])
        .refreshed_by(STATISTICS_CHANNELS),
    action("token_get_list", List, Object::Token, &[]),
    action("token_create", Create, Object::Token, &[]),
    action("token_delete", Delete, Object::Token, &[]),
    action("second_factor_see", Inquire(SecondFactor), Object::SecondFactor, &[]),
    action("second_factor_begin", Execute(Begin), Object::SecondFactor, &[]),
    action("second_factor_confirm", Execute(Confirm), Object::SecondFactor, &[]),
    action("second_factor_end", Execute(End), Object::SecondFactor, &[]),
    action(
        "second_factor_reset",
        Execute(ResetSecondFactor),
        Object::Administrator,
        &["administrator.update.password"],
    ),
    action("session_get_list", List, Object::Session, &[]),
    action("session_delete", Delete, Object::Session, &[]),
    action("event_get_list", List, Object::Event, &["*.see-main."]),
    action("role_get_list", List, Object::Role, &["role.see-main."]),
    action("role_create", Create, Object::Role, &["role.create.*"]),
    action("role_update", Update, Object::Role, &["role.update.*"]),
    action("role_delete", Delete, Object::Role, &["role.delete.*", "tenant.purge."]),
    action("acl_get_list", List, Object::Acl, &["role.see.acl-list", "administrator.see.acl-list"]),
    action("get_acls_in_admins", List, Object::AdministratorAcl, &["administrator.see.acl-list"]),
    action("get_acls_in_roles", List, Object::RoleAcl, &["administrator.see.acl-list", "role.see.acl-list"]),
    action(
        "number_of_acls_in_admin",
        Inquire(AclCounts),
        Object::AdministratorAcl,
        &["administrator.see.acl-list"],
    ),
    action(
        "number_of_acls_in_role",
        Inquire(AclCounts),
        Object::RoleAcl,
        &["administrator.see.acl-list", "role.see.acl-list"],
    ),
    action("property_get_list", List, Object::Property, &["property.see-main.*", "tenant.purge."]),
    action("property_create", Create, Object::Property, &["property.manage."]),
    action("property_update", Update, Object::Property, &["property.manage."]),
    action("property_delete", Delete, Object::Property, &["property.manage.", "tenant.purge."]),
    action("user_get_property_list", List, Object::UserProperty, &["user.see.properties"]),
    action("user_create_property_list", Create, Object::UserProperty, &["property.manage."]),
    action("user_delete_property_list", Delete, Object::UserProperty, &["property.manage."]),
    action("vm_get_property_list", List, Object::VmProperty, &["vm.see.properties"]),
    action("vm_create_property_list", Create, Object::VmProperty, &["property.manage."]),
    action("vm_delete_property_list", Delete, Object::VmProperty, &["property.manage."]),
    action("host_get_property_list", List, Object::HostProperty, &["host.see.properties"]),
    action("host_create_property_list", Create, Object::HostProperty, &["property.manage."]),
    action("host_delete_property_list", Delete, Object::HostProperty, &["property.manage."]),
    action("osf_get_property_list", List, Object::OsfProperty, &["osf.see.properties"]),
    action("osf_create_property_list", Create, Object::OsfProperty, &["property.manage."]),
    action("osf_delete_property_list", Delete, Object::OsfProperty, &["property.manage."]),
    action("di_get_property_list", List, Object::DiProperty, &["di.see.properties"]),
    action("di_create_property_list", Create, Object::DiProperty, &["property.manage."]),
    action("di_delete_property_list", Delete, Object::DiProperty, &["property.manage."]),
];
