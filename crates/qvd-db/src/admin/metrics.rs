//! What there is, counted for monitoring.

use crate::{Error, Session, Sql};

const COUNTS: Sql = Sql::new(
    "count for monitoring",
    "SELECT 'vms' AS what, vm_state::text AS state, count(*) AS n FROM vm_runtimes GROUP BY vm_state \
     UNION ALL SELECT 'sessions', user_state::text, count(*) FROM vm_runtimes GROUP BY user_state \
     UNION ALL SELECT 'hosts', state::text, count(*) FROM host_runtimes GROUP BY state \
     UNION ALL SELECT 'blocked', 'hosts', count(*) FROM host_runtimes WHERE blocked \
     UNION ALL SELECT 'blocked', 'vms', count(*) FROM vm_runtimes WHERE blocked \
     UNION ALL SELECT 'logins', 'session', count(*) FROM session WHERE expires > extract(epoch FROM now()) \
     UNION ALL SELECT 'logins', 'token', count(*) FROM api_tokens \
     WHERE expiration IS NULL OR expiration > now() AT TIME ZONE 'UTC'",
);

pub(crate) const ALL: &[Sql] = &[COUNTS];

/// So many of a kind are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// What is counted.
    pub what: String,
    /// In which state.
    pub state: String,
    /// How many.
    pub n: i64,
}

/// Counts everything.
pub async fn counts(session: &impl Session) -> Result<Vec<Count>, Error> {
    let rows = COUNTS.query(session, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Count {
                what: COUNTS.column(row, "what")?,
                state: COUNTS.column(row, "state")?,
                n: COUNTS.column(row, "n")?,
            })
        })
        .collect()
}
