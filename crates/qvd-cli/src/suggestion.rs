//! What was probably meant by a name that does not exist.

use qvd_model::action::{Entity, Status, entity};
use qvd_model::filter::{Filter, Operand, Operator};
use qvd_model::nearest;

use crate::api::Api;
use crate::completion::Names;
use crate::error::Error;
use crate::noun::Noun;

/// A refusal with what was probably meant, where it is about a name.
pub(crate) async fn suggested(api: &mut Api, noun: &Noun, selection: Option<&Filter>, error: Error) -> Error {
    let Error::Refused { code, mut message } = error else { return error };
    let entity = entity(noun.object);
    let about_fields =
        [Status::UnknownField, Status::UnknownFilter, Status::UnknownArgument, Status::UnknownOrder];
    let meant = if about_fields.iter().any(|status| status.code() == code) {
        field(entity, &message).map(str::to_owned)
    } else if code == Status::NothingMatched.code() {
        match selection.and_then(|filter| named(entity, filter)) {
            Some(name) => {
                let known = api.names(Names { object: noun.object, field: entity.key }).await;
                // If it is there, it is not what was missing.
                let near = nearest(&name, known.iter().map(String::as_str));
                near.filter(|near| *near != name).map(str::to_owned)
            }
            None => None,
        }
    } else {
        None
    };
    if let Some(meant) = meant {
        message.push_str(&format!("; did you mean `{meant}`?"));
    }
    Error::Refused { code, message }
}

/// The field that is nearest to the one in brackets.
fn field(entity: &Entity, message: &str) -> Option<&'static str> {
    let (_, rest) = message.rsplit_once('(')?;
    let (wrong, _) = rest.split_once(')')?;
    let known = entity.fields.iter().map(|f| f.name).chain(entity.aliases.iter().map(|(alias, _)| *alias));
    nearest(wrong, known)
}

/// The one name that objects are selected by, if they are.
fn named(entity: &Entity, filter: &Filter) -> Option<String> {
    let tests = filter.tests();
    let test = tests.iter().find(|test| test.field == entity.key && test.operator == Operator::Equal)?;
    match &test.operand {
        Operand::One(Some(name)) => Some(name.clone()),
        Operand::Many(names) => match names.as_slice() {
            [Some(name)] => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use qvd_model::action::Object;

    use super::*;

    #[test]
    fn fields_and_names_are_found_in_what_was_asked() {
        let vm = entity(Object::Vm);
        assert_eq!(field(vm, "There is no such field (stat)"), Some("state"));
        assert_eq!(field(vm, "There is no such field"), None);
        assert_eq!(named(vm, &Filter::any_of("name", ["desk1"])).as_deref(), Some("desk1"));
        assert_eq!(named(vm, &Filter::any_of("name", ["desk1", "desk2"])), None);
        assert_eq!(named(vm, &Filter::any_of("id", ["1"])), None);
    }
}
