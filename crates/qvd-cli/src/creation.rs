//! `new`.

use qvd_model::action::{self, Object, Status, Tenancy, Verb as Does};
use qvd_model::filter::lexer::quote;
use qvd_model::filter::{Filter, Operator};
use qvd_model::nearest;
use serde_json::{Map, Value as Json, json};

use crate::api::{Answer, Call};
use crate::change::{arguments, with_secrets};
use crate::command::{Assignment, Value};
use crate::completion::referred;
use crate::error::Error;
use crate::import;
use crate::noun::Noun;
use crate::output::{Column, Listing};
use crate::run::{Context, Mode, write};

/// Makes an object, and prints its number.
pub(crate) async fn create(
    context: &mut Context<'_>,
    noun: &'static Noun,
    mut assignments: Vec<Assignment>,
) -> Result<(), Error> {
    let entity = action::entity(noun.object);
    assignments = with_secrets(noun, assignments)?;
    let needs_password = entity.fields.iter().any(|f| f.name == "password");
    let has_password = assignments.iter().any(|a| entity.resolve(&a.name) == "password");
    let asks = context.mode != Mode::Script && std::io::IsTerminal::is_terminal(&std::io::stdin());
    if needs_password && !has_password && asks {
        assignments.push(Assignment { name: "password".to_owned(), value: Value::Ask });
    }
    let Some(answer) = make(context, noun, assignments).await? else { return Ok(()) };
    // What is shown this once.
    let shown =
        ["id", "token"].into_iter().filter(|name| answer.rows.iter().any(|row| row.contains_key(*name)));
    let columns = shown.map(Column::plain).collect();
    context.print(Listing { columns, rows: answer.rows, total: answer.total })
}

/// Makes an object; `None` if it is only shown what would be made.
pub(crate) async fn make(
    context: &mut Context<'_>,
    noun: &'static Noun,
    assignments: Vec<Assignment>,
) -> Result<Option<Answer>, Error> {
    if noun.object == Object::Di {
        return import::create(context, noun, assignments).await;
    }
    let mut call = Call::new(noun.object, Does::Create)?;
    call.arguments = arguments(context, noun, assignments)?;
    name_tenant(context, noun, &mut call.arguments).await?;
    if context.options.dry_run {
        let given: Vec<String> = call
            .arguments
            .iter()
            .map(|(name, value)| match (name.as_str(), value) {
                ("password", _) => "password=…".to_owned(),
                (name, Json::String(text)) => format!("{name}={}", quote(text)),
                (name, other) => format!("{name}={other}"),
            })
            .collect();
        write(context.out, &format!("would create: {} {}\n", noun.word, given.join(", ")))?;
        return Ok(None);
    }
    match context.api.call(&call).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => Err(suggested(context, &call.arguments, error).await),
    }
}

/// A refusal of a name that does not exist, with the one that was probably meant.
async fn suggested(context: &mut Context<'_>, arguments: &Map<String, Json>, error: Error) -> Error {
    let unknown = [Status::UnknownReference.code(), Status::ForeignReference.code()];
    let Error::Refused { code, mut message } = error else { return error };
    if !unknown.contains(&code) {
        return Error::Refused { code, message };
    }
    for (field, name) in arguments {
        let (Some(names), Some(name)) = (referred(field), name.as_str()) else { continue };
        let known = context.api.names(names).await;
        if !known.iter().any(|k| k == name)
            && let Some(meant) = nearest(name, known.iter().map(String::as_str))
        {
            message.push_str(&format!("; did you mean `{meant}`?"));
        }
    }
    Error::Refused { code, message }
}

/// Super-administrators stand above tenants, so what they make has to say in which one it is: as typed, as
/// configured, or the only one there is.
async fn name_tenant(
    context: &mut Context<'_>,
    noun: &Noun,
    arguments: &mut Map<String, Json>,
) -> Result<(), Error> {
    let named = ["tenant_id", "tenant_name"].iter().any(|name| arguments.contains_key(*name));
    let owned = action::entity(noun.object).tenancy == Tenancy::Own;
    if named || !owned || !context.api.identity().await?.is_super() {
        return Ok(());
    }
    if let Some(tenant) = context.api.settings().for_tenant.clone() {
        arguments.insert("tenant_name".to_owned(), json!(tenant));
        return Ok(());
    }
    let ordinary = Filter::test("id", Operator::AtLeast, "1");
    let tenants = context.api.call(&Call::list(Object::Tenant, Some(ordinary), &["id", "name"])?).await?;
    match tenants.rows.as_slice() {
        [only] => {
            let id = only.get("id").cloned().unwrap_or(Json::Null);
            arguments.insert("tenant_id".to_owned(), id);
            Ok(())
        }
        rows => {
            let names: Vec<_> = rows.iter().filter_map(|r| r.get("name")?.as_str()).collect();
            Err(Error::Usage(format!("in which tenant? Add tenant=NAME; there are: {}", names.join(", "))))
        }
    }
}
