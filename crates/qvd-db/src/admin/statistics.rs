//! What the first page of the console counts.

use super::select::Scope;
use crate::{Error, Session, Sql};

/// Every statement takes the tenant, or nothing for all, and answers one JSON value.
macro_rules! counters {
    ($($name:literal => $text:literal,)+) => {
        const COUNTERS: &[(&str, Sql)] = &[$(($name, Sql::new(concat!("count: ", $name), concat!($text))),)+];

        pub(crate) const ALL: &[Sql] = &[$(Sql::new(concat!("count: ", $name), concat!($text)),)+];
    };
}

counters! {
    "users_count" =>
        "SELECT count(*)::text AS value FROM users WHERE $1::integer IS NULL OR tenant_id = $1",
    "blocked_users_count" =>
        "SELECT count(*)::text AS value FROM users WHERE blocked AND ($1::integer IS NULL OR tenant_id = $1)",
    "connected_users_count" =>
        "SELECT count(DISTINCT users.id)::text AS value FROM users JOIN vms ON vms.user_id = users.id \
         JOIN vm_runtimes AS r ON r.vm_id = vms.id WHERE r.user_state = 'connected' \
         AND ($1::integer IS NULL OR users.tenant_id = $1)",
    "vms_count" =>
        "SELECT count(*)::text AS value FROM vms JOIN users ON users.id = vms.user_id \
         WHERE $1::integer IS NULL OR users.tenant_id = $1",
    "blocked_vms_count" =>
        "SELECT count(*)::text AS value FROM vms JOIN users ON users.id = vms.user_id \
         JOIN vm_runtimes AS r ON r.vm_id = vms.id WHERE r.blocked AND ($1::integer IS NULL OR users.tenant_id = $1)",
    "running_vms_count" =>
        "SELECT count(*)::text AS value FROM vms JOIN users ON users.id = vms.user_id \
         JOIN vm_runtimes AS r ON r.vm_id = vms.id WHERE r.vm_state = 'running' \
         AND ($1::integer IS NULL OR users.tenant_id = $1)",
    // Hosts belong to nobody.
    "hosts_count" => "SELECT count(*)::text AS value FROM hosts WHERE $1::integer IS NULL OR true",
    "blocked_hosts_count" =>
        "SELECT count(*)::text AS value FROM host_runtimes WHERE blocked AND ($1::integer IS NULL OR true)",
    "running_hosts_count" =>
        "SELECT count(*)::text AS value FROM host_runtimes WHERE state = 'running' \
         AND ($1::integer IS NULL OR true)",
    "osfs_count" =>
        "SELECT count(*)::text AS value FROM osfs WHERE $1::integer IS NULL OR tenant_id = $1",
    "dis_count" =>
        "SELECT count(*)::text AS value FROM dis JOIN osfs ON osfs.id = dis.osf_id \
         WHERE $1::integer IS NULL OR osfs.tenant_id = $1",
    "blocked_dis_count" =>
        "SELECT count(*)::text AS value FROM dis JOIN osfs ON osfs.id = dis.osf_id \
         WHERE dis.blocked AND ($1::integer IS NULL OR osfs.tenant_id = $1)",
    "vms_with_expiration_date" =>
        "SELECT coalesce(json_agg(row_to_json(e)), '[]')::text AS value FROM (SELECT vms.name, vms.id, \
         to_char(r.vm_expiration_hard, 'YYYY-MM-DD\"T\"HH24:MI:SS') AS expiration, (SELECT json_build_object(\
         'months', (extract(year FROM i) * 12 + extract(month FROM i))::integer, \
         'days', extract(day FROM i)::integer, 'hours', extract(hour FROM i)::integer, \
         'minutes', extract(minute FROM i)::integer, 'seconds', trunc(extract(second FROM i))::integer) \
         FROM age(r.vm_expiration_hard, now() AT TIME ZONE 'UTC') AS i) AS remaining_time \
         FROM vms JOIN users ON users.id = vms.user_id JOIN vm_runtimes AS r ON r.vm_id = vms.id \
         WHERE r.vm_expiration_hard > now() AT TIME ZONE 'UTC' AND ($1::integer IS NULL OR users.tenant_id = $1) \
         ORDER BY r.vm_expiration_hard, vms.id) AS e",
    "top_populated_hosts" =>
        "SELECT coalesce(json_agg(row_to_json(h)), '[]')::text AS value FROM (SELECT hosts.name, hosts.id, \
         count(r.vm_id) AS number_of_vms FROM hosts LEFT JOIN vm_runtimes AS r ON r.host_id = hosts.id \
         WHERE $1::integer IS NULL OR true \
         GROUP BY hosts.id ORDER BY number_of_vms DESC, hosts.id LIMIT 6) AS h",
}

/// The value of a counter as JSON; `None` if there is no such counter.
pub async fn value(session: &impl Session, name: &str, scope: &Scope) -> Result<Option<String>, Error> {
    let Some((_, sql)) = COUNTERS.iter().find(|(counter, _)| *counter == name) else { return Ok(None) };
    let row = sql.query_one(session, &[&scope.tenant()]).await?;
    sql.column(&row, "value").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_the_registry_has_a_statement() {
        let registry: Vec<_> = qvd_model::action::COUNTERS.iter().map(|c| c.name).collect();
        let here: Vec<_> = COUNTERS.iter().map(|(name, _)| *name).collect();
        assert_eq!(here, registry);
    }
}
