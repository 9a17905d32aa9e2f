//! Which columns and filters the console shows.

use crate::{Error, Session, Sql};

const PROPERTY: Sql = Sql::new(
    "find the property of a view",
    "SELECT l.tenant_id, l.key FROM qvd_object_properties_list AS q JOIN properties_list AS l ON l.id = q.property_id \
     WHERE q.id = $1",
);
const TENANT_ATTRIBUTE: Sql = Sql::new(
    "set a column of a tenant",
    "INSERT INTO views_setups_attributes_tenant (tenant_id, field, qvd_object, view_type, device_type, visible) \
     VALUES ($1, $2, $3::text::administrator_and_tenant_views_setups_qvd_object_enum, $4::text::administrator_and_tenant_views_setups_view_type_enum, \
     $5::text::administrator_and_tenant_views_setups_device_type_enum, $6) \
     ON CONFLICT (tenant_id, field, view_type, device_type, qvd_object) \
     DO UPDATE SET visible = excluded.visible RETURNING id",
);
const ADMINISTRATOR_ATTRIBUTE: Sql = Sql::new(
    "set a column of an administrator",
    "INSERT INTO views_setups_attributes_administrator \
     (administrator_id, field, qvd_object, view_type, device_type, visible) \
     VALUES ($1, $2, $3::text::administrator_and_tenant_views_setups_qvd_object_enum, $4::text::administrator_and_tenant_views_setups_view_type_enum, \
     $5::text::administrator_and_tenant_views_setups_device_type_enum, $6) \
     ON CONFLICT (administrator_id, field, view_type, device_type, qvd_object) \
     DO UPDATE SET visible = excluded.visible RETURNING id",
);
const TENANT_PROPERTY: Sql = Sql::new(
    "set a property column of a tenant",
    "INSERT INTO views_setups_properties_tenant (qvd_obj_prop_id, view_type, device_type, visible) \
     VALUES ($1, $2::text::administrator_and_tenant_views_setups_view_type_enum, $3::text::administrator_and_tenant_views_setups_device_type_enum, $4) \
     ON CONFLICT (qvd_obj_prop_id, view_type, device_type) DO UPDATE SET visible = excluded.visible RETURNING id",
);
const ADMINISTRATOR_PROPERTY: Sql = Sql::new(
    "set a property column of an administrator",
    "INSERT INTO views_setups_properties_administrator \
     (administrator_id, qvd_obj_prop_id, view_type, device_type, visible) \
     VALUES ($1, $2, $3::text::administrator_and_tenant_views_setups_view_type_enum, $4::text::administrator_and_tenant_views_setups_device_type_enum, $5) \
     ON CONFLICT (administrator_id, qvd_obj_prop_id, view_type, device_type) \
     DO UPDATE SET visible = excluded.visible RETURNING id",
);
const OF_TENANTS: Sql = Sql::new(
    "read what tenants set",
    "SELECT id, tenant_id, field, qvd_object::text, view_type::text, device_type::text, false AS property, \
     visible FROM views_setups_attributes_tenant WHERE $1::integer IS NULL OR tenant_id = $1 \
     UNION ALL SELECT v.id, l.tenant_id, l.key, q.qvd_object::text, v.view_type::text, v.device_type::text, true, v.visible \
     FROM views_setups_properties_tenant AS v JOIN qvd_object_properties_list AS q ON q.id = v.qvd_obj_prop_id \
     JOIN properties_list AS l ON l.id = q.property_id WHERE $1::integer IS NULL OR l.tenant_id = $1",
);
const OF_ADMINISTRATOR: Sql = Sql::new(
    "read what an administrator set",
    "SELECT id, NULL::integer AS tenant_id, field, qvd_object::text, view_type::text, device_type::text, \
     false AS property, visible FROM views_setups_attributes_administrator WHERE administrator_id = $1 \
     UNION ALL SELECT v.id, NULL, l.key, q.qvd_object::text, v.view_type::text, v.device_type::text, true, v.visible \
     FROM views_setups_properties_administrator AS v \
     JOIN qvd_object_properties_list AS q ON q.id = v.qvd_obj_prop_id \
     JOIN properties_list AS l ON l.id = q.property_id WHERE v.administrator_id = $1",
);
const FORGET_TENANT_ATTRIBUTE: Sql =
    Sql::new("reset a column of a tenant", "DELETE FROM views_setups_attributes_tenant WHERE id = $1");
const FORGET_TENANT_PROPERTY: Sql = Sql::new(
    "reset a property column of a tenant",
    "DELETE FROM views_setups_properties_tenant WHERE id = $1",
);
const FORGET_ADMINISTRATOR_ATTRIBUTE: Sql = Sql::new(
    "reset a column of an administrator",
    "DELETE FROM views_setups_attributes_administrator WHERE id = $1",
);
const FORGET_ADMINISTRATOR_PROPERTY: Sql = Sql::new(
    "reset a property column of an administrator",
    "DELETE FROM views_setups_properties_administrator WHERE id = $1",
);

