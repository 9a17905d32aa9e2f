//! `whoami` and `doctor`: who we are to the API, and whether everything between it and us is well.

use std::time::Instant;

use qvd_model::action::Object;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::api::{Api, Call};
use crate::clock;
use crate::error::Error;
use crate::options::{Place, Settings};
use crate::output::{Column, Listing};

/// Clocks that differ by more are a problem: times that are typed mean others there.
const SKEW: i64 = 2;

/// Who the administrator is, and where.
pub(crate) async fn whoami(api: &mut Api) -> Result<Listing, Error> {
    let who = api.whoami().await?;
    let text = |name: &str| who.get(name).cloned().unwrap_or(Value::Null);
    let acls = who.get("acls").and_then(Value::as_array).map_or(0, Vec::len);
    let row = Map::from_iter([
        ("admin".to_owned(), text("admin_name")),
        ("tenant".to_owned(), text("tenant_name")),
        ("permissions".to_owned(), json!(acls)),
        ("api".to_owned(), json!(api.place())),
    ]);
    let columns = row.keys().map(|name| Column::plain(name)).collect();
    Ok(Listing { columns, rows: vec![row], total: 1 })
}

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    is_well: bool,
    detail: String,
}

/// Looks at connection, clock, versions and login, as far as one works without the other. The second part is what went
/// wrong.
pub(crate) async fn examine(settings: &Settings) -> (Listing, Option<Error>) {
    let mut findings = Vec::new();
    let failed = look(settings, &mut findings).await.err();
    let rows: Vec<_> = findings
        .into_iter()
        .map(|Finding { what, is_well, detail }| {
            Map::from_iter([
                ("check".to_owned(), json!(what)),
                ("result".to_owned(), json!(if is_well { "ok" } else { "problem" })),
                ("detail".to_owned(), json!(detail)),
            ])
        })
        .collect();
    let total = rows.len() as u64;
    let columns = ["check", "result", "detail"].map(Column::plain).to_vec();
    (Listing { columns, rows, total }, failed)
}

async fn look(settings: &Settings, findings: &mut Vec<Finding>) -> Result<(), Error> {
    let mut found = |what, is_well, detail| findings.push(Finding { what, is_well, detail });
    let begun = Instant::now();
    let opened = Api::open(settings).await;
    let took = begun.elapsed().as_millis();
    let mut api = match opened {
        Ok(api) => api,
        Err(error) => {
            found("connection", false, error.to_string());
            return Err(error);
        }
    };
    found("connection", true, format!("{} in {took} ms", api.place()));
    if let Place::Url(_) = settings.place {
        let trust = match (settings.insecure, &settings.pins) {
            (true, _) => "it is not checked (--insecure)",
            (false, Some(_)) => "it is the one that was pinned",
            (false, None) => "an authority that is trusted vouches for it",
        };
        found("certificate", !settings.insecure, trust.to_owned());
    }
    let begun = OffsetDateTime::now_utc();
    let info = match api.info().await {
        Ok(info) => info,
        Err(error) => {
            found("API", false, error.to_string());
            return Err(error);
        }
    };
    let middle: OffsetDateTime = begun + (OffsetDateTime::now_utc() - begun) / 2;
    let version = |part: &str| {
        let text = info.members.get("version").and_then(|v| v.get(part)).and_then(Value::as_str);
        text.unwrap_or("unknown").to_owned()
    };
    let (own, theirs) = (env!("CARGO_PKG_VERSION"), version("api"));
    let versions = format!("qa4 {own}, API {theirs}, database {}", version("database"));
    found("versions", own == theirs, versions);
    let clock = info.members.get("server_datetime").and_then(Value::as_str).and_then(clock::utc_of);
    if let Some(clock) = clock {
        let skew = time::Duration::whole_seconds(clock - middle);
        found("clock", skew.abs() <= SKEW, format!("the API is {skew} s ahead of this machine"));
    }
    match whoami(&mut api).await {
        Ok(who) => {
            let row = who.rows.first();
            let text = |name: &str| {
                let value = row.and_then(|row| row.get(name)).unwrap_or(&Value::Null);
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            };
            let permissions = text("permissions");
            let detail = format!("{} of tenant {}, {permissions} permissions", text("admin"), text("tenant"));
            found("login", permissions != "0", detail);
        }
        Err(error) => {
            found("login", false, error.to_string());
            return Err(error);
        }
    }
    // Whoever may see hosts is told about those that are not as they should be.
    let hosts = Call::list(Object::Host, None, &["name", "state", "suspect"])?;
    if let Ok(hosts) = api.call(&hosts).await {
        let ill = hosts.rows.iter().filter(|row| {
            let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
            text("state") == "lost" || !text("suspect").is_empty()
        });
        let ill: Vec<&str> = ill.filter_map(|row| row.get("name")?.as_str()).collect();
        let detail = match ill.as_slice() {
            [] => format!("{} hosts, none lost or late", hosts.total),
            some => format!("lost or late: {}", some.join(", ")),
        };
        found("hosts", ill.is_empty(), detail);
    }
    Ok(())
}
