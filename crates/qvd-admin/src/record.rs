//! What is written about requests: the audit log, and the story of objects (`spec/api.md` 9).

use qvd_db::admin::audit::{self, Record};
use qvd_db::admin::repeats::{self, Repeat};
use qvd_db::admin::select::Identity;
use qvd_db::events::{self, Event};
use qvd_db::{Error, Session};
use qvd_model::action::{Action, Object, Status};
use qvd_model::config::masked;
use qvd_model::event::ObjectKind;
use serde_json::{Map, Value, json};

use crate::caller::Caller;
use crate::change::Change;
use crate::refusal::Refusal;
use crate::session::{Origin, Peer};

/// The circumstances of a request that go into records.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) caller: Caller,
    pub(crate) action: &'static Action,
    /// The arguments as JSON, secrets masked.
    pub(crate) arguments: String,
    pub(crate) source: Option<String>,
    pub(crate) origin: Origin,
    /// Stands for the session of the request; empty if there is none.
    pub(crate) session: String,
    /// The request, if it may be sent again.
    pub(crate) repeat: Option<Repeat>,
}

impl Circumstances {
    pub(crate) fn new(
        caller: Caller,
        action: &'static Action,
        arguments: &Map<String, Value>,
        source: Option<String>,
        origin: Origin,
        session: String,
    ) -> Self {
        let repeat = None;
        let mut made = Self { caller, action, arguments: String::new(), source, origin, session, repeat };
        made.ask(&Value::Object(arguments.clone()));
        made
    }

    /// Of what the API does by itself.
    pub(crate) fn of_service(action: &'static Action) -> Self {
        let origin = Origin { peer: Peer::Local, agent: None, bearer: None };
        Self::new(Caller::service(), action, &Map::new(), None, origin, String::new())
    }

    /// Puts other arguments in place of those of the request, which say less.
    pub(crate) fn ask(&mut self, arguments: &Value) {
        self.arguments = bounded(masked(arguments).to_string());
    }

    /// Writes the row of a change that was made; in the transaction that makes it. Refuses what was done already for
    /// the same request.
    pub(crate) async fn done(
        &self,
        session: &impl Session,
        object: &Identity,
        change: &Change,
    ) -> Result<(), Refusal> {
        if let Some(repeat) = &self.repeat
            && !repeats::remember(session, repeat, object.id).await?
        {
            return Err(Refusal::about(Status::KeyReused, repeat.key.as_str()));
        }
        Ok(self.write(session, Some(object), Status::Done, change).await?)
    }

    /// Writes the row of a request, or of one of its objects, that came to nothing.
    pub(crate) async fn refused(
        &self,
        session: &impl Session,
        object: Option<&Identity>,
        status: Status,
    ) -> Result<(), Error> {
        self.write(session, object, status, &Change::default()).await
    }

    async fn write(
        &self,
        session: &impl Session,
        object: Option<&Identity>,
        status: Status,
        change: &Change,
    ) -> Result<(), Error> {
        let address = self.origin.peer.text();
        let record = Record {
            administrator: self.caller.id,
            administrator_name: Some(&self.caller.name),
            tenant: Some(object.and_then(|o| o.tenant).unwrap_or(self.caller.tenant)),
            tenant_name: Some(&self.caller.tenant_name),
            action: self.action.name,
            verb: self.action.verb.as_str(),
            arguments: &self.arguments,
            object: log_object(self.action.object),
            object_id: object.map(|o| o.id),
            object_name: object.map(|o| o.name.as_str()),
            status: i32::from(status.code()),
            source: self.source.as_deref(),
            address: Some(&address),
            superadmin: Some(self.caller.is_super()),
            before: change.before.as_deref(),
            after: change.after.as_deref(),
            user_agent: self.origin.agent.as_deref(),
        };
        audit::record(session, &record).await
    }

    /// Adds a line to the story of an object.
    pub(crate) async fn tell(
        &self,
        session: &impl Session,
        object: &Identity,
        text: &str,
    ) -> Result<(), Error> {
        let Some(kind) = event_kind(self.action.object) else { return Ok(()) };
        let event = Event {
            kind,
            id: object.id,
            name: &object.name,
            from: None,
            to: None,
            code: self.action.name,
            text,
        };
        events::record(session, &self.caller.actor(), event).await
    }
}

const fn log_object(object: Object) -> &'static str {
    match object {
        Object::OwnAdministrator | Object::SecondFactor => Object::Administrator.as_str(),
        Object::OwnTenant => Object::Tenant.as_str(),
        Object::UserState => Object::User.as_str(),
        Object::HostState => Object::Host.as_str(),
        Object::AdministratorAcl | Object::RoleAcl => Object::Acl.as_str(),
        Object::TenantAttributeView | Object::TenantPropertyView => Object::TenantView.as_str(),
        Object::AdministratorAttributeView | Object::AdministratorPropertyView => {
            Object::AdministratorView.as_str()
        }
        Object::Certificate => Object::Config.as_str(),
        other => other.as_str(),
    }
}

/// The kind under which events of an object are kept.
pub(crate) const fn event_kind(object: Object) -> Option<ObjectKind> {
    match object {
        Object::Vm => Some(ObjectKind::Vm),
        Object::User => Some(ObjectKind::User),
        Object::Host => Some(ObjectKind::Host),
        Object::Osf => Some(ObjectKind::Osf),
        Object::Di => Some(ObjectKind::Di),
        Object::Tenant | Object::OwnTenant | Object::ConsoleSetup => Some(ObjectKind::Tenant),
        Object::Administrator | Object::OwnAdministrator | Object::SecondFactor => {
            Some(ObjectKind::Administrator)
        }
        Object::Config | Object::Certificate => Some(ObjectKind::Config),
        Object::Role => Some(ObjectKind::Role),
        Object::Tag
        | Object::Event
        | Object::Acl
        | Object::AdministratorAcl
        | Object::RoleAcl
        | Object::UserState
        | Object::HostState
        | Object::Token
        | Object::Session
        | Object::Log
        | Object::TenantView
        | Object::TenantAttributeView
        | Object::TenantPropertyView
        | Object::AdministratorView
        | Object::AdministratorAttributeView
        | Object::AdministratorPropertyView
        | Object::Property
        | Object::UserProperty
        | Object::VmProperty
        | Object::HostProperty
        | Object::OsfProperty
        | Object::DiProperty => None,
    }
}

/// Texts that are longer are not kept: a change of many objects writes them once for each.
const MAX_TEXT: usize = 64 << 10;

/// A text for the log, or how long it was.
pub(crate) fn bounded(text: String) -> String {
    if text.len() <= MAX_TEXT {
        return text;
    }
    json!({ "left_out": format!("{} bytes", text.len()) }).to_string()
}
