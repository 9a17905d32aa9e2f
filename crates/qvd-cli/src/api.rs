//! Calls of the API in its own terms: envelopes and answers (`spec/api.md` 3.1 and 6.1).

use std::fs::File;
use std::io::{IsTerminal, stdin};
use std::time::Duration;

use form_urlencoded::byte_serialize;
use hyper::Method;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use qvd_model::action::{Object, Status, Verb, action_for};
use qvd_model::config::{MASK, masked};
use qvd_model::filter::{Filter, json};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::completion::Names;
use crate::error::Error;
use crate::options::{Credentials, Place, Settings};
use crate::session::Session;
use crate::transport::{Body, Connection, Dialed, Outgoing, Proof, Stream, dial, whole};
use crate::watch::{self, Changes};

/// A connection on which we are known.
#[derive(Debug)]
pub struct Api {
    connection: Connection,
    settings: Settings,
    session: Option<Session>,
    /// A request was given up halfway; nothing more can be sent on this connection.
    broken: bool,
}

/// A way into a VM.
pub(crate) type Tunnel = WebSocketStream<Box<dyn Stream>>;

/// One request.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The action.
    pub action: &'static str,
    /// Which rows.
    pub filter: Option<Filter>,
    /// Which members of them.
    pub fields: Vec<String>,
    /// What is written.
    pub arguments: Map<String, Value>,
    /// By which fields, and whether from high to low.
    pub order: Option<(Vec<String>, bool)>,
    /// At most so many rows; 0 for all.
    pub block: u32,
    /// The page, from 1; 0 is the first as well.
    pub page: u32,
}

/// The answer to a request that was not refused.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How many rows there are, or how many objects were processed.
    pub total: u64,
    /// The rows.
    pub rows: Vec<Map<String, Value>>,
    /// Everything.
    pub members: Map<String, Value>,
}

