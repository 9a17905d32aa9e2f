//! What `qa` does with objects.

use std::io::Write;

use qvd_model::action::{self, Object, Order, Status, Verb as Does};
use qvd_model::filter::Filter;
use serde_json::{Map, Value as Json, json};

use super::Legacy;
use super::arguments::Arguments;
use crate::api::{Answer, Call, ask_line};
use crate::command::{Assignment, Value};
use crate::error::Error;
use crate::noun::{Noun, VM};
use crate::reach::{self, Way};
use crate::run::{new_password, write};
use crate::{change, creation, property};

impl Legacy<'_> {
    pub(super) async fn run(&mut self) -> Result<(), Error> {
        if let Some(way) = Way::of(self.arguments.command.word) {
            let (selection, passed) = (self.selection(), self.arguments.passed.clone());
            return reach::go(self.context.api, way, selection, &passed).await;
        }
        match (self.arguments.command.object, self.arguments.command.word) {
            ("config", "get") => self.config_get().await,
            ("config", "set") => self.config_set().await,
            ("config", "del") => self.config_del().await,
            ("config", _) => self.config_ssl().await,
            ("di", "add") => self.add_image().await,
            ("di", word @ ("tag" | "untag")) => self.tag(word).await,
            ("osf", "add") => self.add_osf().await,
            ("vm", "add") => self.add_vms().await,
            ("vm", "edit") => self.edit().await,
            ("user", "passwd") => self.password().await,
            (_, word @ ("list" | "counters")) => self.list(word).await,
            (_, "add") => {
                let pairs = self.arguments.pairs.clone();
                self.add(pairs).await.map(drop)
            }
            (_, "propset") => self.set_properties().await,
            (_, "propget") => self.show_properties().await,
            (_, "propdel") => self.delete_properties().await,
            (_, word) => self.order(word).await,
        }
    }

    /// Which objects, under the names of the API.
    pub(super) fn selection(&self) -> Option<Filter> {
        let noun = self.arguments.command.noun();
        let filter = self.arguments.filter.clone();
        let filter = filter.map(|filter| filter.rename(&|name| Some(named(noun, name))));
        let scope = self.arguments.scope.clone().map(|(_, scope)| scope);
        match (filter, scope) {
            (Some(filter), Some(scope)) => Some(filter.and(scope)),
            (filter, scope) => filter.or(scope),
        }
    }

    /// The tenant of what is made, where somebody has to say it.
    pub(super) fn name_tenant(&self, arguments: &mut Map<String, Json>) {
        if let (Some((field, _)), Some(tenant)) = (&self.arguments.scope, &self.arguments.tenant) {
            arguments.insert((*field).to_owned(), json!(tenant));
        }
    }

    /// Asks before everything is meant.
    pub(super) fn confirm(&mut self, word: &str, count: usize) -> Result<(), Error> {
        confirmed(&self.arguments, self.context.out, word, count)
    }

    async fn selected(&mut self, fields: &[&str]) -> Result<Answer, Error> {
        let object = self.arguments.command.noun().object;
        let fields: Vec<&str> =
            ["id", action::entity(object).key].into_iter().chain(fields.iter().copied()).collect();
        self.context.api.call(&Call::list(object, self.selection(), &fields)?).await
    }

    /// Sends a change to objects; those that it skips are told. The result is how many it reached.
    async fn send(&mut self, mut call: Call, ids: &[i64]) -> Result<usize, Error> {
        if ids.is_empty() {
            return Ok(0);
        }
        call.filter = Some(Filter::any_of("id", ids));
        match self.context.api.call(&call).await {
            Ok(_) => Ok(ids.len()),
            Err(Error::Partial { failures, .. }) if self.arguments.strict => Err(Error::Partial {
                changed: ids.len().saturating_sub(failures.len()),
                all: ids.len(),
                failures,
            }),
            Err(Error::Partial { failures, .. }) => {
                if !self.arguments.quiet {
                    for (id, why) in &failures {
                        eprintln!("{} {id} skipped: {why}", self.arguments.command.object);
                    }
                }
                Ok(ids.len().saturating_sub(failures.len()))
            }
            Err(error) => Err(error),
        }
    }

    /// `block`, `unblock`, `del`, `start`, `stop`, `disconnect_user`.
    async fn order(&mut self, word: &str) -> Result<(), Error> {
        let object = self.arguments.command.noun().object;
        let does = match word {
            "del" => Does::Delete,
            "start" => Does::Execute(Order::Start),
            "stop" => Does::Execute(Order::Stop),
            "disconnect_user" => Does::Execute(Order::Disconnect),
            _ => Does::Update,
        };
        let ids = numbers(&self.selected(&[]).await?);
        self.confirm(word, ids.len())?;
        let mut call = Call::new(object, does)?;
        if does == Does::Update {
            call.arguments.insert("blocked".to_owned(), json!(u8::from(word == "block")));
        }
        let kind = object_title(object);
        if does == Does::Delete {
            self.say(&format!("Deleting {} {kind}s.\n", ids.len()))?;
        }
        let done = self.send(call, &ids).await?;
        match word {
            "start" => self.say(&format!("Started {done} VMs.\n")),
            "stop" => self.say(&format!("Stopped {done} VMs.\n")),
            "disconnect_user" => self.say(&format!("Disconnected {done} users.\n")),
            "del" if object == Object::Osf => self.say(&format!("Deleted {done} OSFs.\n")),
            _ => Ok(()),
        }
    }

    /// Makes an object of the pairs, and tells its number.
    async fn add(&mut self, pairs: Vec<(String, String)>) -> Result<i64, Error> {
        let noun = self.arguments.command.noun();
        let one = |(name, value)| Assignment { name, value: Value::One(value) };
        let mut assignments: Vec<Assignment> = pairs.into_iter().map(one).collect();
        let owned = action::entity(noun.object).tenancy == action::Tenancy::Own;
        if let (Some((field, _)), Some(tenant)) = (&self.arguments.scope, &self.arguments.tenant)
            && owned
        {
            assignments.push(one(((*field).to_owned(), tenant.clone())));
        }
        let made = creation::make(&mut self.context, noun, assignments).await?;
        let id = made.and_then(|answer| answer.rows.first()?.get("id")?.as_i64()).unwrap_or_default();
        self.say(&format!("{} added with id {id}\n", object_title(noun.object)))?;
        Ok(id)
    }

    async fn add_osf(&mut self) -> Result<(), Error> {
        let mut pairs = Vec::new();
        for (name, value) in self.arguments.pairs.clone() {
            match name.as_str() {
                "is_application" => {
                    let off =
                        action::Kind::Switch.canonical(&value).is_ok_and(|v| v == "false") || value == "n";
                    if !off {
                        return Err(Error::Usage(
                            "is_application: there are no application flavours".to_owned(),
                        ));
                    }
                }
                "use_overlay" => {
                    let value = match value.as_str() {
                        "y" | "Y" => "1".to_owned(),
                        "n" | "N" => "0".to_owned(),
                        _ => value,
                    };
                    pairs.push((name, value));
                }
                "user_storage_size" => pairs.push((name, megabytes(&value)?.to_string())),
                _ => pairs.push((name, value)),
            }
        }
        self.add(pairs).await.map(drop)
    }

    /// One VM, or `bulk` of them with numbers behind their name.
    async fn add_vms(&mut self) -> Result<(), Error> {
        let mut pairs = self.arguments.pairs.clone();
        let Some(at) = pairs.iter().position(|(name, _)| name == "bulk") else {
            return self.add(pairs).await.map(drop);
        };
        let (_, count) = pairs.remove(at);
        let count: u32 =
            count.parse().map_err(|_| Error::Usage(format!("bulk: `{count}` is not a number")))?;
        if pairs.iter().any(|(name, _)| name == "ip") {
            return Err(Error::Usage("ip and bulk exclude each other".to_owned()));
        }
        for number in 0..count {
            let numbered = pairs.iter().map(|(name, value)| {
                let value = if name == "name" { format!("{value}-{number}") } else { value.clone() };
                (name.clone(), value)
            });
            self.add(numbered.collect()).await?;
        }
        Ok(())
    }

    async fn add_image(&mut self) -> Result<(), Error> {
        let (times, mut pairs): (Vec<_>, Vec<_>) =
            self.arguments.pairs.clone().into_iter().partition(|(name, _)| name.starts_with("expire-"));
        for (name, at) in times {
            let field = name.replace("expire-", "expiration_time_");
            pairs.push((field, crate::clock::seconds_until(&at)?.to_string()));
        }
        self.add(pairs).await.map(drop)
    }

    /// Moves a tag within its flavour, or removes it; VMs that run another image then expire.
    async fn tag(&mut self, word: &str) -> Result<(), Error> {
        let given = |name: &str| {
            let pair = self.arguments.pairs.iter().find(|(n, _)| n == name);
            pair.map(|(_, value)| value.clone())
        };
        let (image, tag) = (given("di_id").unwrap_or_default(), given("tag").unwrap_or_default());
        let times: Vec<Assignment> = ["soft", "hard"]
            .into_iter()
            .filter_map(|kind| {
                let value = Value::One(given(&format!("expire-{kind}"))?);
                Some(Assignment { name: format!("expiration_{kind}"), value })
            })
            .collect();
        let list = Call::list(Object::Di, Some(Filter::any_of("id", [&image])), &["id", "osf_id"])?;
        let found = self.context.api.call(&list).await?;
        let row = found.rows.first().ok_or_else(|| Error::refused(Status::ImageNotFound, &image))?;
        let osf = row.get("osf_id").and_then(Json::as_i64).unwrap_or_default();
        let mut call = Call::new(Object::Di, Does::Update)?;
        let member = if word == "tag" { "create" } else { "delete" };
        call.arguments.insert("__tags_changes__".to_owned(), json!({ member: [tag] }));
        call.filter = Some(Filter::any_of("id", [&image]));
        self.context.api.call(&call).await.map_err(single)?;
        if times.is_empty() {
            return Ok(());
        }
        let affected = Filter::any_of("osf_id", [osf])
            .and(Filter::any_of("di_tag", [&tag]))
            .and(Filter::any_of("state", ["running"]));
        let vms = Call::list(Object::Vm, Some(affected), &["id", "di_id", "di_id_in_use"])?;
        let vms = self.context.api.call(&vms).await?;
        let outdated = vms.rows.iter().filter(|row| row.get("di_id") != row.get("di_id_in_use"));
        let ids: Vec<i64> = outdated.filter_map(|row| row.get("id")?.as_i64()).collect();
        let mut call = Call::new(Object::Vm, Does::Update)?;
        call.arguments = change::arguments(&self.context, VM, times)?;
        self.send(call, &ids).await.map(drop)
    }

    /// `vm edit`: the documented columns; times only of VMs that run, and run another image than they should.
    async fn edit(&mut self) -> Result<(), Error> {
        let noun = self.arguments.command.noun();
        let one = |(name, value)| Assignment { name, value: Value::One(value) };
        let assignments = self.arguments.pairs.clone().into_iter().map(one).collect();
        let arguments = change::arguments(&self.context, noun, assignments)?;
        let (times, rest): (Map<_, _>, Map<_, _>) =
            arguments.into_iter().partition(|(name, _)| name.starts_with("expiration_"));
        let listed = self.selected(&["state", "di_id", "di_id_in_use"]).await?;
        let ids = numbers(&listed);
        self.confirm("edit", ids.len())?;
        let mut edited = ids.len();
        if !rest.is_empty() {
            edited =
                self.send(Call { arguments: rest, ..Call::new(noun.object, Does::Update)? }, &ids).await?;
        }
        if !times.is_empty() {
            let outdated = listed.rows.iter().filter(|row| {
                row.get("state") != Some(&json!("stopped")) && row.get("di_id") != row.get("di_id_in_use")
            });
            let ids: Vec<i64> = outdated.filter_map(|row| row.get("id")?.as_i64()).collect();
            self.send(Call { arguments: times, ..Call::new(noun.object, Does::Update)? }, &ids).await?;
        }
        self.say(&format!("Edited {edited} VMs.\n"))
    }

    async fn password(&mut self) -> Result<(), Error> {
        let login = self.arguments.pairs.first().map(|(_, login)| login.clone()).unwrap_or_default();
        self.arguments.filter = Some(Filter::any_of("name", [&login]));
        let ids = numbers(&self.selected(&[]).await?);
        if ids.is_empty() {
            return Err(Error::refused(Status::NothingMatched, &format!("user {login}")));
        }
        let new = match new_password() {
            Ok(new) => new,
            Err(error) => {
                // As ever: two different passwords are a warning, not a failure.
                eprintln!("{error}");
                return Ok(());
            }
        };
        let mut call = Call::new(Object::User, Does::Update)?;
        call.arguments.insert("password".to_owned(), json!(new));
        self.send(call, &ids).await.map(drop)
    }

    async fn set_properties(&mut self) -> Result<(), Error> {
        let noun = self.arguments.command.noun();
        let one = |(name, value)| Assignment { name, value: Value::One(value) };
        let assignments: Vec<Assignment> = self.arguments.pairs.clone().into_iter().map(one).collect();
        let ids = numbers(&self.selected(&[]).await?);
        if ids.is_empty() {
            return Err(Error::refused(Status::NothingMatched, noun.title));
        }
        let selected = Some(Filter::any_of("id", &ids));
        property::register(&mut self.context, noun, selected, &assignments).await?;
        let values: Map<String, Json> =
            self.arguments.pairs.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let mut call = Call::new(noun.object, Does::Update)?;
        call.arguments.insert("__properties_changes__".to_owned(), json!({ "set": values }));
        let done = self.send(call, &ids).await?;
        self.say(&format!("propset in {done} {}s.\n", noun.object))
    }

    async fn show_properties(&mut self) -> Result<(), Error> {
        let keys = self.arguments.keys.clone();
        let listed = self.selected(&["properties"]).await?;
        let name = action::entity(self.arguments.command.noun().object).key;
        let mut text = String::new();
        for row in &listed.rows {
            let Some(Json::Object(properties)) = row.get("properties") else { continue };
            for property in properties.values() {
                let part = |name: &str| property.get(name).and_then(Json::as_str).unwrap_or_default();
                if keys.is_empty() || keys.iter().any(|k| k == part("key")) {
                    let name = row.get(name).and_then(Json::as_str).unwrap_or_default();
                    text.push_str(&format!("{name}\t{}={}\n", part("key"), part("value")));
                }
            }
        }
        write(self.context.out, &text)
    }

    async fn delete_properties(&mut self) -> Result<(), Error> {
        let object = self.arguments.command.noun().object;
        let listed = self.selected(&["properties"]).await?;
        let ids = numbers(&listed);
        self.confirm("delete the properties of", ids.len())?;
        let mut keys = self.arguments.keys.clone();
        if keys.is_empty() {
            let all = listed.rows.iter().filter_map(|row| row.get("properties")?.as_object());
            let all = all.flat_map(Map::values).filter_map(|p| Some(p.get("key")?.as_str()?.to_owned()));
            keys = all.collect();
            keys.sort_unstable();
            keys.dedup();
        }
        let mut call = Call::new(object, Does::Update)?;
        call.arguments.insert("__properties_changes__".to_owned(), json!({ "delete": keys }));
        self.send(call, &ids).await.map(drop)
    }
}

