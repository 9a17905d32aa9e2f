//! The list of VMs (`spec/protocol.md` 4.2).

use serde_json::{Value, json};

use crate::json::ascii;

/// One VM of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmEntry {
    /// What `id=` takes.
    pub id: i32,
    /// The state as a word; a client may meet words that it does not know.
    pub state: String,
    /// The VM's name.
    pub name: String,
    /// Whether an administrator blocked it.
    pub blocked: bool,
    /// Whether it is an application rather than a desktop.
    pub is_application: bool,
}

/// An encoded list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmList {
    /// The body of the answer.
    pub body: Vec<u8>,
    /// How many VMs did not fit into the buffer that existing clients have.
    pub left_out: usize,
}

/// Existing clients take less than 64 KiB (rule R13).
const MAX_BODY: usize = 65_000;

/// Encodes a list: integers where old clients unpack integers (rule R12), ASCII only, ended by a line feed.
pub fn encode_vms(entries: &[VmEntry]) -> VmList {
    let mut body = String::from("[");
    let mut fitting = 0_usize;
    for entry in entries {
        let item = json!({
            "id": entry.id,
            "state": entry.state,
            "name": entry.name,
            "blocked": i32::from(entry.blocked),
            "is_application": i32::from(entry.is_application),
        });
        let item = ascii(&item.to_string());
        if body.len().saturating_add(item.len()) > MAX_BODY {
            break;
        }
        if fitting > 0 {
            body.push(',');
        }
        body.push_str(&item);
        fitting = fitting.saturating_add(1);
    }
    body.push_str("]\n");
    VmList { body: body.into_bytes(), left_out: entries.len().saturating_sub(fitting) }
}

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the router's list of VMs is malformed: {0}")]
pub struct MalformedList(String);

/// Decodes a list of any server: switches may be integers, booleans or absent.
pub fn decode_vms(body: &[u8]) -> Result<Vec<VmEntry>, MalformedList> {
    let list: Vec<Value> = serde_json::from_slice(body).map_err(|e| MalformedList(e.to_string()))?;
    list.iter()
        .map(|item| {
            let id = integer(item.get("id")).ok_or_else(|| MalformedList("an entry has no id".to_owned()))?;
            let word = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            Ok(VmEntry {
                id,
                state: word("state"),
                name: word("name"),
                blocked: switch(item.get("blocked")),
                is_application: switch(item.get("is_application")),
            })
        })
        .collect()
}

fn integer(value: Option<&Value>) -> Option<i32> {
    match value? {
        Value::Number(number) => number.as_i64().and_then(|n| i32::try_from(n).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn switch(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(on)) => *on,
        other => integer(other).is_some_and(|n| n != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i32, name: &str) -> VmEntry {
        VmEntry {
            id,
            state: "stopped".to_owned(),
            name: name.to_owned(),
            blocked: false,
            is_application: false,
        }
    }

    #[test]
    fn switches_are_integers_and_names_are_ascii() {
        let list = encode_vms(&[entry(12, "sal\u{f3}n \u{1f600}")]);
        let text = String::from_utf8(list.body.clone()).unwrap();
        assert!(text.contains("\"blocked\":0") && text.contains("\"id\":12"), "{text}");
        assert!(text.contains("sal\\u00f3n \\ud83d\\ude00") && text.ends_with("]\n"), "{text}");
        assert_eq!(decode_vms(&list.body).unwrap(), [entry(12, "sal\u{f3}n \u{1f600}")]);
        assert_eq!(encode_vms(&[]).body, b"[]\n");
    }

    #[test]
    fn a_list_never_overflows_old_clients() {
        let many: Vec<_> = (0..5000).map(|id| entry(id, "desktop")).collect();
        let list = encode_vms(&many);
        assert!(list.body.len() < 65_536 && list.left_out > 0);
        assert_eq!(decode_vms(&list.body).unwrap().len() + list.left_out, 5000);
    }

    #[test]
    fn other_servers_are_understood() {
        let list = decode_vms(b"[ {\"id\" : \"7\", \"blocked\" : true, \"state\" : \"odd\"} ]").unwrap();
        assert_eq!((list[0].id, list[0].blocked, list[0].state.as_str()), (7, true, "odd"));
        assert!(decode_vms(b"{}").is_err() && decode_vms(b"[{}]").is_err());
    }
}
