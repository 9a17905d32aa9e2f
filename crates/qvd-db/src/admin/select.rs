//! Lists: from the registry and a filter to rows.

use qvd_model::action::{Entity, Kind, Object, entity};
use qvd_model::filter::{Filter, Operand, Operator, Scalar, Test};

use super::Statement;
use super::relation::{
    LONGEST_SESSION, MAC_PREFIX, OWN, OWN_SESSION, Relation, SHOWN_VALUE, VISIBLE_PROPERTY, relation, shown,
    shown_value,
};
use crate::{Error, Session};

/// A list to be made. Names of fields are proper ones, values are canonical; both were checked before.
#[derive(Debug, Clone)]
pub struct List<'a> {
    /// Of which objects.
    pub object: Object,
    /// Which rows.
    pub filter: &'a Filter,
    /// Which of them may be seen.
    pub scope: &'a Scope,
    /// Which members.
    pub fields: &'a [&'a str],
    /// Which custom properties beside them, by key.
    pub properties: &'a [String],
    /// By which fields.
    pub order: &'a [&'a str],
    /// From high to low.
    pub descending: bool,
    /// Rows to leave out at the start.
    pub skip: i64,
    /// Rows to read at most; `None` for all.
    pub limit: Option<i64>,
    /// How pages follow each other.
    pub paging: Paging<'a>,
    /// What is no column of a table.
    pub marks: Marks<'a>,
}

/// Values from outside the database that stand in rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks<'a> {
    /// First half of the hardware addresses of VMs.
    pub mac_prefix: &'a str,
    /// The digest of the session that asks.
    pub own_session: &'a str,
    /// How many seconds a session lives at most.
    pub longest_session: i64,
}

/// How the pages of a list follow each other.
#[derive(Debug, Clone, Copy)]
pub enum Paging<'a> {
    /// By number of rows to leave out; all rows are counted.
    Counted,
    /// After the row whose [`Rows::last`] this was, so that what is made or removed meanwhile moves no other row.
    After {
        /// Where the page begins; `None` for the first one.
        row: Option<&'a [Option<String>]>,
        /// Whether all rows are counted as well.
        count: bool,
    },
}

/// Whose rows may be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of all tenants.
    All,
    /// Those of one tenant.
    Tenant(i32),
}

impl Scope {
    /// The one tenant, if it is one.
    pub(crate) const fn tenant(&self) -> Option<i32> {
        match self {
            Self::All => None,
            Self::Tenant(tenant) => Some(*tenant),
        }
    }
}

/// Rows as the text of JSON objects, and how many there are in all.
#[derive(Debug)]
pub struct Rows {
    /// The rows that were asked for.
    pub rows: Vec<String>,
    /// How many match; `None` if nobody asked.
    pub total: Option<i64>,
    /// Where the last of the rows stands in the order, if there are more; with [`Paging::After`] only.
    pub last: Option<Vec<Option<String>>>,
}

/// What a row is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: i32,
    /// Its name at the moment.
    pub name: String,
    /// Its tenant, if it has one.
    pub tenant: Option<i32>,
}

/// How the database would make a list: for finding out why one is slow.
pub async fn plan(session: &impl Session, list: &List<'_>) -> Result<String, Error> {
    const NAME: &str = "explain a list";
    let mut statement = page(list)?;
    statement.text = format!("EXPLAIN {}", statement.text);
    let rows = statement.query(session, NAME).await?;
    let lines = rows.iter().map(|row| crate::column(NAME, row, "QUERY PLAN"));
    Ok(lines.collect::<Result<Vec<String>, _>>()?.join("\n"))
}