/// The name of the API for a name of `qa`, which knows those of columns too.
pub(super) fn named(noun: &Noun, name: &str) -> String {
    let own_id = format!("{}_id", noun.word);
    match name {
        own if own == own_id => "id".to_owned(),
        "vm_state" => "state".to_owned(),
        name => action::entity(noun.object).resolve_read(name).to_owned(),
    }
}

/// Asks before everything is meant.
pub(super) fn confirmed(
    arguments: &Arguments,
    out: &mut dyn Write,
    word: &str,
    count: usize,
) -> Result<(), Error> {
    let command = arguments.command;
    if arguments.force || arguments.filter.is_some() || !command.asks {
        return Ok(());
    }
    let question = format!("Are you sure you want to {word} all {count} {}s? [y/N] ", command.object);
    write(out, &question)?;
    out.flush().map_err(Error::Output)?;
    let answer = ask_line("")?;
    if answer.starts_with(['y', 'Y']) {
        return Ok(());
    }
    if !arguments.quiet {
        write(out, "Aborted\n")?;
    }
    Err(Error::Unconfirmed("nothing was changed".to_owned()))
}

fn numbers(listed: &Answer) -> Vec<i64> {
    listed.rows.iter().filter_map(|row| row.get("id")?.as_i64()).collect()
}

