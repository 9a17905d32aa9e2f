//! `totp`: the second factor of logins.

use qvd_model::action::Object;
use qvd_model::filter::{Filter, Operand, Operator, Test};
use serde_json::{Map, Value, json};

use crate::api::{Api, Call};
use crate::command::SecondFactor;
use crate::error::Error;

/// Does what was asked for; what to show.
pub(crate) async fn run(api: &mut Api, wish: &SecondFactor) -> Result<String, Error> {
    match wish {
        SecondFactor::See => see(api).await,
        SecondFactor::On => on(api).await,
        SecondFactor::Off => {
            // A login that is needed takes a code, which can be taken only once.
            api.identity().await?;
            let code = api.code()?;
            ask(api, "end", &[("code", json!(code))]).await?;
            Ok("logins need no code any more\n".to_owned())
        }
        SecondFactor::Reset(name) => reset(api, name).await,
    }
}

async fn ask(api: &mut Api, action: &str, more: &[(&str, Value)]) -> Result<Map<String, Value>, Error> {
    let mut envelope = Map::from_iter([("action".to_owned(), json!(format!("second_factor_{action}")))]);
    envelope.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Ok(api.post("/api/second_factor", &envelope).await?.members)
}

fn text<'m>(members: &'m Map<String, Value>, name: &str) -> &'m str {
    members.get(name).and_then(Value::as_str).unwrap_or_default()
}

async fn see(api: &mut Api) -> Result<String, Error> {
    let members = ask(api, "see", &[]).await?;
    let left = members.get("recovery_codes_left").and_then(Value::as_u64).unwrap_or(0);
    Ok(match members.get("confirmed").and_then(Value::as_u64) {
        Some(1) => format!("logins need a code; {left} recovery codes are left\n"),
        _ => "logins need no code\n".to_owned(),
    })
}

async fn on(api: &mut Api) -> Result<String, Error> {
    let begun = ask(api, "begin", &[]).await?;
    eprintln!("secret for your authenticator: {}", text(&begun, "secret"));
    eprintln!("the same as an address: {}", text(&begun, "uri"));
    let code = api.code()?;
    let confirmed = ask(api, "confirm", &[("code", json!(code))]).await?;
    let codes = confirmed.get("recovery_codes").and_then(Value::as_array);
    let mut shown =
        String::from("logins need a code now; each of these does once, when the device is lost:\n");
    for code in codes.into_iter().flatten().filter_map(Value::as_str) {
        shown.push_str(&format!("{code}\n"));
    }
    Ok(shown)
}

async fn reset(api: &mut Api, name: &str) -> Result<String, Error> {
    let named = Filter::Test(Test {
        field: "name".to_owned(),
        operator: Operator::Equal,
        operand: Operand::One(Some(name.to_owned())),
    });
    let found = api.call(&Call::list(Object::Administrator, Some(named), &["id"])?).await?;
    let ids: Vec<_> = found.rows.iter().filter_map(|row| row.get("id").cloned()).collect();
    let [id] = ids.as_slice() else {
        return Err(Error::Usage(format!("{} administrators are called {name}", ids.len())));
    };
    ask(api, "reset", &[("id", id.clone())]).await?;
    Ok(format!("logins of {name} need no code any more\n"))
}