/// Makes a list.
pub async fn list(session: &impl Session, list: &List<'_>) -> Result<Rows, Error> {
    const NAME: &str = "list";
    let mut found = page(list)?.query(session, NAME).await?;
    let (counted, keyed) = match list.paging {
        Paging::Counted => (true, false),
        Paging::After { count, .. } => (count, true),
    };
    let limit = list.limit.and_then(|limit| usize::try_from(limit).ok());
    // One more than asked for was read to see whether there is a next page.
    let more = keyed && limit.is_some_and(|limit| found.len() > limit);
    if let (true, Some(limit)) = (more, limit) {
        found.truncate(limit);
    }
    let last = match found.last() {
        Some(row) if more => Some(crate::column(NAME, row, "place")?),
        _ => None,
    };
    let rows = found
        .iter()
        .map(|row| crate::column(NAME, row, "row_to_json"))
        .collect::<Result<Vec<String>, _>>()?;
    let total = if counted { Some(total(session, list, rows.len(), more).await?) } else { None };
    Ok(Rows { rows, total, last })
}

async fn total(session: &impl Session, list: &List<'_>, read: usize, more: bool) -> Result<i64, Error> {
    let read = i64::try_from(read).unwrap_or(i64::MAX);
    let complete = match list.paging {
        Paging::Counted => list.limit.is_none_or(|limit| read < limit) && (read > 0 || list.skip <= 0),
        Paging::After { row, .. } => row.is_none() && !more,
    };
    if complete { Ok(list.skip.max(0) + read) } else { count(session, list).await }
}

