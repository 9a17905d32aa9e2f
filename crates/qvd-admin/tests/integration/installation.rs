//! A database and an API on it, in this process, with `qa4` and hands to call it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use qvd_cli::error::Error as CliError;
use qvd_cli::options::Options;
use qvd_db::deploy::Deployment;
use qvd_db::hosts::{self, Beat, Capacity};
use qvd_db::{Database, Settings, Vault};
use qvd_model::HostState;
use qvd_relay::ClientTls;
use qvd_runtime::Config;
use qvd_runtime::postgres::TemporaryCluster;
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::Scratch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Passwords of the administrators of the tests.
pub const PASSWORD: &str = "open sesame";

/// A database, an API on it, and everything they need.
pub struct Installation {
    config: Config,
    pub settings: Settings,
    pub dir: TempDir,
    pub address: SocketAddr,
    stop: CancellationToken,
    task: Service,
    _cluster: Arc<TemporaryCluster>,
}

impl Installation {
    /// `name` must be unique in this test program.
    pub async fn start(name: &str) -> Self {
        Self::on(TemporaryCluster::shared().unwrap(), name).await
    }

    pub async fn on(cluster: Arc<TemporaryCluster>, name: &str) -> Self {
        let scratch = Scratch::on(cluster, name).await;
        let hash = qvd_auth::Hasher::new(1).hash(PASSWORD.as_bytes()).await.unwrap();
        let administrators =
            ["superadmin", "admin"].map(|who| (who.to_owned(), SecretString::from(hash.clone()))).to_vec();
        scratch.deploy(&Deployment { administrators, ..Deployment::default() }).await;
        Self::serving(scratch.cluster, scratch.settings, None).await
    }

    /// Another API process for the same database, as behind a balancer.
    pub async fn beside(&self) -> Self {
        let key = self.path("secrets.key");
        Self::serving(self._cluster.clone(), self.settings.clone(), Some(&key)).await
    }

    /// `key` is that of the secrets, where there is one already.
    async fn serving(cluster: Arc<TemporaryCluster>, mut settings: Settings, key: Option<&Path>) -> Self {
        let name = settings.name.clone();
        let dir = tempfile::tempdir().unwrap();
        let at = |part: &str| dir.path().join(part);
        for directory in ["images", "staging", "home", "import"] {
            std::fs::create_dir(at(directory)).unwrap();
        }
        settings.vault = Vault::at(at("secrets.key"));
        match key {
            Some(key) => drop(std::fs::copy(key, at("secrets.key")).unwrap()),
            // As `qvd-deploy-db` makes it.
            None => drop(settings.vault.create(None).unwrap()),
        }
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = qvd_relay::certificate::self_signed(&names).unwrap();
        std::fs::write(at("cert.pem"), &certificate.cert).unwrap();
        std::fs::write(at("key.pem"), &certificate.key).unwrap();
        let text = format!(
            "database.host = {}\ndatabase.name = {name}\ndatabase.user = qvd_api\n\
             database.secrets.file = {dir}/secrets.key\n\
             api.url = https://127.0.0.1:0/\napi.socket = {dir}/api.sock\n\
             path.api.ssl.cert = {dir}/cert.pem\npath.api.ssl.key = {dir}/key.pem\n\
             path.storage.images = {dir}/images\npath.storage.staging = {dir}/staging\n\
             path.wat = {dir}/wat\napi.download.ca = {dir}/cert.pem\n\
             api.trusted-proxies = 127.0.0.1\npath.api.import = {dir}/import\n\
             vm.network.ip.start = 10.3.15.50\nvm.network.netmask = 24\n",
            cluster.socket_directory().display(),
            dir = dir.path().display(),
        );
        let config = Config::parse("test", &text).unwrap();
        let (stop, task, address) = serve(&config).await;
        Self { config, settings, dir, address, stop, task, _cluster: cluster }
    }

    /// The same installation with a new API process.
    pub async fn restarted(mut self) -> Self {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        (self.stop, self.task, self.address) = serve(&self.config).await;
        self
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        assert!(!self.dir.path().join("api.sock").exists(), "the socket file stays");
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }

    pub fn database(&self) -> Database {
        Database::new(&self.settings).unwrap()
    }

    /// `qa4` as root on the API's host.
    pub async fn qa4(&self, arguments: &[&str]) -> Result<String, CliError> {
        let socket = self.path("api.sock").display().to_string();
        self.run(&[("QVD_SOCKET", &socket)], arguments).await
    }

    /// `qa4` on another machine, as an administrator.
    pub async fn qa4_as(&self, login: &str, tenant: &str, arguments: &[&str]) -> Result<String, CliError> {
        let url = format!("https://localhost:{}/", self.address.port());
        let ca = self.path("cert.pem").display().to_string();
        let environment = [
            ("QVD_URL", url.as_str()),
            ("QVD_CA", &ca),
            ("QVD_LOGIN", login),
            ("QVD_TENANT", tenant),
            ("QVD_PASSWORD", PASSWORD),
        ];
        self.run(&environment, arguments).await
    }

