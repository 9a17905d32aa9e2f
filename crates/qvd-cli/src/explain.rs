//! `explain`: the story of an object, with who, when and why.

use qvd_model::action::{self, Object, Verb as Does};
use qvd_model::filter::{Filter, Operator};
use serde_json::{Map, Value, json};

use crate::api::Call;
use crate::clock;
use crate::error::Error;
use crate::noun::Noun;
use crate::output::Format;
use crate::run::{Context, write};

/// Tells the story of the selected objects.
pub(crate) async fn explain(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
) -> Result<(), Error> {
    let entity = action::entity(noun.object);
    let present: &[&str] = match noun.object {
        Object::Vm => {
            &["state", "step", "user_state", "host_name", "di_name", "failure_code", "failure_text"]
        }
        Object::Host => &["state", "blocked"],
        Object::Di => &["state", "status_message"],
        Object::User => &["blocked"],
        _ => &[],
    };
    let fields: Vec<&str> = ["id", entity.key].into_iter().chain(present.iter().copied()).collect();
    let objects = context.api.call(&Call::list(noun.object, selection, &fields)?).await?;
    if objects.rows.is_empty() {
        return Err(Error::refused(action::Status::NothingMatched, noun.title));
    }
    let mut stories = Vec::new();
    for object in objects.rows {
        let id = object.get("id").and_then(Value::as_i64).unwrap_or_default();
        let about = Filter::test("kind", Operator::Equal, noun.object.as_str()).and(Filter::test(
            "object_id",
            Operator::Equal,
            id.to_string(),
        ));
        let mut call = Call::new(Object::Event, Does::List)?;
        call.filter = Some(about);
        call.fields = ["time", "actor", "from_state", "to_state", "code", "text"].map(str::to_owned).to_vec();
        call.order = Some((vec!["id".to_owned()], false));
        stories.push((object, context.api.call(&call).await?.rows));
    }
    if matches!(context.style().format, Format::Json | Format::JsonLines) {
        let stories: Vec<_> =
            stories.iter().map(|(now, events)| json!({"now": now, "events": events})).collect();
        return write(context.out, &format!("{}\n", json!(stories)));
    }
    let stories = stories.iter().map(|(now, events)| told(noun, entity.key, now, events));
    write(context.out, &stories.collect::<Vec<_>>().join("\n"))
}

fn told(noun: &Noun, key: &str, now: &Map<String, Value>, events: &[Map<String, Value>]) -> String {
    let mut text = format!("{} {} ({})", noun.word, shown(now, key), shown(now, "id"));
    let rest = now.iter().filter(|(name, _)| *name != key && *name != "id");
    for (name, _) in rest {
        let value = shown(now, name);
        if !value.is_empty() {
            text.push_str(&format!("\n  {name}: {value}"));
        }
    }
    text.push('\n');
    for event in events {
        let moved = match (shown(event, "from_state"), shown(event, "to_state")) {
            (from, to) if from.is_empty() && to.is_empty() => String::new(),
            (from, to) if from.is_empty() => format!(" → {to}"),
            (from, to) => format!(" {from} → {to}"),
        };
        let why = [shown(event, "code"), shown(event, "text")];
        let why: Vec<&str> = why.iter().map(String::as_str).filter(|w| !w.is_empty()).collect();
        let time = clock::shown(&shown(event, "time"));
        text.push_str(&format!("  {time}  {}{moved}  {}\n", shown(event, "actor"), why.join(": ")));
    }
    if events.is_empty() {
        text.push_str("  nothing is recorded about it\n");
    }
    text
}

fn shown(row: &Map<String, Value>, name: &str) -> String {
    let text = match row.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
