//! Custom properties (`spec/cli.md` 1.10).

use qvd_model::action::{self, Object, Status, Verb as Does};
use qvd_model::filter::Filter;
use serde_json::{Map, Value as Json, json};

use crate::api::Call;
use crate::error::Error;
use crate::noun::Noun;
use crate::output::print_total;
use crate::run::{Context, write};

/// `property SELECTION assign|unassign KIND, …`: which kinds of objects may have the property.
pub(crate) async fn assign(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    kinds: &[String],
    does: Does,
) -> Result<(), Error> {
    let lists = kinds.iter().map(|kind| list_of(kind)).collect::<Result<Vec<_>, Error>>()?;
    let property = the_only(context, noun, selection).await?;
    if context.options.dry_run {
        return write(context.out, &format!("would change property {property}: {}\n", kinds.join(", ")));
    }
    let mut total = 0;
    for list in lists {
        let mut call = Call::new(list, does)?;
        if does == Does::Delete {
            call.filter = Some(Filter::any_of("property_id", [property]));
        } else {
            call.arguments = Map::from_iter([("property_id".to_owned(), json!(property))]);
        }
        total += context.api.call(&call).await?.total;
    }
    print_total(total, context.api.settings().format, context.out)
        .map_err(|e| Error::Usage(format!("cannot write the result: {e}")))
}

fn list_of(kind: &str) -> Result<Object, Error> {
    let object = Object::WITH_PROPERTIES.iter().find(|object| object.as_str() == kind);
    object.and_then(|o| o.properties()).ok_or_else(|| {
        Error::Usage(format!("`{kind}` has no properties; expected vm, user, host, osf or di"))
    })
}

/// The number of the one object that is meant.
async fn the_only(context: &mut Context<'_>, noun: &Noun, selection: Option<Filter>) -> Result<i64, Error> {
    let key = action::entity(noun.object).key;
    let answer = context.api.call(&Call::list(noun.object, selection, &["id", key])?).await?;
    match answer.rows.as_slice() {
        [one] => one.get("id").and_then(Json::as_i64).ok_or_else(|| Error::Usage("no number".to_owned())),
        [] => Err(Error::refused(Status::NothingMatched, noun.title)),
        several => Err(Error::Usage(format!("{} {} match; select one", several.len(), noun.title))),
    }
}
