//! What an administrator is known by: tokens of programs, sessions, and the second factor of logins.

use super::entities::{TENANT_ID, TENANT_NAME, field, id};
use super::{Entity, Kind, Object, Order, Tenancy};

pub(super) const TOKEN: Entity = Entity {
    object: Object::Token,
    fields: &[
        id(),
        field("name", Kind::Text(64), "what it is for").required(),
        field("admin_id", Kind::Int, "number of its administrator"),
        field("admin_name", Kind::Text(64), "its administrator"),
        field("read_only", Kind::Switch, "it changes nothing").optional(&[]),
        field(
            "scope",
            Kind::Text(32768),
            "ACLs that it is limited to, with blanks or commas between them, * for any text; empty for all",
        )
        .optional(&[]),
        field("manages_tokens", Kind::Switch, "it may make and remove tokens").optional(&[]),
        field("expiration", Kind::Moment, "when it ends").required(),
        field("creation_date", Kind::Moment, "when it was made"),
        field("last_used", Kind::Moment, "when it was used last, to a minute"),
        TENANT_ID,
        TENANT_NAME,
    ],
    aliases: &[
        ("admin", "admin_name"),
        ("tenant", "tenant_name"),
        ("acls", "scope"),
        ("expires", "expiration"),
    ],
    nested: &[],
    tenancy: Tenancy::Inherited,
    key: "name",
    selectors: &[],
    columns: &["id", "admin", "name", "read_only", "scope", "expiration", "last_used"],
};

pub(super) const SESSION: Entity = Entity {
    object: Object::Session,
    fields: &[
        id(),
        field("admin_id", Kind::Int, "number of its administrator"),
        field("admin_name", Kind::Text(64), "its administrator"),
        field("opened", Kind::Moment, "when its administrator logged in"),
        field("last_used", Kind::Moment, "when it was used last, to a minute"),
        field("address", Kind::Text(64), "from where it was opened"),
        field("user_agent", Kind::Text(200), "by which program, as that calls itself"),
        field("expires", Kind::Moment, "when it ends unless it is used"),
        field("ends", Kind::Moment, "when it ends whatever happens"),
        field("current", Kind::Switch, "it is the one that asks"),
        TENANT_ID,
        TENANT_NAME,
    ],
    aliases: &[("admin", "admin_name"), ("tenant", "tenant_name"), ("since", "opened"), ("ip", "address")],
    nested: &[],
    tenancy: Tenancy::Inherited,
    key: "admin_name",
    selectors: &[],
    columns: &["id", "admin", "opened", "last_used", "address", "user_agent", "expires", "current"],
};

pub(super) const SECOND_FACTOR: Entity = Entity {
    object: Object::SecondFactor,
    fields: &[field("code", Kind::Text(64), "code of the authenticator, or to end it a recovery code")
        .hidden()
        .only_shown()
        .with_orders(&[Order::Confirm, Order::End])],
    aliases: &[],
    nested: &[],
    tenancy: Tenancy::None,
    key: "code",
    selectors: &[],
    columns: &[],
};
