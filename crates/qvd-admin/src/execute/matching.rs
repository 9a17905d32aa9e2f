//! Filters of lists that are made in memory.

use qvd_model::filter::{Filter, Operand, Operator, Test, like};

/// Whether a filter holds for a row whose fields have the texts that `text` tells.
pub(super) fn holds(filter: &Filter, text: &impl Fn(&str) -> Option<String>) -> bool {
    match filter {
        Filter::And(members) => members.iter().all(|m| holds(m, text)),
        Filter::Or(members) => members.iter().any(|m| holds(m, text)),
        Filter::Not(inner) => !holds(inner, text),
        Filter::Test(test) => compared(test, text(&test.field).as_deref()),
    }
}

fn compared(test: &Test, value: Option<&str>) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    // Numbers compare as numbers, everything else as text.
    let order = |a: &str, b: &str| match (a.parse::<i64>(), b.parse::<i64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    };
    let one = |wanted: &Option<String>| match (value, wanted) {
        (None, None) => true,
        (Some(value), Some(wanted)) => match test.operator {
            Operator::Like => like(wanted, value),
            _ => order(value, wanted) == Equal,
        },
        _ => false,
    };
    match (&test.operand, test.operator) {
        (Operand::Range(from, to), _) => {
            value.is_some_and(|v| order(v, from) != Less && order(v, to) != Greater)
        }
        // As in the database: what has no value does not differ from one.
        (Operand::One(wanted), Operator::Different) => value.is_some() && !one(wanted),
        (Operand::Many(wanted), Operator::Different) => value.is_some() && !wanted.iter().any(one),
        (Operand::One(wanted), Operator::Equal | Operator::Like) => one(wanted),
        (Operand::Many(wanted), _) => wanted.iter().any(one),
        (Operand::One(wanted), operator) => {
            let (Some(value), Some(wanted)) = (value, wanted) else { return false };
            let order = order(value, wanted);
            match operator {
                Operator::Less => order == Less,
                Operator::AtMost => order != Greater,
                Operator::Greater => order == Greater,
                _ => order != Less,
            }
        }
    }
}
