//! Everything that changes existing objects.

use std::time::Duration;

use qvd_model::action::{self, Entity, Kind, Object, Order as VmOrder, Show, Status, Verb as Does};
use qvd_model::config::MASK;
use qvd_model::filter::lexer::quote;
use qvd_model::filter::{Filter, json};
use serde_json::{Map, Value as Json, json};

use crate::api::{Answer, Api, Call};
use crate::command::{Assignment, Value, Verb};
use crate::error::Error;
use crate::noun::Noun;
use crate::output::{Column, Format, Listing};
use crate::run::{Context, Mode, new_password, write};
use crate::{clock, grant};

/// How many names a question shows.
const SAMPLE: usize = 5;
/// What is told of a change that is only tried.
const CHANGES: [&str; 6] = ["would", "id", "name", "field", "old", "new"];
/// How often it is looked whether VMs have arrived.
const LOOK: Duration = Duration::from_millis(300);

/// Changes, removes or orders the selected objects.
pub(crate) async fn change(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    verb: Verb,
) -> Result<(), Error> {
    let word = verb.word();
    let wanted_state = match verb {
        Verb::Start => Some("running"),
        Verb::Stop => Some("stopped"),
        _ => None,
    };
    let mut call = translated(context, noun, verb)?;
    let entity = action::entity(noun.object);
    let all = selection.is_none();
    let wanted = selection.as_ref().map(json::print);
    let shown: Vec<&str> =
        call.arguments.keys().map(String::as_str).filter(|n| is_shown(entity, n)).collect();
    let mut fields = vec!["id", entity.key];
    if context.options.dry_run {
        fields.extend(shown);
    }
    let list =
        Call { block: context.options.limit.unwrap_or(0), ..Call::list(noun.object, selection, &fields)? };
    let listed = context.api.call(&list).await?;
    let ids: Vec<i64> = listed.rows.iter().filter_map(|row| row.get("id")?.as_i64()).collect();
    if ids.is_empty() {
        if context.options.allow_empty {
            return context.print_total(0);
        }
        let with = wanted.map(|filter| format!(" with {filter}")).unwrap_or_default();
        return Err(Error::refused(Status::NothingMatched, &format!("{}{with}", noun.title)));
    }
    let left = listed.total.saturating_sub(ids.len() as u64);
    if left > 0 {
        context.remark(&format!("--limit leaves {left} of {} as they are", listed.total));
    }
    if context.options.dry_run {
        return dry_run(context, entity.key, word, &call.arguments, &listed);
    }
    if all {
        let names = sample(&listed, entity.key);
        context.confirm(&format!("This would {word} all {} {}: {names}.", ids.len(), noun.title))?;
    } else if word == "del" && ids.len() > context.api.settings().many {
        let names = sample(&listed, entity.key);
        context.confirm_if_asked(&format!("This would remove {} {}: {names}.", ids.len(), noun.title))?;
    }
    call.filter = Some(Filter::any_of("id", &ids));
    let answer = context.api.call(&call).await;
    let total = settled(context, word, ids.len(), answer)?;
    if let Some(state) = wanted_state.filter(|_| context.options.wait) {
        wait(context, noun, &ids, state).await?;
    }
    context.print_total(total)
}

/// How many objects were changed. Those that were already as wanted are no failures.
fn settled(
    context: &Context<'_>,
    word: &str,
    all: usize,
    answer: Result<Answer, Error>,
) -> Result<u64, Error> {
    let failures = match answer {
        Ok(answer) => return Ok(answer.total),
        Err(Error::Partial { failures, .. }) => failures,
        Err(other) => return Err(other),
    };
    let (unchanged, failures): (Vec<_>, Vec<_>) =
        failures.into_iter().partition(|(_, message)| !context.options.strict && already(word, message));
    let changed = all.saturating_sub(unchanged.len() + failures.len());
    if !failures.is_empty() {
        return Err(Error::Partial { changed, all, failures });
    }
    context.remark(&format!("{} of {all} already as wanted", unchanged.len()));
    Ok(changed as u64)
}