pub(crate) const ALL: &[Sql] = &[
    PROPERTY,
    TENANT_ATTRIBUTE,
    ADMINISTRATOR_ATTRIBUTE,
    TENANT_PROPERTY,
    ADMINISTRATOR_PROPERTY,
    OF_TENANTS,
    OF_ADMINISTRATOR,
    FORGET_TENANT_ATTRIBUTE,
    FORGET_TENANT_PROPERTY,
    FORGET_ADMINISTRATOR_ATTRIBUTE,
    FORGET_ADMINISTRATOR_PROPERTY,
];

/// Whose view it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Of everybody in a tenant.
    Tenant(i32),
    /// Of one administrator.
    Administrator(i32),
}

/// What is shown or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// A field of a kind of object.
    Field {
        /// The field.
        field: String,
        /// The kind of object.
        object: String,
    },
    /// An assignment of a property to a kind of object.
    Property(i32),
}

/// Where it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `list_column` or `filter`.
    pub view: String,
    /// `desktop` or `mobile`.
    pub device: String,
}

/// One setting of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its number, among fields or among properties.
    pub id: i32,
    /// The tenant that set it.
    pub tenant: Option<i32>,
    /// The field, or the key of the property.
    pub field: String,
    /// The kind of object.
    pub object: String,
    /// Where.
    pub place: Place,
    /// Whether it is of a property.
    pub property: bool,
    /// Whether it is shown.
    pub visible: bool,
}

/// Tenant and key of a property that is assigned to a kind of object.
pub async fn property(session: &impl Session, assignment: i32) -> Result<Option<(i32, String)>, Error> {
    let row = PROPERTY.query_opt(session, &[&assignment]).await?;
    row.map(|row| Ok((PROPERTY.column(&row, "tenant_id")?, PROPERTY.column(&row, "key")?))).transpose()
}

/// Shows something, or hides it; the result is the number of the setting.
pub async fn set(
    session: &impl Session,
    owner: Owner,
    column: &Column,
    place: &Place,
    visible: bool,
) -> Result<i32, Error> {
    let Place { view, device } = place;
    match (owner, column) {
        (Owner::Tenant(tenant), Column::Field { field, object }) => {
            let sql = TENANT_ATTRIBUTE;
            let row = sql.query_one(session, &[&tenant, field, object, view, device, &visible]).await?;
            sql.column(&row, "id")
        }
        (Owner::Administrator(id), Column::Field { field, object }) => {
            let sql = ADMINISTRATOR_ATTRIBUTE;
            let row = sql.query_one(session, &[&id, field, object, view, device, &visible]).await?;
            sql.column(&row, "id")
        }
        (Owner::Tenant(_), Column::Property(property)) => {
            let sql = TENANT_PROPERTY;
            let row = sql.query_one(session, &[property, view, device, &visible]).await?;
            sql.column(&row, "id")
        }
        (Owner::Administrator(id), Column::Property(property)) => {
            let sql = ADMINISTRATOR_PROPERTY;
            let row = sql.query_one(session, &[&id, property, view, device, &visible]).await?;
            sql.column(&row, "id")
        }
    }
}

/// What tenants set; one of them, or all.
pub async fn of_tenants(session: &impl Session, tenant: Option<i32>) -> Result<Vec<Setting>, Error> {
    settings(OF_TENANTS, session, tenant).await
}

/// What an administrator set.
pub async fn of_administrator(session: &impl Session, administrator: i32) -> Result<Vec<Setting>, Error> {
    settings(OF_ADMINISTRATOR, session, Some(administrator)).await
}

async fn settings(sql: Sql, session: &impl Session, of: Option<i32>) -> Result<Vec<Setting>, Error> {
    let rows = sql.query(session, &[&of]).await?;
    rows.iter()
        .map(|row| {
            Ok(Setting {
                id: sql.column(row, "id")?,
                tenant: sql.column(row, "tenant_id")?,
                field: sql.column(row, "field")?,
                object: sql.column(row, "qvd_object")?,
                place: Place { view: sql.column(row, "view_type")?, device: sql.column(row, "device_type")? },
                property: sql.column(row, "property")?,
                visible: sql.column(row, "visible")?,
            })
        })
        .collect()
}

/// Forgets a setting: what is shown is the default again. Whether it was still there.
pub async fn reset(session: &impl Session, owner: Owner, setting: &Setting) -> Result<bool, Error> {
    let sql = match (owner, setting.property) {
        (Owner::Tenant(_), false) => FORGET_TENANT_ATTRIBUTE,
        (Owner::Tenant(_), true) => FORGET_TENANT_PROPERTY,
        (Owner::Administrator(_), false) => FORGET_ADMINISTRATOR_ATTRIBUTE,
        (Owner::Administrator(_), true) => FORGET_ADMINISTRATOR_PROPERTY,
    };
    Ok(sql.execute(session, &[&setting.id]).await? > 0)
}
