//! Tokens: programs of an administrator that are known without a login, with a part of what it may do.

use qvd_auth::token_digest;
use qvd_db::admin::{identity, tokens};
use qvd_model::action::{Kind, Object, Order, Status, Verb, acl_matches};

use crate::app::App;
use crate::caller::Caller;
use crate::check::Checked;
use crate::refusal::Refusal;
use crate::session::acl_rules;

/// How every token begins, so that it is recognized where it does not belong, in a public repository for example.
pub(crate) const PREFIX: &str = "qvd_";

/// The token of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its number.
    pub id: i32,
    /// What it is called.
    pub name: String,
    /// Whether it only reads.
    pub read_only: bool,
    /// Whether it is limited to a part of the ACLs of its administrator.
    pub limited: bool,
    /// Whether it may make and remove tokens.
    pub manages_tokens: bool,
    /// When it ends, as seconds of the epoch and as text in UTC.
    pub expiration: Option<(i64, String)>,
}

/// The administrator of a token, with what the token may do.
pub(crate) async fn recognize(app: &App, text: &str) -> Result<Caller, Refusal> {
    let refused = || Refusal::new(Status::NotAuthenticated);
    let client = app.database.client().await?;
    let found = tokens::find(&client, &token_digest(text.as_bytes())).await?.ok_or_else(refused)?;
    if found.expired {
        return Err(Refusal::about(Status::SessionExpired, found.name));
    }
    let who = identity::by_id(&client, found.administrator).await?.ok_or_else(refused)?;
    if who.blocked {
        return Err(Refusal::new(Status::TenantBlocked));
    }
    // Not at every request.
    if found.unnoticed {
        tokens::used(&client, found.id).await?;
    }
    drop(client);
    let mut caller = Caller::load(&app.database, &who, acl_rules(app)?).await?;
    if let Some(scope) = &found.scope {
        caller.acls.retain(|acl| scope.contains(acl));
    }
    caller.token = Some(Token {
        id: found.id,
        name: found.name,
        read_only: found.read_only,
        limited: found.scope.is_some(),
        manages_tokens: found.manages_tokens,
        expiration: found.expiration,
    });
    Ok(caller)
}

impl Token {
    /// Refuses what a token may not do, whatever its administrator may.
    pub(crate) fn check(&self, checked: &Checked) -> Result<(), Refusal> {
        let action = checked.action;
        if !action.verb.changes() {
            return Ok(());
        }
        let refused = |why: &str| Err(Refusal::about(Status::ActionNotAllowed, action.name).because(why));
        if self.read_only {
            return refused("the token only reads");
        }
        if matches!(action.object, Object::Token | Object::Session) {
            return if self.manages_tokens {
                Ok(())
            } else {
                refused("the token may not make or remove tokens, nor end sessions")
            };
        }
        if action.acls.is_empty() && self.limited {
            return refused("the token is limited to ACLs, and none is for this");
        }
        if matches!(
            action.verb,
            Verb::Execute(Order::Begin | Order::Confirm | Order::End | Order::ResetSecondFactor)
        ) {
            return refused("tokens change no second factor");
        }
        let logins = matches!(action.object, Object::Administrator | Object::OwnAdministrator);
        // Whoever sets a password can log in.
        if logins && !self.manages_tokens && checked.values.iter().any(|(f, _)| f.kind == Kind::Password) {
            return Err(Refusal::about(Status::ArgumentNotAllowed, "password")
                .because("a token that may not make tokens makes no logins either"));
        }
        Ok(())
    }
}

/// The names among `own` that patterns with blanks or commas between them mean; each has to mean one.
pub(crate) fn expanded<'o>(patterns: &str, own: &'o [String]) -> Result<Vec<&'o str>, Refusal> {
    let mut names = Vec::new();
    for pattern in patterns.split([' ', ',', '\t', '\n']).filter(|pattern| !pattern.is_empty()) {
        let before = names.len();
        names.extend(own.iter().map(String::as_str).filter(|acl| acl_matches(pattern, acl)));
        if names.len() == before {
            return Err(Refusal::about(Status::WrongAcl, pattern).because("you have no such ACL"));
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_part_of_what_there_is() {
        let own = ["user.see-main.", "vm.see-main.", "vm.update.state"].map(str::to_owned);
        assert_eq!(expanded("vm.*, vm.see-main.", &own).unwrap(), ["vm.see-main.", "vm.update.state"]);
        assert!(expanded("", &own).unwrap().is_empty());
        assert!(expanded("vm.* host.*", &own).is_err());
    }
}
