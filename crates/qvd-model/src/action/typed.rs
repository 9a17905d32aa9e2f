//! Values of filters in the form that the database is given.

use super::{Entity, InvalidArgument, Kind};
use crate::filter::{Filter, Operand, Operator, Scalar};

/// The type of the values of custom properties.
pub const PROPERTY_VALUE: Kind = Kind::Text(32768);

/// Brings every value of a filter, whose names are proper ones, into the form that the database is given. `login` makes
/// logins of texts.
pub fn typed(
    filter: Filter,
    entity: &Entity,
    login: &dyn Fn(&str) -> String,
) -> Result<Filter, InvalidArgument> {
    let each = |members: Vec<Filter>| {
        members.into_iter().map(|m| typed(m, entity, login)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match filter {
        Filter::And(members) => Filter::And(each(members)?),
        Filter::Or(members) => Filter::Or(each(members)?),
        Filter::Not(inner) => Filter::Not(Box::new(typed(*inner, entity, login)?)),
        Filter::Test(mut test) => {
            // What is not a field is a custom property: a text.
            let kind = entity.field(&test.field).map_or(PROPERTY_VALUE, |f| f.kind);
            let kind = match test.operator {
                // A pattern is text, whatever it is compared with.
                Operator::Like if matches!(kind, Kind::Login(_)) => Kind::Login(4096),
                Operator::Like => Kind::Text(4096),
                // A state that does not exist has no rows; it is not an error to ask for it.
                _ if matches!(kind, Kind::Word(_) | Kind::Address) => Kind::Text(4096),
                // Nor is a number that nothing can have.
                _ if kind == Kind::Count => Kind::Int,
                _ => kind,
            };
            let value = |text: String| match kind {
                Kind::Login(_) => kind.canonical(&login(&text)),
                _ => kind.canonical(&text),
            };
            let scalar = |scalar: Scalar| scalar.map(value).transpose();
            test.operand = match test.operand {
                Operand::One(one) => Operand::One(scalar(one)?),
                Operand::Many(many) => Operand::Many(many.into_iter().map(scalar).collect::<Result<_, _>>()?),
                Operand::Range(from, to) => Operand::Range(value(from)?, value(to)?),
            };
            Filter::Test(test)
        }
    })
}
