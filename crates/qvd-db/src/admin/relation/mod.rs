//! Where the fields of the registry are kept.

mod desktops;
mod images;
mod log;
mod properties;
mod tenancy;
mod views;

use qvd_model::action::{Kind, Object, Status, entity};

use crate::Sql;

/// How an object lies in tables.
pub(crate) struct Relation {
    /// The main table, under its own name, with everything that is always there.
    pub(crate) from: &'static str,
    /// Further tables by alias, later ones may need earlier ones; they are joined when something names them.
    pub(crate) joins: &'static [(&'static str, &'static str)],
    /// Expressions of the fields.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// Fields with several values per row, as queries of one column: a comparison holds if it does for one of them.
    pub(crate) sets: &'static [(&'static str, &'static str)],
    /// The tenant of a row; `None` if rows have none.
    pub(crate) tenant: Option<&'static str>,
    /// Whether everybody sees the rows of the tenant of global things.
    pub(crate) shared: bool,
    /// Rows that nobody sees.
    pub(crate) hidden: Option<&'static str>,
    /// Tables and columns that are written.
    pub(crate) storage: Option<Storage>,
}

/// Stands for the configured first half of hardware addresses.
pub(crate) const MAC_PREFIX: &str = "{mac_prefix}";

/// Stands for the digest of the session that asks.
pub(crate) const OWN_SESSION: &str = "{own_session}";

/// Stands for the seconds that a session lives at most.
pub(crate) const LONGEST_SESSION: &str = "{longest_session}";

/// Stands, before a column with a tenant, for the condition that it is in scope: hosts belong to nobody, but the VMs
/// on them do.
pub(crate) const OWN: &str = "{own}";

/// Stands for the condition that the property `l` may be seen.
pub(crate) const VISIBLE_PROPERTY: &str = "{visible_property}";

/// Stands for the value of the property `l` as it is shown.
pub(crate) const SHOWN_VALUE: &str = "{shown_value}";

/// What stands for a secret that is not shown.
const MASK: &str = "**********";

/// The value of the property `l`, or asterisks for a secret: one whose name says so, or that is sealed.
pub(crate) fn shown_value() -> String {
    let parts = qvd_model::config::SECRET_PARTS.join("|");
    let prefix = crate::vault::PREFIX;
    format!(
        "CASE WHEN l.key ~* '({parts})' OR starts_with(stored.value, '{prefix}') THEN '{MASK}' ELSE stored.value END"
    )
}

/// What is written for an object.
pub(crate) struct Storage {
    /// The table of the object.
    pub(crate) table: &'static str,
    /// Columns of that table by field.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// The table beside it, and its column with the id of the object.
    pub(crate) side: Option<(&'static str, &'static str)>,
    /// Columns of the side table by field.
    pub(crate) side_columns: &'static [(&'static str, &'static str)],
    /// Columns with the same value in every row of this object.
    pub(crate) constants: &'static [(&'static str, &'static str)],
    /// Whether the table says who made a row, and when.
    pub(crate) created: bool,
    /// Rows that are made together with it; `$1` is its id.
    pub(crate) companions: &'static [Sql],
    /// What forbids its deletion: a row means refusal, its first column is the reason. `$1` is its id.
    pub(crate) guards: &'static [(Sql, Status)],
    /// What goes before it; `$1` is its id.
    pub(crate) belongings: &'static [Sql],
}

impl Relation {
    /// The expression of a field.
    pub(crate) fn expression(&self, field: &str) -> Option<&'static str> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, expression)| *expression)
    }

    /// The tables that expressions name.
    pub(crate) fn tables(&self, mut text: String) -> String {
        let mut wanted = Vec::new();
        for (alias, join) in self.joins.iter().rev() {
            if text.contains(&format!("{alias}.")) {
                text.push_str(join);
                wanted.push(*join);
            }
        }
        wanted.reverse();
        std::iter::once(self.from).chain(wanted).collect::<Vec<_>>().join(" ")
    }
}

