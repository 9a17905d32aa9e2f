//! Everything that changes existing objects.

use std::io::IsTerminal;

use qvd_model::action::{self, Object, Order as VmOrder, Status, Verb as Does};
use qvd_model::filter::{Filter, json};
use serde_json::{Map, Value as Json, json};

use crate::api::{Answer, Api, Call};
use crate::command::{Assignment, Value, Verb};
use crate::error::Error;
use crate::listing::config_scope;
use crate::noun::Noun;
use crate::output::print_total;
use crate::run::{Context, new_password, write};

/// A removal of more objects than this is confirmed where somebody can be asked.
const MANY: usize = 20;

/// Changes, removes or orders the selected objects.
pub(crate) async fn change(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    verb: Verb,
) -> Result<(), Error> {
    if noun.object == Object::Config {
        return setting(context, noun, selection, verb).await;
    }
    let word = verb.word();
    let mut call = translated(context, noun, verb)?;
    let entity = action::entity(noun.object);
    let all = selection.is_none();
    let wanted = selection.as_ref().map(json::print);
    let listed = context.api.call(&Call::list(noun.object, selection, &["id", entity.key])?).await?;
    let ids: Vec<i64> = listed.rows.iter().filter_map(|row| row.get("id")?.as_i64()).collect();
    if ids.is_empty() {
        let with = wanted.map(|filter| format!(" with {filter}")).unwrap_or_default();
        return Err(Error::refused(Status::NothingMatched, &format!("{}{with}", noun.title)));
    }
    if context.options.dry_run {
        return dry_run(context, entity.key, word, &listed);
    }
    if all {
        context.confirm(&format!("This would {word} all {} {}.", ids.len(), noun.title))?;
    } else if word == "del" && ids.len() > MANY && context.interactive && std::io::stdin().is_terminal() {
        context.confirm(&format!("This would remove {} {}.", ids.len(), noun.title))?;
    }
    call.filter = Some(Filter::any_of("id", &ids));
    let answer = context.api.call(&call).await;
    let total = match answer {
        Ok(answer) => answer.total,
        Err(Error::Partial { failures, .. }) => {
            let unchanged =
                |(_, message): &&(String, String)| !context.options.strict && already(word, message);
            let settled = failures.iter().filter(unchanged).count();
            if settled < failures.len() {
                let failures: Vec<_> = failures.iter().filter(|f| !unchanged(f)).cloned().collect();
                let changed = ids.len() - settled - failures.len();
                return Err(Error::Partial { changed, all: ids.len(), failures });
            }
            if !context.options.quiet {
                eprintln!("qa4: {settled} already as wanted");
            }
            (ids.len() - settled) as u64
        }
        Err(other) => return Err(other),
    };
    print_total(total, context.api.settings().format, context.out)
        .map_err(|e| Error::Usage(format!("cannot write the result: {e}")))
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

fn dry_run(context: &mut Context<'_>, key: &str, word: &str, listed: &Answer) -> Result<(), Error> {
    let mut text = String::new();
    for row in &listed.rows {
        let member = |name: &str| match row.get(name) {
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        text.push_str(&format!("would {word}: {} {}\n", member("id"), member(key)));
    }
    text.push_str(&format!("Total: {}\n", listed.total));
    write(context.out, &text)
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
        Verb::Set(assignments) => arguments(context, noun, assignments)?,
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
            Value::Ask if context.options.force => {
                return Err(Error::Usage(format!("`{name}` needs a value: {name}=TEXT")));
            }
            Value::Ask => json!(new_password()?),
            Value::Many(_) => {
                return Err(Error::Usage(format!("`{name}` takes one value, without brackets")));
            }
        };
        let proper = entity.resolve(&name).to_owned();
        if arguments.insert(proper, value).is_some() {
            return Err(Error::Usage(format!("`{name}` is given twice, under two names")));
        }
    }
    Ok(arguments)
}

/// `config set|del|default`: settings have no number; their key and tenant find them.
async fn setting(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    verb: Verb,
) -> Result<(), Error> {
    let (mut call, what) = match verb {
        Verb::Set(assignments) => {
            let mut call = Call::new(noun.object, Does::CreateOrUpdate)?;
            call.arguments = arguments(context, noun, assignments)?;
            let names_tenant = ["tenant_id", "tenant_name"].iter().any(|t| call.arguments.contains_key(*t));
            if !names_tenant && context.api.identity().await?.is_super() {
                call.arguments.insert("tenant_id".to_owned(), json!("-1"));
            }
            let what = format!("{}", Json::Object(call.arguments.clone()));
            (call, what)
        }
        verb => {
            if selection.is_none() {
                let word = verb.word();
                return Err(Error::Usage(format!("which setting? config key=NAME {word}")));
            }
            let mut call = Call::new(noun.object, Does::Delete)?;
            call.filter = config_scope(context, noun, selection).await?;
            let what = call.filter.as_ref().map(qvd_model::filter::text::print).unwrap_or_default();
            (call, what)
        }
    };
    if context.options.dry_run {
        return write(context.out, &format!("would send {} {what}\n", call.action));
    }
    call.block = 0;
    let answer = context.api.call(&call).await?;
    print_total(answer.total, context.api.settings().format, context.out)
        .map_err(|e| Error::Usage(format!("cannot write the result: {e}")))
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
