//! JSON as somebody who knows the registry would make it up.

use proptest::prelude::*;
use qvd_model::action::{Object, entity};
use serde_json::{Map, Value};

/// Names that mean something somewhere, and some that do not.
pub fn word() -> impl Strategy<Value = String> {
    let mut words: Vec<String> =
        ["-and", "-or", "-not", "-between", "=", "!=", "~", "<", "%", "x", "1", "", "\0"]
            .map(str::to_owned)
            .to_vec();
    for object in Object::ALL {
        let entity = entity(*object);
        words.extend(entity.fields.iter().map(|f| f.name.to_owned()));
        words.extend(entity.nested.iter().map(|n| n.name.to_owned()));
        words.extend(entity.aliases.iter().map(|(alias, _)| (*alias).to_owned()));
    }
    prop_oneof![3 => prop::sample::select(words), 1 => any::<String>()]
}

pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_i64..3).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}