/// The first names, so that a person sees which objects are meant.
fn sample(listed: &Answer, key: &str) -> String {
    let names: Vec<String> = listed.rows.iter().take(SAMPLE).map(|row| text(row, key)).collect();
    let more = if listed.rows.len() > SAMPLE { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// Waits until VMs are where they were told to go.
async fn wait(
    context: &mut Context<'_>,
    noun: &Noun,
    ids: &[i64],
    wanted: &'static str,
) -> Result<(), Error> {
    let limit = context.api.settings().timeout;
    let end = tokio::time::Instant::now() + limit;
    let call = Call::list(noun.object, Some(Filter::any_of("id", ids)), &["name", "state", "failure_text"])?;
    let mut left = None;
    loop {
        let listed = context.api.call(&call).await?;
        let away: Vec<String> = listed
            .rows
            .iter()
            .filter(|row| text(row, "state") != wanted)
            .map(|row| format!("{} ({})", text(row, "name"), text(row, "state")))
            .collect();
        if away.is_empty() {
            return Ok(());
        }
        // What came back to rest elsewhere has failed, and will not arrive by waiting.
        let failed = |row: &&Map<String, Json>| {
            wanted == "running" && text(row, "state") == "stopped" && !text(row, "failure_text").is_empty()
        };
        if let Some(row) = listed.rows.iter().find(failed) {
            let message = format!("{}: {}", text(row, "name"), text(row, "failure_text"));
            return Err(Error::Refused { code: Status::NotStartable.code(), message });
        }
        if tokio::time::Instant::now() >= end {
            let seconds = limit.as_secs();
            return Err(Error::NotYet { wanted, seconds, names: away.join(", ") });
        }
        if left.replace(away.len()) != Some(away.len()) {
            context.remark(&format!("{} not {wanted} yet", away.len()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a failure only says that the object is already where it should go.
fn already(word: &str, message: &str) -> bool {
    let state =
        |name: &str, code: u16| message.contains(&format!("({name})")) && ends_with_code(message, code);
    match word {
        "start" => ["running", "starting"].iter().any(|s| state(s, Status::NotStartable.code())),
        "stop" => ["stopped", "stopping"].iter().any(|s| state(s, Status::NotStoppable.code())),
        "disconnect" => state("disconnected", Status::NotConnected.code()),
        _ => false,
    }
}

fn ends_with_code(message: &str, code: u16) -> bool {
    message.ends_with(&format!("[code {code}]"))
}

/// Whether the old value of what is written can be shown.
fn is_shown(entity: &Entity, name: &str) -> bool {
    entity.field(name).is_some_and(|f| f.show != Show::Never)
}

/// Shows the objects, and what would be written over what.
fn dry_run(
    context: &mut Context<'_>,
    key: &str,
    word: &str,
    arguments: &Map<String, Json>,
    listed: &Answer,
) -> Result<(), Error> {
    let style = context.style();
    if !matches!(style.format, Format::Table | Format::List) {
        return changes(key, word, arguments, listed).print(style, context.out);
    }
    let mut out = String::new();
    for row in &listed.rows {
        let changes = arguments.iter().map(|(name, new)| {
            let old = row.get(name).map(|_| format!("{} → ", quote(&text(row, name)))).unwrap_or_default();
            match (name.as_str(), new) {
                ("password", _) => "password=…".to_owned(),
                (name, Json::String(new)) => format!("{name}: {old}{}", quote(new)),
                (name, new) => format!("{name}: {old}{new}"),
            }
        });
        let changes: Vec<String> = changes.collect();
        let changes = if changes.is_empty() { String::new() } else { format!("  {}", changes.join(", ")) };
        out.push_str(&format!("would {word}: {} {}{changes}\n", text(row, "id"), text(row, key)));
    }
    out.push_str(&format!("Total: {}\n", listed.rows.len()));
    write(context.out, &out)
}

/// The same for programs: a row for each field that would change, or for each object where none has a name.
fn changes(key: &str, word: &str, arguments: &Map<String, Json>, listed: &Answer) -> Listing {
    let mut rows = Vec::new();
    for row in &listed.rows {
        let member = |name: &str| row.get(name).cloned().unwrap_or(Json::Null);
        let line = |field: Json, old: Json, new: Json| {
            let values = [json!(word), member("id"), member(key), field, old, new];
            Map::from_iter(CHANGES.iter().map(|name| (*name).to_owned()).zip(values))
        };
        if arguments.is_empty() {
            rows.push(line(Json::Null, Json::Null, Json::Null));
        }
        rows.extend(arguments.iter().map(|(name, new)| match name.as_str() {
            "password" => line(json!(name), Json::Null, json!(MASK)),
            name => line(json!(name), member(name), new.clone()),
        }));
    }
    let total = listed.rows.len() as u64;
    Listing { columns: CHANGES.iter().map(|name| Column::plain(name)).collect(), rows, total }
}

/// The text of a member.
fn text(row: &Map<String, Json>, name: &str) -> String {
    match row.get(name) {
        Some(Json::String(text)) => text.clone(),
        None | Some(Json::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// The call of a verb, without its selection.
fn translated(context: &Context<'_>, noun: &Noun, verb: Verb) -> Result<Call, Error> {
    let does = match &verb {
        Verb::Delete => Does::Delete,
        Verb::Start => Does::Execute(VmOrder::Start),
        Verb::Stop => Does::Execute(VmOrder::Stop),
        Verb::Disconnect => Does::Execute(VmOrder::Disconnect),
        _ => Does::Update,
    };
    let mut call = Call::new(noun.object, does)?;
    let changes = |name: &str, tags: Vec<String>| {
        let tags: Vec<String> = tags.into_iter().filter(|t| !t.is_empty()).collect();
        Map::from_iter([("__tags_changes__".to_owned(), json!({ name: tags }))])
    };
    call.arguments = match verb {
        Verb::Block(blocked) => Map::from_iter([("blocked".to_owned(), json!(u8::from(blocked)))]),
        Verb::Tag(tags) => changes("create", tags),
        Verb::Untag(tags) => changes("delete", tags),
        Verb::Grant { what, names, undo } => grant::arguments(what, &names, undo),
        Verb::Set(assignments) => arguments(context, noun, with_secrets(noun, assignments)?)?,
        Verb::SetProperties(assignments) => {
            let values = arguments(context, noun, assignments)?;
            Map::from_iter([("__properties_changes__".to_owned(), json!({ "set": values }))])
        }
        Verb::DeleteProperties(keys) => {
            Map::from_iter([("__properties_changes__".to_owned(), json!({ "delete": keys }))])
        }
        _ => Map::new(),
    };
    Ok(call)
}

/// Assignments as arguments of the API, under its names.
pub(crate) fn arguments(
    context: &Context<'_>,
    noun: &Noun,
    assignments: Vec<Assignment>,
) -> Result<Map<String, Json>, Error> {
    let entity = action::entity(noun.object);
    let mut arguments = Map::new();
    for Assignment { name, value } in assignments {
        let value = match value {
            Value::One(text) => json!(text),
            Value::Ask if context.options.force || context.mode == Mode::Script => {
                return Err(Error::Usage(format!("`{name}` needs a value: {name}=TEXT")));
            }
            Value::Ask => json!(new_password()?),
            Value::Many(_) => {
                return Err(Error::Usage(format!("`{name}` takes one value, without brackets")));
            }
        };
        let proper = entity.resolve(&name).to_owned();
        let value = match (entity.field(&name).map(|f| f.kind), value) {
            (Some(Kind::Moment), Json::String(text)) => json!(clock::absolute(&text)?),
            (_, value) => value,
        };
        if arguments.insert(proper, value).is_some() {
            return Err(Error::Usage(format!("`{name}` is given twice, under two names")));
        }
    }
    Ok(arguments)
}

/// Passwords that are typed as the place where they are.
pub(crate) fn with_secrets(noun: &Noun, assignments: Vec<Assignment>) -> Result<Vec<Assignment>, Error> {
    let entity = action::entity(noun.object);
    let read = |Assignment { name, value }| {
        let value = match value {
            Value::One(text) if entity.resolve(&name) == "password" => Value::One(secret(&text)?),
            other => other,
        };
        Ok(Assignment { name, value })
    };
    assignments.into_iter().map(read).collect()
}

/// A password as typed; `@FILE` is the first line of a file, `-` the next line of standard input.
fn secret(text: &str) -> Result<String, Error> {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    if text == "-" {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.map_err(|e| Error::Usage(format!("password=-: {e}")))?;
        return Ok(first_line(&line));
    }
    let Some(file) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let read = std::fs::read_to_string(file);
    Ok(first_line(&read.map_err(|e| Error::Usage(format!("password=@{file}: {e}")))?))
}

/// `password`: the own one.
pub(crate) async fn own_password(api: &mut Api, new: &str) -> Result<(), Error> {
    let mut call = Call::new(Object::OwnAdministrator, Does::Update)?;
    call.arguments.insert("password".to_owned(), json!(new));
    api.call(&call).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_in_the_wanted_state_is_not_a_failure() {
        assert!(already("start", "The VM cannot be started in this state (running) [code 5130]"));
        assert!(!already("start", "The VM cannot be started in this state (zombie) [code 5130]"));
        assert!(already("stop", "The VM cannot be stopped in this state (stopped) [code 5120]"));
        assert!(!already("del", "A VM must be stopped before it is deleted (running) [code 7310]"));
    }
}