/// The statement that reads the rows of a page.
fn page(list: &List<'_>) -> Result<Statement, Error> {
    let relation = known(list.object)?;
    let mut statement = Statement::default();
    let shared = relation.shared;
    let mut condition = conditions(&mut statement, list.object, relation, list.filter, list.scope, shared)?;
    let mut members = list
        .fields
        .iter()
        .map(|field| {
            let expression = place(list.object, relation, field)?;
            Ok(format!("{} AS \"{field}\"", shown(list.object, field, expression)))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let keyed = matches!(list.paging, Paging::After { .. });
    let row = if !list.properties.is_empty() {
        members.push(property_members(&mut statement, list, relation)?);
        "(to_jsonb(page) - '__properties' - '__place' || page.\"__properties\")::text AS row_to_json"
            .to_owned()
    } else if keyed {
        let named = list.fields.iter().map(|field| format!("page.\"{field}\"")).collect::<Vec<_>>();
        format!("(SELECT row_to_json(m)::text FROM (SELECT {}) AS m) AS row_to_json", named.join(", "))
    } else {
        "row_to_json(page)::text".to_owned()
    };
    let order = ordering(list, relation)?;
    let by = order.iter().map(Rank::sql).collect::<Vec<_>>().join(", ");
    let mut limit = list.limit;
    let mut place = "";
    if let Paging::After { row, .. } = list.paging {
        place = ", page.\"__place\" AS place";
        if let Some(row) = row {
            condition = format!("{condition} AND {}", behind(&mut statement, &order, row));
        }
        limit = limit.map(|limit| limit.saturating_add(1));
        let texts = order.iter().map(|rank| format!("({})::text", rank.expression)).collect::<Vec<_>>();
        members.push(format!("ARRAY[{}] AS \"__place\"", texts.join(", ")));
    }
    let members = members.join(", ");
    let tables = relation.tables(format!("{members} {condition} {by}"));
    let limit = limit.map_or_else(String::new, |n| format!(" LIMIT {n}"));
    statement.text = format!(
        "SELECT {row}{place} FROM (SELECT {members} FROM {tables} WHERE {condition} \
         ORDER BY {by}{limit} OFFSET {}) AS page",
        list.skip.max(0)
    );
    fill_in(&mut statement, list);
    Ok(statement)
}

/// One expression of an order.
struct Rank {
    expression: &'static str,
    kind: Kind,
    descending: bool,
}

impl Rank {
    fn sql(&self) -> String {
        format!("{} {}", self.expression, if self.descending { "DESC" } else { "ASC" })
    }
}

/// By what a list is ordered. The id makes the order complete, so that pages neither repeat nor lose rows.
fn ordering(list: &List<'_>, relation: &Relation) -> Result<Vec<Rank>, Error> {
    let entity = entity(list.object);
    let ranks = list.order.iter().map(|field| (*field, list.descending)).chain([("id", false)]);
    ranks
        .map(|(field, descending)| {
            // What has no number is told apart by a text.
            let kind = entity.field(field).map_or(Kind::Text(0), |f| f.kind);
            Ok(Rank { expression: place(list.object, relation, field)?, kind, descending })
        })
        .collect()
}

/// The condition of rows that come after a place in the order. As PostgreSQL orders, NULL is above everything.
fn behind(statement: &mut Statement, order: &[Rank], row: &[Option<String>]) -> String {
    let mut alternatives = Vec::new();
    let mut equal = String::new();
    for (Rank { expression, kind, descending }, value) in order.iter().zip(row) {
        let last = alternatives.len() + 1 == order.len();
        let after = match (value, descending) {
            (None, true) => format!("{expression} IS NOT NULL"),
            (None, false) => "false".to_owned(),
            // The number is never NULL and always whole, whatever it is shown as; so an index is enough.
            (Some(value), false) if last && *kind != Kind::Text(0) => {
                format!("{expression} > {}::bigint", statement.bind(*kind, Some(value)))
            }
            (Some(value), true) => format!("{expression} < {}", statement.bind(*kind, Some(value))),
            (Some(value), false) => {
                let value = statement.bind(*kind, Some(value));
                format!("({expression} > {value} OR {expression} IS NULL)")
            }
        };
        alternatives.push(format!("({equal}{after})"));
        if !last {
            equal.push_str(&match value {
                None => format!("{expression} IS NULL AND "),
                Some(value) => format!("{expression} = {} AND ", statement.bind(*kind, Some(value))),
            });
        }
    }
    format!("({})", alternatives.join(" OR "))
}

/// Puts configured values in place of their marks.
fn fill_in(statement: &mut Statement, list: &List<'_>) {
    let Marks { mac_prefix, own_session, longest_session } = list.marks;
    let longest = longest_session.to_string();
    for (mark, value) in [(MAC_PREFIX, mac_prefix), (OWN_SESSION, own_session), (LONGEST_SESSION, &longest)] {
        if statement.text.contains(mark) {
            let bound = statement.bind(Kind::Text(0), Some(value));
            statement.text = statement.text.replace(mark, &bound);
        }
    }
    if statement.text.contains(SHOWN_VALUE) {
        statement.text = statement.text.replace(SHOWN_VALUE, &shown_value());
    }
    if statement.text.contains(VISIBLE_PROPERTY) {
        let visible = visible_property(statement, list.scope);
        statement.text = statement.text.replace(VISIBLE_PROPERTY, &visible);
    }
}

/// Whether the property `l` may be seen: that of another tenant may not.
fn visible_property(statement: &mut Statement, scope: &Scope) -> String {
    match scope {
        Scope::All => "true".to_owned(),
        Scope::Tenant(tenant) => {
            format!("l.tenant_id = {}", statement.bind(Kind::Int, Some(&tenant.to_string())))
        }
    }
}

/// The stored values of a property of an object, as the end of a query.
fn stored_values(
    statement: &mut Statement,
    object: Object,
    relation: &Relation,
    key: &str,
    scope: &Scope,
) -> Result<String, Error> {
    let id = place(object, relation, "id")?;
    let key = statement.bind(Kind::Text(0), Some(key));
    let visible = visible_property(statement, scope);
    Ok(format!(
        "FROM {object}_properties AS stored JOIN qvd_object_properties_list AS q ON q.id = stored.property_id \
         JOIN properties_list AS l ON l.id = q.property_id \
         WHERE stored.{object}_id = {id} AND l.key = {key} AND {visible}"
    ))
}

/// One object of the wanted properties; of several of a key the one of the lower tenant counts.
fn property_members(
    statement: &mut Statement,
    list: &List<'_>,
    relation: &Relation,
) -> Result<String, Error> {
    let mut pairs = Vec::new();
    for key in list.properties {
        let name = statement.bind(Kind::Text(0), Some(key));
        let values = stored_values(statement, list.object, relation, key, list.scope)?;
        pairs.push(format!("{name}, (SELECT {SHOWN_VALUE} {values} ORDER BY l.tenant_id DESC LIMIT 1)"));
    }
    Ok(format!("jsonb_build_object({}) AS \"__properties\"", pairs.join(", ")))
}

async fn count(session: &impl Session, list: &List<'_>) -> Result<i64, Error> {
    const NAME: &str = "count";
    let relation = known(list.object)?;
    let mut statement = Statement::default();
    let shared = relation.shared;
    let condition = conditions(&mut statement, list.object, relation, list.filter, list.scope, shared)?;
    let tables = relation.tables(condition.clone());
    statement.text = format!("SELECT count(*) AS n FROM {tables} WHERE {condition}");
    fill_in(&mut statement, list);
    let rows = statement.query(session, NAME).await?;
    rows.first().map_or(Ok(0), |row| crate::column(NAME, row, "n"))
}

/// The rows that a filter means, by id.
pub async fn identities(
    session: &impl Session,
    object: Object,
    filter: &Filter,
    scope: &Scope,
) -> Result<Vec<Identity>, Error> {
    const NAME: &str = "find the selected objects";
    let relation = known(object)?;
    let mut statement = Statement::default();
    // Seen by everybody, changed only by those above.
    let condition = conditions(&mut statement, object, relation, filter, scope, false)?;
    let id = place(object, relation, "id")?;
    let key = place(object, relation, entity(object).key)?;
    let tenant = relation.tenant.unwrap_or("NULL::integer");
    let tables = relation.tables(format!("{condition} {id} {key} {tenant}"));
    statement.text = format!(
        "SELECT {id} AS id, {key}::text AS name, {tenant} AS tenant FROM {tables} WHERE {condition} ORDER BY {id}"
    );
    let rows = statement.query(session, NAME).await?;
    rows.iter()
        .map(|row| {
            Ok(Identity {
                id: crate::column(NAME, row, "id")?,
                name: crate::column::<Option<String>>(NAME, row, "name")?.unwrap_or_default(),
                tenant: crate::column(NAME, row, "tenant")?,
            })
        })
        .collect()
}

fn known(object: Object) -> Result<&'static Relation, Error> {
    relation(object).ok_or_else(|| broken("list", &format!("{object} has no relation")))
}

fn place(object: Object, relation: &Relation, field: &str) -> Result<&'static str, Error> {
    relation.expression(field).ok_or_else(|| broken("list", &format!("{object} has no column for {field}")))
}

