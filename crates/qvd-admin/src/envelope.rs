//! The request as it arrives: a JSON object, or parameters that hold JSON (`spec/api.md` 3.1 and 3.2).

use qvd_model::action::Status;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// The members of a request; those that hold secrets are not shown in `Debug`.
#[derive(Clone, Default)]
pub struct Envelope {
    /// The action.
    pub action: Option<String>,
    /// Which rows.
    pub filters: Value,
    /// What is written.
    pub arguments: Map<String, Value>,
    /// Which members of rows.
    pub fields: Vec<String>,
    /// By which fields rows are ordered.
    pub order: Vec<String>,
    /// `-asc` or `-desc`.
    pub direction: Option<String>,
    /// Page, from 1.
    pub offset: i64,
    /// Rows of a page, 0 for all.
    pub block: i64,
    /// The client, as it calls itself.
    pub source: Option<String>,
    /// Administrator to log in.
    pub login: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// A code of its second factor.
    pub code: Option<String>,
    /// Its tenant.
    pub tenant: Option<String>,
    /// Session.
    pub sid: Option<String>,
    /// A disk image.
    pub id: Option<i32>,
    /// Where an image is downloaded from.
    pub url: Option<String>,
    /// Bytes of a file that will be sent.
    pub length: Option<u64>,
    /// Its sha256.
    pub sha256: Option<String>,
    /// How the pages of a list follow each other.
    pub pages: Pages,
}

/// How the pages of a list follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pages {
    /// By number, with the number of all rows: as old clients ask.
    #[default]
    Numbered,
    /// Each after the last row of the one before.
    After {
        /// Where that row stands in the order; `None` for the first page.
        row: Option<Vec<Option<String>>>,
        /// Whether all rows are counted as well.
        count: bool,
    },
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope").field("action", &self.action).finish_non_exhaustive()
    }
}

/// Rows of a page when the request does not say.
const BLOCK: i64 = 10_000;

/// Members that hold JSON when they come as parameters.
const STRUCTURED: [&str; 5] = ["filters", "arguments", "order_by", "fields", "parameters"];

impl Envelope {
    /// From a JSON body.
    pub fn from_json(body: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Self::from_members(members),
            _ => Err(Refusal::new(Status::NotJson)),
        }
    }

    /// From parameters of a URL or a form.
    pub fn from_parameters(parameters: impl IntoIterator<Item = (String, String)>) -> Result<Self, Refusal> {
        let mut members = Map::new();
        for (name, text) in parameters {
            let value = if STRUCTURED.contains(&name.as_str()) && !text.is_empty() {
                serde_json::from_str(&text).map_err(|_| Refusal::about(Status::NotJson, name.as_str()))?
            } else {
                Value::String(text)
            };
            members.insert(name, value);
        }
        Self::from_members(members)
    }

    /// From the members of an object.
    pub(crate) fn from_members(mut members: Map<String, Value>) -> Result<Self, Refusal> {
        let mut envelope = Self { offset: 1, block: BLOCK, ..Self::default() };
        envelope.filters =
            members.remove("filters").filter(|v| v.as_str() != Some("")).unwrap_or(Value::Null);
        envelope.arguments = match members.remove("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(Value::Array(empty)) if empty.is_empty() => Map::new(),
            Some(Value::String(empty)) if empty.is_empty() => Map::new(),
            Some(_) => return Err(Refusal::about(Status::NotJson, "arguments")),
        };
        envelope.fields = match members.remove("fields") {
            Some(Value::Object(empty)) if empty.is_empty() => Vec::new(),
            fields => words("fields", fields)?,
        };
        match members.remove("order_by") {
            None | Some(Value::Null) => {}
            Some(Value::Object(mut order)) => {
                envelope.order = words("order_by", order.remove("field"))?;
                envelope.direction = text("order_by", order.remove("order"))?;
            }
            Some(Value::String(empty)) if empty.is_empty() => {}
            Some(_) => return Err(Refusal::about(Status::NotJson, "order_by")),
        }
        if let Some(Value::Object(mut parameters)) = members.remove("parameters") {
            envelope.source = text("parameters", parameters.remove("source"))?;
        }
        envelope.offset = number(members.remove("offset"))?.unwrap_or(1);
        envelope.block = number(members.remove("block"))?.unwrap_or(BLOCK);
        envelope.id = match number(members.remove("id"))? {
            None => None,
            Some(id) => Some(i32::try_from(id).map_err(|_| Refusal::about(Status::WrongType, "id"))?),
        };
        envelope.url = text("url", members.remove("url"))?.map(unquoted);
        envelope.length = length(members.remove("length"))?;
        envelope.sha256 = checksum(text("sha256", members.remove("sha256"))?)?;
        envelope.action = match members.remove("action") {
            Some(Value::String(action)) if !action.is_empty() => Some(action),
            _ => None,
        };
        envelope.login = text("login", members.remove("login"))?;
        envelope.password = text("password", members.remove("password"))?;
        envelope.code = text("code", members.remove("code"))?;
        envelope.tenant = text("tenant", members.remove("tenant"))?;
        envelope.sid = text("sid", members.remove("sid"))?;
        Ok(envelope)
    }
}

