//! What there is once for each caller or once at all, and the counters of users and hosts (`spec/api.md` 5.2, 5.8 and
//! 5.11).

use super::entities::{LANGUAGES, TENANT_ID, field, id};
use super::{Entity, Field, Kind, Object, Tenancy};

pub(super) const OWN_TENANT: Entity = Entity {
    object: Object::OwnTenant,
    fields: &[
        // Administrators of tenants never have this ACL.
        field("name", Kind::Login(80), "name").only_shown().updated(&["tenant.update.name"]),
        field("description", Kind::Text(32768), "free text").updated(&[]),
        field("language", LANGUAGES, "language of its administrators: es, en or auto").updated(&[]),
        field("block", Kind::Count, "rows on a page of the web console").updated(&[]),
    ],
    aliases: &[],
    nested: &[],
    tenancy: Tenancy::None,
    key: "name",
    selectors: &[],
    columns: &[],
};

pub(super) const CONSOLE_SETUP: Entity = Entity {
    object: Object::ConsoleSetup,
    fields: &[
        field("language", LANGUAGES, "language of the administrators of the tenant: es, en or auto")
            .updated(&[]),
        field("block", Kind::Count, "rows on a page of the web console").updated(&[]),
    ],
    aliases: &[],
    nested: &[],
    tenancy: Tenancy::None,
    key: "language",
    selectors: &[],
    columns: &["language", "block"],
};

const fn pem(name: &'static str, help: &'static str) -> Field {
    field(name, Kind::Text(32768), help).hidden().only_shown()
}

pub(super) const CERTIFICATE: Entity = Entity {
    object: Object::Certificate,
    fields: &[
        pem("cert", "certificate as PEM, or its file on the server").required().updated(&[]),
        pem("key", "private key as PEM, or its file on the server").required().updated(&[]),
        pem("crl", "revoked client certificates as PEM, or their file on the server")
            .optional(&[])
            .updated(&[]),
        pem("ca", "authorities of client certificates as PEM, or their file on the server")
            .optional(&[])
            .updated(&[]),
    ],
    aliases: &[],
    nested: &[],
    tenancy: Tenancy::None,
    key: "cert",
    selectors: &[],
    columns: &[],
};

const fn state(object: Object, fields: &'static [Field], tenancy: Tenancy) -> Entity {
    Entity { object, fields, aliases: &[], nested: &[], tenancy, key: "id", selectors: &[], columns: &[] }
}

pub(super) const USER_STATE: Entity = state(
    Object::UserState,
    &[id(), field("number_of_vms_connected", Kind::Int, "VMs in use").only_shown(), TENANT_ID],
    Tenancy::Own,
);

pub(super) const HOST_STATE: Entity = state(
    Object::HostState,
    &[id(), field("number_of_vms_connected", Kind::Int, "running VMs").only_shown()],
    Tenancy::None,
);