fn broken(operation: &'static str, problem: &dyn std::fmt::Display) -> Error {
    Error::Row { operation, column: "-", problem: problem.to_string() }
}

fn conditions(
    statement: &mut Statement,
    object: Object,
    relation: &Relation,
    filter: &Filter,
    scope: &Scope,
    shared: bool,
) -> Result<String, Error> {
    let mut all = vec![condition(statement, object, relation, filter, scope)?];
    if let (Scope::Tenant(tenant), Some(column)) = (scope, relation.tenant) {
        let own = statement.bind(Kind::Int, Some(&tenant.to_string()));
        let global = if shared { ", -1" } else { "" };
        all.push(format!("{column} IN ({own}{global})"));
    }
    all.extend(relation.hidden.map(str::to_owned));
    Ok(all.join(" AND "))
}

fn condition(
    statement: &mut Statement,
    object: Object,
    relation: &Relation,
    filter: &Filter,
    scope: &Scope,
) -> Result<String, Error> {
    let mut group = |members: &[Filter], sign: &str, none: &str| {
        if members.is_empty() {
            return Ok(none.to_owned());
        }
        let parts = members
            .iter()
            .map(|member| condition(statement, object, relation, member, scope))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(format!("({})", parts.join(sign)))
    };
    match filter {
        Filter::And(members) => group(members, " AND ", "true"),
        Filter::Or(members) => group(members, " OR ", "false"),
        Filter::Not(inner) => {
            Ok(format!("({} IS NOT TRUE)", condition(statement, object, relation, inner, scope)?))
        }
        Filter::Test(test) => {
            let entity = entity(object);
            if let Some((_, members)) = relation.sets.iter().find(|(name, _)| *name == test.field) {
                let members = match (scope.tenant(), members.split_once(OWN)) {
                    (Some(tenant), Some((before, column))) => {
                        let own = statement.bind(Kind::Int, Some(&tenant.to_string()));
                        format!("{before}{own} = {column}")
                    }
                    (None, Some((before, _))) => format!("{before}true"),
                    (_, None) => (*members).to_owned(),
                };
                let one = comparison(statement, kind(entity, &test.field), "member.value", test);
                return Ok(format!("EXISTS (SELECT 1 FROM ({members}) AS member(value) WHERE {one})"));
            }
            if object.properties().is_some() && entity.field(&test.field).is_none() {
                let values = stored_values(statement, object, relation, &test.field, scope)?;
                let one = comparison(statement, Kind::Text(0), "stored.value", test);
                return Ok(format!("EXISTS (SELECT 1 {values} AND {one})"));
            }
            let expression = place(object, relation, &test.field)?;
            Ok(comparison(statement, kind(entity, &test.field), expression, test))
        }
    }
}

