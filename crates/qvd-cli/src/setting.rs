//! `config set|del|default|ssl`: settings have no number; their key and tenant find them.

use qvd_model::action::{Object, Verb as Does};
use qvd_model::config;
use qvd_model::filter::{Filter, text};
use serde_json::{Map, Value as Json, json};

use crate::api::{Answer, Call};
use crate::change::arguments;
use crate::command::{Assignment, Value, Verb};
use crate::error::Error;
use crate::listing::config_scope;
use crate::noun::Noun;
use crate::run::{Context, write};
use crate::tls;

/// Sets or resets settings.
pub(crate) async fn change(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    verb: Verb,
) -> Result<(), Error> {
    let (mut call, what) = match verb {
        Verb::Set(assignments) => {
            let mut call = Call::new(noun.object, Does::CreateOrUpdate)?;
            call.arguments = arguments(context, noun, assignments)?;
            scope(context, &mut call.arguments).await?;
            warn(context, &call.arguments);
            let what = format!("{}", Json::Object(call.arguments.clone()));
            (call, what)
        }
        verb => {
            if selection.is_none() {
                let word = verb.word();
                return Err(Error::Usage(format!("which setting? config key=NAME {word}")));
            }
            let mut call = Call::new(noun.object, Does::Delete)?;
            call.filter = config_scope(context, noun, selection).await?;
            let what = call.filter.as_ref().map(text::print).unwrap_or_default();
            (call, what)
        }
    };
    if context.options.dry_run {
        return write(context.out, &format!("would send {} {what}\n", call.action));
    }
    call.block = 0;
    let answer = context.api.call(&call).await?;
    context.print_total(answer.total)
}

/// Whose setting it is: as typed, otherwise everybody's for those above tenants. Others have only their own, and
/// are told so where they ask for another.
async fn scope(context: &mut Context<'_>, arguments: &mut Map<String, Json>) -> Result<(), Error> {
    let who = context.api.identity().await?;
    let named = ["tenant_id", "tenant_name"].iter().find_map(|t| arguments.get(*t));
    match named {
        None if who.is_super() => {
            context.remark("tenant_id=-1: for all tenants");
            arguments.insert("tenant_id".to_owned(), json!("-1"));
        }
        Some(tenant) if !who.is_super() => {
            let own = tenant.as_str() == Some(&who.tenant_id.to_string()) || *tenant == json!(who.tenant);
            if !own {
                return Err(Error::Refused {
                    code: qvd_model::action::Status::ArgumentNotAllowed.code(),
                    message: "only settings of the own tenant can be set; leave tenant_id out".to_owned(),
                });
            }
        }
        _ => {}
    }
    Ok(())
}

/// Slips that are stored all the same.
fn warn(context: &Context<'_>, arguments: &Map<String, Json>) {
    let text = |name: &str| arguments.get(name).and_then(Json::as_str).unwrap_or_default();
    let (key, value) = (text("key"), text("value"));
    if config::key(key).is_none() {
        let hint =
            config::suggestion(key).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        context.remark(&format!("{key} is an unknown key: it is stored, and nothing reads it{hint}"));
    }
    if key.contains("ldap") && value.contains(" =") && value.starts_with('(') {
        context
            .remark("the LDAP filter has a blank before `=`, which is a part of the attribute's name then");
    }
}

/// `config ssl`: what the routers show to clients.
pub(crate) async fn ssl(context: &mut Context<'_>, assignments: Vec<Assignment>) -> Result<(), Error> {
    let mut files = Vec::new();
    for Assignment { name, value } in assignments {
        let Value::One(path) = value else {
            return Err(Error::Usage(format!("`{name}` needs one file: {name}=PATH")));
        };
        if !["key", "cert", "crl", "ca"].contains(&name.as_str()) {
            return Err(Error::Usage(format!("`{name}` is not a part of it; expected key, cert, crl or ca")));
        }
        files.push((name, path));
    }
    let Some(answer) = send_ssl(context, &files).await? else { return Ok(()) };
    if let Some(end) = answer.members.get("expires").and_then(Json::as_str) {
        let names = texts(&answer, "names").collect::<Vec<_>>().join(", ");
        context.remark(&format!("the certificate is for {names}, until {end} UTC"));
    }
    context.print_total(answer.total.max(1))
}

/// Sends the contents of the files, which are read here unless they are said to be on the server; an empty path
/// removes. The result is `None` if it is only shown what would be sent.
pub(crate) async fn send_ssl(
    context: &mut Context<'_>,
    files: &[(String, String)],
) -> Result<Option<Answer>, Error> {
    let mut arguments = Map::new();
    for (name, path) in files {
        let content = if context.options.server_side || path.is_empty() {
            path.clone()
        } else {
            std::fs::read_to_string(path).map_err(|e| Error::Usage(format!("{name}: {path}: {e}")))?
        };
        arguments.insert(name.clone(), json!(content));
    }
    let part = |name: &str| arguments.get(name).and_then(Json::as_str).unwrap_or_default();
    if let Some(missing) = ["key", "cert"].into_iter().find(|name| part(name).is_empty()) {
        return Err(Error::Usage(format!("{missing} is missing: config ssl key=PATH, cert=PATH")));
    }
    if !context.options.server_side {
        tls::check_pair(part("cert"), part("key"))?;
        let no_pem =
            ["crl", "ca"].into_iter().find(|n| !part(n).is_empty() && !part(n).contains("-----BEGIN "));
        if let Some(name) = no_pem {
            return Err(Error::Usage(format!("{name}: the file is not PEM")));
        }
    }
    if context.options.dry_run {
        let names: Vec<&str> = arguments.keys().map(String::as_str).collect();
        write(context.out, &format!("would send config_ssl {}\n", names.join(", ")))?;
        return Ok(None);
    }
    let call = Call { arguments, ..Call::new(Object::Certificate, Does::CreateOrUpdate)? };
    let answer = context.api.call(&call).await?;
    for warning in texts(&answer, "warnings") {
        context.remark(&format!("warning: {warning}"));
    }
    Ok(Some(answer))
}

/// The texts of a list in an answer.
fn texts<'a>(answer: &'a Answer, name: &str) -> impl Iterator<Item = &'a str> {
    let list = answer.members.get(name).and_then(Json::as_array);
    list.into_iter().flatten().filter_map(Json::as_str)
}