/// The failure of the only object is the failure.
fn single(error: Error) -> Error {
    match error {
        Error::Partial { mut failures, .. } if failures.len() == 1 => {
            let (_, why) = failures.remove(0);
            Error::Usage(why)
        }
        other => other,
    }
}

fn object_title(object: Object) -> &'static str {
    match object {
        Object::Vm => "VM",
        Object::Host => "Host",
        Object::Osf => "OSF",
        Object::Di => "DI",
        _ => "User",
    }
}

/// `2048`, `2048M`, `2G`: megabytes; smaller units are rounded up.
fn megabytes(size: &str) -> Result<u64, Error> {
    let lower = size.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let number: Option<u64> = number.parse().ok();
    let megabytes = match unit {
        "" | "m" | "mb" => number,
        "k" | "kb" => number.map(|n| n.div_ceil(1024)),
        "g" | "gb" => number.and_then(|n| n.checked_mul(1024)),
        _ => None,
    };
    megabytes.ok_or_else(|| Error::Usage(format!("`{size}` is not a size such as 2048, 2048M or 2G")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_megabytes() {
        for (size, expected) in [("2048", 2048), ("2G", 2048), ("100kb", 1), ("512MB", 512)] {
            assert_eq!(megabytes(size).unwrap(), expected, "{size}");
        }
        assert!(megabytes("big").is_err() && megabytes("1T").is_err());
    }
}