impl Api {
    /// Connects, and takes up the kept session if it is for the same API and administrator.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let connection = Connection::open(settings).await?;
        let kept = settings.session_file.as_deref().and_then(Session::load);
        let session = kept.filter(|s| {
            let same_login = settings
                .credentials
                .as_ref()
                .is_none_or(|c| c.login == s.login && (c.tenant.is_none() || c.tenant == s.tenant));
            s.place == connection.place() && same_login && s.sid.is_some()
        });
        let mut api = Self { connection, settings: settings.clone(), session: None, broken: false };
        if !api.needs_no_login() {
            api.session = session;
        }
        Ok(api)
    }

    /// Whether who we are is known without a login: by a token, or on the Unix socket by the kernel, unless we want to
    /// be somebody else there.
    pub fn needs_no_login(&self) -> bool {
        let by_kernel =
            matches!(self.settings.place, Place::Socket(_)) && self.settings.credentials.is_none();
        self.settings.token.is_some() || by_kernel
    }

    /// The request that was under way is given up.
    pub fn abandon_request(&mut self) {
        self.broken = true;
    }

    /// Whether a call can be sent without a question to somebody.
    pub fn needs_no_question(&self) -> bool {
        let password = self.settings.credentials.as_ref().is_some_and(|c| c.password.is_some());
        self.needs_no_login() || self.session.is_some() || password
    }

    /// The texts of a field of all objects of a kind, as far as they can be had without a question; for
    /// completion, which stays silent about errors.
    pub async fn names(&mut self, wanted: Names) -> Vec<String> {
        if !self.needs_no_question() {
            return Vec::new();
        }
        let Ok(call) = Call::list(wanted.object, None, &[wanted.field]) else { return Vec::new() };
        let Ok(answer) = self.call(&call).await else { return Vec::new() };
        let names = answer.rows.iter().filter_map(|row| row.get(wanted.field)?.as_str());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Sends a call; logs in first, or again, where that is needed.
    pub async fn call(&mut self, call: &Call) -> Result<Answer, Error> {
        self.post("/api", &envelope(call)).await
    }

    /// Sends an envelope to another address of the API.
    pub async fn post(&mut self, path: &str, envelope: &Map<String, Value>) -> Result<Answer, Error> {
        let known = self.needs_no_login();
        if !known && self.session.is_none() {
            self.log_in(false).await?;
        }
        let first = self.exchange(path, envelope).await;
        match first {
            // The session has ended meanwhile.
            Err(Error::Refused { code: 3200 | 3300, .. }) if !known => {
                self.log_in(false).await?;
                self.exchange(path, envelope).await
            }
            other => other,
        }
    }

    async fn exchange(&mut self, path: &str, envelope: &Map<String, Value>) -> Result<Answer, Error> {
        let body = serde_json::to_vec(envelope).map_err(|e| Error::Usage(e.to_string()))?;
        if self.settings.traced {
            trace(path, envelope);
        }
        let body = whole(body);
        let headers = &[];
        self.request(Method::POST, path, "application/json", headers, body, Duration::ZERO).await?.1
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        headers: &[(&'static str, String)],
        body: Body,
        more: Duration,
    ) -> Result<(Option<u64>, Result<Answer, Error>), Error> {
        if self.broken || self.connection.is_closed() {
            self.broken = false;
            // The API ends idle connections; nothing of this request was sent on the old one.
            self.connection = Connection::open(&self.settings).await?;
        }
        let sid = self.session.as_ref().and_then(|s| s.sid.as_deref());
        let token = self.settings.token.as_ref().map(Proof::Token);
        let proof = token.or(sid.map(Proof::Session));
        let outgoing = Outgoing { method, path, content_type, proof, headers, body, more };
        let reply = match self.connection.send(outgoing).await {
            Ok(reply) => reply,
            Err(error) => {
                // Whatever comes on it after this belongs to nobody.
                self.broken = true;
                return Err(error);
            }
        };
        Ok((reply.offset, answer(&reply.bytes, self.connection.place())))
    }

    /// Opens a way into a VM, on a connection of its own and on the session of an earlier call.
    pub(crate) async fn tunnel(&mut self, arguments: &Value) -> Result<Tunnel, Error> {
        let Dialed { stream, host, prefix, place } = dial(&self.settings).await?;
        let written = |value: &Value| byte_serialize(value.to_string().as_bytes()).collect::<String>();
        let (arguments, source) = (written(arguments), written(&json!({"source": "CLI"})));
        let unusable = |problem: &dyn std::fmt::Display| Error::Unreachable {
            place: place.clone(),
            problem: problem.to_string(),
        };
        let mut request = format!("ws://{host}{prefix}/vmproxy?arguments={arguments}&parameters={source}")
            .into_client_request()
            .map_err(|error| unusable(&error))?;
        let mut header = |name: HeaderName, text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|error| unusable(&error))?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
            Ok::<_, Error>(())
        };
        header(SEC_WEBSOCKET_PROTOCOL, "binary")?;
        let sid = self.session.as_ref().and_then(|s| s.sid.as_deref());
        match (&self.settings.token, sid) {
            (Some(token), _) => header(AUTHORIZATION, &format!("Bearer {}", token.expose_secret()))?,
            (None, Some(sid)) => header(COOKIE, &format!("sid={sid}"))?,
            (None, None) => {}
        }
        let opening = tokio_tungstenite::client_async(request, stream);
        let opened = tokio::time::timeout(self.settings.timeout, opening).await;
        match opened.map_err(|_| Error::Timeout(self.settings.timeout.as_secs()))? {
            Ok((tunnel, _)) => Ok(tunnel),
            Err(WebSocketError::Http(refusal)) => {
                let body = refusal.into_body().unwrap_or_default();
                Err(answer(&body, &place).err().unwrap_or_else(|| unusable(&"it opens no way into VMs")))
            }
            Err(error) => Err(unusable(&error)),
        }
    }

    /// How much of an upload the API has.
    pub async fn uploaded(&mut self, location: &str) -> Result<u64, Error> {
        let body = whole(Vec::new());
        let (offset, answer) =
            self.request(Method::GET, location, "application/json", &[], body, Duration::ZERO).await?;
        answer?;
        offset.ok_or_else(|| Error::Unreachable {
            place: self.connection.place().to_owned(),
            problem: "it does not tell how much of the upload it has".to_owned(),
        })
    }

    /// Adds to an upload from `offset` on, up to its end.
    pub async fn go_on(
        &mut self,
        location: &str,
        offset: u64,
        body: Body,
        more: Duration,
    ) -> Result<Answer, Error> {
        let headers = [("upload-offset", offset.to_string()), ("tus-resumable", "1.0.0".to_owned())];
        let kind = "application/offset+octet-stream";
        self.request(Method::PATCH, location, kind, &headers, body, more).await?.1
    }

    /// Sends a body of its own kind, on the session of an earlier call; it may take `more` time than others.
    pub async fn send(
        &mut self,
        path: &str,
        content_type: &str,
        body: Body,
        more: Duration,
    ) -> Result<Answer, Error> {
        self.request(Method::POST, path, content_type, &[], body, more).await?.1
    }

    /// Public facts about the installation.
    pub async fn info(&mut self) -> Result<Answer, Error> {
        self.exchange("/api/info", &Map::new()).await
    }

    /// Logs in with the credentials of options, environment or files, or with those that are typed, and keeps
    /// the session. With `ask` they are typed in any case.
    pub async fn log_in(&mut self, ask: bool) -> Result<(), Error> {
        let known = if ask { None } else { self.settings.credentials.clone() };
        let credentials = match known {
            Some(credentials) => credentials,
            None => {
                let info = self.info().await?;
                let tenants = info.members.get("multitenant").and_then(Value::as_u64) != Some(0);
                ask_credentials(tenants)?
            }
        };
        let password = match &credentials.password {
            Some(password) => password.clone(),
            None => ask_password("Password: ")?,
        };
        self.open_session(&credentials, &password).await?;
        self.settings.credentials = Some(Credentials { password: Some(password), ..credentials });
        Ok(())
    }

    /// Logs in again as the same administrator, with the password that was typed.
    pub async fn log_in_with(&mut self, password: &str) -> Result<(), Error> {
        let credentials = match (&self.settings.credentials, &self.session) {
            (Some(credentials), _) => credentials.clone(),
            (None, Some(session)) => {
                Credentials { login: session.login.clone(), tenant: session.tenant.clone(), password: None }
            }
            (None, None) => ask_credentials(true)?,
        };
        self.open_session(&credentials, password).await?;
        self.settings.credentials = Some(credentials);
        Ok(())
    }

    /// Uses this password from now on.
    pub fn remember_password(&mut self, password: &str) {
        if let Some(credentials) = &mut self.settings.credentials {
            credentials.password = Some(password.to_owned());
        }
    }

    async fn open_session(&mut self, credentials: &Credentials, password: &str) -> Result<(), Error> {
        let mut envelope = envelope(&setup());
        envelope.insert("login".to_owned(), json!(credentials.login));
        envelope.insert("password".to_owned(), json!(password));
        if let Some(tenant) = &credentials.tenant {
            envelope.insert("tenant".to_owned(), json!(tenant));
        }
        self.session = None;
        let mut answered = self.exchange("/api", &envelope).await;
        if matches!(&answered, Err(Error::Refused { code, .. }) if *code == Status::SecondFactorNeeded.code())
        {
            envelope.insert("code".to_owned(), json!(self.code()?));
            answered = self.exchange("/api", &envelope).await;
        }
        let answer = answered?;
        let session = session(&answer, self.connection.place(), Some(credentials));
        if let Some(file) = &self.settings.session_file
            && let Err(error) = session.save(file)
        {
            eprintln!("qa4: cannot keep the session in {}: {error}", file.display());
        }
        self.session = Some(session);
        Ok(())
    }

    /// A code of the second factor: given, or asked for.
    pub(crate) fn code(&self) -> Result<String, Error> {
        match &self.settings.code {
            Some(code) => Ok(code.clone()),
            None => ask_password("Code of the second factor: "),
        }
    }

    /// Ends the session, also the kept one.
    pub async fn log_out(&mut self) -> Result<(), Error> {
        if self.session.as_ref().is_some_and(|s| s.sid.is_some()) {
            self.exchange("/api/logout", &Map::new()).await?;
        }
        self.session = None;
        self.settings.credentials = None;
        if let Some(file) = &self.settings.session_file {
            Session::forget(file);
        }
        Ok(())
    }

    /// Who we are.
    pub async fn identity(&mut self) -> Result<Session, Error> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let answer = self.call(&setup()).await?;
        let session = match &self.session {
            Some(session) => session.clone(),
            None => session(&answer, self.connection.place(), None),
        };
        self.session = Some(session.clone());
        Ok(session)
    }

    /// What the API says about who we are.
    pub async fn whoami(&mut self) -> Result<Map<String, Value>, Error> {
        let mut call = setup();
        call.fields.push("tenant_name".to_owned());
        Ok(self.call(&call).await?.members)
    }

    /// A stream of what changes from now on, on a connection of its own.
    pub(crate) async fn changes(&mut self) -> Result<Changes, Error> {
        // It asks for no login, so there has to be a session that is good.
        self.whoami().await?;
        let mut connection = Connection::open(&self.settings).await?;
        let sid = self.session.as_ref().and_then(|s| s.sid.as_deref()).map(Proof::Session);
        let proof = self.settings.token.as_ref().map(Proof::Token).or(sid);
        let body = connection.stream(watch::PATH, proof).await?;
        Ok(Changes::new(connection, body))
    }

    /// Where it leads, for messages.
    pub fn place(&self) -> &str {
        self.connection.place()
    }

    /// The settings it was opened with.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Call {
    /// A call of the action that does `verb` to `object`.
    pub fn new(object: Object, verb: Verb) -> Result<Self, Error> {
        let action =
            action_for(object, verb).ok_or_else(|| Error::refused(Status::UnknownAction, object.as_str()))?;
        Ok(Self { action: action.name, ..Self::default() })
    }

    /// A list of these members.
    pub fn list(object: Object, filter: Option<Filter>, fields: &[&str]) -> Result<Self, Error> {
        let fields = fields.iter().map(|f| (*f).to_owned()).collect();
        Ok(Self { filter, fields, ..Self::new(object, Verb::List)? })
    }
}