/// A text; a number is read as one, anything that could be taken for a structure is refused.
fn text(name: &str, value: Option<Value>) -> Result<Option<String>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(Refusal::about(Status::WrongType, name)),
    }
}

/// The text of a JSON string: the console quotes addresses.
fn unquoted(given: String) -> String {
    serde_json::from_str(&given).unwrap_or(given)
}

/// Bytes of a file.
fn length(value: Option<Value>) -> Result<Option<u64>, Refusal> {
    let length = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    let wrong = || Refusal::about(Status::WrongType, "length").because("the bytes of the file");
    length.map(Some).ok_or_else(wrong)
}

/// A sha256, in lower case.
fn checksum(given: Option<String>) -> Result<Option<String>, Refusal> {
    let Some(given) = given.filter(|text| !text.is_empty()) else { return Ok(None) };
    if given.len() == 64 && given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(given.to_ascii_lowercase()));
    }
    Err(Refusal::about(Status::WrongType, "sha256").because("64 hexadecimal digits"))
}

fn words(name: &str, value: Option<Value>) -> Result<Vec<String>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) if one.is_empty() => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(several)) => several
            .into_iter()
            .map(|word| match word {
                Value::String(word) => Ok(word),
                _ => Err(Refusal::about(Status::NotJson, name)),
            })
            .collect(),
        Some(_) => Err(Refusal::about(Status::NotJson, name)),
    }
}

fn number(value: Option<Value>) -> Result<Option<i64>, Refusal> {
    let wrong = || Refusal::new(Status::WrongFilterValue);
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_i64().ok_or_else(wrong)?,
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().map_err(|_| wrong())?,
        Some(_) => return Err(wrong()),
    };
    if number < 0 { Err(wrong().because("pages and their sizes are not negative")) } else { Ok(Some(number)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let json = br#"{"action":"vm_get_list","filters":{"id":1},"fields":["id"],"offset":2,"block":"25",
            "order_by":{"field":"name","order":"-desc"},"parameters":{"source":"WAT"},"unknown":{}}"#;
        let json = Envelope::from_json(json).unwrap();
        let pairs = [
            ("action", "vm_get_list"),
            ("filters", r#"{"id":1}"#),
            ("fields", r#"["id"]"#),
            ("offset", "2"),
            ("block", "25"),
            ("order_by", r#"{"field":"name","order":"-desc"}"#),
            ("parameters", r#"{"source":"WAT"}"#),
        ];
        let url = Envelope::from_parameters(pairs.map(|(a, b)| (a.to_owned(), b.to_owned()))).unwrap();
        for envelope in [json, url] {
            assert_eq!(envelope.action.as_deref(), Some("vm_get_list"));
            assert_eq!(envelope.filters, serde_json::json!({"id": 1}));
            assert_eq!((envelope.offset, envelope.block), (2, 25));
            assert_eq!(
                (envelope.order, envelope.direction.as_deref()),
                (vec!["name".to_owned()], Some("-desc"))
            );
            assert_eq!(envelope.source.as_deref(), Some("WAT"));
        }
    }

    #[test]
    fn structures_where_texts_belong_are_refused() {
        for body in [
            &br#"[]"#[..],
            b"x",
            br#"{"login":{"!=":""},"password":"x"}"#,
            br#"{"tenant":["*"]}"#,
            br#"{"arguments":[1]}"#,
            br#"{"fields":{"a":1}}"#,
            br#"{"offset":-1}"#,
            br#"{"block":1.5}"#,
            br#"{"order_by":7}"#,
        ] {
            assert!(Envelope::from_json(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        let broken = [("filters".to_owned(), "{".to_owned())];
        assert_eq!(Envelope::from_parameters(broken).unwrap_err().status(), Status::NotJson);
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_fail(body: Vec<u8>, text: String) {
            let _ = Envelope::from_json(&body);
            let member = serde_json::json!({"action": text, "filters": text, "offset": text, "fields": text});
            let _ = Envelope::from_json(member.to_string().as_bytes());
        }
    }
}
