//! What an object is like as a whole, for the audit log.

use qvd_model::action::{Kind, Object};

use super::Statement;
use super::relation::{Storage, relation};
use crate::{Error, Session};

/// The stored values of an object as the text of a JSON object, passwords as they are stored; `None` if there is no
/// such object, or if objects of its kind are not rows.
///
/// Members are the fields that can be written, then what belongs to the object: `properties` and `acls` as objects,
/// `tags`, `roles` and `kinds` as arrays of names, the state of an image, and the orders to a VM.
pub async fn state(session: &impl Session, object: Object, id: i32) -> Result<Option<String>, Error> {
    const NAME: &str = "read the state of the object";
    let Some(storage) = relation(object).and_then(|r| r.storage.as_ref()) else { return Ok(None) };
    let mut statement = Statement::default();
    let bound = statement.bind(Kind::Int, Some(&id.to_string()));
    let table = storage.table;
    let side = storage
        .side
        .map_or_else(String::new, |(side, key)| format!(" LEFT JOIN {side} ON {side}.{key} = {table}.id"));
    statement.text = format!(
        "SELECT row_to_json(whole)::text AS state FROM (SELECT {} FROM {table}{side} WHERE {table}.id = {bound}) AS whole",
        members(object, storage).join(", ")
    );
    let rows = statement.query(session, NAME).await?;
    rows.first().map(|row| crate::column(NAME, row, "state")).transpose()
}

fn members(object: Object, storage: &Storage) -> Vec<String> {
    let own = storage.columns.iter().map(|pair| (storage.table, pair));
    let side =
        storage.side.iter().flat_map(|(side, _)| storage.side_columns.iter().map(|pair| (*side, pair)));
    let mut members: Vec<_> =
        own.chain(side).map(|(table, (field, column))| format!("{table}.{column} AS \"{field}\"")).collect();
    members.extend(parts(object).iter().map(|(name, part)| format!("{part} AS \"{name}\"")));
    if object.properties().is_some() {
        members.push(format!(
            "(SELECT json_object_agg(l.key, stored.value ORDER BY l.key) FROM {object}_properties AS stored \
             JOIN qvd_object_properties_list AS q ON q.id = stored.property_id \
             JOIN properties_list AS l ON l.id = q.property_id WHERE stored.{object}_id = {}.id) AS properties",
            storage.table
        ));
    }
    members
}

/// What belongs to objects besides their columns.
const fn parts(object: Object) -> &'static [(&'static str, &'static str)] {
    match object {
        Object::Vm => &[
            ("command", "vm_runtimes.vm_cmd"),
            ("user_command", "vm_runtimes.user_cmd"),
            ("host_id", "vm_runtimes.host_id"),
        ],
        Object::Di => &[
            ("state", "di_runtimes.state"),
            ("tags", "(SELECT json_agg(tag ORDER BY tag) FROM di_tags WHERE di_id = dis.id)"),
        ],
        Object::Administrator | Object::OwnAdministrator => &[(
            "roles",
            "(SELECT json_agg(roles.name ORDER BY roles.name) FROM role_administrator_relations AS held \
             JOIN roles ON roles.id = held.role_id WHERE held.administrator_id = administrators.id)",
        )],
        Object::Role => &[
            (
                "acls",
                "(SELECT json_object_agg(acls.name, own.positive ORDER BY acls.name) FROM acl_role_relations AS own \
                 JOIN acls ON acls.id = own.acl_id WHERE own.role_id = roles.id)",
            ),
            (
                "roles",
                "(SELECT json_agg(below.name ORDER BY below.name) FROM role_role_relations AS edge \
                 JOIN roles AS below ON below.id = edge.inherited_id WHERE edge.inheritor_id = roles.id)",
            ),
        ],
        Object::Property => &[(
            "kinds",
            "(SELECT json_agg(q.qvd_object ORDER BY q.qvd_object) FROM qvd_object_properties_list AS q \
             WHERE q.property_id = properties_list.id)",
        )],
        Object::UserProperty
        | Object::VmProperty
        | Object::HostProperty
        | Object::OsfProperty
        | Object::DiProperty => &[
            (
                "key",
                "(SELECT l.key FROM properties_list AS l WHERE l.id = qvd_object_properties_list.property_id)",
            ),
            ("kind", "qvd_object_properties_list.qvd_object"),
        ],
        _ => &[],
    }
}
