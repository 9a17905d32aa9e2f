//! Tenants, users and tokens.

use qvd_model::{TenantId, UserId, VmId};
use secrecy::SecretString;
use tokio_postgres::Row;

use crate::{Database, Error, Sql};

const TENANT: Sql = Sql::new(
    "read the tenant",
    "SELECT id, coalesce(blocked, false) AS blocked FROM tenants WHERE name = $1",
);
const USER: Sql = Sql::new(
    "read the user",
    "SELECT id, login, tenant_id, blocked, password FROM users WHERE tenant_id = $1 AND login = $2",
);
const REPLACE: Sql =
    Sql::new("replace the password hash", "UPDATE users SET password = $3 WHERE id = $1 AND password = $2");
const TOKEN: Sql = Sql::new(
    "read the token",
    "SELECT t.token, t.vm_id, t.multi_use, p.id AS auth_params_id, p.parameters::text AS parameters, u.id, u.login, u.tenant_id, \
     u.blocked OR coalesce(n.blocked, false) AS blocked, NULL::text AS password \
     FROM user_tokens AS t JOIN users AS u ON u.id = t.user_id JOIN tenants AS n ON n.id = u.tenant_id \
     LEFT JOIN user_auth_parameters AS p ON p.id = t.auth_params_id \
     WHERE t.token IN ($1, $2) AND NOT t.ticket AND t.expiration >= extract(epoch FROM now())::integer",
);

pub(super) const ALL: &[Sql] = &[TENANT, USER, REPLACE, TOKEN];

/// A tenant as logins name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Whether its users are kept out.
    pub blocked: bool,
}

/// A user of desktops.
#[derive(Debug, Clone)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The login, normalized.
    pub login: String,
    /// The tenant.
    pub tenant: TenantId,
    /// Whether the user (of a token: or the tenant) is kept out.
    pub blocked: bool,
    /// The stored hash; users of other plug-ins, and tokens, have none.
    pub password: Option<SecretString>,
}

/// A bearer token that has not expired, or a ticket that was redeemed.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its user.
    pub user: User,
    /// The key of the row: the token of old rows, the digest of new ones.
    pub key: SecretString,
    /// The only VM that it opens.
    pub vm: Option<VmId>,
    /// Whether it may be used more than once.
    pub multi_use: bool,
    /// The row of `user_auth_parameters` that it belongs to.
    pub parameters_id: Option<i32>,
    /// What plug-ins said at the login that it stands for: a JSON object.
    pub parameters: Option<String>,
}

/// The tenant of this name.
pub async fn tenant(database: &Database, name: &str) -> Result<Option<Tenant>, Error> {
    let client = database.client().await?;
    let row = TENANT.query_opt(&client, &[&name]).await?;
    row.map(|row| {
        Ok(Tenant { id: TenantId(TENANT.column(&row, "id")?), blocked: TENANT.column(&row, "blocked")? })
    })
    .transpose()
}

/// The user with this login.
pub async fn user(database: &Database, tenant: TenantId, login: &str) -> Result<Option<User>, Error> {
    let client = database.client().await?;
    let row = USER.query_opt(&client, &[&tenant.0, &login]).await?;
    row.map(|row| user_of(USER, &row)).transpose()
}

/// Stores a new hash in place of `old`; nothing happens if the password was changed meanwhile.
pub async fn replace_password(database: &Database, user: UserId, old: &str, new: &str) -> Result<(), Error> {
    let client = database.client().await?;
    REPLACE.execute(&client, &[&user.0, &old, &new]).await.map(drop)
}

/// The token that is stored as `digest`, or by an older portal as itself.
pub async fn token(database: &Database, token: &str, digest: &str) -> Result<Option<Token>, Error> {
    let client = database.client().await?;
    let row = TOKEN.query_opt(&client, &[&token, &digest]).await?;
    row.map(|row| {
        Ok(Token {
            user: user_of(TOKEN, &row)?,
            key: TOKEN.column::<String>(&row, "token")?.into(),
            vm: TOKEN.column::<Option<i32>>(&row, "vm_id")?.map(VmId),
            multi_use: TOKEN.column(&row, "multi_use")?,
            parameters_id: TOKEN.column(&row, "auth_params_id")?,
            parameters: TOKEN.column(&row, "parameters")?,
        })
    })
    .transpose()
}

pub(super) fn user_of(sql: Sql, row: &Row) -> Result<User, Error> {
    Ok(User {
        id: UserId(sql.column(row, "id")?),
        login: sql.column(row, "login")?,
        tenant: TenantId(sql.column(row, "tenant_id")?),
        blocked: sql.column(row, "blocked")?,
        password: sql.column::<Option<String>>(row, "password")?.map(SecretString::from),
    })
}
