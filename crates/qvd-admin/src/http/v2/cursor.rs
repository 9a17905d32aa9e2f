//! Where a page of a list begins, as a text that clients only hand back.
//!
//! It holds the place of a row in the order. Nothing has to be signed: the place is checked like any other value, and
//! whatever it says, a client sees the rows that it may see.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qvd_model::action::{Object, Status};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// Longer ones are not read.
const MAX: usize = 64 << 10;

/// The place behind which a page begins, and the order in which it is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    object: String,
    order: Vec<String>,
    descending: bool,
    row: Vec<Option<String>>,
}

impl Cursor {
    pub(super) fn new(object: Object, order: &[&str], descending: bool, row: Vec<Option<String>>) -> Self {
        let order = order.iter().map(|field| (*field).to_owned()).collect();
        Self { object: object.as_str().to_owned(), order, descending, row }
    }

    /// The text.
    pub(super) fn write(&self) -> String {
        // Texts and switches always become JSON.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The place, if the text is one of a list of these objects in this order.
    pub(super) fn read(
        text: &str,
        object: Object,
        order: &[String],
        descending: bool,
    ) -> Result<Vec<Option<String>>, Refusal> {
        let wrong = |why: &str| Refusal::about(Status::WrongFilterValue, "cursor").because(why);
        let bytes = if text.len() > MAX { None } else { URL_SAFE_NO_PAD.decode(text).ok() };
        let cursor: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let cursor = cursor.ok_or_else(|| wrong("it is not one that this API gave"))?;
        if cursor.object != object.as_str() || cursor.order != order || cursor.descending != descending {
            return Err(wrong("it belongs to another list or another order"));
        }
        Ok(cursor.row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(row: Vec<Option<String>>, descending: bool) {
            let text = Cursor::new(Object::Vm, &["name"], descending, row.clone()).write();
            let order = ["name".to_owned()];
            prop_assert_eq!(Cursor::read(&text, Object::Vm, &order, descending).unwrap(), row);
            prop_assert!(Cursor::read(&text, Object::Vm, &order, !descending).is_err());
            prop_assert!(Cursor::read(&text, Object::User, &order, descending).is_err());
            prop_assert!(Cursor::read(&text, Object::Vm, &[], descending).is_err());
        }

        #[test]
        fn no_text_makes_it_fail(text: String) {
            let _ = Cursor::read(&text, Object::Vm, &[], false);
        }
    }
}