/// The relation of an object; settings are not rows but layers, so they have none.
pub(crate) const fn relation(object: Object) -> Option<&'static Relation> {
    match object {
        Object::Vm => Some(&desktops::VM),
        Object::User | Object::UserState => Some(&desktops::USER),
        Object::Host | Object::HostState => Some(&desktops::HOST),
        Object::Osf => Some(&images::OSF),
        Object::Di => Some(&images::DI),
        Object::Tag => Some(&images::TAG),
        Object::Tenant | Object::OwnTenant | Object::ConsoleSetup => Some(&tenancy::TENANT),
        Object::Administrator | Object::OwnAdministrator => Some(&tenancy::ADMINISTRATOR),
        Object::Event => Some(&tenancy::EVENT),
        Object::Property => Some(&properties::PROPERTY),
        Object::UserProperty => Some(&properties::USER_PROPERTY),
        Object::VmProperty => Some(&properties::VM_PROPERTY),
        Object::HostProperty => Some(&properties::HOST_PROPERTY),
        Object::OsfProperty => Some(&properties::OSF_PROPERTY),
        Object::DiProperty => Some(&properties::DI_PROPERTY),
        Object::Role => Some(&tenancy::ROLE),
        Object::Log => Some(&log::LOG),
        Object::Token => Some(&tenancy::TOKEN),
        Object::Session => Some(&tenancy::SESSION),
        Object::TenantView => Some(&views::TENANT_VIEW),
        Object::Config
        | Object::SecondFactor
        | Object::Certificate
        | Object::Acl
        | Object::AdministratorAcl
        | Object::RoleAcl
        | Object::TenantAttributeView
        | Object::TenantPropertyView
        | Object::AdministratorView
        | Object::AdministratorAttributeView
        | Object::AdministratorPropertyView => None,
    }
}

/// The fixed statements of the relations.
pub(crate) fn statements() -> impl Iterator<Item = Sql> {
    let storages = Object::ALL.iter().filter_map(|o| relation(*o)?.storage.as_ref());
    storages.flat_map(|s| {
        let guards = s.guards.iter().map(|(sql, _)| *sql);
        s.companions.iter().copied().chain(guards).chain(s.belongings.iter().copied())
    })
}

/// How a field is shown.
pub(crate) fn shown(object: Object, field: &str, expression: &str) -> String {
    match entity(object).field(field).map(|f| f.kind) {
        Some(Kind::Switch) => format!("CASE WHEN {expression} THEN 1 ELSE 0 END"),
        Some(Kind::Moment) => format!("to_char({expression}, 'YYYY-MM-DD\"T\"HH24:MI:SS')"),
        _ => expression.to_owned(),
    }
}

/// The values of the properties of an object, by number of the property.
macro_rules! stored_properties {
    ($table:literal, $column:literal, $id:literal) => {
        concat!(
            "(SELECT coalesce(json_object_agg(l.id, json_build_object('key', l.key, 'value', {shown_value}, \
             'tenant_id', l.tenant_id) ORDER BY l.id), '{}') FROM ",
            $table,
            " AS stored JOIN qvd_object_properties_list AS q ON q.id = stored.property_id \
             JOIN properties_list AS l ON l.id = q.property_id WHERE stored.",
            $column,
            " = ",
            $id,
            " AND {visible_property})"
        )
    };
}
pub(super) use stored_properties;

/// Creation columns of a main table.
macro_rules! with_creation {
    ($table:literal, [$($pair:expr),* $(,)?]) => {
        &[
            $($pair,)*
            ("creation_date", concat!($table, ".creation_date")),
            ("creation_admin_id", concat!($table, ".creation_admin_id")),
            ("creation_admin_name", concat!($table, ".creation_admin_name")),
        ]
    };
}
pub(super) use with_creation;

#[cfg(test)]
mod tests {
    use qvd_model::action::Access;

    use super::*;

    /// A field without a place would be refused only when somebody uses it.
    #[test]
    fn every_field_of_the_registry_has_a_place() {
        for object in Object::ALL {
            let Some(relation) = relation(*object) else { continue };
            for field in entity(*object).fields {
                let used = field.filter || field.order || field.show != qvd_model::action::Show::Never;
                let set = relation.sets.iter().any(|(name, _)| *name == field.name);
                assert!(
                    !used || set || relation.expression(field.name).is_some(),
                    "{object}: {}",
                    field.name
                );
                if field.create == Access::No && field.update.is_none() {
                    continue;
                }
                let storage = relation.storage.as_ref().unwrap();
                let mut columns = storage.columns.iter().chain(storage.side_columns);
                assert!(
                    columns.any(|(name, _)| *name == field.name),
                    "{object}: {} is not stored",
                    field.name
                );
            }
        }
    }
}