    pub async fn run(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Result<String, CliError> {
        let all = std::iter::once("qa4").chain(arguments.iter().copied());
        let options = Options::try_parse_from(all).unwrap();
        let mut variables: HashMap<String, String> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        variables.insert("HOME".to_owned(), self.path("home").display().to_string());
        let lookup = |name: &str| variables.get(name).cloned();
        let mut out = Vec::new();
        match qvd_cli::execute(&options, &lookup, &mut out).await {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err((_, error)) => Err(error),
        }
    }

    /// What root sees of some objects, as rows of JSON.
    pub async fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--format", "JSON"]).collect();
        let text = self.qa4(&arguments).await.unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        value.as_array().unwrap().clone()
    }

    /// One request by hand on the Unix socket, with HTTP status and answer.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.raw("POST", path, &[], body.to_string().as_bytes()).await
    }

    pub async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        let answer = self.ask(method, path, headers, body).await;
        (answer.status, answer.body)
    }

    /// One request by hand on the Unix socket, with the whole answer.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let stream = tokio::net::UnixStream::connect(self.path("api.sock")).await.unwrap();
        exchange(stream, method, path, headers, body).await
    }

    /// The same over TLS, as from another machine.
    pub async fn ask_by_tls(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let tls = ClientTls::new(Some(&self.path("cert.pem"))).unwrap();
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let stream = tls.connect("localhost", stream).await.unwrap();
        exchange(stream, method, path, headers, body).await
    }

    /// An operation of `/api/v2` by a program with a token.
    pub async fn with_token(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let shown = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", shown.as_str())];
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.ask(method, &format!("/api/v2{path}"), &headers, body.as_bytes()).await
    }

    /// A session of an administrator, by `/api/v2`.
    pub async fn log_in(&self, login: &str, tenant: &str) -> String {
        let who = json!({"login": login, "tenant": tenant, "password": PASSWORD});
        let opened = self.v2(None, "POST", "/session", Some(who)).await;
        opened.body["sid"].as_str().unwrap_or_else(|| panic!("{opened:?}")).to_owned()
    }

    /// An operation of `/api/v2`, as root or with a session; a body is JSON.
    pub async fn v2(&self, sid: Option<&str>, method: &str, path: &str, body: Option<Value>) -> Answer {
        let cookie = format!("sid={}", sid.unwrap_or_default());
        let mut headers = vec![("content-type", "application/json")];
        if sid.is_some() {
            headers.push(("cookie", &cookie));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.ask(method, &format!("/api/v2{path}"), &headers, body.as_bytes()).await
    }

    /// One request by hand as an administrator.
    pub async fn post_as(&self, login: &str, tenant: &str, mut body: Value) -> Value {
        body["login"] = json!(login);
        body["tenant"] = json!(tenant);
        body["password"] = json!(PASSWORD);
        self.post("/api", &body).await.1
    }

    /// A host that takes commands, as its HKD would announce it.
    pub async fn running_host(&self, name: &str, address: &str) {
        self.qa4(&["host", "new", &format!("name={name},address={address}")]).await.unwrap();
        let database = self.database();
        let host = hosts::find(&database, name).await.unwrap().unwrap();
        let capacity = Capacity { ram: 4000.0, cpu: 4000.0, hypervisors: "lxc" };
        let pid = i32::try_from(std::process::id()).unwrap();
        let beat = Beat { pid, promise: Default::default(), storage: None, period: Duration::from_secs(5) };
        let (own, _) = hosts::claim(&database, host.id, beat, capacity).await.unwrap().unwrap();
        hosts::set_state(&database, own, name, HostState::Running).await.unwrap();
        // It stays fresh for as long as a test may take on a busy machine.
        self.sql("UPDATE host_runtimes SET ok_ts = now() + interval '1 hour'").await;
    }

    /// Runs a statement as the owner of the database: what a daemon would have written.
    pub async fn sql(&self, statement: &str) {
        self.database().client().await.unwrap().batch_execute(statement).await.unwrap();
    }
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The status and the code of a problem.
    pub fn problem(&self) -> (u16, u64) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        (self.status, self.body["code"].as_u64().unwrap())
    }

    pub fn items(&self) -> &[Value] {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["items"].as_array().unwrap()
    }
}

async fn exchange<S>(stream: S, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    use http_body_util::{BodyExt, Full};
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let driver = tokio::spawn(driver);
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(bytes::Bytes::copy_from_slice(body));
    let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    drop(sender);
    driver.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_slice(&bytes).unwrap_or(json!(text));
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

type Service = JoinHandle<Result<(), qvd_admin::Error>>;

async fn serve(config: &Config) -> (CancellationToken, Service, SocketAddr) {
    let stop = CancellationToken::new();
    let (bound, address) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(qvd_admin::run_announced(config.clone(), stop.clone(), bound));
    match address.await {
        Ok(address) => (stop, task, address),
        Err(_) => panic!("the API did not start: {:?}", task.await),
    }
}

/// A small tar.gz of a root file system.
pub fn image_file(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for (name, size) in [("sbin/init", 100_000), ("usr/bin/qvd-vma", 1000), ("etc/hostname", 8)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o755);
        header.set_cksum();
        let content: Vec<u8> = (0..size).map(|i| u8::try_from((i * 7919) % 251).unwrap()).collect();
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}