/// Tells what is sent, without secrets.
fn trace(path: &str, envelope: &Map<String, Value>) {
    let mut shown = envelope.clone();
    // A code of the second factor is one as well, and its name does not say so.
    if let Some(code) = shown.get_mut("code") {
        *code = json!(MASK);
    }
    eprintln!("qa4: POST {path} {}", masked(&Value::Object(shown)));
}

fn setup() -> Call {
    let fields = ["admin_name", "tenant_id", "acls"].map(str::to_owned).to_vec();
    Call { action: "current_admin_setup", fields, ..Call::default() }
}

fn session(answer: &Answer, place: &str, credentials: Option<&Credentials>) -> Session {
    let text = |name: &str| answer.members.get(name).and_then(Value::as_str).map(str::to_owned);
    let tenant_id = answer.members.get("tenant_id").and_then(Value::as_i64);
    let acls = answer.members.get("acls").and_then(Value::as_array);
    Session {
        place: place.to_owned(),
        login: credentials.map_or_else(String::new, |c| c.login.clone()),
        tenant: credentials.and_then(|c| c.tenant.clone()),
        sid: text("sid"),
        tenant_id: tenant_id.and_then(|n| i32::try_from(n).ok()).unwrap_or(-1),
        acls: acls.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

/// The envelope of a call.
pub fn envelope(call: &Call) -> Map<String, Value> {
    let mut envelope = Map::new();
    let mut put = |name: &str, value: Value| envelope.insert(name.to_owned(), value);
    put("action", json!(call.action));
    put("filters", call.filter.as_ref().map_or_else(|| json!({}), json::print));
    put("fields", json!(call.fields));
    put("arguments", Value::Object(call.arguments.clone()));
    put("block", json!(call.block));
    put("offset", json!(call.page.max(1)));
    put("parameters", json!({"source": "CLI"}));
    if let Some((fields, descending)) = &call.order {
        put("order_by", json!({"field": fields, "order": if *descending { "-desc" } else { "-asc" }}));
    }
    envelope
}

fn answer(bytes: &[u8], place: &str) -> Result<Answer, Error> {
    let not_an_api = || Error::Unreachable {
        place: place.to_owned(),
        problem: "what answers there is not a QVD API".to_owned(),
    };
    let Ok(Value::Object(mut members)) = serde_json::from_slice(bytes) else { return Err(not_an_api()) };
    let status = members.get("status").and_then(Value::as_u64).ok_or_else(not_an_api)?;
    let message = |members: &Map<String, Value>| {
        let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (message, more) = (text("message"), text("additional_info"));
        if more.is_empty() { message } else { format!("{message}: {more}") }
    };
    match status {
        0 => {
            let rows = match members.remove("rows") {
                Some(Value::Array(rows)) => rows
                    .into_iter()
                    .filter_map(|row| match row {
                        Value::Object(row) => Some(row),
                        _ => None,
                    })
                    .collect(),
                _ => Vec::new(),
            };
            let total = members.get("total").and_then(Value::as_u64).unwrap_or(0);
            Ok(Answer { total, rows, members })
        }
        1200 => {
            let failures = members.get("failures").and_then(Value::as_object);
            let failures = failures.into_iter().flatten().map(|(id, failure)| {
                let code = failure.get("status").and_then(Value::as_u64).unwrap_or(1100);
                let text = failure.as_object().map(message).unwrap_or_default();
                (id.clone(), format!("{text} [code {code}]"))
            });
            Err(Error::Partial { changed: 0, all: 0, failures: failures.collect() })
        }
        code => Err(Error::Refused {
            code: u16::try_from(code).unwrap_or(Status::Internal.code()),
            message: message(&members),
        }),
    }
}

fn ask_credentials(tenants: bool) -> Result<Credentials, Error> {
    if !stdin().is_terminal() {
        return Err(Error::Refused {
            code: Status::NotAuthenticated.code(),
            message: "no administrator to log in as; set qa.login and qa.password, or QVD_LOGIN and \
                      QVD_PASSWORD"
                .to_owned(),
        });
    }
    let name = ask_line("Name: ")?;
    let tenant = if tenants { ask_line("Tenant: ")? } else { String::new() };
    let tenant = (!tenant.is_empty()).then_some(tenant);
    Ok(Credentials { login: name, tenant, password: None })
}

/// Asks for one line on the terminal.
pub(crate) fn ask_line(prompt: &str) -> Result<String, Error> {
    eprint!("{prompt}");
    let mut line = String::new();
    stdin().read_line(&mut line).map_err(|e| Error::Usage(e.to_string()))?;
    Ok(line.trim().to_owned())
}

/// Asks for a password on the terminal, without echo.
pub(crate) fn ask_password(prompt: &str) -> Result<String, Error> {
    let _silence = Silence::begin();
    rpassword::prompt_password(prompt)
        .map_err(|e| Error::Usage(format!("a password is needed, and there is no terminal to ask on: {e}")))
}

/// The terminal shows nothing that is typed, from before the question: who types fast would see the first letters.
struct Silence(Option<(File, Termios)>);

impl Silence {
    fn begin() -> Self {
        // Without a terminal there is nobody to see it.
        let Ok(terminal) = File::open("/dev/tty") else { return Self(None) };
        let Ok(before) = tcgetattr(&terminal) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        // Then the question itself tries again, as ever.
        let _ = tcsetattr(&terminal, SetArg::TCSANOW, &silent);
        Self(Some((terminal, before)))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some((terminal, before)) = &self.0 {
            // There is nothing left to try if it fails.
            let _ = tcsetattr(terminal, SetArg::TCSANOW, before);
        }
    }
}
