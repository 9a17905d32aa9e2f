//! The JSON form of a filter (`spec/api.md` 3.4).
//!
//! ```text
//! filters  := object | list          list := [ key, value, key, value, … ]
//! entry    := ("-and" | "-or" | "-not") : filters  |  field : value
//! value    := scalar | [ scalar, … ] | { operator : scalar | [ scalar, … ], … } | { "-between" : [ a, b ] }
//! ```

use serde_json::{Map, Value, json};

use super::{Filter, Operand, Operator, Scalar, Test};

/// How deep a filter may nest.
pub const MAX_DEPTH: usize = 32;
/// How many values a filter may hold in all.
pub const MAX_VALUES: usize = 50_000;

/// Why JSON is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Something other than an object or a flat list of pairs.
    #[error("`{0}` is not an object or a list of pairs")]
    Shape(String),
    /// An operator that does not exist, or does not take such a value.
    #[error("`{0}` does not compare that")]
    Operator(String),
    /// A value inside a value.
    #[error("the value of `{0}` is not a text, a number, a switch, null, or a list of those")]
    Value(String),
    /// More than [`MAX_DEPTH`] or [`MAX_VALUES`].
    #[error("the filter is too large")]
    TooLarge,
}

/// Reads a filter. `null` is the empty one.
pub fn parse(value: &Value) -> Result<Filter, FilterError> {
    let mut budget = MAX_VALUES;
    if value.is_null() {
        return Ok(Filter::all());
    }
    conjunction(entries(value, 0, &mut budget)?)
}

/// Writes a filter; values become strings.
pub fn print(filter: &Filter) -> Value {
    let mut map = Map::new();
    match filter {
        Filter::And(members) if members.is_empty() => {}
        other => {
            let (key, value) = pair(other);
            map.insert(key, value);
        }
    }
    Value::Object(map)
}

fn entries(value: &Value, depth: usize, budget: &mut usize) -> Result<Vec<Filter>, FilterError> {
    if depth > MAX_DEPTH {
        return Err(FilterError::TooLarge);
    }
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| entry(key, value, depth, budget)).collect(),
        Value::Array(flat) => {
            let mut pairs = flat.chunks_exact(2);
            let parsed = pairs
                .by_ref()
                .map(|pair| match pair {
                    [Value::String(key), value] => entry(key, value, depth, budget),
                    [other, ..] => Err(FilterError::Shape(other.to_string())),
                    [] => Ok(Filter::all()),
                })
                .collect::<Result<_, _>>()?;
            match pairs.remainder() {
                [] => Ok(parsed),
                [odd, ..] => Err(FilterError::Shape(odd.to_string())),
            }
        }
        other => Err(FilterError::Shape(other.to_string())),
    }
}

fn conjunction(mut members: Vec<Filter>) -> Result<Filter, FilterError> {
    match members.len() {
        1 => Ok(members.pop().unwrap_or(Filter::all())),
        _ => Ok(Filter::And(members)),
    }
}

fn disjunction(mut members: Vec<Filter>) -> Filter {
    match members.len() {
        1 => members.pop().unwrap_or(Filter::all()),
        _ => Filter::Or(members),
    }
}

fn entry(key: &str, value: &Value, depth: usize, budget: &mut usize) -> Result<Filter, FilterError> {
    match key {
        "-and" => conjunction(entries(value, depth + 1, budget)?),
        "-or" | "-not" => {
            let members = entries(value, depth + 1, budget)?;
            // An empty alternative adds no restriction: an empty list page of the WAT sends one.
            if members.is_empty() {
                return Ok(Filter::all());
            }
            let either = disjunction(members);
            Ok(if key == "-or" { either } else { either.negated() })
        }
        field => comparisons(field, value, budget),
    }
}

fn comparisons(field: &str, value: &Value, budget: &mut usize) -> Result<Filter, FilterError> {
    let test = |operator, operand| Filter::Test(Test { field: field.to_owned(), operator, operand });
    match value {
        Value::Object(map) if map.is_empty() => Err(FilterError::Value(field.to_owned())),
        Value::Object(map) => {
            let members = map
                .iter()
                .map(|(name, value)| {
                    if name == "-between" {
                        return match operand(field, value, budget)? {
                            Operand::Many(ends) => match <[Scalar; 2]>::try_from(ends) {
                                Ok([Some(from), Some(to)]) => {
                                    Ok(test(Operator::Equal, Operand::Range(from, to)))
                                }
                                _ => Err(FilterError::Operator(name.clone())),
                            },
                            _ => Err(FilterError::Operator(name.clone())),
                        };
                    }
                    let operator =
                        Operator::parse(name).ok_or_else(|| FilterError::Operator(name.clone()))?;
                    let operand = operand(field, value, budget)?;
                    let listable = matches!(operator, Operator::Equal | Operator::Different | Operator::Like);
                    Ok(match operand {
                        // Any of them; existing clients also send a single value as a list.
                        Operand::Many(values) if !listable && !values.is_empty() => {
                            disjunction(values.into_iter().map(|v| test(operator, Operand::One(v))).collect())
                        }
                        Operand::Many(none) if !listable => test(Operator::Equal, Operand::Many(none)),
                        operand => test(operator, operand),
                    })
                })
                .collect::<Result<_, _>>()?;
            conjunction(members)
        }
        plain => Ok(test(Operator::Equal, operand(field, plain, budget)?)),
    }
}

