//! `qa --direct`: over the database of the node, while no API runs. Only what the role of a node may do there: lists,
//! stopping VMs, blocking hosts.

use std::io::Write;
use std::path::PathBuf;

use qvd_db::admin::select::{self, Identity, List, Marks, Paging, Scope};
use qvd_db::commands::{self, CommandRefusal, Stop};
use qvd_db::events::Actor;
use qvd_db::{Database, Error as DbError, Settings};
use qvd_model::action::{Object, Tenancy, entity, typed};
use qvd_model::filter::Filter;
use qvd_model::{HostId, VmId};
use qvd_runtime::Config;

use super::arguments::Arguments;
use super::invoke::{confirmed, named};
use super::show::Sheet;
use crate::error::Error;
use crate::run::write;

/// The configuration file of a node, which says where the database is.
const NODE: &str = "/etc/qvd/node.conf";

/// Runs a command over the database that the configuration of the node names.
pub(super) async fn run(
    arguments: &Arguments,
    environment: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let command = arguments.command;
    let (object, word) = (command.noun().object, command.word);
    if !matches!(
        (command.object, word),
        ("vm" | "host" | "osf" | "di" | "user", "list" | "counters")
            | ("vm", "stop")
            | ("host", "block" | "unblock")
    ) {
        return Err(Error::Usage(format!(
            "--direct does lists and counters, vm stop, host block and host unblock; {} {word} needs the API",
            command.object
        )));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Usage("--direct is for root on a node".to_owned()));
    }
    let database = database(environment)?;
    let client = database.client().await.map_err(away)?;
    let scope = scope(&client, arguments).await?;
    let filter = selection(arguments, object)?;
    if matches!(word, "list" | "counters") {
        let sheet = Sheet::of(command.object, word);
        let list = List {
            object,
            filter: &filter,
            scope: &scope,
            fields: &sheet.fields(),
            properties: &[],
            order: &[],
            descending: false,
            skip: 0,
            limit: None,
            paging: Paging::Counted,
            marks: Marks::default(),
        };
        let rows = select::list(&client, &list).await.map_err(away)?.rows;
        let rows = rows.iter().map(|row| serde_json::from_str(row)).collect::<Result<Vec<_>, _>>();
        let rows =
            rows.map_err(|e| Error::Usage(format!("the database answers with what is no row: {e}")))?;
        return write(out, &sheet.print(&rows, arguments.quiet));
    }
    let chosen = select::identities(&client, object, &filter, &scope).await.map_err(away)?;
    confirmed(arguments, out, word, chosen.len())?;
    let mut skipped = Vec::new();
    for one in &chosen {
        if let Err(why) = order(&database, word, one).await? {
            skipped.push((one.id.to_string(), why));
        }
    }
    let done = chosen.len().saturating_sub(skipped.len());
    if arguments.strict && !skipped.is_empty() {
        return Err(Error::Partial { changed: done, all: chosen.len(), failures: skipped });
    }
    for (id, why) in skipped.iter().filter(|_| !arguments.quiet) {
        eprintln!("{} {id} skipped: {why}", command.object);
    }
    match word {
        "stop" if !arguments.quiet => write(out, &format!("Stopped {done} VMs.\n")),
        _ => Ok(()),
    }
}

/// Gives the order, or tells why not.
async fn order(database: &Database, word: &str, object: &Identity) -> Result<Result<(), String>, Error> {
    let actor = Actor::administrator("qa --direct");
    if word == "stop" {
        return match commands::stop_vm(database, &actor, VmId(object.id)).await {
            Ok(Stop::Requested | Stop::Revoked) => Ok(Ok(())),
            Ok(Stop::AlreadyStopped) => Ok(Err("it is stopped".to_owned())),
            Ok(Stop::Underway) => Ok(Err("it is stopping".to_owned())),
            Err(CommandRefusal::Database(error)) => Err(away(error)),
            Err(refused) => Ok(Err(refused.to_string())),
        };
    }
    let (host, blocked) = (HostId(object.id), word == "block");
    let done = database
        .transaction("block a host", move |tx| {
            let actor = actor.clone();
            Box::pin(async move { commands::block_host_in(tx, &actor, host, blocked).await })
        })
        .await;
    Ok(if done.map_err(away)? { Ok(()) } else { Err("it is not there any more".to_owned()) })
}

fn database(environment: &dyn Fn(&str) -> Option<String>) -> Result<Database, Error> {
    let file = environment("QVD_CONFIG").map_or_else(|| PathBuf::from(NODE), PathBuf::from);
    let unusable = |e: &dyn std::fmt::Display| Error::Usage(format!("--direct: {}: {e}", file.display()));
    let config = Config::load(std::slice::from_ref(&file)).map_err(|e| unusable(&e))?;
    let values = config.now();
    let value = |key: &str| values.optional(key).map_err(|e| DbError::Settings(e.to_string()));
    let settings = Settings::from_keys(value).map_err(|e| unusable(&e))?;
    Database::new(&settings).map_err(|e| unusable(&e))
}

/// Objects are those of one tenant, as with the API.
async fn scope(session: &impl qvd_db::Session, arguments: &Arguments) -> Result<Scope, Error> {
    if entity(arguments.command.noun().object).tenancy == Tenancy::None {
        return Ok(Scope::All);
    }
    let wanted = arguments.tenant.as_deref().unwrap_or("1");
    if let Ok(number) = wanted.parse() {
        return Ok(Scope::Tenant(number));
    }
    let tenants = qvd_db::admin::config::tenants(session).await.map_err(away)?;
    let found = tenants.iter().find(|(_, name)| name == wanted);
    found.map(|(id, _)| Scope::Tenant(id.0)).ok_or_else(|| {
        // Not the one that global settings are said to be of.
        let known = tenants.iter().filter(|(id, _)| id.0 >= 0);
        let known: Vec<&str> = known.map(|(_, name)| name.as_str()).collect();
        Error::Usage(format!("there is no tenant {wanted}; there are: {}", known.join(", ")))
    })
}

fn selection(arguments: &Arguments, object: Object) -> Result<Filter, Error> {
    let Some(filter) = arguments.filter.clone() else { return Ok(Filter::all()) };
    let entity = entity(object);
    let filter = filter.rename(&|name| Some(named(arguments.command.noun(), name)));
    for test in filter.tests() {
        if !entity.field(&test.field).is_some_and(|field| field.filter) {
            return Err(Error::Usage(format!("{} cannot be selected by {}", object, test.field)));
        }
    }
    typed(filter, entity, &str::to_owned).map_err(|e| Error::Usage(e.to_string()))
}

fn away(error: DbError) -> Error {
    Error::Unreachable { place: "the database".to_owned(), problem: error.to_string() }
}