fn kind(entity: &Entity, field: &str) -> Kind {
    entity.field(field).map_or(Kind::Int, |f| f.kind)
}

fn comparison(statement: &mut Statement, kind: Kind, expression: &str, test: &Test) -> String {
    let (kind, expression) = match test.operator {
        Operator::Like if !kind.is_text() => (Kind::Text(0), format!("({expression})::text")),
        _ => (kind, expression.to_owned()),
    };
    match (&test.operand, test.operator) {
        (Operand::One(None), Operator::Equal) => format!("{expression} IS NULL"),
        (Operand::One(None), Operator::Different) => format!("{expression} IS NOT NULL"),
        (Operand::One(None), _) => "false".to_owned(),
        (Operand::One(Some(value)), operator) => {
            format!("{expression} {} {}", sign(operator), statement.bind(kind, Some(value)))
        }
        (Operand::Range(from, to), _) => {
            let from = statement.bind(kind, Some(from));
            format!("{expression} BETWEEN {from} AND {}", statement.bind(kind, Some(to)))
        }
        (Operand::Many(values), operator) => several(statement, kind, &expression, values, operator),
    }
}

fn several(
    statement: &mut Statement,
    kind: Kind,
    expression: &str,
    values: &[Scalar],
    operator: Operator,
) -> String {
    let none = values.iter().any(Option::is_none);
    let values: Vec<String> = values.iter().flatten().cloned().collect();
    let empty = values.is_empty();
    let array = statement.bind_many(kind, values);
    match operator {
        Operator::Different => {
            let listed = if empty { "true".to_owned() } else { format!("{expression} <> ALL ({array})") };
            let null = if none { format!(" AND {expression} IS NOT NULL") } else { String::new() };
            // An unused parameter would have no type.
            format!("({listed}{null} AND {array} IS NOT NULL)")
        }
        _ => {
            let null = if none { format!(" OR {expression} IS NULL") } else { String::new() };
            format!("({expression} {} ANY ({array}){null})", sign(operator))
        }
    }
}

const fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "=",
        Operator::Different => "<>",
        Operator::Less => "<",
        Operator::AtMost => "<=",
        Operator::Greater => ">",
        Operator::AtLeast => ">=",
        Operator::Like => "LIKE",
    }
}