fn operand(field: &str, value: &Value, budget: &mut usize) -> Result<Operand, FilterError> {
    let mut scalar = |value: &Value| {
        *budget = budget.checked_sub(1).ok_or(FilterError::TooLarge)?;
        match value {
            Value::Null => Ok(None),
            Value::Bool(on) => Ok(Some(u8::from(*on).to_string())),
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(FilterError::Value(field.to_owned())),
        }
    };
    match value {
        Value::Array(values) => Ok(Operand::Many(values.iter().map(scalar).collect::<Result<_, _>>()?)),
        one => Ok(Operand::One(scalar(one)?)),
    }
}

fn pair(filter: &Filter) -> (String, Value) {
    let flat = |members: &[Filter]| {
        let pairs = members.iter().map(pair);
        Value::Array(pairs.flat_map(|(key, value)| [Value::String(key), value]).collect())
    };
    match filter {
        Filter::And(members) => ("-and".to_owned(), flat(members)),
        Filter::Or(members) => ("-or".to_owned(), flat(members)),
        Filter::Not(inner) => ("-not".to_owned(), flat(std::slice::from_ref(inner))),
        Filter::Test(test) => {
            let value = match &test.operand {
                Operand::One(value) => json!({ test.operator.as_str(): value }),
                Operand::Many(values) => json!({ test.operator.as_str(): values }),
                Operand::Range(from, to) => json!({ "-between": [from, to] }),
            };
            (test.field.clone(), value)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{scalar, tree};
    use super::*;

    #[test]
    fn the_forms_of_existing_clients_are_read() {
        let both = parse(&json!({"-and": ["state", {"=": "running"}, "name", {"LIKE": "lab%"}]})).unwrap();
        let written = Filter::test("state", Operator::Equal, "running");
        assert_eq!(both, written.and(Filter::test("name", Operator::Like, "lab%")));
        let ids = parse(&json!({"-or": ["id", 1, "id", 2]})).unwrap();
        let one = Filter::test("id", Operator::Equal, "1");
        assert_eq!(ids, one.or(Filter::test("id", Operator::Equal, "2")));
        assert!(parse(&json!({"-or": []})).unwrap().is_unrestricted());
        assert!(parse(&json!({})).unwrap().is_unrestricted());
        assert_eq!(parse(&json!({"blocked": true})).unwrap(), Filter::test("blocked", Operator::Equal, "1"));
    }

    #[test]
    fn a_range_and_two_operators_are_conjunctions() {
        let range = parse(&json!({"id": {"-between": [1, 3]}})).unwrap();
        let operand = Operand::Range("1".into(), "3".into());
        assert_eq!(range, Filter::Test(Test { field: "id".into(), operator: Operator::Equal, operand }));
        assert!(matches!(parse(&json!({"id": {">=": 1, "<=": 3}})).unwrap(), Filter::And(m) if m.len() == 2));
    }

    #[test]
    fn a_list_of_bounds_asks_for_any_of_them() {
        let above = |bound: &str| Filter::test("id", Operator::Greater, bound);
        let of = |bounds: Value| parse(&json!({"-and": ["-and", ["id", {">": bounds}]]})).unwrap();
        assert_eq!(of(json!(["10000"])), above("10000"));
        assert_eq!(of(json!([7, 9])), Filter::Or(vec![above("7"), above("9")]));
        let none = Test { field: "id".into(), operator: Operator::Equal, operand: Operand::Many(Vec::new()) };
        assert_eq!(of(json!([])), Filter::Test(none), "nothing is above no bound");
    }

    #[test]
    fn what_is_not_a_filter_is_refused() {
        for bad in [
            json!(["a"]),
            json!("x"),
            json!({"a": {"=": {"x": 1}}}),
            json!({"a": {"~*": "x"}}),
            json!({"a": {"<": [[1]]}}),
            json!({"id": {"-between": [1]}}),
            json!([1, 2]),
            json!({"a": {}}),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
        let deep = (0..64).fold(json!({"a": 1}), |inner, _| json!({ "-not": inner }));
        assert_eq!(parse(&deep), Err(FilterError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(filter in tree(scalar())) {
            prop_assert_eq!(parse(&print(&filter)), Ok(filter));
        }
    }
}
