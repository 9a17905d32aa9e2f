//! What a request changed, as the audit log keeps it (`spec/api.md` 9): only what differs, without secrets.

use qvd_db::admin::state;
use qvd_db::{Error, Session};
use qvd_model::action::Object;
use qvd_model::config::masked;
use serde_json::{Map, Value};

use crate::record::bounded;

/// The values of an object at one moment, secrets and all.
pub(crate) type State = Map<String, Value>;

/// The values of an object as they are now; `None` if it is not there.
pub(crate) async fn state_of(
    session: &impl Session,
    object: Object,
    id: i32,
) -> Result<Option<State>, Error> {
    let Some(text) = state::state(session, object, id).await? else { return Ok(None) };
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|e| Error::Row {
        operation: "read the state of the object",
        column: "state",
        problem: e.to_string(),
    })
}

/// A difference between two states of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// A JSON object of what was there and is no more; none if there was no object.
    pub(crate) before: Option<String>,
    /// A JSON object of what is there instead; none if there is no object any more.
    pub(crate) after: Option<String>,
}

impl Change {
    /// The difference, with asterisks in place of secrets.
    pub(crate) fn between(before: Option<State>, after: Option<State>) -> Self {
        let (there, still) = (before.is_some(), after.is_some());
        let (old, new) = difference(before.unwrap_or_default(), after.unwrap_or_default());
        let text = |state| bounded(masked(&Value::Object(state)).to_string());
        Self { before: there.then(|| text(old)), after: still.then(|| text(new)) }
    }
}

/// What only the first has, and what only the second has; nothing and null are the same.
fn difference(mut before: State, mut after: State) -> (State, State) {
    let names: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
    for name in names {
        let (old, new) = match (before.remove(&name), after.remove(&name)) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                let (old, new) = difference(old, new);
                let some = |state: State| (!state.is_empty()).then_some(Value::Object(state));
                (some(old), some(new))
            }
            (old, new) if old == new => (None, None),
            other => other,
        };
        let keep = |state: &mut State, value: Option<Value>| {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                state.insert(name.clone(), value);
            }
        };
        keep(&mut before, old);
        keep(&mut after, new);
    }
    (before, after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qvd_model::config::MASK;
    use serde_json::json;

    use super::*;

    fn state(value: Value) -> Option<State> {
        value.as_object().cloned()
    }

    #[test]
    fn only_what_differs_is_kept_and_secrets_are_not() {
        let change = Change::between(
            state(json!({"name": "a", "note": null, "password": "old", "properties": {"x": "1", "y": "2"}})),
            state(
                json!({"name": "a", "note": "n", "password": "new", "properties": {"x": "1", "api.secret": "s"}}),
            ),
        );
        let parsed = |text: &Option<String>| serde_json::from_str::<Value>(text.as_deref().unwrap()).unwrap();
        assert_eq!(parsed(&change.before), json!({"password": MASK, "properties": {"y": "2"}}));
        assert_eq!(
            parsed(&change.after),
            json!({"note": "n", "password": MASK, "properties": {"api.secret": MASK}})
        );
    }

    #[test]
    fn a_new_object_has_no_before_and_one_that_is_gone_no_after() {
        let one = || state(json!({"name": "a", "note": null}));
        let made = Change { before: None, after: Some(r#"{"name":"a"}"#.to_owned()) };
        assert_eq!(Change::between(None, one()), made);
        assert_eq!(Change::between(one(), None), Change { before: made.after, after: None });
        let same = Some("{}".to_owned());
        assert_eq!(Change::between(one(), one()), Change { before: same.clone(), after: same });
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a-c]".prop_map(Value::from)
        ];
        leaf.prop_recursive(2, 12, 3, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        })
    }

    fn states() -> impl Strategy<Value = State> {
        prop::collection::btree_map("[a-d]", values(), 0..4).prop_map(|members| members.into_iter().collect())
    }

    /// Nulls, and objects that have nothing but those, are as good as absent.
    fn plain(state: &State) -> State {
        let kept = state.iter().filter_map(|(name, value)| match value {
            Value::Null => None,
            Value::Object(inner) => {
                let inner = plain(inner);
                (!inner.is_empty()).then(|| (name.clone(), Value::Object(inner)))
            }
            other => Some((name.clone(), other.clone())),
        });
        kept.collect()
    }

    /// Takes `old` out of a state and puts `new` in.
    fn applied(mut state: State, old: &State, new: &State) -> State {
        let names: Vec<String> = old.keys().chain(new.keys()).cloned().collect();
        for name in names {
            let (from, to) = (old.get(&name), new.get(&name));
            let nested = |value: Option<&Value>| value.is_none_or(Value::is_object);
            let current = state.remove(&name);
            let value = match current {
                Some(Value::Object(inner)) if nested(from) && nested(to) => {
                    let part = |v: Option<&Value>| v.and_then(Value::as_object).cloned().unwrap_or_default();
                    let inner = applied(inner, &part(from), &part(to));
                    Some(Value::Object(inner))
                }
                _ => to.cloned(),
            };
            state.extend(value.map(|value| (name, value)));
        }
        state
    }

    proptest! {
        #[test]
        fn the_difference_leads_from_one_to_the_other(before in states(), after in states()) {
            let (before, after) = (plain(&before), plain(&after));
            let (old, new) = difference(before.clone(), after.clone());
            prop_assert_eq!(plain(&applied(before.clone(), &old, &new)), after.clone());
            prop_assert_eq!(plain(&applied(after, &new, &old)), before);
        }
    }
}
