//! `host … drain`: hosts are emptied without a surprise for those who work on them.

use std::time::Duration;

use qvd_model::action::{Object, Status, Verb as Does};
use qvd_model::filter::{Filter, Operator};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::api::{Answer, Call};
use crate::clock;
use crate::error::Error;
use crate::noun::Noun;
use crate::run::{Context, write};

/// How often it is looked whether the hosts are empty.
const LOOK: Duration = Duration::from_secs(1);

/// Blocks hosts, and asks whoever works on them to leave; at the hard limit, if there is one, their desktops are stopped, and
/// started again on other hosts.
pub(crate) async fn drain(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    limit: Option<String>,
) -> Result<(), Error> {
    let limit = limit.map(|text| clock::absolute(&text)).transpose()?;
    if limit.as_deref() == Some("") {
        return Err(Error::Usage("a limit that never comes is none; leave it out".to_owned()));
    }
    let all = selection.is_none();
    let hosts = context.api.call(&Call::list(Object::Host, selection, &["id", "name"])?).await?;
    if hosts.rows.is_empty() {
        return match context.options.allow_empty {
            true => context.print_total(0),
            false => Err(Error::refused(Status::NothingMatched, noun.title)),
        };
    }
    let names = names(&hosts);
    let on_them = Filter::any_of("host_id", ids(&hosts));
    let on_them = on_them.and(Filter::test("state", Operator::Different, "stopped"));
    let desktops = Call::list(Object::Vm, Some(on_them), &["id", "name", "expiration_hard"])?;
    if context.options.dry_run {
        let count = context.api.call(&desktops).await?.total;
        return write(context.out, &format!("would drain: {names}, with {count} desktops\n"));
    }
    if all {
        context.confirm(&format!("This would drain all {} {}: {names}.", hosts.total, noun.title))?;
    }
    let mut block = Call::new(Object::Host, Does::Update)?;
    block.filter = Some(Filter::any_of("id", ids(&hosts)));
    block.arguments = Map::from_iter([("blocked".to_owned(), json!(1))]);
    context.api.call(&block).await?;
    // Nothing comes from here on, so these are all.
    let there = context.api.call(&desktops).await?;
    let now = clock::absolute("now")?;
    // Who has to leave sooner anyway keeps that time.
    let is_sooner = |row: &&Map<String, Value>| {
        let has = row.get("expiration_hard").and_then(Value::as_str);
        limit.as_deref().is_none_or(|limit| has.is_some_and(|has| has < limit))
    };
    let (sooner, others): (Vec<_>, Vec<_>) = there.rows.iter().partition(is_sooner);
    let soft = [("expiration_soft".to_owned(), json!(now))];
    let hard = limit.as_ref().map(|limit| ("expiration_hard".to_owned(), json!(limit)));
    for (rows, arguments) in
        [(sooner, Map::from_iter(soft.clone())), (others, soft.into_iter().chain(hard).collect())]
    {
        if !rows.is_empty() {
            let mut ask = Call::new(Object::Vm, Does::Update)?;
            ask.filter = Some(Filter::any_of("id", rows.iter().filter_map(|row| row.get("id")?.as_i64())));
            ask.arguments = arguments;
            context.api.call(&ask).await?;
        }
    }
    context.remark(&format!("{} desktops are asked to leave {names}", there.total));
    if context.options.wait {
        empty(context, &desktops).await?;
    }
    context.print_total(hosts.total)
}

/// Waits until no desktop is left.
async fn empty(context: &mut Context<'_>, desktops: &Call) -> Result<(), Error> {
    let limit = context.api.settings().timeout;
    let end = Instant::now() + limit;
    let mut told = None;
    loop {
        let left = context.api.call(desktops).await?;
        if left.rows.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(Error::NotYet { wanted: "stopped", seconds: limit.as_secs(), names: names(&left) });
        }
        if told.replace(left.total) != Some(left.total) {
            context.remark(&format!("{} desktops left", left.total));
        }
        sleep(LOOK).await;
    }
}

fn ids(listed: &Answer) -> Vec<i64> {
    listed.rows.iter().filter_map(|row| row.get("id")?.as_i64()).collect()
}

fn names(listed: &Answer) -> String {
    listed.rows.iter().filter_map(|row| row.get("name")?.as_str()).collect::<Vec<_>>().join(", ")
}
