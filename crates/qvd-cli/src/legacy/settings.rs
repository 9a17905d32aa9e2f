//! `qa config`.

use qvd_model::action::Verb as Does;
use qvd_model::filter::{Filter, Operator};
use serde_json::{Map, Value, json};

use super::Legacy;
use crate::api::Call;
use crate::error::Error;
use crate::run::write;
use crate::setting;

impl Legacy<'_> {
    /// The settings in force, those of one key or all.
    async fn settings(&mut self, filter: Option<Filter>) -> Result<Vec<Map<String, Value>>, Error> {
        let noun = self.arguments.command.noun();
        let scope = self.arguments.scope.clone().map(|(_, scope)| scope);
        let filter = match (filter, scope) {
            (Some(filter), Some(scope)) => Some(filter.and(scope)),
            (filter, scope) => filter.or(scope),
        };
        let call = Call::list(noun.object, filter, &["key", "operative_value", "is_default"])?;
        Ok(self.context.api.call(&call).await?.rows)
    }

    pub(super) async fn config_get(&mut self) -> Result<(), Error> {
        let keys = self.arguments.keys.clone();
        let filter = (!keys.is_empty()).then(|| Filter::any_of("key", &keys));
        let rows = self.settings(filter).await?;
        let text = |row: &Map<String, Value>, name: &str| {
            row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut lines: Vec<String> = rows
            .iter()
            .map(|row| (text(row, "key"), text(row, "operative_value")))
            .filter(|(key, _)| !keys.is_empty() || !key.starts_with("internal."))
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        lines.sort_unstable();
        write(self.context.out, &lines.concat())
    }

    pub(super) async fn config_set(&mut self) -> Result<(), Error> {
        let pairs = self.arguments.pairs.clone();
        if let Some((key, _)) = pairs.iter().find(|(key, _)| key.starts_with("l7r.ssl.")) {
            return Err(Error::Usage(format!("{key} is set by: qa config ssl key=FILE cert=FILE")));
        }
        for (key, value) in pairs {
            let mut call = Call::new(self.arguments.command.noun().object, Does::CreateOrUpdate)?;
            call.arguments =
                Map::from_iter([("key".to_owned(), json!(key)), ("value".to_owned(), json!(value))]);
            self.name_tenant(&mut call.arguments);
            self.context.api.call(&call).await?;
        }
        Ok(())
    }

    /// Resets settings: those that are named, or all that were set.
    pub(super) async fn config_del(&mut self) -> Result<(), Error> {
        let mut keys = self.arguments.keys.clone();
        if keys.is_empty() {
            let set = Filter::test("is_default", Operator::Equal, "0");
            let rows = self.settings(Some(set)).await?;
            keys = rows.iter().filter_map(|row| Some(row.get("key")?.as_str()?.to_owned())).collect();
            self.confirm("delete", keys.len())?;
        }
        let mut deleted = 0;
        if !keys.is_empty() {
            let mut call = Call::new(self.arguments.command.noun().object, Does::Delete)?;
            let filter = Filter::any_of("key", &keys);
            call.filter = match &self.arguments.scope {
                Some((_, scope)) => Some(filter.and(scope.clone())),
                None => Some(filter),
            };
            deleted = self.context.api.call(&call).await?.total;
        }
        self.say(&format!("Deleted {deleted} config entries.\n"))
    }

    /// What is not named is removed, as it always was.
    pub(super) async fn config_ssl(&mut self) -> Result<(), Error> {
        let mut pairs = self.arguments.pairs.clone();
        for part in ["ca", "crl"] {
            if !pairs.iter().any(|(name, _)| name == part) {
                pairs.push((part.to_owned(), String::new()));
            }
        }
        setting::send_ssl(&mut self.context, &pairs).await.map(drop)
    }
}
